"""Certificates for tests, made by openssl: an authority, and what it signs."""

from __future__ import annotations

import subprocess
from pathlib import Path


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class Authority:
    """A certification authority of its own folder; ``certificate`` is what peers trust."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.certificate = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", str(self._key), "-out", str(self.certificate), "-days", "2"),
            *("-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE"),
        )

    def issue(self, file: str, names: str, *, days: int = 1, usage: str = "serverAuth,clientAuth") -> Path:
        """Write a certificate with its key to one PEM file; ``names`` as in a subjectAltName of openssl.

        ``days`` may be negative: then it is over already.
        """
        out = self.folder / file
        key, request, extensions = out.with_suffix(".key"), out.with_suffix(".csr"), out.with_suffix(".ext")
        extensions.write_text(
            (f"subjectAltName={names}\n" if names else "") + f"extendedKeyUsage={usage}\n", encoding="ascii"
        )
        _openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", str(key), "-out", str(request), "-subj", "/CN=common-name.example"),
        )
        certificate = out.with_suffix(".crt")
        _openssl(
            *("x509", "-req", "-in", str(request), "-CA", str(self.certificate), "-CAkey", str(self._key)),
            *("-CAcreateserial", "-out", str(certificate), "-days", str(days), "-extfile", str(extensions)),
        )
        out.write_text(certificate.read_text() + key.read_text())
        return out

"""linphonec as a real phone, driven by the commands that one types into it; its sound card is files."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.system.gate import free_port
from tests.system.media import PATIENCE, Recording, write_beep

needs_linphone = pytest.mark.skipif(
    shutil.which("linphonec") is None, reason="linphonec is not installed (Debian: linphone-cli)"
)


TONE_MS = 300_000
"""It does not begin anew: so this is longer than any test waits."""
OPUS_RATE = 48_000
"""Samples per second of its recording: all calls here are in Opus, and it writes the header last."""


@dataclass(slots=True)
class Linphone:
    """One running linphonec of one account."""

    process: subprocess.Popen[str]
    folder: Path
    _read: int = field(default=0)

    @property
    def heard(self) -> Recording:
        """What it has heard in all its calls."""
        return Recording(lambda: self.folder / "heard.wav", headless_rate=OPUS_RATE)

    def command(self, text: str) -> None:
        """Type one command; digits alone are keys of the phone."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def wait_for(self, words: str, seconds: float = PATIENCE) -> None:
        """Return when it prints these words after what was waited for last; fails when it does not."""
        until = time.monotonic() + seconds
        while True:
            printed = (self.folder / "phone.log").read_text(errors="replace")
            found = printed.find(words, self._read)
            if found >= 0:
                self._read = found + len(words)
                return
            assert time.monotonic() < until, f"no {words!r} from linphonec: {printed[self._read :]}"
            time.sleep(0.05)

    def wait_for_registration(self) -> None:
        """Return when it knows that it is registered: a call before that goes out as if from nowhere."""
        until = time.monotonic() + PATIENCE
        trace = self.folder / "trace.log"
        while not trace.exists() or "to [LinphoneRegistrationOk]" not in trace.read_text(errors="replace"):
            assert time.monotonic() < until, "linphonec does not register"
            time.sleep(0.05)


@contextmanager
def running_linphone(
    folder: Path,
    *,
    address: str,
    proxy: str,
    user: str,
    password: str,
    tone_hz: int = 440,
    answers: bool = False,
    encryption: str = "none",
    suites: str = "",
    authority: Path | None = None,
) -> Iterator[Linphone]:
    """Start a phone that registers at ``proxy``; it sends a tone and records what it hears.

    ``answers``: it takes every call. ``authority`` is the file of the certificates that it believes,
    ``suites`` are those of SRTP that it offers, if not its own choice.
    """
    (folder / ".local" / "share" / "linphone").mkdir(parents=True)
    (folder / "linphonerc").write_text(
        f"""
[sip]
bind_address={address}
sip_port={free_port(address)}
sip_tcp_port=-1
sip_tls_port=-1
default_proxy=0
use_ipv6=0
use_rfc2833=1
use_info=0
media_encryption={encryption}
media_encryption_mandatory={int(encryption != "none")}
{f"srtp_crypto_suites={suites}" if suites else ""}
root_ca={authority or ""}
[rtp]
audio_rtp_port={free_port(address)}
audio_adaptive_jitt_comp_enabled=0
audio_jitt_comp=100
[auth_info_0]
username={user}
passwd={password}
realm=tollgate
[proxy_0]
reg_proxy=<sip:{proxy}>
reg_identity=sip:{user}@{proxy.partition(";")[0]}
reg_expires=60
reg_sendregister=1
"""
    )
    write_beep(folder / "tone.wav", ms=TONE_MS, hertz=tone_hz)
    with (folder / "phone.log").open("w") as log:
        process = subprocess.Popen(
            # Without a folder of its own it would take the settings of whoever runs the tests.
            ["linphonec", "-c", "linphonerc", "-d", "6", "-l", "trace.log"],
            # It breaks what it prints at the width of a terminal: a path would make long lines.
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            text=True,
            env=os.environ | {"HOME": str(folder), "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""},
        )
    try:
        phone = Linphone(process, folder)
        phone.command("soundcard use files")
        phone.command("play tone.wav")
        phone.command("record heard.wav")
        if answers:
            phone.command("autoanswer enable")
        phone.wait_for("record heard.wav")
        yield phone
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdin.close()  # type: ignore[union-attr]  # a pipe, see above

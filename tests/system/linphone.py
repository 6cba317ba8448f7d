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
from tests.system.media import read_wav, tone_share, write_beep

needs_linphone = pytest.mark.skipif(
    shutil.which("linphonec") is None, reason="linphonec is not installed (Debian: linphone-cli)"
)


@dataclass(slots=True)
class Linphone:
    """One running linphonec of one account."""

    process: subprocess.Popen[str]
    folder: Path
    _read: int = field(default=0)

    def heard(self, hertz: int, *, last: float = 60.0) -> float:
        """Return how much of what it heard was this tone, in the half second in which it was clearest.

        Its jitter buffer stretches sound when packets come late, and its recording ends with silence. Only
        the ``last`` seconds are looked at.
        """
        rate, samples = read_wav(self.folder / "heard.wav")
        samples = samples[-round(last * rate) :]
        half = rate // 2
        starts = range(0, len(samples) - half, half // 2)
        return max(tone_share(samples[start : start + half], rate, hertz) for start in starts)

    def command(self, text: str) -> None:
        """Type one command; digits alone are keys of the phone."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def wait_for(self, words: str, seconds: float = 15.0) -> None:
        """Return when it prints these words after what was waited for last; fails when it does not."""
        until = time.monotonic() + seconds
        while True:
            printed = (self.folder / "phone.log").read_text()
            found = printed.find(words, self._read)
            if found >= 0:
                self._read = found + len(words)
                return
            assert time.monotonic() < until, f"no {words!r} from linphonec: {printed[self._read :]}"
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
    authority: Path | None = None,
) -> Iterator[Linphone]:
    """Start a phone that registers at ``proxy``; it sends a tone and records what it hears.

    ``answers``: it takes every call. ``authority`` is the file of the certificates that it believes.
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
use_rfc2833=1
use_info=0
media_encryption={encryption}
media_encryption_mandatory={int(encryption != "none")}
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
    write_beep(folder / "tone.wav", ms=30_000, hertz=tone_hz)
    with (folder / "phone.log").open("w") as log:
        process = subprocess.Popen(
            # Without a folder of its own it would take the settings of whoever runs the tests.
            ["linphonec", "-c", str(folder / "linphonerc"), "-d", "6", "-l", str(folder / "trace.log")],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            text=True,
            env=os.environ | {"HOME": str(folder), "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""},
        )
    try:
        phone = Linphone(process, folder)
        phone.command("soundcard use files")
        phone.command(f"play {folder}/tone.wav")
        phone.command(f"record {folder}/heard.wav")
        if answers:
            phone.command("autoanswer enable")
        phone.wait_for("heard.wav")
        yield phone
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdin.close()  # type: ignore[union-attr]  # a pipe, see above

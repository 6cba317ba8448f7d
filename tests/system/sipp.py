"""SIPp as caller and carrier: scenarios put together from parts, judged by their exit codes.

A scenario file may say ``<include part="register" cseq="1"/>``: the part of that name stands in its place,
with 1 for its ``{cseq}``, so that a scenario shows only what its situation is about. The keys of the process
stand for such words too (``{user}``: who it plays).
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.system.media import PATIENCE

PARTS = Path(__file__).parent / "parts"
_INCLUDE = re.compile(r'^[ \t]*<include part="(\w+)"((?: \w+="[^"]*")*)/>', re.MULTILINE)
_WORD = re.compile(r' (\w+)="([^"]*)"')
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE scenario SYSTEM "sipp.dtd">\n'


def assemble(scenario: Path, target: Path, keys: Mapping[str, str]) -> Path:
    """Write the scenario with its parts in place, as SIPp reads it."""

    def part(match: re.Match[str]) -> str:
        text = (PARTS / f"{match[1]}.xml").read_text()
        for word, value in _WORD.findall(match[2]):
            text = text.replace(f"{{{word}}}", value)
        return _INCLUDE.sub(part, text)

    text = _INCLUDE.sub(part, scenario.read_text())
    # SIPp takes no keyword within its keyword for credentials: so the user stands there before it reads.
    for key, value in keys.items():
        text = text.replace(f"{{{key}}}", value)
    missing = re.findall(r"{\w+}", text)
    assert not missing, f"{scenario}: {missing}"
    target.write_text(_HEAD + text)
    return target


@dataclass(frozen=True, slots=True)
class Sipp:
    """One running SIPp."""

    name: str
    folder: Path
    process: subprocess.Popen[bytes]
    address: str
    seconds: int
    """After so many it gives up by itself."""

    @property
    def call_id(self) -> str:
        """Call-ID of the one call that it places."""
        return f"1-{self.process.pid}@{self.address}"

    def wait(self) -> None:
        """Wait for its calls to end; fails with SIPp's own words when the call did not go as written."""
        try:
            code = self.process.wait(PATIENCE + self.seconds)
        except subprocess.TimeoutExpired:
            code = None
            self.stop()
        errors = "".join(
            path.read_text(errors="replace") for path in self.folder.glob(f"{self.name}_*errors.log")
        )
        assert code == 0, f"{self.name}: SIPp ended with {code}\n{errors}"

    def stop(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()

    def wait_for(self, words: str) -> None:
        """Return when these words stand in a message that it sent or received."""
        until = time.monotonic() + PATIENCE
        while words not in self.messages():
            assert time.monotonic() < until, f"{self.name}: no {words!r}"
            time.sleep(0.1)

    def messages(self) -> str:
        """Return every message it sent and received."""
        return "".join(
            path.read_text(errors="replace") for path in self.folder.glob(f"{self.name}_*messages.log")
        )


def start(
    scenario: Path,
    folder: Path,
    *,
    name: str,
    address: str,
    port: int,
    media_port: int,
    media_address: str = "",
    remote: str = "",
    transport: str = "udp",
    service: str = "",
    keys: Mapping[str, str] | None = None,
    seconds: int = 30,
    calls: int = 1,
) -> Sipp:
    """Start SIPp for ``calls``; relative files of the scenario (captures) are looked up in ``folder``.

    ``media_address``: where its media is, if that is another one than of its signalling.
    ``seconds``: longer than that the call does not take by its own timers; a busy machine may take its time.
    """
    seconds += round(PATIENCE)
    keys = keys or {}
    file = assemble(scenario, folder / f"{name}.xml", keys)
    command = [
        "sipp",
        "-sf",
        file.name,
        "-i",
        address,
        "-p",
        str(port),
        "-mi",
        media_address or address,
        "-mp",
        str(media_port),
    ]
    command += [
        "-m",
        str(calls),
        "-t",
        "t1" if transport == "tcp" else "u1",
        "-nostdin",
    ]
    command += ["-recv_timeout", str(round(1000 * PATIENCE))]
    command += ["-trace_err", "-trace_msg", "-timeout", str(seconds), "-timeout_error"]
    if service:
        command += ["-s", service]
    for key, value in keys.items():
        command += ["-key", key, value]
    if remote:
        command.append(remote)
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return Sipp(name, folder, process, address, seconds)

"""baresip as a real phone, driven over its control socket (module ctrl_tcp: netstrings of JSON)."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.ports import rtp_ports
from tests.system.gate import CARRIER_ADDRESSES, Gate, free_port
from tests.system.media import PATIENCE, Recording

MODULES = Path("/usr/lib/baresip/modules")
FAR_END_HZ = 440
"""What is heard of who answers behind the first trunk."""


@dataclass(slots=True)
class Phone:
    """One running baresip: commands in, events out, and what it heard as a WAV file.

    It speaks a tone of one frequency, so that two phones hear who is at the other end.
    """

    process: subprocess.Popen[bytes]
    folder: Path
    _socket: socket.socket
    _buffer: bytes = b""
    _events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def heard(self) -> Recording:
        """What came in the one call of this phone, as it was decoded."""
        return Recording(lambda: next(self.folder.glob("dump-*-dec.wav"), None))

    def command(self, name: str, parameters: str = "") -> None:
        """Give one of baresip's commands (``dial``, ``sndcode``, ``hangup``)."""
        text = json.dumps({"command": name, "params": parameters, "token": name})
        self._socket.sendall(f"{len(text)}:{text},".encode())

    def wait_for(self, event_type: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """Return the next event of this type; fails when it does not come."""
        until = time.monotonic() + seconds
        while True:
            for index, event in enumerate(self._events):
                if event.get("type") == event_type:
                    del self._events[: index + 1]
                    return event
            left = until - time.monotonic()
            assert left > 0, f"no {event_type} from baresip; events: {self._events}"
            self._socket.settimeout(left)
            try:
                self._buffer += self._socket.recv(65_536)
            except TimeoutError:
                continue
            self._take_netstrings()

    def wait_for_packets(self, number: int) -> None:
        """Return when so many more RTP packets have come in, by what it says with its RTCP reports."""
        first, until = None, time.monotonic() + PATIENCE
        while True:
            received = int(self.wait_for("CALL_RTCP")["rtcp_stats"]["rx"]["sent"])
            first = received if first is None else first
            if received >= first + number:
                return
            assert time.monotonic() < until, f"{received - first} packets came in"

    def _take_netstrings(self) -> None:
        while (colon := self._buffer.find(b":")) > 0:
            end = colon + 1 + int(self._buffer[:colon])
            if len(self._buffer) <= end:
                return
            message = json.loads(self._buffer[colon + 1 : end])
            self._buffer = self._buffer[end + 1 :]
            if message.get("event"):
                self._events.append(message)


@contextmanager
def running_phone(
    folder: Path,
    *,
    address: str,
    proxy: str,
    user: str,
    password: str = "",
    port: int = 0,
    tone_hz: int = 440,
    parameters: str = "",
    regint: int = 0,
    modules: tuple[str, ...] = (),
) -> Iterator[Phone]:
    """Start a phone of one account at ``address``; it sends a tone and records what it hears.

    ``regint`` is how often it registers, in seconds; 0: never. ``modules`` are more of its applications.
    """
    folder.mkdir(parents=True, exist_ok=True)
    control = free_port(address)
    applications = "".join(f"module_app {name}.so\n" for name in modules)
    (folder / "config").write_text(
        f"""
sip_listen {address}:{port or free_port(address)}
net_interface {address}
audio_source ausine,{tone_hz}
ausrc_srate 48000
ausrc_channels 2
rtp_ports {rtp_ports(40)}
module_path {MODULES}
module g711.so
module g722.so
module opus.so
module ausine.so
module sndfile.so
module srtp.so
snd_path {folder}
module_app account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen {address}:{control}
{applications}"""
    )
    (folder / "accounts").touch()
    (folder / "contacts").touch()
    with (folder / "phone.log").open("wb") as log:
        process = subprocess.Popen(
            ["baresip", "-f", str(folder)], stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    connection: socket.socket | None = None
    try:
        connection = _connect(address, control)
        phone = Phone(process, folder, connection)
        # Only now, so that no event comes before somebody listens.
        account = f"auth_user={user};auth_pass={password};regint={regint};dtmfmode=rtpevent{parameters}"
        phone.command("uanew", f"<sip:{user}@{proxy}>;{account}")
        yield phone
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            # baresip can spin for ever on its way out, and would take a core from every later test.
            process.kill()
            process.wait()
        if connection is not None:
            connection.close()


def far_end(gate: Gate, folder: Path, parameters: str = "") -> AbstractContextManager[Phone]:
    """Return the phone behind the gate's first trunk, which answers by itself."""
    return running_phone(
        folder / "far_end",
        address=CARRIER_ADDRESSES[0],
        port=gate.carrier_ports[0],
        proxy=f"127.0.0.1:{gate.port}",
        user="+12025550123",
        password="unused",
        tone_hz=FAR_END_HZ,
        parameters=f";answermode=auto{parameters}",
    )


def _connect(address: str, port: int) -> socket.socket:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return socket.create_connection((address, port))
        except ConnectionRefusedError:
            assert time.monotonic() < until, "baresip did not open its control socket"
            time.sleep(0.1)

"""Messages that no single packet holds, over real sockets: RFC 3261 §18.1.1."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from proxy.net.udp import MAX_DATAGRAM
from proxy.sip.endpoint import InviteSpec
from proxy.sip.events import ResponseReceived
from proxy.sip.flow import Flow
from proxy.sip.large import LargeRequests
from tests.net.test_driver import Gate
from tests.net.waiting import until

ROOT = Path(__file__).parents[2]


def options(port: int, size: int) -> bytes:
    """An OPTIONS of so many octets."""
    head = (
        "OPTIONS sip:gate@127.0.0.1 SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bKlarge;rport\r\n"
        "From: <sip:204@127.0.0.1>;tag=1\r\nTo: <sip:gate@127.0.0.1>\r\nCall-ID: large\r\n"
        "CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Type: text/plain\r\nContent-Length: 00000\r\n\r\n"
    )
    body = size - len(head)
    return head.replace("Length: 00000", f"Length: {body:05d}").encode() + b"x" * body


def invite(gate: Gate, flow: Flow, size: int, large: LargeRequests) -> None:
    """Let the gate send an INVITE with a body of so many octets."""
    spec = InviteSpec(
        uri="sip:1@127.0.0.1", from_="<sip:2@x>", to="<sip:1@x>", flow=flow, body=b"x" * size, large=large
    )
    gate.endpoint.invite(spec, None, time.monotonic())
    gate.driver.settle()


@dataclass
class Carrier:
    """A peer with one port on UDP, and on TCP unless ``listens`` is false."""

    udp: socket.socket
    port: int
    listens: bool = True
    over_tcp: list[bytes] = field(default_factory=list)
    over_udp: list[bytes] = field(default_factory=list)
    answers: bool = True
    server: asyncio.Server | None = None
    connected: list[asyncio.StreamWriter] = field(default_factory=list)

    async def start(self) -> None:
        asyncio.get_running_loop().add_reader(
            self.udp.fileno(), lambda: self.over_udp.append(self.udp.recv(70_000))
        )
        if self.listens:
            self.server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected.append(writer)
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            self.over_tcp.append(head)
            length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            if head.startswith(b"INVITE") and self.answers:
                lines = [
                    line
                    for line in head.decode().split("\r\n")
                    if line.startswith(("Via:", "From:", "Call-ID:", "CSeq:"))
                ]
                answer = ["SIP/2.0 486 Busy Here", *lines, "To: <sip:1@x>;tag=b", "Content-Length: 0", "", ""]
                writer.write("\r\n".join(answer).encode())

    async def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.udp.fileno())
        self.udp.close()
        if self.server is not None:
            self.server.close()
            for writer in self.connected:
                writer.close()
            await self.server.wait_closed()
            await asyncio.sleep(0)


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    gate = Gate()
    await gate.start()
    yield gate
    await gate.driver.close()


@pytest.fixture
async def carrier() -> AsyncIterator[Carrier]:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    udp.bind(("127.0.0.1", 0))
    carrier = Carrier(udp, udp.getsockname()[1])
    yield carrier
    await carrier.close()


async def test_rfc3261_18_1_1_a_large_invite_takes_tcp_and_is_answered_there(
    gate: Gate, carrier: Carrier
) -> None:
    await carrier.start()
    invite(gate, Flow("UDP", "127.0.0.1", carrier.port, 0, 0), 1_400, LargeRequests.TCP_FIRST)
    await until(lambda: len(carrier.over_tcp) == 2)
    assert [head.split(b" ")[0] for head in carrier.over_tcp] == [b"INVITE", b"ACK"]
    assert b"\r\nVia: SIP/2.0/TCP " in carrier.over_tcp[0]
    assert isinstance(gate.core.events[0], ResponseReceived)
    assert not carrier.over_udp


async def test_rfc3261_18_1_1_a_refused_connection_sends_it_over_udp(gate: Gate, carrier: Carrier) -> None:
    carrier.listens = False
    await carrier.start()
    invite(gate, Flow("UDP", "127.0.0.1", carrier.port, 0, 0), 5_000, LargeRequests.TCP_FIRST)
    await until(lambda: carrier.over_udp)
    assert b"\r\nVia: SIP/2.0/UDP " in carrier.over_udp[0]
    assert carrier.over_udp[0].endswith(b"x" * 5_000)
    assert not gate.core.events


async def test_silence_over_tcp_sends_it_over_udp_as_well(gate: Gate, carrier: Carrier) -> None:
    carrier.answers = False
    await carrier.start()
    invite(gate, Flow("UDP", "127.0.0.1", carrier.port, 0, 0), 5_000, LargeRequests.TCP_FIRST)
    await until(lambda: carrier.over_udp and carrier.over_tcp)
    both = (carrier.over_tcp[0], carrier.over_udp[0])
    branches = {data.split(b"branch=")[1].split(b";")[0] for data in both}
    assert len(branches) == 1, "a peer that gets both takes them for one"


async def test_a_connection_that_opens_late_does_not_bring_it_again(gate: Gate, carrier: Carrier) -> None:
    """A SYN is lost, the INVITE goes over UDP, and only then the connection comes about."""
    carrier.listens = False
    await carrier.start()
    with contextlib.ExitStack() as stack:
        listener, *others = [stack.enter_context(socket.socket()) for _ in range(3)]
        listener.bind(("127.0.0.1", carrier.port))
        listener.listen(0)
        listener.settimeout(5.0)
        # With its queue full the kernel drops further SYNs, which are repeated after a second.
        for other in others:
            other.setblocking(False)
            other.connect_ex(listener.getsockname())
        invite(gate, Flow("UDP", "127.0.0.1", carrier.port, 0, 0), 5_000, LargeRequests.TCP_FIRST)
        await until(lambda: carrier.over_udp)
        assert gate.driver.tcp is not None
        assert not len(gate.driver.tcp)
        listener.listen(5)
        for _ in range(3):
            accepted, _ = await asyncio.to_thread(listener.accept)
            stack.enter_context(accepted).settimeout(0.2)
            with pytest.raises(TimeoutError):
                await asyncio.to_thread(accepted.recv, 10)
        assert len(gate.driver.tcp) == 1


@pytest.mark.skipif(not shutil.which("unshare"), reason="unshare is not installed")
def test_rfc3261_18_1_1_fragments_of_65535_octets_are_taken_and_sent() -> None:
    """In a network of packets of 1500 octets, which loopback is not."""
    assert MAX_DATAGRAM == 65_535
    run = ["unshare", "--map-root-user", "--net", sys.executable, "-m", "tests.net.fragments"]
    allowed = subprocess.run([*run[:3], "true"], check=False, capture_output=True)
    if allowed.returncode:
        pytest.skip("no network of its own may be made here")
    done = subprocess.run(run, check=False, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 2, "the kernel has put together two datagrams"

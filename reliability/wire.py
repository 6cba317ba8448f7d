"""Strangers at a gate's real sockets: they send raw octets, and see every octet that comes back."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import cast
from uuid import UUID

from proxy.policy import User
from proxy.settings import load_settings
from proxy.sip.digest import answer_challenge, choose_challenge
from proxy.sip.framing import StreamFramer
from proxy.sip.message import Response
from proxy.sip.parser import parse_message
from proxy.store import Store, digest_credentials
from reliability.gate import GateProcess
from reliability.strangers import HOST, OPTIONS_WITHIN, best_options_seconds, options_seconds, request
from reliability.traffic import Callee
from tests.net.waiting import PATIENCE, until
from tests.support.certificates import Authority

__all__ = ["HOST", "ExposedGate", "PhoneLine", "Sockets", "Stream", "exposed_gate", "request", "sources"]

PHONE, PASSWORD = "204", "only-for-this-test"
SHORT_TIMERS = "timers.t1 = 0.02\ntimers.t2 = 0.1\ntimers.t4 = 0.1\n"
"""So that transactions end within two seconds, and a test can see that none is left."""

_serial = count(1)


def sources(random: Random) -> Iterable[str]:
    """Return loopback addresses that no other run of the tests uses, one after the other."""
    net = f"127.{random.randint(64, 250)}.{random.randint(0, 255)}"
    return (f"{net}.{host}" for host in range(1, 255))


class Sockets(asyncio.DatagramProtocol):
    """One stranger's UDP sockets: several ports of one address, since answers go where a Via says."""

    def __init__(self, host: str, gate: tuple[str, int]) -> None:
        self.host = host
        self.answers: list[Response] = []
        self.sizes: list[int] = []
        self._gate = gate
        self._transports: list[asyncio.DatagramTransport] = []

    async def open(self, ports: Iterable[int] = (0,)) -> None:
        """Bind; what is sent leaves from the first port."""
        loop = asyncio.get_running_loop()
        for port in ports:
            made = await loop.create_datagram_endpoint(lambda: self, local_addr=(self.host, port))
            self._transports.append(made[0])

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Keep an answer."""
        del addr
        answer = parse_message(data)
        assert isinstance(answer, Response), data
        self.answers.append(answer)
        self.sizes.append(len(data))

    def send(self, data: bytes) -> None:
        """Send one datagram."""
        self._transports[0].sendto(data, self._gate)

    async def answers_to(self, data: bytes) -> list[Response]:
        """Send something, and an OPTIONS behind it: what has come when that is answered is the answer."""
        self.answers.clear()
        self.send(data)
        name = f"behind-{next(_serial)}"
        behind = request("OPTIONS", call_id=name)
        self.send(behind)
        await self.final_status(name)
        return [answer for answer in self.answers if answer.headers.get("Call-ID") != name]

    async def final_status(self, call_id: str) -> int:
        """Wait for the final answer to what was sent with this Call-ID."""

        def found() -> list[int]:
            return [
                answer.status
                for answer in self.answers
                if answer.status >= 200 and answer.headers.get("Call-ID") == call_id
            ]

        await until(found)
        return found()[0]

    def close(self) -> None:
        """Close all."""
        for transport in self._transports:
            transport.close()


class Stream:
    """One stranger's TCP or TLS connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.answers: list[Response] = []
        self.closed = asyncio.Event()
        self.writer = writer
        self._framer = StreamFramer(answers_pings=False)
        self._reading = asyncio.create_task(self._read(reader))

    @staticmethod
    async def open(address: tuple[str, int], source: str, tls: ssl.SSLContext | None = None) -> Stream:
        """Connect."""
        name = None if tls is None else HOST
        return Stream(
            *await asyncio.open_connection(*address, local_addr=(source, 0), ssl=tls, server_hostname=name)
        )

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with suppress(OSError, ssl.SSLError):
            while data := await reader.read(65_536):
                for frame in self._framer.feed(data):
                    self.answers.append(cast("Response", parse_message(frame)))
        self.closed.set()

    def send(self, data: bytes) -> None:
        """Send octets."""
        self.writer.write(data)

    def statuses(self, call_id: str = "") -> list[int]:
        """Return the statuses that came, of one Call-ID or of all."""
        return [
            answer.status
            for answer in self.answers
            if not call_id or answer.headers.get("Call-ID") == call_id
        ]

    async def settled(self, call_id: str) -> None:
        """Return when a request was answered, or the gate has closed the connection."""
        await until(lambda: self.closed.is_set() or self.statuses(call_id))

    async def end(self) -> None:
        """Close it."""
        self.writer.close()
        self._reading.cancel()
        with suppress(asyncio.CancelledError, OSError, ssl.SSLError):
            await self._reading


class PhoneLine:
    """A phone that registers over a connection of its own and knows the password.

    ``instance`` is the UUID by which the gate knows it when it comes again (RFC 5626 §4.1).
    """

    def __init__(self, stream: Stream, transport: str, instance: UUID | None = None) -> None:
        self.stream = stream
        self._transport = transport
        self._flow = f';+sip.instance="<{instance.urn}>";reg-id=1' if instance else ""
        self._supported = "Supported: outbound\r\n" if instance else ""
        self._call_id = f"phone-{next(_serial)}"
        self._cseq = 0

    async def register(self) -> int:
        """Register with credentials; returns the last status, 0 when the connection was closed."""
        challenged = await self._send("")
        challenge = choose_challenge(challenged.headers.get_all("WWW-Authenticate")) if challenged else None
        if challenge is None:
            return 0 if challenged is None else challenged.status
        uri = f"sip:{HOST}"
        answer = answer_challenge(
            challenge, method="REGISTER", uri=uri, username=PHONE, password=PASSWORD, cnonce="0a4f113b"
        )
        done = await self._send(f"Authorization: {answer}\r\n")
        return 0 if done is None else done.status

    async def _send(self, extra: str) -> Response | None:
        self._cseq += 1
        before = len(self.stream.answers)
        host, port = self.stream.writer.get_extra_info("sockname")[:2]
        self.stream.send(
            (
                f"REGISTER sip:{HOST} SIP/2.0\r\n"
                f"Via: SIP/2.0/{self._transport} {host}:{port};branch=z9hG4bK{self._call_id}{self._cseq}\r\n"
                f"Max-Forwards: 70\r\nFrom: <sip:{PHONE}@{HOST}>;tag=1\r\nTo: <sip:{PHONE}@{HOST}>\r\n"
                f"Call-ID: {self._call_id}\r\nCSeq: {self._cseq} REGISTER\r\n"
                f"Contact: <sip:{PHONE}@{host}:{port};transport={self._transport.lower()}>{self._flow}\r\n"
                f"{self._supported}{extra}Content-Length: 0\r\n\r\n"
            ).encode()
        )
        await until(lambda: self.stream.closed.is_set() or len(self.stream.answers) > before)
        return self.stream.answers[-1] if len(self.stream.answers) > before else None


@dataclass(frozen=True, slots=True)
class ExposedGate:
    """A running gate with a socket of each transport."""

    gate: GateProcess
    callee: Callee
    addresses: dict[str, tuple[str, int]]
    """By transport."""
    tls: ssl.SSLContext
    """What a client connects with."""
    random: Random

    async def stream(self, transport: str, source: str) -> Stream:
        """Connect to the gate."""
        return await Stream.open(self.addresses[transport], source, self.tls if transport == "TLS" else None)

    async def options_seconds(self) -> float:
        """Return how long an OPTIONS waits for its answer."""
        return await options_seconds(self.addresses["UDP"], next(iter(sources(self.random))))

    async def nothing_left(self) -> None:
        """Wait until no call, port, transaction or dialog is left; fails for a fault, if one stays, or if an
        OPTIONS waits too long.
        """
        left: dict[str, object] = {}

        async with asyncio.timeout(PATIENCE):
            while True:
                status = await self.gate.status()
                names = ("calls", "port_pairs", "transactions", "dialogs")
                left = {name: status[name] for name in names if status[name]}
                if not left:
                    break
                await asyncio.sleep(0.1)
        assert status["faults"] == 0, self.gate.log[-2000:]
        assert "Traceback" not in self.gate.log, self.gate.log[-2000:]
        waited = await best_options_seconds(self.addresses["UDP"], next(iter(sources(self.random))))
        assert waited <= OPTIONS_WITHIN, f"an OPTIONS waited {waited:.3f} s"


async def _add_phone(gate: GateProcess) -> None:
    """Make the phone's account, and return when the gate knows it."""
    before = cast("int", (await gate.status())["policy_version"])
    settings = load_settings(gate.file)
    with Store(settings.store.url) as store:
        credentials = digest_credentials(PHONE, settings.auth.realm, PASSWORD)
        store.users.add(User(PHONE, "Open", credentials=credentials))
    async with asyncio.timeout(PATIENCE):
        while cast("int", (await gate.status())["policy_version"]) <= before:  # noqa: ASYNC110 - as in gate.py
            await asyncio.sleep(0.05)


@asynccontextmanager
async def exposed_gate(
    folder: Path,
    extra: str = "",
    *,
    timers: str = SHORT_TIMERS,
    callee: Callee | None = None,
    media_ports: str = "",
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[ExposedGate]:
    """Run a gate with UDP, TCP and TLS, one phone's account, a carrier that answers and short timers."""
    authority = Authority(folder / "authority")
    certificate = authority.issue("gate.pem", f"IP:{HOST}")
    callee = callee or Callee()
    await callee.start()
    settings = f'{timers}sip.tls.certificate = "{certificate}"\n{extra}'
    gate = GateProcess(folder, callee.port, extra=settings, media_ports=media_ports)
    listen = [f"{transport}:{HOST}:0" for transport in ("udp", "tcp", "tls")]
    gate.environment |= {"TOLLGATE_SIP__LISTEN": json.dumps(listen), **(environment or {})}
    await gate.start()
    try:
        await gate.listens()
        await _add_phone(gate)
        listening = cast("list[str]", (await gate.status())["listening"])
        addresses = {
            transport: (HOST, int(re.split(":", bound)[-1]))
            for transport, bound in zip(("UDP", "TCP", "TLS"), listening, strict=True)
        }
        tls = ssl.create_default_context(cafile=authority.certificate)
        yield ExposedGate(gate, callee, addresses, tls, Random())
        assert gate.process.returncode is None, gate.log[-2000:]
    finally:
        await gate.end()
        await callee.close()

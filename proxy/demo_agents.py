"""A simulated phone and a simulated carrier for `tollgate demo`: real SIP and RTP over loopback sockets.

Both stand on the project's own endpoint and driver, so they retransmit, acknowledge and cancel as the RFCs
say. The phone recognises prompts by what arrives: each received frame is looked up among the frames of the
prompts.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from proxy.call.ports import Answer, Command
from proxy.dtmf.digits import DIGITS
from proxy.errors import ConfigurationError
from proxy.net.driver import CallControl, Driver, Listener
from proxy.net.resolver import Resolver
from proxy.sdp import parse_sdp, read_audio
from proxy.sip.config import EndpointConfig
from proxy.sip.dialog import Dialog
from proxy.sip.digest import answer_challenge, choose_challenge
from proxy.sip.endpoint import Endpoint, InviteSpec
from proxy.sip.events import (
    Cancelled,
    Event,
    RequestFailed,
    RequestReceived,
    RequestTimedOut,
    ResponseReceived,
)
from proxy.sip.flow import Flow, ListenPoint
from proxy.sip.ids import KeyedIds

__all__ = ["Agent", "Carrier", "Phone", "PhoneCall", "RtpStream"]

HOST = "127.0.0.1"
PCMU, EVENT = 0, 101
FRAME = 0.02
"""Seconds of sound in one packet."""
TICKS = 160
SILENCE = b"\xff" * TICKS
PRESS_PACKETS, END_PACKETS, GAP_PACKETS = 5, 3, 4


class RtpStream:
    """One RTP socket that sends PCMU silence every 20 ms, digits as RFC 4733 events, and knows what it
    hears.
    """

    def __init__(self, sounds: dict[bytes, str]) -> None:
        self.heard: list[str] = []
        """Names of the sounds that arrived, in order, each once in a row."""
        self.packets = 0
        self._sounds = sounds
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind((HOST, 0))
        self.port: int = self._socket.getsockname()[1]
        self._remote: tuple[str, int] | None = None
        self._digits: deque[str] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._sequence, self._timestamp = 1, 160
        self._ssrc = secrets.randbits(32)
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def description(self) -> bytes:
        """Return the SDP that offers or answers this stream."""
        return (
            f"v=0\r\no=- 1 1 IN IP4 {HOST}\r\ns=-\r\nc=IN IP4 {HOST}\r\nt=0 0\r\n"
            f"m=audio {self.port} RTP/AVP {PCMU} {EVENT}\r\na=rtpmap:{EVENT} telephone-event/8000\r\n"
            f"a=fmtp:{EVENT} 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
        ).encode()

    def send_to(self, body: bytes) -> None:
        """Send to where the other side's SDP says; begins to send at its first call."""
        audio = read_audio(parse_sdp(body))
        self._remote = (audio.address, audio.rtp_port)
        if self._sender is None:
            self._sender = self._loop.create_task(self._send(), name="demo rtp")

    def press(self, digits: str) -> None:
        """Press keys one after the other (100 ms each)."""
        self._digits.extend(digits)

    async def close(self) -> None:
        """Stop sending and give the port back."""
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    async def _send(self) -> None:
        due = self._loop.time()
        while True:
            for payload_type, marker, timestamp, payload in self._next_packets():
                header = struct.pack(
                    "!BBHII", 0x80, payload_type | marker << 7, self._sequence & 0xFFFF, timestamp, self._ssrc
                )
                self._sequence += 1
                if self._remote is not None:
                    self._socket.sendto(header + payload, self._remote)
                due += FRAME
                self._timestamp += TICKS
                await asyncio.sleep(max(0.0, due - self._loop.time()))

    def _next_packets(self) -> Iterable[tuple[int, int, int, bytes]]:
        """Yield payload type, marker, timestamp and payload of the next frame, or of one whole key press."""
        if not self._digits:
            yield PCMU, 0, self._timestamp, SILENCE
            return
        code, began = DIGITS.index(self._digits.popleft()), self._timestamp
        for number in range(1, PRESS_PACKETS + 1):
            yield EVENT, int(number == 1), began, struct.pack("!BBH", code, 10, number * TICKS)
        for _ in range(END_PACKETS):
            yield EVENT, 0, began, struct.pack("!BBH", code, 0x80 | 10, PRESS_PACKETS * TICKS)
        for _ in range(GAP_PACKETS):
            yield PCMU, 0, self._timestamp, SILENCE

    def _readable(self) -> None:
        while True:
            try:
                packet = self._socket.recv(2_048)
            except OSError:
                return
            self.packets += 1
            name = self._sounds.get(packet[12:]) if packet[1] & 0x7F == PCMU else None
            if name is not None and (not self.heard or self.heard[-1] != name):
                self.heard.append(name)


class Agent(CallControl):
    """What phone and carrier share: one endpoint on one UDP socket. What its events mean is theirs to say."""

    def __init__(self, name: str, sounds: dict[bytes, str]) -> None:
        self.name = name
        self.sounds = sounds
        self.port = 0
        self.endpoint: Endpoint
        self.driver: Driver
        self.ids = KeyedIds(secrets.token_bytes(32))
        self.loop = asyncio.get_running_loop()

    async def start(self) -> None:
        """Open the socket."""
        self.driver = Driver(self._nothing, resolver=Resolver())
        ((_, self.port),) = await self.driver.listen([Listener("UDP", HOST, 0)])
        self.endpoint = Endpoint(self.config(), self.ids)
        await self.driver.start(self.endpoint, self)

    def config(self) -> EndpointConfig:
        """Return what the endpoint is told; the socket is open."""
        return EndpointConfig((ListenPoint("UDP", HOST, self.port),), user_agent=self.name)

    async def close(self) -> None:
        """Close the socket."""
        await self.driver.close()

    def handle_answer(self, answer: Answer, now: float) -> None:
        """Nothing is asked for, so nothing is answered."""

    def handle_timer(self, now: float) -> None:
        """No timers but the endpoint's."""

    def next_timer(self) -> float | None:
        """No timers but the endpoint's."""
        return None

    def commands(self) -> list[Command]:
        """Nothing is wanted."""
        return []

    def abandon(self, cause: Event | Answer, now: float) -> None:
        """A fault here shows as a call that did not go as expected."""

    def _nothing(self, command: Command) -> None:
        raise ConfigurationError(f"a simulated agent performs no {type(command).__name__}")


@dataclass(eq=False)
class PhoneCall:
    """One call that the phone placed."""

    spec: InviteSpec
    rtp: RtpStream
    status: int = 0
    """The last status received, 100 left out."""
    reason: str = ""
    """Reason header of the refusal or of the BYE that ended the call."""
    dialog: Dialog | None = None
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    tried_password: bool = False


class Phone(Agent):
    """A phone with a user's password."""

    def __init__(self, extension: str, password: str, gate_port: int, sounds: dict[bytes, str]) -> None:
        super().__init__(f"Demo phone {extension}", sounds)
        self.extension = extension
        self._password = password
        self._gate = Flow("UDP", HOST, gate_port, 0, 0)

    def call(self, number: str) -> PhoneCall:
        """Dial a number."""
        rtp = RtpStream(self.sounds)
        host = f"{HOST}:{self._gate.remote_port}"
        spec = InviteSpec(
            uri=f"sip:{number}@{host}",
            from_=f'"Demo {self.extension}" <sip:{self.extension}@{host}>',
            to=f"<sip:{number}@{host}>",
            flow=self._gate,
            body=rtp.description(),
            contact_user=self.extension,
        )
        call = PhoneCall(spec, rtp)
        self.endpoint.invite(spec, call, time.monotonic())
        self.driver.settle()
        return call

    def hang_up(self, call: PhoneCall) -> None:
        """End an answered call."""
        if call.dialog is not None and not call.ended.is_set():
            call.ended.set()
            self.endpoint.request(call.dialog, "BYE", now=time.monotonic())
            self.driver.settle()

    def handle_sip(self, event: Event, now: float) -> None:
        """Take one event of the phone's endpoint."""
        if isinstance(event, ResponseReceived):
            call = event.transaction.owner
            if isinstance(call, PhoneCall) and event.response.cseq.method == "INVITE":
                self._responded(call, event, now)
        elif isinstance(event, RequestReceived):
            self.endpoint.respond(event.transaction, 200, now=now)
            call = event.dialog.owner if event.dialog is not None else None
            if isinstance(call, PhoneCall) and event.request.method == "BYE":
                call.reason = event.request.headers.get("Reason") or ""
                call.ended.set()
        elif isinstance(event, RequestTimedOut | RequestFailed):
            call = event.transaction.owner
            if isinstance(call, PhoneCall):
                call.ended.set()

    def _responded(self, call: PhoneCall, event: ResponseReceived, now: float) -> None:
        response = event.response
        if response.status == 100:
            return
        call.status = response.status
        if response.status == 401 and not call.tried_password:
            self._authenticate(call, event, now)
            return
        if response.body:
            call.rtp.send_to(response.body)
        if 200 <= response.status < 300 and event.dialog is not None:
            call.dialog = event.dialog
            self.endpoint.ack(event.dialog, now=now)
            call.answered.set()
        elif response.status >= 300:
            call.reason = response.headers.get("Reason") or ""
            call.ended.set()

    def _authenticate(self, call: PhoneCall, event: ResponseReceived, now: float) -> None:
        """Repeat the INVITE with the password's proof (RFC 3261 §22.2)."""
        call.tried_password = True
        challenge = choose_challenge(event.response.headers.get_all("WWW-Authenticate"))
        if challenge is None:
            call.ended.set()
            return
        credentials = answer_challenge(
            challenge,
            method="INVITE",
            uri=call.spec.uri,
            username=self.extension,
            password=self._password,
            cnonce=self.ids.tag(),
        )
        first = event.response
        spec = call.spec._replace(
            headers=(("Authorization", str(credentials)),),
            call_id=first.call_id,
            local_tag=first.from_.tag or "",
            cseq=first.cseq.number + 1,
        )
        self.endpoint.invite(spec, call, now)


class Carrier(Agent):
    """A carrier whose every number rings for a moment and then answers."""

    def __init__(self, sounds: dict[bytes, str], *, ring: float = 0.8) -> None:
        super().__init__("Demo carrier", sounds)
        self.numbers: list[str] = []
        """User parts of the numbers that were called."""
        self.streams: list[RtpStream] = []
        self._ring = ring

    async def close(self) -> None:
        """Close the sockets."""
        for stream in self.streams:
            await stream.close()
        await super().close()

    def handle_sip(self, event: Event, now: float) -> None:
        """Take one event of the carrier's endpoint."""
        if isinstance(event, RequestReceived):
            if event.request.method == "INVITE" and event.dialog is None:
                self._ringing(event, now)
            else:
                self.endpoint.respond(event.transaction, 200, now=now)
        elif isinstance(event, Cancelled):
            self.endpoint.respond(event.transaction, 487, now=now)

    def _ringing(self, event: RequestReceived, now: float) -> None:
        self.numbers.append(event.request.request_uri.user or "")
        self.endpoint.respond(event.transaction, 180, now=now)
        self.loop.call_later(self._ring, self._answer, event)

    def _answer(self, event: RequestReceived) -> None:
        if event.transaction.answered:
            return
        stream = RtpStream(self.sounds)
        self.streams.append(stream)
        stream.send_to(event.request.body)
        self.endpoint.respond(event.transaction, 200, body=stream.description(), now=time.monotonic())
        self.driver.settle()

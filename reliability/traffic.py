"""Callers and a callee without sound: only what signalling and records need, hundreds of calls at a time.

Their SDP names one port that somebody listens on, so that no packet comes back as an ICMP error.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Self

from proxy.demo_agents import HOST, Agent
from proxy.sip.config import EndpointConfig
from proxy.sip.dialog import Dialog
from proxy.sip.endpoint import InviteSpec
from proxy.sip.events import (
    Cancelled,
    Event,
    RequestFailed,
    RequestReceived,
    RequestTimedOut,
    ResponseReceived,
)
from proxy.sip.flow import Flow
from proxy.sip.invite_client import InviteClientTransaction

__all__ = ["Callee", "Caller", "PlacedCall", "place_calls"]

T1 = 0.5
"""RFC 3261's, in seconds."""


class _Mute(Agent):
    """An agent whose media is one socket that nobody reads; ``t1`` and what RFC 3261 makes of it are its
    timers.
    """

    def __init__(self, name: str, t1: float) -> None:
        super().__init__(name, {})
        self._t1 = t1
        self._sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        self._sink.bind((HOST, 0))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the sockets."""
        self._sink.close()
        await super().close()

    def config(self) -> EndpointConfig:
        """Return what the endpoint is told."""
        return replace(super().config(), t1=self._t1, t2=8 * self._t1, t4=10 * self._t1)

    def description(self) -> bytes:
        """Return the SDP that offers or answers."""
        port = self._sink.getsockname()[1]
        return (
            f"v=0\r\no=- 1 1 IN IP4 {HOST}\r\ns=-\r\nc=IN IP4 {HOST}\r\nt=0 0\r\n"
            f"m=audio {port} RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n"
        ).encode()


@dataclass(eq=False)
class PlacedCall:
    """One call of the generator; times are those of the wall clock, 0.0 where nothing has happened."""

    number: str
    hold: float
    """Seconds of talk, after which the caller hangs up."""
    placed_at: float
    call_id: str
    status: int = 0
    """The final status; 0: none has come."""
    status_at: float = 0.0
    reason: str = ""
    retry_after: str = ""
    hung_up_at: float = 0.0
    ended_at: float = 0.0
    """When the BYE of either side was answered."""
    dialog: Dialog | None = None
    invite: InviteClientTransaction | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Refused, ended or given up."""

    @property
    def answered(self) -> bool:
        """The caller has had its 200."""
        return 200 <= self.status < 300

    @property
    def delay(self) -> float:
        """Seconds from the INVITE to its final status."""
        return self.status_at - self.placed_at


class Caller(_Mute):
    """A PBX that places calls and hangs up in its time."""

    def __init__(self, gate_port: int, *, t1: float = T1) -> None:
        super().__init__("Traffic caller", t1)
        self._gate = Flow("UDP", HOST, gate_port, 0, 0)
        self.calls: list[PlacedCall] = []

    def place(self, number: str, *, hold: float = 0.5) -> PlacedCall:
        """Dial."""
        call = PlacedCall(number, hold, time.time(), self.ids.call_id())
        self.calls.append(call)
        here = f"{HOST}:{self.port}"
        spec = InviteSpec(
            uri=f"sip:{number}@{HOST}:{self._gate.remote_port}",
            from_=f"<sip:204@{here}>",
            to=f"<sip:{number}@{HOST}:{self._gate.remote_port}>",
            flow=self._gate,
            body=self.description(),
            contact_user="204",
            call_id=call.call_id,
        )
        call.invite = self.endpoint.invite(spec, call, time.monotonic())
        self.driver.settle()
        return call

    def give_up(self, call: PlacedCall) -> None:
        """Cancel a call that nobody has answered."""
        if call.invite is not None and not call.status and not call.over.is_set():
            self.endpoint.cancel(call.invite, now=time.monotonic())
            self.driver.settle()

    def hang_up(self, call: PlacedCall) -> None:
        """Send BYE, unless the other side was first or that is done."""
        if call.dialog is None or call.hung_up_at or call.over.is_set():
            return
        call.hung_up_at = time.time()
        self.endpoint.request(call.dialog, "BYE", now=time.monotonic()).owner = call
        self.driver.settle()

    def handle_sip(self, event: Event, now: float) -> None:
        """Take one event of the endpoint."""
        if isinstance(event, ResponseReceived):
            call = event.transaction.owner
            if isinstance(call, PlacedCall) and event.response.status >= 200:
                self._responded(call, event, now)
        elif isinstance(event, RequestReceived):
            self.endpoint.respond(event.transaction, 200, now=now)
            if event.dialog is not None and event.request.method == "BYE":
                self._over(event.dialog.owner, ended=True)
        elif isinstance(event, RequestTimedOut | RequestFailed):
            self._over(event.transaction.owner, ended=False)

    def _responded(self, call: PlacedCall, event: ResponseReceived, now: float) -> None:
        response = event.response
        if response.cseq.method == "BYE":
            self._over(call, ended=True)
            return
        if not call.status:
            call.status, call.status_at = response.status, time.time()
            call.reason = response.headers.get("Reason") or ""
            call.retry_after = response.headers.get("Retry-After") or ""
        if response.status >= 300 or event.dialog is None:
            self._over(call, ended=False)
            return
        call.dialog = event.dialog
        call.dialog.owner = call
        self.endpoint.ack(event.dialog, now=now)
        self.loop.call_later(call.hold, self.hang_up, call)

    def _over(self, call: object, *, ended: bool) -> None:
        if isinstance(call, PlacedCall):
            if ended:
                call.ended_at = time.time()
            call.over.set()


class Callee(_Mute):
    """A carrier whose numbers answer after ``ring`` seconds; ``status_of`` makes some of them refuse, or
    (180) go on ringing.
    """

    def __init__(
        self, *, ring: float = 0.0, status_of: Callable[[str], int] = lambda _number: 200, t1: float = T1
    ) -> None:
        super().__init__("Traffic callee", t1)
        self.numbers: list[str] = []
        """Those that were called, without a country code's ``+``."""
        self._ring = ring
        self._status_of = status_of

    def handle_sip(self, event: Event, now: float) -> None:
        """Take one event of the endpoint."""
        if isinstance(event, RequestReceived):
            if event.request.method == "INVITE" and event.dialog is None:
                self.numbers.append((event.request.request_uri.user or "").removeprefix("+"))
                if self._ring:
                    self.endpoint.respond(event.transaction, 180, now=now)
                    self.loop.call_later(self._ring, self._answer, event)
                else:
                    self._answer(event)
            else:
                self.endpoint.respond(event.transaction, 200, now=now)
        elif isinstance(event, Cancelled):
            self.endpoint.respond(event.transaction, 487, now=now)

    def _answer(self, event: RequestReceived) -> None:
        if event.transaction.answered:
            return
        status = self._status_of((event.request.request_uri.user or "").removeprefix("+"))
        if status < 200:
            return
        body = self.description() if status == 200 else b""
        self.endpoint.respond(event.transaction, status, body=body, now=time.monotonic())
        self.driver.settle()


async def place_calls(
    caller: Caller, random: Random, *, rate: float, seconds: float, number: str, hold: float
) -> list[PlacedCall]:
    """Place calls at random moments, so many per second on average; how long each talks is random too."""
    placed = []
    loop = asyncio.get_running_loop()
    due, end = loop.time(), loop.time() + seconds
    while due < end:
        await asyncio.sleep(max(0.0, due - loop.time()))
        placed.append(caller.place(number, hold=random.expovariate(1 / hold)))
        due += random.expovariate(rate)
    return placed

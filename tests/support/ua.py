"""A simulated SIP user agent on the fake network: phone, PBX or carrier, on the project's own endpoint."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from proxy.sip.config import ALLOW, EndpointConfig
from proxy.sip.dialog import Dialog
from proxy.sip.endpoint import Endpoint
from proxy.sip.events import (
    AckReceived,
    AckTimedOut,
    Cancelled,
    ClientTransaction,
    Event,
    RequestReceived,
    ResponseReceived,
    ServerTransaction,
)
from proxy.sip.flow import Flow, ListenPoint, Transmit
from proxy.sip.invite_client import InviteClientTransaction
from proxy.sip.message import Request, Response
from proxy.sip.spec import InviteSpec
from tests.support.ids import CountingIds

Headers = Sequence[tuple[str, str]]


def sdp(
    host: str = "192.0.2.10",
    port: int = 4000,
    *,
    codecs: str = "0 8 101",
    direction: str = "sendrecv",
    events: bool = True,
    extra: str = "",
    version: int = 1,
) -> bytes:
    """An ordinary phone's description."""
    event = "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n" if events else ""
    if not events:
        codecs = codecs.replace(" 101", "")
    return (
        f"v=0\r\no=- 1 {version} IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP {codecs}\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"
        f"{event}a=ptime:20\r\na={direction}\r\n{extra}"
    ).encode()


@dataclass
class Step:
    """One thing that a UA does about an INVITE it received, ``after`` seconds after the step before."""

    after: float
    status: int
    with_sdp: bool = False
    headers: Headers = ()
    body: bytes | None = None
    reliable: bool = False


RING_AND_ANSWER = (Step(0.0, 180), Step(1.0, 200, with_sdp=True))
ANSWER = (Step(0.0, 200, with_sdp=True),)


@dataclass(eq=False)
class UaCall:
    """One dialog, or one INVITE on its way to it, as the UA sees it."""

    ua: Ua
    outgoing: bool
    invite: Request | None = None
    client: InviteClientTransaction | None = None
    server: ServerTransaction | None = None
    dialog: Dialog | None = None
    responses: list[Response] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    """In-dialog requests received, ACK and BYE included."""
    replies: list[Response] = field(default_factory=list)
    """Responses to our own in-dialog requests."""
    connected: bool = False
    ended: bool = False
    """BYE went either way."""
    cancelled: bool = False
    prack_body: bytes = b""
    """In place of that of the UA."""
    extra_dialogs: list[Dialog] = field(default_factory=list)

    @property
    def statuses(self) -> list[int]:
        """Status codes received for the INVITE, 100 left out."""
        return [response.status for response in self.responses if response.status != 100]

    @property
    def status(self) -> int:
        """The last of them, 0 when there is none."""
        return self.statuses[-1] if self.statuses else 0

    def has_ended(self) -> bool:
        """``ended`` at this moment (a call, so that a type checker doesn't think it final)."""
        return self.ended

    def was_cancelled(self) -> bool:
        """``cancelled`` at this moment."""
        return self.cancelled

    @property
    def last(self) -> Response:
        return self.responses[-1]

    def bye(self, headers: Headers = ()) -> None:
        assert self.dialog is not None
        self.ended = True
        self.ua.endpoint.request(self.dialog, "BYE", headers=headers, now=self.ua.now())

    def cancel(self) -> None:
        assert self.client is not None
        self.ua.endpoint.cancel(self.client, now=self.ua.now())

    def request(
        self, method: str, body: bytes = b"", content_type: str = "application/sdp", headers: Headers = ()
    ) -> None:
        assert self.dialog is not None
        self.ua.endpoint.request(
            self.dialog, method, body=body, content_type=content_type, headers=headers, now=self.ua.now()
        )

    def info(self, signal: str) -> None:
        body = f"Signal={signal}\r\nDuration=160\r\n".encode()
        self.request("INFO", body, "application/dtmf-relay")

    def respond(
        self,
        status: int,
        *,
        with_sdp: bool = False,
        headers: Headers = (),
        body: bytes = b"",
        reliable: bool = False,
    ) -> None:
        assert self.server is not None
        withheld = self.dialog is not None and self.dialog.withholds_success
        if self.server.answered or (withheld and 200 <= status < 300):
            return
        if with_sdp and not body:
            body = self.ua.description
        dialog = self.ua.endpoint.respond(
            self.server,
            status,
            headers=headers,
            body=body,
            content_type=self.ua.content_type,
            reliable=reliable,
            now=self.ua.now(),
        )
        if dialog is not None:
            dialog.owner = self
            self.dialog = dialog

    def prack(self, dialog: Dialog, rack: str, body: bytes = b"") -> None:
        self.ua.endpoint.request(dialog, "PRACK", headers=[("RAck", rack)], body=body, now=self.ua.now())


class Ua:
    """A UA at one address. ``script`` is what it does about INVITEs; phones leave it empty."""

    def __init__(
        self,
        host: str,
        port: int,
        now: Callable[[], float],
        *,
        gate: tuple[str, int] = ("192.0.2.1", 5060),
        script: Sequence[Step] = (),
        transport: str = "UDP",
        t1: float = 0.5,
        supported: tuple[str, ...] = (),
        name: str = "",
    ) -> None:
        """``name`` marks what it calls its calls, where another one was at this address before."""
        self.host, self.port, self.now = host, port, now
        self.address = (host, port)
        self.gate = gate
        self.transport = transport
        allow = (*ALLOW, "NOTIFY")
        point = ListenPoint(transport, host, port)
        config = EndpointConfig((point,), t1=t1, allow=allow, supported=supported)
        self.endpoint = Endpoint(config, CountingIds(f"{host}-{port}{name}"))
        self.auto_prack = True
        self.prack_body = b""
        """Goes with the PRACK of a response that has a body."""
        self.script: Sequence[Step] | Callable[[UaCall], Sequence[Step]] = script
        self.description = sdp(host)
        self.content_type = "application/sdp"
        """Of the bodies in its responses to INVITEs."""
        self.calls: list[UaCall] = []
        """Every call, both ways, in order."""
        self.auto_ack = True
        self.ack_body = b""
        self.other_responses: list[Response] = []
        self.ack_timeouts = 0
        self.within: Callable[[UaCall, RequestReceived], bool] | None = None
        """Answers a request within a dialog in place of the usual 200; False: the usual 200 after all."""
        self._due: list[tuple[float, int, UaCall, list[Step]]] = []
        self._serial = count()

    # As a caller --------------------------------------------------------------------------------------------

    def call(
        self,
        number: str,
        *,
        body: bytes | None = None,
        headers: Headers = (),
        caller: str = "204",
        uri: str = "",
        to: str = "",
        max_forwards: int = 70,
        content_type: str = "application/sdp",
    ) -> UaCall:
        """Send an INVITE to the gate."""
        call = UaCall(self, outgoing=True)
        self.calls.append(call)
        target = uri or f"sip:{number}@gate.example.com"
        to = to or target
        spec = InviteSpec(
            uri=target,
            from_=f"<sip:{caller}@{self.host}>",
            to=f"<{to}>" if ":" in to else "<sip:x@example.com>",
            flow=Flow(self.transport, *self.gate),
            body=self.description if body is None else body,
            headers=tuple(headers),
            max_forwards=max_forwards,
            content_type=content_type,
        )
        call.client = self.endpoint.invite(spec, call, self.now())
        return call

    def send(self, method: str, uri: str = "sip:gate.example.com", headers: Headers = ()) -> None:
        """Send a request outside any dialog."""
        self.endpoint.send_request(
            method, uri, headers=headers, flow=Flow(self.transport, *self.gate), owner=None, now=self.now()
        )

    # As a node of the network -------------------------------------------------------------------------------

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        self.endpoint.receive(data, flow, now)

    def transmits(self) -> list[Transmit]:
        return self.endpoint.transmits()

    def next_timer(self) -> float | None:
        times = [
            at
            for at in (self.endpoint.next_timer(), self._due[0][0] if self._due else None)
            if at is not None
        ]
        return min(times) if times else None

    def handle_timer(self, now: float) -> None:
        self.endpoint.handle_timer(now)
        while self._due and self._due[0][0] <= now:
            _, _, call, steps = heapq.heappop(self._due)
            self._play(call, steps, now)

    def after(self, now: float) -> None:
        while events := self.endpoint.events():
            for event in events:
                self._handle(event, now)

    # Events -------------------------------------------------------------------------------------------------

    def _handle(self, event: Event, now: float) -> None:
        if isinstance(event, RequestReceived):
            self._request(event, now)
        elif isinstance(event, ResponseReceived):
            self._response(event, now)
        elif isinstance(event, AckReceived):
            owner = event.dialog.owner
            if isinstance(owner, UaCall):
                owner.connected = True
                owner.requests.append(event.request)
        elif isinstance(event, Cancelled):
            owner = event.transaction.owner
            assert isinstance(owner, UaCall)
            owner.cancelled = True
            owner.requests.append(event.request)
            owner.respond(487)
        elif isinstance(event, AckTimedOut):
            self.ack_timeouts += 1
            self.endpoint.request(event.dialog, "BYE", now=now)

    def _request(self, event: RequestReceived, now: float) -> None:
        request = event.request
        if event.dialog is None:
            if request.method != "INVITE":
                self.endpoint.respond(event.transaction, 200, now=now)
                return
            new = UaCall(self, outgoing=False, invite=request, server=event.transaction)
            event.transaction.owner = new
            self.calls.append(new)
            steps = self.script(new) if callable(self.script) else self.script
            if steps:
                heapq.heappush(self._due, (now + steps[0].after, next(self._serial), new, list(steps)))
                if steps[0].after == 0.0:
                    self.handle_timer(now)
            return
        owner = event.dialog.owner
        assert isinstance(owner, UaCall)
        call = owner
        call.requests.append(request)
        if request.method == "BYE":
            call.ended = True
        if self.within is not None and self.within(call, event):
            return
        offered = request.method == "UPDATE" and request.body
        body = self.description if offered or request.method == "INVITE" else b""
        self.endpoint.respond(event.transaction, 200, body=body, now=now)

    def _play(self, call: UaCall, steps: list[Step], now: float) -> None:
        while steps:
            step = steps.pop(0)
            call.respond(
                step.status,
                with_sdp=step.with_sdp,
                headers=step.headers,
                body=step.body or b"",
                reliable=step.reliable,
            )
            if steps and steps[0].after > 0:
                heapq.heappush(self._due, (now + steps[0].after, next(self._serial), call, steps))
                return

    def _response(self, event: ResponseReceived, now: float) -> None:
        transaction: ClientTransaction = event.transaction
        call = transaction.owner
        if not isinstance(call, UaCall):
            self.other_responses.append(event.response)
            return
        if transaction is not call.client:
            call.replies.append(event.response)
            if event.response.cseq.method == "INVITE" and 200 <= event.response.status < 300:
                assert event.dialog is not None
                if self.auto_ack:
                    self.endpoint.ack(event.dialog, body=self.ack_body, now=now)
            return
        call.responses.append(event.response)
        if event.rack and self.auto_prack:
            assert event.dialog is not None
            body = call.prack_body or self.prack_body
            call.prack(event.dialog, event.rack, body if event.response.body else b"")
        if event.dialog is not None and 200 <= event.response.status < 300:
            if call.dialog is not None and call.connected and event.dialog is not call.dialog:
                call.extra_dialogs.append(event.dialog)
            call.dialog = event.dialog
            call.connected = True
            if self.auto_ack:
                self.endpoint.ack(event.dialog, body=self.ack_body, now=now)
        elif event.dialog is not None:
            call.dialog = event.dialog

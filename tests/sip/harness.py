"""One endpoint under a microscope: raw messages in, everything it sends with its time, every event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from proxy.sip.config import EndpointConfig
from proxy.sip.dialog import Dialog
from proxy.sip.endpoint import Endpoint
from proxy.sip.events import (
    AckReceived,
    ClientTransaction,
    ConnectionLost,
    Event,
    RequestReceived,
    ResponseReceived,
    ServerTransaction,
)
from proxy.sip.flow import Flow, ListenPoint
from proxy.sip.invite_client import InviteClientTransaction
from proxy.sip.invite_server import InviteServerTransaction
from proxy.sip.message import Message, Request, Response
from proxy.sip.parser import parse_message
from proxy.sip.spec import InviteSpec
from tests.support.clock import VirtualClock
from tests.support.ids import CountingIds

GATE = "192.0.2.1"
PEER = "192.0.2.2"
UDP = Flow("UDP", PEER, 5060)
TCP = Flow("TCP", PEER, 40000, 1, 17)
LISTEN_POINTS = (
    ListenPoint("UDP", GATE, 5060),
    ListenPoint("TCP", GATE, 5060),
    ListenPoint("UDP", "2001:db8::1", 5060),
)

E = TypeVar("E", bound=Event)


@dataclass(frozen=True, slots=True)
class Sent:
    """One message that left the endpoint."""

    at: float
    data: bytes
    flow: Flow

    @property
    def message(self) -> Message:
        return parse_message(self.data)

    @property
    def request(self) -> Request:
        message = self.message
        assert isinstance(message, Request)
        return message

    @property
    def response(self) -> Response:
        message = self.message
        assert isinstance(message, Response)
        return message

    @property
    def what(self) -> str:
        """The method of a request or the status of a response."""
        message = self.message
        return message.method if isinstance(message, Request) else str(message.status)


class Harness:
    """An endpoint, its clock and its records."""

    def __init__(self, config: EndpointConfig | None = None) -> None:
        self.clock = VirtualClock()
        self.ids = CountingIds("gate")
        self.endpoint = Endpoint(config or EndpointConfig(LISTEN_POINTS), self.ids)
        self.sent: list[Sent] = []
        self.events: list[Event] = []
        self.lost: list[Flow] = []
        """Connections that the TU was told of as lost; no test of transactions and dialogs minds them."""

    @property
    def now(self) -> float:
        return self.clock.now

    def drain(self) -> None:
        self.sent += [Sent(self.clock.elapsed, *transmit) for transmit in self.endpoint.transmits()]
        for event in self.endpoint.events():
            if isinstance(event, ConnectionLost):
                self.lost.append(event.flow)
            else:
                self.events.append(event)

    def receive(self, message: str | bytes, flow: Flow = UDP) -> None:
        data = message.encode("utf-8", "surrogateescape") if isinstance(message, str) else message
        self.endpoint.receive(data, flow, self.now)
        self.drain()

    def run_until(self, elapsed: float) -> None:
        """Run timers up to and including that time after the start."""
        end = self.clock.start + elapsed
        self.drain()
        while (at := self.endpoint.next_timer()) is not None and at <= end + 1e-9:
            self.clock.advance_to(at)
            self.endpoint.handle_timer(at)
            self.drain()
        self.clock.advance_to(max(end, self.clock.now))

    def settle(self) -> float:
        """Run all timers out; returns the time of the last."""
        self.drain()
        while (at := self.endpoint.next_timer()) is not None:
            self.clock.advance_to(at)
            self.endpoint.handle_timer(at)
            self.drain()
        return self.clock.elapsed

    def take_sent(self) -> list[str]:
        """Return what was sent since the last time, as methods and statuses."""
        self.drain()
        sent = [item.what for item in self.sent]
        self.sent.clear()
        return sent

    def times(self, what: str) -> list[float]:
        """Return when messages of this method or status were sent."""
        self.drain()
        return [item.at for item in self.sent if item.what == what]

    def last(self) -> Sent:
        self.drain()
        return self.sent[-1]

    def take(self, kind: type[E]) -> E:
        """Take the one event that is there; fails if there is another or none."""
        self.drain()
        assert len(self.events) == 1, self.events
        event = self.events.pop()
        assert isinstance(event, kind), event
        return event

    def take_all(self) -> list[Event]:
        self.drain()
        events = self.events[:]
        self.events.clear()
        return events

    def assert_quiet(self) -> None:
        """Nothing was sent, nothing happened."""
        self.drain()
        assert self.sent == []
        assert self.events == []

    def assert_nothing_left(self) -> None:
        """Contract 5: after the last timer no transaction, dialog, timer or unread event is there."""
        self.settle()
        assert self.endpoint.idle
        assert self.endpoint.next_timer() is None

    # Steps that many tests begin with -----------------------------------------------------------------------

    def invited(self, **kwargs: str) -> InviteServerTransaction:
        """Receive an INVITE; returns its transaction."""
        flow = TCP if kwargs.pop("over", "UDP") == "TCP" else UDP
        self.receive(request("INVITE", **kwargs), flow)
        transaction = self.take(RequestReceived).transaction
        assert isinstance(transaction, InviteServerTransaction)
        return transaction

    def respond(self, transaction: ServerTransaction, status: int, body: bytes = b"") -> None:
        self.endpoint.respond(transaction, status, body=body, now=self.now)
        self.drain()

    def accepted(self, **kwargs: str) -> InviteServerTransaction:
        """Receive an INVITE, accept it and receive the ACK: a confirmed dialog with the peer as the UAC."""
        transaction = self.invited(**kwargs)
        self.respond(transaction, 200, b"v=0\r\n")
        tag = transaction.lines.to_tag
        self.receive(request("ACK", to_tag=tag, branch="z9hG4bK-ack", **kwargs))
        self.take(AckReceived)
        self.sent.clear()
        return transaction

    def asked_within(self, method: str, tag: str, cseq: int) -> ServerTransaction:
        """Receive a request within the dialog of this tag of ours that is the TU's to answer."""
        self.receive_within(method, tag, cseq)
        return self.take(RequestReceived).transaction

    def receive_within(self, method: str, tag: str, cseq: int, **kwargs: str) -> None:
        """Receive a request within the dialog of this tag of ours."""
        branch = f"z9hG4bK-{method}{cseq}"
        self.receive(request(method, to_tag=tag, cseq=str(cseq), branch=branch, **kwargs))

    def talking(self, invite: Request) -> Dialog:
        """The peer accepts our INVITE and gets its ACK; the transaction has ended."""
        self.receive(answer(invite, 200))
        dialog = self.take(ResponseReceived).dialog
        assert dialog is not None
        self.endpoint.ack(dialog, now=self.now)
        self.settle()
        self.sent.clear()
        return dialog


def calling(
    flow: Flow = UDP, *, route: str = "", config: EndpointConfig | None = None
) -> tuple[Harness, InviteClientTransaction, Request]:
    """Our INVITE has gone to the peer."""
    harness = Harness(config)
    invite = spec(flow, route=route) if route else spec(flow)
    transaction = harness.endpoint.invite(invite, "leg", harness.now)
    return harness, transaction, harness.last().request


def talking() -> tuple[Harness, Dialog]:
    """The peer has accepted our INVITE."""
    harness, _, invite = calling()
    return harness, harness.talking(invite)


def state(machine: Dialog | ServerTransaction | ClientTransaction) -> str:
    """The state's name as the RFC spells it."""
    return str(machine.state.value)


def request(
    method: str,
    *,
    uri: str = "sip:15551230001@192.0.2.1",
    branch: str = "z9hG4bK-1",
    via: str = "",
    from_tag: str = "peer",
    to_tag: str = "",
    call_id: str = "c1",
    cseq: str = "1",
    contact: str = "<sip:204@192.0.2.2:5060>",
    extra: str = "",
    body: str = "",
) -> str:
    """A request of the peer as text; ``extra`` are whole lines."""
    tagged = f";tag={to_tag}" if to_tag else ""
    from_tagged = f";tag={from_tag}" if from_tag else ""
    via = via or f"SIP/2.0/UDP 192.0.2.2:5060;branch={branch}"
    contact_line = f"Contact: {contact}\r\n" if contact else ""
    max_forwards = "" if "Max-Forwards" in extra else "Max-Forwards: 70\r\n"
    return (
        f"{method} {uri} SIP/2.0\r\nVia: {via}\r\n{max_forwards}From: <sip:204@example.com>{from_tagged}\r\n"
        f"To: <sip:15551230001@example.com>{tagged}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n"
        f"{contact_line}{extra}Content-Length: {len(body)}\r\n\r\n{body}"
    )


def answer(
    to: Request,
    status: int,
    *,
    to_tag: str = "peer",
    contact: str = "<sip:15551230001@192.0.2.2:5060>",
    extra: str = "",
    body: str = "",
) -> str:
    """The peer's response to a request of the endpoint, as text."""
    to_value = to.headers.get("To") or ""
    if to_tag and "tag=" not in to_value:
        to_value += f";tag={to_tag}"
    contact_line = f"Contact: {contact}\r\n" if contact and 100 < status < 300 else ""
    return (
        f"SIP/2.0 {status} Whatever\r\nVia: {to.headers.get('Via')}\r\nFrom: {to.headers.get('From')}\r\n"
        f"To: {to_value}\r\nCall-ID: {to.call_id}\r\nCSeq: {to.headers.get('CSeq')}\r\n"
        f"{contact_line}{extra}Content-Length: {len(body)}\r\n\r\n{body}"
    )


def spec(flow: Flow = UDP, **kwargs: str) -> InviteSpec:
    """An INVITE to the peer."""
    return InviteSpec(
        uri=kwargs.get("uri", "sip:15551230001@192.0.2.2"),
        from_="<sip:204@example.com>",
        to="<sip:15551230001@example.com>",
        flow=flow,
        body=b"v=0\r\n",
        route=(kwargs["route"],) if "route" in kwargs else (),
        contact_user=kwargs.get("contact_user", ""),
    )


def in_dialog() -> tuple[Harness, Dialog]:
    """Return a harness with a confirmed dialog, the peer as the UAC."""
    harness = Harness()
    dialog = harness.accepted().dialog
    assert dialog is not None
    return harness, dialog

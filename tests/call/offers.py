"""What tests of later offers share: a talk, UAs that answer them, and what the gate sent and was told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from proxy.call.ports import ConfigureMediaLeg, LegId
from proxy.sip.events import RequestReceived
from proxy.sip.message import Request
from tests.support.gate import CARRIER, GateBench
from tests.support.ua import Ua, UaCall, sdp

TOLL_FREE = "918005550123"
CALLEE = "192.0.2.90"
ALLOW_UPDATE = [("Allow", "INVITE, ACK, CANCEL, BYE, UPDATE")]
ALLOW_NO_UPDATE = [("Allow", "INVITE, ACK, CANCEL, BYE")]
MIRROR = {"sendonly": "recvonly", "recvonly": "sendonly", "sendrecv": "sendrecv", "inactive": "inactive"}

Within = Callable[[UaCall, RequestReceived], bool]


def talking(bench: GateBench) -> UaCall:
    call = bench.pbx.call(TOLL_FREE)
    bench.run(1.0)
    assert call.status == 200
    return call


@contextmanager
def talk(bench: GateBench | None = None) -> Iterator[tuple[GateBench, UaCall]]:
    """A talk on this bench, which the caller ends if nobody else has."""
    bench = bench or GateBench()
    with bench:
        call = talking(bench)
        yield bench, call
        if not call.has_ended():
            call.bye()


def callee(bench: GateBench) -> UaCall:
    return bench.carrier.calls[0]


def told(bench: GateBench, leg: int = 1) -> ConfigureMediaLeg:
    """What the engine was told last about a leg's peer."""
    return bench.media.all[LegId(leg)].configured[-1]


def asked(call: UaCall, *methods: str) -> list[Request]:
    """The requests of the gate that may carry an offer."""
    return [request for request in call.requests if request.method in (methods or ("INVITE", "UPDATE"))]


def direction_of(body: bytes) -> str:
    return next(name for name in MIRROR if f"a={name}\r\n".encode() in body)


def formats_of(body: bytes) -> bytes:
    return body.partition(b"RTP/AVP ")[2].partition(b"\r\n")[0]


def version_of(body: bytes) -> int:
    return int(body.partition(b"o=")[2].split()[2])


def follows(ua: Ua, *, codecs: str = "0 101", wish: str = "sendrecv") -> Within:
    """Answer each offer as a phone does: the direction mirrored, or its own wish within it."""
    versions = iter(range(2, 100))

    def within(call: UaCall, event: RequestReceived) -> bool:
        if event.request.method not in {"INVITE", "UPDATE"}:
            return False
        body = b""
        if event.request.body:
            mirrored = MIRROR[direction_of(event.request.body)]
            direction = mirrored if wish == "sendrecv" else wish
            body = sdp(ua.host, codecs=codecs, direction=direction, version=next(versions))
        elif event.request.method == "INVITE":
            body = sdp(ua.host, codecs=codecs, direction=wish, version=next(versions))
        ua.endpoint.respond(event.transaction, 200, body=body, now=ua.now())
        return True

    return within


def answers(ua: Ua, *statuses: int, headers: Sequence[tuple[str, str]] = ()) -> Within:
    """Answer re-INVITEs and UPDATEs with these refusals one after the other, then as usual. 0: no answer."""
    left = list(statuses)

    def within(call: UaCall, event: RequestReceived) -> bool:
        if event.request.method not in {"INVITE", "UPDATE"} or not left:
            return False
        status = left.pop(0)
        if status:
            ua.endpoint.respond(event.transaction, status, headers=headers, now=ua.now())
        return True

    return within


def kept_by(ua: Ua) -> list[RequestReceived]:
    """Leave the re-INVITEs and UPDATEs that reach this UA to the test."""
    kept: list[RequestReceived] = []

    def within(call: UaCall, event: RequestReceived) -> bool:
        if event.request.method not in {"INVITE", "UPDATE"}:
            return False
        kept.append(event)
        event.transaction.owner, call.server = call, event.transaction
        return True

    ua.within = within
    return kept


def cancel(call: UaCall) -> None:
    """Take the re-INVITE back that is under way."""
    assert call.dialog is not None
    assert call.dialog.invite_client is not None
    call.ua.endpoint.cancel(call.dialog.invite_client, now=call.ua.now())


def acks_to_the_carrier(bench: GateBench) -> list[float]:
    """When the ACKs of the gate went to the carrier from now on."""
    acks: list[float] = []

    def trace(at: float, sender: object, receiver: object, data: bytes) -> None:
        if receiver == CARRIER and data.startswith(b"ACK"):
            acks.append(at)

    bench.network.trace = trace
    return acks


def without_cancel(sender: object, receiver: object, data: bytes) -> bool:
    """Lose the CANCELs on their way to the carrier, as if they crossed its answer."""
    return receiver == CARRIER and data.startswith(b"CANCEL")

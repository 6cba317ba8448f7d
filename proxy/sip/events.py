"""What happened at the endpoint: drained by the TU with `Endpoint.events()`, in order.

The TU answers each with calls on the endpoint; events it has no use for may be ignored, except that every
`RequestReceived` must be answered once with `Endpoint.respond` (or `Endpoint.reject_stateless`).
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.sip.dialog import Dialog
from proxy.sip.flow import Flow
from proxy.sip.inspection import Refusal
from proxy.sip.invite_client import InviteClientTransaction
from proxy.sip.invite_server import InviteServerTransaction
from proxy.sip.message import Request, Response
from proxy.sip.non_invite_client import NonInviteClientTransaction
from proxy.sip.non_invite_server import NonInviteServerTransaction

__all__ = [
    "AckReceived",
    "AckTimedOut",
    "CallEnded",
    "Cancelled",
    "ClientTransaction",
    "ConnectionLost",
    "DialogEnded",
    "Event",
    "PrackTimedOut",
    "RequestFailed",
    "RequestReceived",
    "RequestTimedOut",
    "ResponseReceived",
    "ServerTransaction",
]

ClientTransaction = InviteClientTransaction | NonInviteClientTransaction
ServerTransaction = InviteServerTransaction | NonInviteServerTransaction


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """A new request that the endpoint could not answer by itself."""

    transaction: ServerTransaction
    request: Request
    dialog: Dialog | None
    """The dialog it belongs to; None for a request outside any dialog. A PRACK has matched already."""
    flow: Flow
    refusal: Refusal | None = None
    """What RFC 3261 §8.2 wants an INVITE to be refused with (`EndpointConfig.invites_to_tu`)."""


@dataclass(frozen=True, slots=True)
class AckReceived:
    """The first ACK for a 2xx (RFC 3261 §13.3.1.4); it may carry the answer to an offer in the 2xx."""

    dialog: Dialog
    request: Request


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A CANCEL found an INVITE without a final response (§9.2).

    The CANCEL has been answered with 200; the TU answers the INVITE with 487.
    """

    transaction: InviteServerTransaction
    request: Request
    """The CANCEL, whose Reason header (RFC 3326) may say why."""


@dataclass(frozen=True, slots=True)
class ResponseReceived:
    """A response to a request of the TU, retransmissions removed.

    Every 2xx to an INVITE comes with a confirmed dialog that the TU must ACK, also when it had cancelled,
    or when another fork was faster (then the TU sends BYE after the ACK) (§13.2.2.4). A provisional
    response with a To tag comes with its early dialog.
    """

    transaction: ClientTransaction
    response: Response
    dialog: Dialog | None
    rack: str = ""
    """RAck of the PRACK that the TU has to send within ``dialog``; "" for what is not reliable (RFC 3262
    §4)."""


@dataclass(frozen=True, slots=True)
class RequestTimedOut:
    """No final response: Timer B or F, or 64*T1 after a CANCEL (§9.1, §17.1.1.2, §17.1.2.2). Act as on
    408."""

    transaction: ClientTransaction


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """The transport could not deliver (§17.1.4, §17.2.4).

    For a request act as on 503 (§8.1.3.1). For a server transaction: its response can't be delivered.
    """

    transaction: ClientTransaction | ServerTransaction


@dataclass(frozen=True, slots=True)
class PrackTimedOut:
    """No PRACK for a reliable provisional response within 64*T1: the TU refuses the INVITE with a 5xx
    (RFC 3262 §3)."""

    transaction: InviteServerTransaction


@dataclass(frozen=True, slots=True)
class AckTimedOut:
    """No ACK for a 2xx within 64*T1 (§13.3.1.4): the TU sends BYE."""

    dialog: Dialog


@dataclass(frozen=True, slots=True)
class DialogEnded:
    """The dialog is no longer known: no event will name it again.

    Comes once for every dialog that was ever shown to the TU, except after `Endpoint.terminate`: after the
    final response to a BYE in either direction, or when an early dialog found its end.
    """

    dialog: Dialog


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The BYE of a dialog has its final response, and subscriptions that share the dialog go on.

    What they send waits until then: a request that overtakes the BYE makes its peer refuse that (§12.2.2).
    """

    dialog: Dialog


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """A connection of a reliable transport is gone: what was reached over it alone is not any more (RFC 5626
    §5.3)."""

    flow: Flow


Event = (
    RequestReceived
    | AckReceived
    | Cancelled
    | ResponseReceived
    | RequestTimedOut
    | RequestFailed
    | PrackTimedOut
    | AckTimedOut
    | DialogEnded
    | CallEnded
    | ConnectionLost
)

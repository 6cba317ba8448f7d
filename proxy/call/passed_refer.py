"""A REFER that is passed on: a PBX that takes it transfers its own party, and the gate carries the news.

RFC 3515, RFC 5589; RFC 3891 §3 with RFC 5589 §7 (Replaces). Only where the target is reached through that
very PBX, as an internal number that the transferor may dial without a code: nobody pays for it, and no audio
goes round by the gate. Everything else the gate acts on itself (`proxy.call.transfer`)::

    X --REFER--> gate --REFER--> Y    the target at that PBX; Replaces names the consultation as Y's side does
    X <--202-- gate <--202-- Y        or the refusal
    X <--NOTIFY-- gate <--NOTIFY-- Y  each answered as X answers it, until the last one
    X --SUBSCRIBE--> gate --> Y       refreshed or ended

The call goes on as any other until somebody hangs up, which ends neither subscription.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, NamedTuple

from proxy.call.config import Side
from proxy.call.joining import find_replaced, same_party
from proxy.call.outcome import status_for_asker
from proxy.call.referrals import REFER, Usage, granted_to
from proxy.call.routing import Caller, as_trunk
from proxy.call.state import CallState
from proxy.errors import RemoteProtocolError
from proxy.policy import CallClass, CallRequest, Treatment, decide
from proxy.sip.events import ClientTransaction, RequestReceived, ServerTransaction
from proxy.sip.grammar import is_token
from proxy.sip.message import Response
from proxy.sip.refer import SIPFRAG, Referral, refer_to, sipfrag, sipfrag_status
from proxy.sip.replaces import Replaces
from proxy.sip.seconds import delta_seconds
from proxy.sip.subscription import EventType, SubscriptionState, SubscriptionStatus

if TYPE_CHECKING:
    from proxy.call.call import Call
    from proxy.call.leg import Leg

__all__ = ["PassedReferral", "is_passing", "pass_on"]

_log = logging.getLogger(__name__)

_PATIENCE = 128
"""In T1: so long the answer to the REFER and the first NOTIFY may take together (RFC 6665 §4.1.2.4), and the
answer to the last one."""


def is_passing(leg: Leg) -> bool:
    """Tell whether a REFER of this party, or to it, was passed on and goes on."""
    usages = () if leg.dialog is None else leg.call.core.referrals.of(leg.dialog)
    return any(isinstance(usage.party, PassedReferral) for usage in usages)


def pass_on(  # noqa: PLR0917
    leg: Leg, other: Leg, event: RequestReceived, referral: Referral, sender: Caller, now: float
) -> bool:
    """Pass a REFER on to the other party; False: the gate is to act on it itself."""
    peer = other.party.peer
    if not peer.pass_refer or peer.flow is None or (other.allows and "REFER" not in other.allows):
        return False
    if referral.replaces is None:
        number, replaces = _number(leg, other, referral.target, sender), None
    else:
        number, replaces = _consulted(leg, other, referral.replaces)
    if not number:
        return False
    host = as_trunk(peer).host
    headers = [("Refer-To", refer_to(f"sip:{number}@{host}", replaces))]
    by = leg.call.core.admission.named(sender, leg.call.route.decision).number
    if peer.trusted and by:
        headers.append(("Referred-By", f"<sip:{by}@{host}>"))
    if not referral.subscribes:
        headers.append(("Refer-Sub", "false"))
    _log.info("REFER passed on to %s", peer.name, extra={"call_id": leg.call.id, "leg": leg.name})
    PassedReferral(leg, event, other, headers, now)
    return True


def _number(leg: Leg, other: Leg, target: str, sender: Caller) -> str:
    """Return the number of a target within the other party's PBX, or ""."""
    core = leg.call.core
    target, gruu = core.admission.dialled(target)
    decision = decide(
        CallRequest(target, sender.proved, sender.asserted, sender.peer.default_group), core.policy
    )
    number = decision.number
    if number is None or gruu is not None or decision.call_class is not CallClass.INTERNAL:
        return ""  # one phone of this side is called by the gate alone
    here = core.registrations is not None and core.registrations.targets(number.number)
    through = [trunk.name for trunk in core.admission.routes.outbound(sender, decision).trunks]
    allowed = decision.treatment is Treatment.ALLOW and not here
    return number.number if allowed and other.party.peer.name in through else ""


def _consulted(leg: Leg, other: Leg, wanted: Replaces) -> tuple[str, Replaces | None]:
    """Return whom the transferor has called at the other party's PBX, and that dialog as its phone knows it;
    "": somebody else, or nobody."""
    found = find_replaced(leg.call.core, wanted)
    if found is None or wanted.early_only or not same_party(found.party, leg.party):
        return "", None
    consultation = found.call
    third = consultation.partner(found)
    internal = consultation.route.decision.call_class is CallClass.INTERNAL
    if consultation is leg.call or consultation.state is not CallState.TALKING or not internal:
        return "", None
    assert third is not None and third.dialog is not None  # noqa: S101, PT018  (they talk)
    party, dialog = third.party, third.dialog
    if party.peer.side is not Side.PBX or party.peer.name != other.party.peer.name:
        return "", None
    return party.number, Replaces(dialog.call_id, dialog.remote_tag, dialog.local_tag)


class _Asked(NamedTuple):
    """A request of one side, while the other side's answer is awaited."""

    method: str
    transaction: ServerTransaction | None = None
    """None: it is the gate's own."""
    last: bool = False
    """Nothing follows it."""
    granted: int = 0


class PassedReferral:
    """One REFER from its receipt to the last NOTIFY; the owner of what it sends."""

    __slots__ = (
        "_awaited",
        "_endpoint",
        "_event",
        "_heard",
        "_held",
        "_interval",
        "_leg",
        "_patience",
        "_referrals",
        "_status",
        "_theirs",
        "_told",
        "_until",
    )

    def __init__(
        self, leg: Leg, event: RequestReceived, other: Leg, headers: list[tuple[str, str]], now: float
    ) -> None:
        core, number = leg.call.core, event.request.cseq.number
        assert leg.dialog is not None and other.dialog is not None  # noqa: S101, PT018  (they talk)
        self._endpoint = leg.endpoint
        self._leg = leg
        self._referrals = core.referrals
        self._interval = core.config.subscriptions.interval
        self._event = EventType(REFER, str(number) if leg.referrals else "")
        leg.referrals += 1
        self._theirs = EventType(REFER)
        """How the party that was asked names the subscription."""
        self._status = 100
        self._held: list[tuple[SubscriptionState, _Asked]] = []
        """NOTIFYs that wait for the end of a BYE."""
        refer = self._endpoint.request(other.dialog, "REFER", headers=headers, now=now)
        refer.owner = self
        self._awaited: dict[object, _Asked] = {refer: _Asked("REFER", event.transaction)}
        self._told = Usage(leg.dialog, "SUBSCRIBE", number, self)
        self._heard = Usage(other.dialog, "NOTIFY", refer.cseq, self)
        for usage in (self._told, self._heard):
            self._referrals.enter(usage)
        self._patience = _PATIENCE * self._endpoint.config.t1
        self._until = now + max(self._patience, core.config.ring_timeout)
        """The target has answered by then, or is taken for one that never will: who only ever refreshes must
        not keep the two from another REFER without end."""
        self._referrals.lasts(self._heard, now + self._patience)

    @property
    def call(self) -> Call:
        """The call that the transferor is in, or was."""
        return self._leg.call

    # Requests -----------------------------------------------------------------------------------------------

    def request(self, event: RequestReceived, now: float) -> None:
        """Take a NOTIFY of the party that was asked, or a SUBSCRIBE of the one that asks."""
        try:
            if event.request.method == "NOTIFY":
                self._notified(event, now)
            else:
                self._subscribed(event, now)
        except RemoteProtocolError as error:
            self._endpoint.respond(event.transaction, error.status_hint, now=now)

    def _notified(self, event: RequestReceived, now: float) -> None:
        """Pass on how far the call has come: of the sipfrag the status alone, as the rest is the PBX's own
        affair."""
        said = SubscriptionState.of(event.request)
        self._theirs = EventType.of(event.request)
        self._status = sipfrag_status(event.request.body) or self._status
        last = said.status is SubscriptionStatus.TERMINATED
        left = self._interval.default if said.expires is None else min(said.expires, self._interval.longest)
        left = min(left, math.ceil(max(self._until - now, 0.0)))
        if last:
            state = SubscriptionState(said.status, reason=said.reason if is_token(said.reason) else "")
        else:
            state = SubscriptionState(said.status, left)
        self._referrals.lasts(self._heard, now + (self._patience if last else left))
        self._notify(state, _Asked("NOTIFY", event.transaction, last), now)

    def _notify(self, state: SubscriptionState, asked: _Asked, now: float) -> None:
        if self._told.dialog.ends_call:
            self._held.append((state, asked))
            return
        notify = self._endpoint.request(
            self._told.dialog,
            "NOTIFY",
            headers=(("Event", str(self._event)), ("Subscription-State", str(state))),
            body=sipfrag(self._status),
            content_type=SIPFRAG,
            now=now,
        )
        notify.owner = self
        self._awaited[notify] = asked

    def _subscribed(self, event: RequestReceived, now: float) -> None:
        if self._heard.dialog.ends_call:
            raise RemoteProtocolError("a BYE is under way", status_hint=491)
        granted = granted_to(event, self._interval, self._endpoint, now)
        if granted is None:
            return
        headers = (("Event", str(self._theirs)), ("Expires", str(granted)))
        subscribe = self._endpoint.request(self._heard.dialog, "SUBSCRIBE", headers=headers, now=now)
        subscribe.owner = self
        self._awaited[subscribe] = _Asked("SUBSCRIBE", event.transaction, granted=granted)

    def resume(self, now: float) -> None:
        """The call is over: nothing overtakes its BYE any more."""
        held, self._held = self._held, []
        for state, asked in held:
            self._notify(state, asked, now)

    def expired(self, now: float) -> None:
        """The party that was asked has said nothing more in time: so the other one hears."""
        state = SubscriptionState(SubscriptionStatus.TERMINATED, reason="timeout")
        self._notify(state, _Asked("NOTIFY", last=True), now)

    # Responses ----------------------------------------------------------------------------------------------

    def responded(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """Pass on the final response to what was passed on."""
        headers: list[tuple[str, str]] = []
        asked = self._awaited.pop(transaction, None)
        if asked is None:
            return
        if asked.method == "SUBSCRIBE":
            said = delta_seconds(response.headers.get("Expires"))
            headers = [("Expires", str(asked.granted if said is None else min(said, asked.granted)))]
        elif asked.method == "REFER" and _is_unsubscribed(response):
            headers, asked = [("Refer-Sub", "false")], asked._replace(last=True)
        self._answer(asked, response.status, headers, now)

    def unanswered(self, transaction: object, now: float) -> None:
        """There is no final response."""
        asked = self._awaited.pop(transaction, None)
        if asked is not None:
            self._answer(asked, 0, [], now)

    def _answer(self, asked: _Asked, status: int, headers: list[tuple[str, str]], now: float) -> None:
        over = asked.last
        if not 200 <= status < 300:
            headers = []
            # What the one side does not know any more, the other need not go on with (RFC 6665 §4.1.2.2).
            lost = asked.method == "NOTIFY" or (asked.method == "SUBSCRIBE" and status == 481)
            over = over or lost or asked.method == "REFER"
            status = 481 if lost else status_for_asker(status)
        if asked.transaction is not None:
            self._endpoint.respond(asked.transaction, status, headers=headers, now=now)
        if over:
            self._end(now)

    def _end(self, now: float) -> None:
        """Carry nothing more between the two."""
        for usage in (self._told, self._heard):
            self._referrals.leave(usage)
        for asked in (*self._awaited.values(), *(asked for _, asked in self._held)):
            if asked.transaction is not None:
                self._endpoint.respond(asked.transaction, 481, now=now)
        self._awaited.clear()
        self._held.clear()


def _is_unsubscribed(response: Response) -> bool:
    """Tell whether no subscription comes of a REFER (RFC 4488 §4)."""
    return (response.headers.get("Refer-Sub") or "").partition(";")[0].strip().lower() == "false"

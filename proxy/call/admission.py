"""Who may place which call: an INVITE from outside any dialog becomes a call, a refusal or a challenge
(DESIGN 1.1-1.4, 1.9).

A caller is found by address, by digest, or not at all; the policy decides; the route table says where the
call goes. Whatever is refused has its record too; strangers are only challenged and leave none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from proxy.call.a_leg import ALeg
from proxy.call.call import Call
from proxy.call.config import GateConfig, Peer, Side, Trunk
from proxy.call.headers import is_unknown_privacy_critical
from proxy.call.identity import (
    Authenticator,
    Challenge,
    PeerTable,
    asserted_caller,
    registered_user,
    unproved_caller,
)
from proxy.call.leg import Leg
from proxy.call.media_security import MediaSecurity
from proxy.call.origin import Origin
from proxy.call.outcome import cause_of_status, reason_header
from proxy.call.ports import CallEvent, JournalRecord
from proxy.call.routing import Caller, Route, RouteTable
from proxy.call.takeover import Takeover, find_place
from proxy.cdr.builder import RecordBuilder
from proxy.cdr.record import Direction, Disposition, HungUpBy
from proxy.errors import RemoteProtocolError
from proxy.policy import (
    CallClass,
    CallRequest,
    Decision,
    NumberRefused,
    Treatment,
    User,
    decide,
)
from proxy.sip.events import RequestReceived
from proxy.sip.flow import Flow
from proxy.sip.gruu import Gruu
from proxy.sip.inspection import Refusal
from proxy.sip.message import Request
from proxy.sip.replaces import replaces_of
from proxy.sip.uri import Uri

if TYPE_CHECKING:
    from proxy.call.core import CallCore

__all__ = ["Admission", "describe"]

_log = logging.getLogger(__name__)


class Admission:
    """Lets calls in."""

    __slots__ = ("_authenticator", "_core", "_local_peer", "_peers", "_record_ids", "_wall_clock", "routes")

    def __init__(
        self,
        core: CallCore,
        authenticator: Authenticator | None,
        *,
        wall_clock: Callable[[], datetime],
        record_ids: Callable[[], str],
    ) -> None:
        self._core = core
        self._authenticator = authenticator
        self._wall_clock = wall_clock
        self._record_ids = record_ids
        self.reconfigure(core.config)

    def reconfigure(self, config: GateConfig) -> None:
        """Take a new configuration."""
        self._peers = PeerTable(config)
        self.routes = RouteTable(config)
        self._local_peer = config.phones or Peer("local", Side.PHONES, trusted=False)

    def invite(self, event: RequestReceived, now: float) -> None:
        """Find out who calls whom, decide, and begin the call or refuse it."""
        invite = event.request
        peer = self._peers.find(event.flow)
        if peer is None or peer.side is Side.PHONES:
            caller = self._stranger(event, now)
        else:
            caller = asserted_caller(peer, invite)
        if caller is None or self._takes_over(event, caller, now):
            return
        if caller.peer.side is Side.TRUNK:
            self._inbound(event, caller, now)
        else:
            self._outbound(event, caller, now)

    def _takes_over(self, event: RequestReceived, caller: Caller, now: float) -> bool:
        """Let a caller take the place of a party of a call if its INVITE says so; True: that is all.

        Who calls for help calls for help, whatever else the INVITE says.
        """
        invite = event.request
        if "Replaces" not in invite.headers or event.refusal is not None:
            return False
        if caller.peer.side is not Side.TRUNK and self._is_for_help(invite.uri):
            return False
        try:
            replaces = replaces_of(invite.headers)
            place = 400 if replaces is None else find_place(self._core, replaces, caller)
        except RemoteProtocolError as error:
            place = error.status_hint
        if isinstance(place, Leg):
            takeover = Takeover.of(place, caller, now)
            takeover.begin(self._leg(takeover.segment, event), now)
        else:
            dialled = self._core.policy.normalise(invite.uri).dialled
            decision = Decision(Treatment.BLOCK, "no call of its own to be taken over", dialled)
            record = self._record(event, caller, decision, now)
            self._refuse(event, record, Disposition.REJECTED, place, now)
        return True

    def _outbound(self, event: RequestReceived, caller: Caller, now: float) -> None:
        """Decide about a call of a user or a PBX."""
        invite = event.request
        dialled, gruu = self.dialled(invite.uri)
        # Who is not proved calls for help, for which all are equal: the user is for the record then.
        name = caller.proved or caller.registered
        asked = CallRequest(dialled, name, caller.asserted, caller.peer.default_group)
        decision = decide(asked, self._core.policy)
        record = self._record(event, caller, decision, now)
        refusal = event.refusal or _unmet_privacy(invite)
        if refusal is not None and not decision.emergency:
            self._refuse_unfit(event, refusal, record, now)
            return
        if self._core.loops.is_loop(invite.headers):
            self._refuse(event, record, Disposition.REJECTED, 482, now)
            return
        if decision.treatment is Treatment.BLOCK and not self.names_nobody(gruu):
            status = decision.status_hint
            self._refuse(event, record, Disposition.BLOCKED, status, now)
            return
        if decision.asks and self._core.desk.is_locked(record):
            decision = _without_asking(decision, record)
            if decision.treatment is Treatment.BLOCK:
                self._refuse(event, record, Disposition.CODE_REFUSED, 403, now)
                return
        route = self.route(caller, decision, record, gruu)
        if route is None:
            self._refuse_unreachable(event, record, now)
        elif not decision.emergency and (status := self._unavailable):
            self._refuse(event, record, Disposition.OVERLOADED, status, now)
        elif not self._core.limits.admit(record, decision, now):
            self._refuse(event, record, Disposition.BLOCKED, 403, now)
        else:
            self._begin(event, route, record, now)

    def dialled(self, uri: str) -> tuple[str, Gruu | None]:
        """Return what a URI dials, and the phone of that user if it is a GRUU (RFC 5627 §5.4).

        An emergency number is none, whatever stands behind it.
        """
        registrations = self._core.registrations
        if registrations is None or ";gr" not in uri.lower():
            return uri, None
        gruu = registrations.gruu(Uri.parse(uri))
        return (uri, None) if gruu is None or self._is_for_help(uri) else (gruu.user, gruu)

    def names_nobody(self, gruu: Gruu | None) -> bool:
        """Say whether a GRUU was not made here, or its user is no more."""
        return gruu is not None and gruu.user not in self._core.policy.users

    def _is_for_help(self, uri: str) -> bool:
        """Say whether an emergency number is called, as far as a policy that may be broken can tell."""
        return decide(CallRequest(uri), self._core.policy).emergency

    def route(
        self, caller: Caller, decision: Decision, record: RecordBuilder, gruu: Gruu | None = None
    ) -> Route | None:
        """Return where a call of somebody on this side goes; None: there is nobody at that number, or not
        the one phone that is wanted."""
        route = self.routes.outbound(caller, decision)
        if route.direction is Direction.INTERNAL:
            record.direction = Direction.INTERNAL
            callee = "" if decision.number is None else decision.number.number
            found = self._to_user(caller, decision, record, callee)
            if found is None and not route.trunks:
                return None
            route = found or route
        return route if gruu is None else _to_one_phone(route, gruu)

    def _stranger(self, event: RequestReceived, now: float) -> Caller | None:
        """Let a caller without a trusted address prove who it is; None: it was challenged instead."""
        invite, flow = event.request, event.flow
        challenge: tuple[tuple[str, str], ...] = ()
        if self._authenticator is not None and self._core.config.phones is not None:
            try:
                found = self._authenticator.authenticate(invite, flow, self._core.policy, now)
            except Exception:  # noqa: BLE001  (a broken policy must not stop an emergency call)
                _log.exception("nobody can prove who calls")
                found = Challenge(())
            if not isinstance(found, Challenge):
                return Caller(self._core.config.phones, "", found.name, proved=found.digest_name)
            if found.known is not None:
                return self._in_need(invite, flow, found.known)
            challenge = found.headers
        here = self._peers.is_local(flow) or self._has_phone_at(flow.remote_host)
        if here and self._is_for_help(invite.uri):
            return self._in_need(invite, flow)
        # Nobody may learn here whether a user or a number exists: one answer for everything.
        status = 401 if challenge else 403
        self._core.endpoint.reject_stateless(event.transaction, status, headers=challenge)
        return None

    def _in_need(self, invite: Request, flow: Flow, user: User | None = None) -> Caller:
        """Say who calls for help without a right to call, as far as its password or its address tells."""
        core, callback = self._core, ""
        try:
            if user is None and core.registrations is not None:
                bindings = core.registrations.registered_from(flow.remote_host)
                user = registered_user(bindings, flow, invite, core.policy)
            callback = core.policy.caller_e164(core.config.callback, None)
        except Exception:  # noqa: BLE001  (a broken policy must not stop an emergency call)
            _log.exception("nobody can tell who calls for help")
        return unproved_caller(self._local_peer, invite, user, callback)

    def _inbound(self, event: RequestReceived, caller: Caller, now: float) -> None:
        """Pass a call from a trunk to the PBX or phone behind the gate (DESIGN 1.9)."""
        did, gruu = self.dialled(event.request.uri)
        if gruu is None or self.names_nobody(gruu):
            # Where no user has it, it may well be one of the PBX's own (RFC 5627 §4.1).
            did, gruu = self.routes.called(event.request, caller.peer.name), None
        number = self._core.policy.normalise(did)
        known = None if isinstance(number, NumberRefused) or number.emergency else number
        decision = Decision(Treatment.ALLOW, "calls from a trunk are not gated", number.dialled or did, known)
        record = self._record(event, caller, decision, now)
        record.direction = Direction.INBOUND
        route = self._inbound_route(caller, decision, record, did, gruu) if did else None
        if event.refusal is not None:
            self._refuse_unfit(event, event.refusal, record, now)
        elif self._core.loops.is_loop(event.request.headers):
            self._refuse(event, record, Disposition.REJECTED, 482, now)
        elif route is None:
            self._refuse_unreachable(event, record, now)
        elif status := self._unavailable or (503 if self._core.load.is_full(caller.peer.name) else 0):
            self._refuse(event, record, Disposition.OVERLOADED, status, now)
        else:
            self._begin(event, route, record, now)

    def _inbound_route(
        self, caller: Caller, decision: Decision, record: RecordBuilder, did: str, gruu: Gruu | None
    ) -> Route | None:
        """Find whose number it is: by the DID routes, the only PBX, or the users' own numbers; or the one
        phone that a GRUU names."""
        if gruu is not None:
            route = self._to_user(caller, decision, record, gruu.user)
            return None if route is None else _to_one_phone(route, gruu)
        callee = self.routes.did_user(did)
        if not callee:
            user = self._core.policy.user_by_caller(did)
            if user is not None:
                callee = record.destination_user = user.extension
            route = self.routes.inbound(caller, decision, did)
            if route is not None:
                return route
        return self._to_user(caller, decision, record, callee)

    def _to_user(
        self, caller: Caller, decision: Decision, record: RecordBuilder, callee: str
    ) -> Route | None:
        """Route a call to the phones of a user; None when there is no such user, or no phone of it."""
        if callee not in self._core.policy.users:
            return None
        record.destination_user = callee
        phones = () if self._core.registrations is None else self._core.registrations.targets(callee)
        return self.routes.to_phones(caller, decision, record.direction, callee, phones)

    def callee_of(self, route: Route, trunk: Trunk) -> Caller:
        """Say who is at the other end of a B leg, as if it called: for what it asks for within the call."""
        line = self._core.config.phones
        if route.callee and line is not None:
            user = self._core.policy.users.get(route.callee)
            return Caller(line, "", "", proved=route.callee) if user is None else _of_user(line, user)
        number = route.user or ("" if route.decision.number is None else route.decision.number.number)
        return Caller(self.routes.peer_of(trunk), number, "", asserted=f"sip:{number}@{trunk.host}")

    def named(self, caller: Caller, decision: Decision) -> Caller:
        """Give a phone the number by which it is known where the call goes: another user answers for it."""
        user = None if caller.proved is None else self._core.policy.user_by_digest_name(caller.proved)
        if user is None or caller.number:
            return caller
        inside = decision.call_class is CallClass.INTERNAL
        return replace(caller, number=user.extension if inside else user.outside_number)

    def _refuse_unreachable(self, event: RequestReceived, record: RecordBuilder, now: float) -> None:
        """Refuse a call to a user without a phone (480), or to nobody at all (404)."""
        if record.destination_user:
            self._refuse(event, record, Disposition.NO_ANSWER, 480, now)
        else:
            self._refuse(event, record, Disposition.REJECTED, 404, now)

    def _has_phone_at(self, host: str) -> bool:
        return self._core.registrations is not None and self._core.registrations.bound_from(host)

    @property
    def _unavailable(self) -> int:
        """Status that refuses whoever is no emergency call, or 0."""
        if self._core.draining or len(self._core.calls) >= self._core.config.max_calls:
            return 503
        return 0 if self._core.recording else 500

    def _begin(self, event: RequestReceived, route: Route, record: RecordBuilder, now: float) -> None:
        invite = event.request
        origin = Origin(invite, (self._core.loops.mark(invite.headers, record.record_id),))
        call = Call(self._core, route, record, origin, now)
        self._core.calls[call.id] = call
        if _log.isEnabledFor(logging.INFO):
            _log.info("call begins: %s", route.decision.treatment, extra={"call_id": call.id, "leg": "a"})
        self._core.tell(CallEvent.STARTED, record, now)
        call.start(self._leg(call, event), now)

    def _leg(self, call: Call, event: RequestReceived) -> ALeg:
        peer = call.route.peer
        security = MediaSecurity(peer.srtp, self._core.srtp_keys, emergency=call.route.emergency)
        return ALeg(call, self._core.endpoint, event, latching=peer.latching, security=security)

    def _record(
        self, event: RequestReceived, caller: Caller, decision: Decision, now: float
    ) -> RecordBuilder:
        record = self.record_of(caller, decision, now)
        record.a_call_id = event.request.call_id
        record.source_address = event.flow.source
        return record

    def record_of(self, caller: Caller, decision: Decision, now: float) -> RecordBuilder:
        """Begin the record of a call."""
        record = RecordBuilder(self._record_ids(), start_time=self._wall_clock().timestamp(), now=now)
        record.peer = caller.peer.name if caller.peer.side is not Side.PHONES else ""
        user = decision.user
        record.caller_number = caller.claimed or caller.number or (user.extension if user is not None else "")
        record.caller_name = caller.name
        record.caller_e164 = self._e164_of(caller, user)
        record.location = self._core.config.site
        if user is not None:
            record.user = user.extension
        if decision.group is not None:
            record.group = decision.group.name
        describe(record, decision)
        if caller.claimed:
            record.reason += "; nobody has proved the caller, its number is what it claims"
        return record

    def _e164_of(self, caller: Caller, user: User | None) -> str:
        """Return the caller's number for the record: it is not worth a call, for help least of all."""
        try:
            return self._core.policy.caller_e164(caller.number, user)
        except Exception:  # noqa: BLE001  (a broken policy must not stop an emergency call)
            _log.exception("the caller's number can't be read")
            return ""

    def _refuse_unfit(
        self, event: RequestReceived, refusal: Refusal, record: RecordBuilder, now: float
    ) -> None:
        """Refuse an INVITE as RFC 3261 §8.2 wants it. Emergency calls are placed all the same."""
        what = Disposition.NOT_ACCEPTABLE if refusal.status == 415 else Disposition.REJECTED
        self._refuse(event, record, what, refusal.status, now, headers=refusal.headers)

    def _refuse(
        self,
        event: RequestReceived,
        record: RecordBuilder,
        what: Disposition,
        status: int,
        now: float,
        *,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Refuse an INVITE at once; it has its record like any other call."""
        if _log.isEnabledFor(logging.INFO):
            _log.info(
                "call refused with %d: %s; %s",
                status,
                what.value,
                record.reason,
                extra={"call_id": record.record_id, "leg": "a"},
            )
        cause = cause_of_status(status)
        record.ended(what, now=now, sip_code=status, q850_cause=cause, hung_up_by=HungUpBy.GATE)
        self._core.emit(JournalRecord(record.final(now=now)))
        headers = (reason_header(cause), *headers)
        self._core.endpoint.respond(event.transaction, status, headers=headers, now=now)


def _of_user(line: Peer, user: User) -> Caller:
    return Caller(line, "", user.name, proved=user.digest_name)


def _unmet_privacy(invite: Request) -> Refusal | None:
    """Refuse a call whose privacy is critical, of a kind that is not known here (RFC 3323 §5)."""
    values = invite.headers.get_all("Privacy")
    return Refusal(500) if values and is_unknown_privacy_critical(values) else None


def _without_asking(decision: Decision, record: RecordBuilder) -> Decision:
    """Decide about a caller who may enter no code: it goes without one, or not at all."""
    if decision.treatment is Treatment.REQUIRED_CODE:
        record.decision = "block"
        record.reason = "the caller is locked after too many wrong codes"
        return replace(decision, treatment=Treatment.BLOCK)
    record.reason = "the caller is locked after too many wrong codes, so it is not asked for the optional one"
    return replace(decision, treatment=Treatment.ALLOW)


def _to_one_phone(route: Route, gruu: Gruu) -> Route | None:
    """Leave of a user's phones the one that a GRUU names; None when it is not registered (RFC 5627 §5.4)."""
    groups = [tuple(binding for binding in group if gruu.names(binding)) for group in route.phones]
    phones = tuple(group for group in groups if group)
    return replace(route, phones=phones) if phones else None


def describe(record: RecordBuilder, decision: Decision) -> None:
    """Write down what was decided, and about what."""
    number = decision.number
    record.dialled_number = decision.dialled
    record.treatment = decision.treatment.value
    record.decision = "block" if decision.treatment is Treatment.BLOCK else "allow"
    record.reason = decision.reason
    record.emergency = decision.emergency
    if number is not None:
        record.normalised_number = number.number
        record.call_class = number.call_class.value

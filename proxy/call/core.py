"""The call core: every call of the process, fed with SIP events, answers and time, without any I/O.

After each input the driver drains the endpoint's transmits and `commands()`, then re-arms its timer from
`next_timer()`. The core drives the endpoint directly; whatever else it wants is a command of
`proxy.call.ports` (DESIGN contract 1).
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import count

from proxy.call import heard_keys
from proxy.call.a_leg import ALeg
from proxy.call.admission import Admission, describe
from proxy.call.b_leg import BLeg
from proxy.call.call import Call
from proxy.call.code_desk import CodeDesk
from proxy.call.code_uses import CodeUses
from proxy.call.config import GateConfig, Trunk
from proxy.call.forwarding import follow, follow_further
from proxy.call.identity import Authenticator
from proxy.call.leg import Leg
from proxy.call.limits import CallCounts
from proxy.call.loops import LoopGuard
from proxy.call.mailboxes import Mailbox
from proxy.call.media_leg import MediaLeg
from proxy.call.media_security import no_keys
from proxy.call.outcome import Ending
from proxy.call.passed_refer import PassedReferral
from proxy.call.ports import (
    Answer,
    CallEvent,
    Command,
    DigitHeard,
    LegId,
    MediaLatched,
    MediaLegClosed,
    MediaLegOpened,
    MediaLegRefused,
    MediaResumed,
    MediaTimedOut,
    PromptsFinished,
    RecordDurable,
    TellOfCall,
)
from proxy.call.refer_notifier import ReferNotifier
from proxy.call.referrals import Referrals
from proxy.call.registrations import Registrations
from proxy.call.routing import Hop, Route, pbxs_of
from proxy.call.state import CallState
from proxy.call.subscription import Subscription
from proxy.call.subscriptions import Subscriptions
from proxy.call.transfer import referred
from proxy.call.trunk_accounts import TrunkAccounts, TrunkRegistration
from proxy.call.trunk_load import TrunkLoad
from proxy.call.trunk_watch import Probe, TrunkWatch
from proxy.cdr.builder import RecordBuilder
from proxy.cdr.record import Direction, RecordPhase
from proxy.errors import LocalProtocolError
from proxy.policy import Decision, DialledNumber, Snapshot, Treatment
from proxy.sdp import KeySource
from proxy.sip.endpoint import Endpoint
from proxy.sip.events import (
    AckReceived,
    AckTimedOut,
    CallEnded,
    Cancelled,
    ConnectionLost,
    DialogEnded,
    Event,
    PrackTimedOut,
    RequestFailed,
    RequestReceived,
    RequestTimedOut,
    ResponseReceived,
)
from proxy.sip.message import Response
from proxy.sip.timers import NEVER

__all__ = ["CallCore", "LiveCall"]

_log = logging.getLogger(__name__)

_OfTransaction = Cancelled | PrackTimedOut | ResponseReceived | RequestTimedOut | RequestFailed

_Requester = TrunkRegistration | Subscription | Mailbox | ReferNotifier | PassedReferral
"""What sends requests of its own besides calls, and takes what comes of them."""


@dataclass(frozen=True, slots=True)
class LiveCall:
    """One call as `tollgate calls` shows it. Of a code only the description is told."""

    call_id: str
    caller: str
    user: str
    dialled: str
    state: str
    since: float
    """When the state was entered, in seconds of the core's clock."""
    direction: str
    code_description: str
    emergency: bool
    destination_user: str
    """Extension of the user who is called, or ""."""
    group: str
    location: str
    """Where an emergency call comes from, as far as it is known."""
    started_at: float
    """When the call came, in UTC seconds since the epoch."""
    caller_e164: str


class CallCore:
    """All calls of one gate.

    ``wall_clock`` gives the site's local time (aware), ``record_ids`` a new unique, sortable record id;
    both are the composition root's, as the core reads no clock and makes no randomness.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        config: GateConfig,
        policy: Snapshot,
        *,
        wall_clock: Callable[[], datetime],
        record_ids: Callable[[], str],
        authenticator: Authenticator | None = None,
        registrations: Registrations | None = None,
        srtp_keys: KeySource = no_keys,
        loop_key: bytes,
    ) -> None:
        self.endpoint = endpoint
        self.srtp_keys = srtp_keys
        """Random octets for the keys of SRTP."""
        self.loops = LoopGuard(loop_key)
        """Knows calls of this gate that come back."""
        self.uses = CodeUses()
        self.calls: dict[str, Call] = {}
        """By record id."""
        self.media: dict[LegId, tuple[Call, MediaLeg]] = {}
        """Every port pair that is held or asked for."""
        self.draining = False
        """New calls get 503; emergency calls don't."""
        self.recording = True
        """Records reach the disk. While they don't, new calls get 500; emergency calls don't."""
        self.telling = False
        """Somebody wants to hear of calls as they happen (`TellOfCall`)."""
        self._policy = policy
        self.registrations = registrations
        """None: no phone can register."""
        self._commands: list[Command] = []
        self._timers: list[tuple[float, int, Call]] = []
        self._serial = count()
        self._leg_ids = count(1)
        self.load = TrunkLoad()
        """How many calls each trunk carries."""
        self.accounts = TrunkAccounts(endpoint)
        """Who the gate is to its trunks."""
        self.watch = TrunkWatch(endpoint, self.accounts.usable)
        """Which trunks answer."""
        self.referrals = Referrals(endpoint)
        """What REFERs have subscribed to."""
        self.subscriptions: Subscriptions | None = None
        """None: nobody can subscribe to anything."""
        if authenticator is not None:
            self.subscriptions = Subscriptions(endpoint, authenticator, self.accounts, registrations)
        self.emit: Callable[[Command], None] = self._commands.append
        """Leave a command for the world."""
        self.config = config
        self.desk = CodeDesk(self, wall_clock)
        """Judges code entries."""
        self.limits = CallCounts(self)
        """Bounds what calls may come to."""
        self.admission = Admission(self, authenticator, wall_clock=wall_clock, record_ids=record_ids)
        """Lets calls in."""
        self.reconfigure(config)

    # The world's inputs -------------------------------------------------------------------------------------

    def reconfigure(self, config: GateConfig) -> None:
        """Take a new configuration; calls that are under way keep theirs."""
        self.config = config
        self.accounts.reconfigure(config.trunks, config.peers)
        self.watch.reconfigure(config.trunks, pbxs_of(config))
        self.load.reconfigure(config.trunks)
        if self.subscriptions is not None:
            self.subscriptions.reconfigure(config)
        self.admission.reconfigure(config)
        self.desk.guard.reconfigure(config.guessing)

    @property
    def policy(self) -> Snapshot:
        """The policy that decides."""
        return self._policy

    @policy.setter
    def policy(self, policy: Snapshot) -> None:
        if self.registrations is not None and policy.users is not self._policy.users:
            self.registrations.retain({user.extension for user in policy.users.values() if user.enabled})
        if self.subscriptions is not None and policy.users is not self._policy.users:
            self.subscriptions.policy_changed(policy)
        self._policy = policy
        self.desk.policy_changed(policy)

    def commands(self) -> list[Command]:
        """Take what is to be done outside, in order."""
        taken = self._commands
        if not taken:
            return []
        self._commands = []
        self.emit = self._commands.append
        return taken

    def handle_sip(self, event: Event, now: float) -> None:
        """Take one event of the endpoint."""
        if isinstance(event, ResponseReceived):
            owner = event.transaction.owner
            if isinstance(owner, BLeg) and owner.transaction is event.transaction:
                owner.responded(event.response, event.dialog, now, event.rack)
            elif isinstance(owner, Leg):
                owner.responded_within(event, now)
            elif isinstance(owner, Probe) and event.response.status >= 200:
                owner.answered(event.response.status, now)
            elif isinstance(owner, _Requester) and event.response.status >= 200:
                owner.responded(event.transaction, event.response, now)
        elif isinstance(event, RequestReceived):
            self._request(event, now)
        elif isinstance(event, RequestTimedOut | RequestFailed):
            self._unanswered(event, now)
        elif isinstance(event, Cancelled | PrackTimedOut):
            _of_invite(event, now)
        elif isinstance(event, ConnectionLost):
            if self.registrations is not None:
                self.registrations.connection_lost(event.flow.connection)
            if self.subscriptions is not None:
                self.subscriptions.connection_lost(event.flow.connection, now)
        else:
            self._in_dialog(event, now)

    def _unanswered(self, event: RequestTimedOut | RequestFailed, now: float) -> None:
        owner = event.transaction.owner
        if isinstance(owner, BLeg) and owner.transaction is event.transaction:
            owner.unreachable(408 if isinstance(event, RequestTimedOut) else 503, now)
        elif isinstance(owner, ALeg) and owner.transaction is event.transaction:
            owner.transport_lost(now)
        elif isinstance(owner, Leg):
            owner.unanswered_within(event.transaction, now, reached=isinstance(event, RequestTimedOut))
        elif isinstance(owner, Probe):
            owner.failed(now)
        elif isinstance(owner, _Requester):
            owner.unanswered(event.transaction, now)

    def _in_dialog(self, event: AckReceived | AckTimedOut | DialogEnded | CallEnded, now: float) -> None:
        leg = event.dialog.owner
        if isinstance(event, CallEnded):
            self.referrals.call_ended(event.dialog, now)
        elif isinstance(leg, Leg):
            if isinstance(event, AckReceived):
                leg.acked(event, now)
            elif isinstance(event, AckTimedOut):
                leg.ack_timed_out(now)
            else:
                leg.dialog_ended(event.dialog, now)
                event.dialog.owner = None

    def handle_answer(self, answer: Answer, now: float) -> None:
        """Take one answer of the media engine or the journal."""
        if isinstance(answer, RecordDurable):
            answered = self.calls.get(answer.record_id)
            if answered is not None:
                answered.answer_recorded(answer.durable, now)
            return
        found = self.media.get(answer.leg)
        if found is None:
            return
        call, media = found
        if isinstance(answer, DigitHeard):
            leg = call.sides.leg_of(media)
            if leg is not None and media.listening:
                heard_keys.pressed(leg, answer.digit, answer.means, now, answer.duration_ms)
        elif isinstance(answer, MediaLegOpened):
            call.media_opened(answer, media, now)
        elif isinstance(answer, PromptsFinished):
            if media.finished(answer.play):
                call.prompts_finished(now)
        elif isinstance(answer, MediaLegClosed):
            del self.media[answer.leg]
            call.media_closed(media, answer.statistics, now)
        elif isinstance(answer, MediaLegRefused):
            del self.media[answer.leg]
            _log.warning("no media ports: %s", answer.reason, extra={"call_id": call.id, "leg": "a"})
            call.media_refused(answer, media, now)
        else:
            _note_silence(call, media, answer, now)

    def handle_timer(self, now: float) -> None:
        """Run what is due."""
        for room in (self.registrations, self.subscriptions, self.referrals, self.accounts, self.watch):
            if room is not None:
                try:
                    room.handle_timer(now)
                except Exception:  # noqa: BLE001  (calls have timers too)
                    _log.exception("a timer of %s failed", type(room).__name__)
        timers = self._timers
        while timers and timers[0][0] <= now:
            at, _, call = heapq.heappop(timers)
            if at != call.armed_at:
                continue
            call.armed_at = NEVER
            if call.deadline <= now:
                try:
                    call.handle_timer(now)
                except Exception:  # noqa: BLE001  (a bug costs one call)
                    _log.exception(
                        "a timer failed; its call is ended", extra={"call_id": call.id, "leg": "a"}
                    )
                    self._break_off(call, now)
            elif call.deadline != NEVER:
                self.arm(call)

    def next_timer(self) -> float | None:
        """Return when `handle_timer` is to be called next."""
        timers = self._timers
        while timers and (timers[0][2].deadline == NEVER or timers[0][0] != timers[0][2].armed_at):
            at, _, call = heapq.heappop(timers)
            if at == call.armed_at:
                call.armed_at = NEVER
        at = timers[0][0] if timers else NEVER
        phones_at = None if self.registrations is None else self.registrations.next_timer()
        if phones_at is not None and phones_at < at:
            at = phones_at
        if self.subscriptions is not None:
            at = min(at, self.subscriptions.next_timer())
        at = min(at, self.referrals.next_timer(), self.watch.due, self.accounts.next_timer())
        return None if at == NEVER else at

    def abandon(self, cause: Event | Answer, now: float) -> None:
        """End the call that ``cause`` belongs to, whose handling raised: a bug costs one call, not the
        gate."""
        call = self._call_of(cause)
        if call is not None:
            self._break_off(call, now)
        elif isinstance(cause, RequestReceived) and not cause.transaction.answered:
            try:
                self.endpoint.respond(cause.transaction, 500, now=now)
            except Exception:  # noqa: BLE001
                _log.exception("a call could not be ended in order")

    def _break_off(self, call: Call, now: float) -> None:
        """End a call that is broken; whatever is wrong with it, the others go on."""
        try:
            call.break_off(now)
        except Exception:  # noqa: BLE001
            _log.exception("a call could not be ended in order")
            call.deadline = NEVER
            for leg in [leg for leg, (owner, _) in self.media.items() if owner is call]:
                self.media.pop(leg)[1].close()
            self.forget(call)

    def _call_of(self, cause: Event | Answer) -> Call | None:
        if isinstance(cause, ConnectionLost | CallEnded):
            return None
        if isinstance(cause, RecordDurable):
            return self.calls.get(cause.record_id)
        if isinstance(cause, AckReceived | AckTimedOut | DialogEnded):
            owner = cause.dialog.owner
        elif isinstance(cause, RequestReceived):
            owner = cause.transaction.owner if cause.dialog is None else cause.dialog.owner
        elif isinstance(cause, _OfTransaction):
            owner = cause.transaction.owner
        else:
            found = self.media.get(cause.leg)
            return None if found is None else found[0]
        return owner.call if isinstance(owner, Leg | ReferNotifier | PassedReferral) else None

    # Requests -----------------------------------------------------------------------------------------------

    def _request(self, event: RequestReceived, now: float) -> None:
        dialog = event.dialog
        if dialog is not None:
            if dialog.for_calls and event.request.method in {"NOTIFY", "SUBSCRIBE"}:
                self.referrals.request(event, dialog, now)
            elif isinstance(dialog.owner, Leg) and event.request.method == "REFER":
                referred(dialog.owner.call, dialog.owner, event, now)
            elif isinstance(dialog.owner, Leg | Subscription | Mailbox):
                dialog.owner.request(event, now)
            else:
                self.endpoint.respond(event.transaction, 481, now=now)
        elif event.request.method == "INVITE":
            self.admission.invite(event, now)
        elif event.request.method == "OPTIONS":
            # Anybody may ask (§11.2), so nothing is kept for it.
            self.endpoint.reject_stateless(event.transaction, 200, headers=self.endpoint.capabilities)
        elif event.request.method == "REGISTER" and self.registrations is not None:
            self.registrations.request(event, self._policy, now)
        elif event.request.method == "REFER":
            # Only who is in a call may send its other party elsewhere.
            self.endpoint.reject_stateless(event.transaction, 403)
        elif event.request.method == "SUBSCRIBE" and self.subscriptions is not None:
            self.subscriptions.request(event, self._policy, now)
        elif event.request.method == "NOTIFY" and self.subscriptions is not None:
            self.subscriptions.mailboxes.pushed(event, self._policy, now)
        else:
            # MESSAGE and the like outside a dialog (§8.2.1; §20.5: with Allow). Without phones SUBSCRIBE and
            # NOTIFY are taken within the dialogs of calls alone.
            allow = ("Allow", ", ".join(self.endpoint.config.allow))
            self.endpoint.reject_stateless(event.transaction, 405, headers=(allow,))

    # What calls ask for -------------------------------------------------------------------------------------

    @property
    def line(self) -> Trunk | None:
        """How phones are spoken with as callees."""
        return self.admission.routes.line

    def open_media(self, call: Call, *, ipv6: bool, emergency: bool) -> MediaLeg:
        """Ask for a port pair."""
        leg = LegId(next(self._leg_ids))
        media = MediaLeg(leg, self, self.endpoint.config.inside, ipv6=ipv6, emergency=emergency)
        self.media[leg] = (call, media)
        return media

    def forwarded(self, call: Call, leg: BLeg, response: Response, *, rang: bool, now: float) -> bool:
        """Let a call go on where a phone sends it by a 3xx; False: it may not."""
        return follow(call, leg, response, rang=rang, now=now)

    def forwarded_further(self, call: Call, ending: Ending, now: float) -> bool:
        """Let a forwarded call that has failed go on to the next contact of the 3xx; False: it may not."""
        return follow_further(call, ending, now)

    def media_moved(self, call: Call, legs: tuple[MediaLeg, ...]) -> None:
        """Let a call have the port pairs of another one."""
        self.media.update({media.id: (call, media) for media in legs if not media.gone})

    def tell(self, event: CallEvent, record: RecordBuilder, now: float) -> None:
        """Tell of a call, if anybody wants to hear it. No call is lost to the telling."""
        if self.telling:
            try:
                self.emit(TellOfCall(event, record.snapshot(RecordPhase.SETUP, now=now)))
            except Exception:  # noqa: BLE001
                _log.exception("a call is not told of", extra={"call_id": record.record_id, "leg": "a"})

    def emergency_route(self, call: Call, number: DialledNumber) -> Route:
        """Turn a call into the emergency call that was dialled instead of a code."""
        was = call.route.decision
        decision = Decision(
            Treatment.ALLOW,
            "an emergency number was dialled as a code",
            number.dialled,
            number,
            was.user,
            was.group,
        )
        describe(call.record, decision)
        call.record.direction = Direction.OUTBOUND
        return self.admission.routes.outbound(call.route.caller, decision)

    def hops(self, route: Route, ranks: Iterable[Collection[str]], now: float) -> Iterator[Hop]:
        """Return the attempts in order, trunks that take codecs of the first rank before others; emergency
        calls alone go to those that take none of any rank, and to those that are full."""
        left = route.trunks
        for codecs in ranks:
            trunks = [trunk for trunk in left if any(codec in trunk.codecs for codec in codecs)]
            left = tuple(trunk for trunk in left if trunk not in trunks)
            for hop in self.watch.arrange(trunks, now):
                if route.emergency or not self.load.is_full(hop.trunk.name):
                    yield hop
        if route.emergency:
            yield from self.watch.arrange(left, now)

    def call_changed(self, call: Call) -> None:
        """Tell those who watch the call's users that it has entered another state."""
        if self.subscriptions is not None:
            self.subscriptions.lines.call_changed(call)

    def arm(self, call: Call) -> None:
        """Look at the call when its deadline comes."""
        call.armed_at = call.deadline
        heapq.heappush(self._timers, (call.deadline, next(self._serial), call))
        if len(self._timers) > 4 * len(self.calls) + 64:
            self._timers = [entry for entry in self._timers if entry[0] == entry[2].armed_at]
            heapq.heapify(self._timers)

    def forget(self, call: Call) -> None:
        """Drop a call that has its final record."""
        call.armed_at = NEVER
        self.calls.pop(call.id, None)
        self.limits.give_back(call.id)
        for leg in call.sides.media_legs:
            self.media.pop(leg.id, None)

    # For the world ------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """No call, port, reservation, trunk slot or subscription is left (contract 5)."""
        if self.calls or self.media or self.uses.held or not self.load.idle or self._commands:
            return False
        settled = self.limits.idle and self.referrals.idle
        return settled and (self.subscriptions is None or self.subscriptions.idle)

    def live_calls(self) -> list[LiveCall]:
        """Return the calls that are under way."""
        return [self._live(call) for call in self.calls.values() if call.state is not CallState.ENDED]

    def _live(self, call: Call) -> LiveCall:
        record = call.record
        code = record.code
        return LiveCall(
            call.id,
            record.caller_number,
            record.user,
            record.dialled_number,
            call.state.value,
            call.since,
            record.direction.value,
            "" if code is None else code.description,
            record.emergency,
            record.destination_user,
            record.group,
            record.location,
            record.start_time,
            record.caller_e164,
        )

    def hang_up(self, call_id: str, now: float, *, by_hand: bool = False) -> bool:
        """End a call from outside; False when there is none of this id. Nobody ends an emergency call by
        hand (rule 1.4): LocalProtocolError."""
        call = self.calls.get(call_id)
        if call is None or call.state is CallState.ENDED:
            return False
        if by_hand and call.record.emergency:
            raise LocalProtocolError("an emergency call is not ended by hand; caller or help hang up")
        call.hang_up(now)
        return True


def _of_invite(event: Cancelled | PrackTimedOut, now: float) -> None:
    """Let a leg know what has become of an INVITE that it got."""
    transaction = event.transaction
    if isinstance(transaction.owner, ALeg):
        if isinstance(event, Cancelled):
            transaction.owner.cancelled(event.request, now)
        else:
            transaction.owner.prack_timed_out(now)
    elif transaction.dialog is not None and isinstance(transaction.dialog.owner, Leg):
        transaction.dialog.owner.reinvite_cancelled(transaction, now)


def _note_silence(
    call: Call, media: MediaLeg, answer: MediaTimedOut | MediaResumed | MediaLatched, now: float
) -> None:
    """Let a call know whether a leg's peer is heard."""
    if isinstance(answer, MediaTimedOut):
        call.media_silent(media, now)
    elif isinstance(answer, MediaResumed):
        media.silent = False

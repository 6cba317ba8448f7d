"""One call: it pairs an A leg with at most one connected B leg, and both live and die together (DESIGN 1.7).

States, and what moves between them::

    OPENING --ports, a code is asked--> ASKING --code, none needed, emergency--> DIALLING
    OPENING --ports, no code is asked--> DIALLING --408, 5xx, silence--> DIALLING (next trunk, `trunks`)
    DIALLING --18x--> RINGING; DIALLING, RINGING --200--> CONFIRMING --record on the disk--> TALKING
    any --failure, caller answered--> ANNOUNCING --prompt over--> ENDED
    any --BYE, CANCEL, failure, hang-up--> ENDED --ports closed--> final record, forgotten

The gate (`proxy.call.gate`) runs inside ASKING; each leg's own states are in `a_leg` and `b_leg`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.call import asking, due, opening
from proxy.call.a_leg import ALeg
from proxy.call.b_leg import BLeg
from proxy.call.called_side import CalledSide
from proxy.call.caller_side import CallerSide
from proxy.call.gate import CodeGate
from proxy.call.leg import Leg
from proxy.call.media_leg import MediaLeg
from proxy.call.origin import Origin
from proxy.call.outcome import (
    NO_CIRCUIT,
    NORMAL_CLEARING,
    RECOVERY_ON_TIMER,
    SESSION_EXPIRED,
    TEMPORARY_FAILURE,
    Ending,
    announcement,
    cause_of_status,
    ending_in_words,
    hung_up,
    not_acceptable,
)
from proxy.call.ports import CallEvent, JournalRecord, LegStatistics, MediaLegOpened, MediaLegRefused
from proxy.call.renegotiation import Renegotiation
from proxy.call.routing import Route
from proxy.call.state import CallState
from proxy.call.two_sides import TwoSides
from proxy.cdr.builder import RecordBuilder
from proxy.cdr.record import Disposition, HungUpBy, RecordPhase
from proxy.errors import RemoteProtocolError
from proxy.sip.message import Request, Response
from proxy.sip.timers import NEVER

if TYPE_CHECKING:
    from proxy.call.core import CallCore
    from proxy.call.forwarding import FurtherContact
    from proxy.call.takeover import Takeover
    from proxy.call.transfer import Transfer

__all__ = ["Call"]

_log = logging.getLogger(__name__)

_ANSWER_GUARD = 10.0
"""How long the journal may take over the record of an answer before that counts as failed."""
_CLOSE_GUARD = 5.0
"""How long the media engine may take to give ports back before the record goes without its figures."""
_ANNOUNCEMENT_GUARD = 20.0

_UNDER_WAY = frozenset({CallState.DIALLING, CallState.RINGING})
_AUDIBLE = frozenset({CallState.RINGING, CallState.TALKING})


class Call:
    """One call from its INVITE to its final record."""

    __slots__ = (
        "_answer_headers",
        "answers_first",
        "armed_at",
        "bound_at",
        "config",
        "core",
        "deadline",
        "early",
        "failure",
        "further",
        "gate",
        "guard_at",
        "id",
        "leftovers_until",
        "origin",
        "record",
        "referred_by",
        "renegotiation",
        "repeat_at",
        "route",
        "sides",
        "since",
        "state",
        "takeover",
        "transfer",
    )

    def __init__(
        self,
        core: CallCore,
        route: Route,
        record: RecordBuilder,
        origin: Origin,
        now: float,
    ) -> None:
        self.core = core
        self.config = core.config
        self.route = route
        self.record = record
        self.origin = origin
        self.id = record.record_id
        self.state = CallState.OPENING
        self.since = now
        """When the state was entered."""
        self.deadline = NEVER
        """The next time that `handle_timer` has something to do."""
        self.armed_at = NEVER
        """The core's own note: when it looks at this call's deadline."""
        self.answers_first = False
        """The caller is answered before the callee: whatever is to be said is said to an answered caller."""
        self.early = False
        """The gate speaks to the caller in early media (DESIGN 1.6)."""
        self.sides = TwoSides(self)
        self.renegotiation = Renegotiation(self)
        self.transfer: Transfer | None = None
        """One party is being transferred to somebody else."""
        self.takeover: Takeover | None = None
        """The caller is to take somebody's place in another call."""
        self.referred_by: Transfer | None = None
        """The transfer whose target this call looks for."""
        self.further: tuple[FurtherContact, ...] = ()
        """Where a phone has sent the call besides, should it fail here."""
        self.gate: CodeGate | None = None
        """It asks the caller for a code now."""
        self.leftovers_until = NEVER
        """Keys of the caller that come until then belong to its code (`heard_keys`); NEVER: none do."""
        self._answer_headers: Sequence[tuple[str, str]] = ()
        self.failure: Ending | None = None
        """What the call came to, while its caller still hears why."""
        self.bound_at = NEVER  # end of the early gate, of the ringing, or of the longest talk
        self.repeat_at = NEVER  # 183 again; in talk the warning before its end
        self.guard_at = NEVER  # an answer of journal or engine that does not come

    # Beginning ----------------------------------------------------------------------------------------------

    def start(self, a: ALeg, now: float) -> None:
        """Take the A leg, choose its codec and ask for ports; refuses the INVITE when none is in common."""
        self.sides.caller = CallerSide(self, a)
        opening.begin(self, a, now)

    def media_opened(self, answer: MediaLegOpened, media: MediaLeg, now: float) -> None:
        """A leg has its ports."""
        media.opened(answer)
        if self.state is CallState.ENDED:
            return
        if media is not self.a.media:
            if self.called.opened(media, now):
                self.rearm()
            return
        self.guard_at = NEVER
        if self.takeover is None:
            opening.caller_ports_opened(self, now)
        else:
            self.takeover.ports_opened(now)

    def write_setup(self, now: float) -> None:
        """Journal the call before B has answered: one that is cut off here has its record too."""
        self.core.emit(JournalRecord(self.record.snapshot(RecordPhase.SETUP, now=now)))

    def media_refused(self, answer: MediaLegRefused, media: MediaLeg, now: float) -> None:
        """There are no ports for a leg."""
        media.closed(None)
        if self.state is CallState.ENDED:
            self._settle(now)
        elif media is self.a.media and answer.no_such_family:
            opening.family_refused(self, media, now)
        elif media is self.a.media or not self.called.refused(media, now):
            self.fail(Ending(Disposition.OVERLOADED, 503, NO_CIRCUIT), now)
        else:
            self.rearm()

    def a_confirmed(self, now: float) -> None:
        """The caller has ACKed the 200, or answered an offer in a PRACK: what it answered is in force."""
        if self.state is CallState.OPENING:
            assert self.a.chosen is not None  # noqa: S101
            self.record.codec = self.a.chosen.codec.name
            asking.begin(self, now)
        elif self.state in _AUDIBLE:
            self.sides.bridge()
            self.renegotiation.reconcile(now)
        self.rearm()

    def a_answer_unusable(self, now: float) -> None:
        """ACK or PRACK hold no usable description: there is nothing to talk with."""
        self.end(not_acceptable(), HungUpBy.GATE, now)

    def a_unacknowledged(self, now: float) -> None:
        """The caller never acknowledged a provisional response (RFC 3262 §3)."""
        self.end(Ending(Disposition.FAILED, 504, RECOVERY_ON_TIMER), HungUpBy.GATE, now)

    # Prompts ------------------------------------------------------------------------------------------------

    def prompts_finished(self, now: float) -> None:
        """What was played to the caller has ended by itself."""
        if self.gate is not None:
            asking.go_on(self, self.gate.prompts_finished(now), now)
        elif self.failure is not None and self.state is CallState.ANNOUNCING:
            self.end(self.failure, HungUpBy.GATE, now)

    # Dialling -----------------------------------------------------------------------------------------------

    @property
    def a(self) -> Leg:
        """The leg of the caller, or of who plays its part in a later segment."""
        leg = self.sides.caller.leg
        assert leg is not None  # noqa: S101  (a called side becomes the calling one with its leg only)
        return leg

    @property
    def b(self) -> Leg | None:
        """The leg of the callee that counts now."""
        return self.sides.called.leg

    @property
    def called(self) -> CalledSide:
        """The search for the callee and its ports, while there is somebody to be searched for."""
        called = self.sides.called
        assert isinstance(called, CalledSide)  # noqa: S101
        return called

    @property
    def incoming(self) -> ALeg:
        """The caller's leg while its INVITE has no final response."""
        a = self.a
        assert isinstance(a, ALeg)  # noqa: S101
        return a

    def partner(self, leg: Leg) -> Leg | None:
        """The other party's leg, if this call has it."""
        side = self.sides.beside(leg)
        return None if side is None else side.leg

    def dial(self, now: float) -> None:
        """Look for the callee."""
        self.enter(CallState.DIALLING, now)
        self.bound_at = due.rings_until(self, now)
        hunt = self.called.seek(now)
        hunt.advance(now)
        if self.route.emergency:  # told of when it is on its way, or can't be
            self.core.tell(CallEvent.EMERGENCY_DIALLED, self.record, now)
        if hunt.hopeless:
            if self.route.trunks:  # all are full
                self.fail(Ending(Disposition.OVERLOADED, 503, NO_CIRCUIT), now)
            else:
                self.fail(Ending(Disposition.TRUNK_FAILED, 500, NO_CIRCUIT), now)
            return
        if self.answers_first and self.a.media is not None:
            self.a.media.play(("connecting",), group=self.route.prompts)
        self.rearm()

    def b_trying(self, leg: BLeg, now: float) -> None:
        """A trunk has taken the INVITE."""
        assert self.called.hunt is not None  # noqa: S101
        self.called.hunt.trying(leg, now)
        self.rearm()

    def b_asked_again(self, now: float) -> None:
        """The INVITE has gone out once more, with credentials or another session interval."""
        assert self.called.hunt is not None  # noqa: S101
        self.called.hunt.asked_again(now)
        self.rearm()

    def b_progressed(self, leg: BLeg, response: Response, now: float) -> None:
        """An 18x: the callee rings, or the carrier has something to say."""
        assert self.called.hunt is not None  # noqa: S101
        self.called.hunt.progressed(leg)
        if self.state is CallState.DIALLING:
            self.enter(CallState.RINGING, now)
        if self.called.hunt.early_media:
            try:
                if leg.listen(leg.dialog):
                    if self.a.unanswered:
                        self.incoming.follow(leg, early=True)
                    self.sides.bridge()
            except RemoteProtocolError:
                _log.info("unusable SDP in %d of B", response.status, extra={"call_id": self.id, "leg": "b"})
        media = self.a.media
        bridged = media is not None and media.bridged
        early = self.early and not self.answers_first
        if media is not None and not bridged and response.status == 180 and (self.answers_first or early):
            media.play(("ringback",), repeat=True, group=self.route.prompts)
        if self.referred_by is not None:
            self.referred_by.progressed(response.status, now)
        if not self.answers_first:
            headers = self._crossing(leg, response)
            self.tell_caller(response.status, now, with_sdp=early or bridged, headers=headers)
        self.rearm()

    def tell_caller(
        self, status: int, now: float, *, with_sdp: bool, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Send the caller a provisional response, the gate's offer in it where one is due."""
        a = self.incoming
        if a.needs_offer or (with_sdp and a.late_offer and a.local is None):
            a.offer(self.sides.codecs_for_a())
            with_sdp = a.answer_due = True
        a.progress(status, now, with_sdp=with_sdp, headers=headers)
        self.repeat_at = now + self.config.early_repeat

    def _crossing(self, leg: BLeg, response: Response) -> list[tuple[str, str]]:
        return self.route.crossing(leg.trunk).headers(response.headers)

    def b_answered(self, leg: BLeg, response: Response, now: float) -> None:
        """B's 200: talk time starts; the record of it goes to the disk before anybody talks (DESIGN 1.8)."""
        try:
            leg.settle()
        except RemoteProtocolError:
            leg.hang_up(cause_of_status(488), now)
            # As if it had refused: a call for help tries the next trunk.
            ending = self.called.failed(leg, 488, response, now) if self.route.emergency else not_acceptable()
            if ending is None:
                self.rearm()
            else:
                self.fail(ending, now)
            return
        assert self.called.hunt is not None and leg.chosen is not None  # noqa: S101, PT018
        self.called.hunt.answered(leg, now)
        self.record.codec = leg.chosen.codec.name
        if not self.answers_first:
            self._answer_headers = self._crossing(leg, response)
        self.confirm(now)

    def confirm(self, now: float) -> None:
        """Note that both parties are there: the record of it goes to the disk before they talk."""
        record = self.record
        if self.referred_by is not None:
            self.referred_by.answered(self)
        record.b_answered(now=now)
        # However it goes on: the store counts a use of every call that B answered.
        self.core.uses.answered(self.id)
        self.enter(CallState.CONFIRMING, now)
        self.bound_at = NEVER
        self.guard_at = now + _ANSWER_GUARD
        emergency = self.route.emergency
        self.core.emit(JournalRecord(record.snapshot(RecordPhase.ANSWERED, now=now), not emergency))
        if emergency:
            self.answer_recorded(True, now)  # nobody in need waits for a disk
        self.rearm()

    def answer_recorded(self, durable: bool, now: float) -> None:
        """The record of the answer is on the disk, or could not be written: then the call can't go on."""
        if self.state is not CallState.CONFIRMING:
            return
        self.guard_at = self.repeat_at = NEVER
        if not durable:
            _log.warning(
                "the answer is not recorded on the disk in time", extra={"call_id": self.id, "leg": "b"}
            )
            ending = Ending(Disposition.FAILED, 500, TEMPORARY_FAILURE)
            if self.referred_by is None or self.referred_by.over:
                self.end(ending, HungUpBy.GATE, now)
            else:
                self.fail(ending, now)
            return
        self.enter(CallState.TALKING, now)
        if not self.answers_first:
            a, b = self.incoming, self.b
            if a.late_offer and a.local is None:
                a.offer(self.sides.codecs_for_a())
                a.answer_due = True
            else:
                assert b is not None  # noqa: S101  (it has answered)
                a.follow(b)
            a.accept(now, self._answer_headers)
        if isinstance(self.b, ALeg) and self.b.unanswered:
            self.b.accept(now)  # somebody has picked the call up
        if not self.a.answer_due:
            self.sides.bridge()
        self.renegotiation.begin(now)
        due.bound_talk(self, now)
        if self.referred_by is not None:
            transfer, self.referred_by = self.referred_by, None
            transfer.succeeded(now)
        self.rearm()

    def b_silenced(self) -> None:
        """Who was heard has failed: one branch of a fork, or the trunk of a call for help. Others may take
        it."""
        media = self.a.media
        if media is not None and media.bridged:
            media.unbridge()
            if self.answers_first or self.early:
                media.play(("ringback",), repeat=True, group=self.route.prompts)

    def b_failed(self, leg: BLeg, status: int, response: Response | None, now: float) -> None:
        """A trunk refused, or said nothing (``response`` None, ``status`` as RFC 3261 §8.1.3.1 reads
        that)."""
        rang = self.state is CallState.RINGING
        if response is not None and self.core.forwarded(self, leg, response, rang=rang, now=now):
            return
        ending = self.called.failed(leg, status, response, now)
        if ending is None:
            self.rearm()
        else:
            self.fail(ending, now)

    # Ending -------------------------------------------------------------------------------------------------

    def leg_hung_up(self, leg: Leg, bye: Request, now: float) -> None:
        """One side said BYE: so does the gate to the other."""
        who = HungUpBy.A_LEG if leg is self.a else HungUpBy.B_LEG
        # §15.1.2: a BYE of the caller within the early dialog ends its own INVITE.
        status = 487 if leg is self.a else 480
        self.end(
            self.failure or hung_up(self._disposition(), status, bye, self.sides.dropped_headers), who, now
        )

    def a_cancelled(self, now: float, cancel: Request | None = None) -> None:
        """The caller gave up before any final response, or can't be reached any more.

        Why it cancelled reaches the other side (RFC 3326 §2).
        """
        self.end(hung_up(self._disposition(), 487, cancel, self.sides.dropped_headers), HungUpBy.A_LEG, now)

    def leg_lost(self, leg: Leg, now: float) -> None:
        """A leg's peer never ACKed, or its dialog is gone: the call can't go on."""
        if not self._is_heard_for_help(leg):
            self.end(Ending(Disposition.FAILED, 408, RECOVERY_ON_TIMER), HungUpBy.GATE, now)

    def session_expired(self, leg: Leg, now: float) -> None:
        """One side's session was not refreshed in time: its peer is gone (RFC 4028 §10)."""
        _log.info("session expired", extra={"call_id": self.id, "leg": leg.name})
        if not self._is_heard_for_help(leg):
            self.end(SESSION_EXPIRED, HungUpBy.GATE, now)

    def _is_heard_for_help(self, leg: Leg) -> bool:
        """Let an emergency call go on with a side that answers no more, for as long as that side is heard.

        Signalling may break where media does not; whoever calls for help must not lose it to that.
        """
        media = leg.media
        if not self.route.emergency or self.state is not CallState.TALKING or media is None or media.quiet:
            return False
        _log.warning(
            "a side answers no more; the emergency call goes on while it is heard",
            extra={"call_id": self.id, "leg": leg.name},
        )
        leg.session.stop()
        leg.lost = True
        return True

    def media_silent(self, media: MediaLeg, now: float) -> None:
        """One leg's media has timed out, or still is: the call is dead when nothing comes from either side.
        So is one whose leg answers no more either.

        Silence of before the talk is not counted, so that nobody is cut off in the first seconds of a talk;
        the engine tells it again while it lasts.
        """
        media.silent = True
        if self.state is not CallState.TALKING or now - self.since < self.config.silence_window:
            return
        leg = self.sides.leg_of(media)
        if self.sides.quiet or (leg is not None and leg.lost):
            self.end(Ending(Disposition.ANSWERED, 480, RECOVERY_ON_TIMER), HungUpBy.GATE, now)

    def hang_up(self, now: float) -> None:
        """End the call from outside (an administrator, the end of a drain)."""
        what = Disposition.ANSWERED if self.record.answered else Disposition.FAILED
        self.end(self.failure or Ending(what, 480, NORMAL_CLEARING), HungUpBy.GATE, now)

    def break_off(self, now: float) -> None:
        """End the call after an error in the gate itself."""
        if self.state is not CallState.ENDED:
            self.end(Ending(Disposition.FAILED, 500, TEMPORARY_FAILURE), HungUpBy.GATE, now)

    def _disposition(self) -> Disposition:
        """What the call came to if somebody hangs up now."""
        if self.record.answered:
            return Disposition.ANSWERED
        return Disposition.ABANDONED_RINGING if self.state in _UNDER_WAY else Disposition.ABANDONED_AT_PROMPT

    def fail(self, ending: Ending, now: float, *, prompt: str = "") -> None:
        """Tell the caller that the call failed: by announcement when answered, by a final response when
        not."""
        if self.further and self.core.forwarded_further(self, ending, now):
            return
        if self.referred_by is not None:
            transfer, self.referred_by = self.referred_by, None
            if transfer.failed(ending, now):
                self.end(ending, HungUpBy.GATE, now)
                return
        media = self.a.media
        if self.a.unanswered or self.a.over or media is None or media.end is None:
            self.end(ending, HungUpBy.GATE, now)
            return
        # The caller is released later; headers of a response have no place in that BYE.
        self.failure = replace(ending, headers=())
        self.sides.called.release(self.failure, now)
        media.unbridge()
        self.enter(CallState.ANNOUNCING, now)
        self.bound_at = NEVER
        self.guard_at = now + _ANNOUNCEMENT_GUARD
        media.play((prompt,) if prompt else announcement(ending.status), group=self.route.prompts)
        self.rearm()

    def end(self, ending: Ending, who: HungUpBy, now: float) -> None:
        """End both legs and the media; the record follows when the ports are closed."""
        record = self.record
        self.core.uses.give_back(self.id)
        self.gate = None
        self.renegotiation.end(now)
        self.bound_at = self.repeat_at = self.leftovers_until = NEVER
        # 0 keeps the 200 of a call that was answered.
        kept = record.answered and ending.disposition is Disposition.ANSWERED
        sip_code = 0 if kept else ending.b_status or ending.status
        record.ended(ending.disposition, now=now, sip_code=sip_code, q850_cause=ending.cause, hung_up_by=who)
        self.enter(CallState.ENDED, now)
        if self.transfer is not None:
            self.transfer.left()
        if self.referred_by is not None:
            self.referred_by.other_left(ending, now)
        self.transfer = self.referred_by = self.takeover = None
        self.guard_at = now + _CLOSE_GUARD
        self.sides.release(ending, now)
        self._settle(now)

    def media_closed(self, media: MediaLeg, statistics: LegStatistics, now: float) -> None:
        """A leg's ports are given back."""
        media.closed(statistics)
        if self.state is CallState.ENDED:
            self._settle(now)
        elif self.sides.need(media):
            # The engine took ports away that were in use.
            self.break_off(now)

    def _settle(self, now: float) -> None:
        """Write the final record and be forgotten, once no port is held."""
        if all(media.gone for media in self.sides.media_legs):
            self.write_final(now)
        else:
            self.rearm()

    def write_final(self, now: float) -> None:
        """Write what the call has come to, and be forgotten."""
        record = self.record
        self.sides.note_media(record)
        self.deadline = self.guard_at = NEVER
        final = record.final(now=now)
        self.core.emit(JournalRecord(final))
        if _log.isEnabledFor(logging.INFO):
            _log.info("call ended: %s", ending_in_words(final), extra={"call_id": self.id, "leg": "a"})
        self.core.forget(self)
        # Part from the legs: transactions hold them for half a minute more, for late answers. Without this a
        # call would be a ring of references, which only the garbage collector takes apart, in pauses that
        # calls would hear.
        self.gate = None
        self.sides.let_go()
        self.renegotiation.let_go()

    # Time ---------------------------------------------------------------------------------------------------

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        due.handle_timer(self, now)
        self.rearm()

    def rearm(self) -> None:
        """Tell the core when `handle_timer` is due next."""
        self.deadline = deadline = due.next_deadline(self)
        if deadline < self.armed_at:
            self.core.arm(self)

    def enter(self, state: CallState, now: float) -> None:
        """Note that the call is in another state."""
        self.state = state
        self.since = now
        self.core.call_changed(self)
        if state is not CallState.ENDED and _log.isEnabledFor(logging.INFO):
            _log.info("call %s", state.value, extra={"call_id": self.id, "leg": "a"})

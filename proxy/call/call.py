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
from functools import partial
from typing import TYPE_CHECKING

from proxy.call.a_leg import ALeg
from proxy.call.b_leg import BLeg
from proxy.call.called_side import CalledSide
from proxy.call.config import GateConfig
from proxy.call.gate import CodeGate, GateEnd, GateResult
from proxy.call.info_keys import convert_keys
from proxy.call.leg import Leg
from proxy.call.media_leg import MediaLeg
from proxy.call.outcome import (
    CALL_REJECTED,
    NO_ANSWER,
    NO_CIRCUIT,
    NORMAL_CLEARING,
    RECOVERY_ON_TIMER,
    SESSION_EXPIRED,
    TEMPORARY_FAILURE,
    Ending,
    announcement,
    cause_of_status,
    ending_of_refusal,
    hung_up,
    not_acceptable,
)
from proxy.call.ports import JournalRecord, LegStatistics, MediaLegOpened, MediaLegRefused
from proxy.call.renegotiation import Renegotiation
from proxy.call.routing import Route
from proxy.call.state import CallState
from proxy.cdr.builder import RecordBuilder
from proxy.cdr.record import Disposition, HungUpBy, RecordPhase
from proxy.dtmf.digits import DigitMeans
from proxy.errors import RemoteProtocolError
from proxy.sdp import Codec, gate_codecs, relayed_codecs
from proxy.sip.message import Request, Response
from proxy.sip.timers import NEVER

if TYPE_CHECKING:
    from proxy.call.core import CallCore

__all__ = ["Call"]

_log = logging.getLogger(__name__)

_OPEN_GUARD = 5.0
"""How long the media engine may take to give the caller's ports."""
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
        "_bound_at",
        "_failure",
        "_gate",
        "_guard_at",
        "_repeat_at",
        "a",
        "answers_first",
        "armed_at",
        "called",
        "config",
        "core",
        "deadline",
        "id",
        "record",
        "renegotiation",
        "route",
        "since",
        "state",
    )

    a: ALeg

    def __init__(
        self, core: CallCore, config: GateConfig, route: Route, record: RecordBuilder, now: float
    ) -> None:
        self.core = core
        self.config = config
        self.route = route
        self.record = record
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
        self.called = CalledSide(self)
        self.renegotiation = Renegotiation(self)
        self._gate: CodeGate | None = None
        self._answer_headers: Sequence[tuple[str, str]] = ()
        self._failure: Ending | None = None
        """What the call came to, while its caller still hears why."""
        self._bound_at = NEVER  # end of the early gate, of the ringing, or of the longest talk
        self._repeat_at = NEVER  # 183 again
        self._guard_at = NEVER  # an answer of journal or engine that does not come

    # Beginning ----------------------------------------------------------------------------------------------

    def start(self, a: ALeg, now: float) -> None:
        """Take the A leg, choose its codec and ask for ports; refuses the INVITE when none is in common."""
        self.a = a
        route = self.route
        if not a.late_offer:
            try:
                self.record.codec = a.choose_for_route().codec.name
            except RemoteProtocolError as error:
                self._end(not_acceptable(error.status_hint), HungUpBy.GATE, now)
                return
        self.answers_first = route.gated and not (route.early and (a.takes_early_offer or not a.late_offer))
        a.open_media(ipv6=a.ipv6)
        if not route.gated:
            self.called.open()
        self._guard_at = now + _OPEN_GUARD
        self._arm()

    @property
    def media_legs(self) -> tuple[MediaLeg, ...]:
        """Every port pair that was asked for."""
        media = self.a.media
        return self.called.media_legs if media is None else (media, *self.called.media_legs)

    def media_opened(self, answer: MediaLegOpened, media: MediaLeg, now: float) -> None:
        """A leg has its ports."""
        media.opened(answer)
        if self.state is CallState.ENDED:
            return
        if media is not self.a.media:
            if self.called.opened(media, now):
                self._arm()
            return
        a, route = self.a, self.route
        self._guard_at = NEVER
        if not a.late_offer:
            a.answer()
        if not route.gated:
            self._dial(now)
        elif not self.answers_first:
            self._tell_progress(183, now, with_sdp=True)
            self._bound_at = now + self.config.early_gate_bound
            if not a.late_offer:
                self._ask(now)
            self._arm()
        elif a.late_offer:
            a.offer(gate_codecs(route.common_codecs))
            a.answer_due = True
            a.accept(now)
            self._write_setup(now)
        else:
            a.accept(now)
            self._write_setup(now)
            self._ask(now)

    def _write_setup(self, now: float) -> None:
        """Journal the call before B has answered: one that is cut off here has its record too."""
        self.core.emit(JournalRecord(self.record.snapshot(RecordPhase.SETUP, now=now)))

    def media_refused(self, answer: MediaLegRefused, media: MediaLeg, now: float) -> None:
        """There are no ports for a leg."""
        media.closed(None)
        if self.state is CallState.ENDED:
            self._settle(now)
        elif media is self.a.media and answer.no_such_family:
            self._family_refused(media, now)
        elif media is self.a.media or not self.called.refused(media, now):
            self._fail(Ending(Disposition.OVERLOADED, 503, NO_CIRCUIT), now)
        else:
            self._arm()

    def _family_refused(self, media: MediaLeg, now: float) -> None:
        """The gate has no media address of the caller's IP version."""
        a = self.a
        if media.ipv6 is a.ipv6 and (a.late_offer or self.route.emergency):
            # The gate's own offer may name the other one. For an emergency it is the best there is: a caller
            # with both versions may take it for an answer too.
            a.open_media(ipv6=not media.ipv6)
        else:
            self._end(not_acceptable(), HungUpBy.GATE, now)

    def a_confirmed(self, now: float) -> None:
        """The caller has ACKed the 200, or answered an offer in a PRACK: what it answered is in force."""
        if self.state is CallState.OPENING:
            assert self.a.chosen is not None  # noqa: S101
            self.record.codec = self.a.chosen.codec.name
            self._ask(now)
        elif self.state in _AUDIBLE:
            self._bridge()
            self.renegotiation.reconcile(now)
        self._arm()

    def a_answer_unusable(self, now: float) -> None:
        """ACK or PRACK hold no usable description: there is nothing to talk with."""
        self._end(not_acceptable(), HungUpBy.GATE, now)

    def a_unacknowledged(self, now: float) -> None:
        """The caller never acknowledged a provisional response (RFC 3262 §3)."""
        self._end(Ending(Disposition.FAILED, 504, RECOVERY_ON_TIMER), HungUpBy.GATE, now)

    # Asking for the code ------------------------------------------------------------------------------------

    def _ask(self, now: float) -> None:
        self._enter(CallState.ASKING, now)
        a, core = self.a, self.core
        assert a.media is not None  # noqa: S101
        inband = a.chosen is None or a.chosen.event is None
        check = partial(core.judge, self)
        self._gate = CodeGate(
            self.route.decision, a.media, self.record, check, core.policy.plan, inband=inband
        )
        self._gate.begin(now)
        # The called side's ports are asked for now, so that its INVITE can leave the moment the code is
        # there.
        self.called.open()
        self._arm()

    def digit_pressed(self, leg: Leg, digit: str, means: DigitMeans, now: float, duration_ms: int) -> None:
        """A digit came: for the gate, or in talk for the other side, which is told it as it understands.

        A phone may tell each key twice, the second one late: the code's last keys must not reach the callee
        so, nor any key count double.
        """
        if self._gate is not None:
            if leg is self.a:
                leg.note_key(means)
                self._after_gate(self._gate.digit(digit, means, now), now)
        elif self.state is CallState.TALKING and (means is not DigitMeans.INFO or leg.speaks_info):
            leg.note_key(means)
            other = self.partner(leg)
            if other is not None:
                other.tell_key(digit, duration_ms, now)

    def prompts_finished(self, now: float) -> None:
        """What was played to the caller has ended by itself."""
        if self._gate is not None:
            self._after_gate(self._gate.prompts_finished(now), now)
        elif self._failure is not None and self.state is CallState.ANNOUNCING:
            self._end(self._failure, HungUpBy.GATE, now)

    def _after_gate(self, result: GateResult | None, now: float) -> None:
        if result is None:
            self._arm()
            return
        self._gate = None
        self._bound_at = NEVER
        if result.end is GateEnd.REFUSED:
            self._fail(Ending(Disposition.CODE_REFUSED, 403, CALL_REJECTED), now, prompt="too_many_tries")
            return
        if result.emergency is not None:
            self.route = self.core.emergency_route(self, result.emergency)
        elif not self.core.recording:
            self._fail(Ending(Disposition.OVERLOADED, 500, TEMPORARY_FAILURE), now)
            return
        if self.core.uses.holds(self.id):
            # The use is on the disk before it can be paid for.
            self._write_setup(now)
        self._dial(now)

    # Dialling -----------------------------------------------------------------------------------------------

    @property
    def b(self) -> BLeg | None:
        """The B leg that counts now."""
        return self.called.leg

    def leg_of(self, media: MediaLeg) -> Leg | None:
        """The leg that speaks through these ports."""
        if media is self.a.media:
            return self.a
        return self.b if self.b is not None and media is self.b.media else None

    def partner(self, leg: Leg) -> Leg | None:
        """The other side."""
        return self.b if leg is self.a else self.a

    def _dial(self, now: float) -> None:
        self._enter(CallState.DIALLING, now)
        self._bound_at = now + self.config.ring_timeout
        hunt = self.called.seek(now)
        if hunt.hopeless:
            if self.route.trunks:  # all are full
                self._fail(Ending(Disposition.OVERLOADED, 503, NO_CIRCUIT), now)
            else:
                self._fail(Ending(Disposition.TRUNK_FAILED, 500, NO_CIRCUIT), now)
            return
        hunt.advance(now)
        if self.answers_first and self.a.media is not None:
            self.a.media.play(("connecting",), group=self.route.prompts)
        self._arm()

    def b_trying(self, leg: BLeg, now: float) -> None:
        """A trunk has taken the INVITE."""
        assert self.called.hunt is not None  # noqa: S101
        self.called.hunt.trying(leg, now)
        self._arm()

    def b_progressed(self, leg: BLeg, response: Response, now: float) -> None:
        """An 18x: the callee rings, or the carrier has something to say."""
        assert self.called.hunt is not None  # noqa: S101
        self.called.hunt.progressed(leg)
        if self.state is CallState.DIALLING:
            self._enter(CallState.RINGING, now)
        if self.called.hunt.early_media:
            try:
                if leg.listen(leg.dialog):
                    self._bridge()
            except RemoteProtocolError:
                _log.info("unusable SDP in %d of B", response.status, extra={"call_id": self.id, "leg": "b"})
        media = self.a.media
        bridged = media is not None and media.bridged
        early = self.route.gated and not self.answers_first
        if media is not None and not bridged and response.status == 180 and (self.answers_first or early):
            media.play(("ringback",), repeat=True, group=self.route.prompts)
        if not self.answers_first:
            self._tell_progress(
                response.status, now, with_sdp=early or bridged, headers=self._crossing(leg, response)
            )
        self._arm()

    def _tell_progress(
        self, status: int, now: float, *, with_sdp: bool, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        a = self.a
        if a.needs_offer or (with_sdp and a.late_offer and a.local is None):
            a.offer(self._codecs_for_a())
            with_sdp = a.answer_due = True
        a.progress(status, now, with_sdp=with_sdp, headers=headers)
        self._repeat_at = now + self.config.early_repeat

    def _crossing(self, leg: BLeg, response: Response) -> list[tuple[str, str]]:
        return self.route.crossing(leg.trunk).headers(response.headers)

    def b_answered(self, leg: BLeg, response: Response, now: float) -> None:
        """B's 200: talk time starts; the record of it goes to the disk before anybody talks (DESIGN 1.8)."""
        try:
            leg.settle()
        except RemoteProtocolError:
            leg.hang_up(cause_of_status(488), now)
            self._fail(not_acceptable(), now)
            return
        assert self.called.hunt is not None and leg.chosen is not None  # noqa: S101, PT018
        self.called.hunt.answered(leg, now)
        record = self.record
        record.codec = leg.chosen.codec.name
        record.b_answered(now=now)
        # However it goes on: the store counts a use of every call that B answered.
        self.core.uses.answered(self.id)
        self._enter(CallState.CONFIRMING, now)
        self._bound_at = NEVER
        self._guard_at = now + _ANSWER_GUARD
        if not self.answers_first:
            self._answer_headers = self._crossing(leg, response)
        emergency = self.route.emergency
        self.core.emit(JournalRecord(record.snapshot(RecordPhase.ANSWERED, now=now), not emergency))
        if emergency:
            self.answer_recorded(True, now)  # nobody in need waits for a disk
        self._arm()

    def answer_recorded(self, durable: bool, now: float) -> None:
        """The record of the answer is on the disk, or could not be written: then the call can't go on."""
        if self.state is not CallState.CONFIRMING:
            return
        self._guard_at = self._repeat_at = NEVER
        if not durable:
            _log.warning(
                "the answer is not recorded on the disk in time", extra={"call_id": self.id, "leg": "b"}
            )
            self._end(Ending(Disposition.FAILED, 500, TEMPORARY_FAILURE), HungUpBy.GATE, now)
            return
        self._enter(CallState.TALKING, now)
        a, b = self.a, self.b
        if not self.answers_first:
            if a.late_offer and a.local is None:
                a.offer(self._codecs_for_a())
                a.answer_due = True
            elif b is not None:
                a.follow(b)
            a.accept(now, self._answer_headers)
        if not a.answer_due:
            self._bridge()
        self.renegotiation.begin(now)
        if self.config.max_duration:
            self._bound_at = now + self.config.max_duration
        self._arm()

    def _codecs_for_a(self) -> tuple[Codec, ...]:
        """Return what the gate offers a caller that offered nothing: what the callee speaks, if that is
        known."""
        chosen = None if self.b is None else self.b.chosen
        if chosen is None:
            return gate_codecs(self.route.common_codecs)
        return relayed_codecs(chosen, events=chosen.event is not None)

    def b_silenced(self) -> None:
        """The branch of a forked call that was heard has failed; the others still ring."""
        media = self.a.media
        if media is not None and media.bridged:
            media.unbridge()
            if self.route.gated:
                media.play(("ringback",), repeat=True, group=self.route.prompts)

    def _bridge(self) -> None:
        """Relay between the legs, once both have said where they are."""
        a, b = self.a, self.b
        if a.media is not None and b is not None and b.media is not None and a.chosen and b.chosen:
            a.media.bridge(b.media)
            convert_keys(self)

    def b_failed(self, leg: BLeg, status: int, response: Response | None, now: float) -> None:
        """A trunk refused, or said nothing (``response`` None, ``status`` as RFC 3261 §8.1.3.1 reads
        that)."""
        assert self.called.hunt is not None  # noqa: S101
        refusal = self.called.hunt.failed(leg, status, response, now)
        if refusal is None:
            self._arm()
            return
        leg, status, response = refusal
        if response is None:
            self._fail(self.called.hunt.unreachable(status), now)
            return
        self._fail(ending_of_refusal(status, self._crossing(leg, response)), now)

    # Ending -------------------------------------------------------------------------------------------------

    def leg_hung_up(self, leg: Leg, bye: Request, now: float) -> None:
        """One side said BYE: so does the gate to the other."""
        who = HungUpBy.A_LEG if leg is self.a else HungUpBy.B_LEG
        # §15.1.2: a BYE of the caller within the early dialog ends its own INVITE.
        status = 487 if leg is self.a else 480
        self._end(self._failure or hung_up(self._disposition(), status, bye, self.dropped_headers), who, now)

    def a_cancelled(self, now: float, cancel: Request | None = None) -> None:
        """The caller gave up before any final response, or can't be reached any more.

        Why it cancelled reaches the other side (RFC 3326 §2).
        """
        self._end(hung_up(self._disposition(), 487, cancel, self.dropped_headers), HungUpBy.A_LEG, now)

    @property
    def dropped_headers(self) -> frozenset[str]:
        """Headers that one of the two sides does not want."""
        trunk = None if self.b is None else self.b.trunk
        dropped = self.route.peer.drop_headers
        return dropped if trunk is None else dropped | trunk.drop_headers

    def leg_lost(self, now: float) -> None:
        """A leg's peer never ACKed, or its dialog is gone: the call can't go on."""
        self._end(Ending(Disposition.FAILED, 408, RECOVERY_ON_TIMER), HungUpBy.GATE, now)

    def session_expired(self, leg: Leg, now: float) -> None:
        """One side's session was not refreshed in time: its peer is gone (RFC 4028 §10)."""
        _log.info("session expired", extra={"call_id": self.id, "leg": leg.name})
        self._end(SESSION_EXPIRED, HungUpBy.GATE, now)

    def media_silent(self, media: MediaLeg, now: float) -> None:
        """One leg's media has timed out, or still is: the call is dead when nothing comes from either side.

        Silence of before the talk is not counted, so that nobody is cut off in the first seconds of a talk;
        the engine tells it again while it lasts.
        """
        media.silent = True
        if self.state is not CallState.TALKING or now - self.since < self.config.silence_window:
            return
        if all(leg is not None and leg.quiet for leg in (self.a.media, self.called.media)):
            self._end(Ending(Disposition.ANSWERED, 480, RECOVERY_ON_TIMER), HungUpBy.GATE, now)

    def hang_up(self, now: float) -> None:
        """End the call from outside (an administrator, the end of a drain)."""
        what = Disposition.ANSWERED if self.record.answered else Disposition.FAILED
        self._end(self._failure or Ending(what, 480, NORMAL_CLEARING), HungUpBy.GATE, now)

    def break_off(self, now: float) -> None:
        """End the call after an error in the gate itself."""
        if self.state is not CallState.ENDED:
            self._end(Ending(Disposition.FAILED, 500, TEMPORARY_FAILURE), HungUpBy.GATE, now)

    def _disposition(self) -> Disposition:
        """What the call came to if somebody hangs up now."""
        if self.record.answered:
            return Disposition.ANSWERED
        return Disposition.ABANDONED_RINGING if self.state in _UNDER_WAY else Disposition.ABANDONED_AT_PROMPT

    def _fail(self, ending: Ending, now: float, *, prompt: str = "") -> None:
        """Tell the caller that the call failed: by announcement when answered, by a final response when
        not."""
        media = self.a.media
        if self.a.unanswered or self.a.over or media is None or media.end is None:
            self._end(ending, HungUpBy.GATE, now)
            return
        # The caller is released later; headers of a response have no place in that BYE.
        self._failure = replace(ending, headers=())
        self.called.hang_up(ending.cause, now)
        media.unbridge()
        self._enter(CallState.ANNOUNCING, now)
        self._bound_at = NEVER
        self._guard_at = now + _ANNOUNCEMENT_GUARD
        media.play((prompt,) if prompt else announcement(ending.status), group=self.route.prompts)
        self._arm()

    def _end(self, ending: Ending, who: HungUpBy, now: float) -> None:
        """End both legs and the media; the record follows when the ports are closed."""
        record = self.record
        self.core.uses.give_back(self.id)
        self._gate = None
        self.renegotiation.end(now)
        self._bound_at = self._repeat_at = NEVER
        # 0 keeps the 200 of a call that was answered.
        kept = record.answered and ending.disposition is Disposition.ANSWERED
        sip_code = 0 if kept else ending.b_status or ending.status
        record.ended(ending.disposition, now=now, sip_code=sip_code, q850_cause=ending.cause, hung_up_by=who)
        self._enter(CallState.ENDED, now)
        self.called.hang_up(ending.cause, now, ending.headers)
        self.a.hang_up(ending.status, ending.cause, now, ending.headers)
        self._guard_at = now + _CLOSE_GUARD
        if self.a.media is not None:
            self.a.media.close()
        self.called.close()
        self._settle(now)

    def media_closed(self, media: MediaLeg, statistics: LegStatistics, now: float) -> None:
        """A leg's ports are given back."""
        media.closed(statistics)
        if self.state is CallState.ENDED:
            self._settle(now)
        elif media is self.a.media or self.called.uses(media):
            # The engine took ports away that were in use.
            self.break_off(now)

    def _settle(self, now: float) -> None:
        """Write the final record and be forgotten, once no port is held."""
        if all(media.gone for media in self.media_legs):
            self._write_final(now)
        else:
            self._arm()

    def _write_final(self, now: float) -> None:
        record = self.record
        record.a_media = None if self.a.media is None else self.a.media.statistics
        record.b_media = None if self.called.media is None else self.called.media.statistics
        self.deadline = NEVER
        self.core.emit(JournalRecord(record.final(now=now)))
        self.core.forget(self)
        self._let_go()

    def _let_go(self) -> None:
        """Part from the legs: transactions hold them for half a minute more, for late answers.

        Without this a call would be a ring of references, which only the garbage collector takes apart, in
        pauses that calls would hear.
        """
        self._gate = None
        self.a.let_go()
        self.called.let_go()
        self.renegotiation.let_go()
        del self.a

    # Time ---------------------------------------------------------------------------------------------------

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        if now >= self._guard_at:
            self._guard_at = NEVER
            self._guard(now)
        elif now >= self._bound_at:
            self._bound_at = NEVER
            self._out_of_time(now)
        elif now >= self._repeat_at:
            self._repeat_at = now + self.config.early_repeat
            self.a.repeat_progress(now)
        elif now >= self.renegotiation.deadline:
            self.renegotiation.handle_timer(now)
        elif self._gate is not None:
            self._after_gate(self._gate.handle_timer(now), now)
        elif self.called.hunt is not None:
            self.called.hunt.handle_timer(now)
        self._arm()

    def _guard(self, now: float) -> None:
        if self.state is CallState.OPENING:
            self._fail(Ending(Disposition.OVERLOADED, 503, NO_CIRCUIT), now)
        elif self.state is CallState.CONFIRMING:
            self.answer_recorded(False, now)
        elif self._failure is not None and self.state is CallState.ANNOUNCING:
            self._end(self._failure, HungUpBy.GATE, now)
        else:
            self._write_final(now)

    def _out_of_time(self, now: float) -> None:
        if self.state is CallState.ASKING:
            # Early mode: the gate's time is over; an optional code is then no code (DESIGN 1.6).
            assert self._gate is not None  # noqa: S101
            self._after_gate(self._gate.give_up(now), now)
        elif self.state is CallState.TALKING:
            self._end(Ending(Disposition.ANSWERED, 480, NORMAL_CLEARING), HungUpBy.GATE, now)
        else:
            self._fail(Ending(Disposition.NO_ANSWER, 480, NO_ANSWER), now)

    def rearm(self) -> None:
        """Look again at when something is due: a leg has sent or got a request of its own."""
        if self.state is not CallState.ENDED:
            self._arm()

    def _arm(self) -> None:
        """Tell the core when `handle_timer` is due next."""
        deadline = min(self._guard_at, self._bound_at, self._repeat_at)
        if self._gate is not None:
            deadline = min(deadline, self._gate.deadline)
        elif self.called.hunt is not None:
            deadline = min(deadline, self.called.hunt.deadline)
        if self.state is not CallState.ENDED:
            deadline = min(deadline, self.renegotiation.deadline)
        self.deadline = deadline
        if deadline < self.armed_at:
            self.core.arm(self)

    def _enter(self, state: CallState, now: float) -> None:
        self.state = state
        self.since = now
        self.core.call_changed(self)
        if _log.isEnabledFor(logging.INFO):
            _log.info("call %s", state.value, extra={"call_id": self.id, "leg": "a"})

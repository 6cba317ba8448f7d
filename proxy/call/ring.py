"""The phones of a user: which ring now, which next, and which of their answers counts.

RFC 3261 §16.6 and §16.7 (parallel and sequential forking, the best response), as the B side of one call:
every contact gets an INVITE of its own. The contacts of the highest q ring together; when none of them
answers in time the next group rings. The first 200 wins and the others are cancelled, told that the call was
answered elsewhere (RFC 3326 §2). A 6xx ends the search; other refusals are weighed when all are in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from proxy.call.b_leg import BLeg, BLegState, Refusal
from proxy.call.invites import contact_invite
from proxy.call.media_leg import MediaLeg, MediaState
from proxy.call.outcome import ELSEWHERE, NO_ANSWER, RECOVERY_ON_TIMER, SUBSCRIBER_ABSENT, Ending
from proxy.cdr.record import Disposition
from proxy.sdp import Codec
from proxy.sip.bindings import Binding, Bindings
from proxy.sip.message import Response
from proxy.sip.timers import NEVER

if TYPE_CHECKING:
    from proxy.call.call import Call
    from proxy.call.config import Trunk

__all__ = ["PhoneHunt"]

NON_SELECTED_USER = 26

_FLOW_FAILED = 430
"""An edge proxy's word that the phone's connection to it is gone (RFC 5626 §5.3.1, §11.5)."""


class PhoneHunt:
    """The search for a phone that takes one call."""

    __slots__ = (
        "_best",
        "_call",
        "_codecs",
        "_flows",
        "_group_at",
        "_groups",
        "_line",
        "_ringing",
        "_silent_at",
        "deadline",
        "leg",
        "media",
    )

    def __init__(self, call: Call, line: Trunk, media: MediaLeg, codecs: tuple[Codec, ...]) -> None:
        self._call = call
        self._line = line
        self._codecs = codecs
        self._groups: deque[Bindings] = deque(call.route.phones)
        self._ringing: list[BLeg] = []
        self._flows: dict[BLeg, Binding] = {}
        """By which way each phone that was called was to be reached."""
        self._best: Refusal | None = None
        self._silent_at = NEVER
        self._group_at = NEVER
        self.media = media
        """The called side's ports: the same for every phone."""
        self.leg: BLeg | None = None
        """The phone that has answered, or the only one that there is."""
        self.deadline = NEVER

    @property
    def hopeless(self) -> bool:
        """No phone is left, and none rings."""
        return not self._groups and not self._ringing

    @property
    def early_media(self) -> bool:
        """What a phone sends before it answers is heard: only where it can be but one."""
        return self.leg is not None

    def unreachable(self, status: int) -> Ending:
        """Return what the call came to when no phone has said anything."""
        return Ending(Disposition.NO_ANSWER, 480, SUBSCRIBER_ABSENT, b_status=status)

    def advance(self, now: float) -> None:
        """Ring the next group; waits for `MediaLegOpened` if the ports are not there yet."""
        if not self._groups or self.media.state is not MediaState.OPEN:
            return
        config = self._call.config
        only = len(self._groups) == 1 and len(self._groups[0]) == 1 and self._best is None
        for binding in self._groups.popleft():
            self._ring(binding, now)
        if only:
            self.leg = self._ringing[0]
        self._silent_at = now + config.phone_response_timeout
        self._group_at = now + config.phone_ring_time if self._groups else NEVER
        self._set_deadline()

    def _ring(self, binding: Binding, now: float) -> None:
        call = self._call
        leg = BLeg(call, call.core.endpoint, self._line, self.media, symmetric=binding.behind_nat)
        self._ringing.append(leg)
        self._flows[leg] = binding
        registrations = call.core.registrations
        assert registrations is not None  # noqa: S101  (it knows the phones that ring)
        binding = registrations.located(binding)
        body = leg.offer_as_caller(self._codecs, binding.flow.remote_host)
        host = call.core.endpoint.config.point(binding.flow).host
        spec = contact_invite(call.route, self._line, binding, call.origin.invite, body, host=host)
        leg.send(call.origin.dress(spec, self._line), now)
        call.record.b_call_id = leg.transaction.call_id

    def trying(self, leg: BLeg, now: float) -> None:
        """A phone has taken the INVITE: that it is no longer CALLING says so."""

    def asked_again(self, now: float) -> None:
        """A phone has answered, and the INVITE has gone out anew as it wants it."""
        self._silent_at = now + self._call.config.phone_response_timeout
        self._set_deadline()

    def progressed(self, leg: BLeg) -> None:
        """A phone rings."""

    def answered(self, leg: BLeg, now: float) -> None:
        """One has answered: the others stop."""
        self.leg = leg
        self._call.record.b_call_id = leg.transaction.call_id
        self._ringing.remove(leg)
        self._give_up_ringing(NON_SELECTED_USER, now, ELSEWHERE)

    def failed(self, leg: BLeg, status: int, response: Response | None, now: float) -> Refusal | None:
        """Take one phone's refusal or silence; returns the one that counts when none is left to ring."""
        self._ringing.remove(leg)
        self.leg = None
        registrations = self._call.core.registrations
        if status == _FLOW_FAILED and registrations is not None:
            registrations.flow_failed(self._flows[leg])
        refusal = Refusal(leg, status, response)
        if self._best is None or _rank(refusal) < _rank(self._best):
            self._best = refusal
        if status >= 600:
            self._give_up_ringing(NO_ANSWER, now)
        elif not self._ringing:
            self.advance(now)
        return self._best if not self._ringing else None

    def move(self, call: Call) -> None:
        """Search on for another call."""
        self._call = call
        for leg in self._ringing:
            leg.call = call
        if self.leg is not None:
            self.leg.call = call

    def handle_timer(self, now: float) -> None:
        """Give up the phones that say nothing, or go on to the next group."""
        if now >= self._silent_at:
            self._silent_at = NEVER
            for leg in self._ringing[:]:
                if leg.state is BLegState.CALLING and leg in self._ringing:
                    leg.hang_up(RECOVERY_ON_TIMER, now)
                    self._call.b_failed(leg, 408, None, now)
        if now >= self._group_at:
            self._group_at = NEVER
            ringing, self._ringing = self._ringing, []
            for leg in ringing:
                leg.hang_up(NO_ANSWER, now)
            self.advance(now)
        self._set_deadline()

    def hang_up(self, cause: int, now: float, headers: Sequence[tuple[str, str]] = ()) -> None:
        """Ring no further; end what is there."""
        leg = self.leg
        self._give_up_ringing(cause, now, headers)
        if leg is not None:
            leg.hang_up(cause, now, headers)

    def _give_up_ringing(self, cause: int, now: float, headers: Sequence[tuple[str, str]] = ()) -> None:
        self._groups.clear()
        self._silent_at = self._group_at = NEVER
        self._set_deadline()
        ringing, self._ringing = self._ringing, []
        for leg in ringing:
            leg.hang_up(cause, now, headers)

    def _set_deadline(self) -> None:
        self.deadline = min(self._silent_at, self._group_at)


def _rank(refusal: Refusal) -> int:
    """Order refusals, the one that tells the caller most first (RFC 3261 §16.7 step 6)."""
    status = refusal.status
    if refusal.response is None:
        return 5
    if status >= 600:
        return 0
    if status == 486:
        return 1
    if status == 480:
        return 3
    return 2 if 400 <= status < 500 else 4

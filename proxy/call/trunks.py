"""Trunks in order: which one carries the B leg, and when the next one is tried (DESIGN 1.4, 1.7).

The next trunk is tried after 408, 5xx, a transport failure, silence, or nothing but 100 for too long; never
after a 404, 486, 603 and the like, and never once an 18x has come. A call for help knows no such limits: it
goes on until somebody takes it, or is busy, and comes back once to each that was only left for its silence,
which may be that of a long way or of two lost datagrams. An INVITE that is left behind is cancelled by its
own leg (`proxy.call.b_leg`), which also ends it should it be answered after all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from proxy.call.b_leg import BLeg, BLegState, Refusal
from proxy.call.invites import invite_spec
from proxy.call.media_leg import MediaLeg, MediaState
from proxy.call.outcome import RECOVERY_ON_TIMER, Ending, may_fail_over
from proxy.call.routing import Hop
from proxy.cdr.record import Disposition
from proxy.sip.message import Response
from proxy.sip.seconds import retry_after
from proxy.sip.timers import NEVER

if TYPE_CHECKING:
    from proxy.call.call import Call

__all__ = ["TrunkHunt"]


_HELP_PROGRESS = 4.0
"""With nothing but 100 for so long a call for help looks elsewhere first."""


class TrunkHunt:
    """The search for a trunk that takes one call. ``leg`` is the INVITE that counts now."""

    __slots__ = (
        "_call",
        "_hop",
        "_hops",
        "_next",
        "_rang",
        "_silent",
        "_slow",
        "_taken",
        "deadline",
        "leg",
        "media",
    )

    _hop: Hop
    """The one whose INVITE counts now."""

    def __init__(self, call: Call, hops: Iterable[Hop], media: MediaLeg) -> None:
        self._call = call
        self._hops: Iterator[Hop] = iter(hops)
        self._next: Hop | None = next(self._hops, None)
        self._rang = False
        self._slow: list[Hop] = []
        """Those that a call for help has left behind, and comes back to last."""
        self._silent: list[Hop] = []
        """Those of them that had not even said 100."""
        self._taken = ""
        self.media = media
        """The called side's ports: the same for every trunk of one address family that is tried."""
        self.leg: BLeg | None = None
        self.deadline = NEVER
        """When the trunk has been silent for too long."""

    @property
    def hopeless(self) -> bool:
        """No trunk is left, and none is being tried."""
        return self._next is None and self.leg is None

    def advance(self, now: float) -> None:
        """Send the INVITE to the next trunk; waits for `MediaLegOpened` if the ports are not there yet."""
        hop = self._next
        if hop is None:
            return
        call = self._call
        self.media = call.called.media_of(ipv6=hop.ipv6)
        if self.media.state is not MediaState.OPEN:
            return
        route = call.route
        self._release()
        self._next = next(self._hops, None)
        leg = BLeg(call, call.core.endpoint, hop.trunk, self.media)
        body = leg.offer_as_caller(call.called.formats(hop.trunk.codecs), hop.flow.remote_host)
        self.leg = leg
        self._hop = hop
        self._taken = hop.trunk.name
        call.core.load.taken(self._taken)
        call.record.trunk_tried(self._taken)
        spec = invite_spec(route, hop, call.origin.invite, body)
        leg.send(call.origin.dress(spec, hop.trunk), now)
        call.record.b_call_id = leg.transaction.call_id
        self._await(now)

    def _await(self, now: float) -> None:
        """Wait for a first word, as long as there is anybody else to go to."""
        if self._next is not None:
            silence = self._hop.trunk.response_timeout
            if self._hurries:
                silence = min(silence, self._call.config.emergency_response_timeout)
            self.deadline = now + silence

    @property
    def _hurries(self) -> bool:
        """A call for help waits little where it will come back, but for one that has said nothing itself."""
        return self._comes_back and self._next not in self._silent

    @property
    def _comes_back(self) -> bool:
        return self._call.route.emergency and self._hop not in self._slow

    def without_ports(self, now: float) -> bool:
        """There are no ports for the next trunk: go on with one of the other address family, if any."""
        while self._next is not None and self._next.ipv6 == self.media.ipv6:
            self._next = next(self._hops, None)
        self.advance(now)
        return not self.hopeless

    def trying(self, leg: BLeg, now: float) -> None:
        """100 came: the trunk is alive, but progress is still awaited."""
        self._lives(now)
        if self._next is not None:
            patience = leg.trunk.progress_timeout
            if self._hurries:
                patience = min(patience, _HELP_PROGRESS)
            self.deadline = now + patience

    def asked_again(self, now: float) -> None:
        """The trunk has answered, and the INVITE has gone out anew as it wants it."""
        self._lives(now)
        self._await(now)

    @property
    def early_media(self) -> bool:
        """What the trunk says before it answers is heard."""
        return True

    def unreachable(self, status: int) -> Ending:
        """Return what the call came to when the last trunk has said nothing.

        The caller's own 408 or 503 would say something else to a PBX.
        """
        return Ending(Disposition.TRUNK_FAILED, 504, RECOVERY_ON_TIMER, b_status=status)

    def answered(self, leg: BLeg, now: float) -> None:
        """B has answered."""
        self._lives(now)
        self.progressed(leg)

    def progressed(self, leg: BLeg) -> None:
        """An 18x came: this trunk has the call now, for good or bad."""
        self._rang = True
        self.deadline = NEVER

    def failed(self, leg: BLeg, status: int, response: Response | None, now: float) -> Refusal | None:
        """Take a final failure; returns it when no other trunk is tried."""
        self._call.record.trunk_ended(0 if response is None else status)
        self.deadline = NEVER
        self.leg = None
        if response is None:
            self._fails("no answer" if status == 408 else "not reachable", now)
        else:
            self._lives(now)
            if status == 503:
                self._call.core.watch.call_declined(self._hop, retry_after(response), now)
        emergency = self._call.route.emergency
        stays = self._rang and not emergency
        if self._next is None or stays or not may_fail_over(status, emergency=emergency):
            return Refusal(leg, status, response)
        if self._rang:
            self._call.b_silenced()
        self.advance(now)
        return None

    def move(self, call: Call) -> None:
        """Search on for another call."""
        self._call = call
        if self.leg is not None:
            self.leg.call = call

    def handle_timer(self, now: float) -> None:
        """Leave a silent trunk behind."""
        assert self.leg is not None  # noqa: S101  (the deadline is that of its silence)
        self.deadline = NEVER
        self._call.record.trunk_ended(0)
        if self.leg.state is BLegState.CALLING:
            self._fails("no answer", now)
            self._silent.append(self._hop)
        if self._comes_back:
            # It may be no worse than slow. Should the others take the call no better, it is waited for.
            self._slow.append(self._hop)
            self._hops = chain(self._hops, (self._hop,))
        self.leg.hang_up(RECOVERY_ON_TIMER, now)
        self.leg = None
        self.advance(now)

    def hang_up(self, cause: int, now: float, headers: Sequence[tuple[str, str]] = ()) -> None:
        """Try no further; end what is there."""
        self.deadline = NEVER
        self._next = None
        self._release()
        if self.leg is not None:
            self.leg.hang_up(cause, now, headers)

    def _lives(self, now: float) -> None:
        self._call.core.watch.call_answered(self._hop, now)

    def _fails(self, reason: str, now: float) -> None:
        self._call.core.watch.call_failed(self._hop, reason, now)

    def _release(self) -> None:
        if self._taken:
            self._call.core.load.released(self._taken)
            self._taken = ""

"""The two sides of a call, and what concerns both: media between them, whose they are, and their end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.call.b_leg import BLeg
from proxy.call.called_side import CalledSide
from proxy.call.caller_side import CallerSide
from proxy.call.info_keys import convert_keys
from proxy.call.leg import Leg
from proxy.call.media_leg import MediaLeg
from proxy.call.outcome import Ending
from proxy.cdr.builder import RecordBuilder
from proxy.sdp import Codec, gate_codecs, relayed_codecs

if TYPE_CHECKING:
    from proxy.call.call import Call
    from proxy.call.ring import PhoneHunt
    from proxy.call.trunks import TrunkHunt

__all__ = ["Side", "TwoSides"]

Side = CallerSide | CalledSide


class TwoSides:
    """Caller and callee. A side that was handed on to another call is that one's affair alone."""

    __slots__ = ("_call", "called", "caller")

    caller: Side
    """Whose leg is ``a``: a `CallerSide`, but in a later segment of a call."""
    called: Side
    """Whose leg is ``b``: a `CalledSide`, but where somebody took the callee's place."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.called = CalledSide(call)

    @property
    def own(self) -> list[Side]:
        """The sides that are this call's to end."""
        return [side for side in (self.caller, self.called) if side.call is self._call]

    def beside(self, leg: Leg) -> Side | None:
        """Return the other party's side, if this call has it and somebody is there or looked for."""
        side = self.called if leg is self.caller.leg else self.caller
        there = side.leg is not None or side.hunt is not None
        return side if side.call is self._call and there else None

    @property
    def hunt(self) -> TrunkHunt | PhoneHunt | None:
        """The search for the callee, if it is this call's."""
        side = self.called
        return side.hunt if side.call is self._call else None

    # Media --------------------------------------------------------------------------------------------------

    @property
    def media_legs(self) -> list[MediaLeg]:
        """Every port pair that was asked for."""
        return [media for side in self.own for media in side.media_legs]

    def leg_of(self, media: MediaLeg) -> Leg | None:
        """Return the leg that speaks through these ports."""
        for leg in (self.caller.leg, self.called.leg):
            if leg is not None and leg.media is media:
                return leg
        return None

    def bridge(self) -> None:
        """Relay between the legs, once both have said where they are."""
        a, b = self._call.a, self.called.leg
        if a.media is not None and b is not None and b.media is not None and a.chosen and b.chosen:
            a.media.bridge(b.media)
            convert_keys(self._call)

    def codecs_for_a(self) -> tuple[Codec, ...]:
        """Return what the gate offers a caller that offered nothing: what the callee speaks, if that is
        known."""
        b = self.called.leg
        chosen = None if b is None else b.chosen
        if chosen is None:
            return gate_codecs(self._call.route.common_codecs)
        return relayed_codecs(chosen, events=chosen.event is not None)

    @property
    def quiet(self) -> bool:
        """Nothing comes from either party."""
        return all(side.media is not None and side.media.quiet for side in (self.caller, self.called))

    def need(self, media: MediaLeg) -> bool:
        """Tell whether the call can't go on without these ports."""
        return any(side.uses(media) for side in self.own)

    # The end ------------------------------------------------------------------------------------------------

    @property
    def dropped_headers(self) -> frozenset[str]:
        """Headers that one of the two does not want."""
        b = self.called.leg
        dropped = self._call.route.peer.drop_headers
        return dropped | b.trunk.drop_headers if isinstance(b, BLeg) else dropped

    def release(self, ending: Ending, now: float) -> None:
        """End both legs, and give all ports back."""
        for side in reversed(self.own):
            side.release(ending, now)
        for side in self.own:
            side.close()

    def note_media(self, record: RecordBuilder) -> None:
        """Write down what the ports have counted; those of a side that goes on count on there."""
        record.a_media, record.b_media = (
            side.media.statistics if side.call is self._call and side.media is not None else None
            for side in (self.caller, self.called)
        )

    def let_go(self) -> None:
        """The call is over: part from it (`Call` says why)."""
        for side in self.own:
            side.let_go()
        del self.caller, self.called, self._call

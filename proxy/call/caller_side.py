"""The calling side of a call: one leg that is there from the beginning.

`CalledSide` has the same shape. A call that goes on as another hands a side over whole, so that leg, ports
and the search that found it stay together; whose it is, its ``call`` says, and only that one may end it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.call.a_leg import ALeg
from proxy.call.config import Side
from proxy.call.media_leg import MediaLeg
from proxy.call.outcome import Ending

if TYPE_CHECKING:
    from proxy.call.call import Call

__all__ = ["CallerSide"]


class CallerSide:
    """A leg and its ports, and the channel that it takes of a trunk."""

    __slots__ = ("_taken", "call", "leg")

    hunt = None
    """Nobody is looked for here."""

    def __init__(self, call: Call, leg: ALeg) -> None:
        self.call = call
        self.leg = leg
        peer = call.route.peer
        self._taken = peer.name if peer.side is Side.TRUNK else ""
        if self._taken:
            call.core.load.taken(self._taken)

    @property
    def media(self) -> MediaLeg | None:
        """The ports, once they are asked for."""
        return self.leg.media

    @property
    def media_legs(self) -> tuple[MediaLeg, ...]:
        """Every port pair that was asked for."""
        return () if self.leg.media is None else (self.leg.media,)

    def uses(self, media: MediaLeg) -> bool:
        """Tell whether the call can't go on without these ports."""
        return media is self.leg.media

    def release(self, ending: Ending, now: float) -> None:
        """End the leg as its state asks."""
        if self._taken:
            self.call.core.load.released(self._taken)
            self._taken = ""
        self.leg.hang_up(ending.status, ending.cause, now, ending.headers)

    def close(self) -> None:
        """Give the ports back."""
        if self.leg.media is not None:
            self.leg.media.close()

    def move(self, call: Call) -> None:
        """Hand the side over to another call."""
        self.call = self.leg.call = call
        call.core.media_moved(call, self.media_legs)

    def let_go(self) -> None:
        """The call is over: part from it (`Call` says why)."""
        self.leg.let_go()

"""The called side of a call: its ports, and the search for whoever takes the call.

Trunks are tried one after the other (`proxy.call.trunks`), a user's phones ring together (`proxy.call.ring`);
either finds the B leg. The ports are the same for all that are tried, but for a change of address family.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from proxy.call.b_leg import BLeg
from proxy.call.media_leg import MediaLeg, can_transcode
from proxy.call.outcome import Ending, ending_of_refusal
from proxy.call.ring import PhoneHunt
from proxy.call.trunks import TrunkHunt
from proxy.sdp import Codec, events_beside, gate_codecs, relayed_codecs
from proxy.sip.message import Response

if TYPE_CHECKING:
    from proxy.call.call import Call

__all__ = ["CalledSide"]


class CalledSide:
    """What a call has beyond the gate. `CallerSide` has the same shape."""

    __slots__ = ("_left", "call", "hunt", "media")

    def __init__(self, call: Call) -> None:
        self.call = call
        self._left: tuple[MediaLeg, ...] = ()
        """Ports that were given up for those of the other address family."""
        self.media: MediaLeg | None = None
        self.hunt: TrunkHunt | PhoneHunt | None = None
        """The search, from DIALLING on; it keeps the B leg that it found."""

    @property
    def leg(self) -> BLeg | None:
        """The B leg that counts now."""
        return None if self.hunt is None else self.hunt.leg

    # Ports --------------------------------------------------------------------------------------------------

    def open(self) -> MediaLeg:
        """Return the ports, asked for if they are not yet."""
        call = self.call
        if self.media is None:
            route = call.route
            self.media = call.core.open_media(call, ipv6=route.ipv6, emergency=route.emergency)
        return self.media

    def media_of(self, *, ipv6: bool) -> MediaLeg:
        """Return the ports in this address family, asked for anew if they are of the other."""
        call, media = self.call, self.open()
        if media.ipv6 is not ipv6:
            media.close()
            self._left = (*self._left, media)
            media = self.media = call.core.open_media(call, ipv6=ipv6, emergency=call.route.emergency)
        return media

    @property
    def media_legs(self) -> tuple[MediaLeg, ...]:
        """Every port pair that was asked for."""
        return self._left if self.media is None else (self.media, *self._left)

    def opened(self, media: MediaLeg, now: float) -> bool:
        """Go on with ports that have come; False when nobody waits for them."""
        if media is not self.media or self.hunt is None or self.hunt.leg is not None:
            return False
        self.hunt.advance(now)
        return True

    def refused(self, media: MediaLeg, now: float) -> bool:
        """Go on without ports that were refused; False when there is no other way to go."""
        if media is not self.media or self.hunt is None:
            # Given up long ago; or the caller is still being asked, and `dial` will try again.
            return True
        if self.call.route.emergency > media.emergency:
            # Asked for while the caller dialled something else: emergency calls have ports of their own.
            self.media = None
            self.hunt.advance(now)
            return True
        return isinstance(self.hunt, TrunkHunt) and self.hunt.without_ports(now)

    def uses(self, media: MediaLeg) -> bool:
        """Tell whether the call can't go on without these ports."""
        return media is self.media and self.hunt is not None

    # The search ---------------------------------------------------------------------------------------------

    def seek(self, now: float) -> TrunkHunt | PhoneHunt:
        """Begin the search; the first INVITE goes out with `advance`."""
        call = self.call
        if self.media is not None and self.media.id not in call.core.media:
            self.media = None  # it was refused while the caller was asked
        media, line = self.open(), call.core.line
        if call.route.phones and line is not None:
            self.hunt = PhoneHunt(call, line, media, self.formats(line.codecs))
        else:
            self.hunt = TrunkHunt(call, call.core.hops(call.route, self._ranks(), now), media)
        return self.hunt

    def _ranks(self) -> tuple[frozenset[str], ...]:
        """Return what trunks are chosen by: codecs that need no transcoding, then those that do.

        In a later segment all are equal: the caller's codec was chosen for others.
        """
        call, every = self.call, frozenset(self.call.route.codecs_of_any)
        chosen = call.a.chosen
        if chosen is None:
            return (every,)
        if call.answers_first and call.origin.forwards:
            return (every,)
        names = frozenset(codec.name for codec in self.formats(every))
        spoken = chosen.codec.name
        return frozenset(name for name in names if name == spoken or call.a.could_speak(name)), names

    def formats(self, taken: Collection[str]) -> tuple[Codec, ...]:
        """Return what is offered to who takes these codecs: the caller's format, and behind it what can take
        its place; the caller's alone where they have nothing in common.

        Whoever takes one of those is followed by the caller, who has named it, or transcoded for
        (`proxy.call.renegotiation`). What the caller has named goes first.
        """
        a, route = self.call.a, self.call.route
        chosen = a.chosen
        if chosen is None:
            return gate_codecs([name for name in route.common_codecs if name in taken] or route.common_codecs)
        first = chosen.codec.name
        names = [name for name in (*(known.name for known in a.named), *taken) if name in taken]
        own = relayed_codecs(chosen, events=False)
        others = [
            other
            for other in gate_codecs([name for name in names if name != first])
            if not other.is_event and (can_transcode(other.name, first) or a.could_speak(other.name))
        ]
        formats = (*own, *others) if first in taken else tuple(others) or own
        return (*formats, *events_beside(formats)) if a.has_keys else formats

    def failed(self, leg: BLeg, status: int, response: Response | None, now: float) -> Ending | None:
        """Take a refusal or silence; returns what the call came to when nobody else is tried."""
        assert self.hunt is not None  # noqa: S101
        refusal = self.hunt.failed(leg, status, response, now)
        if refusal is None:
            return None
        leg, status, response = refusal
        if response is None:
            return self.hunt.unreachable(status)
        return ending_of_refusal(status, self.call.route.crossing(leg.trunk).headers(response.headers))

    def release(self, ending: Ending, now: float) -> None:
        """Search no further, and end what is there."""
        if self.hunt is not None:
            self.hunt.hang_up(ending.cause, now, ending.headers)

    def close(self) -> None:
        """Give the ports back."""
        if self.media is not None:
            self.media.close()

    def let_go(self) -> None:
        """The call is over: part from it (`Call` says why)."""
        self.hunt = None

    def move(self, call: Call) -> None:
        """Hand the side over to another call."""
        assert self.hunt is not None  # noqa: S101  (it has a leg)
        self.call = call
        self.hunt.move(call)
        call.core.media_moved(call, self.media_legs)

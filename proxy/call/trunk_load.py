"""How many calls each trunk carries, in both directions, and whether it may have another.

A carrier counts channels and not directions: what comes in takes one too. An emergency call takes one like
any other, but is never asked whether there is room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from proxy.call.config import Trunk

__all__ = ["TrunkLoad"]


class TrunkLoad:
    """The channels of every trunk."""

    __slots__ = ("_calls", "_rooms")

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()
        self._rooms: dict[str, int] = {}
        """What the limited ones take besides calls for help."""

    def reconfigure(self, trunks: Iterable[Trunk]) -> None:
        """Take the limits anew; calls that are up stay, whatever they say."""
        self._rooms = {trunk.name: trunk.room for trunk in trunks if trunk.max_calls}

    @property
    def idle(self) -> bool:
        """No trunk carries anything."""
        return not self._calls

    def calls_of(self, trunk: str) -> int:
        """Return how many calls a trunk carries, or is being asked to."""
        return self._calls[trunk]

    def is_full(self, trunk: str) -> bool:
        """Say whether a trunk has no room for another call but one for help."""
        room = self._rooms.get(trunk)
        return room is not None and self._calls[trunk] >= room

    def taken(self, trunk: str) -> None:
        """One more call on a trunk."""
        self._calls[trunk] += 1

    def released(self, trunk: str) -> None:
        """One fewer."""
        self._calls[trunk] -= 1
        if not self._calls[trunk]:
            del self._calls[trunk]

"""The one timer heap of the endpoint, with lazy deletion.

Every machine owns at most one deadline at a time, so it *is* its own timer: setting it later or clearing it
costs an assignment, and the heap finds out when the old entry comes up.
"""

from __future__ import annotations

import heapq
from abc import abstractmethod
from itertools import count

__all__ = ["NEVER", "Timed", "TimerHeap"]

NEVER = float("inf")
"""The deadline of a machine that waits for no timer."""

_SLACK = 64
"""Dead entries that are always allowed, so that a small heap is not rebuilt all the time."""


class Timed:
    """Something with at most one deadline. Subclasses say what happens when it comes.

    It is no `abc.ABC`: with that metaclass every isinstance of a transaction would be slower. The type
    checker holds subclasses to `fire` all the same.
    """

    __slots__ = ("deadline", "scheduled")

    def __init__(self) -> None:
        self.deadline = NEVER
        """When `fire` is due, in seconds of the endpoint's clock."""
        self.scheduled = NEVER
        """Time of the one heap entry that counts; other entries of this object are dead."""

    @abstractmethod
    def fire(self, now: float) -> None:
        """Act on the deadline; ``now`` is the deadline itself, so that a late call moves no later timer."""


class TimerHeap:
    """Deadlines in order. The number of dead entries never exceeds that of live ones by more than a few
    dozen."""

    __slots__ = ("_entries", "_live", "_serial")

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Timed]] = []
        self._serial = count()
        self._live = 0

    def __len__(self) -> int:
        """Return how many deadlines are set."""
        return self._live

    @property
    def entries(self) -> int:
        """How many heap entries there are, dead ones included."""
        return len(self._entries)

    def start(self, timed: Timed, at: float) -> None:
        """Set or move the deadline of ``timed``."""
        if timed.deadline == NEVER:
            self._live += 1
        timed.deadline = at
        # A deadline moved to later keeps its entry, which is pushed again when it comes up too early.
        if at < timed.scheduled:
            timed.scheduled = at
            heapq.heappush(self._entries, (at, next(self._serial), timed))
            if len(self._entries) > 2 * self._live + _SLACK:
                self._compact()

    def stop(self, timed: Timed) -> None:
        """Clear the deadline of ``timed``, if it has one."""
        if timed.deadline != NEVER:
            timed.deadline = NEVER
            self._live -= 1
            if len(self._entries) > 2 * self._live + _SLACK:
                self._compact()

    def next_deadline(self) -> float | None:
        """Return the earliest deadline, or None."""
        entries = self._entries
        while entries:
            at, _, timed = entries[0]
            deadline = timed.deadline
            if at == deadline:
                return at
            if at == timed.scheduled and deadline != NEVER:
                timed.scheduled = deadline
                heapq.heapreplace(entries, (deadline, next(self._serial), timed))
            else:
                if at == timed.scheduled:
                    timed.scheduled = NEVER
                heapq.heappop(entries)
        return None

    def run(self, now: float) -> None:
        """Fire everything that is due, each with its own deadline as the time."""
        while (at := self.next_deadline()) is not None and at <= now:
            timed = heapq.heappop(self._entries)[2]
            timed.deadline = timed.scheduled = NEVER
            self._live -= 1
            timed.fire(at)

    def _compact(self) -> None:
        """Rebuild the heap from what is live."""
        live: dict[int, Timed] = {}
        for _, _, timed in self._entries:
            if timed.deadline != NEVER:
                live[id(timed)] = timed
            else:
                timed.scheduled = NEVER
        serial = self._serial
        for timed in live.values():
            timed.scheduled = timed.deadline
        self._entries = [(timed.deadline, next(serial), timed) for timed in live.values()]
        heapq.heapify(self._entries)

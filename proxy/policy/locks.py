"""Callers who may enter no more codes for a while: they have guessed."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MAX_CALLER", "CallerLock"]

MAX_CALLER = 128
"""Characters of a caller's name."""


@dataclass(frozen=True, slots=True)
class CallerLock:
    """One locked caller. Times in UTC seconds since the epoch: a lock outlives the process that set it."""

    caller: str
    """``user 204``, or ``peer pbx +14155550104`` for who matches no user."""
    since: float
    until: float | None
    """None: until somebody unlocks it."""
    wrong: int
    """So many wrong codes have led to it."""

    def holds(self, at: float) -> bool:
        """Tell whether it is still in force."""
        return self.until is None or at < self.until

"""Time that moves only when a test says so."""

from __future__ import annotations


class VirtualClock:
    """Seconds since an arbitrary start; not zero, so that a forgotten ``now`` shows."""

    def __init__(self, start: float = 1000.0) -> None:
        self.start = start
        self.now = start

    @property
    def elapsed(self) -> float:
        """Seconds since the start, free of binary rounding in the ninth decimal place."""
        return round(self.now - self.start, 9)

    def advance_to(self, at: float) -> None:
        """Move on; time never runs backwards."""
        if at < self.now:
            raise AssertionError(f"the clock would go back from {self.now} to {at}")
        self.now = at

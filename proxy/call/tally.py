"""How often something has happened for a key lately. No clock; memory is bounded whatever the keys are."""

from __future__ import annotations

from collections import deque

__all__ = ["Tally"]


class Tally:
    """Counts by key within the last ``window`` seconds, up to ``most``; what is more counts as that many.

    Of more than ``keys`` keys the one that was quiet for longest is forgotten.
    """

    __slots__ = ("_keys", "_most", "_times", "_window")

    def __init__(self, window: float, most: int, *, keys: int = 10_000) -> None:
        self._window = window
        self._most = max(1, most)
        self._keys = keys
        self._times: dict[str, deque[float]] = {}
        """In the order of their last times."""

    def note(self, key: str, now: float) -> int:
        """Count once more; returns how often it was with this time."""
        times = self._times.pop(key, None)
        if times is None:
            times = deque(maxlen=self._most)
            self._forget_old(now)
            if len(self._times) >= self._keys:
                del self._times[next(iter(self._times))]
        times.append(now)
        self._times[key] = times
        return self._within(times, now)

    def count(self, key: str, now: float) -> int:
        """Return how often it has been."""
        times = self._times.get(key)
        return 0 if times is None else self._within(times, now)

    def forget(self, key: str) -> None:
        """Begin anew with a key."""
        self._times.pop(key, None)

    def keys(self, now: float) -> int:
        """Return for how many keys something has happened."""
        self._forget_old(now)
        return len(self._times)

    def _within(self, times: deque[float], now: float) -> int:
        while times and times[0] <= now - self._window:
            times.popleft()
        return len(times)

    def _forget_old(self, now: float) -> None:
        while self._times:
            key = next(iter(self._times))
            times = self._times[key]
            if times and times[-1] > now - self._window:
                return
            del self._times[key]

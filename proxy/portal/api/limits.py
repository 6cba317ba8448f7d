"""How often somebody may ask."""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["RateLimits"]


class RateLimits:
    """Buckets that fill at a steady rate: a minute's worth may come at once (token bucket)."""

    _MOST = 10_000
    """Buckets that are remembered; the one that was used longest ago is forgotten, and thereby full."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, name: str, per_minute: int, now: float, *, take: bool = True) -> float:
        """Take one from a bucket; returns 0.0, or the seconds until there is one again."""
        level, at = self._buckets.get(name, (float(per_minute), now))
        level = min(float(per_minute), level + max(0.0, now - at) * per_minute / 60)
        waits = 0.0 if level >= 1 else (1 - level) * 60 / per_minute
        if take and not waits:
            level -= 1
        self._buckets[name] = (level, now)
        self._buckets.move_to_end(name)
        if len(self._buckets) > self._MOST:
            self._buckets.popitem(last=False)
        return waits

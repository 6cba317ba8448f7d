"""The wall clock of the site, and record ids that sort by it."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta, timezone

__all__ = ["LocalClock", "epoch", "record_id"]


class LocalClock:
    """The site's local time. Its offset is asked for once a minute: asking costs more than all the rest."""

    def __init__(self) -> None:
        self._zone = UTC
        self._until = 0.0

    def __call__(self) -> datetime:
        """Return the time now, with the site's offset."""
        now = time.time()
        if not self._until - 60.0 <= now < self._until:
            local = datetime.fromtimestamp(now).astimezone()
            self._zone = timezone(local.utcoffset() or timedelta())
            # Offsets change on the minute.
            self._until = now - now % 60.0 + 60.0
        return datetime.fromtimestamp(now, self._zone)


def record_id() -> str:
    """Return a record id that sorts by time: milliseconds and 64 random bits."""
    return f"{time.time_ns() // 1_000_000:012x}-{os.urandom(8).hex()}"


def epoch() -> float:
    """Return the wall clock's time at zero of the monotonic clock, in seconds since 1970."""
    return time.time() - time.monotonic()

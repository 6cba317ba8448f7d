"""What was declined for want of time, so that its retransmissions are declined, too (RFC 3261 §8.2.7)."""

from __future__ import annotations

from collections.abc import Hashable

__all__ = ["DeclinedRequests"]

MOST = 20_000
"""Declined requests after which those before them are forgotten: of seconds, at the pace of a flood."""


class DeclinedRequests:
    """Hashes of requests that were declined, each kept for ``life`` seconds at least, twice that at most.

    Their retransmissions wait or are under way. Taken, they would be calls that their callers know nothing
    of.
    """

    __slots__ = ("_before", "_life", "_now", "_until")

    def __init__(self, life: float) -> None:
        self._life = life
        self._now: set[int] = set()
        self._until = 0.0
        """When `_now` becomes `_before`, in seconds of the caller's clock."""
        self._before: set[int] = set()

    def add(self, key: Hashable, now: float) -> None:
        """Remember one."""
        self._forget(now)
        self._now.add(hash(key))

    def holds(self, key: Hashable, now: float) -> bool:
        """Say whether a request was declined before."""
        if not self._now and not self._before:
            return False
        self._forget(now)
        return hash(key) in self._now or hash(key) in self._before

    def _forget(self, now: float) -> None:
        if now < self._until and len(self._now) < MOST:
            return
        self._before = self._now if now < self._until + self._life else set()
        self._now = set()
        self._until = now + self._life

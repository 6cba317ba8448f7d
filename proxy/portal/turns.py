"""Turns at what keeps a core busy: few at a time, and of one who asks just one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

__all__ = ["Turns"]


class Turns:
    """Who has to wait does so without a thread, and who asks for much waits for themselves."""

    def __init__(self, most: int = 2) -> None:
        self._places = asyncio.Semaphore(most)
        self._own: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, who: Hashable) -> AsyncIterator[None]:
        """Wait for a turn and have it."""
        lock = self._own.get(who)
        if lock is None:
            lock = self._own[who] = asyncio.Lock()
        async with lock, self._places:
            yield

"""Waiting for what another side of a socket does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object], timeout: float = 5.0) -> None:  # noqa: ASYNC109
    """Return as soon as ``condition()`` is true; TimeoutError when it does not come true."""
    deadline = asyncio.get_running_loop().time() + timeout
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError(condition)
        await asyncio.sleep(0.002)

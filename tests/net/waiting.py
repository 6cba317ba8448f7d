"""Waiting for what another side of a socket does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PATIENCE = 30.0
"""Seconds that anything may take on a machine that is busy with something else."""


async def happens(event: asyncio.Event) -> None:
    """Return when this is set; TimeoutError when it never is."""
    await asyncio.wait_for(event.wait(), PATIENCE)


async def until(condition: Callable[[], object], timeout: float = PATIENCE) -> None:  # noqa: ASYNC109
    """Return as soon as ``condition()`` is true; TimeoutError when it does not come true."""
    deadline = asyncio.get_running_loop().time() + timeout
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError(condition)
        await asyncio.sleep(0.002)

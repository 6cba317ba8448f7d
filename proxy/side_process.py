"""Keeps a second process running beside the gate, which never waits for it (DESIGN contract 4)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Sequence

__all__ = ["keep_running"]

logger = logging.getLogger(__name__)

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_STEADY = 60.0
"""What ran so long had a good start: after its end the pauses begin anew."""
_TIME_TO_END = 10.0


async def keep_running(name: str, command: Sequence[str]) -> None:
    """Run a command again whenever it ends, with longer and longer pauses, until this is cancelled.

    The process lives as long as its standard input: should the gate be killed, it ends too and leaves its
    ports to the next.
    """
    # What systemd is told is the gate's to tell.
    environment = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
    pause = _FIRST_PAUSE
    while True:
        begun = time.monotonic()
        try:
            # In a session of its own: Ctrl-C is meant for the gate, which may have calls to drain.
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.PIPE, env=environment, start_new_session=True
            )
        except OSError as error:
            logger.error("%s can't be started: %s", name, error.strerror or error)
        else:
            try:
                status = await process.wait()
            except asyncio.CancelledError:
                await _end(process)
                raise
            logger.error("%s ended with status %d", name, status)
        if time.monotonic() - begun >= _STEADY:
            pause = _FIRST_PAUSE
        logger.info("%s is started again in %.0f s", name, pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(_TIME_TO_END):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

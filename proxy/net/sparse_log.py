"""Warnings about what strangers do: the log must not grow at their pace."""

from __future__ import annotations

import logging
from collections.abc import Callable

__all__ = ["SparseLog"]

INTERVAL = 10.0
"""Seconds between two warnings; what comes between is told at DEBUG, and counted."""


class SparseLog:
    """Lets one warning through per interval. ``clock`` gives seconds."""

    __slots__ = ("_clock", "_left_out", "_logger", "_next")

    def __init__(self, logger: logging.Logger, clock: Callable[[], float]) -> None:
        self._logger = logger
        self._clock = clock
        self._next = float("-inf")
        self._left_out = 0

    def warning(self, message: str, *args: object, peer: str) -> None:
        """Write a warning about a peer, unless there was one just now."""
        now = self._clock()
        if now < self._next:
            self._left_out += 1
            self._logger.debug(message, *args, extra={"peer": peer})
            return
        if self._left_out:
            message += " (and %d warnings about connections before it)"
            args += (self._left_out,)
            self._left_out = 0
        self._next = now + INTERVAL
        self._logger.warning(message, *args, extra={"peer": peer})

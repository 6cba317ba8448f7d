"""Exports that are running: how far each is, and that there are not too many."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

__all__ = ["ExportState", "Exports"]

_RUNNING = 4
_REMEMBERED = 200


@dataclass(slots=True)
class ExportState:
    """How far an export is. Written by the one thread that makes it."""

    done: int = 0
    total: int = 0
    packing: bool = False
    """All rows are written, and the file is being put together."""
    finished: bool = False
    failed: bool = False


class Exports:
    """All exports of a portal. Safe to use from several threads."""

    def __init__(self, most: int = _RUNNING) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._running = 0
        self._known: OrderedDict[tuple[str, str], ExportState] = OrderedDict()

    def begin(self, session: str, ticket: str) -> ExportState | None:
        """Begin an export that its session finds again by the ticket; None when too many are running."""
        with self._lock:
            if self._running >= self._most:
                return None
            self._running += 1
            state = self._known[session, ticket] = ExportState()
            self._known.move_to_end((session, ticket))
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
            return state

    def end(self, state: ExportState, *, failed: bool) -> None:
        """An export has ended, or was given up."""
        with self._lock:
            self._running -= 1
            state.finished, state.failed = True, failed

    def find(self, session: str, ticket: str) -> ExportState | None:
        """The export of a ticket; None when it has not begun, or was forgotten."""
        with self._lock:
            return self._known.get((session, ticket))

    @property
    def running(self) -> int:
        """How many are running."""
        return self._running

"""Exports that are running: how far each is, and that there are not too many, of an account just one."""

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

    account: int
    done: int = 0
    total: int = 0
    packing: bool = False
    """All rows are written, and the file is being put together."""
    finished: bool = False
    failed: bool = False
    refused: bool = False
    """It never began: others are running."""


class Exports:
    """All exports of a portal. Safe to use from several threads."""

    def __init__(self, most: int = _RUNNING) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._running: set[int] = set()
        """The accounts whose exports these are."""
        self._known: OrderedDict[tuple[int, str], ExportState] = OrderedDict()

    def begin(self, account: int, ticket: str) -> ExportState | None:
        """Begin an export that its account finds again by the ticket; None when too many are running, or one
        of the account: who does not read theirs takes nobody's place. Who asks by the ticket is told so.
        """
        with self._lock:
            if len(self._running) >= self._most or account in self._running:
                self._known.setdefault((account, ticket), ExportState(account, finished=True, refused=True))
                self._forget()
                return None
            self._running.add(account)
            state = self._known[account, ticket] = ExportState(account)
            self._known.move_to_end((account, ticket))
            self._forget()
            return state

    def _forget(self) -> None:
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def end(self, state: ExportState, *, failed: bool) -> None:
        """An export has ended, or was given up."""
        with self._lock:
            self._running.remove(state.account)
            state.finished, state.failed = True, failed

    def find(self, account: int, ticket: str) -> ExportState | None:
        """The export of a ticket, in whatever session it began; None when it has not, or was forgotten."""
        with self._lock:
            return self._known.get((account, ticket))

    @property
    def running(self) -> int:
        """How many are running."""
        return len(self._running)

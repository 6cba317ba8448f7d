"""Locked callers in the store: part of the policy, so that they survive the gate and can be lifted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, delete, func, insert, select

from proxy.errors import ConfigurationError
from proxy.policy import CallerLock
from proxy.store.audit import SYSTEM, Actor, write_audit
from proxy.store.changes import ChangeAction, ChangeKind, log_change
from proxy.store.database import Database
from proxy.store.models import caller_locks
from proxy.store.texts import clean_text

__all__ = ["LocksRepository", "load_locks"]

_MOST = 10_000
"""The oldest go first: whoever can name that many callers is no better off for it."""


class LocksRepository:
    """All locked callers."""

    def __init__(self, database: Database, actor: Actor = SYSTEM) -> None:
        self._database = database
        self._actor = actor

    def all(self, *, at: float | None = None) -> list[CallerLock]:
        """The locks that are in force (now, if ``at`` says nothing else), the newest first."""
        at = time.time() if at is None else at
        with self._database.read() as connection:
            locks = [lock for lock in load_locks(connection) if lock.holds(at)]
        return sorted(locks, key=lambda lock: -lock.since)

    def add(self, locks: Sequence[CallerLock]) -> None:
        """Lock callers, or lock them anew; locks that are over go."""
        column = caller_locks.c
        locks = [replace(lock, caller=clean_text(lock.caller, 128)) for lock in locks]
        with self._database.write() as connection:
            over = column.until.is_not(None) & (column.until < min(lock.since for lock in locks))
            names = [lock.caller for lock in locks]
            connection.execute(delete(caller_locks).where(over | column.caller.in_(names)))
            for lock in {lock.caller: lock for lock in locks}.values():
                facts = {"since": lock.since, "until": lock.until, "wrong": lock.wrong}
                connection.execute(insert(caller_locks).values(caller=lock.caller, **facts))
                write_audit(connection, self._actor, "lock", "caller", lock.caller, after=facts)
            surplus = int(connection.execute(select(func.count()).select_from(caller_locks)).scalar() or 0)
            if surplus > _MOST:
                oldest = select(column.caller).order_by(column.since).limit(surplus - _MOST)
                connection.execute(delete(caller_locks).where(column.caller.in_(oldest)))
            log_change(connection, ChangeKind.LOCK, ChangeAction.SAVED, names)

    def unlock(self, callers: Sequence[str]) -> None:
        """Let callers enter codes again: all, or none (`ConfigurationError`) when one is not locked."""
        column = caller_locks.c
        with self._database.write() as connection:
            for caller in callers:
                if not connection.execute(delete(caller_locks).where(column.caller == caller)).rowcount:
                    message = f"caller {caller!r} is not locked"
                    raise ConfigurationError(message)
                write_audit(connection, self._actor, "unlock", "caller", caller)
            log_change(connection, ChangeKind.LOCK, ChangeAction.DELETED, list(callers))


def load_locks(connection: Connection) -> list[CallerLock]:
    """All locks, those that are over too."""
    rows = connection.execute(select(caller_locks)).mappings()
    return [
        CallerLock(
            str(row["caller"]),
            float(row["since"]),
            None if row["until"] is None else float(row["until"]),
            int(row["wrong"]),
        )
        for row in rows
    ]

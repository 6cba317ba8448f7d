"""The store as the gate, the portal and the commands use it: one object, opened by URL."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from proxy.store.accounts import AccountsRepository, LoginGuard
from proxy.store.audit import SYSTEM, Actor, AuditLog
from proxy.store.bindings import BindingsRepository
from proxy.store.codes import CodesRepository
from proxy.store.corrections import CorrectionsRepository
from proxy.store.database import Database
from proxy.store.locks import LocksRepository
from proxy.store.people import GroupsRepository, UsersRepository
from proxy.store.reports import ReportsRepository
from proxy.store.schedules import SchedulesRepository
from proxy.store.sessions import SessionsRepository, TokensRepository
from proxy.store.usage import UsageRepository
from proxy.store.webhooks import WebhooksRepository

__all__ = ["Store"]

_THREADS = 6
"""Of a gate, that may use the store at the same time: usage log, events' two, policy (two), phones."""
_FEW_PAGES_KB = 4 * 1024
"""Of a connection; the kernel has the file's pages too."""


class Store:
    """An open store. A context manager; `close` ends it.

    What is changed through it goes into the audit log as done by its actor.
    """

    def __init__(self, url: str, *, actor: Actor = SYSTEM, steady: bool = False) -> None:
        """Open and migrate. Raises `ConfigurationError` or `StoreUnavailable` (see `Database`).

        A ``steady`` one is for a process that writes for months and looks little up, as a gate does: what it
        holds of descriptors and, after some thousand records, of memory is all that it will ever hold.
        """
        database = Database(url, connections=_THREADS, cache_kb=_FEW_PAGES_KB) if steady else Database(url)
        self._take(database, actor)

    def _take(self, database: Database, actor: Actor) -> None:
        self.database = database
        self.codes = CodesRepository(database, actor)
        self.groups = GroupsRepository(database, actor)
        self.users = UsersRepository(database, actor)
        self.locks = LocksRepository(database, actor)
        self.usage = UsageRepository(database)
        self.corrections = CorrectionsRepository(database, actor)
        self.reports = ReportsRepository(database)
        self.bindings = BindingsRepository(database)
        self.accounts = AccountsRepository(database, actor)
        self.logins = LoginGuard(database)
        self.sessions = SessionsRepository(database)
        self.tokens = TokensRepository(database, actor)
        self.audit = AuditLog(database, actor)
        self.schedules = SchedulesRepository(database, actor)
        self.webhooks = WebhooksRepository(database, actor)

    def acting(self, actor: Actor) -> Store:
        """The same store for somebody else: cheap, made per request. Closing it is its owner's business."""
        other = Store.__new__(Store)
        other._take(self.database, actor)
        return other

    def close(self) -> None:
        """Close all connections."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

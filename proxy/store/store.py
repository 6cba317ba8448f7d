"""The store as the gate and the commands use it: one object, opened by URL."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from proxy.store.bindings import BindingsRepository
from proxy.store.codes import CodesRepository
from proxy.store.database import Database
from proxy.store.people import GroupsRepository, UsersRepository
from proxy.store.usage import UsageRepository

__all__ = ["Store"]


class Store:
    """An open store. A context manager; `close` ends it."""

    def __init__(self, url: str) -> None:
        """Open and migrate. Raises `ConfigurationError` or `StoreUnavailable` (see `Database`)."""
        self.database = Database(url)
        self.codes = CodesRepository(self.database)
        self.groups = GroupsRepository(self.database)
        self.users = UsersRepository(self.database)
        self.usage = UsageRepository(self.database)
        self.bindings = BindingsRepository(self.database)

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

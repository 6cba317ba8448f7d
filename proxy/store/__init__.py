"""The database: models, migrations and repositories.

Synchronous, for threads and commands: the call path never touches it (DESIGN contract 3).
"""

from __future__ import annotations

from proxy.store.bindings import BindingsRepository, BindingWriter
from proxy.store.codes import CodeOrder, CodesRepository, UpsertResult
from proxy.store.credentials import digest_credentials, generate_password
from proxy.store.database import StoreUnavailable, public_name
from proxy.store.example import ExampleUser, seed_example_data
from proxy.store.people import GroupsRepository, UsersRepository
from proxy.store.snapshots import SnapshotSource, load_snapshot
from proxy.store.store import Store
from proxy.store.usage import UsageFilter, UsageRepository, UsageSink

__all__ = [
    "BindingWriter",
    "BindingsRepository",
    "CodeOrder",
    "CodesRepository",
    "ExampleUser",
    "GroupsRepository",
    "SnapshotSource",
    "Store",
    "StoreUnavailable",
    "UpsertResult",
    "UsageFilter",
    "UsageRepository",
    "UsageSink",
    "UsersRepository",
    "digest_credentials",
    "generate_password",
    "load_snapshot",
    "public_name",
    "seed_example_data",
]

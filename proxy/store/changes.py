"""The change log of the policy: every change of groups, users, codes and locks leaves a row in the same
transaction.
"""

from __future__ import annotations

import enum
import json
import time
from collections.abc import Sequence

from sqlalchemy import Connection, delete, func, insert, select

from proxy.store.models import policy_changes

__all__ = ["ChangeAction", "ChangeKind", "current_version", "log_change", "oldest_version"]


KEPT_CHANGES = 1_000
KEPT_SECONDS = 3_600.0
"""A gate that is further behind reads everything anew. Deleted codes' digits don't outlast it."""


class ChangeKind(enum.StrEnum):
    """What was changed."""

    CODE = "code"
    GROUP = "group"
    USER = "user"
    LOCK = "lock"


class ChangeAction(enum.StrEnum):
    """What happened to it."""

    SAVED = "saved"
    DELETED = "deleted"


def log_change(
    connection: Connection, kind: ChangeKind, action: ChangeAction, keys: Sequence[str] = ()
) -> int:
    """Write one change and return its id, the new version of the policy; forget the old ones."""
    now = time.time()
    result = connection.execute(
        insert(policy_changes).values(
            at=now, kind=kind.value, action=action.value, keys=json.dumps(list(keys))
        )
    )
    key = result.inserted_primary_key
    if key is None:
        raise RuntimeError("the database gave a change no id")
    version, column = int(key[0]), policy_changes.c
    # All before the last old one go with it: what is left has no hole, even if the clock was set back.
    aged = select(func.max(column.id)).where(column.id < version, column.at < now - KEPT_SECONDS)
    last_old = max(version - KEPT_CHANGES, int(connection.execute(aged).scalar() or 0))
    connection.execute(delete(policy_changes).where(column.id <= last_old))
    return version


def oldest_version(connection: Connection) -> int:
    """The id of the oldest change that is still known; 0 when there is none."""
    return int(connection.execute(select(func.min(policy_changes.c.id))).scalar() or 0)


def current_version(connection: Connection) -> int:
    """The id of the last change; 0 for a store that was never changed."""
    return int(connection.execute(select(func.max(policy_changes.c.id))).scalar() or 0)

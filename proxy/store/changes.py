"""The change log of the policy: every change of groups, users and codes leaves a row in the same
transaction.
"""

from __future__ import annotations

import enum
import json
import time
from collections.abc import Sequence

from sqlalchemy import Connection, func, insert, select

from proxy.store.models import policy_changes

__all__ = ["ChangeAction", "ChangeKind", "current_version", "log_change"]


class ChangeKind(enum.StrEnum):
    """What was changed."""

    CODE = "code"
    GROUP = "group"
    USER = "user"


class ChangeAction(enum.StrEnum):
    """What happened to it."""

    SAVED = "saved"
    DELETED = "deleted"


def log_change(
    connection: Connection, kind: ChangeKind, action: ChangeAction, keys: Sequence[str] = ()
) -> int:
    """Write one change and return its id, the new version of the policy."""
    result = connection.execute(
        insert(policy_changes).values(
            at=time.time(), kind=kind.value, action=action.value, keys=json.dumps(list(keys))
        )
    )
    key = result.inserted_primary_key
    if key is None:
        raise RuntimeError("the database gave a change no id")
    return int(key[0])


def current_version(connection: Connection) -> int:
    """The id of the last change; 0 for a store that was never changed."""
    return int(connection.execute(select(func.max(policy_changes.c.id))).scalar() or 0)

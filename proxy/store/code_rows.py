"""Rows of account codes: how they are found, and how the audit log tells what became of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TypeVar

from sqlalchemy import Connection, RowMapping, select

from proxy.errors import ConfigurationError
from proxy.policy import AccountCode, OwnerKind
from proxy.store.audit import Actor, AuditText, write_audit
from proxy.store.models import account_codes, groups, users
from proxy.store.rows import code_facts, read_code
from proxy.store.versions import Versioned

__all__ = [
    "Change",
    "check_owners",
    "chunks",
    "codes_by_digits",
    "codes_by_id",
    "tell_changes",
    "told",
    "versioned_code",
]

_CHUNK = 2000
_TOLD_AT_ONCE = 500
"""Codes in one row of the audit log."""
_Item = TypeVar("_Item")

Change = tuple[int, str, str]
"""Id of a code, and what is told of it before and after (`told`)."""


def versioned_code(row: RowMapping) -> Versioned[AccountCode]:
    """The code of a row with its version and its id."""
    return Versioned(read_code(row), int(row["version"]), int(row["id"]))


def codes_by_id(connection: Connection, ids: Sequence[int]) -> dict[int, Versioned[AccountCode]]:
    """Those of these codes that exist."""
    statement = select(account_codes).where(account_codes.c.id.in_(ids))
    return {int(row["id"]): versioned_code(row) for row in connection.execute(statement).mappings()}


def codes_by_digits(connection: Connection, digits: Sequence[str]) -> dict[str, Versioned[AccountCode]]:
    """Those of these dial forms that exist."""
    statement = select(account_codes).where(account_codes.c.digits.in_(digits))
    rows = connection.execute(statement).mappings()
    return {str(row["digits"]): versioned_code(row) for row in rows}


def check_owners(connection: Connection, codes: Sequence[AccountCode]) -> None:
    """Raise `ConfigurationError` for a code whose owner does not exist."""
    for kind, column in ((OwnerKind.GROUP, groups.c.name), (OwnerKind.USER, users.c.extension)):
        named = {code.owner.name for code in codes if code.owner.kind is kind}
        if not named:
            continue
        known = {str(name) for name in connection.execute(select(column)).scalars()}
        if missing := sorted(named - known):
            message = f"code owner: {kind.value} {missing[0]!r} does not exist"
            raise ConfigurationError(message)


def told(code: AccountCode | None) -> str:
    """What the audit log tells of a code, but for its id; "" for one that is not there."""
    return "" if code is None else json.dumps(code_facts(code), separators=(",", ":"), sort_keys=True)


def tell_changes(connection: Connection, actor: Actor, action: str, changes: Sequence[Change]) -> None:
    """Write what became of codes into the audit log: many at once in rows of some hundred."""
    for chunk in chunks(changes, _TOLD_AT_ONCE):
        single = len(changes) == 1
        before = [_with_id(key, old) for key, old, _ in chunk if old]
        after = [_with_id(key, new) for key, _, new in chunk if new]
        write_audit(
            connection,
            actor,
            action,
            "code",
            str(chunk[0][0]) if single else f"{len(chunk)} of {len(changes)}",
            before=_together(before, single=single),
            after=_together(after, single=single),
        )


def _with_id(key: int, facts: str) -> str:
    return f'{{"id":{key},{facts[1:]}'


def _together(facts: Sequence[str], *, single: bool) -> AuditText | None:
    if not facts:
        return None
    return AuditText(facts[0] if single else f"[{','.join(facts)}]")


def chunks(items: Sequence[_Item], size: int = _CHUNK) -> Iterator[Sequence[_Item]]:
    """Parts of a sequence, so many items each."""
    for start in range(0, len(items), size):
        yield items[start : start + size]

"""Account codes in the store."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    RowMapping,
    bindparam,
    delete,
    false,
    func,
    insert,
    or_,
    select,
    update,
)

from proxy.errors import ConfigurationError
from proxy.policy import AccountCode, OwnerKind, dial_form, refuse_duplicate
from proxy.store.audit import SYSTEM, Actor, write_audit
from proxy.store.changes import ChangeAction, ChangeKind, log_change
from proxy.store.database import Database
from proxy.store.models import account_codes, groups, users
from proxy.store.rows import code_facts, code_row, read_code
from proxy.store.versions import VersionConflict, Versioned

__all__ = ["CodeOrder", "CodesRepository", "Progress", "UpsertResult"]

_CHUNK = 2000
_TOLD_AT_ONCE = 500
"""Codes in one row of the audit log."""
_Item = TypeVar("_Item")

Progress = Callable[[int, int], None]
"""Called with how many are done and how many there are."""


class CodeOrder(enum.StrEnum):
    """How a list of codes is sorted."""

    DIGITS = "digits"
    DESCRIPTION = "description"
    NEWEST = "newest"
    USES = "uses"
    VALID_UNTIL = "valid_until"
    ENABLED = "enabled"


@dataclass(frozen=True, slots=True)
class UpsertResult:
    """What a bulk upsert did, or would do."""

    added: int
    changed: int
    unchanged: int


class CodesRepository:
    """All account codes. Every change is one transaction together with its line in the change log."""

    def __init__(self, database: Database, actor: Actor = SYSTEM) -> None:
        self._database = database
        self._actor = actor

    def add(self, code: AccountCode) -> None:
        """Add one code. Raises `ConfigurationError` when its digits are taken or its owner is unknown."""
        self.upsert_many([code], may_update=False)

    def save(self, code: AccountCode) -> None:
        """Add or replace one code; its count of uses stays."""
        self.upsert_many([code], may_update=True)

    def upsert_many(
        self,
        codes: Sequence[AccountCode],
        *,
        may_update: bool,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> UpsertResult:
        """Add codes, and with ``may_update`` replace those that exist: all of them or none.

        Raises `ConfigurationError` naming both codes when two dial the same digits, or one that exists may
        not be updated, or an owner is unknown.
        """
        given = _unique(codes)
        added: list[AccountCode] = []
        changed: list[tuple[AccountCode, AccountCode]] = []
        done = 0
        with self._database.write() as connection:
            _check_owners(connection, codes)
            for chunk in _chunks(list(given)):
                present = _present(connection, chunk)
                for digits in chunk:
                    code = given[digits]
                    old = present.get(digits)
                    if old is None:
                        added.append(code)
                    elif not may_update:
                        refuse_duplicate(code, old)
                    elif old != replace(code, uses=old.uses):
                        changed.append((old, code))
            result = UpsertResult(len(added), len(changed), len(given) - len(added) - len(changed))
            if dry_run or not (added or changed):
                return result
            change = log_change(connection, ChangeKind.CODE, ChangeAction.SAVED)
            total = len(added) + len(changed)
            for chunk_of_codes in _chunks(added):
                rows = [{**code_row(code, change), "uses": 0} for code in chunk_of_codes]
                connection.execute(insert(account_codes), rows)
                done += len(rows)
                if progress is not None:
                    progress(done, total)
            for pairs in _chunks(changed):
                rows = [{**code_row(code, change), "key": code.digits} for _, code in pairs]
                columns: dict[str, BindParameter[object]] = {
                    name: bindparam(name) for name in rows[0] if name not in {"key", "digits"}
                }
                statement = update(account_codes).where(account_codes.c.digits == bindparam("key"))
                connection.execute(statement.values(**columns, version=account_codes.c.version + 1), rows)
                done += len(rows)
                if progress is not None:
                    progress(done, total)
            ids = _ids_of_change(connection, change)
            self._tell(connection, "add", [(ids[code.digits], None, code) for code in added])
            self._tell(connection, "change", [(ids[new.digits], old, new) for old, new in changed])
        return result

    def get(self, typed: str) -> AccountCode | None:
        """The code that is dialled like this typed form, or None. Raises `ConfigurationError` for no code."""
        with self._database.read() as connection:
            return _present(connection, [dial_form(typed)]).get(dial_form(typed))

    def by_id(self, code_id: int) -> Versioned[AccountCode] | None:
        """The code of this row, or None."""
        with self._database.read() as connection:
            return _by_ids(connection, [code_id]).get(code_id)

    def find(self, typed: str) -> Versioned[AccountCode] | None:
        """The code that is dialled like this typed form with its id and version, or None."""
        statement = select(account_codes).where(account_codes.c.digits == dial_form(typed))
        with self._database.read() as connection:
            row = connection.execute(statement).mappings().first()
            return None if row is None else _versioned(row)

    def after(self, last_id: int, *, search: str = "", limit: int = 100) -> list[Versioned[AccountCode]]:
        """The codes that came after one, by age: a list that is read page by page misses none that stays."""
        statement = select(account_codes).where(account_codes.c.id > last_id, *_matching(search))
        with self._database.read() as connection:
            rows = connection.execute(statement.order_by(account_codes.c.id).limit(limit)).mappings()
            return [_versioned(row) for row in rows]

    def change(self, code_id: int, code: AccountCode, *, version: int) -> Versioned[AccountCode]:
        """Replace everything of one code but its count of uses; it may dial other digits afterwards.

        Raises `VersionConflict` when somebody else was first, and `ConfigurationError` when there is no such
        code, another dials the same (both are named) or the owner is unknown.
        """
        with self._database.write() as connection:
            old = _by_ids(connection, [code_id]).get(code_id)
            if old is None:
                raise ConfigurationError("the code does not exist (any more)")
            if version != old.version:
                raise VersionConflict(f"code {old.value.form}", old)
            new = replace(code, uses=old.value.uses)
            if new == old.value:
                return old
            _check_owners(connection, [new])
            if new.digits != old.value.digits:
                if (other := _present(connection, [new.digits]).get(new.digits)) is not None:
                    refuse_duplicate(new, other)
                log_change(connection, ChangeKind.CODE, ChangeAction.DELETED, [old.value.digits])
            change = log_change(connection, ChangeKind.CODE, ChangeAction.SAVED)
            statement = update(account_codes).where(account_codes.c.id == code_id)
            connection.execute(statement.values(**code_row(new, change), version=version + 1))
            self._tell(connection, "change", [(code_id, old.value, new)])
        return Versioned(new, version + 1, code_id)

    def enable_many(self, ids: Sequence[int], *, enabled: bool) -> int:
        """Enable or disable codes by id: all, or none when one is unknown; returns how many changed."""
        with self._database.write() as connection:
            found = _expect_ids(connection, ids)
            changed = {key: code for key, code in found.items() if code.value.enabled is not enabled}
            if not changed:
                return 0
            change = log_change(connection, ChangeKind.CODE, ChangeAction.SAVED)
            for chunk in _chunks(list(changed)):
                statement = update(account_codes).where(account_codes.c.id.in_(chunk))
                connection.execute(
                    statement.values(enabled=enabled, change_id=change, version=account_codes.c.version + 1)
                )
            self._tell(
                connection,
                "enable" if enabled else "disable",
                [(key, code.value, replace(code.value, enabled=enabled)) for key, code in changed.items()],
            )
        return len(changed)

    def delete_ids(self, ids: Sequence[int]) -> int:
        """Delete codes by id: all, or none when one is unknown (`ConfigurationError`)."""
        with self._database.write() as connection:
            found = _expect_ids(connection, ids)
            self._delete(connection, found)
        return len(found)

    def delete_one(self, code_id: int, *, version: int | None = None) -> None:
        """Delete one code. Raises `ConfigurationError` when it is unknown, and with a ``version``
        `VersionConflict` when it is not the present one.
        """
        with self._database.write() as connection:
            found = _expect_ids(connection, [code_id])
            old = found[code_id]
            if version is not None and version != old.version:
                raise VersionConflict(f"code {old.value.form}", old)
            self._delete(connection, found)

    def _delete(self, connection: Connection, found: Mapping[int, Versioned[AccountCode]]) -> None:
        if not found:
            return
        for chunk in _chunks(list(found)):
            connection.execute(delete(account_codes).where(account_codes.c.id.in_(chunk)))
        digits = [code.value.digits for code in found.values()]
        log_change(connection, ChangeKind.CODE, ChangeAction.DELETED, digits)
        self._tell(connection, "delete", [(key, code.value, None) for key, code in found.items()])

    def _tell(
        self,
        connection: Connection,
        action: str,
        changes: Sequence[tuple[int, AccountCode | None, AccountCode | None]],
    ) -> None:
        """Write what became of codes into the audit log: many at once in rows of some hundred."""
        for chunk in _chunks(changes, _TOLD_AT_ONCE):
            before = [{"id": key, **code_facts(old)} for key, old, _ in chunk if old is not None]
            after = [{"id": key, **code_facts(new)} for key, _, new in chunk if new is not None]
            single = len(changes) == 1
            write_audit(
                connection,
                self._actor,
                action,
                "code",
                str(chunk[0][0]) if single else f"{len(chunk)} of {len(changes)}",
                before=(before[0] if single else before) if before else None,
                after=(after[0] if single else after) if after else None,
            )

    def delete_many(self, typed: Sequence[str]) -> int:
        """Delete codes by any form of them: all, or none when one is unknown (`ConfigurationError`)."""
        wanted = {dial_form(item): item for item in typed}
        with self._database.write() as connection:
            found: dict[int, Versioned[AccountCode]] = {}
            for chunk in _chunks(list(wanted)):
                statement = select(account_codes).where(account_codes.c.digits.in_(chunk))
                rows = connection.execute(statement).mappings().all()
                present = {str(row["digits"]): row for row in rows}
                for digits in chunk:
                    if digits not in present:
                        message = f"code {wanted[digits]} does not exist"
                        raise ConfigurationError(message)
                found |= {int(row["id"]): _versioned(row) for row in rows}
            self._delete(connection, found)
        return len(wanted)

    def count(self, search: str = "") -> int:
        """How many codes a search finds."""
        statement = select(func.count()).select_from(account_codes).where(*_matching(search))
        with self._database.read() as connection:
            return int(connection.execute(statement).scalar() or 0)

    def page(
        self,
        search: str = "",
        *,
        offset: int = 0,
        limit: int = 100,
        order: CodeOrder = CodeOrder.DIGITS,
        descending: bool = False,
    ) -> list[AccountCode]:
        """One page of a list. ``search`` is a part of the code in any form, or of the description."""
        found = self.versioned_page(search, offset=offset, limit=limit, order=order, descending=descending)
        return [code.value for code in found]

    def versioned_page(
        self,
        search: str = "",
        *,
        offset: int = 0,
        limit: int = 100,
        order: CodeOrder = CodeOrder.DIGITS,
        descending: bool = False,
    ) -> list[Versioned[AccountCode]]:
        """The same with the id and the version of each code. What the order leaves open goes by age."""
        column = _ORDERS[order]
        if descending is not (order is CodeOrder.NEWEST):
            column = column.desc()
        statement = (
            select(account_codes)
            .where(*_matching(search))
            .order_by(column, account_codes.c.id)
            .offset(offset)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [_versioned(row) for row in connection.execute(statement).mappings()]

    def present(self, digits: Sequence[str]) -> dict[str, AccountCode]:
        """Those of these dial forms that exist."""
        found: dict[str, AccountCode] = {}
        with self._database.read() as connection:
            for chunk in _chunks(digits):
                found |= _present(connection, chunk)
        return found

    def stream(self) -> Iterator[AccountCode]:
        """All codes in order of their digits, a chunk at a time, each chunk in a transaction of its own."""
        last = ""
        while True:
            statement = (
                select(account_codes)
                .where(account_codes.c.digits > last)
                .order_by(account_codes.c.digits)
                .limit(_CHUNK)
            )
            with self._database.read() as connection:
                chunk = [read_code(row) for row in connection.execute(statement).mappings()]
            if not chunk:
                return
            yield from chunk
            last = chunk[-1].digits


_ORDERS: dict[CodeOrder, ColumnElement[Any]] = {
    CodeOrder.DIGITS: account_codes.c.digits,
    CodeOrder.DESCRIPTION: func.lower(account_codes.c.description),
    CodeOrder.NEWEST: account_codes.c.id,
    CodeOrder.USES: account_codes.c.uses,
    CodeOrder.VALID_UNTIL: account_codes.c.valid_until,
    CodeOrder.ENABLED: account_codes.c.enabled,
}


def _versioned(row: RowMapping) -> Versioned[AccountCode]:
    return Versioned(read_code(row), int(row["version"]), int(row["id"]))


def _by_ids(connection: Connection, ids: Sequence[int]) -> dict[int, Versioned[AccountCode]]:
    statement = select(account_codes).where(account_codes.c.id.in_(ids))
    return {int(row["id"]): _versioned(row) for row in connection.execute(statement).mappings()}


def _expect_ids(connection: Connection, ids: Sequence[int]) -> dict[int, Versioned[AccountCode]]:
    found: dict[int, Versioned[AccountCode]] = {}
    wanted = list(dict.fromkeys(ids))
    for chunk in _chunks(wanted):
        found |= _by_ids(connection, chunk)
    if len(found) != len(wanted):
        message = f"{len(wanted) - len(found)} of these codes do not exist (any more)"
        raise ConfigurationError(message)
    return found


def _ids_of_change(connection: Connection, change: int) -> dict[str, int]:
    statement = select(account_codes.c.digits, account_codes.c.id).where(account_codes.c.change_id == change)
    return {str(digits): int(key) for digits, key in connection.execute(statement)}


def _unique(codes: Sequence[AccountCode]) -> dict[str, AccountCode]:
    found: dict[str, AccountCode] = {}
    for code in codes:
        if (other := found.get(code.digits)) is not None:
            refuse_duplicate(code, other)
        found[code.digits] = code
    return found


def _check_owners(connection: Connection, codes: Sequence[AccountCode]) -> None:
    for kind, column in ((OwnerKind.GROUP, groups.c.name), (OwnerKind.USER, users.c.extension)):
        named = {code.owner.name for code in codes if code.owner.kind is kind}
        if not named:
            continue
        known = {str(name) for name in connection.execute(select(column)).scalars()}
        if missing := sorted(named - known):
            message = f"code owner: {kind.value} {missing[0]!r} does not exist"
            raise ConfigurationError(message)


def _present(connection: Connection, digits: Sequence[str]) -> dict[str, AccountCode]:
    statement = select(account_codes).where(account_codes.c.digits.in_(digits))
    codes = [read_code(row) for row in connection.execute(statement).mappings()]
    return {code.digits: code for code in codes}


def _matching(search: str) -> list[ColumnElement[bool]]:
    search = search.strip()
    if not search:
        return []
    fits = [
        account_codes.c.description.icontains(search, autoescape=True),
        account_codes.c.typed.icontains(search, autoescape=True),
    ]
    try:
        fits.append(account_codes.c.digits.contains(dial_form(search), autoescape=True))
    except ConfigurationError:
        # What no keypad can dial is looked for in the texts alone.
        fits.append(false())
    return [or_(*fits)]


def _chunks(items: Sequence[_Item], size: int = _CHUNK) -> Iterator[Sequence[_Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]

"""Account codes in the store."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
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
from proxy.store.changes import ChangeAction, ChangeKind, log_change
from proxy.store.database import Database
from proxy.store.models import account_codes, groups, users
from proxy.store.rows import code_row, read_code

__all__ = ["CodeOrder", "CodesRepository", "Progress", "UpsertResult"]

_CHUNK = 2000
_Item = TypeVar("_Item")

Progress = Callable[[int, int], None]
"""Called with how many are done and how many there are."""


class CodeOrder(enum.StrEnum):
    """How a list of codes is sorted."""

    DIGITS = "digits"
    DESCRIPTION = "description"
    NEWEST = "newest"


@dataclass(frozen=True, slots=True)
class UpsertResult:
    """What a bulk upsert did, or would do."""

    added: int
    changed: int
    unchanged: int


class CodesRepository:
    """All account codes. Every change is one transaction together with its line in the change log."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
        changed: list[AccountCode] = []
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
                        changed.append(code)
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
            for chunk_of_codes in _chunks(changed):
                rows = [{**code_row(code, change), "key": code.digits} for code in chunk_of_codes]
                columns: dict[str, BindParameter[object]] = {
                    name: bindparam(name) for name in rows[0] if name not in {"key", "digits"}
                }
                statement = update(account_codes).where(account_codes.c.digits == bindparam("key"))
                connection.execute(statement.values(**columns), rows)
                done += len(rows)
                if progress is not None:
                    progress(done, total)
        return result

    def get(self, typed: str) -> AccountCode | None:
        """The code that is dialled like this typed form, or None. Raises `ConfigurationError` for no code."""
        with self._database.read() as connection:
            return _present(connection, [dial_form(typed)]).get(dial_form(typed))

    def delete_many(self, typed: Sequence[str]) -> int:
        """Delete codes by any form of them: all, or none when one is unknown (`ConfigurationError`)."""
        wanted = {dial_form(item): item for item in typed}
        with self._database.write() as connection:
            for chunk in _chunks(list(wanted)):
                present = _present(connection, chunk)
                for digits in chunk:
                    if digits not in present:
                        message = f"code {wanted[digits]} does not exist"
                        raise ConfigurationError(message)
                connection.execute(delete(account_codes).where(account_codes.c.digits.in_(chunk)))
            if wanted:
                log_change(connection, ChangeKind.CODE, ChangeAction.DELETED, list(wanted))
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
        column: ColumnElement[object] = {
            CodeOrder.DIGITS: account_codes.c.digits,
            CodeOrder.DESCRIPTION: account_codes.c.description,
            CodeOrder.NEWEST: account_codes.c.id,
        }[order]
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
            return [read_code(row) for row in connection.execute(statement).mappings()]

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


def _chunks(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]

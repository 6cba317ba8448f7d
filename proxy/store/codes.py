"""Account codes in the store."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, false, func, or_, select, update

from proxy.errors import ConfigurationError
from proxy.policy import AccountCode, dial_form, refuse_duplicate
from proxy.store.audit import SYSTEM, Actor
from proxy.store.changes import ChangeAction, ChangeKind, log_change
from proxy.store.code_bulk import Progress, UpsertResult, upsert_codes
from proxy.store.code_rows import (
    check_owners,
    chunks,
    codes_by_digits,
    codes_by_id,
    tell_changes,
    told,
    versioned_code,
)
from proxy.store.database import Database
from proxy.store.models import account_codes
from proxy.store.rows import code_row, read_code
from proxy.store.schedules import end_schedules
from proxy.store.versions import VersionConflict, Versioned

__all__ = ["CodeOrder", "CodesRepository", "Progress", "UpsertResult"]

_CHUNK = 2000


class CodeOrder(enum.StrEnum):
    """How a list of codes is sorted."""

    DIGITS = "digits"
    DESCRIPTION = "description"
    NEWEST = "newest"
    USES = "uses"
    VALID_UNTIL = "valid_until"
    ENABLED = "enabled"


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
        held_against: Mapping[str, Versioned[AccountCode]] | None = None,
    ) -> UpsertResult:
        """Add codes, and with ``may_update`` replace those that exist: all of them or none.

        Raises `ConfigurationError` naming both codes when two dial the same digits, or one that exists may
        not be updated, or an owner is unknown. With ``held_against`` (`present`, when they were made up)
        raises `VersionConflict` when one of them was added, changed or deleted since.
        """
        return upsert_codes(
            self._database,
            self._actor,
            codes,
            may_update=may_update,
            dry_run=dry_run,
            progress=progress,
            held_against=held_against,
        )

    def get(self, typed: str) -> AccountCode | None:
        """The code that is dialled like this typed form, or None. Raises `ConfigurationError` for no code."""
        with self._database.read() as connection:
            found = codes_by_digits(connection, [dial_form(typed)])
        return next((code.value for code in found.values()), None)

    def by_id(self, code_id: int) -> Versioned[AccountCode] | None:
        """The code of this row, or None."""
        with self._database.read() as connection:
            return codes_by_id(connection, [code_id]).get(code_id)

    def find(self, typed: str) -> Versioned[AccountCode] | None:
        """The code that is dialled like this typed form with its id and version, or None."""
        statement = select(account_codes).where(account_codes.c.digits == dial_form(typed))
        with self._database.read() as connection:
            row = connection.execute(statement).mappings().first()
            return None if row is None else versioned_code(row)

    def after(self, last_id: int, *, search: str = "", limit: int = 100) -> list[Versioned[AccountCode]]:
        """The codes that came after one, by age: a list that is read page by page misses none that stays."""
        statement = select(account_codes).where(account_codes.c.id > last_id, *_matching(search))
        with self._database.read() as connection:
            rows = connection.execute(statement.order_by(account_codes.c.id).limit(limit)).mappings()
            return [versioned_code(row) for row in rows]

    def change(self, code_id: int, code: AccountCode, *, version: int) -> Versioned[AccountCode]:
        """Replace everything of one code but its count of uses; it may dial other digits afterwards.

        Raises `VersionConflict` when somebody else was first, and `ConfigurationError` when there is no such
        code, another dials the same (both are named) or the owner is unknown.
        """
        with self._database.write() as connection:
            old = codes_by_id(connection, [code_id]).get(code_id)
            if old is None:
                raise ConfigurationError("the code does not exist (any more)")
            if version != old.version:
                raise VersionConflict(f"code {old.value.form}", old)
            new = replace(code, uses=old.value.uses)
            if new == old.value:
                return old
            check_owners(connection, [new])
            if new.digits != old.value.digits:
                if (other := codes_by_digits(connection, [new.digits]).get(new.digits)) is not None:
                    refuse_duplicate(new, other.value)
                log_change(connection, ChangeKind.CODE, ChangeAction.DELETED, [old.value.digits])
            change = log_change(connection, ChangeKind.CODE, ChangeAction.SAVED)
            statement = update(account_codes).where(account_codes.c.id == code_id)
            connection.execute(statement.values(**code_row(new, change), version=version + 1))
            tell_changes(connection, self._actor, "change", [(code_id, told(old.value), told(new))])
        return Versioned(new, version + 1, code_id)

    def enable_many(self, ids: Sequence[int], *, enabled: bool) -> int:
        """Enable or disable codes by id: all, or none when one is unknown; returns how many changed."""
        with self._database.write() as connection:
            found = _expect_ids(connection, ids)
            changed = {key: code for key, code in found.items() if code.value.enabled is not enabled}
            if not changed:
                return 0
            change = log_change(connection, ChangeKind.CODE, ChangeAction.SAVED)
            for chunk in chunks(list(changed)):
                statement = update(account_codes).where(account_codes.c.id.in_(chunk))
                connection.execute(
                    statement.values(enabled=enabled, change_id=change, version=account_codes.c.version + 1)
                )
            tell_changes(
                connection,
                self._actor,
                "enable" if enabled else "disable",
                [
                    (key, told(code.value), told(replace(code.value, enabled=enabled)))
                    for key, code in changed.items()
                ],
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
        for chunk in chunks(list(found)):
            connection.execute(delete(account_codes).where(account_codes.c.id.in_(chunk)))
        digits = [code.value.digits for code in found.values()]
        log_change(connection, ChangeKind.CODE, ChangeAction.DELETED, digits)
        gone = [(key, told(code.value), "") for key, code in found.items()]
        tell_changes(connection, self._actor, "delete", gone)
        end_schedules(connection, self._actor, code_ids=found)

    def delete_many(self, typed: Sequence[str]) -> int:
        """Delete codes by any form of them: all, or none when one is unknown (`ConfigurationError`)."""
        wanted = {dial_form(item): item for item in typed}
        with self._database.write() as connection:
            found: dict[int, Versioned[AccountCode]] = {}
            for chunk in chunks(list(wanted)):
                statement = select(account_codes).where(account_codes.c.digits.in_(chunk))
                rows = connection.execute(statement).mappings().all()
                present = {str(row["digits"]): row for row in rows}
                for digits in chunk:
                    if digits not in present:
                        message = f"code {wanted[digits]} does not exist"
                        raise ConfigurationError(message)
                found |= {int(row["id"]): versioned_code(row) for row in rows}
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
        column, falling = _ORDERS[order], descending is not (order is CodeOrder.NEWEST)
        if falling:
            column = column.desc()
        if order is CodeOrder.VALID_UNTIL:
            # Codes without a last day come first, on every database.
            column = column.nulls_last() if falling else column.nulls_first()
        statement = (
            select(account_codes)
            .where(*_matching(search))
            .order_by(column, account_codes.c.id)
            .offset(offset)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [versioned_code(row) for row in connection.execute(statement).mappings()]

    def present(self, digits: Sequence[str]) -> dict[str, Versioned[AccountCode]]:
        """Those of these dial forms that exist."""
        found: dict[str, Versioned[AccountCode]] = {}
        with self._database.read() as connection:
            for chunk in chunks(digits):
                found |= codes_by_digits(connection, chunk)
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


def _expect_ids(connection: Connection, ids: Sequence[int]) -> dict[int, Versioned[AccountCode]]:
    found: dict[int, Versioned[AccountCode]] = {}
    wanted = list(dict.fromkeys(ids))
    for chunk in chunks(wanted):
        found |= codes_by_id(connection, chunk)
    if len(found) != len(wanted):
        message = f"{len(wanted) - len(found)} of these codes do not exist (any more)"
        raise ConfigurationError(message)
    return found


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

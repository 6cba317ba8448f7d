"""Many account codes at once: made ready beside the store, then written in one short transaction.

SQLite lets one writer in at a time, so whoever holds its lock for long keeps log-ins and call records
waiting. What takes long - to read what is there, to judge each code, to say what the audit log tells - is
done before, against the store as it is then, and the rows wait in a temporary table of their own connection.
The transaction itself looks whether all that is still true and holds a handful of statements. When somebody
was faster, it is all done again; at last under the lock, so that it comes to an end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Integer,
    MetaData,
    Table,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)

from proxy.policy import AccountCode, refuse_duplicate
from proxy.store.audit import Actor
from proxy.store.changes import ChangeAction, ChangeKind, current_version, log_change
from proxy.store.code_rows import Change, check_owners, chunks, codes_by_digits, tell_changes, told
from proxy.store.database import Database
from proxy.store.models import RowNumber, account_codes
from proxy.store.rows import code_row
from proxy.store.versions import VersionConflict, Versioned

__all__ = ["Progress", "UpsertResult", "upsert_codes"]

_FEW = 100
"""So many are made ready under the lock: that takes no longer than to look twice."""
_TRIES = 3

Progress = Callable[[int, int], None]
"""Called with how many are done and how many there are."""


@dataclass(frozen=True, slots=True)
class UpsertResult:
    """What a bulk upsert did, or would do."""

    added: int
    changed: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class _Ready:
    """What is to be written, and the version of the policy that it was held against."""

    version: int
    added: Sequence[tuple[AccountCode, str]]
    """Each with what is told of it."""
    changed: Sequence[tuple[AccountCode, Change]]
    unchanged: int

    @property
    def result(self) -> UpsertResult:
        return UpsertResult(len(self.added), len(self.changed), self.unchanged)


_WRITTEN = tuple(
    column.name for column in account_codes.c if column.name not in {"id", "uses", "change_id", "version"}
)
_staged = Table(
    "staged_codes",
    MetaData(),
    Column("place", Integer, primary_key=True),
    Column("code_id", RowNumber),
    *(Column(name, account_codes.c[name].type) for name in _WRITTEN),
    Column("there", Boolean, nullable=False),
    prefixes=["TEMPORARY"],
)
"""``code_id`` is that of a code which is changed."""


def upsert_codes(
    database: Database,
    actor: Actor,
    codes: Sequence[AccountCode],
    *,
    may_update: bool,
    dry_run: bool,
    progress: Progress | None,
    held_against: Mapping[str, Versioned[AccountCode]] | None,
) -> UpsertResult:
    """Add codes, and with ``may_update`` replace those that exist: see `CodesRepository.upsert_many`."""
    given = _unique(codes)
    with database.alone() as connection:
        for _ in range(_TRIES if dry_run or len(given) > _FEW else 0):
            with database.transaction(connection):
                ready = _make_ready(connection, given, held_against, may_update=may_update)
                if dry_run or not (ready.added or ready.changed):
                    return ready.result
                _stage(connection, ready, progress)
            with database.transaction(connection, write=True):
                if _is_still_true(connection, ready):
                    _write(connection, actor, ready)
                    return ready.result
        with database.transaction(connection, write=True):
            ready = _make_ready(connection, given, held_against, may_update=may_update)
            if ready.added or ready.changed:
                _stage(connection, ready, progress)
                _write(connection, actor, ready)
            return ready.result


def _unique(codes: Sequence[AccountCode]) -> dict[str, AccountCode]:
    found: dict[str, AccountCode] = {}
    for code in codes:
        if (other := found.get(code.digits)) is not None:
            refuse_duplicate(code, other)
        found[code.digits] = code
    return found


def _make_ready(
    connection: Connection,
    given: dict[str, AccountCode],
    held_against: Mapping[str, Versioned[AccountCode]] | None,
    *,
    may_update: bool,
) -> _Ready:
    """Judge each code. Raises `ConfigurationError` and `VersionConflict`."""
    added: list[tuple[AccountCode, str]] = []
    changed: list[tuple[AccountCode, Change]] = []
    version = current_version(connection)
    check_owners(connection, list(given.values()))
    for chunk in chunks(list(given)):
        present = codes_by_digits(connection, chunk)
        for digits in chunk:
            code, old = given[digits], present.get(digits)
            if held_against is not None and _row_of(old) != _row_of(held_against.get(digits)):
                raise VersionConflict(f"code {code.form}", old)
            if old is None:
                added.append((code, told(code)))
            elif not may_update:
                refuse_duplicate(code, old.value)
            elif old.value != replace(code, uses=old.value.uses):
                changed.append((code, (old.id, told(old.value), told(code))))
    return _Ready(version, added, changed, len(given) - len(added) - len(changed))


def _row_of(code: Versioned[AccountCode] | None) -> tuple[int, int] | None:
    """Return what stays the same until an administrator changes a code."""
    return None if code is None else (code.id, code.version)


def _stage(connection: Connection, ready: _Ready, progress: Progress | None) -> None:
    """Put the rows beside the store."""
    _staged.create(connection, checkfirst=True)
    connection.execute(delete(_staged))
    wanted: list[tuple[AccountCode, int | None]] = [(code, None) for code, _ in ready.added]
    wanted += [(code, change[0]) for code, change in ready.changed]
    done = 0
    for chunk in chunks(wanted):
        rows = [
            {**code_row(code, 0), "place": place, "code_id": code_id, "there": code_id is not None}
            for place, (code, code_id) in enumerate(chunk, done)
        ]
        connection.execute(insert(_staged), rows)
        done += len(rows)
        if progress is not None:
            progress(done, len(wanted))


def _is_still_true(connection: Connection, ready: _Ready) -> bool:
    """Whether what was made ready fits the store as it is now, under the lock."""
    if current_version(connection) == ready.version:
        return True
    # Something has changed: that is no matter if it was none of these codes. The counts of uses change so.
    code = account_codes.c
    untouched = (
        select(func.count())
        .select_from(_staged.join(account_codes, code.id == _staged.c.code_id))
        .where(code.change_id <= ready.version)
    )
    if connection.execute(untouched).scalar() != len(ready.changed):
        return False
    taken = select(exists().where(code.digits == _staged.c.digits, ~_staged.c.there))
    if connection.execute(taken).scalar():
        return False
    check_owners(connection, [code for code, *_ in (*ready.added, *ready.changed)])
    return True


def _write(connection: Connection, actor: Actor, ready: _Ready) -> None:
    """Write what is staged, and tell of it."""
    change = log_change(connection, ChangeKind.CODE, ChangeAction.SAVED)
    if ready.added:
        rows = select(*(_staged.c[name] for name in _WRITTEN), literal(0), literal(change))
        names = [*_WRITTEN, "uses", "change_id"]
        new = rows.where(~_staged.c.there).order_by(_staged.c.place)
        connection.execute(insert(account_codes).from_select(names, new))
        written = select(account_codes.c.digits, account_codes.c.id).where(
            account_codes.c.change_id == change
        )
        ids = {str(digits): int(key) for digits, key in connection.execute(written)}
        tell_changes(connection, actor, "add", [(ids[code.digits], "", text) for code, text in ready.added])
    if ready.changed:
        cells = {name: _staged.c[name] for name in _WRITTEN}
        renewed = update(account_codes).where(account_codes.c.id == _staged.c.code_id)
        connection.execute(renewed.values(**cells, change_id=change, version=account_codes.c.version + 1))
        tell_changes(connection, actor, "change", [told_change for _, told_change in ready.changed])

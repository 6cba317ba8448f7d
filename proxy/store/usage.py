"""The usage log in the store: call records go in once each, and come out by filter, a chunk at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, insert, or_, select, tuple_, update

from proxy.cdr.encoding import RecordFormatError, decode_record, encode_record
from proxy.cdr.record import CallRecord, Direction, Disposition
from proxy.cdr.tail import JournalEntry
from proxy.store.changes import ChangeAction, ChangeKind, log_change
from proxy.store.database import Database, StoreUnavailable
from proxy.store.models import account_codes, call_records

__all__ = ["UsageFilter", "UsageRepository", "UsageSink"]

_CHUNK = 1000
_ROW_COUNTS = (64, 8, 1)
_Cell = str | int | float | bool | None

# Each cell of a row and how it is had; widths as in the table, because PostgreSQL refuses longer text.
_CELLS: tuple[tuple[str, Callable[[CallRecord], _Cell]], ...] = (
    ("record_id", lambda record: record.record_id),
    ("start_time", lambda record: record.start_time),
    ("duration", lambda record: record.ended_after),
    ("talk_time", lambda record: record.talk_time),
    ("direction", lambda record: record.direction.value),
    ("caller_number", lambda record: _clean(record.caller_number, 64)),
    ("user", lambda record: _clean(record.user, 20)),
    ("group_name", lambda record: _clean(record.group, 64)),
    ("dialled_number", lambda record: _clean(record.dialled_number, 64)),
    ("normalised_number", lambda record: _clean(record.normalised_number, 64)),
    ("destination_user", lambda record: _clean(record.destination_user, 20)),
    ("call_class", lambda record: _clean(record.call_class, 16)),
    ("disposition", lambda record: record.disposition.value),
    ("emergency", lambda record: record.emergency),
    ("code_key", lambda record: None if record.code is None else record.code.key),
    ("code_form", lambda record: None if record.code is None else _clean(record.code.form, 64)),
    ("location", lambda record: _clean(record.location, 64)),
)
_COLUMNS = (*(name for name, _ in _CELLS), "body")


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """Which records to show. Times in UTC seconds since the epoch, ``since`` included and ``until`` not."""

    since: float | None = None
    until: float | None = None
    user: str = ""
    group: str = ""
    code_key: str = field(default="", repr=False)
    """The digits under which the code is stored."""
    call_class: str = ""
    disposition: Disposition | None = None
    direction: Direction | None = None
    number: str = ""
    """Part of the dialled, normalised or calling number."""
    newest_first: bool = False


class UsageRepository:
    """The usage log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def insert_many(self, records: Iterable[CallRecord]) -> int:
        """Insert final records; one that is there already stays as it is. Returns how many were new."""
        return self.insert_encoded([(record, encode_record(record)) for record in records])

    def insert_encoded(self, records: Sequence[tuple[CallRecord, str]]) -> int:
        """The same for records whose JSON is at hand.

        In the same transaction each accepted code of an answered call is counted as used, once per record.
        """
        if self._database.sqlite:
            try:
                with self._database.write() as connection:
                    if self._insert_sqlite(connection, records) != len(records):
                        raise _Repeated
                    _count_uses(connection, [record for record, _ in records])
            except _Repeated:
                # Some are there already (offered again after a crash): sort them out below.
                pass
            else:
                return len(records)
        with self._database.write() as connection:
            fresh = self._unknown(connection, records)
            if fresh:
                rows = [dict(zip(_COLUMNS, row, strict=True)) for row in _rows(fresh)]
                connection.execute(insert(call_records), rows)
                _count_uses(connection, [record for record, _ in fresh])
        return len(fresh)

    def count(self, wanted: UsageFilter | None = None) -> int:
        """How many records a filter shows."""
        statement = _filtered(select(func.count()).select_from(call_records), wanted or UsageFilter())
        with self._database.read() as connection:
            return int(connection.execute(statement).scalar() or 0)

    def get(self, record_id: str) -> CallRecord | None:
        """The record of this id, or None."""
        statement = select(call_records.c.body).where(call_records.c.record_id == record_id)
        with self._database.read() as connection:
            body = connection.execute(statement).scalar()
        return None if body is None else _read_body(str(body))

    def page(
        self, wanted: UsageFilter | None = None, *, offset: int = 0, limit: int = 100
    ) -> list[CallRecord]:
        """One page in order of start."""
        wanted = wanted or UsageFilter()
        statement = _ordered(_filtered(select(call_records.c.body), wanted), wanted)
        with self._database.read() as connection:
            bodies = connection.execute(statement.offset(offset).limit(limit)).scalars().all()
        return [_read_body(str(body)) for body in bodies]

    def stream(self, wanted: UsageFilter | None = None) -> Iterator[CallRecord]:
        """All records that a filter shows, in order of start, with flat memory and no long transaction."""
        wanted = wanted or UsageFilter()
        key = tuple_(call_records.c.start_time, call_records.c.id)
        columns = select(call_records.c.start_time, call_records.c.id, call_records.c.body)
        statement = _ordered(_filtered(columns, wanted), wanted).limit(_CHUNK)
        following = statement
        while True:
            with self._database.read() as connection:
                rows = connection.execute(following).all()
            for row in rows:
                yield _read_body(str(row[2]))
            if len(rows) < _CHUNK:
                return
            last = tuple_(rows[-1][0], rows[-1][1])
            following = statement.where(key < last if wanted.newest_first else key > last)

    @staticmethod
    def _unknown(
        connection: Connection, records: Sequence[tuple[CallRecord, str]]
    ) -> list[tuple[CallRecord, str]]:
        by_id = {record.record_id: (record, body) for record, body in reversed(records)}
        ids = list(by_id)
        for start in range(0, len(ids), _CHUNK):
            column = call_records.c.record_id
            statement = select(column).where(column.in_(ids[start : start + _CHUNK]))
            for known in connection.execute(statement).scalars():
                del by_id[str(known)]
        return [item for item in records if by_id.pop(item[0].record_id, None) is not None]

    @staticmethod
    def _insert_sqlite(connection: Connection, records: Sequence[tuple[CallRecord, str]]) -> int:
        """Insert those that are not there; returns how many.

        Many rows in one statement: SQLite's driver gives up the interpreter lock once per statement, and
        beside a busy event loop each time may cost a switch interval.
        """
        rows = _rows(records)
        done = inserted = 0
        for count in _ROW_COUNTS:
            while len(rows) - done >= count:
                cells = tuple(cell for row in rows[done : done + count] for cell in row)
                inserted += connection.exec_driver_sql(_INSERTS[count], cells).rowcount
                done += count
        return inserted


class _Repeated(Exception):  # noqa: N818 - never leaves this module
    """A batch holds records that the table has already."""


def _rows(records: Sequence[tuple[CallRecord, str]]) -> list[tuple[_Cell, ...]]:
    return [(*(cell(record) for _, cell in _CELLS), body) for record, body in records]


_MARKS = f"({', '.join('?' * len(_COLUMNS))})"
_NAMES = ", ".join(f'"{name}"' for name in _COLUMNS)
_INSERTS = {
    count: f"INSERT INTO call_records ({_NAMES}) VALUES {', '.join([_MARKS] * count)}"  # noqa: S608 - names only
    " ON CONFLICT (record_id) DO NOTHING"
    for count in _ROW_COUNTS
}


def _clean(value: str, width: int) -> str:
    """Text as every database takes it: no NUL, no lone surrogate, no longer than the column."""
    if len(value) <= width and value.isascii() and "\0" not in value:
        return value
    return value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")[:width]


def _count_uses(connection: Connection, records: Sequence[CallRecord]) -> None:
    used = Counter(
        record.code.key
        for record in records
        # A code that only stays with its call, in a segment that needs none, is not used again.
        if record.code is not None and record.answered_after is not None and record.code_means != "carried"
    )
    if not used:
        return
    counted = update(account_codes).where(account_codes.c.digits == bindparam("key"))
    connection.execute(
        counted.values(uses=account_codes.c.uses + bindparam("more")),
        [{"key": key, "more": more} for key, more in used.items()],
    )
    # Only codes with a maximum are policy when they are used: a change makes the gate read their count.
    limited = select(account_codes.c.digits).where(
        account_codes.c.digits.in_(list(used)), account_codes.c.max_uses.is_not(None)
    )
    if keys := list(connection.execute(limited).scalars()):
        change = log_change(connection, ChangeKind.CODE, ChangeAction.SAVED)
        statement = update(account_codes).where(account_codes.c.digits.in_(keys))
        connection.execute(statement.values(change_id=change))


def _read_body(body: str) -> CallRecord:
    try:
        return decode_record(body)
    except RecordFormatError as error:
        raise StoreUnavailable(f"store: {error}") from error


def _filtered(statement: Select[*tuple[Any, ...]], wanted: UsageFilter) -> Select[*tuple[Any, ...]]:
    columns = call_records.c
    conditions: list[ColumnElement[bool]] = []
    if wanted.since is not None:
        conditions.append(columns.start_time >= wanted.since)
    if wanted.until is not None:
        conditions.append(columns.start_time < wanted.until)
    for column, value in (
        (columns.user, wanted.user),
        (columns.group_name, wanted.group),
        (columns.code_key, wanted.code_key),
        (columns.call_class, wanted.call_class),
        (columns.disposition, wanted.disposition),
        (columns.direction, wanted.direction),
    ):
        if value:
            conditions.append(column == str(value))
    if wanted.number:
        numbers = (columns.dialled_number, columns.normalised_number, columns.caller_number)
        conditions.append(or_(*(column.contains(wanted.number, autoescape=True) for column in numbers)))
    return statement.where(*conditions)


def _ordered(statement: Select[*tuple[Any, ...]], wanted: UsageFilter) -> Select[*tuple[Any, ...]]:
    if wanted.newest_first:
        return statement.order_by(call_records.c.start_time.desc(), call_records.c.id.desc())
    return statement.order_by(call_records.c.start_time, call_records.c.id)


class UsageSink:
    """Takes the journal's final records into the usage log (`proxy.cdr.sinks.RecordSink`)."""

    def __init__(self, usage: UsageRepository) -> None:
        self._usage = usage

    def write(self, entries: Sequence[JournalEntry]) -> str:
        """Insert a batch. Raises `StoreUnavailable`."""
        self._usage.insert_encoded([(entry.record, entry.payload) for entry in entries])
        return ""

    def resume(self, note: str) -> None:
        """Nothing to do: the usage log knows its records by their ids."""

"""The usage log in the store: call records go in once each, and come out by filter, a chunk at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from typing import Any, TypeVar

from sqlalchemy import (
    Connection,
    Row,
    Select,
    bindparam,
    func,
    insert,
    select,
    text,
    tuple_,
    update,
)

from proxy.cdr.encoding import RecordFormatError, decode_record, encode_record
from proxy.cdr.record import CallRecord, UsedCode
from proxy.cdr.tail import JournalEntry
from proxy.cdr.usage_log import UsageFacts
from proxy.store.changes import ChangeAction, ChangeKind, log_change
from proxy.store.corrections import Correction, last_corrections
from proxy.store.database import Database, StoreUnavailable
from proxy.store.days import day_of, site_zone
from proxy.store.models import account_codes, call_records
from proxy.store.models_usage import usage_totals
from proxy.store.texts import clean_json, clean_text
from proxy.store.totals import DAY, add_numbers, add_to_totals, totals_of
from proxy.store.usage_facts import facts_statement, read_facts
from proxy.store.usage_lists import (
    COLUMNS,
    NUMBERS,
    Access,
    UsageFilter,
    UsageOrder,
    choose_access,
    count_up_to,
    find_page,
)

__all__ = [
    "UsageCount",
    "UsageEntry",
    "UsageFilter",
    "UsageOrder",
    "UsagePage",
    "UsageRepository",
    "UsageSink",
]

_NO_BOUND = 2**62
_CHUNK = 1000
_ROW_COUNTS = (64, 8, 1)
_Cell = str | int | float | bool | None
_Found = TypeVar("_Found")

# Each cell of a row and how it is had; widths as in the table, because PostgreSQL refuses longer text.
_CELLS: tuple[tuple[str, Callable[[CallRecord], _Cell]], ...] = (
    ("record_id", lambda record: record.record_id),
    ("start_time", lambda record: record.start_time),
    ("duration", lambda record: record.ended_after),
    ("talk_time", lambda record: record.talk_time),
    ("direction", lambda record: record.direction.value),
    ("caller_number", lambda record: clean_text(record.caller_number, 64)),
    ("user", lambda record: clean_text(record.user, 20)),
    ("group_name", lambda record: clean_text(record.group, 64)),
    ("dialled_number", lambda record: clean_text(record.dialled_number, 64)),
    ("normalised_number", lambda record: clean_text(record.normalised_number, 64)),
    ("destination_user", lambda record: clean_text(record.destination_user, 20)),
    ("call_class", lambda record: clean_text(record.call_class, 16)),
    ("disposition", lambda record: record.disposition.value),
    ("emergency", lambda record: record.emergency),
    ("code_key", lambda record: "" if record.code is None else clean_text(_code_key(record.code), 20)),
    ("code_form", lambda record: "" if record.code is None else clean_text(record.code.form, 64)),
    ("location", lambda record: clean_text(record.location, 64)),
    ("wrong_tries", lambda record: record.wrong_tries),
)
_COLUMNS = (*(name for name, _ in _CELLS), "day", "body")


@dataclass(frozen=True, slots=True)
class UsageEntry:
    """One record of the usage log, and what was last corrected about it."""

    row_id: int
    record: CallRecord
    """As the gate wrote it."""
    correction: Correction | None = None

    @property
    def corrected(self) -> bool:
        """Its code is not the one that the gate recorded."""
        return self.correction is not None

    @property
    def code(self) -> UsedCode | None:
        """The code that counts now."""
        return self.record.code if self.correction is None else self.correction.after

    @property
    def shown(self) -> CallRecord:
        """The record with the code that counts now: what lists and exports show."""
        return replace(self.record, code=self.code) if self.corrected else self.record


@dataclass(frozen=True, slots=True)
class UsagePage:
    """One page of a list, and the cursors of its neighbours; "" where there is none."""

    entries: list[UsageEntry]
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class UsageCount:
    """How many records there are, or that there are more than ``number``."""

    number: int
    exact: bool


class UsageRepository:
    """The usage log."""

    def __init__(self, database: Database, *, zone: tzinfo | None = None) -> None:
        """``zone`` says to which day a call belongs; None: the site's own."""
        self._database = database
        self._zone = zone or site_zone()

    def insert_many(self, records: Iterable[CallRecord]) -> int:
        """Insert final records; one that is there already stays as it is. Returns how many were new."""
        return self.insert_encoded([(record, encode_record(record)) for record in records])

    def insert_encoded(self, records: Sequence[tuple[CallRecord, str]]) -> int:
        """The same for records whose JSON is at hand.

        In the same transaction each accepted code of an answered call is counted as used, and each record in
        the totals: once per record.
        """
        cells = {record.record_id: self._cells(record, body) for record, body in records}
        if self._database.sqlite:
            try:
                with self._database.write() as connection:
                    rows = [cells[record.record_id] for record, _ in records]
                    if _insert_sqlite(connection, rows) != len(rows):
                        raise _Repeated
                    _account(connection, [record for record, _ in records], rows)
            except _Repeated:
                # Some are there already (offered again after a crash): sort them out below.
                pass
            else:
                return len(records)
        with self._database.write() as connection:
            fresh = self._unknown(connection, records)
            if fresh:
                rows = [cells[record.record_id] for record in fresh]
                connection.execute(insert(call_records), rows)
                _account(connection, fresh, rows)
        return len(fresh)

    def _cells(self, record: CallRecord, body: str) -> dict[str, _Cell]:
        cells = {name: cell(record) for name, cell in _CELLS}
        cells["day"] = day_of(record.start_time, self._zone)
        cells["body"] = clean_json(body)
        return cells

    def count(self, wanted: UsageFilter | None = None) -> int:
        """How many records a filter shows."""
        return self.count_up_to(wanted, bound=_NO_BOUND).number

    def count_up_to(self, wanted: UsageFilter | None = None, *, bound: int = 10_000) -> UsageCount:
        """How many records a filter shows: exactly up to ``bound``, and always when nothing is filtered."""
        wanted = wanted or UsageFilter()
        with self._database.read() as connection:
            if replace(wanted, newest_first=False) == UsageFilter():
                total = select(func.sum(usage_totals.c.calls)).where(usage_totals.c.dimension == DAY)
                return UsageCount(int(connection.execute(total).scalar() or 0), exact=True)
            found = count_up_to(connection, wanted, bound)
        return UsageCount(min(found, bound), exact=found <= bound)

    def get(self, record_id: str) -> CallRecord | None:
        """The record of this id as the gate wrote it, or None."""
        entry = self.entry(record_id)
        return None if entry is None else entry.record

    def entry(self, record_id: str) -> UsageEntry | None:
        """The record of this id with the code that counts now, or None."""
        statement = _ENTRIES.select_from(text("call_records")).where(COLUMNS["record_id"] == record_id)
        with self._database.read() as connection:
            found = _entries(connection, connection.execute(statement).all())
        return found[0] if found else None

    def page(
        self,
        wanted: UsageFilter | None = None,
        *,
        order: UsageOrder = UsageOrder.START,
        descending: bool = True,
        cursor: str = "",
        limit: int = 100,
    ) -> UsagePage:
        """One page of a list: the first, or that of a cursor. Raises `ConfigurationError` for a cursor that
        is none.
        """
        with self._database.read() as connection:
            wanted = wanted or UsageFilter()
            access = choose_access(connection, wanted, order)
            ids, before, after = find_page(
                connection,
                access,
                order,
                descending=descending,
                cursor=cursor,
                limit=limit,
                party=wanted.party,
            )
            # The records themselves in a second step: what is sorted on the way is small.
            statement = _ENTRIES.select_from(text("call_records")).where(COLUMNS["id"].in_(ids))
            entries = _entries(connection, connection.execute(statement).all())
        by_id = {entry.row_id: entry for entry in entries}
        return UsagePage([by_id[row_id] for row_id in ids], before, after)

    @property
    def zone(self) -> tzinfo:
        """The time zone whose days calls belong to."""
        return self._zone

    def stream(self, wanted: UsageFilter | None = None) -> Iterator[CallRecord]:
        """All records that a filter shows, as `UsageEntry.shown`: see `entries`."""
        for entry in self.entries(wanted):
            yield entry.shown

    def entries(self, wanted: UsageFilter | None = None) -> Iterator[UsageEntry]:
        """All records that a filter shows, in order of start, with flat memory and no long transaction."""
        return self._walk(wanted or UsageFilter(), _ENTRIES, _entries)

    def facts(self, wanted: UsageFilter | None = None, *, corrections: bool = False) -> Iterator[UsageFacts]:
        """The same, of each record only what a row of the usage log is made of: several times as fast.

        With ``corrections`` the code that was recorded is told too, and who corrected it.
        """
        statement = facts_statement(self._database.sqlite, corrections=corrections)
        return self._walk(wanted or UsageFilter(), statement, read_facts)

    def _walk(
        self,
        wanted: UsageFilter,
        columns: Select[*tuple[Any, ...]],
        read: Callable[[Connection, Sequence[Row[*tuple[Any, ...]]]], list[_Found]],
    ) -> Iterator[_Found]:
        """Go along the log in chunks. The first two columns are the record's place in it."""
        place = (COLUMNS["start_time"], COLUMNS["id"])
        order = [cell.desc() if wanted.newest_first else cell for cell in place]
        last: tuple[float, int] | None = None
        access: Access | None = None
        while True:
            with self._database.read() as connection:
                access = access or choose_access(connection, wanted, UsageOrder.START)
                statement = columns.select_from(access.source).where(*access.conditions)
                if last is not None:
                    here, there = tuple_(*place), tuple_(*last)
                    statement = statement.where(here < there if wanted.newest_first else here > there)
                rows = connection.execute(statement.order_by(*order).limit(_CHUNK)).all()
                found = read(connection, rows)
            yield from found
            if len(rows) < _CHUNK:
                return
            last = float(rows[-1][0]), int(rows[-1][1])

    @staticmethod
    def _unknown(connection: Connection, records: Sequence[tuple[CallRecord, str]]) -> list[CallRecord]:
        by_id = {record.record_id: record for record, _ in reversed(records)}
        ids = list(by_id)
        for start in range(0, len(ids), _CHUNK):
            for known in connection.execute(_KNOWN, {"ids": ids[start : start + _CHUNK]}).scalars():
                del by_id[str(known)]
        return list(by_id.values())[::-1]


class _Repeated(Exception):  # noqa: N818 - never leaves this module
    """A batch holds records that the table has already."""


def _insert_sqlite(connection: Connection, rows: Sequence[dict[str, _Cell]]) -> int:
    """Insert those that are not there; returns how many.

    Many rows in one statement: SQLite's driver gives up the interpreter lock once per statement, and beside a
    busy event loop each time may cost a switch interval.
    """
    done = inserted = 0
    for count in _ROW_COUNTS:
        while len(rows) - done >= count:
            cells = tuple(cell for row in rows[done : done + count] for cell in row.values())
            inserted += connection.exec_driver_sql(_INSERTS[count], cells).rowcount
            done += count
    return inserted


def _account(connection: Connection, records: Sequence[CallRecord], rows: Sequence[dict[str, _Cell]]) -> None:
    """Write what new records mean elsewhere: for the uses of codes, the totals and the known numbers."""
    _count_uses(connection, records)
    add_to_totals(connection, totals_of(rows))
    add_numbers(connection, {str(row[name]) for row in rows for name in NUMBERS})


_MARKS = f"({', '.join('?' * len(_COLUMNS))})"
_NAMES = ", ".join(f'"{name}"' for name in _COLUMNS)
_INSERTS = {
    count: f"INSERT INTO call_records ({_NAMES}) VALUES {', '.join([_MARKS] * count)}"  # noqa: S608 - names only
    " ON CONFLICT (record_id) DO NOTHING"
    for count in _ROW_COUNTS
}


def _code_key(code: UsedCode) -> str:
    """The digits under which calls are found and billed: of a ``?`` code those that were dialled."""
    return code.dialled if "?" in code.key and code.dialled else code.key


def _count_uses(connection: Connection, records: Sequence[CallRecord]) -> None:
    used = Counter(
        record.code.key
        for record in records
        # A code that only stays with its call, in a segment that needs none, is not used again.
        if record.code is not None and record.answered_after is not None and record.code_means != "carried"
    )
    if not used:
        return
    connection.execute(_COUNT_USES, [{"key": key, "more": more} for key, more in used.items()])
    # Only codes with a maximum are policy when they are used: a change makes the gate read their count.
    if keys := list(connection.execute(_LIMITED_CODES, {"keys": list(used)}).scalars()):
        change = log_change(connection, ChangeKind.CODE, ChangeAction.SAVED)
        connection.execute(_CHANGE_CODES, {"keys": keys, "change": change})


# Made once: each statement that is made is a ring of references, which no collector frees while calls are up.
_KNOWN = select(call_records.c.record_id).where(
    call_records.c.record_id.in_(bindparam("ids", expanding=True))
)
_KEYS = account_codes.c.digits.in_(bindparam("keys", expanding=True))
_COUNT_USES = (
    update(account_codes)
    .where(account_codes.c.digits == bindparam("key"))
    .values(uses=account_codes.c.uses + bindparam("more"))
)
_LIMITED_CODES = select(account_codes.c.digits).where(_KEYS, account_codes.c.max_uses.is_not(None))
_CHANGE_CODES = update(account_codes).where(_KEYS).values(change_id=bindparam("change"))


def _read_body(body: str) -> CallRecord:
    try:
        return decode_record(body)
    except RecordFormatError as error:
        raise StoreUnavailable(f"store: {error}") from error


_ENTRIES: Select[*tuple[Any, ...]] = select(
    *(COLUMNS[name] for name in ("start_time", "id", "body", "corrected", "record_id"))
)


def _entries(connection: Connection, rows: Sequence[Row[*tuple[Any, ...]]]) -> list[UsageEntry]:
    made = last_corrections(connection, [str(row.record_id) for row in rows if row.corrected])
    return [
        UsageEntry(row_id, _read_body(body), made.get(record_id) if corrected else None)
        for _, row_id, body, corrected, record_id in rows
    ]


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

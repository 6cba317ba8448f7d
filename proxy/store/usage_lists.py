"""How the usage log is listed: which index leads to the wanted records, one page at a time, either way.

Every column that lists filter or sort by has an index that ends with the start of the call. A database
chooses among them by averages; but "result = interrupted" is rare and "result = answered" is not. So the
choice is made here, by looking: each filter is counted in its index up to a bound. The rarest one leads when
it is below the bound (few enough to be sorted in any way); otherwise the records are so common that walking
along the index of the wanted order soon fills a page. Unless they are common one by one and hardly ever meet:
so the indexes of what many records have in common hold each other's columns, and are walked along alone.

A page is found again by the id of its first or last record and not by a count of those before it, so the
last page costs what the first does, and new calls don't shift what is shown. An id also tells nobody the
code that a list is sorted by.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    ColumnElement,
    CompoundSelect,
    Connection,
    Integer,
    Select,
    String,
    TextClause,
    and_,
    any_,
    case,
    cast,
    column,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    tuple_,
    type_coerce,
    union_all,
)

from proxy.cdr.record import Direction, Disposition
from proxy.errors import ConfigurationError
from proxy.store.models import account_codes, call_records
from proxy.store.models_usage import call_numbers

__all__ = [
    "COLUMNS",
    "NUMBERS",
    "Access",
    "UsageFilter",
    "UsageOrder",
    "choose_access",
    "code_recorded",
    "count_up_to",
    "find_page",
]

PROBED = 20_000
"""A filter that fits fewer records than this leads: they are sorted in some hundredths of a second."""

_MOST_NUMBERS = 5_000
"""Numbers that are looked up one by one; a part that more of them hold is common."""


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """Which records to show. Times in UTC seconds since the epoch, ``since`` included and ``until`` not."""

    since: float | None = None
    until: float | None = None
    user: str = ""
    """Extension that called or was called."""
    group: str = ""
    code_key: str = field(default="", repr=False)
    """The digits of the code, those dialled of a ``?`` code; one with ``?`` is all that was dialled of it."""
    call_class: str = ""
    disposition: Disposition | None = None
    direction: Direction | None = None
    number: str = ""
    """Part of the dialled, normalised or calling number."""
    number_prefix: str = ""
    """How one of them begins."""
    party: str = ""
    """Extension that called or was called: a user's own calls."""
    emergency: bool | None = None
    newest_first: bool = False
    """Order of a stream; a page has its own."""


class UsageOrder(enum.StrEnum):
    """The columns that a list can be sorted by."""

    START = "start"
    DURATION = "duration"
    """Talk time."""
    CALLER = "caller"
    DIRECTION = "direction"
    USER = "user"
    GROUP = "group"
    DIALLED = "dialled"
    DESTINATION = "destination"
    CLASS = "class"
    CODE = "code"
    RESULT = "result"


# Not the table's own columns: those would name the table a second time, beside the one with its index.
COLUMNS: dict[str, ColumnElement[Any]] = {
    own.name: column(own.name, own.type) for own in call_records.columns
}

_INDEXES = {
    index.columns[0].name: str(index.name)
    for index in call_records.indexes
    if index.dialect_options["sqlite"]["where"] is None
}
"""Those that hold every record, by the column that they begin with."""
_HELD = {str(index.name): [cell.name for cell in index.columns] for index in call_records.indexes}
_ORDERS = {
    UsageOrder.START: "start_time",
    UsageOrder.DURATION: "talk_time",
    UsageOrder.CALLER: "caller_number",
    UsageOrder.DIRECTION: "direction",
    UsageOrder.USER: "user",
    UsageOrder.GROUP: "group_name",
    UsageOrder.DIALLED: "dialled_number",
    UsageOrder.DESTINATION: "destination_user",
    UsageOrder.CLASS: "call_class",
    UsageOrder.CODE: "code_key",
    UsageOrder.RESULT: "disposition",
}
_PARTIES = ("user", "destination_user")
NUMBERS = ("dialled_number", "normalised_number", "caller_number")

_MOST_TIMES = len(NUMBERS)
_PROBED_IDS = _MOST_TIMES * PROBED
_Condition = ColumnElement[bool]


@dataclass(frozen=True, slots=True)
class Access:
    """The way to the records of a filter: the table with the index that leads, and what they must fulfil."""

    source: TextClause
    conditions: tuple[_Condition, ...]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One part of a filter that could lead."""

    condition: _Condition
    """As it is when this part leads."""
    otherwise: _Condition
    """As it is when another one does."""
    index: str
    """"" for a part that finds ids."""
    ids: CompoundSelect[int] | None = None
    """These ids, some of them up to `_MOST_TIMES`."""


def choose_access(connection: Connection, wanted: UsageFilter, order: UsageOrder) -> Access:
    """Find the way to the records of a filter in an order."""
    times = _times(wanted)
    return _choose(connection, times, _candidates(connection, wanted, times), order)


def _choose(
    connection: Connection, times: tuple[_Condition, ...], candidates: list[_Candidate], order: UsageOrder
) -> Access:
    ordered = _INDEXES[_ORDERS[order]]
    if times and order is not UsageOrder.START:
        candidates.append(_Candidate(times[0], times[0], _INDEXES["start_time"]))
    best: _Candidate | None = None
    if len(candidates) == 1 and order is UsageOrder.START and candidates[0].index:
        best = candidates[0]
    elif candidates:
        counts = [_probe(connection, candidate, times) for candidate in candidates]
        least = min(counts)
        best = candidates[counts.index(least)] if least < PROBED else None
        if best is None:
            best = _common(connection, times, candidates, order)
    conditions = [
        candidate.condition if candidate is best else candidate.otherwise for candidate in candidates
    ]
    index = ordered if best is None else best.index
    return Access(_table(connection, index), (*times, *conditions))


def _common(
    connection: Connection, times: tuple[_Condition, ...], candidates: list[_Candidate], order: UsageOrder
) -> _Candidate | None:
    """Which leads when all are common."""
    alone = next((one for one in candidates if _holds_all(one, candidates)), None)
    if order is UsageOrder.START:
        # Each index is in the wanted order: the first is the most telling.
        return alone or next((one for one in candidates if one.index), None)
    if alone is None or len(candidates) == 1:
        return None
    conditions = (*times, *(one.condition for one in candidates))
    together = _count(connection, _table(connection, alone.index), conditions, PROBED)
    return alone if together < PROBED else None


def _holds_all(one: _Candidate, candidates: Sequence[_Candidate]) -> bool:
    """Whether its index tells of all of them, without the records."""
    held = _HELD.get(one.index, [])
    return all(_HELD[other.index][0] in held if other.index else False for other in candidates)


def find_page(
    connection: Connection,
    access: Access,
    order: UsageOrder,
    *,
    descending: bool,
    cursor: str,
    limit: int,
    party: str = "",
) -> tuple[list[int], str, str]:
    """The ids of one page in the order shown, and the cursors of the page before and the page after ("" at
    the ends). Raises `ConfigurationError` for what is no cursor, or none of ``party``: who sees only
    their own calls must not hold them against others'.
    """
    backward, anchor = _read_cursor(cursor)
    key = [COLUMNS[_ORDERS[order]], *([] if order is UsageOrder.START else [COLUMNS["start_time"]])]
    key.append(COLUMNS["id"])
    statement = select(COLUMNS["id"]).select_from(access.source).where(*access.conditions)
    falling = descending is not backward
    if anchor:
        place = select(*key).select_from(text("call_records")).where(COLUMNS["id"] == anchor)
        if party:
            place = place.where(_is_of(party))
        values = connection.execute(place).first()
        if values is None:
            raise ConfigurationError("page: the record that it begins with does not exist")
        here, there = tuple_(*key), tuple_(*values)
        statement = statement.where(here < there if falling else here > there)
    statement = statement.order_by(*(item.desc() if falling else item for item in key)).limit(limit + 1)
    ids = [int(found) for found in connection.execute(statement).scalars()]
    more = len(ids) > limit
    ids = ids[:limit]
    if backward:
        ids.reverse()
    if not ids:
        return [], "", ""
    before = f"b{ids[0]}" if (more if backward else anchor) else ""
    after = f"a{ids[-1]}" if (anchor if backward else more) else ""
    return ids, before, after


def count_up_to(connection: Connection, wanted: UsageFilter, bound: int) -> int:
    """How many records a filter shows, counted no further than one beyond ``bound``."""
    times = _times(wanted)
    candidates = _candidates(connection, wanted, times)
    if (
        len(candidates) == 1
        and candidates[0].ids is not None
        and _MOST_TIMES * bound < _PROBED_IDS <= _probe(connection, candidates[0], times)
    ):
        return bound + 1
    access = _choose(connection, times, candidates, UsageOrder.START)
    return _count(connection, access.source, access.conditions, bound + 1)


def _times(wanted: UsageFilter) -> tuple[_Condition, ...]:
    start, found = COLUMNS["start_time"], []
    if wanted.since is not None:
        found.append(start >= wanted.since)
    if wanted.until is not None:
        found.append(start < wanted.until)
    return tuple(found)


def _candidates(
    connection: Connection, wanted: UsageFilter, times: tuple[_Condition, ...]
) -> list[_Candidate]:
    """What could lead, the most telling first."""
    found: list[_Candidate] = []
    wildcard = "?" in wanted.code_key
    for name, value in (
        ("code_key", "" if wildcard else wanted.code_key),
        ("group_name", wanted.group),
        ("call_class", wanted.call_class),
        ("direction", wanted.direction),
        ("disposition", wanted.disposition),
        ("emergency", wanted.emergency),
    ):
        if value is None or value == "":
            continue
        condition = COLUMNS[name] == (value if isinstance(value, bool) else str(value))
        found.append(_Candidate(condition, condition, _INDEXES[name]))
    if wildcard:
        taken = _taken_by(connection, wanted.code_key)
        found.append(_Candidate(taken, taken, _INDEXES["start_time"]))
    parties = [party for party in (wanted.party, wanted.user) if party]
    found += [_any_of(connection, _PARTIES, [party], _is_of(party), times) for party in parties]
    for part, prefix in ((wanted.number, False), (wanted.number_prefix, True)):
        if part:
            found.append(_number(connection, _bare(part), times, prefix=prefix))
    return found


def _taken_by(connection: Connection, wildcard: str) -> _Condition:
    """Calls of a ``?`` code. The record tells of which one; corrected calls those that no other code has."""
    key = COLUMNS["code_key"]
    recorded = code_recorded(connection, 2)
    exact = select(account_codes.c.id).where(account_codes.c.digits == key).exists()
    taken = case((COLUMNS["corrected"], ~exact), else_=recorded == wildcard)
    return or_(key == wildcard, and_(key.like(wildcard.replace("?", "_")), taken))


def code_recorded(connection: Connection, place: int) -> ColumnElement[str]:
    """One part of the code as the record has it: form, dialled digits, key or description."""
    body = COLUMNS["body"]
    document = type_coerce(body, JSON) if connection.dialect.name == "sqlite" else cast(body, JSON)
    return func.coalesce(document[("code", place)].as_string(), "")


def _is_of(party: str) -> _Condition:
    return or_(*(COLUMNS[name] == party for name in _PARTIES))


def _number(connection: Connection, part: str, times: tuple[_Condition, ...], *, prefix: bool) -> _Candidate:
    letters = any(letter.isalpha() for letter in part)

    def fits(cell: ColumnElement[Any]) -> _Condition:
        if letters:
            # Their case says nothing.
            return (cell.istartswith if prefix else cell.icontains)(part, autoescape=True)
        if prefix:
            return cell.startswith(part, autoescape=True)
        if connection.dialect.name == "sqlite":
            # Several times as fast as LIKE.
            return func.instr(cell, part) > 0
        return cell.contains(part, autoescape=True)

    everywhere = or_(*(fits(COLUMNS[name]) for name in NUMBERS))
    known = select(call_numbers.c.number).where(fits(call_numbers.c.number)).limit(_MOST_NUMBERS + 1)
    numbers = [str(number) for number in connection.execute(known).scalars()]
    if len(numbers) > _MOST_NUMBERS:
        return _Candidate(everywhere, everywhere, _INDEXES["start_time"])
    return _any_of(connection, NUMBERS, numbers, everywhere, times)


def _any_of(
    connection: Connection,
    names: Sequence[str],
    values: Sequence[str],
    otherwise: _Condition,
    times: tuple[_Condition, ...],
) -> _Candidate:
    """Records that hold one of the values in one of the columns."""
    parts = [
        select(COLUMNS["id"])
        .select_from(_table(connection, _INDEXES[name]))
        .where(_is_one_of(connection, COLUMNS[name], values), *times)
        for name in names
    ]
    ids = union_all(*parts)
    return _Candidate(COLUMNS["id"].in_(ids), otherwise, "", ids)


def _is_one_of(connection: Connection, cell: ColumnElement[Any], values: Sequence[str]) -> _Condition:
    if connection.dialect.name == "sqlite":
        return cell.in_(values)
    # One parameter: a statement with some thousand takes longer to be written than to be answered.
    return cell == any_(literal(list(values), ARRAY(String)))


def _probe(connection: Connection, candidate: _Candidate, times: tuple[_Condition, ...]) -> int:
    if candidate.ids is not None:
        found = select(func.count()).select_from(candidate.ids.limit(_PROBED_IDS).subquery())
        return int(connection.execute(found).scalar() or 0)
    source = _table(connection, candidate.index)
    return _count(connection, source, (*times, candidate.condition), PROBED)


def _count(connection: Connection, source: TextClause, conditions: Sequence[_Condition], bound: int) -> int:
    inner: Select[int] = (
        select(literal_column("1", Integer())).select_from(source).where(*conditions).limit(bound)
    )
    return int(connection.execute(select(func.count()).select_from(inner.subquery())).scalar() or 0)


def _table(connection: Connection, index: str) -> TextClause:
    if connection.dialect.name != "sqlite":
        return text("call_records")
    return text(f"call_records INDEXED BY {index}" if index else "call_records NOT INDEXED")


_CURSOR = re.compile(r"([ab])([0-9]{1,18})")
_SEPARATORS = str.maketrans("", "", " -./()\u00a0")


def _read_cursor(cursor: str) -> tuple[bool, int]:
    if not cursor:
        return False, 0
    found = _CURSOR.fullmatch(cursor)
    if found is None or int(found[2]) == 0:
        raise ConfigurationError("page: this is no page of the list")
    return found[1] == "b", int(found[2])


def _bare(number: str) -> str:
    """A number as the log holds it, when somebody writes it as people do: ``(212) 555``."""
    bare = number.translate(_SEPARATORS)
    return bare if bare.removeprefix("+").isdigit() else number

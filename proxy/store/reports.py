"""Reports: calls and talk time by code, user, group, class, result and day, and the statement of one code.

A range of days is local to the site, and a call belongs to the day on which it started, even when it ends
behind midnight. Whole months, and for all but codes any range, are read from the totals; of a month that a
range of codes cuts, the days that are fewer are read from the records: those that it has, or those that it
has not.
"""

from __future__ import annotations

import calendar
import enum
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta, tzinfo
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Connection,
    FromClause,
    Select,
    String,
    case,
    cast,
    func,
    literal,
    select,
    text,
    union_all,
)

from proxy.errors import ConfigurationError
from proxy.policy import dial_form
from proxy.store.corrections import last_corrections
from proxy.store.database import Database
from proxy.store.days import cover, is_whole_months, midnight, months, site_zone
from proxy.store.models import account_codes, call_records, users
from proxy.store.models_usage import usage_totals
from proxy.store.totals import CODE_MONTH, USER_MONTH
from proxy.store.usage_lists import COLUMNS, UsageFilter, UsageOrder, choose_access, code_recorded

__all__ = ["Report", "ReportBy", "ReportLine", "ReportOrder", "ReportsRepository", "Statement", "WrongCodes"]

_CHUNK = 5_000
"""Lines whose names are looked up together."""
_COUNTED = ("calls", "answered", "talk_ms")
_PAGE, _TOP, _WHOLE = range(3)
"""The parts of a report."""
_MEANINGS = 10
"""So many of one code's are told."""
_Named = tuple[str, str, str, int]
"""Name, description, today and code_id of a line."""


class ReportBy(enum.StrEnum):
    """What the lines of a report stand for; all but days and codes by the names of `usage_totals`."""

    CODE = "code"
    USER = "user"
    GROUP = "group"
    CLASS = "class"
    RESULT = "result"
    DAY = "day"


class ReportOrder(enum.StrEnum):
    """What the lines of a report are sorted by."""

    KEY = "key"
    CALLS = "calls"
    TALK_TIME = "talk_time"


@dataclass(frozen=True, slots=True)
class ReportLine:
    """One line."""

    key: str = field(repr=False)
    """The digits of a code, an extension, a group, a class, a result or a day; "" for calls without one."""
    calls: int
    answered: int
    talk_time: float
    """Seconds."""
    name: str = field(default="", repr=False)
    """A code as it was typed, or the name of a user; "" where the key says all."""
    description: str = ""
    """Of a code: what it was at the last of these calls. Digits may be another's by and by."""
    today: str = ""
    """What the code of these digits is today, when that is something else."""
    code_id: int = 0
    """Of a code that exists: names it without its digits."""


@dataclass(frozen=True, slots=True)
class Report:
    """One page of a report, and what its whole adds up to."""

    lines: list[ReportLine]
    count: int
    """Lines of the whole report."""
    calls: int
    answered: int
    talk_time: float
    most: list[ReportLine] = field(default_factory=list)
    """Its lines of most talk time, as many as were asked for."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What one code cost in a month; its calls are streamed by the filter."""

    total: ReportLine
    first: date
    last: date
    wanted: UsageFilter
    meanings: tuple[str, ...] = ()
    """What its digits have stood for at these calls, when that is more than one thing."""


@dataclass(frozen=True, slots=True)
class WrongCodes:
    """Who has typed codes that are not valid."""

    who: str
    """Extension, or the calling number of who has none."""
    calls: int
    tries: int


class ReportsRepository:
    """Reads the totals."""

    def __init__(self, database: Database, *, zone: tzinfo | None = None) -> None:
        self._database = database
        self._zone = zone or site_zone()

    def report(
        self,
        by: ReportBy,
        first: date,
        last: date,
        *,
        order: ReportOrder = ReportOrder.TALK_TIME,
        descending: bool = True,
        offset: int = 0,
        limit: int = 100,
        masked: bool = False,
        most: int = 0,
    ) -> Report:
        """A report of the days from ``first`` to ``last``. Raises `ConfigurationError` when they are turned
        round.

        The report by code tells of calls with a code only. ``masked`` is for those who see no codes: lines
        that are alike then follow the age of their codes, or what else they are shown, because the order of
        the digits would tell of them.
        """
        lines = self._whole(by, first, last)
        page = _in_order(by, lines, order, descending=descending, masked=masked)
        top = _in_order(by, lines, ReportOrder.TALK_TIME, descending=True, masked=masked)
        total = [func.count(), *(func.coalesce(func.sum(lines.c[name]), 0) for name in _COUNTED)]
        # In one statement: a hundred thousand codes are added up once for all that is asked of them.
        parts = [
            select(literal(_PAGE), *page.offset(offset).limit(limit).subquery().c),
            select(literal(_TOP), *top.limit(most).subquery().c),
            select(literal(_WHOLE), cast(total[0], String), *total[1:]).select_from(lines),
        ]
        with self._database.read() as connection:
            rows = connection.execute(union_all(*parts)).all()
            keys = {str(row[1]) for row in rows if row[0] != _WHOLE}
            names = self._names(connection, by, keys, first, last)
        told: dict[int, list[ReportLine]] = {_PAGE: [], _TOP: [], _WHOLE: []}
        for part, *row in rows:
            told[part].append(_line(row, names))
        [whole] = told[_WHOLE]
        return Report(told[_PAGE], int(whole.key), whole.calls, whole.answered, whole.talk_time, told[_TOP])

    def lines(
        self,
        by: ReportBy,
        first: date,
        last: date,
        *,
        order: ReportOrder,
        descending: bool,
        masked: bool = False,
    ) -> Iterator[ReportLine]:
        """All lines of such a report, added up once. Raises `ConfigurationError` as `report` does."""
        lines = self._whole(by, first, last)
        whole = _in_order(by, lines, order, descending=descending, masked=masked)
        with self._database.read() as connection:
            rows = connection.execute(whole).all()
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            with self._database.read() as connection:
                names = self._names(connection, by, {str(row[0]) for row in chunk}, first, last)
            yield from (_line(row, names) for row in chunk)

    def statement(self, typed: str, year: int, month: int) -> Statement:
        """The statement of one code, in any form, for a month; a code that was deleted has one too."""
        key = dial_form(typed)
        if not (1971 <= year <= 2999 and 1 <= month <= 12):
            raise ConfigurationError("statement: there is no such month")
        first = date(year, month, 1)
        last = date(year, month, calendar.monthrange(year, month)[1])
        since, until = self._range(first, last)
        wanted = UsageFilter(since=since, until=until, code_key=key)
        column = usage_totals.c
        statement = select(column.calls, column.answered, column.talk_ms).where(
            column.dimension == CODE_MONTH, column.period == f"{year:04d}-{month:02d}", column.key == key
        )
        with self._database.read() as connection:
            if "?" in key:
                # Its calls are added up under the digits that were dialled.
                access = choose_access(connection, wanted, UsageOrder.START)
                calls = [COLUMNS["talk_time"].label("talk_time")]
                found = select(*calls).select_from(access.source).where(*access.conditions).subquery()
                statement = select(func.count(), func.sum(_answered(found.c)), func.sum(_talk_ms(found.c)))
            counts = [int(cell or 0) for cell in connection.execute(statement).one_or_none() or (0, 0, 0)]
            names = self._names(connection, ReportBy.CODE, {key}, first, last)
            meanings = self._meanings(connection, wanted)
        calls_, answered, talk_ms = counts
        total = ReportLine(key, calls_, answered, talk_ms / 1000, *names.get(key, ()))
        return Statement(total, first, last, wanted, meanings if len(meanings) > 1 else ())

    def wrong_codes(self, since: float, *, limit: int = 10) -> list[WrongCodes]:
        """Who has typed wrong codes in calls since then, who did in the most calls first. A call that a
        right one ended well counts: so does who guesses go about it.
        """
        column = call_records.c
        who = case((column.user != "", column.user), else_=column.caller_number).label("who")
        calls, tries = func.count().label("calls"), func.sum(column.wrong_tries)
        # As the index says it: of a bound 0 no database knows that the index holds what is asked for.
        statement = (
            select(who, calls, tries)
            .where(column.start_time >= since, text("wrong_tries > 0"))
            .group_by(who)
            .order_by(calls.desc(), tries.desc(), who)
        )
        with self._database.read() as connection:
            rows = connection.execute(statement.limit(limit)).all()
        return [WrongCodes(str(name), int(number), int(times)) for name, number, times in rows]

    def _whole(self, by: ReportBy, first: date, last: date) -> CTE:
        if first > last:
            raise ConfigurationError("report: its first day lies after its last")
        return self._lines(by, first, last).cte("lines")

    def _range(self, first: date, last: date) -> tuple[float, float]:
        return midnight(first, self._zone), midnight(last + timedelta(days=1), self._zone)

    def _lines(self, by: ReportBy, first: date, last: date) -> Select[*tuple[Any, ...]]:
        if by is ReportBy.CODE and not is_whole_months(first, last):
            return self._from_months_and_days(first, last)
        column = usage_totals.c
        monthly = {ReportBy.CODE: CODE_MONTH, ReportBy.USER: USER_MONTH}
        dimension, periods = by.value, []
        if by in monthly and is_whole_months(first, last):
            dimension, periods = monthly[by], list(months(first, last))
        elif first == last:
            periods = [first.isoformat()]
        key = column.period if by is ReportBy.DAY else column.key
        if len(periods) == 1:
            # Each key is there once: adding up a hundred thousand codes one by one would take longer.
            return select(
                key.label("key"), column.calls, column.answered, column.talk_ms.label("talk_ms")
            ).where(column.dimension == dimension, column.period == periods[0], column.calls > 0)
        days = column.period.between(first.isoformat(), last.isoformat())
        return _added_up(usage_totals, key, column.calls, column.answered, column.talk_ms).where(
            column.dimension == dimension, column.period.in_(periods) if periods else days
        )

    def _from_months_and_days(self, first: date, last: date) -> Select[*tuple[Any, ...]]:
        months_, more, less = cover(first, last)
        total, column = usage_totals.c, call_records.c
        parts = [
            select(total.key, total.calls, total.answered, total.talk_ms).where(
                total.dimension == CODE_MONTH, total.period.in_(months_)
            )
        ]
        answered, talk_ms = _answered(column), _talk_ms(column)
        for sign, days in (*((1, days) for days in more), *((-1, days) for days in less)):
            since, until = self._range(*days)
            parts.append(
                select(column.code_key, literal(sign), sign * answered, sign * talk_ms).where(
                    column.start_time >= since, column.start_time < until, column.code_key != ""
                )
            )
        found = union_all(*parts).subquery()
        return _added_up(found, found.c.key, found.c.calls, found.c.answered, found.c.talk_ms)

    def _names(
        self, connection: Connection, by: ReportBy, keys: Collection[str], first: date, last: date
    ) -> dict[str, _Named]:
        """What else is to be said of keys."""
        if by is ReportBy.CODE:
            return self._codes(connection, keys, first, last)
        if by is ReportBy.USER:
            named = select(users.c.extension, users.c.name).where(users.c.extension.in_(keys))
            return {str(key): (str(name), "", "", 0) for key, name in connection.execute(named)}
        return {}

    def _codes(
        self, connection: Connection, keys: Collection[str], first: date, last: date
    ) -> dict[str, _Named]:
        """What codes were at the last of their calls in these days; those without any as they are today."""
        code = account_codes.c
        rows = connection.execute(select(account_codes).where(code.digits.in_(keys))).mappings()
        names: dict[str, _Named] = {
            str(row["digits"]): (
                str(row["typed"]) or str(row["digits"]),
                str(row["description"]),
                "",
                int(row["id"]),
            )
            for row in rows
        }
        for key, form, description in self._last_calls(connection, keys, first, last):
            _, today, _, code_id = names.get(key, ("", "", "", 0))
            # One that had none may have got it later: that is no other code.
            names[key] = (
                form,
                description or today,
                today if description not in {"", today} else "",
                code_id,
            )
        return names

    def _last_calls(
        self, connection: Connection, keys: Collection[str], first: date, last: date
    ) -> list[tuple[str, str, str]]:
        """Digits, form and description of the code in the last call that each of these digits has."""
        since, until = self._range(first, last)
        total, call = usage_totals.c, call_records.c
        newest = (
            select(call.id)
            .where(call.code_key == total.key, call.start_time >= since, call.start_time < until)
            .order_by(call.start_time.desc())
            .limit(1)
            .scalar_subquery()
        )
        # One look into the index for each key: the months that have a total of it say where to look.
        ids = select(newest).where(
            total.dimension == CODE_MONTH,
            total.period.between(f"{first:%Y-%m}", f"{last:%Y-%m}"),
            total.key.in_(keys),
        )
        told = code_recorded(connection, 3)
        names = (*(COLUMNS[name] for name in ("record_id", "code_key", "code_form", "corrected")), told)
        statement = select(*names).select_from(call_records).where(COLUMNS["id"].in_(ids))
        rows = connection.execute(statement).all()
        made = last_corrections(connection, [str(row[0]) for row in rows if row[3]])
        found = []
        for record_id, key, form, _, description in rows:
            code = made[record_id].after if record_id in made else None
            found.append((str(key), str(form), str(description) if code is None else code.description))
        return found

    def _meanings(self, connection: Connection, wanted: UsageFilter) -> tuple[str, ...]:
        """What the digits of a code have stood for at calls whose code nobody has corrected, and do today."""
        access = choose_access(connection, wanted, UsageOrder.START)
        told = code_recorded(connection, 3).label("told")
        conditions = (*access.conditions, COLUMNS["corrected"].is_(False))
        found = select(told).select_from(access.source).where(*conditions).distinct()
        today = select(account_codes.c.description).where(account_codes.c.digits == wanted.code_key)
        both = {str(one) for one in connection.execute(found.order_by(told).limit(_MEANINGS)).scalars()}
        return tuple(sorted((both | {str(one) for one in connection.execute(today).scalars()}) - {""}))


def _answered(cells: Any) -> ColumnElement[int]:
    """As in `proxy.store.totals`, which knows whole milliseconds only."""
    return case((cells.talk_time > 0.0005, 1), else_=0)


def _talk_ms(cells: Any) -> ColumnElement[Any]:
    return func.round(cells.talk_time * 1000)


def _in_order(
    by: ReportBy, lines: CTE, order: ReportOrder, *, descending: bool, masked: bool
) -> Select[*tuple[Any, ...]]:
    cell = {
        ReportOrder.KEY: lines.c.key,
        ReportOrder.CALLS: lines.c.calls,
        ReportOrder.TALK_TIME: lines.c.talk_ms,
    }[order]
    page = select(lines).order_by(cell.desc() if descending else cell)
    if masked and by is ReportBy.CODE:
        code = account_codes.c
        page = page.outerjoin_from(lines, account_codes, code.digits == lines.c.key)
        # Those of deleted codes by what can be seen of them: behind that they are alike in every way.
        seen = (*_masked(lines.c.key), lines.c.calls, lines.c.answered, lines.c.talk_ms)
        page = page.order_by(code.id, *seen)
    return page.order_by(lines.c.key)


def _added_up(
    source: FromClause,
    key: ColumnElement[str],
    calls: ColumnElement[int],
    answered: ColumnElement[int],
    talk_ms: ColumnElement[Any],
) -> Select[*tuple[Any, ...]]:
    total = func.sum(calls)
    return (
        select(
            key.label("key"),
            total.label("calls"),
            func.sum(answered).label("answered"),
            func.sum(talk_ms).label("talk_ms"),
        )
        .select_from(source)
        .group_by(key)
        # What corrections have emptied is no line.
        .having(total > 0)
    )


def _masked(key: ColumnElement[str]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """What orders keys as `masked_code` shows them: by their length, and long ones by their end."""
    length = func.length(key)
    return length, case((length < 6, ""), else_=func.substr(key, length - 1))


def _line(row: Sequence[Any], names: Mapping[str, _Named]) -> ReportLine:
    key = str(row[0])
    return ReportLine(key, int(row[1]), int(row[2]), int(row[3]) / 1000, *names.get(key, ()))

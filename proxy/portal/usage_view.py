"""What of the usage log a page shows: filters, order, place and columns, all of it told by the address."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from datetime import date, datetime, timedelta, tzinfo
from typing import Annotated, TypeVar
from urllib.parse import urlencode

from fastapi import Depends, Request
from starlette.datastructures import QueryParams

from proxy.cdr.record import CallRecord, Direction, Disposition, UsedCode
from proxy.errors import ConfigurationError
from proxy.policy import CallClass, dial_form
from proxy.portal.permissions import Permission, may_see_codes
from proxy.portal.visit import Refused, Visit
from proxy.store import UsageFilter, UsageOrder
from proxy.store.audit import masked_code
from proxy.store.days import midnight

__all__ = [
    "COLUMNS",
    "Column",
    "InUsageView",
    "Period",
    "UsageView",
    "day_given",
    "may_see_call",
    "of_list",
    "offered_columns",
    "own_calls",
    "sees_codes",
    "shown_code",
    "text_given",
    "without_digits",
]

_FIRST_YEAR, _LAST_YEAR = 1971, 2999
_Member = TypeVar("_Member", bound=enum.StrEnum)


class Period(enum.StrEnum):
    """The days whose calls are shown."""

    ALL = "all"
    TODAY = "today"
    YESTERDAY = "yesterday"
    LAST_7_DAYS = "last7"
    """Today and the six days before it."""
    RANGE = "range"


class Column(enum.StrEnum):
    """The columns that a list may have."""

    START = "start"
    DURATION = "duration"
    CALLER = "caller"
    DIRECTION = "direction"
    ORIGINATING = "originating"
    DIALLED = "dialled"
    DESTINATION = "destination"
    INTERNAL = "internal"
    CODE = "code"
    RESULT = "result"
    CLASS = "class"
    GROUP = "group"
    DESCRIPTION = "description"
    LOCATION = "location"
    TRIES = "tries"

    @property
    def order(self) -> UsageOrder | None:
        """The order of a list that is sorted by it."""
        return _ORDERS.get(self)


COLUMNS = tuple(Column)[:10]
"""Those that are shown when none are chosen."""

_ORDERS = {
    Column.START: UsageOrder.START,
    Column.DURATION: UsageOrder.DURATION,
    Column.CALLER: UsageOrder.CALLER,
    Column.DIRECTION: UsageOrder.DIRECTION,
    Column.ORIGINATING: UsageOrder.USER,
    Column.DIALLED: UsageOrder.DIALLED,
    Column.DESTINATION: UsageOrder.DESTINATION,
    Column.CODE: UsageOrder.CODE,
    Column.RESULT: UsageOrder.RESULT,
    Column.CLASS: UsageOrder.CLASS,
    Column.GROUP: UsageOrder.GROUP,
}


@dataclass(frozen=True, slots=True)
class UsageView:
    """The part of the list that is looked at. Every link and form of the page carries it along."""

    period: Period = Period.ALL
    first: date | None = None
    last: date | None = None
    user: str = ""
    group: str = ""
    code: str = field(default="", repr=False)
    call_class: CallClass | None = None
    result: Disposition | None = None
    direction: Direction | None = None
    number: str = ""
    order: UsageOrder = UsageOrder.START
    descending: bool = True
    cursor: str = ""
    columns: tuple[Column, ...] = COLUMNS

    def query(self, **changes: object) -> str:
        """Return the query string that leads back here, with something else or more in it."""
        told: dict[str, object] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if value != item.default and value is not None:
                told[_NAMES.get(item.name, item.name)] = value
        told |= changes
        pairs = [
            (name, _written(one))
            for name, value in told.items()
            for one in (value if isinstance(value, tuple) else (value,))
            if one != ""
        ]
        return f"?{urlencode(pairs)}" if pairs else "?"

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The same for a form's hidden fields, without the place in the list."""
        return QueryParams(self.query(cursor="").removeprefix("?")).multi_items()

    def sorted_by(self, order: UsageOrder) -> str:
        """Return the query of the same list sorted by a column; the other way round when it is already."""
        rising = order is self.order and self.descending
        return self.query(
            order="" if order is UsageOrder.START else order.value,
            descending="false" if rising else "",
            cursor="",
        )

    @property
    def filtered(self) -> bool:
        """Not every call is shown."""
        plain = UsageView(order=self.order, descending=self.descending, columns=self.columns)
        return replace(self, cursor="") != plain

    def days(self, now: float, zone: tzinfo) -> tuple[date | None, date | None]:
        """First and last day of what is shown."""
        today = datetime.fromtimestamp(now, zone).date()
        match self.period:
            case Period.TODAY:
                return today, today
            case Period.YESTERDAY:
                return today - timedelta(days=1), today - timedelta(days=1)
            case Period.LAST_7_DAYS:
                return today - timedelta(days=6), today
            case Period.RANGE:
                return self.first, self.last
            case Period.ALL:
                return None, None

    def seen_by(self, visit: Visit) -> UsageView:
        """Return it without the columns that somebody may not choose."""
        offered = offered_columns(visit)
        return replace(self, columns=tuple(name for name in self.columns if name in offered) or COLUMNS)

    def wanted(self, visit: Visit) -> UsageFilter:
        """Return the filter of the store; of users only their own calls."""
        zone = visit.portal.store.usage.zone
        first, last = self.days(visit.portal.clock(), zone)
        try:
            code_key = dial_form(self.code) if self.code else ""
        except ConfigurationError:
            raise Refused(422, "error.parameter", names="code") from None
        if (code_key or self.order is UsageOrder.CODE) and not sees_codes(visit):
            # Whoever sees codes masked must not find them out by trying.
            raise Refused(403, "error.forbidden")
        return UsageFilter(
            since=None if first is None else midnight(first, zone),
            until=None if last is None else midnight(last + timedelta(days=1), zone),
            user=self.user,
            group=self.group,
            code_key=code_key,
            call_class="" if self.call_class is None else self.call_class.value,
            disposition=self.result,
            direction=self.direction,
            number=self.number,
            party=own_calls(visit),
        )


_NAMES = {"call_class": "class", "columns": "column"}


def _written(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.value if isinstance(value, enum.StrEnum) else str(value)


def _view(request: Request) -> UsageView:
    """Read the address. Raises `Refused` naming the field that holds what is not possible."""
    given = request.query_params
    first, last = day_given(given, "first"), day_given(given, "last")
    period = of_list(given, "period", Period) or (Period.RANGE if first or last else Period.ALL)
    if period is not Period.RANGE:
        first = last = None
    if first is not None and last is not None and first > last:
        raise Refused(422, "error.parameter", names="first, last")
    return UsageView(
        period=period,
        first=first,
        last=last,
        user=text_given(given, "user", 20),
        group=text_given(given, "group", 64),
        code=text_given(given, "code", 64),
        call_class=of_list(given, "class", CallClass),
        result=of_list(given, "result", Disposition),
        direction=of_list(given, "direction", Direction),
        number=text_given(given, "number", 64),
        order=of_list(given, "order", UsageOrder) or UsageOrder.START,
        descending=_truth(given, "descending", default=True),
        cursor=text_given(given, "cursor", 24),
        columns=_columns(given),
    )


InUsageView = Annotated[UsageView, Depends(_view)]


def text_given(given: QueryParams, name: str, most: int) -> str:
    """Return a text of the address."""
    text = given.get(name, "").strip()
    if len(text) > most or not text.isprintable():
        raise Refused(422, "error.parameter", names=name)
    return text


def day_given(given: QueryParams, name: str) -> date | None:
    """Return a day of the address, or None."""
    text = given.get(name, "")
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = date.min
    if not _FIRST_YEAR <= day.year <= _LAST_YEAR:
        raise Refused(422, "error.parameter", names=name)
    return day


def of_list(given: QueryParams, name: str, members: type[_Member]) -> _Member | None:
    """Return one of some words of the address, or None."""
    text = given.get(name, "")
    if not text:
        return None
    try:
        return members(text)
    except ValueError:
        raise Refused(422, "error.not_on_list", name=name, allowed=", ".join(members)) from None


def _truth(given: QueryParams, name: str, *, default: bool) -> bool:
    text = given.get(name, "true" if default else "false")
    if text not in {"true", "false"}:
        raise Refused(422, "error.not_on_list", name=name, allowed="true, false")
    return text == "true"


def _columns(given: QueryParams) -> tuple[Column, ...]:
    chosen: Iterable[str] = given.getlist("column")
    try:
        found = {Column(name) for name in chosen}
    except ValueError:
        raise Refused(422, "error.not_on_list", name="column", allowed=", ".join(Column)) from None
    return tuple(name for name in Column if name in found) or COLUMNS


def offered_columns(visit: Visit) -> list[Column]:
    """The columns that somebody may choose from."""
    return [name for name in Column if sees_codes(visit) or name is not Column.DESCRIPTION]


def own_calls(visit: Visit) -> str:
    """The extension whose calls are all that somebody sees; "" for those who see everybody's."""
    return "" if visit.may(Permission.USAGE_ALL) else visit.who.extension


def may_see_call(visit: Visit, record: CallRecord) -> bool:
    """Whether somebody may open a call."""
    return visit.may(Permission.USAGE_ALL) or visit.who.extension in {record.user, record.destination_user}


def sees_codes(visit: Visit) -> bool:
    """Whether who comes sees the digits of codes."""
    return may_see_codes(visit.who)


def shown_code(visit: Visit, form: str) -> str:
    """A code as somebody may see it."""
    return form if sees_codes(visit) else masked_code(form)


def without_digits(record: CallRecord) -> CallRecord:
    """A record for those who may not see codes."""
    code = record.code
    if code is None:
        return record
    return replace(record, code=UsedCode(masked_code(code.form), "", "", code.description))

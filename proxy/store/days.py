"""The days and months of a site: a call belongs to the local day on which it started."""

from __future__ import annotations

import calendar
import os
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

__all__ = ["cover", "day_of", "is_whole_months", "midnight", "month_of", "months", "site_zone"]

_ONE_DAY = timedelta(days=1)


def site_zone() -> tzinfo:
    """The site's time zone with its summer time rules, or its present distance from UTC."""
    name = os.environ.get("TZ", "").lstrip(":") or _zone_of_link()
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return datetime.now().astimezone().tzinfo or ZoneInfo("UTC")


def _zone_of_link() -> str:
    """The zone that /etc/localtime points to."""
    try:
        return str(Path("/etc/localtime").resolve()).partition("/zoneinfo/")[2]
    except OSError:
        return ""


def day_of(start_time: float, zone: tzinfo) -> str:
    """The day of a moment, ``2026-07-31``. One that no calendar has is of the first day of all."""
    try:
        return datetime.fromtimestamp(start_time, zone).date().isoformat()
    except (OverflowError, ValueError, OSError):
        return date.min.isoformat()


def month_of(day: str) -> str:
    """The month of a day: ``2026-07``."""
    return day[:7]


def midnight(day: date, zone: tzinfo) -> float:
    """When a day begins, UTC seconds since the epoch."""
    return datetime.combine(day, time(), zone).timestamp()


def is_whole_months(first: date, last: date) -> bool:
    """Both ends are ends of months."""
    return first.day == 1 and (last + timedelta(days=1)).day == 1


def months(first: date, last: date) -> Iterator[str]:
    """The months of a range of days."""
    year, month = first.year, first.month
    while (year, month) <= (last.year, last.month):
        yield f"{year:04d}-{month:02d}"
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)


Days = tuple[date, date]
"""The first and the last of some days."""


def cover(first: date, last: date) -> tuple[list[str], list[Days], list[Days]]:
    """A range of days as whole months, days that are added to them and days that are taken from them: as few
    days as possible.
    """
    whole: list[str] = []
    more: list[Days] = []
    less: list[Days] = []
    for month in months(first, last):
        begin = date.fromisoformat(f"{month}-01")
        end = begin.replace(day=calendar.monthrange(begin.year, begin.month)[1])
        inside = max(first, begin), min(last, end)
        outside = [(begin, inside[0] - _ONE_DAY), (inside[1] + _ONE_DAY, end)]
        missing = [days for days in outside if days[0] <= days[1]]
        if sum((until - since).days + 1 for since, until in missing) * 2 > end.day:
            more.append(inside)
        else:
            whole.append(month)
            less += missing
    return whole, more, less

"""The days and months of a site: a call belongs to the local day on which it started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

__all__ = ["day_of", "is_whole_months", "midnight", "month_of", "months", "site_zone"]


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

"""Totals of the usage log by day and month: added up when records come in, read by reports.

Each record counts once, because it counts in the transaction that inserts it. A correction of its code moves
it from one code's total to the other's.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection, TextClause, text

from proxy.store.days import month_of

__all__ = ["CODE_MONTH", "DAY", "USER_MONTH", "add_numbers", "add_to_totals", "milliseconds", "totals_of"]

DAY = "day"
USER_MONTH = "user_month"
CODE_MONTH = "code_month"
"""Codes by month only: by day there would be as many totals as calls."""

_Key = tuple[str, str, str]
Totals = dict[_Key, tuple[int, int, int]]
"""Dimension, period and key -> calls, calls with talk time, milliseconds of talk time."""

_ROW_COUNTS = (64, 8, 1)
_ADD = (
    "INSERT INTO usage_totals (dimension, period, key, calls, answered, talk_ms) VALUES {} "
    "ON CONFLICT (dimension, period, key) DO UPDATE SET calls = usage_totals.calls + excluded.calls, "
    "answered = usage_totals.answered + excluded.answered, talk_ms = usage_totals.talk_ms + excluded.talk_ms"
)
_ADD_NUMBER = "INSERT INTO call_numbers (number) VALUES {} ON CONFLICT (number) DO NOTHING"


def milliseconds(talk_time: float) -> int:
    """Talk time as totals add it up: whole, so that taking away gives exactly what there was."""
    return round(talk_time * 1000)


def totals_of(rows: Iterable[Mapping[str, object]]) -> Totals:
    """What rows of the usage log add to the totals."""
    found: Totals = {}
    for row in rows:
        day, user, code_key = str(row["day"]), str(row["user"]), str(row["code_key"])
        talk_time = row["talk_time"]
        talk_ms = milliseconds(talk_time) if isinstance(talk_time, float) else 0
        keys: list[_Key] = [
            (DAY, day, ""),
            ("user", day, user),
            (USER_MONTH, month_of(day), user),
            ("group", day, str(row["group_name"])),
            ("class", day, str(row["call_class"])),
            ("result", day, str(row["disposition"])),
        ]
        if code_key:
            keys.append((CODE_MONTH, month_of(day), code_key))
        for key in keys:
            calls, answered, total_ms = found.get(key, (0, 0, 0))
            found[key] = (calls + 1, answered + (talk_ms > 0), total_ms + talk_ms)
    return found


def add_to_totals(connection: Connection, totals: Totals) -> None:
    """Add up. In the order of their keys, so that two writers never wait for each other in a ring."""
    rows: list[tuple[object, ...]] = [(*key, *totals[key]) for key in sorted(totals)]
    names = ("dimension", "period", "key", "calls", "answered", "talk_ms")
    _write_rows(connection, _ADD, names, rows)


def add_numbers(connection: Connection, numbers: Iterable[str]) -> None:
    """Remember numbers that a record holds."""
    _write_rows(connection, _ADD_NUMBER, ("number",), [(number,) for number in sorted(set(numbers))])


def _write_rows(
    connection: Connection, statement: str, names: Sequence[str], rows: Sequence[tuple[object, ...]]
) -> None:
    if connection.dialect.name != "sqlite":
        if rows:
            named = [dict(zip(names, row, strict=True)) for row in rows]
            connection.execute(_one_by_one(statement, tuple(names)), named)
        return
    # Many rows in one statement: see `UsageRepository._insert_sqlite`.
    marks = f"({', '.join('?' * len(names))})"
    done = 0
    for count in _ROW_COUNTS:
        while len(rows) - done >= count:
            cells = tuple(cell for row in rows[done : done + count] for cell in row)
            connection.exec_driver_sql(statement.format(", ".join([marks] * count)), cells)
            done += count


@functools.cache
def _one_by_one(statement: str, names: tuple[str, ...]) -> TextClause:
    """Made once: each statement that is made is a ring of references."""
    return text(statement.format(f"({', '.join(f':{name}' for name in names)})"))

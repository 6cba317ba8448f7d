"""What a row of the usage log is made of, read from the columns that stand beside the records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import JSON, ColumnElement, Connection, Row, Select, cast, func, select, type_coerce

from proxy.cdr.usage_log import UsageFacts
from proxy.store.corrections import last_corrections
from proxy.store.usage_lists import COLUMNS

__all__ = ["facts_statement", "read_facts"]


def facts_statement(sqlite: bool, *, corrections: bool) -> Select[*tuple[Any, ...]]:
    """What to select for `read_facts`: the record's place in the log, the facts, and with ``corrections``
    three more columns.
    """
    body: ColumnElement[Any] = COLUMNS["body"]
    document = type_coerce(body, JSON) if sqlite else cast(body, JSON)
    # Records hold no field that is not set.
    caller_e164 = func.coalesce(document["caller_e164"].as_string(), "")
    cells: list[ColumnElement[Any]] = [
        COLUMNS["start_time"],
        COLUMNS["id"],
        COLUMNS["location"],
        COLUMNS["talk_time"],
        COLUMNS["direction"],
        COLUMNS["caller_number"],
        caller_e164,
        *(
            COLUMNS[name]
            for name in ("user", "dialled_number", "normalised_number", "destination_user", "call_class")
        ),
        func.coalesce(COLUMNS["code_form"], ""),
    ]
    if corrections:
        recorded = func.coalesce(document[("code", 0)].as_string(), "")
        cells += [COLUMNS["record_id"], COLUMNS["corrected"], recorded]
    return select(*cells)


def read_facts(connection: Connection, rows: Sequence[Row[*tuple[Any, ...]]]) -> list[UsageFacts]:
    """The facts of rows, and of those that were corrected who did it."""
    plain = [UsageFacts(row[2], row[0], *row[3:13]) for row in rows]
    if not rows or len(rows[0]) == 13:
        return plain
    made = last_corrections(connection, [str(row[13]) for row in rows if row[14]])
    return [
        fact if one is None else UsageFacts(*fact[:12], str(row[15]), one.who, one.at, one.reason)
        for fact, row in zip(plain, rows, strict=True)
        for one in (made.get(str(row[13])),)
    ]

"""Corrections: a code that is set or changed on a finished call.

The record stays as the gate wrote it. What counts from then on, in lists, reports, statements and exports, is
the corrected code; who changed it, when and why is kept beside it. A correction is no use of a code: what a
code may be used for is decided at calls.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field

from sqlalchemy import Connection, RowMapping, func, insert, select, update

from proxy.cdr.record import UsedCode
from proxy.errors import ConfigurationError
from proxy.policy import CodeTable, dial_form
from proxy.store.audit import SYSTEM, Actor, masked_code, write_audit
from proxy.store.database import Database
from proxy.store.days import month_of
from proxy.store.models import account_codes, call_records
from proxy.store.models_usage import corrections
from proxy.store.rows import read_code
from proxy.store.totals import CODE_MONTH, add_to_totals, milliseconds
from proxy.store.usage_lists import code_recorded
from proxy.store.versions import VersionConflict

__all__ = ["Correction", "CorrectionsRepository", "last_corrections"]

MAX_REASON = 500


@dataclass(frozen=True, slots=True)
class Correction:
    """One correction. The digits of codes stay out of ``repr``."""

    record_id: str
    at: float
    who: str
    reason: str
    before: UsedCode | None = field(repr=False)
    after: UsedCode | None = field(repr=False)


class CorrectionsRepository:
    """All corrections."""

    def __init__(self, database: Database, actor: Actor = SYSTEM) -> None:
        self._database = database
        self._actor = actor

    def of(self, record_id: str) -> list[Correction]:
        """The corrections of a record, oldest first."""
        statement = select(corrections).where(corrections.c.record_id == record_id).order_by(corrections.c.id)
        with self._database.read() as connection:
            return [_read(row) for row in connection.execute(statement).mappings()]

    def correct(
        self, record_id: str, typed: str, reason: str, *, seen: int | None = None
    ) -> Correction | None:
        """Set the code of a finished call, in any form; "" takes it away. None when it was that before.

        ``seen`` is how many corrections the one who corrects has seen: more raise `VersionConflict`. Raises
        `ConfigurationError` when there is no such record or code, or no reason.
        """
        reason = reason.strip()
        if not 1 <= len(reason) <= MAX_REASON or not reason.isprintable():
            message = f"reason: write 1 to {MAX_REASON} printable characters"
            raise ConfigurationError(message)
        with self._database.write() as connection:
            statement = select(call_records).where(call_records.c.record_id == record_id)
            row = connection.execute(statement).mappings().first()
            if row is None:
                raise ConfigurationError("the call does not exist")
            count = select(func.count()).where(corrections.c.record_id == record_id)
            if seen is not None and seen != connection.execute(count).scalar():
                raise VersionConflict("the code of this call", self._present(connection, row))
            before = self._present(connection, row)
            after = _find_code(connection, typed) if typed.strip() else None
            if _key(before) == _key(after):
                return None
            made = Correction(record_id, time.time(), self._actor.who, reason, before, after)
            self._write(connection, row, made)
        return made

    def _write(self, connection: Connection, row: RowMapping, made: Correction) -> None:
        before, after = _cells("before", made.before), _cells("after", made.after)
        connection.execute(
            insert(corrections).values(
                record_id=made.record_id,
                at=made.at,
                who=made.who[:128],
                reason=made.reason,
                **before,
                **after,
            )
        )
        changed = update(call_records).where(call_records.c.id == row["id"])
        connection.execute(
            changed.values(code_key=after["after_key"], code_form=after["after_form"], corrected=True)
        )
        month, talk_ms = month_of(str(row["day"])), milliseconds(float(row["talk_time"]))
        add_to_totals(
            connection,
            {
                (CODE_MONTH, month, key): (sign, sign * (talk_ms > 0), sign * talk_ms)
                for key, sign in ((_key(made.before), -1), (_key(made.after), 1))
                if key
            },
        )
        write_audit(
            connection,
            self._actor,
            "correct",
            "record",
            made.record_id,
            before=_facts(made.before),
            after={**_facts(made.after), "reason": made.reason},
        )

    @staticmethod
    def _present(connection: Connection, row: RowMapping) -> UsedCode | None:
        if row["corrected"]:
            made = last_corrections(connection, [str(row["record_id"])]).get(str(row["record_id"]))
            return None if made is None else made.after
        if not row["code_key"]:
            return None
        # What the code was when the call was made: its digits may be another's today.
        column = call_records.c
        told = select(code_recorded(connection, 3)).where(column.id == row["id"]).select_from(call_records)
        description = str(connection.execute(told).scalar())
        return UsedCode(str(row["code_form"]), "", str(row["code_key"]), description)


def last_corrections(connection: Connection, record_ids: Collection[str]) -> dict[str, Correction]:
    """What was last corrected about these records."""
    if not record_ids:
        return {}
    column = corrections.c
    statement = select(corrections).where(column.record_id.in_(list(record_ids))).order_by(column.id)
    return {str(row["record_id"]): _read(row) for row in connection.execute(statement).mappings()}


def _find_code(connection: Connection, typed: str) -> UsedCode:
    key = dial_form(typed)
    code = _find_by_key(connection, key) or _find_wildcard(connection, key)
    if code is None:
        message = f"code {typed.strip()} does not exist"
        raise ConfigurationError(message)
    return code


def _find_by_key(connection: Connection, key: str) -> UsedCode | None:
    column = account_codes.c
    statement = select(column.typed, column.description).where(column.digits == key)
    row = connection.execute(statement).first()
    return None if row is None else UsedCode(str(row[0]) or key, "", key, str(row[1]))


def _find_wildcard(connection: Connection, entry: str) -> UsedCode | None:
    """These digits as a ``?`` code takes them at a call."""
    column = account_codes.c
    statement = select(account_codes).where(
        column.digits.contains("?", autoescape=True), func.length(column.digits) == len(entry)
    )
    found = CodeTable.of(read_code(row) for row in connection.execute(statement).mappings()).match(entry)
    return None if found is None else UsedCode(entry, entry, entry, found.description)


def _key(code: UsedCode | None) -> str:
    return "" if code is None else code.key


def _cells(prefix: str, code: UsedCode | None) -> dict[str, str]:
    return {
        f"{prefix}_key": _key(code),
        f"{prefix}_form": "" if code is None else code.form,
        f"{prefix}_description": "" if code is None else code.description,
    }


def _facts(code: UsedCode | None) -> dict[str, object]:
    if code is None:
        return {"code": None}
    return {"code": masked_code(code.form), "description": code.description}


def _read(row: RowMapping) -> Correction:
    def code(prefix: str) -> UsedCode | None:
        key = str(row[f"{prefix}_key"])
        if not key:
            return None
        return UsedCode(str(row[f"{prefix}_form"]), "", key, str(row[f"{prefix}_description"]))

    return Correction(
        str(row["record_id"]),
        float(row["at"]),
        str(row["who"]),
        str(row["reason"]),
        code("before"),
        code("after"),
    )

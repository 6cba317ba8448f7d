"""The audit log: one row per change, written in the change's own transaction, chained by hashes.

Each row holds who (with which role, from where) did what to which object, and the object before and after as
JSON. Its hash is SHA-256 over the ASCII JSON array, without spaces,

    [1, id, at_ms, who, role, source, action, kind, object, before, after, previous_hash]

where 1 is the version of this form, ``at_ms`` milliseconds since the epoch, ``before`` and ``after`` the
stored texts or null, and ``previous_hash`` the hash of the row before (64 zeros for the first). Ids have no
holes, and a row of its own holds the last id and hash: a changed, removed, inserted or swapped row and a cut
end are all found by `AuditLog.verify`. Who can write the file can also make a new chain; against that, a head
kept elsewhere (``tollgate audit verify`` prints it) is asked for again later.

Account codes are secrets like keys, and the log outlives them. It names a code by its id, its description and
its masked form: that tells which one was meant, and nobody can dial it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, case, func, insert, select, update

from proxy.store.database import Database, StoreUnavailable
from proxy.store.models_portal import audit_head, audit_log
from proxy.store.texts import clean_text

__all__ = [
    "SYSTEM",
    "Actor",
    "AuditEntry",
    "AuditFilter",
    "AuditHead",
    "AuditLog",
    "AuditText",
    "AuditVerdict",
    "changed_only",
    "masked_code",
    "write_audit",
]

_FORM = 1
_FIRST_HASH = "0" * 64
_CHUNK = 1000
_LONGEST = 4_000
"""Characters of a list of objects that pages of the log read: an import tells of some hundred per row."""

Facts = Mapping[str, object]


class AuditText(str):
    """Facts as JSON already: of many objects that is made before the transaction which writes them."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes something."""

    who: str
    """Name of an account, ``token:<name>``, ``cli:<user of the system>`` or ``system``."""
    role: str = ""
    source: str = ""
    """Where the request came from: an address, or "" for this machine."""


SYSTEM = Actor("system")
"""The gate itself, e.g. when it makes the groups of its settings."""


@dataclass(frozen=True, slots=True)
class AuditHead:
    """Where the chain ends. Written ``4711:5d41...``."""

    last_id: int
    last_hash: str

    def __str__(self) -> str:
        return f"{self.last_id}:{self.last_hash}"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One row."""

    id: int
    at: float
    """UTC seconds since the epoch."""
    who: str
    role: str
    source: str
    action: str
    kind: str
    name: str
    """Of the object."""
    before: object
    """What JSON says the object was, or None when it was not there."""
    after: object
    hash: str
    more: bool = False
    """It tells of many objects, and these are only the first of them."""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which rows to show."""

    since: float | None = None
    until: float | None = None
    who: str = ""
    kind: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """What a verification found."""

    rows: int
    head: AuditHead
    broken: int | None = None
    """Id of the first row that is not as it was written, or that is missing."""
    reason: str = ""

    @property
    def whole(self) -> bool:
        """Every row is as it was written, and none is missing."""
        return not self.reason


def write_audit(
    connection: Connection,
    actor: Actor,
    action: str,
    kind: str,
    name: str,
    *,
    before: Facts | AuditText | None = None,
    after: Facts | AuditText | None = None,
) -> int:
    """Write one row in the transaction of the change that it tells of; returns its id."""
    # Locked on servers; in SQLite the transaction holds the write lock of the whole file.
    head = connection.execute(select(audit_head).with_for_update()).mappings().first()
    if head is None:
        raise StoreUnavailable("store: the end of the audit log is not known (its head is missing)")
    row: dict[str, object] = {
        "id": int(head["last_id"]) + 1,
        "at_ms": int(time.time() * 1000),
        "who": clean_text(actor.who, 128),
        "role": clean_text(actor.role, 20),
        "source": clean_text(actor.source, 64),
        "action": clean_text(action, 32),
        "kind": clean_text(kind, 16),
        "object": clean_text(name, 255),
        "before": _dump(before),
        "after": _dump(after),
        "previous_hash": str(head["last_hash"]),
    }
    row["hash"] = _hash(row)
    connection.execute(insert(audit_log).values(row))
    connection.execute(update(audit_head).values(last_id=row["id"], last_hash=row["hash"]))
    return int(head["last_id"]) + 1


def changed_only(before: Facts, after: Facts) -> tuple[dict[str, object], dict[str, object]]:
    """The facts of two states of an object that differ."""
    names = [name for name in after if before.get(name) != after[name]]
    return {name: before.get(name) for name in names}, {name: after[name] for name in names}


def masked_code(form: str) -> str:
    """An account code as the audit log shows it: its length, and of a long one the last two characters."""
    return "*" * len(form) if len(form) < 6 else "*" * (len(form) - 2) + form[-2:]


class AuditLog:
    """Reads the audit log, and notes in it what is done outside the store."""

    def __init__(self, database: Database, actor: Actor = SYSTEM) -> None:
        self._database = database
        self._actor = actor

    def note(
        self, action: str, kind: str, name: str, *, before: Facts | None = None, after: Facts | None = None
    ) -> None:
        """Write a row of its own, for an act that changes nothing in the store: call it when that is done."""
        with self._database.write() as connection:
            write_audit(connection, self._actor, action, kind, name, before=before, after=after)

    def page(
        self, wanted: AuditFilter | None = None, *, before_id: int | None = None, limit: int = 100
    ) -> list[AuditEntry]:
        """The newest rows first; the next page lies before the last one's id. Of many objects in one row the
        first are told (`AuditEntry.more`); `get` tells of all.
        """
        wanted = wanted or AuditFilter()
        column = audit_log.c
        cells = [_beginning(cell) if cell.name in {"before", "after"} else cell for cell in column]
        statement = select(*cells).order_by(column.id.desc()).limit(limit)
        if before_id is not None:
            statement = statement.where(column.id < before_id)
        if wanted.since is not None:
            statement = statement.where(column.at_ms >= int(wanted.since * 1000))
        if wanted.until is not None:
            statement = statement.where(column.at_ms < int(wanted.until * 1000))
        for cell, value in (
            (column.who, wanted.who),
            (column.kind, wanted.kind),
            (column.object, wanted.name),
        ):
            if value:
                statement = statement.where(cell == value)
        with self._database.read() as connection:
            return [_entry(row) for row in connection.execute(statement).mappings()]

    def get(self, entry_id: int) -> AuditEntry | None:
        """One row, or None."""
        statement = select(audit_log).where(audit_log.c.id == entry_id)
        with self._database.read() as connection:
            row = connection.execute(statement).mappings().first()
        return None if row is None else _entry(row)

    def verify(self, kept: AuditHead | None = None) -> AuditVerdict:
        """Read the whole chain. ``kept`` is a head of an earlier day that must be in it."""
        with self._database.read() as connection:
            row = connection.execute(select(audit_head)).mappings().first()
            head = AuditHead(0, "") if row is None else AuditHead(int(row["last_id"]), str(row["last_hash"]))
            found = _follow(_rows(connection), head, kept)
        if row is None:
            return AuditVerdict(found.rows, head, found.broken, found.reason or "its head is missing")
        return found


def _follow(rows: Iterator[RowMapping], head: AuditHead, kept: AuditHead | None) -> AuditVerdict:
    last = AuditHead(0, _FIRST_HASH)
    count = 0

    def broken(entry_id: int, reason: str) -> AuditVerdict:
        return AuditVerdict(count, head, entry_id, reason)

    for row in rows:
        expected = last.last_id + 1
        if row["id"] != expected:
            return broken(expected, "it is missing")
        if row["previous_hash"] != last.last_hash:
            return broken(expected, "it does not follow the row before")
        if row["hash"] != _hash(row):
            return broken(expected, "it is not as it was written")
        if kept is not None and kept.last_id == expected and kept.last_hash != row["hash"]:
            return broken(expected, "it is not the row that was there when the given head was kept")
        last = AuditHead(expected, str(row["hash"]))
        count += 1
    if last.last_id < head.last_id or (kept is not None and last.last_id < kept.last_id):
        return broken(last.last_id + 1, "it and what followed it are missing from the end")
    if last != head:
        return broken(last.last_id, "the log does not end where its head says")
    return AuditVerdict(count, head)


def _rows(connection: Connection) -> Iterator[RowMapping]:
    last = -1
    while True:
        statement = select(audit_log).where(audit_log.c.id > last).order_by(audit_log.c.id).limit(_CHUNK)
        chunk = connection.execute(statement).mappings().all()
        yield from chunk
        if len(chunk) < _CHUNK:
            return
        last = int(chunk[-1]["id"])


_HASHED = (
    "id",
    "at_ms",
    "who",
    "role",
    "source",
    "action",
    "kind",
    "object",
    "before",
    "after",
    "previous_hash",
)


def _hash(row: Mapping[str, object] | RowMapping) -> str:
    text = json.dumps([_FORM, *(row[name] for name in _HASHED)], separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _beginning(cell: ColumnElement[Any]) -> ColumnElement[Any]:
    """A text, of a long list its beginning."""
    cut = case((func.substr(cell, 1, 1) == "[", func.substr(cell, 1, _LONGEST)), else_=cell)
    return cut.label(cell.name)


def _entry(row: RowMapping) -> AuditEntry:
    (before, more_before), (after, more_after) = _load(row["before"]), _load(row["after"])
    return AuditEntry(
        int(row["id"]),
        int(row["at_ms"]) / 1000,
        str(row["who"]),
        str(row["role"]),
        str(row["source"]),
        str(row["action"]),
        str(row["kind"]),
        str(row["object"]),
        before,
        after,
        str(row["hash"]),
        more_before or more_after,
    )


def _dump(value: Facts | AuditText | None) -> str | None:
    if isinstance(value, AuditText):
        return str(value)
    return None if value is None else json.dumps(value, separators=(",", ":"), sort_keys=True, default=str)


def _load(text: object) -> tuple[object, bool]:
    """What a text says, and whether it was cut."""
    if text is None:
        return None, False
    told = str(text)
    try:
        if len(told) == _LONGEST and told.startswith("["):
            return _first_of(told), True
        found: object = json.loads(told)
    except (ValueError, RecursionError):
        # Shown as it is: the verification says that somebody wrote here, the list need not fail for it.
        return told, False
    return found, False


def _first_of(text: str) -> list[object]:
    """The objects that stand whole in a list that was cut off."""
    found: list[object] = []
    decoder, at = json.JSONDecoder(), 1
    while at < len(text):
        try:
            item, at = decoder.raw_decode(text, at)
        except ValueError:
            break
        found.append(item)
        at += 1
    return found

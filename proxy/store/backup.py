"""A whole store in one file: written while a gate runs, read without running anything that is in it.

The file is gzip of JSON lines. The first says what it is and at which revision of the tables, then each table
has a line with its columns and the number of its rows, and a line per row (a list of values); the last holds
the SHA-256 of all before it. Nothing in it is a statement: tables are made by this program's own migrations,
at the revision that the file names, and then brought up to date like any old store.

Left out is what has no worth elsewhere or later: open sessions of the portal, which an old copy would open
again, and events on their way to somebody, who would hear of old emergencies as if they were new.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import sqlite3
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa

from proxy.errors import TollgateError
from proxy.policy import NumberPlan
from proxy.private_files import give_like, make_folder
from proxy.store.audit import Actor
from proxy.store.database import HEAD, Database, StoreUnavailable, known_revisions, migrate
from proxy.store.models import metadata
from proxy.store.snapshots import load_snapshot
from proxy.store.store import Store
from proxy.whole_files import check_name, store_files, whole_file

__all__ = [
    "BackupRefused",
    "BackupSummary",
    "Progress",
    "check_backup",
    "check_backup_name",
    "look_at_backup",
    "restore_backup",
    "write_backup",
]

_FORMAT = 1
_LEFT_OUT = frozenset({"portal_sessions", "webhook_deliveries"})
_LONGEST_LINE = 16 * 1024 * 1024
_LONGEST_WHY = 200
_CHUNK = 1_000
_JSON = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True)

Progress = Callable[[int, int], None]
"""Rows done, rows in all."""

Value = str | int | float | None


class BackupRefused(TollgateError):  # noqa: N818 - it says what is the case
    """A file is no whole backup that this version can read, or a store can't be backed up or replaced."""


@dataclass(slots=True)
class BackupSummary:
    """What is in a backup."""

    revision: str
    """Of the tables."""
    made_at: str
    """In UTC (ISO 8601)."""
    rows: dict[str, int] = field(default_factory=dict)
    """By table."""
    put_aside: Path | None = None
    """Where the store is kept that was there before."""

    @property
    def total(self) -> int:
        """All rows."""
        return sum(self.rows.values())


# Writing ----------------------------------------------------------------------------------------------------


def write_backup(
    database: Database, path: Path, progress: Progress | None = None, *, replace: bool = False
) -> BackupSummary:
    """Write the store as it is at this moment, whatever is changed meanwhile, and prove that it can be
    restored: only then the file gets its name. Mode 0600. Raises `BackupRefused`, ConfigurationError,
    StoreUnavailable, OSError.

    A file that is there stays as it is unless ``replace``, the store always.
    """
    with whole_file(path, replace=replace, store=_own_file(database)) as (file, temporary):
        _write(database, file, progress)
        file.flush()
        os.fsync(file.fileno())
        return _check(temporary, path.name, progress)


def check_backup_name(database: Database, path: Path, *, replace: bool = False) -> None:
    """Raise `BackupRefused` if there can be no backup of this store, ConfigurationError if none in a file of
    this name, OSError if the name can't be looked at.
    """
    check_name(path, replace=replace, store=_own_file(database))


def _own_file(database: Database) -> Path:
    if database.file is None:
        raise BackupRefused(
            f"store {database.name}: a server's database is backed up by the server's own tools, as pg_dump"
        )
    return database.file


def _write(database: Database, file: IO[bytes], progress: Progress | None) -> None:
    digest = hashlib.sha256()
    tables = [table for table in metadata.sorted_tables if table.name not in _LEFT_OUT]
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6, mtime=0, filename="") as packed:

        def put(what: object) -> None:
            line = _JSON.encode(what).encode() + b"\n"
            digest.update(line)
            packed.write(line)

        made_at = datetime.now(UTC).isoformat(timespec="seconds")
        # One transaction: SQLite shows it the store of one moment, however long it takes.
        with database.read() as connection:
            counts = {table.name: _count(connection, table.name) for table in tables}
            # So that what is added after a restore gets no number that something deleted had.
            given: dict[str, int] = {
                str(name): int(last)
                for name, last in connection.exec_driver_sql("SELECT name, seq FROM sqlite_sequence")
            }
            done, total = 0, sum(counts.values())
            put({"tollgate_backup": _FORMAT, "revision": HEAD, "made_at": made_at, "rows": total})
            for table in tables:
                columns = [column.name for column in table.columns]
                last = {"last_id": given[table.name]} if table.name in given else {}
                put({"table": table.name, "columns": columns, "rows": counts[table.name], **last})
                for row in _rows(connection, table.name, columns):
                    put(row)
                    done += 1
                    if progress is not None and done % _CHUNK == 0:
                        progress(done, total)
        packed.write(_JSON.encode({"end": digest.hexdigest()}).encode() + b"\n")


def _count(connection: sa.Connection, table: str) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(sa.table(table))).scalar_one())


def _rows(connection: sa.Connection, table: str, columns: Sequence[str]) -> Iterator[list[Value]]:
    """Yield the rows by their keys, as SQLite holds them: columns without types are converted by nobody."""
    keys = sa.inspect(connection).get_pk_constraint(table)["constrained_columns"]
    cells: list[sa.ColumnClause[Any]] = [sa.column(name) for name in columns]
    ordered = sa.select(*cells).select_from(sa.table(table)).order_by(*(sa.column(name) for name in keys))
    found = connection.execute(ordered)
    for row in found:
        yield list(row)


# Reading ----------------------------------------------------------------------------------------------------


class _Reader:
    """The lines of a backup, one by one, and the sum of them; whatever is wrong raises `BackupRefused`."""

    def __init__(self, file: IO[bytes], name: str, progress: Progress | None) -> None:
        self._progress = progress
        self._packed = gzip.GzipFile(fileobj=file, mode="rb")
        self._name = name
        self._digest = hashlib.sha256()
        self._number = self._done = 0
        first = self._first()
        match first:
            case {"revision": str(revision), "made_at": str(made_at), "rows": int(total)}:
                self._total = total
            case _:
                raise self.broken("the file is damaged")
        if first["tollgate_backup"] != _FORMAT or revision not in known_revisions():
            raise BackupRefused(
                f"{name}: was written by another version of Tollgate (revision {revision[:20]})"
            )
        self.summary = BackupSummary(revision, made_at)

    def broken(self, why: str) -> BackupRefused:
        """Return the error that names the line."""
        return BackupRefused(f"{self._name}: line {self._number}: {why}")

    def tables(self) -> Iterator[tuple[str, list[str], int, int]]:
        """Yield each table's name, columns, number of rows, and the last number that it has given to a row
        (0 if the file does not say); its rows have to be taken in between.
        """
        while "end" not in (said := self._object()):
            match said:
                case {"table": str(name), "columns": list(columns), "rows": int(rows)}:
                    if name in self.summary.rows:
                        raise self.broken(f"table {name} comes twice")
                    last_id = said.get("last_id", 0)
                    if type(last_id) is not int or not 0 <= last_id < 1 << 63:
                        raise self.broken("here a table should begin")
                    self.summary.rows[name] = rows
                    yield name, columns, rows, last_id
                case _:
                    raise self.broken("here a table should begin")
        if said != {"end": self._digest.hexdigest()} or self._read(1):
            raise self.broken("the file is damaged: its sum is another")

    def rows(self, columns: int, count: int) -> Iterator[list[Value]]:
        """Yield so many rows of so many values."""
        for _ in range(count):
            row = self._parse(self._line())
            if not isinstance(row, list) or len(row) != columns:
                raise self.broken(f"here a row of {columns} values should be")
            if not all(value is None or type(value) in {str, int, float} for value in row):
                raise self.broken("a value is neither text nor number")
            self._done += 1
            if self._progress is not None and self._done % _CHUNK == 0:
                self._progress(self._done, self._total)
            yield row

    def _first(self) -> dict[str, Any]:
        try:
            first = self._object()
        except BackupRefused as error:
            raise BackupRefused(f"{self._name}: is no backup of Tollgate") from error
        if not isinstance(first.get("tollgate_backup"), int):
            raise BackupRefused(f"{self._name}: is no backup of Tollgate")
        return first

    def _object(self) -> dict[str, Any]:
        line = self._line()
        if line.startswith(b'{"end":'):
            # The last line tells the sum of all before it.
            return dict(self._parse(line))
        said = self._parse(line)
        if not isinstance(said, dict):
            raise self.broken("here a table should begin")
        return said

    def _line(self) -> bytes:
        self._number += 1
        line = self._read(_LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise self.broken("the file is cut off or damaged")
        if not line.startswith(b'{"end":'):
            self._digest.update(line)
        return line

    def _read(self, most: int) -> bytes:
        try:
            return self._packed.readline(most)
        except (OSError, EOFError, zlib.error) as error:
            raise self.broken("the file is cut off or damaged") from error

    def _parse(self, line: bytes) -> Any:
        try:
            return json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self.broken("the file is damaged") from error


def check_backup(path: Path, progress: Progress | None = None) -> BackupSummary:
    """Restore a backup into an empty store beside it, which is thrown away. Raises `BackupRefused`,
    OSError.
    """
    return _check(path, path.name, progress)


def _check(path: Path, name: str, progress: Progress | None) -> BackupSummary:
    with tempfile.TemporaryDirectory(prefix=".check-", dir=path.parent) as folder:
        return _rebuild(path, name, Path(folder) / "store.db", progress)


def look_at_backup(path: Path) -> BackupSummary:
    """Read the first line of a backup, which says what it is. Raises `BackupRefused`, OSError."""
    with path.open("rb") as file:
        return _Reader(file, path.name, None).summary


def restore_backup(
    path: Path, target: Path, *, actor: Actor, replace: bool = False, progress: Progress | None = None
) -> BackupSummary:
    """Make a store of a backup, prove that all of it is in there, and only then put it in its place.

    A store that is there stays as it is unless ``replace``, and so does what is left of one; then it is kept
    beside the new one, with ``.before-restore`` to its name, and a number if an earlier one is kept there.
    Raises `BackupRefused`, OSError.
    """
    _in_the_way(target, replace=replace)
    make_folder(target.parent)
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=target.parent) as folder:
        fresh = Path(folder) / "store.db"
        summary = _rebuild(path, path.name, fresh, progress)
        with Store(f"sqlite:///{fresh}", actor=actor) as store:
            made = {"made_at": summary.made_at, "revision": summary.revision}
            store.audit.note("restored", "store", path.name, after=made)
        _leave_write_ahead(fresh)
        for like in (target, target.parent):
            if like.exists():
                give_like(fresh, like)
        # Again: another command may have made a store meanwhile.
        if _in_the_way(target, replace=replace):
            summary.put_aside = _put_aside(target)
        os.replace(fresh, target)
        _sync(target.parent)
    return summary


def _rebuild(path: Path, name: str, fresh: Path, progress: Progress | None) -> BackupSummary:
    """Fill a new file with a backup's rows at the backup's own revision, compare, bring it up to date, and
    read its policy as a gate does.
    """
    os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    engine = sa.create_engine(f"sqlite:///{fresh}")
    try:
        with path.open("rb") as file, engine.connect() as connection:
            reader = _Reader(file, name, progress)
            # Nobody waits for this file, and who finds half of it throws it away.
            connection.exec_driver_sql("PRAGMA synchronous = OFF")
            migrate(connection, reader.summary.revision)
            connection.commit()
            _fill(connection, reader)
            connection.commit()
            if connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
                raise BackupRefused(f"{name}: a row names another that is not there")
    finally:
        engine.dispose()
    with Store(f"sqlite:///{fresh}") as store:
        verdict = store.audit.verify()
        if not verdict.whole:
            raise BackupRefused(f"{name}: its audit log is broken: {verdict.reason}")
        try:
            load_snapshot(store.database, NumberPlan())
        except StoreUnavailable as error:
            why = str(error)[:_LONGEST_WHY]
            raise BackupRefused(f"{name}: no gate could use its policy: {why}") from error
    return reader.summary


def _fill(connection: sa.Connection, reader: _Reader) -> None:
    expected = {
        name: {column["name"] for column in sa.inspect(connection).get_columns(name)}
        for name in sa.inspect(connection).get_table_names()
        if name not in _LEFT_OUT | {"alembic_version", "sqlite_sequence"}
    }
    for table, columns, count, last_id in reader.tables():
        if table not in expected or len(columns) != len(expected[table]) or set(columns) != expected[table]:
            raise reader.broken(f"table {table[:40]!r} is not one of revision {reader.summary.revision}")
        try:
            _fill_table(connection, reader, table, columns, count)
            _go_on_after(connection, table, last_id)
        except (sa.exc.SQLAlchemyError, OverflowError, ValueError) as error:
            raise reader.broken(f"table {table} does not take its rows") from error
    if missing := expected.keys() - reader.summary.rows.keys():
        raise reader.broken(f"table {min(missing)} is missing")


def _fill_table(
    connection: sa.Connection, reader: _Reader, table: str, columns: list[str], count: int
) -> None:
    """Insert a table's rows, read them again and compare: what SQLite holds is what the file says."""
    target = sa.table(table, *(sa.column(name) for name in columns))
    # Migrations put first rows into some tables; here the file says what is in them.
    connection.execute(sa.delete(target))
    written, found = hashlib.sha256(), hashlib.sha256()
    rows = reader.rows(len(columns), count)
    while chunk := list(islice(rows, _CHUNK)):
        connection.execute(sa.insert(target), [dict(zip(columns, row, strict=True)) for row in chunk])
        for row in chunk:
            written.update(_JSON.encode(row).encode())
    for row in _rows(connection, table, columns):
        found.update(_JSON.encode(row).encode())
    if written.digest() != found.digest():
        raise reader.broken(f"table {table} is not read as it was written")


def _go_on_after(connection: sa.Connection, table: str, last_id: int) -> None:
    """Let the numbers of new rows begin after this one."""
    numbers = sa.table("sqlite_sequence", sa.column("name"), sa.column("seq"))
    known = sa.select(numbers.c.seq).where(numbers.c.name == table)
    if last_id > int(connection.execute(known).scalar() or 0):
        connection.execute(sa.delete(numbers).where(numbers.c.name == table))
        connection.execute(sa.insert(numbers).values(name=table, seq=last_id))


def _leave_write_ahead(path: Path) -> None:
    """Gather a store in its one file, whose name may then change. Raises `BackupRefused` if it is in use."""
    with closing(sqlite3.connect(path, timeout=0.0)) as database:
        try:
            (mode,) = database.execute("PRAGMA journal_mode = DELETE").fetchone()
        except sqlite3.OperationalError as error:
            raise BackupRefused(f"the store {path} is in use: stop the gate and the portal first") from error
    if mode != "delete":
        raise BackupRefused(f"the store {path} is in use: stop the gate and the portal first")


def _in_the_way(target: Path, *, replace: bool) -> bool:
    """Whether a store is there, or what is left of one: SQLite would take an old ``-wal`` for the restored
    store's own. Raises `BackupRefused` if so, unless ``replace``.
    """
    empty = target.exists() and target.stat().st_size == 0
    there = [file for file in store_files(target)[empty:] if os.path.lexists(file)]
    if there and not replace:
        what = "a store" if there[0] == target else "what is left of a store"
        raise BackupRefused(f"there is {what} at {there[0]} already; --replace puts it aside")
    return bool(there)


def _put_aside(target: Path) -> Path:
    """Give the files of a store other names, which no file has yet, and return the first of them."""
    if target.exists() and target.stat().st_size > 0:
        with suppress(sqlite3.DatabaseError):  # it is broken, which is why somebody restores
            _leave_write_ahead(target)
    first = aside = target.with_name(f"{target.name}.before-restore")
    number = 1
    while any(map(os.path.lexists, store_files(aside))):
        number += 1
        aside = first.with_name(f"{first.name}-{number}")
    named = zip(store_files(target), store_files(aside), strict=True)
    kept = [(file, name) for file, name in named if os.path.lexists(file)]
    for file, name in kept:
        os.replace(file, name)
    return kept[0][1]


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Opens the database: SQLite in a file of its own by default, PostgreSQL by URL. Migrations run on opening.

On both one writes at a time, and whoever reads sees the store of one moment. PostgreSQL could do more at
once; but then changes would come into force in another order than their numbers say, and a gate that follows
them would miss one. And of two who add the same, the second would be told of an index.

Everything here is synchronous and meant for threads and commands; the call path never comes near it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from proxy.errors import ConfigurationError, TollgateError
from proxy.private_files import make_folder, open_private

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = ["HEAD", "Database", "StoreUnavailable", "known_revisions", "migrate", "public_name"]

HEAD = "0015"
"""The newest revision that this version knows."""

_BUSY_TIMEOUT_MS = 2_500
"""How long one who writes waits for another one's transaction; long ones are imports."""
_BUSY_TIMEOUT_IN_PASSING_MS = 50
_OPENING_TIMEOUT = 10.0
"""Seconds that another process may take to make the tables of a store, or to bring them up to date."""


_CACHE_KB = 32 * 1024
"""Pages kept per connection, for lists and reports of a long usage log."""
_POOL = 5
"""Connections that are kept once they were needed."""
_WRITE_LOCK = int.from_bytes(b"tollgate")
"""Of a PostgreSQL database: whoever writes holds this advisory lock."""
_SERVER_OPTIONS = {
    # A server that vanishes without a word is noticed within seconds, not within a quarter of an hour.
    "connect_timeout": "5",
    "tcp_user_timeout": "10000",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "client_encoding": "utf8",
    "application_name": "tollgate",
}
"""What libpq is told unless the URL says otherwise."""
_SESSION = {
    # The server, too, is to notice a client that has vanished: its transaction may hold the write lock.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "idle_in_transaction_session_timeout": "60000",
}
"""What each connection asks of the server."""
_LOCK_NOT_AVAILABLE = "55P03"


class StoreUnavailable(TollgateError):  # noqa: N818 - it says what is the case, as its callers do
    """The store can't be reached or used at the moment."""


class Database:
    """One open database. Safe to use from several threads."""

    def __init__(self, url: str, *, connections: int = 0, cache_kb: int = _CACHE_KB) -> None:
        """Open ``url`` (``sqlite:///var/tollgate.db``, ``postgresql://...``) and bring it up to date.

        So many ``connections`` are opened now and kept, further ones when they are needed; SQLite keeps
        ``cache_kb`` of pages for each.

        Raises `ConfigurationError` when the URL is wrong, the file can't be opened, is no database, or was
        written by a newer version; `StoreUnavailable` when a server can't be reached or the file stays
        locked.
        """
        self._url = _parse(url)
        self.name = _public(self._url)
        self.sqlite = self._url.get_backend_name() == "sqlite"
        if self.sqlite:
            _prepare_file(self._url, self.name)
        try:
            self.engine = create_engine(
                self._url,
                pool_pre_ping=not self.sqlite,
                pool_size=connections or _POOL,
                # The last one used goes first: the pages that others hold are void since its commit.
                pool_use_lifo=True,
                connect_args={} if self.sqlite else _server_options(self._url),
            )
        except (ImportError, NoSuchModuleError) as error:
            message = f"store.url: the driver of {self._url.drivername} is not installed"
            raise ConfigurationError(message) from error
        if self.sqlite:
            _tune_sqlite(self.engine, cache_kb)
        elif self.engine.driver == "psycopg":
            _tune_postgresql(self.engine)
        else:
            message = (
                f"store.url: write postgresql:// or postgresql+psycopg://, not {self._url.drivername}://"
            )
            raise ConfigurationError(message)
        try:
            self._open()
            self._reserve(connections)
        except BaseException:
            self.engine.dispose()
            raise

    @property
    def file(self) -> Path | None:
        """The SQLite file, or None."""
        database = self._url.database
        return Path(database) if self.sqlite and database else None

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that reads. Raises `StoreUnavailable`."""
        with (
            # A text that is none may be looked for; one that is to be written is no fault of the store.
            self._reported(UnicodeError),
            self.engine.connect() as connection,
            self.transaction(connection),
        ):
            yield connection

    @contextlib.contextmanager
    def write(self, *, in_passing: bool = False) -> Iterator[Connection]:
        """A transaction that writes: all or nothing. Raises `StoreUnavailable`.

        The write lock is taken at once, so that two writers queue and none fails half-way. What is only noted
        ``in_passing`` does not queue for longer than a page may take.
        """
        patience = _BUSY_TIMEOUT_IN_PASSING_MS if in_passing else _BUSY_TIMEOUT_MS
        with (
            self._reported(),
            self.engine.connect() as connection,
            self._waiting(connection, in_passing),
            self.transaction(connection, write=True, patience=patience),
        ):
            yield connection

    @contextlib.contextmanager
    def alone(self) -> Iterator[Connection]:
        """A connection for several transactions, which goes afterwards with what is temporary in it. Raises
        `StoreUnavailable`.
        """
        with self._reported(), self.engine.connect() as connection:
            connection.detach()
            yield connection

    @contextlib.contextmanager
    def transaction(
        self, connection: Connection, *, write: bool = False, patience: int | None = None
    ) -> Iterator[None]:
        """One transaction of a connection. ``patience`` is how many milliseconds one who writes waits."""
        options: dict[str, Any] = {
            "tollgate_write": write,
            "tollgate_patience": _BUSY_TIMEOUT_MS if patience is None else patience,
        }
        with connection.execution_options(**options).begin():
            yield

    @contextlib.contextmanager
    def _waiting(self, connection: Connection, in_passing: bool) -> Iterator[None]:
        if not (self.sqlite and in_passing):
            yield
            return
        # Past SQLAlchemy, which would begin the transaction that this is to be set for.
        driver: Any = connection.connection.driver_connection
        driver.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_IN_PASSING_MS}")
        try:
            yield
        finally:
            driver.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")

    @contextlib.contextmanager
    def _reported(self, *further: type[Exception]) -> Iterator[None]:
        others: tuple[type[Exception], ...] = (SQLAlchemyError, OverflowError, *further)
        try:
            yield
        except DBAPIError as error:
            # Only the driver's own line: SQLAlchemy's text repeats the parameters, which may be codes.
            raise StoreUnavailable(f"store {self.name}: {_driver_line(error)}") from error
        except others as error:
            raise StoreUnavailable(f"store {self.name}: {type(error).__name__}") from error

    def _open(self) -> None:
        """Bring the tables up to date. The usual waiting is too short for a migration by another process, and
        SQLite has none for the first switch to WAL.
        """
        until = time.monotonic() + _OPENING_TIMEOUT
        while True:
            try:
                return self._upgrade()
            except StoreUnavailable as error:
                if not (self.sqlite or _is_locked(error.__cause__)) or time.monotonic() >= until:
                    raise
                time.sleep(0.05)

    def _reserve(self, connections: int) -> None:
        """Open so many, for the pool."""
        with self._reported(), contextlib.ExitStack() as held:
            for _ in range(connections):
                held.enter_context(self.engine.connect())

    def _upgrade(self) -> None:
        try:
            with self.engine.connect() as connection:
                if not self.sqlite:
                    self._expect_unicode(connection)
                revision = _revision(connection)
            if revision == HEAD:
                return
            with self.write() as connection:
                # Another process may have been first while this one waited for the lock.
                revision = _revision(connection)
                if revision != HEAD:
                    self._migrate(connection, revision)
        except DBAPIError as error:
            raise self._opening_error(error) from error
        except StoreUnavailable as error:
            if isinstance(error.__cause__, DBAPIError):
                raise self._opening_error(error.__cause__) from error.__cause__
            raise

    def _expect_unicode(self, connection: Connection) -> None:
        """A server that was set up without a locale makes databases that know no letters."""
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
        if encoding != "UTF8":
            message = (
                f"store.url: {self.name} has the encoding {encoding}; make it with "
                "createdb --encoding=UTF8 --template=template0"
            )
            raise ConfigurationError(message)

    def _opening_error(self, error: DBAPIError) -> TollgateError:
        line = _driver_line(error)
        if self.sqlite and not isinstance(error.orig, sqlite3.OperationalError):
            return ConfigurationError(f"store.url: {self.name} is not a Tollgate database ({line})")
        if self.sqlite and "locked" not in line:
            return ConfigurationError(f"store.url: {self.name} can't be used: {line}")
        return StoreUnavailable(f"store {self.name}: {line}")

    def _migrate(self, connection: Connection, revision: str | None) -> None:
        if revision is not None and revision not in known_revisions():
            message = (
                f"store.url: {self.name} was written by a newer version of Tollgate (revision {revision})"
            )
            raise ConfigurationError(message)
        if revision is None and set(inspect(connection).get_table_names()) - {"alembic_version"}:
            message = f"store.url: {self.name} holds tables of another program"
            raise ConfigurationError(message)
        migrate(connection)


def known_revisions() -> frozenset[str]:
    """Return the revisions of the tables that this version can read."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_alembic())
    return frozenset(script.revision for script in scripts.walk_revisions())


def migrate(connection: Connection, revision: str = "head") -> None:
    """Bring the tables to a revision, from an older one or from none."""
    from alembic import command

    config = _alembic()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _alembic() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "proxy.store:migrations")
    return config


def public_name(url: str) -> str:
    """Return a database URL as it may be shown: without password and options."""
    try:
        return _public(make_url(url))
    except (ArgumentError, ValueError):
        return "(not a database URL)"


def _public(url: URL) -> str:
    return url.set(query={}).render_as_string(hide_password=True)


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # Nothing of the error: SQLAlchemy repeats the URL, password included.
        message = "store.url: write a database URL such as sqlite:///var/tollgate.db"
        raise ConfigurationError(message) from None
    if parsed.get_backend_name() == "sqlite" and (
        parsed.database in {None, "", ":memory:"} or str(parsed.database).startswith("file:")
    ):
        raise ConfigurationError("store.url: name a file, as in sqlite:///var/tollgate.db")
    return parsed


def _prepare_file(url: URL, name: str) -> None:
    """Make the file, or an old one, 0600: SQLite would use the umask. New WAL files inherit its mode."""
    path = Path(str(url.database))
    try:
        make_folder(path.parent)
        os.close(open_private(path, os.O_RDWR, may_be_link=True))
        for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            _make_private(file)
    except OSError as error:
        raise ConfigurationError(f"store.url: {name} can't be opened: {error.strerror}") from error


def _make_private(file: Path) -> None:
    """Take a file that is our own away from others: whoever made it may have had another umask. What a link
    leads to is left alone, it may be root's.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ELOOP}:
            return
        raise
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077 and status.st_uid == os.geteuid():
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _tune_sqlite(engine: Engine, cache_kb: int) -> None:
    @event.listens_for(engine, "connect")
    def _connected(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        # Transactions are begun below, not by the driver, which would begin them too late to be safe.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout = {_BUSY_TIMEOUT_MS}",
            "journal_mode = WAL",
            "synchronous = NORMAL",
            "foreign_keys = ON",
            f"cache_size = -{cache_kb}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        write = connection.get_execution_options().get("tollgate_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _server_options(url: URL) -> dict[str, Any]:
    if url.get_driver_name() != "psycopg":
        return {}
    # Nothing is prepared on the server: a pooler between may give the next transaction to another session.
    return {name: value for name, value in _SERVER_OPTIONS.items() if name not in url.query} | {
        "prepare_threshold": None
    }


def _tune_postgresql(engine: Engine) -> None:
    from psycopg.types.string import StrDumperUnknown

    class TextDumper(StrDumperUnknown):
        """Takes what PostgreSQL's text can't hold, whatever a peer sent or somebody looks for."""

        def dump(self, obj: str) -> bytes:
            return obj.replace("\0", "\ufffd").encode("utf-8", "replace")

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _entry: ConnectionPoolEntry) -> None:
        connection.adapters.register_dumper(str, TextDumper)
        for name, value in _SESSION.items():
            connection.execute(f"SET {name} = {value}")
        connection.commit()

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        options = connection.get_execution_options()
        if not options.get("tollgate_write", False):
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            return
        # The lock is held until the end of the transaction; each statement sees what was written before it.
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        patience = int(options.get("tollgate_patience", _BUSY_TIMEOUT_MS))
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {patience}")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITE_LOCK})")


def _is_locked(error: BaseException | None) -> bool:
    """Whether somebody else has held PostgreSQL's write lock for too long."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", "") == _LOCK_NOT_AVAILABLE


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if revision is None else str(revision)


def _driver_line(error: DBAPIError) -> str:
    return str(error.orig).splitlines()[0] if str(error.orig) else type(error.orig).__name__

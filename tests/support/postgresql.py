"""A PostgreSQL server of the tests' own: in a temporary folder, reached by a Unix socket, gone at the end.

It needs no cluster of Debian's and touches none. PostgreSQL refuses to run as root, so root starts it as
Debian's user for it.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from proxy.store import Store
from proxy.store.models import metadata

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["PostgresServer", "postgres_server"]

_STARTING = 30.0
_USER = "postgres"
_TABLES = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
_USED = " UNION ".join(
    (
        *(f"SELECT '{name}' WHERE EXISTS (SELECT FROM {name})" for name in metadata.tables),
        "SELECT replace(sequencename, '_id_seq', '') FROM pg_sequences WHERE last_value IS NOT NULL",
    )
)
_NO_AUDIT = f"INSERT INTO audit_head (id, last_id, last_hash) VALUES (1, 0, '{'0' * 64}')"
_OPTIONS = (
    "listen_addresses=",
    # What is lost with the machine is lost: nobody looks at it afterwards.
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "autovacuum=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "shared_buffers=32MB",
    "max_connections=60",
    # A site's server may stand anywhere.
    "timezone=Pacific/Chatham",
)


class PostgresServer:
    """One server, whose databases come and go."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries = binaries
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._clean: list[str] = []

    def make(self) -> None:
        """Make the cluster."""
        if os.geteuid() == 0:
            owner = pwd.getpwnam(_USER)
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
        self._run(
            "initdb",
            f"--pgdata={self._folder}/data",
            "--username=tollgate",
            "--auth=trust",
            "--encoding=UTF8",
            # Sorts as people do, and so otherwise than SQLite.
            "--locale=C.UTF-8",
            "--locale-provider=icu",
            "--icu-locale=en-US",
            "--no-sync",
        )

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        options = [f"--{option}" for option in (*_OPTIONS, f"unix_socket_directories={self._folder}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command("postgres", "-D", f"{self._folder}/data", *options),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )
        from psycopg import OperationalError

        until = time.monotonic() + _STARTING
        while True:
            try:
                with self._connected():
                    return
            except OperationalError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError((self._folder / "log").read_text("utf-8", "replace")) from None
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it as an administrator does (`pg_ctl stop -m fast`): whoever is connected is thrown out."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_STARTING)
            self._process = None

    @contextmanager
    def database(self) -> Iterator[str]:
        """Give the URL of a database with Tollgate's tables, which nobody has used."""
        if self._clean:
            name = self._clean.pop()
        else:
            name = self._new()
            Store(self.url(name)).close()
        try:
            yield self.url(name)
        finally:
            # As it was made, or (the test has changed its tables or somebody holds them) another one.
            if self._process is not None and self._empty(name):
                self._clean.append(name)

    @contextmanager
    def empty_database(self, options: str = "") -> Iterator[str]:
        """Give the URL of a new database with nothing in it."""
        name = self._new(options)
        try:
            yield self.url(name)
        finally:
            if self._process is not None:
                self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def url(self, database: str) -> str:
        """Return the URL of a database."""
        return f"postgresql+psycopg://tollgate@/{database}?host={self._folder}"

    def _new(self, options: str = "") -> str:
        name = f"t{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name} {options}")
        return name

    def _empty(self, name: str) -> bool:
        """Take every row away and let numbers begin with 1; False for a database that is not as it was."""
        from psycopg import Error

        try:
            with self._connected(name) as connection:
                connection.execute("SET lock_timeout = '1s'; SET session_replication_role = replica")
                if connection.execute(_TABLES).fetchone() != (len(metadata.tables),):
                    return False
                used = [str(name) for (name,) in connection.execute(_USED.encode())]
                connection.execute(f"TRUNCATE {', '.join(used)} RESTART IDENTITY; {_NO_AUDIT}".encode())
        except Error:
            return False
        return True

    def _connected(self, database: str = "postgres") -> Connection[Any]:
        # Past SQLAlchemy, which asks a server much before it is asked anything.
        import psycopg

        return psycopg.connect(
            host=str(self._folder), user="tollgate", dbname=database, autocommit=True, prepare_threshold=None
        )

    def _execute(self, statement: str) -> None:
        with self._connected() as connection:
            connection.execute(statement.encode())

    def _run(self, *command: str) -> None:
        subprocess.run(self._command(*command), check=True, cwd=self._folder, capture_output=True)

    def _command(self, program: str, *arguments: str) -> list[str]:
        """Whoever is killed without a word takes the server along."""
        head = ["setpriv", "--pdeathsig=QUIT"]
        if os.geteuid() == 0:
            head += [f"--reuid={_USER}", f"--regid={_USER}", "--init-groups"]
        return [*head, str(self._binaries / program), *arguments]


def _binaries() -> Path | None:
    """Return the folder of the newest server that is installed."""
    found = list(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    newest = max(found, key=lambda path: int(path.parts[-3]), default=None)
    return None if newest is None else newest.parent


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a server; skips the test where there is none to run."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed here (Debian's package postgresql)")
    if find_spec("psycopg") is None:
        pytest.skip("the driver psycopg is not installed here (the extra postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="tollgate-postgresql-"))
    server = PostgresServer(binaries, folder)
    try:
        server.make()
        server.start()
        yield server
    finally:
        server.stop(signal.SIGQUIT)
        shutil.rmtree(folder)

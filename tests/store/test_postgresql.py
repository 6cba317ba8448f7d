"""What is PostgreSQL's own: opening, one writer at a time, and a server that goes away and comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, make_url

from proxy.errors import ConfigurationError
from proxy.policy import AccountCode, NumberPlan, Snapshot, UserGroup
from proxy.store import Actor, SnapshotSource, Store, StoreUnavailable, load_snapshot
from proxy.store.backup import BackupRefused, write_backup
from proxy.store.changes import ChangeAction, ChangeKind, current_version, log_change
from proxy.store.database import _SESSION, HEAD, Database
from proxy.store.models import metadata
from tests.cdr.samples import full_record
from tests.support.postgresql import PostgresServer

PATIENCE = 60.0


@pytest.fixture
def url(postgresql: PostgresServer) -> Iterator[str]:
    with postgresql.database() as found:
        yield found


@pytest.fixture
def empty(postgresql: PostgresServer) -> Iterator[str]:
    with postgresql.empty_database() as found:
        yield found


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store(url) as opened:
        yield opened


def _execute(url: str, *statements: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def _until(happened: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_the_migrations_make_what_the_models_say_and_go_back_to_nothing(empty: str) -> None:
    from alembic import command
    from alembic.config import Config

    database = Database(empty)
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    config = Config()
    config.set_main_option("script_location", "proxy.store:migrations")
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    database.close()
    with Store(empty) as store:
        assert store.codes.count() == 0


def test_several_may_open_a_new_store_at_once(empty: str) -> None:
    errors: list[BaseException] = []

    def open_it() -> None:
        try:
            Store(empty).close()
        except BaseException as error:  # noqa: BLE001 - whatever it is fails the test below
            errors.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_store_that_somebody_else_makes_ready_is_waited_for(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.store.database._BUSY_TIMEOUT_MS", 1)
    monkeypatch.setattr("proxy.store.database._OPENING_TIMEOUT", PATIENCE)
    engine = create_engine(empty)
    with engine.connect() as other:
        other.exec_driver_sql(f"SELECT pg_advisory_xact_lock({int.from_bytes(b'tollgate')})")
        monkeypatch.setattr("proxy.store.database.time.sleep", lambda _seconds: other.commit())
        with Store(empty) as store:
            assert store.codes.count() == 0
    engine.dispose()


def test_a_database_that_knows_no_letters_is_refused(postgresql: PostgresServer) -> None:
    plain = "ENCODING 'SQL_ASCII' LOCALE 'C' LOCALE_PROVIDER libc TEMPLATE template0"
    with (
        postgresql.empty_database(plain) as url,
        pytest.raises(ConfigurationError, match=r"encoding SQL_ASCII.*createdb --encoding=UTF8"),
    ):
        Store(url)


def test_tables_of_another_program_and_a_newer_store_are_left_alone(empty: str) -> None:
    _execute(empty, "CREATE TABLE recipes (name TEXT)")
    with pytest.raises(ConfigurationError, match="holds tables of another program"):
        Store(empty)
    _execute(empty, "DROP TABLE recipes")
    Store(empty).close()
    _execute(empty, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match=r"newer version of Tollgate \(revision 9999\)"):
        Store(empty)
    _execute(empty, f"UPDATE alembic_version SET version_num = '{HEAD}'")
    Store(empty).close()


def test_who_is_not_let_in_is_told_in_one_line_without_a_password(
    postgresql: PostgresServer, url: str
) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        Store(url.replace("tollgate@", "nobody:hunter2@"))
    assert 'role "nobody" does not exist' in str(caught.value)
    with pytest.raises(StoreUnavailable) as missing:
        Store(postgresql.url("nowhere"))
    assert 'database "nowhere" does not exist' in str(missing.value)
    for error in (caught.value, missing.value):
        assert "hunter2" not in str(error)
        assert "\n" not in str(error)


def test_a_backup_is_left_to_the_servers_own_tools(store: Store, tmp_path: Path) -> None:
    with pytest.raises(BackupRefused, match="pg_dump"):
        write_backup(store.database, tmp_path / "gate.backup")
    assert list(tmp_path.iterdir()) == []


def test_a_second_writer_waits_so_that_numbers_of_changes_come_into_force_in_order(
    store: Store, url: str
) -> None:
    snapshots: list[Snapshot] = []
    source = SnapshotSource(
        store.database, load_snapshot(store.database, NumberPlan()), on_change=snapshots.append
    )
    source.poll()

    def add() -> None:
        with Store(url) as other:
            other.codes.add(AccountCode("2222"))

    thread = threading.Thread(target=add)
    with store.database.write() as connection:
        first = log_change(connection, ChangeKind.GROUP, ChangeAction.SAVED, ["Desk"])
        thread.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        _until(lambda: connection.exec_driver_sql(waiting).scalar())
        assert not source.poll()
    thread.join()
    assert source.poll()
    assert snapshots[-1].version == first + 1
    assert "2222" in source.current.codes
    source.stop()


def test_two_who_add_the_same_hear_of_it_by_name(store: Store, url: str) -> None:
    said: list[str] = []
    meeting = threading.Barrier(4, timeout=PATIENCE)

    def add() -> None:
        with Store(url) as other:
            meeting.wait()
            try:
                other.groups.add(UserGroup("Desk"))
                other.codes.add(AccountCode("4711"))
            except ConfigurationError as error:
                said.append(str(error))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == ["group 'Desk' exists already"] * 3
    assert store.audit.verify().whole


def test_what_is_noted_in_passing_waits_for_nobody(store: Store, url: str) -> None:
    with Store(url) as other, store.database.write():
        passing = other.database.write(in_passing=True)
        with pytest.raises(StoreUnavailable, match="lock timeout"), passing:
            raise AssertionError("two write at once")


def test_a_writer_that_says_nothing_more_gives_the_lock_back(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_SESSION, "idle_in_transaction_session_timeout", "200")
    with Store(url) as other:
        held = other.database.engine.connect()
        held.execution_options(tollgate_write=True).begin()
        store.groups.add(UserGroup("sales"))
        held.invalidate()
    assert [group.name for group in store.groups.all()] == ["sales"]


def test_a_writer_sees_what_was_written_before_whatever_the_databases_default(store: Store, url: str) -> None:
    name = make_url(url).database
    _execute(url, f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'repeatable read'")
    with Store(url) as other, other.database.write() as connection:
        assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == "read committed"


def test_nothing_is_prepared_on_the_server(store: Store) -> None:
    for _ in range(10):
        store.groups.all()
    with store.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar() == 0


def test_who_reads_sees_the_store_of_one_moment(store: Store, url: str) -> None:
    with store.database.read() as connection, Store(url) as other:
        before = current_version(connection)
        other.codes.add(AccountCode("4711"))
        assert current_version(connection) == before
    with store.database.read() as connection:
        assert current_version(connection) == before + 1


def test_what_the_store_refuses_is_told_without_its_values(store: Store) -> None:
    row = "INSERT INTO policy_changes (id, at, kind, action, keys) VALUES (1, 0, '4711', '', '')"
    with pytest.raises(StoreUnavailable) as caught, store.database.write() as connection:
        connection.exec_driver_sql(f"{row}, {row.partition('VALUES ')[2]}")
    assert "duplicate key value" in str(caught.value)
    assert "4711" not in str(caught.value)
    with store.database.read() as connection:
        assert current_version(connection) == 0


def test_a_server_that_was_stopped_is_used_again_when_it_is_back(
    postgresql: PostgresServer, url: str
) -> None:
    with Store(url, actor=Actor("anna"), steady=True) as store:
        store.groups.add(UserGroup("Desk"))
        store.usage.insert_many([full_record("before")])
        source = SnapshotSource(store.database, Snapshot(NumberPlan()), on_change=lambda _snapshot: None)
        source.poll()
        good = source.current
        assert "Desk" in good.groups
        postgresql.stop()
        try:
            with pytest.raises(StoreUnavailable):
                store.usage.insert_many([full_record("while it was away")])
            assert not source.poll()
            assert source.trouble
            assert source.current is good
            with pytest.raises(StoreUnavailable, match="connection to server"):
                Store(url)
        finally:
            postgresql.start()
        records = [full_record("before"), full_record("while it was away")]
        assert store.usage.insert_many(records) == 1
        assert store.usage.insert_many(records) == 0
        store.groups.add(UserGroup("Lobby"))
        assert source.poll()
        assert source.trouble == ""
        assert set(source.current.groups) == {"Desk", "Lobby"}
        source.stop()

"""Opening the store: private files, migrations, and one clear line for each thing that can be wrong."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from proxy.errors import ConfigurationError
from proxy.policy import AccountCode
from proxy.store import Store, StoreUnavailable
from proxy.store.database import HEAD, Database, migrate, public_name
from proxy.store.models import metadata

pytestmark = pytest.mark.sqlite


def test_files_are_private_and_wal_is_on(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/deep/tollgate.db")
    with database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "deep").iterdir()}
    assert modes == dict.fromkeys(modes, 0o600)
    assert stat.S_IMODE((tmp_path / "deep").stat().st_mode) == 0o700
    database.close()


def test_a_file_that_others_could_read_is_made_private(url: str, tmp_path: Path) -> None:
    Store(url).close()
    for name in ("tollgate.db", "tollgate.db-wal"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o644)
    Store(url).close()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("tollgate.db*")}
    assert modes == dict.fromkeys(modes, 0o600)


def test_nobody_waits_long_for_a_locked_store(url: str) -> None:
    database = Database(url)
    with database.read() as connection:
        timeout = connection.exec_driver_sql("PRAGMA busy_timeout").scalar()
    with database.write(in_passing=True) as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 50
    passing = database.write(in_passing=True)
    with database.write(), pytest.raises(StoreUnavailable, match="locked"), passing:
        raise AssertionError("two write at once")
    with database.write() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == timeout
    database.close()
    assert isinstance(timeout, int)
    assert 0 < timeout <= 3_000


def test_what_a_link_beside_the_store_leads_to_keeps_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("of another")
    target.chmod(0o644)
    (tmp_path / "tollgate.db-wal").symlink_to(target)
    with contextlib.suppress(ConfigurationError, StoreUnavailable):
        Store(f"sqlite:///{tmp_path}/tollgate.db").close()
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


def test_a_steady_store_holds_at_the_start_what_it_will_ever_hold(url: str, tmp_path: Path) -> None:
    file = str(tmp_path / "tollgate.db")

    def descriptors() -> int:
        with os.scandir("/proc/self/fd") as entries:
            return sum(os.readlink(entry.path).startswith(file) for entry in entries if entry.is_symlink())

    before = descriptors()
    with Store(url, steady=True) as store:
        held = descriptors()
        meeting = threading.Barrier(6, timeout=30.0)

        def read() -> None:
            with store.database.read() as connection:
                meeting.wait()
                connection.exec_driver_sql("SELECT count(*) FROM call_records").scalar()

        with ThreadPoolExecutor(6) as threads:
            for done in [threads.submit(read) for _ in range(6)]:
                done.result()
        assert descriptors() == held
        with store.database.read() as connection:
            assert connection.exec_driver_sql("PRAGMA cache_size").scalar() == -4 * 1024
    assert descriptors() == before


def test_the_migrations_make_what_the_models_say(url: str) -> None:
    database = Database(url)
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.close()


def test_head_is_the_last_migration() -> None:
    config = Config()
    config.set_main_option("script_location", "proxy.store:migrations")
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_migrations_go_back_to_nothing(url: str) -> None:
    from alembic import command

    database = Database(url)
    config = Config()
    config.set_main_option("script_location", "proxy.store:migrations")
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    database.close()
    with Store(url) as store:
        assert store.codes.count() == 0


def test_a_store_of_before_gives_no_code_a_number_that_is_known_anywhere(url: str, tmp_path: Path) -> None:
    file = tmp_path / "tollgate.db"
    engine = create_engine(url)
    with engine.begin() as connection:
        migrate(connection, "0010")
        facts = '[{"id":7,"description":"x\\"id\\":99,"},{"id":41,"code":"****"}]'
        connection.exec_driver_sql(
            "INSERT INTO account_codes (id, digits, typed, description, enabled, uses, change_id) "
            "VALUES (5, '200002', '200002', 'Client B', 1, 3, 9)"
        )
        connection.exec_driver_sql(
            "INSERT INTO audit_log VALUES (100, 0, 'a', '', '', 'delete', 'code', '2 of 2', ?, NULL, '', '')",
            (facts,),
        )
    engine.dispose()
    with Store(url) as store:
        kept = store.codes.by_id(5)
        assert kept
        assert (kept.value.description, kept.value.uses, kept.version) == ("Client B", 3, 1)
        with pytest.raises(ConfigurationError, match="exists already"):
            store.codes.add(AccountCode("200002"))
        store.codes.add(AccountCode("300003"))
        found = store.codes.find("300003")
        assert found
        assert found.id == 42
    with sqlite3.connect(file) as raw:
        indexes = raw.execute(
            "SELECT name FROM sqlite_master WHERE tbl_name = 'account_codes' AND sql IS NOT NULL"
        )
        assert {name for (name,) in indexes} == {
            "account_codes",
            *(f"ix_account_codes_{column}" for column in ("owner_group", "owner_user", "change_id")),
        }
    raw.close()


def test_migrations_need_the_databases_connection(url: str) -> None:
    from alembic import command

    config = Config()
    config.set_main_option("script_location", "proxy.store:migrations")
    config.attributes["connection"] = url
    with pytest.raises(TypeError, match=r"by proxy\.store\.database only"):
        command.upgrade(config, "head")


def test_two_processes_may_open_a_new_store_at_once(url: str) -> None:
    errors: list[BaseException] = []

    def open_it() -> None:
        try:
            Store(url).close()
        except BaseException as error:  # noqa: BLE001 - whatever it is fails the test below
            errors.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "write a database URL"),
        ("postgresql://user:secret@host:port/name", "write a database URL"),
        ("sqlite://", "name a file"),
        ("sqlite:///:memory:", "name a file"),
        ("sqlite:///file:x?mode=memory&uri=true", "name a file"),
        ("sqlite:////proc/nowhere/tollgate.db", "can't be opened"),
        ("nosuchdb://host/name", "driver of nosuchdb is not installed"),
        ("postgresql+nosuchdriver://user:secret@host/name", "driver of postgresql.nosuchdriver"),
    ],
)
def test_a_wrong_url_is_named(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        Database(url)
    assert str(caught.value).startswith("store.url: ")
    assert "secret" not in str(caught.value)


def test_a_public_name_holds_no_secret() -> None:
    url = "postgresql+driver://user:secret@db.example.com/name?sslpassword=secret"
    assert public_name(url) == "postgresql+driver://user:***@db.example.com/name"
    assert "secret" not in public_name("postgresql://user:secret@host:port/name")


def test_a_file_that_is_no_database_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear customer, " * 100)
    with pytest.raises(ConfigurationError, match=r"letter.txt is not a Tollgate database"):
        Database(f"sqlite:///{path}")
    assert path.read_text() == "Dear customer, " * 100


def test_a_directory_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't be opened: Is a directory"):
        Database(f"sqlite:///{tmp_path}")


def test_tables_of_another_program_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()
    with pytest.raises(ConfigurationError, match="holds tables of another program"):
        Database(f"sqlite:///{path}")


def test_a_newer_store_is_refused(url: str, tmp_path: Path) -> None:
    Store(url).close()
    with sqlite3.connect(tmp_path / "tollgate.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(ConfigurationError, match=r"newer version of Tollgate \(revision 9999\)"):
        Store(url)


def test_a_locked_store_is_unavailable_not_wrong(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.store.database._BUSY_TIMEOUT_MS", 1)
    monkeypatch.setattr("proxy.store.database._OPENING_TIMEOUT", 0.0)
    with sqlite3.connect(tmp_path / "tollgate.db", isolation_level=None) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            Store(url)
        other.execute("ROLLBACK")
    other.close()


def test_a_store_that_another_process_makes_ready_is_waited_for(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.store.database._BUSY_TIMEOUT_MS", 1)
    monkeypatch.setattr("proxy.store.database._OPENING_TIMEOUT", 60.0)
    other = sqlite3.connect(tmp_path / "tollgate.db", isolation_level=None)
    other.execute("PRAGMA journal_mode = WAL")
    other.execute("BEGIN IMMEDIATE")
    tried = threading.Event()

    def end_of_the_others_work(_seconds: float) -> None:
        tried.set()
        if other.in_transaction:
            other.execute("ROLLBACK")

    monkeypatch.setattr("proxy.store.database.time.sleep", end_of_the_others_work)
    with Store(url) as store:
        assert tried.is_set()
        assert store.codes.count() == 0
    other.close()


def test_a_missing_table_is_reported_without_parameters(store: Store) -> None:
    with store.database.write() as connection:
        connection.exec_driver_sql("DROP TABLE account_codes")
    with pytest.raises(StoreUnavailable) as caught:
        store.codes.get("4711")
    assert "no such table: account_codes" in str(caught.value)
    assert "4711" not in str(caught.value)


def test_a_number_that_no_column_holds_is_reported(store: Store) -> None:
    with pytest.raises(StoreUnavailable, match="OverflowError"):
        store.codes.add(AccountCode("4711", max_uses=10**30))


def test_a_write_that_fails_leaves_nothing(store: Store) -> None:
    def fail() -> None:
        with store.database.write() as connection:
            connection.exec_driver_sql("INSERT INTO groups (name, rules) VALUES ('a', 'b')")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with store.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM groups").scalar() == 0

"""``tollgate backup`` and ``tollgate restore``, on real SQLite files and a real journal."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from proxy.cdr.journal import Journal
from proxy.cdr.sinks import RecordPump
from proxy.cli import run
from proxy.settings import load_settings
from proxy.store import Store, UsageSink
from tests.cdr.samples import full_record
from tests.net.waiting import PATIENCE

URL = "sqlite:///gate.db"


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOLLGATE_STORE__URL", URL)
    with Store(URL):
        pass


def test_what_the_journal_still_holds_comes_to_the_restored_store_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    journal = Journal(load_settings().journal_folder, post=lambda call: call())
    journal.start()
    _record(journal, "r1")
    assert run(["backup", "gate.backup"]) == 0
    assert "gate.backup: written, restored into an empty store and compared" in capsys.readouterr().out
    _record(journal, "r2")
    # While a gate has the journal nobody takes its store away.
    assert run(["restore", "gate.backup", "--replace"]) == 1
    says = capsys.readouterr().err
    assert "is in use by another process (a gate on this store?); stop gate and portal first" in says
    assert run(["restore", "nowhere.backup", "--replace"]) == 1
    assert capsys.readouterr().err == "tollgate: nowhere.backup: No such file or directory\n"
    assert journal.stop()
    assert run(["restore", "gate.backup"]) == 1
    assert "--replace puts it aside" in capsys.readouterr().err
    assert run(["restore", "gate.backup", "--replace"]) == 0
    says = capsys.readouterr().out
    assert "1 call records" in says
    assert "the store that was there is kept as " in says
    assert "gate.db.before-restore\n" in says
    with Store(URL) as store:
        assert [record.record_id for record in store.usage.stream()] == ["r1"]
    journal = Journal(load_settings().journal_folder, post=lambda call: call())
    journal.start()
    _record(journal, "r3")
    journal.stop()
    with Store(URL) as store:
        assert sorted(record.record_id for record in store.usage.stream()) == ["r1", "r2", "r3"]


def _record(journal: Journal, record_id: str) -> None:
    """Write a record, and have it delivered to the store as a gate does."""
    with Store(URL) as store:
        pump = RecordPump(
            "store", journal.tail, UsageSink(store.usage), directory=load_settings().journal_folder
        )
        pump.start()
        journal.append(full_record(record_id), lambda _record, _durable: None)
        until = time.monotonic() + PATIENCE
        while store.usage.get(record_id) is None:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert pump.stop()


def test_a_file_that_is_no_backup_and_one_that_is_not_there_get_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("letter.txt").write_text("Dear customer")
    assert run(["restore", "letter.txt", "--replace"]) == 1
    assert capsys.readouterr().err == "tollgate: letter.txt: is no backup of Tollgate\n"
    assert run(["restore", "nowhere.backup", "--replace"]) == 1
    assert capsys.readouterr().err == "tollgate: nowhere.backup: No such file or directory\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gate.db", "letter.txt"]


def test_a_backup_that_cant_be_written_names_the_file_that_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("folder").mkdir()
    for name, why in (("no/gate.backup", "No such file or directory"), ("folder", "Is a directory")):
        assert run(["backup", name]) == 1
        assert capsys.readouterr().err == f"tollgate: {name}: can't be written: {why}\n"
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("gate.db")) == [
        "folder"
    ]


def test_the_store_of_a_server_is_left_to_the_servers_tools(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOLLGATE_STORE__URL", "postgresql://nowhere/tollgate")
    monkeypatch.setenv("TOLLGATE_JOURNAL__FOLDER", "journal")
    monkeypatch.setenv("TOLLGATE_CONTROL__SOCKET", "gate.sock")
    assert run(["restore", "any.backup"]) == 1
    assert "a server has its own tools, as pg_restore" in capsys.readouterr().err


def test_a_backup_overwrites_neither_the_store_nor_without_being_told_another_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = Path("gate.db").stat().st_ino
    for more in ([], ["--replace"]):
        assert run(["backup", "gate.db", *more]) == 1
        says = capsys.readouterr().err
        assert says == "tollgate: gate.db: is the store itself; name another file\n"
    assert Path("gate.db").stat().st_ino == before
    assert run(["backup", "gate.backup"]) == 0
    first = Path("gate.backup").read_bytes()
    capsys.readouterr()
    assert run(["backup", "gate.backup"]) == 1
    says = capsys.readouterr().err
    assert says == "tollgate: there is a file at gate.backup already; --replace overwrites it\n"
    assert Path("gate.backup").read_bytes() == first
    with Store(URL) as store:
        # What was refused is nothing that has been done.
        assert [entry.action for entry in store.audit.page()].count("backed up") == 1
    assert run(["backup", "gate.backup", "--replace"]) == 0
    assert Path("gate.backup").read_bytes() != first


def test_what_is_left_of_a_store_that_was_moved_away_is_put_aside(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["backup", "gate.backup"]) == 0
    Path("gate.db").rename("gate.db.bad")
    Path("gate.db-wal").write_bytes(b"of the one before")
    assert run(["restore", "gate.backup"]) == 1
    assert "there is what is left of a store at " in capsys.readouterr().err
    assert run(["restore", "gate.backup", "--replace"]) == 0
    assert "is kept as " in capsys.readouterr().out
    assert Path("gate.db.before-restore-wal").read_bytes() == b"of the one before"

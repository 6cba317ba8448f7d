"""A store in one file: whole, private, proved by restoring it, and nothing in a hostile one is run."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from proxy.errors import ConfigurationError
from proxy.policy import NumberPlan, User, UserGroup, new_code
from proxy.store import PortalAccount, Role, Store, load_snapshot
from proxy.store.audit import Actor
from proxy.store.backup import BackupRefused, check_backup, restore_backup, write_backup
from proxy.store.database import StoreUnavailable, migrate
from proxy.store.models import metadata
from tests.store.calls import many_calls

RESTORER = Actor("cli:test")
LEFT_OUT = {"portal_sessions", "webhook_deliveries"}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with something in most tables."""
    path = tmp_path_factory.mktemp("filled") / "tollgate.db"
    with Store(f"sqlite:///{path}") as store:
        store.groups.add(UserGroup("Sales"))
        store.users.add(User("204", "Sales", "Ünal '; DROP TABLE users; --"))
        store.codes.add(new_code("ACME-12/8", "Acme matter 8", plan=NumberPlan()))
        store.accounts.add(PortalAccount("chief", Role.DECISION_MAKER, "$argon2id$chief"), now=1.0)
        store.usage.insert_many(many_calls(1_500))
    return path


@pytest.fixture(scope="module")
def backup(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("backup") / "store.backup"
    with Store(f"sqlite:///{filled}") as store:
        write_backup(store.database, path)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "tollgate.db"


def rows(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(path)) as database:
        return {
            table.name: sorted(database.execute(f'SELECT * FROM "{table.name}"'), key=repr)
            for table in metadata.sorted_tables
        }


def lines_of(backup: Path) -> list[Any]:
    """Return what the lines of a backup say, without the last."""
    return [json.loads(line) for line in gzip.decompress(backup.read_bytes()).splitlines()[:-1]]


def pack(path: Path, lines: list[Any]) -> Path:
    """Write a backup of these lines, with the right sum."""
    data = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)
    end = json.dumps({"end": hashlib.sha256(data).hexdigest()}, separators=(",", ":")).encode() + b"\n"
    path.write_bytes(gzip.compress(data + end))
    return path


def place_of(lines: list[Any], table: str) -> int:
    return next(
        place for place, line in enumerate(lines) if isinstance(line, dict) and line.get("table") == table
    )


def test_a_restored_store_holds_every_row_and_who_restored_it(
    filled: Path, backup: Path, target: Path
) -> None:
    seen: list[tuple[int, int]] = []
    summary = restore_backup(backup, target, actor=RESTORER, progress=lambda *how_far: seen.append(how_far))
    original, restored = rows(filled), rows(target)
    assert summary.rows["call_records"] == len(original["call_records"]) == 1_500
    for table in original.keys() - LEFT_OUT - {"audit_log", "audit_head"}:
        assert restored[table] == original[table], table
    assert set(original["audit_log"]) < set(restored["audit_log"])
    assert summary.total == sum(len(original[table]) for table in original.keys() - LEFT_OUT)
    assert seen
    assert seen[-1][0] <= summary.total == seen[-1][1]
    with Store(f"sqlite:///{target}") as store:
        assert store.audit.verify().whole
        (note, *_) = store.audit.page()
        assert (note.who, note.action, note.name) == ("cli:test", "restored", "store.backup")


def test_what_is_added_after_a_restore_gets_no_number_that_something_deleted_had(
    filled: Path, tmp_path: Path, target: Path
) -> None:
    plan = NumberPlan()
    with Store(f"sqlite:///{filled}") as store:
        store.codes.add(new_code("200002", "Client B", plan=plan))
        billing = store.accounts.add(PortalAccount("billing", Role.BILLING_CONTACT, "x"), now=1.0)
        gone = store.codes.find("200002")
        assert gone
        store.codes.delete_ids([gone.id])
        store.accounts.delete(billing.id)
        write_backup(store.database, tmp_path / "numbers.backup")
    restore_backup(tmp_path / "numbers.backup", target, actor=RESTORER)
    with Store(f"sqlite:///{target}") as store:
        store.codes.add(new_code("300003", "Client C", plan=plan))
        found = store.codes.find("300003")
        assert found
        made = store.accounts.add(PortalAccount("other", Role.BILLING_CONTACT, "x"), now=1.0)
        assert (found.id, made.id) == (gone.id + 1, billing.id + 1)


def test_all_is_private_and_nothing_else_is_left(backup: Path, target: Path) -> None:
    restore_backup(backup, target, actor=RESTORER)
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert [path.name for path in backup.parent.iterdir()] == [backup.name]
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in target.parent.iterdir()} == {
        target.name: 0o600
    }
    assert stat.S_IMODE(target.parent.stat().st_mode) == 0o700


def test_a_backup_is_of_one_moment_and_keeps_nobody_waiting(filled: Path, tmp_path: Path) -> None:
    with Store(f"sqlite:///{filled}") as store, Store(f"sqlite:///{filled}") as other:
        steps = iter(many_calls(1_700)[1_500:])

        def while_it_is_written(_done: int, _total: int) -> None:
            for call in steps:
                other.usage.insert_many([call])

        before = len(list(store.usage.stream()))
        summary = write_backup(store.database, tmp_path / "online.backup", while_it_is_written)
        assert summary.rows["call_records"] == before
        assert len(list(store.usage.stream())) == before + 200
        with other.database.write():
            summary = write_backup(store.database, tmp_path / "online.backup", replace=True)
            assert summary.rows["call_records"] == before + 200


def test_sessions_and_undelivered_events_are_not_in_it(backup: Path) -> None:
    tables = {line["table"] for line in lines_of(backup) if isinstance(line, dict) and "table" in line}
    assert tables == {table.name for table in metadata.sorted_tables} - LEFT_OUT


def test_a_backup_of_an_older_version_is_brought_up_to_date(
    backup: Path, tmp_path: Path, target: Path
) -> None:
    rules = lines_of(backup)[place_of(lines_of(backup), "groups") + 1][1]
    lines: list[Any] = [{"tollgate_backup": 1, "revision": "0001", "made_at": "2026-01-01", "rows": 1}]
    with closing(sqlite3.connect(tmp_path / "first.db")) as database:
        _upgrade(tmp_path / "first.db", "0001")
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            if name not in {"alembic_version", "sqlite_sequence"}:
                columns = [row[1] for row in database.execute(f"PRAGMA table_info({name})")]
                found = [["Sales", rules]] if name == "groups" else []
                lines += [{"table": name, "columns": columns, "rows": len(found)}, *found]
    old = pack(tmp_path / "old.backup", lines)
    assert restore_backup(old, target, actor=RESTORER).revision == "0001"
    with Store(f"sqlite:///{target}") as store:
        assert [group.name for group in store.groups.all()] == ["Sales"]


def _upgrade(path: Path, revision: str) -> None:
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        migrate(connection, revision)
    engine.dispose()


def _cut(data: bytes) -> Iterator[bytes]:
    yield from (data[: len(data) * part // 8] for part in range(8))
    yield data[:-1]


def test_a_damaged_file_is_refused_wherever_it_is_damaged(backup: Path, tmp_path: Path, target: Path) -> None:
    whole = backup.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    damaged = tmp_path / "damaged.backup"
    for data in (
        *_cut(whole),
        bytes(flipped),
        whole + b"more",
        whole + gzip.compress(b"{}\n"),
        b"",
        b"PK\3\4",
    ):
        damaged.write_bytes(data)
        with pytest.raises(BackupRefused, match=r"damaged\.backup: "):
            restore_backup(damaged, target, actor=RESTORER)
    assert list(target.parent.iterdir()) == []


Spoil = Callable[[list[Any]], object]


def _spoiled_row(table: str, row: object) -> Spoil:
    def spoil(lines: list[Any]) -> None:
        lines[place_of(lines, table) + 1] = row

    return spoil


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda lines: lines[0].update(tollgate_backup=2), "another version of Tollgate"),
        (lambda lines: lines[0].update(revision="9999"), r"another version of Tollgate \(revision 9999\)"),
        (lambda lines: lines[0].pop("revision"), "line 1: the file is damaged"),
        (lambda lines: lines[0].pop("tollgate_backup"), "is no backup of Tollgate"),
        (lambda lines: lines.__setitem__(0, ["tollgate_backup"]), "is no backup of Tollgate"),
        (lambda lines: lines[1].update(table="sqlite_master"), "'sqlite_master' is not one of revision"),
        (lambda lines: lines[1].update(table="portal_sessions"), "'portal_sessions' is not one of"),
        (lambda lines: lines[1]["columns"].append("name) VALUES (1); DROP TABLE users; --"), "is not one of"),
        (lambda lines: lines[1]["columns"].__setitem__(0, lines[1]["columns"][1]), "is not one of"),
        (lambda lines: lines[1].update(rows="1"), "here a table should begin"),
        (lambda lines: lines[1].update(last_id="9"), "here a table should begin"),
        (lambda lines: lines[1].update(last_id=1 << 63), "here a table should begin"),
        (lambda lines: lines.insert(1, [1]), "here a table should begin"),
        (lambda lines: lines.insert(1, dict(lines[1])), "comes twice"),
        (lambda lines: lines.pop(place_of(lines, "login_failures")), "table login_failures is missing"),
        (_spoiled_row("groups", ["Sales"]), "a row of 3 values"),
        (_spoiled_row("groups", {"name": "Sales"}), "a row of 3 values"),
        (_spoiled_row("groups", ["Sales", ["{}"], 1]), "neither text nor number"),
        (_spoiled_row("groups", ["Sales", True, 1]), "neither text nor number"),
        (_spoiled_row("groups", ["Sales", "{}", 10**30]), "table groups does not take its rows"),
        (_spoiled_row("groups", ["Sales", "\ud800", 1]), "table groups does not take its rows"),
        (_spoiled_row("groups", ["Sales", None, 1]), "table groups does not take its rows"),
        (_spoiled_row("groups", ["Sales", "{}", "1"]), "table groups is not read as it was written"),
        (_spoiled_row("groups", ["Nobody's", "{}", 1]), "a row names another that is not there"),
        (_spoiled_row("audit_head", [1, 0, "0" * 64]), "its audit log is broken"),
    ],
)
def test_a_file_that_says_something_else_is_refused(
    backup: Path, tmp_path: Path, target: Path, spoil: Spoil, says: str
) -> None:
    lines = lines_of(backup)
    spoil(lines)
    with pytest.raises(BackupRefused, match=says):
        restore_backup(pack(tmp_path / "spoiled.backup", lines), target, actor=RESTORER)
    assert list(target.parent.iterdir()) == []


def _value(table: str, column: str, value: object) -> Spoil:
    def spoil(lines: list[Any]) -> None:
        place = place_of(lines, table)
        lines[place + 1][lines[place]["columns"].index(column)] = value

    return spoil


def _locked(since: object) -> Spoil:
    def spoil(lines: list[Any]) -> None:
        place = place_of(lines, "caller_locks")
        lines[place]["rows"] = 1
        known = {"caller": "user 204", "since": since, "until": None, "wrong": 5}
        lines.insert(place + 1, [known[column] for column in lines[place]["columns"]])

    return spoil


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_value("groups", "rules", "banana"), "group 'Sales' can't be read: JSONDecodeError"),
        (_value("groups", "rules", "[[["), "group 'Sales' can't be read: JSONDecodeError"),
        (_value("users", "extension", "banana"), "user 'banana' can't be read: ConfigurationError"),
        (_value("users", "name", "\0"), "user '204' can't be read: ConfigurationError"),
        (_value("users", "credentials", ""), "user '204' can't be read: JSONDecodeError"),
        (_value("users", "extension", "x" * 100_000), "user 'xxxxx"),
        (_value("account_codes", "valid_from", "banana"), "an account code can't be read: ValueError"),
        (_value("account_codes", "valid_until", -1), "an account code can't be read: TypeError"),
        (_value("account_codes", "class_of_service", ""), "an account code can't be read: JSONDecodeError"),
        (_locked("banana"), "a locked caller can't be read: ValueError"),
    ],
)
def test_a_backup_with_a_policy_that_no_gate_can_use_is_refused(
    backup: Path, tmp_path: Path, target: Path, spoil: Spoil, says: str
) -> None:
    lines = lines_of(backup)
    spoil(lines)
    spoiled = pack(tmp_path / "spoiled.backup", lines)
    with pytest.raises(BackupRefused) as refused:
        restore_backup(spoiled, target, actor=RESTORER)
    told = str(refused.value)
    assert told.startswith(f"spoiled.backup: no gate could use its policy: store: {says}")
    assert len(told.splitlines()) == 1
    assert len(told) < 300
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("value", ["banana", "", -1, 10**18, "\0", "[[["])
def test_a_store_with_a_date_that_is_none_says_so(filled: Path, tmp_path: Path, value: object) -> None:
    shutil.copy(filled, tmp_path / "other.db")
    with closing(sqlite3.connect(tmp_path / "other.db")) as database:
        database.execute("UPDATE account_codes SET valid_from = ?", [value])
        database.commit()
    with Store(f"sqlite:///{tmp_path}/other.db") as store:
        with pytest.raises(StoreUnavailable, match="store: an account code can't be read: "):
            load_snapshot(store.database, NumberPlan())
        kept = tmp_path / "kept.backup"
        kept.write_bytes(b"the last one")
        with pytest.raises(BackupRefused, match=r"kept\.backup: no gate could use its policy"):
            write_backup(store.database, kept, replace=True)
        assert kept.read_bytes() == b"the last one"


def test_a_deeply_nested_line_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deep.backup").write_bytes(gzip.compress(b"[" * 200_000 + b"\n"))
    with pytest.raises(BackupRefused, match="no backup of Tollgate"):
        check_backup(tmp_path / "deep.backup")


def test_a_store_that_is_there_is_put_aside_only_when_that_is_said(backup: Path, target: Path) -> None:
    with Store(f"sqlite:///{make(target)}") as store:
        store.groups.add(UserGroup("Before"))
    with pytest.raises(BackupRefused, match=r"there is a store at .* already; --replace puts it aside"):
        restore_backup(backup, target, actor=RESTORER)
    restore_backup(backup, target, actor=RESTORER, replace=True)
    with Store(f"sqlite:///{target}") as new, Store(f"sqlite:///{target}.before-restore") as old:
        assert [group.name for group in new.groups.all()] == ["Sales"]
        assert [group.name for group in old.groups.all()] == ["Before"]


def test_no_store_that_was_put_aside_earlier_is_overwritten(backup: Path, target: Path) -> None:
    kept = []
    for number in range(4):
        with Store(f"sqlite:///{make(target)}") as store:
            store.groups.add(UserGroup(f"Before {number}"))
        kept.append(restore_backup(backup, target, actor=RESTORER, replace=True).put_aside)
        if number == 1:
            # What is left of a store, and a name that leads nowhere, are no free names either.
            target.with_name("tollgate.db.before-restore-3-wal").write_bytes(b"of another")
            target.with_name("tollgate.db.before-restore-4").symlink_to("nowhere")
    ends = ("", "-2", "-5", "-6")
    assert kept == [target.with_name(f"tollgate.db.before-restore{end}") for end in ends]
    for number, path in enumerate(kept):
        with Store(f"sqlite:///{path}") as old:
            assert f"Before {number}" in [group.name for group in old.groups.all()]


def test_a_store_that_somebody_uses_is_not_replaced(backup: Path, target: Path) -> None:
    with Store(f"sqlite:///{make(target)}") as store:
        store.groups.add(UserGroup("Before"))
        with pytest.raises(BackupRefused, match="is in use: stop the gate and the portal first"):
            restore_backup(backup, target, actor=RESTORER, replace=True)
        assert [group.name for group in store.groups.all()] == ["Before"]


def test_a_broken_store_is_replaced(backup: Path, target: Path) -> None:
    make(target).write_bytes(b"Dear customer, " * 1_000)
    restore_backup(backup, target, actor=RESTORER, replace=True)
    with Store(f"sqlite:///{target}") as store:
        assert [group.name for group in store.groups.all()] == ["Sales"]
    assert target.with_name("tollgate.db.before-restore").read_bytes().startswith(b"Dear customer")


@pytest.mark.parametrize("left", ["-wal", "-shm", "-journal"])
@pytest.mark.parametrize("main", [None, b""])
def test_what_is_left_of_a_store_is_not_taken_for_the_restored_ones(
    backup: Path, target: Path, left: str, main: bytes | None
) -> None:
    if main is not None:
        make(target).write_bytes(main)
    make(target).with_name(f"{target.name}{left}").write_bytes(b"of another")
    with pytest.raises(BackupRefused, match=rf"left of a store at .*{left} already; --replace puts it aside"):
        restore_backup(backup, target, actor=RESTORER)
    summary = restore_backup(backup, target, actor=RESTORER, replace=True)
    kept = target.with_name(f"{target.name}.before-restore{left}")
    assert kept.read_bytes() == b"of another"
    assert summary.put_aside == (kept if main is None else target.with_name(f"{target.name}.before-restore"))


def test_a_killed_stores_write_ahead_log_does_not_get_into_the_restored_one(
    backup: Path, target: Path, tmp_path: Path
) -> None:
    with Store(f"sqlite:///{make(target)}") as store:
        store.groups.add(UserGroup("Killed"))
        # As after a kill: nobody has gathered the log into the file, which is then moved out of the way.
        for end in ("", "-wal"):
            shutil.copy(f"{target}{end}", tmp_path / f"left.db{end}")
    (tmp_path / "left.db").rename(tmp_path / "left.db.bad")
    restore_backup(backup, tmp_path / "left.db", actor=RESTORER, replace=True)
    with Store(f"sqlite:///{tmp_path}/left.db") as store:
        assert [group.name for group in store.groups.all()] == ["Sales"]
        with store.database.read() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


def test_a_store_that_is_made_while_a_backup_is_restored_stays(backup: Path, target: Path) -> None:
    def while_it_is_restored(_done: int, _total: int) -> None:
        if not target.exists():
            with Store(f"sqlite:///{target}") as store:
                store.groups.add(UserGroup("Meanwhile"))

    with pytest.raises(BackupRefused, match="there is a store at"):
        restore_backup(backup, target, actor=RESTORER, progress=while_it_is_restored)
    with Store(f"sqlite:///{target}") as store:
        assert [group.name for group in store.groups.all()] == ["Meanwhile"]


def make(target: Path) -> Path:
    target.parent.mkdir(exist_ok=True)
    return target


def test_a_backup_that_can_not_be_written_whole_leaves_the_one_that_was_there(
    filled: Path, tmp_path: Path
) -> None:
    def full_disk(_done: int, _total: int) -> None:
        raise OSError(28, "No space left on device")

    kept = tmp_path / "kept.backup"
    kept.write_bytes(b"the last one")
    with Store(f"sqlite:///{filled}") as store, pytest.raises(OSError, match="No space"):
        write_backup(store.database, kept, full_disk, replace=True)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"the last one"]


def test_a_file_that_is_there_is_only_overwritten_when_that_is_said(filled: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.backup"
    kept.write_bytes(b"the last one")
    with Store(f"sqlite:///{filled}") as store:
        there = r"a file at .*kept\.backup already; --replace overwrites it"
        with pytest.raises(ConfigurationError, match=there):
            write_backup(store.database, kept)
        assert kept.read_bytes() == b"the last one"
        write_backup(store.database, kept, replace=True)
    assert check_backup(kept).rows["call_records"] >= 1_500
    assert [path.name for path in tmp_path.iterdir()] == ["kept.backup"]


@pytest.mark.parametrize("number", [None, errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_that_comes_there_while_a_backup_is_written_stays(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    def no_links(_source: object, _target: object) -> None:
        assert number is not None
        raise OSError(number, "a file has one name here")

    if number is not None:
        monkeypatch.setattr(os, "link", no_links)
    new = tmp_path / "new.backup"

    def while_it_is_written(_done: int, _total: int) -> None:
        new.write_bytes(b"of another")

    with Store(f"sqlite:///{filled}") as store:
        with pytest.raises(ConfigurationError, match="there is a file at"):
            write_backup(store.database, new, while_it_is_written)
        assert new.read_bytes() == b"of another"
        new.unlink()
        write_backup(store.database, new)
    assert check_backup(new).total > 0
    assert stat.S_IMODE(new.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["new.backup"]


@pytest.mark.parametrize("replace", [False, True])
def test_a_store_is_never_overwritten_by_its_own_backup(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(filled, tmp_path / "real.db")
    Path("store.db").symlink_to("real.db")
    Path("further").hardlink_to("real.db")
    Path("link").symlink_to("store.db")
    with Store("sqlite:///store.db") as store:
        for name in (
            "store.db",
            "real.db",
            "further",
            "link",
            "real.db-wal",
            "real.db-shm",
            "real.db-journal",
        ):
            with pytest.raises(ConfigurationError, match=rf"{name}: is the store itself; name another file"):
                write_backup(store.database, Path(name), replace=replace)
        assert store.groups.all()


@pytest.mark.parametrize("replace", [False, True])
def test_no_backup_takes_the_place_of_what_is_no_file(filled: Path, tmp_path: Path, replace: bool) -> None:
    (tmp_path / "latest").symlink_to("elsewhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with Store(f"sqlite:///{filled}") as store:
        for name in ("latest", "pipe"):
            with pytest.raises(ConfigurationError, match="is a link or a device; name another file"):
                write_backup(store.database, tmp_path / name, replace=replace)
        with pytest.raises(IsADirectoryError):
            write_backup(store.database, tmp_path / "folder", replace=replace)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "latest", "pipe"]

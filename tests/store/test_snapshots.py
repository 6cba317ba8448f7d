"""The policy in memory follows the store, and survives it."""

from __future__ import annotations

import queue
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from proxy.policy import AccountCode, NumberPlan, Snapshot, User, UserGroup
from proxy.store import SnapshotSource, Store, load_snapshot
from proxy.store.snapshots import POLL_INTERVAL
from tests.cdr.samples import full_record


@dataclass
class Gate:
    """What a gate would hear of the policy."""

    store: Store
    plan: NumberPlan
    snapshots: queue.Queue[Snapshot] = field(default_factory=queue.Queue)

    def __post_init__(self) -> None:
        self.source = SnapshotSource(self.store.database, Snapshot(self.plan), on_change=self.snapshots.put)

    def settled(self) -> Snapshot:
        """Poll until nothing is new; what is followed step by step equals what is read whole."""
        while self.source.poll():
            pass
        current, whole = self.source.current, load_snapshot(self.store.database, self.plan)
        assert current.version == whole.version
        assert dict(current.groups) == dict(whole.groups)
        assert dict(current.users) == dict(whole.users)
        assert {code.digits: code for code in current.codes} == {code.digits: code for code in whole.codes}
        return current


@pytest.fixture
def gate(url: str, plan: NumberPlan) -> Iterator[Gate]:
    with Store(url) as store:
        made = Gate(store, plan)
        yield made
        made.source.stop()


def test_before_the_first_poll_there_is_an_empty_policy(gate: Gate) -> None:
    assert gate.source.current.version == 0
    assert not gate.source.current.groups


def test_every_change_is_followed(gate: Gate, store: Store) -> None:
    assert gate.source.poll()
    assert not gate.source.poll()
    store.groups.add(UserGroup("Desk"))
    store.users.add(User("204", "Desk"))
    assert "204" in gate.settled().users
    store.codes.add(AccountCode("1234", description="one"))
    store.codes.add(AccountCode("12??"))
    assert len(gate.settled().codes) == 2
    store.codes.save(AccountCode("1234", description="two"))
    store.codes.delete_many(["12??"])
    code = gate.settled().codes.get("1234")
    assert code is not None
    assert code.description == "two"
    store.codes.delete_many(["1234"])
    store.codes.add(AccountCode("1234", description="again"))
    assert len(gate.settled().codes) == 1
    store.users.delete_many(["204"])
    store.codes.add(AccountCode("77"))
    assert not gate.settled().users


def test_old_changes_go_and_a_gate_that_missed_them_reads_everything(
    gate: Gate, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.store.changes.KEPT_CHANGES", 3)
    store.codes.add(AccountCode("4711"))
    gate.settled()
    store.codes.delete_many(["4711"])
    for digits in ("1", "2", "3", "4", "5"):
        store.codes.add(AccountCode(digits))
    with store.database.read() as connection:
        keys = connection.exec_driver_sql("SELECT keys FROM policy_changes").scalars().all()
    assert len(keys) == 3
    assert not any("4711" in text for text in keys)
    assert {code.digits for code in gate.settled().codes} == {"1", "2", "3", "4", "5"}


def test_changes_go_with_time_and_a_gate_that_has_them_reads_on(
    gate: Gate, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.store.changes.KEPT_SECONDS", -1.0)
    store.groups.add(UserGroup("Desk"))
    before = gate.settled()
    for digits in ("1", "2", "3"):
        store.codes.add(AccountCode(digits))
        assert gate.settled().groups is before.groups
    with store.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM policy_changes").scalar() == 1


def test_a_change_of_codes_keeps_the_rest_of_the_snapshot(gate: Gate, store: Store) -> None:
    store.groups.add(UserGroup("Desk"))
    before = gate.settled()
    store.codes.add(AccountCode("1"))
    assert gate.settled().groups is before.groups


def test_uses_are_policy_for_limited_codes_only(gate: Gate, store: Store) -> None:
    store.codes.add(AccountCode("2263127"))
    gate.settled()
    store.usage.insert_many([full_record("a")])
    assert not gate.source.poll()
    store.codes.save(AccountCode("2263127", max_uses=3))
    store.usage.insert_many([replace(full_record("b"))])
    code = gate.settled().codes.get("2263127")
    assert code is not None
    assert code.uses == 2


def test_a_change_by_another_process_is_live_within_a_second(gate: Gate, url: str) -> None:
    gate.source.start()
    gate.snapshots.get(timeout=60)
    program = (
        "import sys\n"
        "from proxy.policy import AccountCode\n"
        "from proxy.store import Store\n"
        "with Store(sys.argv[1]) as store:\n"
        "    store.codes.add(AccountCode('4711'))\n"
    )
    subprocess.run([sys.executable, "-c", program, url], check=True)
    snapshot = gate.snapshots.get(timeout=60)
    assert "4711" in snapshot.codes
    assert POLL_INTERVAL <= 0.5, "live within a second"


def test_a_broken_store_keeps_the_last_good_snapshot(gate: Gate, store: Store) -> None:
    store.groups.add(UserGroup("Desk"))
    good = gate.settled()
    with store.database.write() as connection:
        connection.exec_driver_sql("UPDATE groups SET rules = 'x'")
        connection.exec_driver_sql(
            "INSERT INTO policy_changes (at, kind, action, keys) VALUES (0, 'group', 'saved', '[]')"
        )
    assert not gate.source.poll()
    assert not gate.source.poll()
    assert gate.source.current is good
    assert gate.source.trouble == "store: group 'Desk' can't be read: JSONDecodeError"
    store.groups.change(UserGroup("Desk", tries=2))
    assert gate.source.poll()
    assert gate.settled().groups["Desk"].tries == 2
    assert gate.source.trouble == ""


@pytest.mark.sqlite
def test_a_store_that_vanishes_keeps_the_last_good_snapshot(gate: Gate, store: Store, tmp_path: Path) -> None:
    store.groups.add(UserGroup("Desk"))
    good = gate.settled()
    path = tmp_path / "tollgate.db"
    path.rename(tmp_path / "away.db")
    assert not gate.source.poll()
    assert gate.source.current is good
    assert gate.source.trouble == "FileNotFoundError"
    (tmp_path / "away.db").rename(path)
    assert not gate.source.poll()
    assert gate.source.trouble == ""


@pytest.mark.sqlite
def test_a_store_put_in_place_of_another_is_read_anew(gate: Gate, store: Store, tmp_path: Path) -> None:
    store.codes.add(AccountCode("1"))
    gate.settled()
    with Store(f"sqlite:///{tmp_path}/other.db") as other:
        other.codes.add(AccountCode("2"))
    store.close()
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"tollgate.db{suffix}").unlink(missing_ok=True)
    shutil.move(tmp_path / "other.db", tmp_path / "tollgate.db")
    gate.source.poll()
    assert [code.digits for code in gate.source.current.codes] == ["2"]


def test_a_gate_starts_on_a_broken_store(url: str, plan: NumberPlan, store: Store) -> None:
    with store.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE users RENAME TO people")
    with Store(url) as opened:
        present = Snapshot(plan, [UserGroup("Desk")], version=7)
        source = SnapshotSource(opened.database, present, on_change=lambda _snapshot: None)
        assert source.start() is present
        assert "users" in source.trouble
        source.stop()

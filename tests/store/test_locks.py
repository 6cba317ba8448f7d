"""Locked callers in the store: kept, lifted, live in a running gate, and in the audit log."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.errors import ConfigurationError
from proxy.policy import CallerLock, CallLimits, NumberPlan, Snapshot, UserGroup
from proxy.store import SnapshotSource, Store, load_snapshot
from proxy.store.audit import Actor, AuditFilter

A = CallerLock("user 204", 1_000.0, 4_600.0, 5)
B = CallerLock("peer pbx +13125550188", 1_001.0, None, 7)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path}/t.db") as made:
        yield made


def test_they_are_kept_with_the_policy(store: Store) -> None:
    store.locks.add([A, B])
    snapshot = load_snapshot(store.database, NumberPlan())
    assert dict(snapshot.locks) == {A.caller: A, B.caller: B}
    assert store.locks.all(at=4_599.0) == [B, A]
    assert store.locks.all(at=4_600.0) == [B]


def test_a_running_gate_gets_them_and_loses_them(store: Store) -> None:
    source = SnapshotSource(store.database, Snapshot(NumberPlan()), on_change=lambda _: None)
    source.poll()
    store.groups.add(UserGroup("staff"))
    source.poll()
    before = source.current
    store.locks.add([A])
    assert source.poll()
    assert source.current.locks[A.caller] == A
    assert source.current.users is before.users  # nobody's registration is looked at for that
    store.locks.unlock([A.caller])
    store.groups.add(UserGroup("more"))
    assert source.poll()
    assert not source.current.locks
    assert set(source.current.groups) == {"staff", "more"}


def test_the_last_lock_of_a_caller_counts_and_those_that_are_over_go(store: Store) -> None:
    store.locks.add([A])
    again = CallerLock(A.caller, 2_000.0, 5_600.0, 5)
    store.locks.add([A, again])
    assert store.locks.all(at=0.0) == [again]
    late = CallerLock("user 205", 9_000.0, None, 5)
    store.locks.add([late])
    assert dict(load_snapshot(store.database, NumberPlan()).locks) == {late.caller: late}


def test_all_are_lifted_or_none(store: Store) -> None:
    store.locks.add([A, B])
    with pytest.raises(ConfigurationError, match="'user 999' is not locked"):
        store.locks.unlock([A.caller, "user 999"])
    assert len(store.locks.all(at=0.0)) == 2
    store.locks.unlock([A.caller, B.caller])
    assert not store.locks.all()


def test_the_audit_log_tells_who_was_locked_and_who_has_lifted_it(store: Store) -> None:
    store.locks.add([A])
    store.acting(Actor("chief")).locks.unlock([A.caller])
    rows = list(store.audit.page(AuditFilter(kind="caller"), limit=10))
    assert sorted((row.who, row.action, row.name) for row in rows) == [
        ("chief", "unlock", "user 204"),
        ("system", "lock", "user 204"),
    ]


def test_a_flood_of_callers_pushes_the_oldest_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from proxy.store import locks

    monkeypatch.setattr(locks, "_MOST", 3)
    for number in range(5):
        store.locks.add([CallerLock(f"user {number}", float(number), None, 5)])
    assert [lock.caller for lock in store.locks.all()] == ["user 4", "user 3", "user 2"]


def test_a_groups_limits_are_kept_and_old_rows_have_none(store: Store, tmp_path: Path) -> None:
    limits = CallLimits(caller_calls=1, code_calls=2, country_calls=3, hourly_calls=4, talk_seconds=5)
    store.groups.add(UserGroup("staff", limits=limits))
    found = store.groups.get("staff")
    assert found is not None
    assert found.limits == limits
    with sqlite3.connect(tmp_path / "t.db") as connection:
        connection.execute("UPDATE groups SET rules = json_remove(rules, '$.limits')")
    connection.close()
    found = store.groups.get("staff")
    assert found is not None
    assert found.limits == CallLimits()

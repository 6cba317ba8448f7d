"""Many codes at once: who else writes meanwhile does not wait, and what they do is not lost."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from sqlalchemy import inspect

from proxy.errors import ConfigurationError
from proxy.policy import AccountCode, CodeOwner, NumberPlan, OwnerKind, User, UserGroup
from proxy.policy.code_file import read_code_file
from proxy.store import Store, UpsertResult, VersionConflict, carry_out, plan_import
from proxy.store.audit import masked_code

MANY = [AccountCode(f"{number:06d}", description=f"Client {number}") for number in range(3_000)]


def upsert(store: Store, codes: list[AccountCode], meanwhile: Callable[[int], None]) -> UpsertResult:
    """Upsert, and let something happen each time when all is made ready."""
    times = 0

    def progress(done: int, total: int) -> None:
        nonlocal times
        if done == total:
            times += 1
            meanwhile(times)

    return store.codes.upsert_many(codes, may_update=True, progress=progress)


@pytest.fixture
def other(store: Store, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Another process's way to the same store, which does not wait for anybody."""
    monkeypatch.setattr("proxy.store.database._BUSY_TIMEOUT_MS", 1)
    with Store(url) as found:
        yield found


def test_others_write_while_many_codes_are_made_ready(store: Store, other: Store) -> None:
    store.groups.add(UserGroup("Sales"))
    times = []

    def meanwhile(time: int) -> None:
        times.append(time)
        other.users.add(User("204", "Sales"))
        other.codes.add(AccountCode("77"))

    assert upsert(store, MANY, meanwhile) == UpsertResult(3_000, 0, 0)
    assert times == [1], "what they wrote is none of these codes: nothing is done again"
    assert store.codes.count() == 3_001


def test_a_code_that_was_changed_meanwhile_is_told_as_it_then_was(store: Store, other: Store) -> None:
    store.codes.upsert_many(MANY, may_update=False)
    renamed = [replace(code, description=f"{code.description}, renamed") for code in MANY]

    def meanwhile(time: int) -> None:
        if time == 1:
            found = other.codes.find("000007")
            assert found
            other.codes.change(found.id, replace(found.value, description="Theirs"), version=found.version)

    assert upsert(store, renamed, meanwhile) == UpsertResult(0, 3_000, 0)
    found = [store.audit.get(one.id) for one in reversed(store.audit.page()) if one.action == "change"]
    changes = [entry for entry in found if entry is not None]
    before = {item["id"]: item for entry in changes for item in _items(entry.before)}
    after = {item["id"]: item for entry in changes for item in _items(entry.after)}
    assert before[8]["description"] == "Theirs"
    assert after[8] | {"description": ""} == before[8] | {"description": ""}
    assert {item["code"] for item in after.values()} == {masked_code(code.form) for code in MANY}
    assert store.audit.verify().whole


def _items(facts: object) -> list[dict[str, object]]:
    return facts if isinstance(facts, list) else [facts] if isinstance(facts, dict) else []


def test_a_code_that_was_added_meanwhile_is_changed_or_refused(store: Store, other: Store) -> None:
    def meanwhile(time: int) -> None:
        if time == 1:
            other.codes.add(AccountCode("000009", description="Theirs"))

    assert upsert(store, MANY, meanwhile) == UpsertResult(2_999, 1, 0)
    assert [code.description for code in store.codes.page("000009")] == ["Client 9"]
    store.codes.delete_many([code.digits for code in MANY])

    def again(done: int, total: int) -> None:
        if done == total:
            other.codes.add(AccountCode("000009", description="Theirs"))

    with pytest.raises(ConfigurationError, match="code 000009 exists already"):
        store.codes.upsert_many(MANY, may_update=False, progress=again)
    assert [code.description for code in store.codes.page()] == ["Theirs"], "nothing is half-written"


def test_a_code_that_was_deleted_meanwhile_is_added(store: Store, other: Store) -> None:
    store.codes.upsert_many(MANY, may_update=False)
    renamed = [replace(code, description="Renamed") for code in MANY]

    def meanwhile(time: int) -> None:
        if time == 1:
            other.codes.delete_many(["000003"])

    assert upsert(store, renamed, meanwhile) == UpsertResult(1, 2_999, 0)
    assert store.codes.count("Renamed") == 3_000


def _disabled(store: Store) -> None:
    found = store.codes.find("200002")
    assert found
    store.codes.enable_many([found.id], enabled=False)


def _made_anew(store: Store) -> None:
    store.codes.delete_many(["200002"])
    store.codes.add(AccountCode("200002", description="Theirs"))


@pytest.mark.parametrize(
    "change",
    [
        _disabled,
        _made_anew,
        lambda store: store.codes.delete_many(["200002"]),
        lambda store: store.codes.add(AccountCode("100001", description="Theirs")),
    ],
)
@pytest.mark.parametrize("when", ["planned", "made ready"])
def test_what_was_planned_undoes_nothing_that_somebody_else_did_since(
    store: Store, other: Store, change: Callable[[Store], object], when: str
) -> None:
    others = [AccountCode(f"{number:06d}") for number in range(150)]
    store.codes.add(AccountCode("200002", description="B"))
    table = "Code,Description\n100001,A new\n200002,B new\n" + "".join(f"{one.form},x\n" for one in others)
    plan = plan_import(read_code_file(table, NumberPlan()), store.codes, may_update=True)
    if when == "planned":
        change(other)
    before: list[AccountCode] = []

    def progress(done: int, total: int) -> None:
        if when == "made ready" and done == total:
            change(other)
        before[:] = other.codes.page()

    with pytest.raises(VersionConflict, match="changed by somebody else meanwhile"):
        carry_out(plan, store.codes, progress)
    assert store.codes.page() == (before or other.codes.page())
    assert "x" not in {code.description for code in store.codes.page(limit=200)}


def test_uses_that_calls_count_meanwhile_stop_no_plan(store: Store, other: Store) -> None:
    store.codes.add(AccountCode("200002", description="B", max_uses=5))
    table = "Code,Description\n200002,B new\n"
    plan = plan_import(read_code_file(table, NumberPlan()), store.codes, may_update=True)
    with other.database.write() as connection:
        connection.exec_driver_sql("UPDATE account_codes SET uses = 3, change_id = change_id + 1")
    assert carry_out(plan, store.codes) == UpsertResult(0, 1, 0)
    (code,) = store.codes.page()
    assert (code.description, code.uses) == ("B new", 3)


def test_an_owner_that_was_deleted_meanwhile_is_refused(store: Store, other: Store) -> None:
    store.groups.add(UserGroup("Sales"))
    owned = [replace(code, owner=CodeOwner(OwnerKind.GROUP, "Sales")) for code in MANY]
    with pytest.raises(ConfigurationError, match="group 'Sales' does not exist"):
        upsert(store, owned, lambda _time: other.groups.delete("Sales"))
    assert store.codes.count() == 0


def test_who_is_always_overtaken_comes_to_an_end_under_the_lock(store: Store, other: Store) -> None:
    locked = []

    def meanwhile(time: int) -> None:
        try:
            other.codes.save(AccountCode("000001", description=f"Theirs {time}"))
        except Exception as error:  # noqa: BLE001 - looked at below
            locked.append((time, str(error)))

    assert upsert(store, MANY, meanwhile) == UpsertResult(2_999, 1, 0)
    assert [time for time, _ in locked] == [4]
    assert re.search("locked|lock timeout", locked[0][1])
    assert [code.description for code in store.codes.page("000001")] == ["Client 1"]


def test_what_was_made_ready_does_not_outlast_it(store: Store) -> None:
    store.codes.upsert_many(MANY, may_update=False)
    for _ in range(8):
        with store.database.read() as connection:
            assert inspect(connection).get_temp_table_names() == []
            assert "staged_codes" not in inspect(connection).get_table_names()

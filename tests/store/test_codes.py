"""Codes as the portal works on them: by id and version, many at once, from files."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import date

import pytest

from proxy.errors import ConfigurationError
from proxy.policy import (
    AccountCode,
    CallClass,
    ClassOfService,
    CodeOwner,
    NumberPlan,
    OwnerKind,
    User,
    UserGroup,
)
from proxy.policy.code_file import read_code_file
from proxy.store import (
    Actor,
    CodeOrder,
    LineVerdict,
    Store,
    UsageFilter,
    VersionConflict,
    Versioned,
    carry_out,
    load_snapshot,
    plan_import,
)
from tests.cdr.samples import full_record


@pytest.fixture
def code(store: Store) -> Versioned[AccountCode]:
    store.groups.add(UserGroup("Desk"))
    store.users.add(User("204", "Desk"))
    store.codes.add(AccountCode("2263127", "ACME-12/7", "Acme"))
    return store.codes.versioned_page()[0]


def test_every_fact_of_a_code_can_be_changed(
    store: Store, plan: NumberPlan, code: Versioned[AccountCode]
) -> None:
    store.usage.insert_many([full_record()])
    new = AccountCode(
        "4711",
        "47-11",
        "Acme 2",
        enabled=False,
        valid_from=date(2026, 1, 1),
        valid_until=date(2026, 12, 31),
        owner=CodeOwner(OwnerKind.USER, "204"),
        class_of_service=ClassOfService(frozenset({CallClass.LOCAL})),
        max_uses=9,
    )
    changed = store.codes.change(code.id, new, version=code.version)
    assert changed == store.codes.by_id(code.id) == Versioned(replace(new, uses=1), code.version + 1, code.id)
    assert store.codes.get("ACME-12/7") is None
    snapshot = load_snapshot(store.database, plan)
    assert snapshot.codes.get("2263127") is None
    assert snapshot.codes.get("4711") == replace(new, uses=1)
    assert store.audit.page(limit=1)[0].name == str(code.id)


def test_the_second_of_two_administrators_sees_what_the_first_did(
    store: Store, code: Versioned[AccountCode]
) -> None:
    first = store.codes.change(code.id, replace(code.value, description="first"), version=code.version)
    with pytest.raises(VersionConflict, match="changed by somebody else") as caught:
        store.codes.change(code.id, replace(code.value, description="second"), version=code.version)
    assert caught.value.current == first
    assert store.codes.change(code.id, first.value, version=first.version) == first


def test_a_call_is_no_change_by_an_administrator(store: Store, code: Versioned[AccountCode]) -> None:
    limited = store.codes.change(code.id, replace(code.value, max_uses=5), version=code.version)
    store.usage.insert_many([full_record()])
    again = store.codes.change(code.id, replace(limited.value, description="x"), version=limited.version)
    assert again.value.uses == 1


def test_groups_and_users_notice_two_administrators(store: Store, code: Versioned[AccountCode]) -> None:
    group, user = store.groups.versioned("Desk"), store.users.versioned("204")
    assert group is not None
    assert user is not None
    store.groups.change(UserGroup("Desk", tries=5), version=group.version)
    store.users.change(User("204", "Desk", "Anna"), version=user.version)
    with pytest.raises(VersionConflict) as caught:
        store.groups.change(UserGroup("Desk", tries=9), version=group.version)
    assert caught.value.current == store.groups.versioned("Desk")
    with pytest.raises(VersionConflict) as caught:
        store.users.change(User("204", "Desk", "Bert"), version=user.version)
    assert caught.value.current == store.users.versioned("204")
    assert store.groups.versioned("nobody") is None
    assert store.users.versioned("999") is None


def test_two_codes_that_dial_the_same_are_both_named(store: Store, code: Versioned[AccountCode]) -> None:
    store.codes.add(AccountCode("4711", description="Other"))
    with pytest.raises(ConfigurationError, match="codes 47-11 and 4711 both dial 4711"):
        store.codes.change(code.id, AccountCode("4711", "47-11"), version=code.version)
    assert store.codes.by_id(code.id) == code


@pytest.mark.parametrize("owner", [CodeOwner(OwnerKind.USER, "999"), CodeOwner(OwnerKind.GROUP, "nobody")])
def test_an_owner_must_be_there(store: Store, code: Versioned[AccountCode], owner: CodeOwner) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        store.codes.change(code.id, replace(code.value, owner=owner), version=code.version)


def test_many_are_enabled_or_deleted_all_or_none(store: Store, code: Versioned[AccountCode]) -> None:
    store.codes.upsert_many([AccountCode(f"{n:05d}") for n in range(1100)], may_update=False)
    ids = [found.id for found in store.codes.versioned_page(limit=2000)]
    with pytest.raises(ConfigurationError, match="1 of these codes do not exist"):
        store.codes.enable_many([*ids, 99999], enabled=False)
    with pytest.raises(ConfigurationError, match="1 of these codes do not exist"):
        store.codes.delete_ids([1, 99999])
    assert store.codes.enable_many(ids, enabled=False) == 1101
    assert store.codes.enable_many(ids, enabled=False) == 0
    assert not any(found.enabled for found in store.codes.page(limit=2000))
    changed = store.codes.by_id(code.id)
    assert changed is not None
    assert changed.version == code.version + 1
    assert store.codes.delete_ids([*ids[:600], ids[0]]) == 600
    assert store.codes.count() == 501
    assert store.codes.delete_ids([]) == 0
    told = {entry.action for entry in store.audit.page(limit=1000)}
    assert told == {"add", "disable", "delete"}
    with pytest.raises(ConfigurationError, match="any more"):
        store.codes.change(ids[0], code.value, version=1)


@pytest.mark.parametrize("order", CodeOrder)
def test_every_order_has_every_code_once(store: Store, order: CodeOrder) -> None:
    codes = [
        AccountCode(
            f"{n:04d}",
            description=("client", "Client", "Acme")[n % 3],
            enabled=n % 2 == 0,
            valid_until=None if n % 4 else date(2026, 1, 1 + n % 28),
        )
        for n in range(230)
    ]
    store.codes.upsert_many(codes, may_update=False)
    for descending in (False, True):
        found = [
            code.digits
            for offset in range(0, 300, 50)
            for code in store.codes.page(order=order, descending=descending, offset=offset, limit=50)
        ]
        assert sorted(found) == [code.digits for code in codes]
    names = [code.description for code in store.codes.page(order=CodeOrder.DESCRIPTION, limit=300)]
    assert [name.lower() for name in names] == sorted(name.lower() for name in names)


# --- files

_FILE = """Code,Description
ACME-12/7,Acme
2263127,Again
4711,New
47-11,Twice
912,
99#,Bad
BETA,Beta 2
"""


def test_a_dry_run_judges_every_line(store: Store, plan: NumberPlan) -> None:
    store.codes.add(AccountCode("2263127", "ACME-12/7", "Acme"))
    store.codes.add(AccountCode("2382", "BETA", "Beta", max_uses=4))
    content = read_code_file(_FILE, plan)
    updating = plan_import(content, store.codes, may_update=True)
    verdicts = {result.line: result.verdict for result in updating.lines}
    assert verdicts == {
        2: LineVerdict.UNCHANGED,
        3: LineVerdict.REFUSED,
        4: LineVerdict.ADDED,
        5: LineVerdict.REFUSED,
        6: LineVerdict.ADDED,
        7: LineVerdict.REFUSED,
        8: LineVerdict.CHANGED,
    }
    assert updating.counts[LineVerdict.REFUSED] == len(updating.refused) == 3
    adding = plan_import(content, store.codes, may_update=False)
    assert {result.line: result.reason for result in adding.lines if result.exists} == {
        2: "code ACME-12/7 exists already",
        8: "code BETA exists already",
    }
    with pytest.raises(ConfigurationError, match="line 3"):
        carry_out(updating, store.codes)
    assert store.codes.count() == 2


def test_a_plan_is_carried_out_whole(store: Store, plan: NumberPlan) -> None:
    store.codes.add(AccountCode("2382", "BETA", "Beta", max_uses=4))
    content = read_code_file("Code;Description\nBETA;Beta 2\n4711;New\n", plan)
    result = carry_out(plan_import(content, store.codes, may_update=True), store.codes)
    assert (result.added, result.changed) == (1, 1)
    beta = store.codes.get("BETA")
    assert beta is not None
    assert (beta.description, beta.max_uses) == ("Beta 2", 4)


def test_a_code_that_came_meanwhile_is_not_overwritten(store: Store, plan: NumberPlan) -> None:
    content = read_code_file("Code,Description\n4711,New\n4712,Newer\n", plan)
    planned = plan_import(content, store.codes, may_update=False)
    store.codes.add(AccountCode("4712", description="somebody else's"))
    with pytest.raises(VersionConflict, match="4712 was changed by somebody else meanwhile"):
        carry_out(planned, store.codes)
    assert store.codes.get("4711") is None


@pytest.mark.sqlite
def test_a_large_file_is_imported_and_told(store: Store, plan: NumberPlan) -> None:
    text = "Code,Description\n" + "".join(f"C-{n:06d},Client {n}\n" for n in range(20_000))
    started = time.process_time()
    content = read_code_file(text, plan)
    acting = store.acting(Actor("anna"))
    carry_out(plan_import(content, acting.codes, may_update=False), acting.codes)
    took = time.process_time() - started
    assert store.codes.count("Client 1999") == 11
    assert len(store.audit.page(limit=100)) == 40
    assert store.audit.verify().whole
    # 100,000 are promised in 10 s; five times as much here, for the sake of a busy machine.
    assert took < 10
    assert store.usage.count(UsageFilter()) == 0

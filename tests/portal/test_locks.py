"""Locked callers on the portal's pages, and the limits of a group."""

from __future__ import annotations

import pytest

from proxy.policy import CallerLock, CallLimits, UserGroup
from proxy.portal.group_form import fields_of
from proxy.store import Store
from proxy.store.audit import AuditFilter
from tests.portal.conftest import NOW
from tests.portal.person import Person, notice, rows

HOSTILE = 'peer pbx <script>alert("x")</script>'


@pytest.fixture
def locked(store: Store) -> None:
    store.locks.add([CallerLock("user 204", NOW - 60, NOW + 3540, 5), CallerLock(HOSTILE, NOW - 30, None, 7)])
    store.locks.add([CallerLock("user 205", NOW - 20, NOW - 10, 5)])


@pytest.mark.usefixtures("locked")
async def test_who_is_locked_is_shown_and_let_in_again(decider: Person, store: Store) -> None:
    home = await decider.get("/")
    assert "Locked callers: 2" in home.text
    assert "Locked callers (2)" in (await decider.get("/users")).text
    page = await decider.get("/users/locked")
    assert "<script>alert" not in page.text
    shown = [row[0] for row in rows(page)]
    assert shown == [HOSTILE, "user 204"]
    assert "somebody unlocks it" in page.text
    answer = await decider.post("/users/unlock", {"caller": "user 204"})
    assert "may enter codes again" in notice(await decider.get(answer.headers["location"]))
    assert [lock.caller for lock in store.locks.all(at=NOW)] == [HOSTILE]
    again = await decider.post("/users/unlock", {"caller": "user 204"})
    assert again.status_code == 409
    assert "not locked any more" in notice(again)
    told = list(store.audit.page(AuditFilter(kind="caller"), limit=10))
    assert [(row.action, row.name) for row in told if row.action == "unlock"] == [("unlock", "user 204")]


async def test_nobody_is_locked(decider: Person) -> None:
    assert "Nobody is locked." in (await decider.get("/users/locked")).text


async def test_limits_of_a_group_are_saved_shown_and_checked(decider: Person, store: Store) -> None:
    store.groups.add(UserGroup("Sales"))

    async def save(**limits: str) -> int:
        found = store.groups.versioned("Sales")
        assert found is not None
        sent = {**fields_of(found.value), **limits, "old": "Sales", "version": str(found.version)}
        return (await decider.post("/groups/save", sent)).status_code

    def kept() -> CallLimits:
        group = store.groups.get("Sales")
        assert group is not None
        return group.limits

    assert await save(caller_calls="3", talk_seconds="7200") == 303
    assert kept() == CallLimits(caller_calls=3, talk_seconds=7200)
    page = await decider.get("/groups/edit?name=Sales")
    assert 'name="caller_calls" value="3"' in page.text
    assert await save(caller_calls="-1") == 422
    assert await save(caller_calls="9999999") == 422
    assert await save(caller_calls="") == 303
    assert kept() == CallLimits(talk_seconds=7200)

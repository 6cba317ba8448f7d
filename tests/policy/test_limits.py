"""What the calls of a group may come to, and who may enter no codes: values."""

from __future__ import annotations

import pytest

from proxy.errors import ConfigurationError
from proxy.policy import CallerLock, CallLimits, Snapshot, UserGroup


def test_there_are_none_by_default() -> None:
    assert UserGroup("staff").limits == CallLimits()
    assert not CallLimits().counted
    assert not CallLimits(talk_seconds=60).counted


COUNTED = ["caller_calls", "code_calls", "country_calls", "hourly_calls"]


@pytest.mark.parametrize("name", COUNTED)
def test_calls_are_counted_for_any_of_them(name: str) -> None:
    assert CallLimits(**{name: 1}).counted


@pytest.mark.parametrize("value", [-1, 1_000_001])
@pytest.mark.parametrize("name", [*COUNTED, "talk_seconds"])
def test_what_cannot_be_meant_is_refused(name: str, value: int) -> None:
    with pytest.raises(ConfigurationError, match=name):
        CallLimits(**{name: value})


def test_a_lock_holds_until_its_end_or_for_ever() -> None:
    assert CallerLock("user 204", 0.0, 10.0, 5).holds(9.9)
    assert not CallerLock("user 204", 0.0, 10.0, 5).holds(10.0)
    assert CallerLock("user 204", 0.0, None, 5).holds(1e12)


def test_a_snapshot_keeps_its_locks_until_there_are_others() -> None:
    one, other = CallerLock("user 204", 0.0, None, 5), CallerLock("user 205", 0.0, None, 5)
    first = Snapshot(locks=[one])
    assert dict(first.locks) == {"user 204": one}
    assert first.with_changes(version=1).locks is first.locks
    assert dict(first.with_changes(version=1, groups=[UserGroup("a")]).locks) == {"user 204": one}
    assert dict(first.with_changes(version=1, locks=[other]).locks) == {"user 205": other}
    assert not first.with_changes(version=1, users=[], locks=[]).locks

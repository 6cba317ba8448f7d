"""The verdict on one code entry."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from proxy.policy import (
    AccountCode,
    CallClass,
    CallRequest,
    CodeCollection,
    CodeOutcome,
    CodeOwner,
    CodeTable,
    CodeVerdict,
    Decision,
    OwnerKind,
    Snapshot,
    User,
    UserGroup,
    check_code,
    decide,
    state_on,
)
from tests.policy.support import US, service

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
STAFF = UserGroup("staff", collection=CodeCollection.REQUIRED)
CODES = (
    AccountCode("1234", "12-34", "client"),
    AccountCode("1000", enabled=False),
    AccountCode("2000", valid_from=date(2026, 7, 2)),
    AccountCode("2001", valid_from=date(2026, 7, 1)),
    AccountCode("3000", valid_until=date(2026, 6, 30)),
    AccountCode("3001", valid_until=date(2026, 7, 1)),
    AccountCode("4000", owner=CodeOwner(OwnerKind.GROUP, "staff")),
    AccountCode("4001", owner=CodeOwner(OwnerKind.GROUP, "other")),
    AccountCode("5000", owner=CodeOwner(OwnerKind.USER, "204")),
    AccountCode("5001", owner=CodeOwner(OwnerKind.USER, "205")),
    AccountCode("6000", class_of_service=service(CallClass.INTERNATIONAL)),
    AccountCode("6001", class_of_service=service(CallClass.LOCAL)),
    AccountCode("7000", max_uses=3, uses=2),
    AccountCode("7001", max_uses=3, uses=3),
    AccountCode("88????"),
)
SNAPSHOT = Snapshot(US, [STAFF], [User("204", "staff")], CodeTable.of(CODES))
ABROAD = decide(CallRequest("+442079460000", user="204"), SNAPSHOT)


def check(entry: str, decision: Decision = ABROAD, reserved: int = 0) -> CodeVerdict:
    return check_code(entry, decision, SNAPSHOT, NOON, lambda _digits: reserved)


@pytest.mark.parametrize(
    ("entry", "outcome"),
    [
        ("1234", CodeOutcome.ACCEPTED),
        ("", CodeOutcome.EMPTY),
        ("9999", CodeOutcome.UNKNOWN),
        ("1000", CodeOutcome.DISABLED),
        ("2000", CodeOutcome.NOT_YET_VALID),
        ("2001", CodeOutcome.ACCEPTED),
        ("3000", CodeOutcome.EXPIRED),
        ("3001", CodeOutcome.ACCEPTED),
        ("4000", CodeOutcome.ACCEPTED),
        ("4001", CodeOutcome.NOT_YOURS),
        ("5000", CodeOutcome.ACCEPTED),
        ("5001", CodeOutcome.NOT_YOURS),
        ("6000", CodeOutcome.ACCEPTED),
        ("6001", CodeOutcome.CLASS_NOT_UNLOCKED),
        ("7000", CodeOutcome.ACCEPTED),
        ("7001", CodeOutcome.USED_UP),
        ("880000", CodeOutcome.ACCEPTED),
        ("1" * 21, CodeOutcome.UNKNOWN),
    ],
)
def test_outcomes(entry: str, outcome: CodeOutcome) -> None:
    verdict = check(entry)
    assert verdict.outcome is outcome
    assert verdict.accepted is (outcome is CodeOutcome.ACCEPTED)
    assert verdict.reason
    assert not entry or entry not in repr(verdict)
    assert (verdict.code is not None) is verdict.accepted
    assert verdict.entry == (entry if verdict.accepted else "")


@pytest.mark.parametrize(
    ("digits", "state"),
    [
        ("1234", CodeOutcome.ACCEPTED),
        ("1000", CodeOutcome.DISABLED),
        ("2000", CodeOutcome.NOT_YET_VALID),
        ("3000", CodeOutcome.EXPIRED),
        ("4001", CodeOutcome.ACCEPTED),
        ("6001", CodeOutcome.ACCEPTED),
        ("7000", CodeOutcome.ACCEPTED),
        ("7001", CodeOutcome.USED_UP),
    ],
)
def test_what_keeps_everybody_from_using_a_code(digits: str, state: CodeOutcome) -> None:
    code = SNAPSHOT.codes.get(digits)
    assert code is not None
    assert state_on(NOON.date(), code) is state


def test_a_disabled_code_that_is_used_up_is_disabled() -> None:
    assert state_on(NOON.date(), AccountCode("1", max_uses=1, uses=1, enabled=False)) is CodeOutcome.DISABLED


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (AccountCode("8000", owner=CodeOwner(OwnerKind.USER, "205")), CodeOutcome.NOT_YOURS),
        (AccountCode("8000", class_of_service=service(CallClass.LOCAL)), CodeOutcome.CLASS_NOT_UNLOCKED),
        (AccountCode("8000"), CodeOutcome.USED_UP),
    ],
)
def test_whose_a_code_is_and_what_for_comes_before_how_often_it_was_used(
    code: AccountCode, outcome: CodeOutcome
) -> None:
    codes = CodeTable.of([replace(code, max_uses=1, uses=1)])
    policy = Snapshot(US, [STAFF], [User("204", "staff")], codes)
    assert check_code("8000", ABROAD, policy, NOON).outcome is outcome


def test_reserved_uses_count() -> None:
    assert check("7000", reserved=1).outcome is CodeOutcome.USED_UP
    assert check("1234", reserved=99).accepted


def test_uses_are_counted_without_reservations_by_default() -> None:
    assert check_code("7000", ABROAD, SNAPSHOT, NOON).accepted


def test_record_shows_the_typed_form_and_for_wildcards_the_digits_dialled() -> None:
    assert check("1234").recorded_form == "12-34"
    assert check("887766").recorded_form == "887766"
    assert check("9999").recorded_form == ""


@pytest.mark.parametrize("entry", ["911", "9911", "112", "999"])
def test_emergency_number_dialled_as_a_code_becomes_that_call(entry: str) -> None:
    verdict = check(entry)
    assert verdict.outcome is CodeOutcome.EMERGENCY
    assert verdict.emergency is not None
    assert verdict.emergency.emergency
    assert not verdict.accepted


def test_emergency_beats_a_wildcard_and_the_length_rules() -> None:
    group = UserGroup("staff", collection=CodeCollection.REQUIRED, fixed_length=6)
    policy = Snapshot(US, [group], [User("204", "staff")], CodeTable.of([AccountCode("???")]))
    decision = decide(CallRequest("+442079460000", user="204"), policy)
    assert check_code("911", decision, policy, NOON).outcome is CodeOutcome.EMERGENCY


@pytest.mark.parametrize(
    ("group", "accepted"),
    [
        (UserGroup("staff", collection=CodeCollection.REQUIRED, fixed_length=4), True),
        (UserGroup("staff", collection=CodeCollection.REQUIRED, fixed_length=5), False),
        (UserGroup("staff", collection=CodeCollection.REQUIRED, min_length=5), False),
        (UserGroup("staff", collection=CodeCollection.REQUIRED, max_length=3), False),
    ],
)
def test_length_rules_of_the_group(group: UserGroup, accepted: bool) -> None:
    policy = SNAPSHOT.with_changes(version=1, groups=[group])
    decision = decide(CallRequest("+442079460000", user="204"), policy)
    assert check_code("1234", decision, policy, NOON).accepted is accepted


def test_owned_codes_are_refused_to_callers_without_user_or_group() -> None:
    stranger = decide(CallRequest("+442079460000"), SNAPSHOT)
    assert check("4000", stranger).outcome is CodeOutcome.NOT_YOURS
    assert check("5000", stranger).outcome is CodeOutcome.NOT_YOURS
    assert check("1234", stranger).accepted


def test_narrowed_code_unlocks_nothing_without_a_number() -> None:
    assert check("6001", ABROAD).outcome is CodeOutcome.CLASS_NOT_UNLOCKED
    unread = decide(CallRequest("sip:x@h", user="204"), SNAPSHOT)
    assert check("6000", unread).outcome is CodeOutcome.CLASS_NOT_UNLOCKED

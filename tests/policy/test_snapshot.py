"""The snapshot's look-ups and its cheap successors."""

from __future__ import annotations

import pytest

from proxy.policy import (
    AccountCode,
    CallClass,
    CodeTable,
    DialledNumber,
    Normaliser,
    NumberPlan,
    NumberRefused,
    Snapshot,
    User,
    UserGroup,
)
from tests.policy.support import US

USERS = (
    User("204", "staff", caller_number="4155550104"),
    User("3005", "staff", digest_name="desk", caller_number="+1 (415) 555-0105"),
    User("306", "staff", caller_number="4155550100"),
    User("307", "staff", caller_number="5550100"),
    User("308", "staff", caller_number="not a number"),
)
SNAPSHOT = Snapshot(US, [UserGroup("staff")], USERS, version=7)


def test_user_by_digest_name() -> None:
    assert SNAPSHOT.user_by_digest_name("desk") is USERS[1]
    assert SNAPSHOT.user_by_digest_name("204") is USERS[0]
    assert SNAPSHOT.user_by_digest_name("3005") is None


def test_user_by_caller_in_any_dress() -> None:
    for dress in (
        "204",
        "sip:204@192.0.2.1",
        "5550104",
        "sip:+14155550104@pbx.example.com",
        "tel:+1-415-555-0104",
    ):
        assert SNAPSHOT.user_by_caller(dress) is USERS[0]
    assert SNAPSHOT.user_by_caller("+14155559999") is None
    assert SNAPSHOT.user_by_caller("sip:anonymous@anonymous.invalid") is None
    assert SNAPSHOT.user_by_caller("") is None
    assert SNAPSHOT.user_by_caller("sip:204@192.0.2.1@192.0.2.2") is None


def test_a_caller_is_read_once_from_whatever_port_it_calls() -> None:
    read: list[str] = []

    class Reading(Normaliser):
        def _normalise(self, text: str) -> DialledNumber | NumberRefused:
            read.append(text)
            return super()._normalise(text)

    snapshot = Snapshot(US, [UserGroup("staff")], USERS, normaliser=Reading(US))
    read.clear()
    for port in range(49_152, 49_252):
        assert snapshot.user_by_caller(f"sip:204@192.0.2.1:{port};transport=tcp") is USERS[0]
    assert len(read) == 1


def test_a_caller_has_a_public_number_of_its_own_or_of_its_user() -> None:
    assert SNAPSHOT.caller_e164("5550199", None) == "+14155550199"
    assert SNAPSHOT.caller_e164("204", USERS[0]) == "+14155550104"
    assert SNAPSHOT.caller_e164("", USERS[1]) == "+14155550105"
    assert SNAPSHOT.caller_e164("anonymous", None) == ""


def test_caller_number_that_several_users_share_names_none_of_them() -> None:
    assert SNAPSHOT.user_by_caller("+14155550100") is None


def test_those_who_share_a_caller_number_are_found_from_each_of_them() -> None:
    assert SNAPSHOT.sharing_number(USERS[2]) == [USERS[3]]
    assert SNAPSHOT.sharing_number(USERS[3]) == [USERS[2]]
    assert [SNAPSHOT.sharing_number(user) for user in (USERS[0], USERS[1], USERS[4])] == [[], [], []]
    assert SNAPSHOT.sharing_number(User("309", "staff", caller_number="+14155550104")) == [USERS[0]]
    borrowed, plain = User("310", "staff", caller_number="204"), User("204", "staff")
    policy = Snapshot(US, [], [plain, borrowed])
    assert policy.user_by_caller("204") is plain
    assert policy.sharing_number(borrowed) == [plain]
    assert policy.sharing_number(plain) == [borrowed]


def test_extension_of_a_user_is_internal_without_a_shape() -> None:
    found = SNAPSHOT.normalise("sip:3005@example.com")
    assert isinstance(found, DialledNumber)
    assert (found.number, found.call_class) == ("3005", CallClass.INTERNAL)
    assert SNAPSHOT.normalise("+3005") != found


@pytest.mark.parametrize(
    "dress",
    ["4155551234", "+14155551234", "14155551234", "sip:94155551234@h", "tel:+1-415-555-1234", "5551234"],
)
def test_an_extension_that_is_a_whole_number_is_internal_in_every_dress(dress: str) -> None:
    user = User("4155551234", "staff")
    policy = Snapshot(US, [], [user])
    found = policy.normalise(dress)
    assert isinstance(found, DialledNumber)
    assert (found.number, found.call_class) == ("4155551234", CallClass.INTERNAL)
    assert policy.user_by_caller(dress) is user


@pytest.mark.parametrize("extension", ["5551234", "2045", "99999999"])
def test_an_extension_that_is_no_whole_number_takes_no_public_one(extension: str) -> None:
    found = Snapshot(US, [], [User(extension, "staff")]).normalise("+14155551234")
    assert isinstance(found, DialledNumber)
    assert found.call_class is CallClass.LOCAL


def test_emergency_beats_a_users_extension() -> None:
    found = Snapshot(US, [], [User("911", "staff")]).normalise("911")
    assert isinstance(found, DialledNumber)
    assert found.emergency


def test_defaults_make_an_empty_policy() -> None:
    empty = Snapshot()
    assert (len(empty.groups), len(empty.users), len(empty.codes), empty.version) == (0, 0, 0, 0)
    assert empty.plan == NumberPlan()


def test_successor_keeps_what_did_not_change() -> None:
    codes = CodeTable.of([AccountCode("1234")])
    following = SNAPSHOT.with_changes(version=8, codes=codes)
    assert (following.version, following.codes, SNAPSHOT.version, len(SNAPSHOT.codes)) == (8, codes, 7, 0)
    assert following.users is SNAPSHOT.users
    assert following.user_by_caller("204") is USERS[0]
    assert following.with_changes(version=9).codes is codes


def test_successor_with_other_users_groups_or_plan() -> None:
    first = SNAPSHOT.with_changes(version=8, users=[User("205", "staff")])
    assert list(first.users) == ["205"]
    assert list(first.groups) == ["staff"]
    second = first.with_changes(version=9, groups=[UserGroup("other")])
    assert (list(second.users), list(second.groups)) == (["205"], ["other"])
    third = second.with_changes(version=10, plan=NumberPlan("DE"), codes=CodeTable.of([AccountCode("1")]))
    assert third.plan.country == "DE"
    assert len(third.codes) == 1
    found = third.normalise("110")
    assert isinstance(found, DialledNumber)
    assert found.emergency

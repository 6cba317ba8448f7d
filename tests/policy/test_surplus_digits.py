"""Digits behind a known number: networks with open numbering plans drop them and connect the known one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy import (
    ALL_CLASSES,
    AccountCode,
    CallClass,
    CallRequest,
    CodeCollection,
    CodeOutcome,
    CodeTable,
    DialledNumber,
    Normaliser,
    NumberPlan,
    NumberRefused,
    Snapshot,
    Treatment,
    UserGroup,
    check_code,
    decide,
    parse_patterns,
)
from tests.policy.support import number, override, service
from tests.policy.test_code_check import NOON

PREMIUM = {
    "DE": ("+499001234567", "+491377123456"),
    "IT": ("+39899123456", "+39892123"),
    "BE": ("+3290012345", "+3270201234"),
    "PL": ("+48701234567",),
    "SE": ("+469001234567", "+4699123456"),
    "CH": ("+41900123456", "+41906123456"),
    "AT": ("+43900123456", "+43930123456"),
    "NL": ("+319061234", "+319001234567"),
    "US": ("+19005551234",),
}
PLANS = {country: NumberPlan(country) for country in PREMIUM}
NORMALISERS = {country: Normaliser(plan) for country, plan in PLANS.items()}
BASES = [(country, base) for country, bases in PREMIUM.items() for base in bases]
SURPLUS = ("1", "9", "12", "00", "123", "999", "1234", "0000", "12345", "123456")

NO_PREMIUM = service(*ALL_CLASSES - {CallClass.PREMIUM})
NO_MOBILE = service(*ALL_CLASSES - {CallClass.MOBILE})


def dresses(e164: str, plan: NumberPlan) -> tuple[str, ...]:
    """Return how a number is dialled under a plan: as E.164, and with prefixes."""
    code = str(plan.country_code)
    home = (plan.national_prefix + e164[1 + len(code) :],) if e164[1:].startswith(code) else ()
    return (e164, plan.international_prefix + e164[1:], *home)


def treatment(text: str, group: UserGroup, plan: NumberPlan) -> Treatment:
    return decide(CallRequest(text, default_group=group.name), Snapshot(plan, (group,))).treatment


@pytest.mark.parametrize("surplus", SURPLUS)
@pytest.mark.parametrize(("country", "base"), BASES)
@pytest.mark.parametrize("caller", ["home", "abroad"])
def test_digits_behind_a_premium_number_make_no_other_class(
    caller: str, country: str, base: str, surplus: str
) -> None:
    site = country if caller == "home" else "DE" if country == "US" else "US"
    normalise, plan = NORMALISERS[site], PLANS[site]
    group = UserGroup("staff", NO_PREMIUM, CodeCollection.OFF)
    for text in dresses(base, plan):
        known = normalise(text)
        assert isinstance(known, DialledNumber)
        assert known.call_class is CallClass.PREMIUM
        found = normalise(text + surplus)
        assert isinstance(found, NumberRefused) or (
            (found.number, found.call_class) == (base + surplus, CallClass.PREMIUM)
        ), text
        assert treatment(text + surplus, group, plan) is Treatment.BLOCK


@given(
    st.sampled_from(BASES), st.text("0123456789", min_size=1, max_size=8), st.sampled_from([*PREMIUM, "FR"])
)
def test_no_digits_behind_a_premium_number_make_another_class(
    one: tuple[str, str], surplus: str, site: str
) -> None:
    found = (NORMALISERS.get(site) or Normaliser(NumberPlan(site)))(one[1] + surplus)
    assert isinstance(found, NumberRefused) or found.call_class is CallClass.PREMIUM


@pytest.mark.parametrize(
    ("dialled", "country"),
    [("125412", "IT"), ("+3912541234", "IT"), ("8924241", "IT"), ("0114990012345671", "US")],
)
def test_digits_behind_a_short_premium_number_and_behind_prefixes(dialled: str, country: str) -> None:
    assert number(dialled, PLANS[country]).call_class is CallClass.PREMIUM


@pytest.mark.parametrize(
    ("text", "country", "normal", "call_class"),
    [
        # Extensions behind a main number, as long as they get.
        ("030901820", "DE", "+4930901820", CallClass.NATIONAL),
        ("03090182012345", "DE", "+493090182012345", CallClass.NATIONAL),
        ("+49309018201234567", "US", "+49309018201234567", CallClass.INTERNATIONAL),
        ("015885812345", "AT", "+4315885812345", CallClass.NATIONAL),
        ("+431588581234567", "DE", "+431588581234567", CallClass.INTERNATIONAL),
        ("06641234567123", "AT", "+436641234567123", CallClass.MOBILE),
        # Numbers of two lengths: the longer is no shorter one with a digit too many.
        ("01701234567", "DE", "+491701234567", CallClass.MOBILE),
        ("017012345678", "DE", "+4917012345678", CallClass.MOBILE),
        ("393123456789", "IT", "+393123456789", CallClass.MOBILE),
        # Premium numbers as they stand.
        ("09001234567", "DE", "+499001234567", CallClass.PREMIUM),
        ("1254", "IT", "1254", CallClass.PREMIUM),
        # Short numbers, and digits behind an emergency number.
        ("115", "DE", "115", CallClass.SPECIAL),
        ("110", "DE", "110", CallClass.EMERGENCY),
        ("1101", "DE", "+491101", CallClass.SPECIAL),
        ("9110", "DE", "+499110", CallClass.SPECIAL),
        ("9110", "US", "9110", CallClass.SPECIAL),
        # No known number at any length, at home and abroad.
        ("15551234567", "US", "+15551234567", CallClass.SPECIAL),
        ("+497551", "US", "+497551", CallClass.INTERNATIONAL),
    ],
)
def test_what_has_no_surplus_digits_is_judged_as_it_stands(
    text: str, country: str, normal: str, call_class: CallClass
) -> None:
    found = number(text, PLANS[country])
    assert (found.number, found.call_class, found.readings) == (normal, call_class, ())
    assert found.classes == (call_class,)
    assert found.restricted_forms == found.forms


def test_extensions_of_the_site_are_no_numbers_with_surplus_digits() -> None:
    plan = NumberPlan("DE", extensions=parse_patterns(("9001234567X",)))
    found = number("90012345671", plan)
    assert (found.call_class, found.readings) == (CallClass.INTERNAL, ())


def test_all_digits_are_dialled_and_every_reading_is_said() -> None:
    found = number("0170123456789", PLANS["DE"])
    assert (found.number, found.call_class) == ("+49170123456789", CallClass.SPECIAL)
    assert [reading.number for reading in found.readings] == [
        "+49170123456789",
        "+4917012345678",
        "+491701234567",
    ]
    assert found.classes == (CallClass.SPECIAL, CallClass.MOBILE)
    group = UserGroup("staff", NO_MOBILE, CodeCollection.OFF)
    decision = decide(CallRequest("0170123456789", default_group="staff"), Snapshot(PLANS["DE"], (group,)))
    assert decision.steps[2:5] == (
        "number: 0170123456789 is +49170123456789, a number in a range that nobody knows",
        "number: 017012345678 is +4917012345678, a mobile number",
        "class: special",
    )
    assert decision.reason.startswith("mobile numbers lie outside the call permissions of group 'staff'")


@pytest.mark.parametrize("collection", list(CodeCollection))
def test_the_strictest_treatment_of_all_classes_counts(collection: CodeCollection) -> None:
    """Special numbers are free here, but a mobile one is asked about whatever is dialled behind it."""
    group = UserGroup("staff", NO_MOBILE, collection)
    for text in ("01701234567", "0170123456789", "+49170123456789"):
        assert treatment(text, group, PLANS["DE"]) is collection.treatment, text
    assert treatment("+497551", group, PLANS["DE"]) is Treatment.ALLOW


def test_cells_edited_by_hand_count_for_every_class_too() -> None:
    edited = {CallClass.SPECIAL: Treatment.OPTIONAL_CODE, CallClass.MOBILE: Treatment.REQUIRED_CODE}
    group = UserGroup("staff", service(*ALL_CLASSES), CodeCollection.OPTIONAL, edited=edited)
    assert treatment("0170123456789", group, PLANS["DE"]) is Treatment.REQUIRED_CODE
    restricted = service(*ALL_CLASSES, restricted=("0170.",))
    group = UserGroup("staff", restricted, CodeCollection.OPTIONAL, edited=edited)
    assert treatment("0170123456789", group, PLANS["DE"]) is Treatment.REQUIRED_CODE


def test_restriction_patterns_are_held_against_the_shortened_number() -> None:
    """Patterns with the length of a number don't fit what is dialled with digits behind it."""
    for pattern in ("017XXXXXXXX", "+491701234567"):
        group = UserGroup("staff", service(*ALL_CLASSES, restricted=(pattern,)), CodeCollection.OFF)
        for text in ("01701234567", "0170123456789"):
            assert treatment(text, group, PLANS["DE"]) is Treatment.BLOCK, (pattern, text)
        assert treatment("0160123456789", group, PLANS["DE"]) is Treatment.ALLOW
    codes = service(*ALL_CLASSES, restricted=("+491701234567",))
    group = UserGroup("staff", NO_MOBILE, CodeCollection.OPTIONAL, codes)
    assert treatment("01701234568", group, PLANS["DE"]) is Treatment.OPTIONAL_CODE
    assert treatment("0170123456799", group, PLANS["DE"]) is Treatment.BLOCK


def test_permission_patterns_are_held_against_the_whole_number_alone() -> None:
    for pattern, expected in (
        ("+499001234567", Treatment.BLOCK),
        ("+49900123456X", Treatment.BLOCK),
        ("+4990012345671", Treatment.ALLOW),
        ("+49900123456XX", Treatment.ALLOW),
    ):
        free = service(*ALL_CLASSES, restricted=("+49900.",), permitted=(pattern,))
        group = UserGroup("staff", free, CodeCollection.OFF)
        assert treatment("+4990012345671", group, PLANS["US"]) is expected, pattern
        bare = Treatment.BLOCK if expected is Treatment.ALLOW else Treatment.ALLOW
        assert treatment("+499001234567", group, PLANS["US"]) is bare, pattern


def test_what_a_code_may_unlock_is_every_class() -> None:
    group = UserGroup("staff", service(), CodeCollection.REQUIRED)
    codes = (
        AccountCode("1", class_of_service=service(CallClass.SPECIAL)),
        AccountCode("2", class_of_service=service(CallClass.SPECIAL, CallClass.MOBILE)),
    )
    snapshot = Snapshot(PLANS["DE"], (group,), (), CodeTable.of(codes))
    decision = decide(CallRequest("0170123456789", default_group="staff"), snapshot)
    outcomes = [check_code(code, decision, snapshot, NOON, lambda _: 0).outcome for code in ("1", "2")]
    assert outcomes == [CodeOutcome.CLASS_NOT_UNLOCKED, CodeOutcome.ACCEPTED]


def test_an_override_for_the_whole_number_is_the_last_word_and_one_for_the_shortened_counts() -> None:
    named = NumberPlan("DE", overrides=(override("+4990012345671", CallClass.NATIONAL),))
    found = number("090012345671", named)
    assert (found.call_class, found.readings) == (CallClass.NATIONAL, ())
    assert number("090012345672", named).call_class is CallClass.PREMIUM
    dear = NumberPlan("DE", overrides=(override("+491701234567", CallClass.PREMIUM),))
    assert number("0170123456789", dear).call_class is CallClass.PREMIUM
    assert number("0170123456689", dear).call_class is CallClass.SPECIAL
    cheap = NumberPlan("DE", overrides=(override("+499001234567", CallClass.TOLL_FREE),))
    assert number("090012345671", cheap).call_class is CallClass.SPECIAL

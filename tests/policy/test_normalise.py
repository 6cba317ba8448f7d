"""One normal form and class for every dress of a number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy import CallClass, DialledNumber, Normaliser, NumberPlan, NumberRefused, parse_patterns
from tests.policy.support import DE, US, number, override

_US = Normaliser(US)

DRESSES = [
    "{n}",
    "1{n}",
    "+1{n}",
    "9{n}",
    "91{n}",
    "9011 1 {n}",
    "sip:{n}@example.com",
    "sip:+1{n}@192.0.2.1;user=phone",
    "sips:%2B1{n}@example.com",
    "tel:+1-{n}",
    "tel:{n};phone-context=+1",
    "tel:{n};phone-context=example.com",
    "tel:{n};phone-context=+1;ext=9",
    "({n})",
    "\u202a+1 {n}\u202c",
]


@pytest.mark.parametrize(
    ("text", "normal", "call_class", "region"),
    [
        ("204", "204", CallClass.INTERNAL, ""),
        ("5550100", "+14155550100", CallClass.LOCAL, "US"),
        ("95550100", "+14155550100", CallClass.LOCAL, "US"),
        ("6285550100", "+16285550100", CallClass.LOCAL, "US"),
        ("12125550100", "+12125550100", CallClass.NATIONAL, "US"),
        ("18005550100", "+18005550100", CallClass.TOLL_FREE, "US"),
        ("9 1 900 555 1234", "+19005551234", CallClass.PREMIUM, "US"),
        ("15005550100", "+15005550100", CallClass.SPECIAL, "US"),
        ("+18765551234", "+18765551234", CallClass.INTERNATIONAL, "JM"),
        ("14165550100", "+14165550100", CallClass.INTERNATIONAL, "CA"),
        ("901144 20 7946 0000", "+442079460000", CallClass.INTERNATIONAL, "GB"),
        ("+44 (0)20 7946 0000", "+442079460000", CallClass.INTERNATIONAL, "GB"),
        ("+44 7400 123456", "+447400123456", CallClass.INTERNATIONAL, "GB"),
        ("+44 909 879 0000", "+449098790000", CallClass.PREMIUM, "GB"),
        ("+800 1234 5678", "+80012345678", CallClass.INTERNATIONAL, "001"),
        ("411", "411", CallClass.SPECIAL, "US"),
        ("9411", "411", CallClass.SPECIAL, "US"),
        ("5551234567", "+15551234567", CallClass.SPECIAL, "US"),
        ("+15551234567", "+15551234567", CallClass.SPECIAL, "US"),
        ("tel:2125550100;phone-context=+1", "+12125550100", CallClass.NATIONAL, "US"),
        ("tel:5550100;phone-context=+1415", "+14155550100", CallClass.LOCAL, "US"),
        ("tel:2079460000;phone-context=+44", "+442079460000", CallClass.INTERNATIONAL, "GB"),
        ("tel:+12125550100;phone-context=+44", "+12125550100", CallClass.NATIONAL, "US"),
        ("911", "911", CallClass.EMERGENCY, "US"),
        ("9911", "911", CallClass.EMERGENCY, "US"),
        ("9-1-1", "911", CallClass.EMERGENCY, "US"),
        ("sip:911", "911", CallClass.EMERGENCY, "US"),
        ("sip:%39%31%31@h;user=phone", "911", CallClass.EMERGENCY, "US"),
        ("tel:911;phone-context=+44", "911", CallClass.EMERGENCY, "US"),
        ("\u0669\u0661\u0661", "911", CallClass.EMERGENCY, "US"),
        ("urn:service:sos.ambulance", "911", CallClass.EMERGENCY, "US"),
        ("999", "911", CallClass.EMERGENCY, "US"),
        ("112", "112", CallClass.EMERGENCY, "US"),
    ],
)
def test_us_plan(text: str, normal: str, call_class: CallClass, region: str) -> None:
    found = _US(text)
    assert isinstance(found, DialledNumber)
    assert (found.number, found.call_class, found.region) == (normal, call_class, region)
    assert found.emergency is (call_class is CallClass.EMERGENCY)


@pytest.mark.parametrize(
    ("text", "normal", "call_class"),
    [
        ("123456", "+4930123456", CallClass.LOCAL),
        ("030123456", "+4930123456", CallClass.LOCAL),
        ("+49 (0)30 123456", "+4930123456", CallClass.LOCAL),
        ("004930123456", "+4930123456", CallClass.LOCAL),
        ("089123456", "+4989123456", CallClass.NATIONAL),
        ("01701234567", "+491701234567", CallClass.MOBILE),
        ("08001234567", "+498001234567", CallClass.TOLL_FREE),
        ("09001123456", "+499001123456", CallClass.PREMIUM),
        ("01801234567", "+491801234567", CallClass.SPECIAL),
        ("00442079460000", "+442079460000", CallClass.INTERNATIONAL),
        ("115", "115", CallClass.SPECIAL),
        ("110", "110", CallClass.EMERGENCY),
    ],
)
def test_german_plan(text: str, normal: str, call_class: CallClass) -> None:
    found = number(text, DE)
    assert (found.number, found.call_class) == (normal, call_class)


def test_outside_prefix_that_is_also_the_national_prefix_is_taken_off_first() -> None:
    plan = NumberPlan("DE", area_codes=("30",), outside_prefix="0")
    assert number("0112", plan).emergency
    assert number("0123456", plan).number == "+4930123456"
    assert number("0089123456", plan).number == "+4989123456"
    assert number("000442079460000", plan).number == "+442079460000"


def test_plan_without_area_code_or_national_prefix() -> None:
    assert number("4155550100", NumberPlan("US")).call_class is CallClass.NATIONAL
    assert number("0612345678", NumberPlan("IT", area_codes=("06",))).number == "+390612345678"
    assert number("0123456789", NumberPlan("FR")).number == "+33123456789"


def test_area_code_completes_only_numbers_of_seven_digits_in_north_america() -> None:
    assert isinstance(_US("55501001"), NumberRefused)


def test_short_number_costs() -> None:
    plan = NumberPlan("GB")
    classes = {number(text, plan).call_class for text in ("101", "116000", "118118")}
    assert CallClass.TOLL_FREE in classes
    assert CallClass.SPECIAL in classes or CallClass.PREMIUM in classes


def test_home_regions_are_national() -> None:
    plan = NumberPlan("US", home_regions=frozenset({"CA", "GB"}))
    assert number("14165550100", plan).call_class is CallClass.NATIONAL
    assert number("+442079460000", plan).call_class is CallClass.NATIONAL
    assert number("+18765551234", plan).call_class is CallClass.INTERNATIONAL


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("0012", 404),
        ("12345", 404),
        ("300", 404),
        ("+5", 404),
        ("+14155550100*5", 404),
        ("+1#14155550100", 404),
        ("tel:*5;phone-context=+44", 404),
        ("*6719005551234", 404),
        ("sip:204", 404),
        ("sip:operator@h", 404),
        ("http:204", 416),
        ("", 484),
        ("9", 404),
        ("1" * 3000, 404),
    ],
)
def test_what_does_not_normalise_is_refused_and_never_internal(text: str, status: int) -> None:
    found = _US(text)
    assert isinstance(found, NumberRefused)
    assert found.status_hint == status
    assert found.reason
    assert len(found.dialled) <= 64


def test_override_judges_every_dress_by_the_normal_form() -> None:
    plan = NumberPlan("US", ("415",), "9", overrides=(override("1976.", CallClass.PREMIUM),))
    normaliser = Normaliser(plan)
    for dress in ("19765550100", "9765550100", "+19765550100", "919765550100", "9011 1 976 555 0100"):
        found = normaliser(dress)
        assert isinstance(found, DialledNumber)
        assert (found.number, found.call_class) == ("+19765550100", CallClass.PREMIUM)
        assert "override 1976." in found.how


def test_first_override_wins_and_private_numbers_exist_by_override_only() -> None:
    plan = NumberPlan(
        "US",
        outside_prefix="9",
        extensions=parse_patterns(["70X"]),
        overrides=(
            override("701", CallClass.SPECIAL),
            override("7.", CallClass.NATIONAL),
            override("*98", CallClass.INTERNAL),
        ),
    )
    assert number("701", plan).call_class is CallClass.SPECIAL
    assert number("702", plan).call_class is CallClass.NATIONAL
    private = number("70000001", plan)
    assert (private.number, private.call_class, private.forms) == (
        "70000001",
        CallClass.NATIONAL,
        ("70000001",),
    )
    assert number("970000001", plan).number == "70000001"
    assert number("*98", plan).call_class is CallClass.INTERNAL
    assert isinstance(Normaliser(plan)("*99"), NumberRefused)
    assert isinstance(Normaliser(plan)("80000001"), NumberRefused)


def test_emergency_beats_overrides_and_extensions() -> None:
    plan = NumberPlan("US", extensions=parse_patterns(["XXX"]), overrides=(override(".", CallClass.SPECIAL),))
    assert number("911", plan).emergency
    assert number("112", plan).emergency


def test_extension_shape_does_not_hold_behind_the_outside_prefix_or_a_context() -> None:
    assert number("9204").call_class is not CallClass.INTERNAL
    assert isinstance(_US("9201#"), NumberRefused)
    assert isinstance(_US("tel:204;phone-context=+1"), NumberRefused)
    assert number("tel:204;phone-context=pbx.example.com").call_class is CallClass.INTERNAL


@pytest.mark.parametrize(
    ("text", "normal", "call_class"),
    [
        ("tel:15123456789;phone-context=+49", "+4915123456789", CallClass.MOBILE),
        ("tel:9001234567;phone-context=+49", "+499001234567", CallClass.PREMIUM),
        ("tel:30123456;phone-context=+49", "+4930123456", CallClass.LOCAL),
        ("tel:030123456;phone-context=+49", "+4930123456", CallClass.LOCAL),
        ("tel:123456;phone-context=+4930", "+4930123456", CallClass.LOCAL),
        ("tel:00442079460000;phone-context=+49", "+442079460000", CallClass.INTERNATIONAL),
        ("tel:115;phone-context=+49", "115", CallClass.SPECIAL),
    ],
)
def test_rfc3966_5_1_5_a_global_context_completes_the_digits_and_no_area_code_does(
    text: str, normal: str, call_class: CallClass
) -> None:
    found = number(text, DE)
    assert (found.number, found.call_class) == (normal, call_class)


def test_what_its_global_context_does_not_complete_is_refused() -> None:
    assert isinstance(_US("tel:5550100;phone-context=+1"), NumberRefused)
    assert isinstance(_US("tel:*98;phone-context=+1"), NumberRefused)


def test_long_uris_are_read_and_not_remembered() -> None:
    text = f"sip:4155550100@example.com;x={'a' * 4000}"
    assert number(text).number == "+14155550100"
    normaliser = Normaliser(US)
    assert normaliser(text) is not normaliser(text)


@pytest.mark.parametrize(
    "text", ["911#", "9911#", "sip:911%23@h", "*67911", "9*67911", "911,", "tel:911;phone-context="]
)
def test_emergency_numbers_in_their_odd_dresses(text: str) -> None:
    found = number(text)
    assert (found.number, found.emergency) == ("911", True)


def test_forms_are_all_ways_to_dial_it_at_home() -> None:
    assert number("+14155550100").forms == ("+14155550100", "4155550100", "14155550100", "5550100")
    assert number("030123456", DE).forms == ("+4930123456", "30123456", "030123456", "4930123456", "123456")
    assert number("+442079460000").forms == ("+442079460000", "011442079460000")


def test_results_are_remembered_within_a_bound() -> None:
    normaliser = Normaliser(US, cache_size=4)
    first = normaliser("+14155550100")
    assert normaliser("+14155550100") is first
    for n in range(4):
        normaliser(f"+1415555010{n + 1}")
    again = normaliser("+14155550100")
    assert again is not first
    assert again == first


@given(st.from_regex(r"(415|212|628|202)[2-9][0-9]{6}", fullmatch=True), st.sampled_from(DRESSES))
def test_any_dress_of_a_number_is_the_same_number(digits: str, dress: str) -> None:
    bare, dressed = _US(f"+1{digits}"), _US(dress.format(n=digits))
    assert isinstance(bare, DialledNumber)
    assert isinstance(dressed, DialledNumber)
    assert (dressed.number, dressed.call_class, dressed.forms) == (bare.number, bare.call_class, bare.forms)


@pytest.mark.parametrize(
    "text",
    [
        "+49009001234567",
        "+4900900123456",
        "sip:+49(00)900-1234567@gate",
        "tel:+49 0 0 30 901820",
    ],
)
def test_a_number_that_carriers_read_differently_is_refused(text: str) -> None:
    """Zeros behind the country code: one drops them and dials a premium number, another does not."""
    for normalise in (_US, Normaliser(NumberPlan(country="DE", area_codes=("30",)))):
        assert isinstance(normalise(text), NumberRefused), text


@given(st.text("0123456789+*#", max_size=24))
def test_what_normalises_to_e164_does_so_again(text: str) -> None:
    found = _US(text)
    if isinstance(found, DialledNumber) and found.number.startswith("+"):
        again = _US(found.number)
        assert isinstance(again, DialledNumber)
        assert (again.number, again.call_class) == (found.number, found.call_class)


@given(st.one_of(st.text(max_size=60), st.text("0123456789+%;:@*#-. sipte=phonx", max_size=60)))
def test_normalising_never_raises(text: str) -> None:
    found = _US(text)
    assert isinstance(found, DialledNumber | NumberRefused)


@pytest.mark.parametrize("pause", [",,", "%2C", "p", "W", ";postd=p"])
def test_a_number_with_keys_to_be_pressed_later_is_refused_and_they_are_not_kept(pause: str) -> None:
    found = _US(f"sip:{'' if pause[0] == ';' else '1'}4155550123{pause}8642x@example.com")
    assert "8642" not in found.dialled
    assert "4155550123" in found.dialled

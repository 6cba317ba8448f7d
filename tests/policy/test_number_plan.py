"""The number plan: what it derives from the country, and what it refuses."""

from __future__ import annotations

import pytest
from phonenumbers import PhoneMetadata

from proxy.errors import ConfigurationError
from proxy.policy import CallClass, NumberPlan
from proxy.policy import number_plan as module
from proxy.policy.number_plan import UNIVERSAL_EMERGENCY
from tests.policy.support import override


@pytest.mark.parametrize(
    ("country", "code", "national", "international", "sos"),
    [
        ("US", 1, "1", "011", "911"),
        ("us", 1, "1", "011", "911"),
        ("GB", 44, "0", "00", "112"),
        ("DE", 49, "0", "00", "112"),
        ("AU", 61, "0", "0011", "000"),
        ("NZ", 64, "0", "00", "111"),
        ("IT", 39, "", "00", "112"),
        ("JP", 81, "0", "010", "110"),
    ],
)
def test_country_gives_the_dialling_rules(
    country: str, code: int, national: str, international: str, sos: str
) -> None:
    plan = NumberPlan(country)
    assert (plan.country, plan.country_code) == (country.upper(), code)
    assert (plan.national_prefix, plan.international_prefix) == (national, international)
    assert plan.sos == sos
    assert plan.emergency(sos) == sos


@pytest.mark.parametrize("country", ["US", "GB", "DE", "FR", "AU", "JP", "SE", "BR", "GN"])
def test_universal_emergency_numbers_count_in_every_country(country: str) -> None:
    plan = NumberPlan(country, international_prefix="00")
    for digits in UNIVERSAL_EMERGENCY:
        assert plan.emergency(digits) in {digits, plan.sos}


def test_emergency_numbers_of_the_country() -> None:
    assert NumberPlan("DE").emergency("110") == "110"
    assert NumberPlan("US").emergency("110") is None
    assert NumberPlan("SE").emergency("90000") == "90000"


def test_foreign_emergency_number_is_sent_as_the_countrys_own() -> None:
    assert NumberPlan("US").emergency("999") == "911"
    assert NumberPlan("GB").emergency("911") == "112"
    assert NumberPlan("GB", sos_number="999").emergency("911") == "999"


def test_own_additions_are_sent_as_dialled() -> None:
    plan = NumberPlan("US", outside_prefix="9", emergency_numbers=frozenset({"5555"}))
    assert plan.emergency("5555") == "5555"
    assert plan.emergency("95555") == "5555"


def test_emergency_with_and_without_outside_prefix_and_with_a_mistaken_plus() -> None:
    plan = NumberPlan("US", outside_prefix="9")
    for dress in ("911", "9911", "+911", "+1911"):
        assert plan.emergency(dress) == "911"
    for other in ("91", "9111", "99911", "1911", "+49911", ""):
        assert plan.emergency(other) is None
    assert NumberPlan("US").emergency("9911") is None


def test_outside_prefix_before_a_foreign_emergency_number_means_nothing() -> None:
    assert NumberPlan("US", outside_prefix="9").emergency("9999") is None
    assert NumberPlan("GB", outside_prefix="9").emergency("9999") == "999"


def test_country_without_emergency_metadata_falls_back_to_112(monkeypatch: pytest.MonkeyPatch) -> None:
    class Without:
        @staticmethod
        def metadata_for_region(country: str) -> object:
            return PhoneMetadata.metadata_for_region(country)

        @staticmethod
        def short_metadata_for_region(_country: str) -> None:
            return None

    module._country_emergency_numbers.cache_clear()
    monkeypatch.setattr(module, "PhoneMetadata", Without)
    plan = NumberPlan("FR")
    module._country_emergency_numbers.cache_clear()
    assert plan.sos == "112"
    assert plan.emergency("999") == "112"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"country": "XX"}, "country 'XX'"),
        ({"country": ""}, "country ''"),
        ({"area_codes": ("41a",)}, "area_codes"),
        ({"outside_prefix": "*"}, "outside_prefix"),
        ({"emergency_numbers": frozenset({"123456789"})}, "emergency_numbers"),
        ({"sos_number": "٩"}, "sos_number"),
        ({"home_regions": frozenset({"ZZ"})}, "home_regions: 'ZZ'"),
    ],
)
def test_bad_plan_is_refused_by_field(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        NumberPlan(**changes)  # type: ignore[arg-type]  # wrong on purpose


def test_override_cannot_make_a_number_an_emergency_number() -> None:
    with pytest.raises(ConfigurationError, match="emergency_numbers"):
        override("7.", CallClass.EMERGENCY)


def test_emergency_prefixes_are_what_emergency_numbers_begin_with() -> None:
    prefixes = NumberPlan(country="US", outside_prefix="9").emergency_prefixes
    assert {"9", "91", "99", "1", "11", "991"} <= prefixes
    # 9112 is 112 behind the outside-line prefix; 911 needs no more digits all the same
    assert "911" not in prefixes
    assert "12" not in prefixes
    assert all(prefix.isdigit() for prefix in prefixes)


@pytest.mark.parametrize(
    ("country", "prefix"),
    [("US", "011"), ("DE", "00"), ("RU", "810"), ("KZ", "810"), ("UA", "00"), ("IL", "00")],
)
def test_the_international_prefix_is_the_countrys(country: str, prefix: str) -> None:
    assert NumberPlan(country).international_prefix == prefix


@pytest.mark.parametrize("country", ["SG", "BR", "CO"])
def test_a_country_with_a_prefix_per_carrier_must_be_told_which(country: str) -> None:
    with pytest.raises(ConfigurationError, match=r"international_prefix: .* has one per carrier"):
        NumberPlan(country)
    plan = NumberPlan(country, international_prefix="001")
    assert plan.international_prefix == "001"


@pytest.mark.parametrize(
    ("country", "number"),
    [("US", "911"), ("DE", "112"), ("AU", "000"), ("JP", "110"), ("BN", None), ("UZ", None), ("HN", "199")],
)
def test_the_number_for_no_service_in_particular_is_never_guessed(country: str, number: str | None) -> None:
    if number is None:
        with pytest.raises(ConfigurationError, match=r"sos_number: .* no one number for all"):
            NumberPlan(country)
        assert NumberPlan(country, sos_number="101").sos == "101"
    else:
        assert NumberPlan(country).sos == number


def test_999_goes_before_other_numbers() -> None:
    assert NumberPlan("SG", international_prefix="001").sos == "999"

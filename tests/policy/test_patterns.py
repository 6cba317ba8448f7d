"""Number patterns: the language, its errors, and what they match."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ConfigurationError
from proxy.policy.patterns import (
    MAX_PATTERN_LENGTH,
    NumberPattern,
    behind_prefix,
    first_match,
    parse_patterns,
    refuse_empty,
)


@pytest.mark.parametrize(
    ("pattern", "fits", "fails"),
    [
        ("204", ["204"], ["20", "2040", "+204", ""]),
        ("2XX", ["200", "299"], ["300", "20", "20a", "2٣٤"]),
        ("2x?", ["255"], ["25"]),
        ("NXX", ["211", "999"], ["111", "011"]),
        ("Z0", ["10", "90"], ["00"]),
        ("[2-58]1", ["21", "51", "81"], ["61", "11", "2-"]),
        ("[3]", ["3"], ["4"]),
        ("1900.", ["19001", "1900555"], ["1900", "11900"]),
        ("1900!", ["1900", "19005"], ["190"]),
        (".", ["1", "*72"], ["", "+1"]),
        ("!", ["", "1"], ["+"]),
        ("+1 (876) .", ["+18765551234"], ["18765551234", "+1876", "+18775551234"]),
        ("+.", ["+44"], ["44"]),
        ("*9X", ["*91"], ["91", "**91"]),
        ("#31#", ["#31#"], ["31"]),
        ("0-9/0", ["090"], ["0-9/0"]),
    ],
)
def test_pattern_language(pattern: str, fits: list[str], fails: list[str]) -> None:
    parsed = NumberPattern(pattern)
    assert [form for form in fits if not parsed.matches(form)] == []
    assert [form for form in fails if parsed.matches(form)] == []
    assert str(parsed) == pattern


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("", "empty"),
        (" - ", "empty"),
        ("1.2", "'.' is not allowed"),
        ("1+2", r"'\+' is not allowed"),
        ("abc", "'a' is not allowed"),
        ("[9-1]", "runs backwards"),
        ("[]", r"'\[' is not allowed"),
        ("[1", r"'\[' is not allowed"),
        ("٣", "is not allowed"),
        ("1" * (MAX_PATTERN_LENGTH + 1), "at most 64"),
    ],
)
def test_bad_pattern_is_refused_with_its_reason(pattern: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        NumberPattern(pattern)


def test_a_pattern_that_begins_with_the_outside_prefix_is_told() -> None:
    assert behind_prefix(NumberPattern("9011."), "9") == "011."
    assert behind_prefix(NumberPattern("011."), "9") == ""
    assert behind_prefix(NumberPattern("9011."), "") == ""


def test_a_plus_alone_fits_nothing() -> None:
    with pytest.raises(ConfigurationError, match="fits no number"):
        refuse_empty(NumberPattern(" + "))
    refuse_empty(NumberPattern("+."))


def test_first_match_goes_by_order_of_patterns_over_all_forms() -> None:
    patterns = parse_patterns(["1900.", "+1900."])
    assert first_match(patterns, ("+19005550100", "19005550100")) is patterns[0]
    assert first_match(patterns, ("+19005550100",)) is patterns[1]
    assert first_match(patterns, ("204",)) is None
    assert first_match((), ("204",)) is None


def test_equal_texts_are_equal_patterns() -> None:
    assert NumberPattern("2XX") == NumberPattern("2XX")
    assert hash(NumberPattern("2XX")) == hash(NumberPattern("2XX"))


@given(st.text(max_size=80))
def test_any_text_is_a_pattern_or_a_configuration_error(text: str) -> None:
    try:
        pattern = NumberPattern(text)
    except ConfigurationError:
        return
    pattern.matches("14155550100")


@given(st.text("0123456789", min_size=1, max_size=20))
def test_digits_match_themselves_alone(digits: str) -> None:
    assert NumberPattern(digits).matches(digits)
    assert not NumberPattern(digits).matches(digits + "0")
    assert NumberPattern("X" * len(digits)).matches(digits)

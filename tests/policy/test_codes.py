"""Account codes: keypad mapping, separators, rules of creation."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ConfigurationError
from proxy.policy import (
    AccountCode,
    ClassOfService,
    CodeOwner,
    NumberPlan,
    OwnerKind,
    dial_form,
    new_code,
    refuse_duplicate,
)
from tests.policy.support import US


@pytest.mark.parametrize(
    ("typed", "digits"),
    [
        ("1234", "1234"),
        ("0", "0"),
        ("ACME-12/7", "2263127"),
        ("acme 12.7", "2263127"),
        ("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:20], "22233344455566677778"),
        ("QRSTUVWXYZ", "7778889999"),
        ("12??", "12??"),
        ("??-??", "????"),
        ("SOS", "767"),
        ("(12)_3:4\\5", "12345"),
        ("O'Neill, [1] & 2\t3\u20134", "6634551234"),
        ("1" * 20, "1" * 20),
    ],
)
def test_dial_form(typed: str, digits: str) -> None:
    assert dial_form(typed) == digits


@pytest.mark.parametrize(
    ("typed", "complaint"),
    [
        ("", "empty"),
        ("--", "empty"),
        ("1" * 21, "dials 21 digits"),
        ("1-" * 40, "80 characters"),
        ("12#", "# ends it"),
        ("*12", r"\* clears it"),
        ("Ümit", "'Ü'"),
        ("a-ä1", "'ä'"),
        ("１２", "only digits"),
        ("12\x00", "only digits"),
        ("9@@", r"holds '@': only digits.*\(spaces and - _"),
        *((f"9{sign}", "only digits") for sign in '!$%^<>{}+|~=;"'),
    ],
)
def test_bad_code_is_refused_with_its_reason(typed: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        dial_form(typed)


def test_new_code_keeps_the_typed_form_only_when_it_differs() -> None:
    code = new_code(" ACME-12/7 ", "  Acme, Inc. ", plan=US)
    assert (code.digits, code.typed, code.form, code.description) == (
        "2263127",
        "ACME-12/7",
        "ACME-12/7",
        "Acme, Inc.",
    )
    assert not code.plain
    assert not code.wildcard
    plain = new_code("1234", plan=US)
    assert (plain.typed, plain.form, plain.plain) == ("", "1234", True)
    assert new_code("1???", plan=US).wildcard


def test_new_code_takes_the_rest_from_a_template() -> None:
    template = AccountCode(
        "9",
        "old",
        "old",
        enabled=False,
        valid_from=date(2026, 1, 1),
        valid_until=date(2026, 1, 1),
        max_uses=1,
    )
    code = new_code("12-34", "new", plan=US, template=template)
    assert (code.digits, code.typed, code.description) == ("1234", "12-34", "new")
    assert (code.enabled, code.valid_from, code.max_uses) == (False, date(2026, 1, 1), 1)
    assert new_code("1234", plan=US, template=template).typed == ""


@pytest.mark.parametrize("typed", ["911", "9-1-1", "112", "9911", "99W"])
def test_code_that_dials_like_an_emergency_number_is_refused(typed: str) -> None:
    with pytest.raises(ConfigurationError, match="emergency"):
        new_code(typed, plan=US)


def test_longer_code_that_begins_like_an_emergency_number_is_allowed() -> None:
    assert new_code("9112", plan=NumberPlan("US")).digits == "9112"


@pytest.mark.parametrize(
    ("description", "template", "complaint"),
    [
        ("x" * 256, None, "256 characters"),
        ("a\nb", None, "control characters"),
        ("", AccountCode("", valid_from=date(2026, 2, 1), valid_until=date(2026, 1, 1)), "first day"),
        ("", AccountCode("", max_uses=0), "must be 1 to 1000000000"),
    ],
)
def test_bad_fields_are_refused(description: str, template: AccountCode | None, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        new_code("1234", description, plan=US, template=template)


def test_open_ended_validity_is_allowed() -> None:
    for template in (
        AccountCode("", valid_from=date(2026, 2, 1)),
        AccountCode("", valid_until=date(2026, 2, 1)),
    ):
        assert new_code("1234", plan=US, template=template).digits == "1234"


def test_two_codes_that_dial_the_same_are_refused_with_both_named() -> None:
    with pytest.raises(ConfigurationError, match="ACME and 22-63 both dial 2263"):
        refuse_duplicate(new_code("ACME", plan=US), new_code("22-63", plan=US))
    with pytest.raises(ConfigurationError, match="code 2263 exists already"):
        refuse_duplicate(new_code("2263", plan=US), new_code("2263", plan=US))


@pytest.mark.parametrize(
    "code",
    [
        AccountCode("1", enabled=False),
        AccountCode("1", typed="1-"),
        AccountCode("1", owner=CodeOwner(OwnerKind.USER, "204")),
        AccountCode("1", valid_from=date(2026, 1, 1)),
        AccountCode("1", valid_until=date(2026, 1, 1)),
        AccountCode("1", class_of_service=ClassOfService()),
        AccountCode("1", max_uses=5),
        AccountCode("1", uses=1),
    ],
)
def test_code_with_anything_of_its_own_is_not_plain(code: AccountCode) -> None:
    assert not code.plain
    assert AccountCode("1", description="x", owner=CodeOwner()).plain


def test_digits_stay_out_of_repr() -> None:
    assert "8765" not in repr(new_code("87-65", plan=US))


def test_owner_names_someone_or_the_account() -> None:
    assert CodeOwner(OwnerKind.GROUP, "staff").name == "staff"
    with pytest.raises(ConfigurationError, match="code owner"):
        CodeOwner(OwnerKind.GROUP)
    with pytest.raises(ConfigurationError, match="code owner"):
        CodeOwner(OwnerKind.ACCOUNT, "staff")


@given(st.text(max_size=70))
def test_any_text_gives_a_dial_form_or_a_configuration_error(typed: str) -> None:
    try:
        digits = dial_form(typed)
    except ConfigurationError:
        return
    assert 1 <= len(digits) <= 20
    assert digits.strip("0123456789?") == ""
    assert dial_form(digits) == digits

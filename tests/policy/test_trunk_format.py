"""How trunks want numbers written."""

from __future__ import annotations

import pytest

from proxy.errors import ConfigurationError
from proxy.policy import NumberPlan, NumberStyle, TrunkNumberFormat, format_for_trunk
from tests.policy.support import DE, number


@pytest.mark.parametrize(
    ("form", "text", "written"),
    [
        (TrunkNumberFormat(), "5550100", "+14155550100"),
        (TrunkNumberFormat(NumberStyle.E164_WITHOUT_PLUS), "5550100", "14155550100"),
        (TrunkNumberFormat(NumberStyle.NATIONAL), "5550100", "14155550100"),
        (TrunkNumberFormat(NumberStyle.NATIONAL, national_prefix=False), "5550100", "4155550100"),
        (TrunkNumberFormat(NumberStyle.NATIONAL), "+442079460000", "011442079460000"),
        (TrunkNumberFormat(NumberStyle.NATIONAL, national_prefix=False), "+442079460000", "011442079460000"),
        (TrunkNumberFormat(strip=2, prepend="0"), "5550100", "04155550100"),
        (TrunkNumberFormat(NumberStyle.E164_WITHOUT_PLUS, prepend="77#"), "5550100", "77#14155550100"),
        (TrunkNumberFormat(NumberStyle.E164_WITHOUT_PLUS), "411", "411"),
        (TrunkNumberFormat(NumberStyle.NATIONAL, prepend="9"), "204", "9204"),
    ],
)
def test_styles(form: TrunkNumberFormat, text: str, written: str) -> None:
    assert format_for_trunk(number(text), form) == written


def test_national_style_in_germany() -> None:
    assert format_for_trunk(number("123456", DE), TrunkNumberFormat(NumberStyle.NATIONAL)) == "030123456"


def test_emergency_number_is_never_changed() -> None:
    form = TrunkNumberFormat(NumberStyle.NATIONAL, strip=3, prepend="00")
    assert format_for_trunk(number("9911"), form) == "911"
    assert format_for_trunk(number("110", NumberPlan("DE")), form) == "110"


def test_bad_rules_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="strip"):
        TrunkNumberFormat(strip=-1)
    with pytest.raises(ConfigurationError, match="prepend"):
        TrunkNumberFormat(prepend="sip:")

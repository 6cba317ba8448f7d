"""How a trunk wants numbers written: a pure function of the one normal form."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from proxy.errors import ConfigurationError
from proxy.policy.number_plan import DialledNumber

__all__ = ["NumberStyle", "TrunkNumberFormat", "format_for_trunk"]


class NumberStyle(enum.StrEnum):
    """The writing of E.164 numbers; short codes and extensions are the same in every style."""

    E164 = "e164"
    """``+14155550100``"""
    E164_WITHOUT_PLUS = "e164_without_plus"
    """``14155550100``"""
    NATIONAL = "national"
    """As dialled at home: ``4155550100`` or, abroad, ``011442079460000``; see `national_prefix`."""


@dataclass(frozen=True, slots=True)
class TrunkNumberFormat:
    """The number format of one trunk. Emergency numbers are never changed."""

    style: NumberStyle = NumberStyle.E164
    national_prefix: bool = True
    """With NATIONAL: write the country's national prefix (``0`` in Germany, ``1`` in North America)."""
    strip: int = 0
    """Characters taken off the front after styling."""
    prepend: str = ""
    """Put in front at last, e.g. an account prefix of the carrier."""

    def __post_init__(self) -> None:
        if self.strip < 0:
            raise ConfigurationError("number_format.strip: must not be negative")
        if not all(c in "0123456789*#+" for c in self.prepend):
            raise ConfigurationError("number_format.prepend: only digits, *, # and + are allowed")


def format_for_trunk(number: DialledNumber, form: TrunkNumberFormat) -> str:
    """Return the user part that goes to the trunk for this number.

    Made from the normal form alone, never from what the caller typed, so that what the policy judged is what
    the trunk gets. An emergency number goes as it is: no prefix rule can break it.
    """
    if number.emergency:
        return number.number
    text = number.number
    if text.startswith("+"):
        if form.style is NumberStyle.E164_WITHOUT_PLUS:
            text = text[1:]
        elif form.style is NumberStyle.NATIONAL:
            text = number.national_with_prefix if form.national_prefix else number.national
    return form.prepend + text[form.strip :]

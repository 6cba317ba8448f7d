"""City and state of a telephone number, as far as its beginning tells."""

from __future__ import annotations

import functools

import phonenumbers

__all__ = ["place_of"]

_TELLING = 10
"""The plus sign and the nine digits that the longest known beginning of a number has."""


def place_of(number: str) -> tuple[str, str]:
    """City and state of a number in E.164 with ``+``; "" where they are not known.

    Numbers that differ in their last digits only share an answer: an export of a million calls asks some
    thousand times instead of two million.
    """
    if not number.startswith("+"):
        return "", ""
    beginning = number[:_TELLING]
    return _place(beginning, min(len(number), 32) - len(beginning))


@functools.lru_cache(maxsize=32_768)
def _place(beginning: str, more: int) -> tuple[str, str]:
    """The data say "City, ST" in North America, and a city or a region elsewhere; a country's own name is
    neither.
    """
    try:
        parsed = phonenumbers.parse(beginning + "0" * more, None)
    except phonenumbers.NumberParseException:
        return "", ""
    from phonenumbers import geocoder  # 100 MB of places: only a process that exports pays for them

    description = geocoder.description_for_number(parsed, "en")
    if not description or description == geocoder.country_name_for_number(parsed, "en"):
        return "", ""
    city, _, state = description.rpartition(", ")
    if city:
        return city, state
    if parsed.country_code == phonenumbers.country_code_for_region("US"):
        return "", description
    return description, ""

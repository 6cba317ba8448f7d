"""The number plan of a site (country, dialling rules, emergency numbers), and a number in normal form."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache

from phonenumbers import PhoneMetadata

from proxy.errors import ConfigurationError
from proxy.policy.classes import CallClass
from proxy.policy.patterns import NumberPattern

__all__ = ["UNIVERSAL_EMERGENCY", "ClassOverride", "DialledNumber", "NumberPlan", "NumberRefused"]

UNIVERSAL_EMERGENCY = frozenset({"112", "911", "999"})
"""Recognised in every country (3GPP TS 22.101 §10.1 has the first two)."""

_PREFERRED_SOS = {
    # Where 112 is in the metadata but reaches nobody from a fixed line.
    "AU": "000",
    "NZ": "111",
    # The police, where each service has its own number and none of `_SOS_ORDER` is one.
    "CN": "110",
    "EG": "122",
    "JP": "110",
    "TH": "191",
    "VN": "113",
}
_SOS_ORDER = ("911", "112", "999")


@dataclass(frozen=True, slots=True)
class DialledNumber:
    """One number in the one normal form that policy, record and trunk share."""

    dialled: str
    """What the caller dialled: digits (``*``, ``#``), with ``+`` when it was written so; separators gone."""
    number: str
    """E.164 with ``+``; for extensions, short codes and emergency numbers the bare digits."""
    call_class: CallClass
    region: str = ""
    """ISO 3166 code of the country, ``001`` for non-geographic numbers, "" when the number has none."""
    forms: tuple[str, ...] = ()
    """Every way of dialling the number at home, and E.164: what patterns are held against.
    See `restricted_forms`."""
    national: str = ""
    """Without national prefix (abroad: with international prefix); "" for numbers that are not E.164."""
    national_with_prefix: str = ""
    how: str = ""
    """One sentence: how the text was read, for `explain`."""
    readings: tuple[DialledNumber, ...] = ()
    """What a number of no known range may be to networks: itself, and each known number that remains when
    digits are dropped from its end; () for all others. `call_class` is the dearest of theirs."""

    @property
    def classes(self) -> tuple[CallClass, ...]:
        """Every class that the call may have; the first is `call_class`. Each must be allowed."""
        return tuple(dict.fromkeys((self.call_class, *(reading.call_class for reading in self.readings))))

    @property
    def restricted_forms(self) -> tuple[str, ...]:
        """What restriction patterns are held against: `forms`, and those of all `readings`."""
        return self.forms + tuple(form for reading in self.readings for form in reading.forms)

    @property
    def emergency(self) -> bool:
        """The call goes at once, whatever else is so."""
        return self.call_class is CallClass.EMERGENCY


@dataclass(frozen=True, slots=True)
class NumberRefused:
    """The text is no number that can safely be dialled. `status_hint` is the SIP status that says so."""

    dialled: str
    reason: str
    status_hint: int = 404


@dataclass(frozen=True, slots=True)
class ClassOverride:
    """Numbers that fit the pattern have this class, whatever the country's metadata say."""

    pattern: NumberPattern
    call_class: CallClass

    def __post_init__(self) -> None:
        if self.call_class is CallClass.EMERGENCY:
            message = f"override {self.pattern}: name emergency numbers in emergency_numbers, not by pattern"
            raise ConfigurationError(message)


@dataclass(frozen=True, slots=True)
class NumberPlan:
    """How numbers are dialled at one site. Raises ConfigurationError for what contradicts itself."""

    country: str = "US"
    """ISO 3166 alpha-2."""
    area_codes: tuple[str, ...] = ()
    """Area codes (without national prefix) of local calls; the first completes a shorter number."""
    outside_prefix: str = ""
    """Dialled for an outside line, e.g. ``9``; taken off wherever a number stands behind it."""
    extensions: tuple[NumberPattern, ...] = ()
    """Shapes of internal numbers. Extensions of known users are internal without being named here."""
    emergency_numbers: frozenset[str] = frozenset()
    """In addition to those of the country and `UNIVERSAL_EMERGENCY`."""
    sos_number: str = ""
    """What ``urn:service:sos`` and another country's emergency number become; "" means the country's own."""
    home_regions: frozenset[str] = frozenset()
    """Further countries that count as national, e.g. ``CA`` beside ``US``."""
    international_prefix: str = ""
    """Dialled before a country code; "" means the country's own, where it has one and not one per carrier."""
    overrides: tuple[ClassOverride, ...] = ()
    """In order; the first that fits wins. Emergency numbers come before all of them."""

    country_code: int = field(init=False)
    """E.164 country code."""
    national_prefix: str = field(init=False)
    emergency_dress: dict[str, str] = field(init=False, repr=False, compare=False, hash=False)
    """Every digit string (``+`` kept) that means an emergency call -> the number to send."""
    emergency_prefixes: frozenset[str] = field(init=False, repr=False, compare=False, hash=False)
    """Digits with which one of them begins, without those that mean an emergency call by themselves."""

    def __post_init__(self) -> None:
        country = self.country.upper()
        metadata = PhoneMetadata.metadata_for_region(country)
        if metadata is None:
            message = f"number plan country {self.country!r}: use an ISO 3166 code such as US, GB or DE"
            raise ConfigurationError(message)
        for label, values in (
            ("area_codes", self.area_codes),
            ("outside_prefix", (self.outside_prefix,) if self.outside_prefix else ()),
            ("emergency_numbers", tuple(self.emergency_numbers)),
            ("sos_number", (self.sos_number,) if self.sos_number else ()),
            ("international_prefix", (self.international_prefix,) if self.international_prefix else ()),
        ):
            for value in values:
                if not (value.isascii() and value.isdigit() and len(value) <= 8):
                    message = f"number plan {label}: {value!r} must be 1 to 8 digits"
                    raise ConfigurationError(message)
        set_once = object.__setattr__
        set_once(self, "country", country)
        set_once(self, "home_regions", frozenset(region.upper() for region in self.home_regions))
        for region in self.home_regions:
            if PhoneMetadata.metadata_for_region(region) is None:
                message = f"number plan home_regions: {region!r} is no ISO 3166 code"
                raise ConfigurationError(message)
        set_once(self, "country_code", metadata.country_code)
        set_once(self, "national_prefix", metadata.national_prefix or "")
        set_once(
            self,
            "international_prefix",
            self.international_prefix or _international_prefix(metadata, country),
        )
        set_once(self, "emergency_dress", self._emergency_dress())
        digits = [form for form in self.emergency_dress if form.isdigit()]
        beginnings = {form[:length] for form in digits for length in range(1, len(form))}
        set_once(self, "emergency_prefixes", frozenset(beginnings.difference(self.emergency_dress)))

    def emergency(self, digits: str) -> str | None:
        """Return the emergency number to send if these digits mean one, else None. Cheap: one look-up."""
        return self.emergency_dress.get(digits)

    @property
    def sos(self) -> str:
        """The number for ``urn:service:sos`` (RFC 5031)."""
        return self.emergency_dress["sos"]

    def _emergency_dress(self) -> dict[str, str]:
        own = _country_emergency_numbers(self.country)
        sos = self.sos_number or _preferred_sos(self.country, own)
        numbers = dict.fromkeys(UNIVERSAL_EMERGENCY, sos)
        own_numbers = own | self.emergency_numbers | {sos}
        numbers.update((number, number) for number in own_numbers)
        dress: dict[str, str] = {"sos": sos}
        for number, send in numbers.items():
            # A + in front of an emergency number is a phone's misguided rewriting: E.164 has none so short.
            for form in (number, f"+{number}", f"+{self.country_code}{number}"):
                dress[form] = send
        if self.outside_prefix:
            # Not before foreign ones: 9999 in North America is no call for help.
            for number in own_numbers:
                dress.setdefault(self.outside_prefix + number, number)
        return dress


@cache
def _country_emergency_numbers(country: str) -> frozenset[str]:
    """Return a country's emergency numbers: the metadata's pattern over all strings of its lengths."""
    metadata = PhoneMetadata.short_metadata_for_region(country)
    if metadata is None or metadata.emergency is None or not metadata.emergency.national_number_pattern:
        return frozenset()
    pattern = re.compile(metadata.emergency.national_number_pattern)
    lengths = sorted(length for length in metadata.emergency.possible_length if 2 <= length <= 6)
    return frozenset(
        text for length in lengths for n in range(10**length) if pattern.fullmatch(text := f"{n:0{length}d}")
    )


def _preferred_sos(country: str, own: frozenset[str]) -> str:
    """Return the one number to send for a call to no service in particular. Raises ConfigurationError."""
    preferred = _PREFERRED_SOS.get(country)
    if preferred is not None:
        return preferred
    for number in _SOS_ORDER:
        if number in own:
            return number
    if len(own) > 1:
        message = (
            f"number plan sos_number: {country} has {', '.join(sorted(own)[:5])} and no one number for all; "
            "name the one that calls to urn:service:sos, 112 and 911 are sent to"
        )
        raise ConfigurationError(message)
    return next(iter(own), "112")


def _international_prefix(metadata: PhoneMetadata, country: str) -> str:
    """Return what is dialled before a country code. Raises ConfigurationError where each carrier has its
    own.
    """
    # In 8~10 the ~ is a second dial tone.
    plain = (metadata.preferred_international_prefix or metadata.international_prefix or "00").replace(
        "~", ""
    )
    if plain.isdigit():
        return plain
    if re.fullmatch(plain, "00"):
        return "00"
    message = f"number plan international_prefix: {country} has one per carrier; name the one dialled here"
    raise ConfigurationError(message)

"""One normal form for every dress of a number, with its call class.

The order: emergency; an internal shape; a public number (behind the outside-line prefix first); a short
service number; a private number that an override names. What fits none of them is refused: nothing becomes
internal, or anything else, by accident. A number of no known range that begins with a known one is judged as
the dearer of the two: where numbers differ in length, networks connect one as soon as it is complete and drop
the digits that follow. Public numbers are read by `phonenumbers`, some 70 us each, so results are cached.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Final

import phonenumbers
from phonenumbers import PhoneNumber, PhoneNumberType, ShortNumberCost, ValidationResult
from phonenumbers.shortnumberinfo import expected_cost_for_region, is_valid_short_number_for_region

from proxy.errors import RemoteProtocolError
from proxy.policy.classes import CallClass, dearest
from proxy.policy.dial_string import (
    MAX_TEXT,
    SOS,
    DialString,
    emergency_readings,
    read_dial_string,
    without_later_keys,
)
from proxy.policy.number_plan import DialledNumber, NumberPlan, NumberRefused

__all__ = ["Normaliser", "internal_number"]

_SPECIAL_TYPES = frozenset(
    {
        PhoneNumberType.SHARED_COST,
        PhoneNumberType.PERSONAL_NUMBER,
        PhoneNumberType.PAGER,
        PhoneNumberType.UAN,
        PhoneNumberType.VOICEMAIL,
    }
)
_FIXED_TYPES = frozenset({PhoneNumberType.FIXED_LINE, PhoneNumberType.FIXED_LINE_OR_MOBILE})
_LONGEST_SHORT = 6
"""Digits of the longest short service number."""


class Normaliser:
    """Normalises texts by one number plan, remembering the last `cache_size` results (600 octets each)."""

    def __init__(self, plan: NumberPlan, cache_size: int = 4096) -> None:
        self.plan: Final = plan
        self._cached = lru_cache(maxsize=cache_size)(self._normalise)
        # The first use of a country reads its metadata (some ms): not in the first call, please.
        phonenumbers.is_valid_number(PhoneNumber(country_code=plan.country_code, national_number=10**9))
        is_valid_short_number_for_region(
            PhoneNumber(country_code=plan.country_code, national_number=100), plan.country
        )

    def __call__(self, text: str) -> DialledNumber | NumberRefused:
        """Return the number in normal form, or why it has none. Never raises."""
        # Long URIs are not remembered: strangers could fill the memory with theirs.
        return self._cached(text) if len(text) <= MAX_TEXT else self._normalise(text)

    def _normalise(self, text: str) -> DialledNumber | NumberRefused:
        for reading in emergency_readings(text):
            emergency = self.plan.emergency(reading)
            if emergency is not None:
                return self._emergency(reading, emergency)
        try:
            dial = read_dial_string(text)
        except RemoteProtocolError as error:
            return NumberRefused(without_later_keys(text)[:64], str(error), error.status_hint)
        if dial.host_only:
            return NumberRefused(dial.digits, "the address has no user part, so it names no number", 404)
        found = self._find(dial)
        return found if isinstance(found, NumberRefused) else self._overridden(found)

    def _overridden(self, found: DialledNumber) -> DialledNumber:
        """Give a number the class that an override has for the whole of it; then no other reading counts."""
        for override in self.plan.overrides:
            for form in found.forms:
                if override.pattern.matches(form):
                    how = f"{found.how}; the override {override.pattern} makes it {override.call_class}"
                    return replace(found, call_class=override.call_class, how=how, readings=())
        return found

    def _emergency(self, reading: str, number: str) -> DialledNumber:
        service = reading == SOS.digits
        dialled = number if service else reading
        how = "an emergency service was asked for" if service else f"{dialled} is an emergency number"
        if number != dialled:
            how += f", sent as {number}"
        return DialledNumber(dialled, number, CallClass.EMERGENCY, self.plan.country, (number,), how=how)

    def _find(self, dial: DialString) -> DialledNumber | NumberRefused:
        plan, digits = self.plan, dial.digits
        if dial.context and not digits.startswith("+"):
            # RFC 3966 §5.1.5: the digits are local to that context; put together they are the global number.
            joined = dial.context + digits
            if dial.context != f"+{plan.country_code}":
                digits = joined
            elif joined[1:].isdigit() and (found := self._public(joined, joined)) is not None:
                return found
        if digits.startswith("+"):
            if not digits[1:].isdigit():
                return _unknown(digits)
            return self._public(digits, digits) or self._possible(digits, (digits,)) or _unknown(digits)
        if not dial.context:
            for pattern in plan.extensions:
                if pattern.matches(digits):
                    return internal_number(digits, f"{digits} has the internal shape {pattern}")
        if "*" in digits or "#" in digits:
            return self._private(digits) or _unknown(digits)
        return self._dialled(digits, local=not dial.context)

    def _dialled(self, digits: str, *, local: bool) -> DialledNumber | NumberRefused:
        """Read what was dialled at home; ``local``: without a context, as the site's own phones do."""
        readings = tuple(self._readings(digits, prefixed=local))
        for reading in readings:
            # Local numbers of so few digits don't exist, and none begins with 1 where service numbers do.
            if len(reading) <= 4 or reading[0] == "1":
                found = self._short(digits, reading) or self._public(digits, reading, local=local)
            else:
                found = self._public(digits, reading, local=local) or self._short(digits, reading)
            if found is not None:
                return found
        # Not the other way round: 19765550100 and +19765550100 must be one number.
        return self._possible(digits, readings) or self._private(digits) or _unknown(digits)

    def _readings(self, digits: str, *, prefixed: bool) -> Iterator[str]:
        prefix = self.plan.outside_prefix
        if prefixed and prefix and digits.startswith(prefix) and len(digits) > len(prefix):
            yield digits[len(prefix) :]
        yield digits

    def _public(self, dialled: str, digits: str, *, local: bool = False) -> DialledNumber | None:
        """Read an E.164 number in a range that exists; ``local``: it may have come without its area code."""
        for candidate in self._completions(digits) if local else (digits,):
            number = self._parse(candidate)
            if number is not None and phonenumbers.is_valid_number(number):
                return self._describe(dialled, number, known=True)
        return None

    def _possible(self, dialled: str, readings: tuple[str, ...]) -> DialledNumber | None:
        """Read an E.164 number of the right length in a range that the metadata don't know (yet)."""
        for reading in readings:
            number = self._parse(reading)
            if (
                number is not None
                and phonenumbers.is_possible_number_with_reason(number) == ValidationResult.IS_POSSIBLE
            ):
                found = self._describe(dialled, number, known=False)
                return self._with_readings(found, number) if self._reads_the_same(found) else None
        return None

    def _with_readings(self, found: DialledNumber, number: PhoneNumber) -> DialledNumber:
        """Judge a number of no known range as the dearest that it may be to a network."""
        known = tuple(map(self._overridden, self._shortened(found.dialled, number)))
        if not known:
            return found
        readings = (found, *known)
        return replace(
            found, call_class=dearest(reading.call_class for reading in readings), readings=readings
        )

    def _shortened(self, dialled: str, number: PhoneNumber) -> Iterator[DialledNumber]:
        """Give the known numbers that remain when digits are dropped from the end, the longest first."""
        plan, national = self.plan, phonenumbers.national_significant_number(number)
        for dropped in range(1, len(national)):
            shorter = PhoneNumber()
            shorter.merge_from(number)
            shorter.national_number = int(national[:-dropped])
            if phonenumbers.is_valid_number(shorter):
                yield self._describe(dialled[:-dropped], shorter, known=True)
        if number.country_code == plan.country_code:
            at_home = plan.national_prefix + national
            for length in range(_LONGEST_SHORT, 0, -1):
                short = self._short(at_home[:length], at_home[:length])
                if short is not None:
                    yield short

    def _reads_the_same(self, found: DialledNumber) -> bool:
        """Say whether everybody reads a number as the gate does.

        With zeros behind the country code one carrier dials another number than the next: +49 0 0900 ...
        would be judged as a number that nobody knows and dialled as a premium one.
        """
        for form in (found.number, found.national_with_prefix):
            number, e164 = self._parse(form), phonenumbers.PhoneNumberFormat.E164
            if number is None or phonenumbers.format_number(number, e164) != found.number:
                return False
        return True

    def _completions(self, digits: str) -> Iterator[str]:
        """Give the ways to complete a number that was dialled without its area code, most local first."""
        plan = self.plan
        if plan.area_codes:
            if plan.country_code == 1:
                if len(digits) == 7:
                    yield f"+1{plan.area_codes[0]}{digits}"
            elif plan.national_prefix and not digits.startswith(
                (plan.national_prefix, plan.international_prefix)
            ):
                yield f"+{plan.country_code}{plan.area_codes[0]}{digits}"
        yield digits

    def _parse(self, digits: str) -> PhoneNumber | None:
        try:
            return phonenumbers.parse(digits, self.plan.country)
        except phonenumbers.NumberParseException:
            return None

    def _short(self, dialled: str, digits: str) -> DialledNumber | None:
        """Read a short service number of the country (411, 118500 ...)."""
        plan = self.plan
        if len(digits) > _LONGEST_SHORT or digits[:1] == "0":
            return None
        number = PhoneNumber(country_code=plan.country_code, national_number=int(digits))
        if not is_valid_short_number_for_region(number, plan.country):
            return None
        cost = expected_cost_for_region(number, plan.country)
        call_class = {
            ShortNumberCost.TOLL_FREE: CallClass.TOLL_FREE,
            ShortNumberCost.PREMIUM_RATE: CallClass.PREMIUM,
        }.get(cost, CallClass.SPECIAL)
        how = f"{digits} is a short number of {plan.country}"
        return DialledNumber(dialled, digits, call_class, plan.country, (digits,), how=how)

    def _private(self, digits: str) -> DialledNumber | None:
        """Take a number that is no public one only because an override names it."""
        prefix = self.plan.outside_prefix
        forms = (digits, digits[len(prefix) :]) if prefix and digits.startswith(prefix) else (digits,)
        for override in self.plan.overrides:
            for form in reversed(forms):
                if override.pattern.matches(form):
                    how = f"{form} is no public number; the override {override.pattern} names it"
                    return DialledNumber(digits, form, override.call_class, "", (form,), how=how)
        return None

    def _describe(self, dialled: str, number: PhoneNumber, *, known: bool) -> DialledNumber:
        plan = self.plan
        e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        national = phonenumbers.national_significant_number(number)
        if number.country_code == plan.country_code:
            short = plan.national_prefix + national
            local = (national[len(area) :] for area in plan.area_codes if national.startswith(area))
            forms = (e164, national, short, f"{plan.country_code}{national}", *local)
        else:
            short = national = f"{plan.international_prefix}{e164[1:]}"
            forms = (e164, short)
        call_class, region, what = self._classify(number, known)
        how = f"{dialled} is {e164}, {what}"
        return DialledNumber(
            dialled, e164, call_class, region, tuple(dict.fromkeys(forms)), national, short, how
        )

    def _classify(self, number: PhoneNumber, known: bool) -> tuple[CallClass, str, str]:
        plan = self.plan
        region = phonenumbers.region_code_for_number(number) or ""
        kind = phonenumbers.number_type(number)
        at_home = number.country_code == plan.country_code and (
            region in {"", plan.country} or region in plan.home_regions
        )
        if kind == PhoneNumberType.PREMIUM_RATE:
            return CallClass.PREMIUM, region, "a premium-rate number"
        if not at_home:
            if region in plan.home_regions:
                return CallClass.NATIONAL, region, f"a number in the home region {region}"
            return CallClass.INTERNATIONAL, region, f"an international number ({region or 'country unknown'})"
        if not known:
            return CallClass.SPECIAL, plan.country, "a number in a range that nobody knows"
        if kind == PhoneNumberType.TOLL_FREE:
            return CallClass.TOLL_FREE, region, "a toll-free number"
        if kind == PhoneNumberType.MOBILE:
            return CallClass.MOBILE, region, "a mobile number"
        if kind in _SPECIAL_TYPES:
            return CallClass.SPECIAL, region, "a special-rate number"
        national = phonenumbers.national_significant_number(number)
        if kind in _FIXED_TYPES and national.startswith(plan.area_codes):
            return CallClass.LOCAL, region, "a local number"
        return CallClass.NATIONAL, region, "a national number"


def internal_number(digits: str, how: str) -> DialledNumber:
    """Return the number of an extension."""
    return DialledNumber(digits, digits, CallClass.INTERNAL, "", (digits,), how=how)


def _unknown(digits: str) -> NumberRefused:
    return NumberRefused(
        digits, f"{digits} is neither an extension, a public number nor a service number", 404
    )

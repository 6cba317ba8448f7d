"""Numbers in disguise: what policy judges, what the record says and what the trunk dials are one number."""

from __future__ import annotations

import random
import time
import unicodedata
from urllib.parse import unquote

from proxy.call.admission import describe
from proxy.cdr.builder import RecordBuilder
from proxy.policy import (
    CallClass,
    CallRequest,
    ClassOfService,
    CodeCollection,
    Decision,
    DialledNumber,
    NumberPlan,
    NumberStyle,
    Snapshot,
    Treatment,
    TrunkNumberFormat,
    UserGroup,
    decide,
    format_for_trunk,
    parse_patterns,
)
from reliability.figures import Figure

__all__ = ["disagreements", "run"]

ALL = 1_000_000
_FREE = frozenset(
    {CallClass.INTERNAL, CallClass.TOLL_FREE, CallClass.LOCAL, CallClass.NATIONAL, CallClass.MOBILE}
)
_PLANS = (
    NumberPlan("US", ("212",), "9", parse_patterns(("2XX",))),
    NumberPlan("DE", ("30",), "0", parse_patterns(("2XX",))),
    NumberPlan("GB", ("20",), "", parse_patterns(("2XX",))),
)
_GROUPS = (
    UserGroup("closed", ClassOfService(_FREE, parse_patterns(("+1415555.", "+4930."))), CodeCollection.OFF),
    UserGroup("codes", ClassOfService(_FREE), CodeCollection.REQUIRED, ClassOfService(frozenset(CallClass))),
    UserGroup("open", ClassOfService(frozenset(CallClass) - {CallClass.PREMIUM}), CodeCollection.OFF),
)
_SHUT = ("+1415555", "+4930", "+1900", "+49900")
"""How the numbers begin that the first group may not call: its patterns, and where calls cost most."""
_PREMIUM = (
    *("499001234567", "491377123456", "39899123456", "39892123", "3290012345", "48701234567"),
    *("469001234567", "41900123456", "43900123456", "319061234", "449098790000"),
)
"""Premium numbers, each behind a country code of two digits: the last group may not call them, nor what
begins with one, since networks drop the digits behind it."""
_DEAR = tuple(f"+{number}" for number in _PREMIUM)
_SNAPSHOTS = [Snapshot(plan, _GROUPS) for plan in _PLANS]
_CARRIERS = {plan.country: Snapshot(NumberPlan(plan.country, plan.area_codes), _GROUPS) for plan in _PLANS}
"""How the other end of a trunk reads what is dialled: nobody dials an outside-line prefix there."""
_STYLES = tuple(TrunkNumberFormat(style) for style in NumberStyle)
_DIGITS = ("0123456789", "٠١٢٣٤٥٦٧٨٩", "０１２３４５６７８９", "०१२३४५६७८९")
_BETWEEN = ("", "", "", "-", ".", "(", ")", "/", " ", "%2d", "%20", "\u00a0", "\u200b", "\u2060", "\uff0d")
_HEADS = (
    "",
    "",
    "+",
    "+",
    "%2B",
    "\uff0b",
    "9",
    "011",
    "9011",
    "00",
    "000",
    "0",
    "1",
    "91",
    "*67",
    "9*82",
    "#31#",
)
_TAILS = (
    *("", "", "", ";user=phone", ",123", "p5", "#", "*", ";ext=9", ":secret"),
    *(";phone-context=+1", ";phone-context=+49", ";phone-context=x.example", ";phone-context=%2B44"),
    ";isub=1;PHONE-CONTEXT=+1900",
)
_SCHEMES = (
    "sip:{}@gate.example.com",
    "sips:{}@gate.example.com;user=phone",
    "tel:{}",
    "{}",
    "SIP:{}@gate.example.com?x=1",
)
_BASES = (
    *("19005550123", "14155550123", "12125550123", "18005550123", "4930901820", "49900512345"),
    *(
        "442079460000",
        "447700900123",
        "33142685300",
        "8765550123",
        "9005550123",
        "5550123",
        "411",
        "204",
        "911",
    ),
)


def disagreements(count: int, seed: int, *, until: float = float("inf")) -> tuple[int, list[str]]:
    """Try so many random strings, or for so long; returns how many were tried and what was found."""
    chance = random.Random(seed)
    found: list[str] = []
    done = 0
    while done < count and (done % 1_000 or time.monotonic() < until):
        base = _base(chance)
        text = _dress(base, chance) if chance.random() < 0.9 else _noise(chance)
        for snapshot in _SNAPSHOTS:
            for group in snapshot.groups:
                problem = _problem(text, group, snapshot)
                if problem:
                    found.append(f"{snapshot.plan.country} {group} {text!r}: {problem}")
        done += 1
    return done, found


def _base(chance: random.Random) -> str:
    """Return a number worth dressing, any digits, or a premium number with surplus digits behind it."""
    kind = chance.random()
    if kind < 0.5:
        return chance.choice(_BASES)
    if kind < 0.8:
        return _random_digits(chance, 1, 18)
    premium = chance.choice(_PREMIUM)
    return premium[chance.choice((0, 2)) :] + _random_digits(chance, 1, 4)


def _random_digits(chance: random.Random, least: int, most: int) -> str:
    return "".join(chance.choices("0123456789", k=chance.randint(least, most)))


def _dress(digits: str, chance: random.Random) -> str:
    script = chance.choice(_DIGITS) if chance.random() < 0.3 else _DIGITS[0]
    plain = chance.random() < 0.5
    written = "".join(script[int(digit)] + ("" if plain else chance.choice(_BETWEEN)) for digit in digits)
    if chance.random() < 0.1:
        written = "".join(f"%{ord(char):02x}" if char.isascii() else char for char in written)
    return chance.choice(_SCHEMES).format(chance.choice(_HEADS) + written + chance.choice(_TAILS))


def _noise(chance: random.Random) -> str:
    alphabet = "0123456789+*#-.();:@%=,pwabcsiptel \t\u00a0\u0661\uff11\u202e\x00\ud800"
    return "".join(chance.choices(alphabet, k=chance.randint(0, 40)))


def _problem(text: str, group: str, snapshot: Snapshot) -> str:
    """Return what is wrong with how a text is treated, or ""."""
    decision = decide(CallRequest(text, default_group=group), snapshot)
    number = decision.number
    record = RecordBuilder("r", start_time=0.0, now=0.0)
    describe(record, decision)
    if (record.decision == "block") is not (decision.treatment is Treatment.BLOCK):
        return "the record says something else than the policy"
    if number is None:
        return "" if decision.treatment is Treatment.BLOCK else "placed without a number"
    if record.normalised_number != number.number or record.call_class != number.call_class.value:
        return "the record has another number or class"
    if group == "closed" and decision.treatment is not Treatment.BLOCK and number.number.startswith(_SHUT):
        return f"{number.number} is let through"
    if group == "open" and decision.treatment is not Treatment.BLOCK and number.number.startswith(_DEAR):
        return f"{number.number} is let through, and a premium number with surplus digits"
    return _on_the_trunk(text, number, decision, group, snapshot)


def _on_the_trunk(
    text: str, number: DialledNumber, decision: Decision, group: str, snapshot: Snapshot
) -> str:
    """Compare what the trunk dials with what was judged, and with what the caller typed."""
    for style in _STYLES:
        sent = format_for_trunk(number, style)
        if number.emergency:
            return "" if sent == number.number else f"an emergency number is sent as {sent}"
        if not number.number.startswith("+"):
            if sent != number.number:
                return f"{number.number} is sent as {sent}"
            continue
        outside = f"+{sent}" if style.style is NumberStyle.E164_WITHOUT_PLUS else sent
        again = decide(CallRequest(outside, default_group=group), _CARRIERS[snapshot.plan.country])
        if again.number is None or again.number.number != number.number:
            return f"{number.number} is sent as {sent}, which is {again.number and again.number.number}"
        if (again.treatment, again.call_class) != (decision.treatment, decision.call_class):
            return f"{sent} by itself is {again.call_class}, {again.treatment}"
    typed = _typed(text)
    if typed and not number.emergency and not _ends_alike(typed, number.number.lstrip("+*#")):
        return f"{number.number} is not what was typed ({typed})"
    return ""


def _ends_alike(typed: str, digits: str) -> bool:
    """Say whether what was typed ends with a number, or completes to it but for what stands in front."""
    return typed.endswith(digits[-7:]) or any(
        digits.endswith(typed[front:]) for front in range(len(typed) - 1)
    )


def _typed(text: str) -> str:
    """Return the digits of the user part, read another way than by `proxy.policy`; "" where it can't tell."""
    user = text.split(":", 1)[1] if text.split(":", 1)[0].strip().lower() in {"sip", "sips", "tel"} else text
    if "phone-context" in user.lower() or ("@" not in user and ":" in user):
        return ""
    user = unquote(user.split("@", 1)[0].split(";", 1)[0].split(":", 1)[0].split("?", 1)[0])
    return "".join(str(unicodedata.decimal(char)) for char in user if char.isdecimal())


def run(seconds: float | None = None) -> list[Figure]:
    """Try a million strings, or as many as there is time for."""
    until = float("inf") if seconds is None else time.monotonic() + seconds
    tried, found = disagreements(ALL, seed=time.time_ns(), until=until)
    measured = f"{len(found)} in {tried:,} strings" + "".join(f"; {one}" for one in found[:3])
    return [Figure(10, "disguised numbers judged or dialled as others", "0", measured, not found)]

"""Number patterns of an administrator: restriction and permission lists, class overrides, extensions.

======  ==============================================================
``0-9`` the digit itself; ``*`` and ``#`` too
``X``   one digit (``x`` as well)
``?``   one digit
``N``   one digit 2-9
``Z``   one digit 1-9
``[..]`` one digit of the set, e.g. ``[2-58]``
``.``   at the end: one or more further digits, i.e. "begins with"
``!``   at the end: any further digits, or none
``+``   at the start: the pattern means the E.164 number
======  ==============================================================

Visual separators (blank, ``-``, ``(``, ``)``, ``/``) are ignored. A pattern without ``+`` is held against
every way in which the number may be dialled at home: as subscriber number, with area code, with national or
international prefix (`DialledNumber.forms`), so that no dress of a number slips past it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from proxy.errors import ConfigurationError

__all__ = [
    "MAX_PATTERN_LENGTH",
    "NumberPattern",
    "behind_prefix",
    "first_match",
    "parse_patterns",
    "refuse_empty",
]

MAX_PATTERN_LENGTH = 64

_IGNORED = " -()/"
_ATOMS = {"X": "[0-9]", "?": "[0-9]", "N": "[2-9]", "Z": "[1-9]", "*": r"\*"}
_SET = re.compile(r"\[(?:[0-9](?:-[0-9])?)+\]")


@dataclass(frozen=True, slots=True)
class NumberPattern:
    """One pattern; `text` is what the administrator typed. Raises ConfigurationError."""

    text: str
    _regex: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_regex", re.compile(_translate(self.text)))

    def matches(self, form: str) -> bool:
        """Tell whether the whole of one form of a number (digits, or ``+`` and digits) fits."""
        return self._regex.fullmatch(form) is not None

    def __str__(self) -> str:
        return self.text


def first_match(patterns: Iterable[NumberPattern], forms: tuple[str, ...]) -> NumberPattern | None:
    """Return the first pattern that fits one of a number's forms, or None."""
    for pattern in patterns:
        for form in forms:
            if pattern.matches(form):
                return pattern
    return None


def behind_prefix(pattern: NumberPattern, outside_prefix: str) -> str:
    """Return what stands behind the outside-line prefix in a pattern that begins with it, or "".

    No form of a number holds that prefix, so most such patterns fit nothing; a few mean another number.
    """
    text = pattern.text.strip(_IGNORED)
    return text[len(outside_prefix) :] if outside_prefix and text.startswith(outside_prefix) else ""


def refuse_empty(pattern: NumberPattern) -> None:
    """Raise ConfigurationError for a pattern that fits no number: one that holds nothing but a ``+``."""
    if pattern.text.strip(_IGNORED) == "+":
        raise ConfigurationError("number pattern '+' fits no number: write digits behind it, or +. for all")


def parse_patterns(texts: Iterable[str]) -> tuple[NumberPattern, ...]:
    """Return the patterns of several texts; raises ConfigurationError that names the bad one."""
    return tuple(NumberPattern(text) for text in texts)


def _translate(text: str) -> str:
    """Return the regular expression: single-character classes in a row, so it can't backtrack."""
    if len(text) > MAX_PATTERN_LENGTH:
        message = f"number pattern of {len(text)} characters: at most {MAX_PATTERN_LENGTH} are allowed"
        raise ConfigurationError(message)
    rest = text.strip(_IGNORED)
    parts: list[str] = []
    if rest.startswith("+"):
        parts.append(r"\+")
        rest = rest[1:]
    tail = {".": "[0-9*#]+", "!": "[0-9*#]*"}.get(rest[-1:], "")
    if tail:
        rest = rest[:-1]
    position = 0
    while position < len(rest):
        typed, character = rest[position], rest[position].upper()
        found = _SET.match(rest, position)
        if found:
            parts.append(_digit_set(found.group(), text))
            position = found.end()
            continue
        position += 1
        if character in _IGNORED:
            continue
        if not (character.isascii() and character.isdigit()) and character != "#" and character not in _ATOMS:
            message = (
                f"number pattern {text!r}: {typed!r} is not allowed here; use digits, X, N, Z, ?, [..], "
                "a leading + and a final . or !"
            )
            raise ConfigurationError(message)
        parts.append(_ATOMS.get(character, character))
    if not parts and not tail:
        raise ConfigurationError("number pattern is empty: write at least one digit")
    return "".join(parts) + tail


def _digit_set(text: str, pattern: str) -> str:
    for low, high in re.findall(r"([0-9])-([0-9])", text):
        if low > high:
            message = f"number pattern {pattern!r}: the range {low}-{high} runs backwards"
            raise ConfigurationError(message)
    return text

"""The sixteen DTMF events and their codes (RFC 4733 §3.2, table 3)."""

from __future__ import annotations

from proxy.errors import LocalProtocolError

__all__ = ["DIGITS", "digit_of_event", "event_of_digit"]

DIGITS = "0123456789*#ABCD"
"""All digits, each at the index that is its event code."""


def digit_of_event(code: int) -> str | None:
    """Return the digit of an event code; None for events that are no digits (flash, fax and modem tones)."""
    return DIGITS[code] if 0 <= code < len(DIGITS) else None


def event_of_digit(digit: str) -> int:
    """Return the event code of a digit. Raises `LocalProtocolError` for anything else."""
    code = DIGITS.find(digit) if len(digit) == 1 else -1
    if code < 0:
        raise LocalProtocolError("not one of the sixteen DTMF digits")
    return code

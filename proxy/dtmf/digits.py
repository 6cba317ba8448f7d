"""Digits and the means by which they reach the gate."""

from __future__ import annotations

import enum

__all__ = ["DIGITS", "DigitMeans"]

DIGITS = "0123456789*#ABCD"
"""All digits, each at the index that is its event code (RFC 4733 §3.2, table 3)."""


class DigitMeans(enum.Enum):
    """By which means a digit reached the gate (DESIGN contract 2: one means per entry is heard)."""

    RFC4733 = "rfc4733"
    INFO = "info"
    INBAND = "inband"

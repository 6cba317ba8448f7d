"""Digits and the means by which they reach the gate."""

from __future__ import annotations

import enum

__all__ = ["DigitMeans"]


class DigitMeans(enum.Enum):
    """By which means a digit reached the gate (DESIGN contract 2: one means per entry is heard)."""

    RFC4733 = "rfc4733"
    INFO = "info"
    INBAND = "inband"

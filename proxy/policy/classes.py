"""The closed sets of the policy: call classes, treatments, code collection (DESIGN section 1)."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping

__all__ = ["CallClass", "CodeCollection", "Treatment", "dearest", "strictest"]


class CallClass(enum.StrEnum):
    """What kind of call a number makes."""

    EMERGENCY = "emergency"
    INTERNAL = "internal"
    TOLL_FREE = "toll_free"
    LOCAL = "local"
    NATIONAL = "national"
    MOBILE = "mobile"
    INTERNATIONAL = "international"
    PREMIUM = "premium"
    SPECIAL = "special"
    """Short service numbers, shared-cost, personal and pager numbers, and number ranges that nobody knows."""


_BY_COST = (*(one for one in CallClass if one is not CallClass.PREMIUM), CallClass.PREMIUM)


def dearest(classes: Iterable[CallClass]) -> CallClass:
    """Return the class whose calls may cost most: premium above all, then special, international, mobile."""
    return max(classes, key=_BY_COST.index)


class Treatment(enum.StrEnum):
    """What the gate does with a call."""

    ALLOW = "allow"
    OPTIONAL_CODE = "optional code"
    REQUIRED_CODE = "required code"
    BLOCK = "block"

    @property
    def asks(self) -> bool:
        """The caller is asked for an account code."""
        return self is Treatment.OPTIONAL_CODE or self is Treatment.REQUIRED_CODE


_BY_STRICTNESS = tuple(Treatment)


def strictest(treatments: Mapping[CallClass, Treatment]) -> tuple[CallClass, Treatment]:
    """Return the class that is treated most strictly, with its treatment; of equals the first."""
    return max(treatments.items(), key=lambda one: _BY_STRICTNESS.index(one[1]))


class CodeCollection(enum.StrEnum):
    """Whether a user group is asked for account codes outside its call permissions."""

    OFF = "off"
    OPTIONAL = "optional"
    REQUIRED = "required"

    @property
    def treatment(self) -> Treatment:
        """The treatment of a call outside the call permissions that a code may unlock."""
        return _TREATMENTS[self]


_TREATMENTS = {
    CodeCollection.OFF: Treatment.BLOCK,
    CodeCollection.OPTIONAL: Treatment.OPTIONAL_CODE,
    CodeCollection.REQUIRED: Treatment.REQUIRED_CODE,
}

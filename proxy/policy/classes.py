"""The closed sets of the policy: call classes, treatments, code collection (DESIGN section 1)."""

from __future__ import annotations

import enum

__all__ = ["CallClass", "CodeCollection", "Treatment"]


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

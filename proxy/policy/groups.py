"""Classes of service and user groups: who may dial what freely, and what a code unlocks."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from proxy.errors import ConfigurationError
from proxy.policy.classes import CallClass, CodeCollection, Treatment
from proxy.policy.limits import NO_LIMITS, CallLimits
from proxy.policy.number_plan import DialledNumber
from proxy.policy.patterns import NumberPattern, first_match

__all__ = ["ALL_CLASSES", "MAX_CODE_LENGTH", "ClassOfService", "PatternVerdict", "UserGroup"]

MAX_CODE_LENGTH = 20
"""Digits of the longest account code."""

ALL_CLASSES: frozenset[CallClass] = frozenset(CallClass)


class PatternVerdict(enum.Enum):
    """What the pattern lists of a class of service say about a number."""

    PERMITTED = "permitted"
    RESTRICTED = "restricted"
    SILENT = "silent"
    """No pattern fits: the call class decides."""


@dataclass(frozen=True, slots=True)
class ClassOfService:
    """A set of call classes with exceptions by number; permission patterns win over restriction patterns.

    A permission pattern must fit the whole of what is dialled; a restriction pattern may fit what is left of
    it where networks drop digits (`DialledNumber.readings`).
    """

    classes: frozenset[CallClass] = frozenset()
    restricted: tuple[NumberPattern, ...] = ()
    permitted: tuple[NumberPattern, ...] = ()

    def pattern_verdict(self, number: DialledNumber) -> tuple[PatternVerdict, NumberPattern | None]:
        """Return what the pattern lists alone say, with the pattern that says it."""
        if self.permitted:
            pattern = first_match(self.permitted, number.forms)
            if pattern is not None:
                return PatternVerdict.PERMITTED, pattern
        if self.restricted:
            pattern = first_match(self.restricted, number.restricted_forms)
            if pattern is not None:
                return PatternVerdict.RESTRICTED, pattern
        return PatternVerdict.SILENT, None

    def includes(self, number: DialledNumber) -> bool:
        """Tell whether the number lies inside this class of service, whichever of its classes it has."""
        verdict, _ = self.pattern_verdict(number)
        if verdict is PatternVerdict.SILENT:
            return self.classes.issuperset(number.classes)
        return verdict is PatternVerdict.PERMITTED


@dataclass(frozen=True, slots=True)
class UserGroup:
    """The rules of a set of users. Times in seconds.

    Stored are the pair (`permissions`, `collection`) and the matrix cells that differ from what the pair
    gives (`edited`); the matrix is derived, so that a change of the pair keeps the edited cells.
    """

    name: str
    permissions: ClassOfService = ClassOfService(frozenset({CallClass.INTERNAL}))
    """Call permissions: what the group dials freely."""
    collection: CodeCollection = CodeCollection.OFF
    unlock: ClassOfService = ClassOfService(ALL_CLASSES)
    """The second class of service: what a code can unlock at most."""
    edited: Mapping[CallClass, Treatment] = field(default_factory=lambda: MappingProxyType({}))
    """Matrix cells that an administrator set by hand."""
    tries: int = 3
    first_digit: float = 10.0
    inter_digit: float = 5.0
    whole_entry: float = 60.0
    min_length: int = 1
    max_length: int = MAX_CODE_LENGTH
    fixed_length: int | None = None
    """Codes have exactly this many digits: an entry ends with the last one, without ``#``."""
    prompts: str = ""
    """Name of the folder with this group's own prompt recordings, or "" for the common ones."""
    limits: CallLimits = NO_LIMITS
    matrix: Mapping[CallClass, Treatment] = field(init=False, repr=False, compare=False)
    """Class -> treatment, derived; what the engine evaluates."""

    def __post_init__(self) -> None:
        self._validate()
        object.__setattr__(self, "edited", MappingProxyType(dict(self.edited)))
        matrix = {call_class: self._cell(call_class) for call_class in CallClass}
        object.__setattr__(self, "matrix", MappingProxyType(matrix))

    def outside(self, call_class: CallClass) -> Treatment:
        """Return the treatment of a class for numbers outside the call permissions (by pattern or class)."""
        edited = self.edited.get(call_class)
        if edited is not None and edited is not Treatment.ALLOW:
            return edited
        if call_class in self.unlock.classes:
            return self.collection.treatment
        return Treatment.BLOCK

    def _cell(self, call_class: CallClass) -> Treatment:
        if call_class is CallClass.EMERGENCY:
            return Treatment.ALLOW
        edited = self.edited.get(call_class)
        if edited is not None:
            return edited
        if call_class in self.permissions.classes:
            return Treatment.ALLOW
        return self.outside(call_class)

    def _validate(self) -> None:
        name = self.name
        if not name or name != name.strip() or len(name) > 64 or not name.isprintable():
            raise ConfigurationError(
                "group name: write 1 to 64 printable characters without blanks at the ends"
            )
        if self.edited.get(CallClass.EMERGENCY, Treatment.ALLOW) is not Treatment.ALLOW:
            message = f"group {name!r}: emergency calls are always allowed, their treatment can't be edited"
            raise ConfigurationError(message)
        if not 1 <= self.tries <= 20:
            message = f"group {name!r}: tries must be 1 to 20"
            raise ConfigurationError(message)
        for label, value in (
            ("first_digit", self.first_digit),
            ("inter_digit", self.inter_digit),
            ("whole_entry", self.whole_entry),
        ):
            if not 0.5 <= value <= 600.0:
                message = f"group {name!r}: {label} must be 0.5 to 600 seconds"
                raise ConfigurationError(message)
        if not 1 <= self.min_length <= self.max_length <= MAX_CODE_LENGTH:
            message = f"group {name!r}: code length must be 1 to {MAX_CODE_LENGTH} digits, least first"
            raise ConfigurationError(message)
        if self.fixed_length is not None and not self.min_length <= self.fixed_length <= self.max_length:
            message = f"group {name!r}: fixed_length must lie within {self.min_length} and {self.max_length}"
            raise ConfigurationError(message)
        if "/" in self.prompts or "\\" in self.prompts or self.prompts in {".", ".."} or "\0" in self.prompts:
            message = f"group {name!r}: prompts is the name of a folder, not a path"
            raise ConfigurationError(message)

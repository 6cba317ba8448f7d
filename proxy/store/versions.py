"""Optimistic concurrency: who changes what somebody else has changed meanwhile is told, not obeyed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from proxy.errors import TollgateError

__all__ = ["VersionConflict", "Versioned"]

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Versioned(Generic[_Value]):
    """A value of the store with its version, which every change of it by an administrator raises."""

    value: _Value
    version: int
    id: int = 0
    """Number of its row, where it has one: stays when everything else changes."""


class VersionConflict(TollgateError):  # noqa: N818 - it says what is the case, as its callers do
    """The object was changed since it was read. ``current`` is what it is now."""

    def __init__(self, what: str, current: object) -> None:
        super().__init__(f"{what} was changed by somebody else meanwhile; look at it again")
        self.current = current

"""What a group hands back: each promise beside what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Figure", "Group"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One promise of docs/reliability.md, and whether it was kept this time."""

    line: int
    """The line of docs/reliability.md that it belongs to."""
    what: str
    promised: str
    measured: str
    kept: bool


class Group(Protocol):
    """A module of this package that measures something; the first line of its docstring is its title."""

    def run(self, seconds: float | None = None, **bounds: float) -> list[Figure]:
        """Measure for about so many seconds; None: as long as docs/reliability.md says. The other bounds are
        those of a group that has some.
        """
        ...

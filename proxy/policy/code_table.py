"""Look-up of account codes: O(1) among a million, and a change that costs no rebuild.

A table is immutable: a big base and a small overlay of later changes, merged when the overlay has grown.
Codes that hold nothing but a description are kept as that string alone (an AccountCode is made when one is
looked up): a million of them is one dict of strings, which the garbage collector need not walk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from proxy.policy.codes import AccountCode

__all__ = ["CodeTable"]

_Row = AccountCode | str
"""A code, or only the description of a plain one."""
_Positions = tuple[int, ...]
"""Where a ``?`` code has its fixed digits."""

_MERGE_AT_LEAST = 4096
_MERGE_FRACTION = 16


class _Wildcards:
    """The ``?`` codes, grouped by length and by where their fixed digits stand. Never changes once made."""

    __slots__ = ("_by_length", "codes")

    def __init__(self, codes: dict[str, AccountCode]) -> None:
        self.codes = codes
        groups: dict[int, dict[_Positions, dict[str, AccountCode]]] = {}
        for digits, code in codes.items():
            fixed = tuple(index for index, character in enumerate(digits) if character != "?")
            key = "".join(digits[index] for index in fixed)
            groups.setdefault(len(digits), {}).setdefault(fixed, {})[key] = code
        # Most fixed digits first; among equals the one whose fixed digits stand further left.
        self._by_length = {
            length: tuple(sorted(group.items(), key=lambda item: (-len(item[0]), item[0])))
            for length, group in groups.items()
        }

    def match(self, entry: str) -> AccountCode | None:
        """Return the most specific code that fits the dialled digits, or None."""
        for fixed, by_key in self._by_length.get(len(entry), ()):
            code = by_key.get("".join([entry[index] for index in fixed]))
            if code is not None:
                return code
        return None


class CodeTable:
    """All account codes by dial form. Use `CodeTable.of` and `apply`; never changes once made."""

    __slots__ = ("_base", "_count", "_overlay", "_wildcards")

    def __init__(
        self, base: dict[str, _Row], overlay: dict[str, _Row | None], count: int, wildcards: _Wildcards
    ) -> None:
        self._base = base
        self._overlay = overlay
        self._count = count
        self._wildcards = wildcards

    @classmethod
    def of(cls, codes: Iterable[AccountCode] = ()) -> CodeTable:
        """Build a table; of two codes that dial the same the later wins (the store keeps them unique)."""
        base: dict[str, _Row] = {}
        wildcards: dict[str, AccountCode] = {}
        for code in codes:
            if "?" in code.digits:
                wildcards[code.digits] = code
            else:
                base[code.digits] = code.description if code.plain else code
        return cls(base, {}, len(base), _Wildcards(wildcards))

    def __len__(self) -> int:
        return self._count + len(self._wildcards.codes)

    def __contains__(self, digits: str) -> bool:
        return self.get(digits) is not None

    def __iter__(self) -> Iterator[AccountCode]:
        for digits, row in self._base.items():
            if digits not in self._overlay:
                yield _code(digits, row)
        for digits, changed in self._overlay.items():
            if changed is not None:
                yield _code(digits, changed)
        yield from self._wildcards.codes.values()

    def get(self, digits: str) -> AccountCode | None:
        """Return the code that is stored under exactly this dial form (``?`` included), or None."""
        row = self._overlay[digits] if digits in self._overlay else self._base.get(digits)
        if row is not None:
            return _code(digits, row)
        return self._wildcards.codes.get(digits)

    def match(self, entry: str) -> AccountCode | None:
        """Return the code that these dialled digits mean: an exact one, else the most specific ``?`` one."""
        row = self._overlay[entry] if entry in self._overlay else self._base.get(entry)
        if row is not None:
            return _code(entry, row)
        return self._wildcards.match(entry)

    def apply(self, changed: Iterable[AccountCode] = (), deleted: Iterable[str] = ()) -> CodeTable:
        """Return a table with codes deleted (by dial form) first, then added or replaced.

        Costs the overlay's size, not the table's, until the overlay is merged into the base.
        """
        base, overlay, count = self._base, dict(self._overlay), self._count
        wildcards: dict[str, AccountCode] | None = None
        for digits in deleted:
            if "?" in digits:
                wildcards = dict(self._wildcards.codes) if wildcards is None else wildcards
                wildcards.pop(digits, None)
                continue
            count -= _present(base, overlay, digits)
            if digits in base:
                overlay[digits] = None
            else:
                overlay.pop(digits, None)
        for code in changed:
            digits = code.digits
            if "?" in digits:
                wildcards = dict(self._wildcards.codes) if wildcards is None else wildcards
                wildcards[digits] = code
                continue
            count += not _present(base, overlay, digits)
            overlay[digits] = code.description if code.plain else code
        by_mask = self._wildcards if wildcards is None else _Wildcards(wildcards)
        if len(overlay) <= max(_MERGE_AT_LEAST, len(base) // _MERGE_FRACTION):
            return CodeTable(base, overlay, count, by_mask)
        return CodeTable(_merged(base, overlay), {}, count, by_mask)


def _present(base: dict[str, _Row], overlay: dict[str, _Row | None], digits: str) -> bool:
    return overlay[digits] is not None if digits in overlay else digits in base


def _merged(base: dict[str, _Row], overlay: dict[str, _Row | None]) -> dict[str, _Row]:
    # In pieces, not by `dict.copy`: that would hold the interpreter for tens of ms, and calls with it.
    merged: dict[str, _Row] = {}
    rows = iter(base.items())
    while piece := list(islice(rows, 8192)):
        merged.update(piece)
    for digits, row in overlay.items():
        if row is None:
            del merged[digits]
        else:
            merged[digits] = row
    return merged


def _code(digits: str, row: _Row) -> AccountCode:
    return AccountCode(digits, "", row) if isinstance(row, str) else row

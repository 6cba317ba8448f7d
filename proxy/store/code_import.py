"""A file of account codes held against the store: what would become of each line, before anything is written.

The file itself is read by `proxy.policy.code_file`; the same plan is shown by a dry run and then carried out.
"""

from __future__ import annotations

import enum
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from proxy.errors import ConfigurationError
from proxy.policy import AccountCode, refuse_duplicate
from proxy.policy.code_file import CodeFile
from proxy.store.codes import CodesRepository, Progress, UpsertResult
from proxy.store.versions import Versioned

__all__ = ["ImportPlan", "LineResult", "LineVerdict", "carry_out", "plan_import"]


class LineVerdict(enum.StrEnum):
    """What becomes of a line."""

    ADDED = "added"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class LineResult:
    """One line of the file."""

    line: int
    verdict: LineVerdict
    code: AccountCode | None = field(default=None, repr=False)
    """As it will be; None for a line that is refused."""
    reason: str = field(default="", repr=False)
    """Why it is refused; it may name a code."""
    exists: bool = False
    """It is refused only because there is a code that dials the same: an update would take it."""


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """All lines of a file in their order. It is carried out whole, and only when none is refused."""

    lines: tuple[LineResult, ...]
    may_update: bool
    held_against: Mapping[str, Versioned[AccountCode]] = field(default_factory=dict, repr=False)
    """The codes that were there when it was made, by their digits."""

    @property
    def counts(self) -> Mapping[LineVerdict, int]:
        """How many lines there are of each verdict."""
        return Counter(line.verdict for line in self.lines)

    @property
    def refused(self) -> Sequence[LineResult]:
        """The lines that speak against it."""
        return [line for line in self.lines if line.verdict is LineVerdict.REFUSED]

    @property
    def codes(self) -> Sequence[AccountCode]:
        """The codes of all lines that are not refused."""
        return [line.code for line in self.lines if line.code is not None]

    @property
    def fingerprint(self) -> str:
        """What tells this plan from another one: what becomes of which line, and what will stand there."""
        digest = hashlib.sha256()
        for line in self.lines:
            code = line.code
            shown = line.reason if code is None else (code.digits, code.form, code.description)
            digest.update(f"{line.line} {line.verdict} {shown!r}\n".encode("utf-8", "replace"))
        return digest.hexdigest()


def plan_import(content: CodeFile, codes: CodesRepository, *, may_update: bool) -> ImportPlan:
    """Hold a file against the store.

    With ``may_update`` a code that is there gets the file's description and form; its other facts (owner,
    validity, uses) stay. Without, two that dial the same are refused with both named.
    """
    present = codes.present([code.digits for code in content.codes])
    lines = [
        LineResult(problem.line, LineVerdict.REFUSED, reason=problem.reason) for problem in content.problems
    ]
    for line, code in zip(content.lines, content.codes, strict=True):
        lines.append(_judge(line, code, present.get(code.digits), may_update=may_update))
    return ImportPlan(tuple(sorted(lines, key=lambda result: result.line)), may_update, present)


def _judge(
    line: int, code: AccountCode, known: Versioned[AccountCode] | None, *, may_update: bool
) -> LineResult:
    if known is None:
        return LineResult(line, LineVerdict.ADDED, code)
    old = known.value
    if not may_update:
        try:
            refuse_duplicate(code, old)
        except ConfigurationError as error:
            return LineResult(line, LineVerdict.REFUSED, reason=str(error), exists=True)
    new = replace(old, typed=code.typed, description=code.description)
    return LineResult(line, LineVerdict.UNCHANGED if new == old else LineVerdict.CHANGED, new)


def carry_out(
    plan: ImportPlan, codes: CodesRepository, progress: Progress | None = None, *, dry_run: bool = False
) -> UpsertResult:
    """Write what was planned: all of it, or nothing. Raises `ConfigurationError` when a line is refused or an
    owner was deleted meanwhile, `VersionConflict` when one of the codes is not as it was when it was planned.
    """
    if refused := plan.refused:
        message = f"line {refused[0].line}: {refused[0].reason}"
        raise ConfigurationError(message)
    return codes.upsert_many(
        plan.codes,
        may_update=plan.may_update,
        dry_run=dry_run,
        progress=progress,
        held_against=plan.held_against,
    )

"""The lines of a report as people read them, on a page, in a file or in an e-mail."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from proxy.cdr.usage_log import clock_time
from proxy.portal.texts import Texts
from proxy.store import ReportBy, ReportLine
from proxy.store.audit import masked_code

__all__ = ["FILE_COLUMNS", "named", "report_rows"]

FILE_COLUMNS = ("Description", "Calls", "Answered", "Talk Time", "Talk Time in Seconds")
"""Of a file, behind the one that says what its lines stand for."""


def named(by: ReportBy, line: ReportLine, texts: Texts, *, masked: bool) -> tuple[str, str]:
    """What a line is called for people, and what else is known of it."""
    if by is ReportBy.CODE:
        form = line.name or line.key
        return masked_code(form) if masked else form, line.description
    if not line.key:
        return texts("report.without"), ""
    if by in {ReportBy.CLASS, ReportBy.RESULT}:
        return texts.words.get(f"{by.value}.{line.key}", line.key), ""
    return line.key, line.name


def report_rows(
    by: ReportBy, lines: Iterable[ReportLine], texts: Texts, *, masked: bool
) -> Iterator[tuple[str, ...]]:
    """Give the rows of a file: its columns first."""
    yield (by.value.capitalize(), *FILE_COLUMNS)
    for line in lines:
        counts = (str(line.calls), str(line.answered), clock_time(line.talk_time), f"{line.talk_time:.0f}")
        yield (*named(by, line, texts, masked=masked), *counts)

"""The usage log as a workbook (XLSX), written row by row into a file: memory stays flat."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from datetime import datetime, time, tzinfo
from pathlib import Path

import xlsxwriter
from xlsxwriter.exceptions import XlsxWriterException
from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

from proxy.cdr.usage_log import (
    CORRECTION_COLUMNS,
    USAGE_LOG_COLUMNS,
    LocalTime,
    UsageFacts,
    correction_cells,
    usage_log_row,
)

__all__ = ["MAX_ROWS", "write_workbook"]

MAX_ROWS = 1_048_575
"""Rows that a sheet holds beside its header; what is more goes to another sheet."""

_STEP = 500
_TIMES = (1, 2, 13)
"""The columns of day, time and duration."""
_FIRST_DAY = "1900-01-01"
"""The calendar of spreadsheets begins here."""
_WIDTHS = (16, 12, 10, 16, 10, 12, 16, 10, 18, 12, 16, 10, 14, 10, 8, 16, 16, 16, 18, 30)


def write_workbook(
    path: Path,
    facts: Iterable[UsageFacts],
    *,
    zone: tzinfo,
    corrections: bool = False,
    max_rows: int = MAX_ROWS,
) -> Generator[int, None, None]:
    """Write the file while this is iterated; gives the number of rows now and then, and at the end.

    What a spreadsheet would take for a formula or a link is written as text. Raises OSError.
    """
    names = (*USAGE_LOG_COLUMNS, *(CORRECTION_COLUMNS if corrections else ()))
    options = {
        "constant_memory": True,
        "tmpdir": str(path.parent),
        "strings_to_formulas": False,
        "strings_to_urls": False,
        "strings_to_numbers": False,
    }
    book = xlsxwriter.Workbook(path, options)
    written = False
    try:
        yield from _write_sheets(book, facts, LocalTime(zone), names, max_rows, corrections=corrections)
        written = True
    finally:
        if not written:
            for sheet in book.worksheets():
                sheet.row_data_fh.close()
    try:
        book.close()
    except XlsxWriterException as error:
        raise OSError(str(error)) from error


def _write_sheets(
    book: xlsxwriter.Workbook,
    facts: Iterable[UsageFacts],
    local: LocalTime,
    names: tuple[str, ...],
    max_rows: int,
    *,
    corrections: bool,
) -> Iterator[int]:
    header = book.add_format({"bold": True, "bottom": 1})
    formats = tuple(
        book.add_format({"num_format": form}) for form in ("yyyy-mm-dd", "hh:mm:ss", "[hh]:mm:ss")
    )
    sheet, count, line = _new_sheet(book, names, header), 0, 1
    for fact in facts:
        if line > max_rows:
            sheet, line = _new_sheet(book, names, header), 1
        # A cell of text needs no apostrophe to stay text.
        cells = usage_log_row(fact, local, neutral=False)
        if corrections:
            cells += correction_cells(fact, local, neutral=False)
        for column, cell in enumerate(cells):
            if cell and column not in _TIMES:
                sheet.write_string(line, column, cell)
        _write_times(sheet, line, cells, fact.talk_time, formats)
        line += 1
        count += 1
        if count % _STEP == 0:
            yield count
    yield count


def _write_times(
    sheet: Worksheet, line: int, cells: tuple[str, ...], talk_time: float, formats: tuple[Format, ...]
) -> None:
    """Days and times as numbers, so that they can be added up."""
    dated, timed, lasting = formats
    day, clock, duration = _TIMES
    if cells[day] >= _FIRST_DAY:
        start = datetime.fromisoformat(f"{cells[day]} {cells[clock]}")
        sheet.write_datetime(line, day, datetime.combine(start, time()), dated)
        sheet.write_datetime(line, clock, start.time(), timed)
    sheet.write_number(line, duration, round(talk_time) / 86_400, lasting)


def _new_sheet(book: xlsxwriter.Workbook, names: tuple[str, ...], header: Format) -> Worksheet:
    sheet: Worksheet = book.add_worksheet()
    for column, (name, width) in enumerate(zip(names, _WIDTHS, strict=False)):
        sheet.set_column(column, column, width)
        sheet.write_string(0, column, name, header)
    sheet.freeze_panes(1, 0)
    return sheet

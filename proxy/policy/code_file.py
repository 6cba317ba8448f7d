"""The two-column CSV file of account codes (``Code``, ``Description``), read whole before it is believed.

A cell that a spreadsheet would run as a formula is written with an apostrophe before it, and read back
without, so that an export comes back in as it went out.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.errors import ConfigurationError
from proxy.policy.codes import AccountCode, new_code
from proxy.policy.number_plan import NumberPlan

if TYPE_CHECKING:
    from _csv import Reader

__all__ = [
    "MAX_LINES",
    "CodeFile",
    "LineProblem",
    "decode_csv",
    "guard_cell",
    "read_code_file",
    "unguard_cell",
    "write_code_file",
]

_HEADER = ("code", "description")
_SEPARATORS = (",", ";", "\t")
MAX_LINES = 200_000
"""Of one file: all of them are judged together, and are in memory as long as that takes."""
_FOREIGN = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"+/v", "UTF-7"),
    (b"\x1b$", "ISO-2022"),
    (b"\x84\x31\x95\x33", "GB18030"),
    (b"\xdd\x73\x66\x73", "UTF-EBCDIC"),
    (b"PK\x03\x04", "a workbook or an archive (.xlsx, .ods, .zip)"),
    (b"\xd0\xcf\x11\xe0", "an old workbook (.xls)"),
    (b"\x1f\x8b", "compressed (.gz)"),
    (b"%PDF", "PDF"),
)
"""How files begin that are something else."""
_TO_GUARD = re.compile(r"(^|;)(?=[=+\-@\t\r'])")
"""Behind a semicolon too: where that separates cells, some spreadsheets split even what is quoted."""
_IS_GUARDED = re.compile(r"(^|;)'(?=[=+\-@\t\r'])")


@dataclass(frozen=True, slots=True)
class LineProblem:
    """One bad line of a file; `str` is what the administrator reads."""

    line: int
    """Counted from 1; the header is line 1."""
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


@dataclass(frozen=True, slots=True)
class CodeFile:
    """What a file holds. Codes are worth taking only when there is no problem."""

    codes: tuple[AccountCode, ...]
    lines: tuple[int, ...]
    """The line of each code."""
    problems: tuple[LineProblem, ...]


def decode_csv(data: bytes) -> str:
    """Return the text of a CSV file: UTF-8 with or without byte order mark, UTF-16 with one, or Windows-1252,
    which is what older spreadsheets write.

    Raises ConfigurationError for anything else, by name where its first bytes tell, and for NUL characters.
    """
    for start, kind in _FOREIGN:
        if data.startswith(start):
            message = f"the file is {kind}, not CSV; save it as CSV UTF-8"
            raise ConfigurationError(message)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = _decode(data, "utf-16", "UTF-16")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = _decode(data, "cp1252", "UTF-8, UTF-16 or Windows-1252")
    if "\0" in text:
        message = f"line {text.count(chr(10), 0, text.index(chr(0))) + 1}: the file holds NUL characters"
        raise ConfigurationError(message)
    return text


def _decode(data: bytes, encoding: str, names: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"line {line}: the file is not {names}; save it as CSV UTF-8"
        raise ConfigurationError(message) from None


def read_code_file(text: str, plan: NumberPlan) -> CodeFile:
    """Return the codes of a file, every bad line named with its reason.

    Raises ConfigurationError when the header row is not ``Code`` and ``Description`` (any case, any order),
    and for more lines than `MAX_LINES`.
    """
    if (count := max(text.count("\n"), text.count("\r"))) > MAX_LINES:
        message = f"the file has {count} lines: at most {MAX_LINES} at once; divide it"
        raise ConfigurationError(message)
    reader, code_column = _open(text)
    codes: list[AccountCode] = []
    lines: list[int] = []
    problems: list[LineProblem] = []
    first_seen: dict[str, int] = {}
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            problems.append(LineProblem(line, f"not CSV from here on: {error}"))
            break
        if not any(row):
            continue
        try:
            code = _read_row(row, code_column, plan)
        except ConfigurationError as error:
            problems.append(LineProblem(line, str(error)))
            continue
        index = first_seen.setdefault(code.digits, len(codes))
        if index < len(codes):
            problems.append(LineProblem(line, _doubled(code, codes[index], lines[index])))
            continue
        codes.append(code)
        lines.append(line)
    return CodeFile(tuple(codes), tuple(lines), tuple(problems))


def write_code_file(codes: Iterable[AccountCode]) -> Iterator[str]:
    """Give the file's lines, header first, with their line ends."""
    buffer = io.StringIO(newline="")
    # All quoted: a spreadsheet may take another separator than the comma for one.
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL)
    rows: Iterator[tuple[str, str]] = ((code.form, code.description) for code in codes)
    writer.writerow(("Code", "Description"))
    yield _taken(buffer)
    for form, description in rows:
        writer.writerow((guard_cell(form), guard_cell(description)))
        yield _taken(buffer)


def guard_cell(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula; `unguard_cell` undoes it."""
    return _TO_GUARD.sub(r"\1'", cell)


def unguard_cell(cell: str) -> str:
    """Return what `guard_cell` was given."""
    return _IS_GUARDED.sub(r"\1", cell)


def _open(text: str) -> tuple[Reader, int]:
    """Return a reader that stands behind the header, and the column of the codes."""
    first, _, _ = text.partition("\n")
    separator = max(_SEPARATORS, key=first.count)
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True
    )
    try:
        written = [cell.strip() for cell in next(reader, [])]
    except csv.Error as error:
        message = f"line 1: not CSV: {error}"
        raise ConfigurationError(message) from None
    header = [cell.lower() for cell in written]
    if sorted(header) != sorted(_HEADER):
        found = ", ".join(written)[:80] or "nothing"
        missing = " and ".join(name.capitalize() for name in _HEADER if name not in header)
        message = f"line 1: the header row must be Code and Description; found: {found}"
        if missing:
            message += f" ({missing} missing)"
        raise ConfigurationError(message)
    return reader, header.index("code")


def _read_row(row: list[str], code_column: int, plan: NumberPlan) -> AccountCode:
    if len(row) != 2:
        message = f"{len(row)} cell(s) instead of 2 (a separator within a cell needs quotes around the cell)"
        raise ConfigurationError(message)
    return new_code(unguard_cell(row[code_column]), unguard_cell(row[1 - code_column]), plan=plan)


def _doubled(code: AccountCode, other: AccountCode, line: int) -> str:
    if code.form == other.form:
        return f"code {code.form} stands on line {line} already"
    return f"codes {code.form} and {other.form} (line {line}) both dial {code.digits}"


def _taken(buffer: io.StringIO) -> str:
    line = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return line

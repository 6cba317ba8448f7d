"""The CSV file of account codes: header, bad lines by name, formulas, and the round trip."""

from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ConfigurationError
from proxy.policy import AccountCode, NumberPlan
from proxy.policy.code_file import (
    MAX_LINES,
    decode_csv,
    guard_cell,
    read_code_file,
    unguard_cell,
    write_code_file,
)

PLAN = NumberPlan("US")


def pairs(text: str) -> list[tuple[str, str]]:
    found = read_code_file(text, PLAN)
    assert found.problems == ()
    return [(code.form, code.description) for code in found.codes]


@pytest.mark.parametrize(
    "text",
    [
        "Code,Description\n1234,Client\n",
        "code,description\r\n1234,Client\r\n",
        "DESCRIPTION,CODE\nClient,1234",
        '"Code", Description \n"1234", "Client"\n',
        "Code;Description\n1234;Client\n",
        "Code\tDescription\n1234\tClient\n",
        "Code,Description\n\n1234,Client\n,\n\n",
    ],
)
def test_header_in_any_case_and_order_and_the_usual_separators(text: str) -> None:
    assert pairs(text) == [("1234", "Client")]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "nothing (Code and Description missing)"),
        ("1234,Client\n", "1234, Client (Code and Description missing)"),
        ("CODE\n1234\n", "CODE (Description missing)"),
        ("Text,Description\n", "Text, Description (Code missing)"),
        ("Code,Description,Extra\n", "Code, Description, Extra"),
        ("Code,Code\n", "Code, Code (Description missing)"),
    ],
)
def test_other_header_is_refused(text: str, found: str) -> None:
    with pytest.raises(ConfigurationError, match=f"found: {re.escape(found)}$"):
        read_code_file(text, PLAN)


def test_header_that_is_no_csv_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="line 1: not CSV"):
        read_code_file('"Code,Description', PLAN)


def test_every_bad_line_is_named_with_its_reason() -> None:
    text = (
        "Code,Description\n1234,a\n12#4,b\n1-234,c\n1234,d\n911,e\n5678\n1,2,3\n"
        f'{"1" * 21},f\n,nothing\n77,"two\nlines"\n88,ok\n'
    )
    found = read_code_file(text, PLAN)
    assert [str(problem) for problem in found.problems] == [
        "line 3: code holds '#': while a code is entered, # ends it and * clears it",
        "line 4: codes 1-234 and 1234 (line 2) both dial 1234",
        "line 5: code 1234 stands on line 2 already",
        "line 6: code dials 911, an emergency number: at the prompt that places the emergency call",
        "line 7: 1 cell(s) instead of 2 (a separator within a cell needs quotes around the cell)",
        "line 8: 3 cell(s) instead of 2 (a separator within a cell needs quotes around the cell)",
        "line 9: code dials 21 digits: at most 20 are allowed",
        "line 10: code is empty: write 1 to 20 digits or letters",
        "line 11: description holds control characters (line break, TAB or such)",
    ]
    assert [code.digits for code in found.codes] == ["1234", "88"]
    assert found.lines == (2, 13)


def test_broken_quoting_ends_the_reading_with_a_problem() -> None:
    found = read_code_file('Code,Description\n1,"a" b\n2,c\n', PLAN)
    assert [problem.line for problem in found.problems] == [2]
    assert "not CSV from here on" in str(found.problems[0])


def test_cell_without_end_is_a_problem_not_an_error() -> None:
    found = read_code_file("Code,Description\n1," + "x" * 200_000, PLAN)
    assert "field larger" in str(found.problems[0])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings(encoding: str) -> None:
    assert decode_csv("Code,Description\n1,Müller".encode(encoding)) == "Code,Description\n1,Müller"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"Code,Description\n1,M\x81ller", "line 2: the file is not UTF-8, UTF-16 or Windows-1252"),
        ("Code,Description\n1,Müller".encode("utf-32"), "the file is UTF-32, not CSV"),
        (b"PK\x03\x04\x14\0", "the file is a workbook or an archive"),
        (b"\xff\xfe\x00", "line 1: the file is not UTF-16"),
        (b"Code,Description\n1,\x00", "line 2: the file holds NUL"),
    ],
)
def test_other_encodings_are_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        decode_csv(data)


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@x", "'", "'=x", "''", "\tx", "\rx"])
def test_formula_cells_are_guarded_and_come_back(cell: str) -> None:
    assert guard_cell(cell) == f"'{cell}"
    assert unguard_cell(guard_cell(cell)) == cell


@pytest.mark.parametrize(
    ("cell", "guarded"), [("A;=1+1", "A;'=1+1"), ("A;'=1", "A;''=1"), ("=1;-2", "'=1;'-2"), (";;@x", ";;'@x")]
)
def test_formulas_behind_a_semicolon_are_guarded_and_come_back(cell: str, guarded: str) -> None:
    assert guard_cell(cell) == guarded
    assert unguard_cell(guarded) == cell


def test_every_cell_is_quoted() -> None:
    lines = list(write_code_file([AccountCode("4711", description="A")]))
    assert lines == ['"Code","Description"\r\n', '"4711","A"\r\n']


@given(st.text(";='+-@x", max_size=12))
def test_what_is_guarded_comes_back(cell: str) -> None:
    assert unguard_cell(guard_cell(cell)) == cell


@pytest.mark.parametrize("cell", ["", "1234", "a=b", "O'Neill", " =x", "a;b"])
def test_other_cells_stay(cell: str) -> None:
    assert guard_cell(cell) == cell
    assert unguard_cell(cell) == cell


def test_apostrophe_that_was_not_put_there_by_an_export_stays() -> None:
    assert unguard_cell("'tis") == "'tis"


_PRINTABLE = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=20)


@given(st.dictionaries(st.from_regex(r"[-'(]?[0-9?]{4,10}", fullmatch=True), _PRINTABLE, max_size=8))
def test_an_export_comes_back_as_it_went_out(forms: dict[str, str]) -> None:
    text = "".join(write_code_file(AccountCode("0", form, forms[form]) for form in forms))
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row)
    found = read_code_file(decode_csv(text.encode()), PLAN)
    expected: dict[str, str] = {}
    for form, description in forms.items():
        digits = form.lstrip("-'(")
        expected.setdefault(digits, description)
    assert {code.digits: code.description for code in found.codes} == expected


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_as_documented(text: str) -> None:
    for content in (text, "Code,Description\n" + text):
        try:
            read_code_file(content, PLAN)
        except ConfigurationError:
            continue


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_file_of_too_many_lines_is_refused_at_once(end: str) -> None:
    assert read_code_file("Code,Description" + end * MAX_LINES, PLAN).codes == ()
    with pytest.raises(ConfigurationError, match=r"has 200001 lines: at most 200000 at once; divide it"):
        read_code_file("Code,Description" + end * (MAX_LINES + 1), PLAN)

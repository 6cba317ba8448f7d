"""The code table against a plain dict, its precedence, and that a change costs no rebuild."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy import AccountCode, CodeTable
from proxy.policy import code_table as module


def code(digits: str, description: str = "", *, enabled: bool = True) -> AccountCode:
    return AccountCode(digits, "", description, enabled)


def test_exact_code_beats_wildcards_and_the_most_specific_wildcard_wins() -> None:
    table = CodeTable.of([code("????"), code("12??"), code("?2?4"), code("1?3?"), code("1234")])
    assert [
        found.digits for entry in ("1234", "1244", "1235", "9294", "9999") if (found := table.match(entry))
    ] == [
        "1234",
        "12??",
        "12??",
        "?2?4",
        "????",
    ]
    assert table.match("123") is None
    assert table.match("") is None


def test_both_a_code_and_its_extension_exist() -> None:
    table = CodeTable.of([code("123", "short"), code("1234", "long")])
    assert table.match("123") == code("123", "short")
    assert table.match("1234") == code("1234", "long")


def test_disabled_exact_code_still_beats_a_wildcard() -> None:
    found = CodeTable.of([code("???"), code("123", enabled=False)]).match("123")
    assert found is not None
    assert not found.enabled


def test_get_is_by_dial_form() -> None:
    table = CodeTable.of([code("12??", "any"), code("1234")])
    assert table.get("12??") == code("12??", "any")
    assert table.get("1299") is None
    assert "1234" in table
    assert "12??" in table
    assert "99" not in table


def test_apply_leaves_the_old_table_as_it_was() -> None:
    old = CodeTable.of([code("1", "a"), code("2"), code("3?")])
    new = old.apply([code("1", "b"), code("4"), code("5?")], ["2", "3?", "9", "9?"])
    assert sorted(found.digits for found in old) == ["1", "2", "3?"]
    assert sorted(found.digits for found in new) == ["1", "4", "5?"]
    assert (len(old), len(new)) == (3, 3)
    assert new.match("1") == code("1", "b")
    assert new.match("2") is None
    assert new.match("51") == code("5?")
    again = new.apply([code("2")], ["4"])
    assert (len(again), again.match("2"), again.match("4")) == (3, code("2"), None)


def test_empty_table() -> None:
    assert len(CodeTable.of()) == 0
    assert list(CodeTable.of().apply()) == []


_DIGITS = st.text("12?", min_size=1, max_size=3)
_STEP = st.tuples(st.lists(st.tuples(_DIGITS, st.booleans())), st.lists(_DIGITS))


@given(st.lists(_STEP, max_size=8), st.integers(0, 4))
def test_table_holds_what_a_dict_would(
    steps: list[tuple[list[tuple[str, bool]], list[str]]], merge_at: int
) -> None:
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setattr(module, "_MERGE_AT_LEAST", merge_at)
        model: dict[str, AccountCode] = {}
        table = CodeTable.of()
        for changed, deleted in steps:
            codes = [code(digits, enabled=enabled) for digits, enabled in changed]
            table = table.apply(codes, deleted)
            for digits in deleted:
                model.pop(digits, None)
            model.update((item.digits, item) for item in codes)
            assert {item.digits: item for item in table} == model
            assert len(table) == len(model)
            assert all(table.get(digits) == model.get(digits) for digits in ("1", "2", "12", "1?", "222"))


def test_a_change_among_many_codes_rebuilds_nothing() -> None:
    first = table = CodeTable.of(code(f"{n:06d}", "x") for n in range(10_000))
    for n in range(100):
        table = table.apply([code(f"8{n:06d}")])
    assert table._base is first._base
    assert len(table) == 10_100
    assert table.match("8000099") == code("8000099")
    assert table.match("009999") == code("009999", "x")

"""Counting what happened lately, for keys that strangers choose."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.call.tally import Tally


def test_counts_by_key_and_forgets_what_is_old() -> None:
    tally = Tally(10.0, 5)
    assert [tally.note("a", at) for at in (0.0, 1.0, 9.9)] == [1, 2, 3]
    assert tally.note("b", 9.9) == 1
    assert tally.count("a", 10.0) == 2
    assert tally.count("a", 11.0) == 1
    assert tally.count("a", 100.0) == 0
    assert tally.count("unknown", 0.0) == 0


def test_begins_anew() -> None:
    tally = Tally(10.0, 5)
    tally.note("a", 0.0)
    tally.forget("a")
    tally.forget("never seen")
    assert tally.note("a", 0.0) == 1


def test_counts_keys_that_are_not_over() -> None:
    tally = Tally(10.0, 5)
    for number in range(4):
        tally.note(str(number), float(number))
    tally.note("0", 8.0)
    assert tally.keys(9.0) == 4
    assert tally.keys(12.5) == 2  # "3" and "0"
    assert tally.count("0", 30.0) == 0
    assert tally.keys(30.0) == 0


def test_a_flood_of_keys_pushes_the_quietest_out() -> None:
    tally = Tally(1e9, 5, keys=100)
    for number in range(10_000):
        tally.note("steady", float(number))
        tally.note(f"key {number}", float(number))
    assert tally.keys(10_000.0) == 100
    assert tally.count("steady", 10_000.0) == 5


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.0, 5.0)), max_size=60))
def test_is_as_right_as_a_list_of_all_that_happened(steps: list[tuple[str, float]]) -> None:
    tally = Tally(7.0, 1_000)
    happened: list[tuple[str, float]] = []
    now = 0.0
    for key, pause in steps:
        now += pause
        happened.append((key, now))
        assert tally.note(key, now) == sum(k == key and at > now - 7.0 for k, at in happened)
        assert tally.keys(now) == len({k for k, at in happened if at > now - 7.0})

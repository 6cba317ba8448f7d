"""Numbers in disguise, the short form of `script/reliability numbers`."""

from __future__ import annotations

from reliability.numbers import disagreements


def test_20000_random_strings_are_judged_recorded_and_dialled_as_one_number() -> None:
    tried, found = disagreements(20_000, seed=20)
    assert tried == 20_000
    assert not found, found[:20]

"""Calls of every outcome, in short; `script/reliability soak` goes on for hours, `unfinished` for 10,000."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from reliability.mixed_calls import UNFINISHED_KINDS, WHOLE_KINDS
from reliability.soak import Load, Soaked, soak
from reliability.unfinished import unfinished

AT_ONCE = ("calls", "port_pairs", "dialogs", "faults")
"""Transactions outlive an INVITE that was refused by 32 s (RFC 3261 §17.1.1.2, Timer D)."""


def _assert_nothing_lost_and_nothing_left(soaked: Soaked) -> None:
    assert (soaked.missing, soaked.surplus) == (0, 0)
    assert not +soaked.outcomes.wrong
    assert (soaked.left, soaked.ports, soaked.growth) == ({}, [], "")


async def test_calls_of_every_outcome_have_one_record_each_and_leave_nothing(tmp_path: Path) -> None:
    # Who types several entries needs longer than all others together.
    kinds = [
        replace(kind, weight=1, hold=min(kind.hold, 0.2)) for kind in WHOLE_KINDS if len(kind.entries) < 2
    ]
    load = Load(calls=20, rate=10.0, kinds=kinds, counted=AT_ONCE)
    soaked = await soak(tmp_path, load)
    assert set(soaked.outcomes.ended) == {kind.name for kind in kinds}
    assert soaked.outcomes.registrations
    _assert_nothing_lost_and_nothing_left(soaked)


async def test_200_invites_that_end_in_every_state_leave_every_port_free(tmp_path: Path) -> None:
    soaked = await soak(tmp_path, replace(unfinished(200, 40.0), counted=AT_ONCE))
    assert set(soaked.outcomes.ended) == {kind.name for kind in UNFINISHED_KINDS}
    _assert_nothing_lost_and_nothing_left(soaked)

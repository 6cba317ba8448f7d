"""A gate that is killed without warning, in short; `script/reliability kills` does it a thousand times."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from reliability.kills import disk_waits, kill_often


async def test_no_answered_call_is_lost_or_twice_and_ends_are_right_after_kill_9(tmp_path: Path) -> None:
    # As with the usual settings, but shorter: a heartbeat every 0.5 s, and two seconds of grace.
    damage = await kill_often(
        tmp_path,
        Random(18),
        kills=2,
        lives=(1.0, 1.5),
        silence=4.0,
        settings="timers.checkpoint_interval = 0.5",
    )
    assert damage.answered > 10
    assert damage.interrupted
    assert (damage.lost, damage.double) == ([], [])
    assert damage.end_time_error <= 2.5


def test_records_that_wait_for_the_disk_share_its_syncs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs: list[int] = []
    sync: Callable[[int], None] = os.fdatasync

    def counted(descriptor: int) -> None:
        syncs.append(descriptor)
        sync(descriptor)

    monkeypatch.setattr(os, "fdatasync", counted)
    waited = disk_waits(tmp_path, rate=1_000.0, seconds=1.0)
    assert len(waited) > 500
    # At least 8 ms lie between two: what comes meanwhile goes together.
    assert len(syncs) < len(waited) / 2

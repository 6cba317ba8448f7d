"""A wall clock that jumps while calls are up: how long they lasted is not asked of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from proxy import server
from tests.net.waiting import PATIENCE, until
from tests.server.house import House

STEP = timedelta(hours=1)


class JumpingClock:
    """The site's clock, which somebody sets."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.offset


@pytest.mark.parametrize("steps", [(STEP,), (-STEP,), (STEP, -2 * STEP)], ids=["ahead", "back", "both"])
async def test_durations_are_right_whatever_the_wall_clock_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: tuple[timedelta, ...]
) -> None:
    clock = JumpingClock()
    monkeypatch.setattr(server, "LocalClock", lambda: clock)
    house = House(tmp_path)
    await house.open()
    began = clock()
    call = await house.talk()
    for step in steps:
        clock.offset += step
    house.phone.hang_up(call)
    (record,) = await house.records()
    await until(lambda: house.gate.core.idle)
    # As long as waiting for it took at most, and an hour neither more nor less.
    assert 0 < record.talk_time <= record.ended_after < 2 * PATIENCE
    assert abs(record.start_time - began.timestamp()) < PATIENCE
    # The next call starts when the clock says now.
    house.phone.hang_up(await house.talk())
    _, second = await house.records(2)
    if sum(steps, timedelta()) > timedelta():
        assert second.start_time - record.start_time > STEP.total_seconds() - PATIENCE
    await house.close()

"""A stranger who sprays every media port of a gate with calls: what it hears, and how long a BYE waits."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from reliability._sprayer import Sprayed
from reliability.figures import Figure
from reliability.gate import ROOT, GateProcess
from reliability.traffic import Callee, Caller, place_calls
from tests.net.waiting import happens

__all__ = ["BYE_SECONDS", "hung_up_under_spray", "spraying"]

BYE_SECONDS = 0.2
"""A BYE is answered within that time."""
SECONDS, RATE, HOLD = 60.0, 10.0, 0.5
NUMBER = "4155550123"


@asynccontextmanager
async def spraying(ports: str) -> AsyncIterator[Sprayed]:
    """Spray these ports ("20000-20199"); what was sent and heard is known at the end."""
    done = Sprayed()
    sprayer = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "reliability._sprayer", *ports.split("-"),
        cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert sprayer.stdin is not None
    assert sprayer.stdout is not None
    try:
        assert await sprayer.stdout.readline()
        yield done
    finally:
        sprayer.stdin.close()
        said, _ = await sprayer.communicate()
        vars(done).update(json.loads(said))


@dataclass
class HungUp:
    """What became of calls under a spray."""

    sprayed: Sprayed = field(default_factory=Sprayed)
    calls: int = 0
    waits: list[float] = field(default_factory=list)
    """Seconds from each BYE to its answer, in order of length."""


async def hung_up_under_spray(folder: Path, *, seconds: float, rate: float = RATE) -> HungUp:
    """Place calls through a gate that is sprayed from before the first to after the last of them."""
    async with (
        Callee() as callee,
        GateProcess(folder, callee.port) as gate,
        Caller(gate.port) as caller,
        spraying(gate.media_ports) as sprayed,
    ):
        calls = await place_calls(caller, Random(15), rate=rate, seconds=seconds, number=NUMBER, hold=HOLD)
        for call in calls:
            await happens(call.over)
        await gate.rests()
    waits = sorted(call.ended_at - call.hung_up_at for call in calls if call.ended_at)
    return HungUp(sprayed, len(calls), waits)


def run(seconds: float | None = None) -> list[Figure]:
    """Spray for a minute, or so long."""
    seconds = seconds or SECONDS
    with tempfile.TemporaryDirectory(prefix="tollgate-spray-") as folder:
        found = asyncio.run(hung_up_under_spray(Path(folder), seconds=seconds))
    p95, worst = found.waits[int(len(found.waits) * 0.95)], found.waits[-1]
    what = f"{found.sprayed.sent / seconds:,.0f} packets/s at all ports, {found.calls} calls"
    return [
        Figure(
            15, f"{what}: packets to the stranger", "0", str(found.sprayed.heard), not found.sprayed.heard
        ),
        Figure(
            15, f"{what}: BYEs that were answered", "all", str(len(found.waits)),
            len(found.waits) == found.calls,
        ),
        Figure(
            15, f"{what}: answer to a BYE, p95 and worst", f"{1000 * BYE_SECONDS:.0f} ms",
            f"{1000 * p95:.1f} ms, {1000 * worst:.1f} ms", worst <= BYE_SECONDS,
        ),
    ]  # fmt: skip

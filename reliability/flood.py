"""A flood of unauthenticated requests, from one source and from many, with good calls beside it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from reliability._flooder import Flooded
from reliability.figures import Figure
from reliability.gate import ROOT
from reliability.traffic import Caller, PlacedCall, place_calls
from reliability.wire import ExposedGate, exposed_gate
from tests.net.waiting import PATIENCE

__all__ = ["TIMERS", "Beside", "flooded", "many_sources"]

RATE, SECONDS = 2_000.0, 120.0
SOURCES = 1_000
CALLS_PER_SECOND, HOLD = 5.0, 1.0
WARM_UP = 20.0
"""Seconds of such calls before the flood: what they load once and keep is no work of it."""
NUMBER = "4155550123"
TIMERS = "timers.t1 = 0.1\n"
"""Transactions of 64*T1 end after 6.4 s, and memory can be judged soon after."""


@dataclass
class Beside:
    """A flood, and what the gate did beside it."""

    flood: Flooded
    delays: list[float]
    """Seconds to the final status of each call that was answered, in order."""
    failed: list[int]
    """The statuses of the others; 0: none came."""
    memory_mb: tuple[float, float, float]
    """Before, at most, and after the timers have run out."""
    lag_ms: tuple[float, float]
    """The event loop's lag of the last minute: 99th percentile and worst."""

    @property
    def p95(self) -> float:
        """The post-dial delay that 95 % of the calls did not exceed."""
        return self.delays[int(0.95 * (len(self.delays) - 1))] if self.delays else float("inf")

    @property
    def share(self) -> float:
        """Share of the calls that were answered."""
        return len(self.delays) / max(1, len(self.delays) + len(self.failed))

    @property
    def growth_mb(self) -> float:
        """How much memory the flood took."""
        return self.memory_mb[1] - self.memory_mb[0]


def many_sources(random: Random, number: int) -> list[str]:
    """Return so many loopback addresses."""
    return [f"127.{random.randint(64, 250)}.{1 + index // 250}.{1 + index % 250}" for index in range(number)]


async def flooded(
    exposed: ExposedGate, hosts: Iterable[str], *, rate: float, seconds: float, hold: float = HOLD
) -> Beside:
    """Flood a gate and place calls beside it, which talk for so many seconds on average."""
    pid = exposed.gate.process.pid
    caller = Caller(exposed.gate.port)
    await caller.start()
    calling = partial(place_calls, caller, exposed.random, rate=CALLS_PER_SECOND, number=NUMBER, hold=hold)
    for call in await calling(seconds=min(WARM_UP, seconds)):
        await asyncio.wait_for(call.over.wait(), PATIENCE)
    caller.calls.clear()
    await exposed.nothing_left()
    before = most = resident_mb(pid)
    flooder = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "reliability._flooder", str(exposed.gate.port), str(rate), str(seconds), *hosts,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    finished = asyncio.create_task(flooder.communicate())
    placing = asyncio.create_task(calling(seconds=seconds))
    while not (finished.done() and placing.done()):
        await asyncio.sleep(0.2)
        most = max(most, resident_mb(pid))
    status = await exposed.gate.status()
    calls: list[PlacedCall] = await placing
    for call in calls:
        with suppress(TimeoutError):
            await asyncio.wait_for(call.over.wait(), PATIENCE)
    await caller.close()
    await exposed.nothing_left()
    after = resident_mb(pid)
    flood = Flooded(**json.loads((await finished)[0]))
    lag = (float(str(status["loop_lag_p99_ms"])), float(str(status["loop_lag_ms"])))
    return Beside(
        flood,
        delays=sorted(call.delay for call in calls if call.answered),
        failed=[call.status for call in calls if not call.answered],
        memory_mb=(before, most, after),
        lag_ms=lag,
    )


def resident_mb(pid: int) -> float:
    """Return a process's resident memory (proc(5), statm field 2)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


# The group --------------------------------------------------------------------------------------------------


async def _measure(seconds: float) -> dict[str, Beside]:
    found = {}
    for number in (1, SOURCES):
        with tempfile.TemporaryDirectory(prefix="tollgate-flood-") as folder:
            async with exposed_gate(Path(folder), timers=TIMERS) as exposed:
                hosts = many_sources(exposed.random, number)
                source = "one source" if number == 1 else f"{number:,} sources"
                found[source] = await flooded(exposed, hosts, rate=RATE, seconds=seconds)
    return found


def _figures(source: str, found: Beside) -> list[Figure]:
    flood = found.flood
    rate = flood.sent / flood.seconds
    where = f"{rate:,.0f} requests/s for {flood.seconds:.0f} s from {source}"
    before, most, after = found.memory_mb
    p99, worst = found.lag_ms
    calls = len(found.delays) + len(found.failed)
    refused = "".join(f", {count} times {status}" for status, count in Counter(found.failed).items())
    return [
        Figure(
            5, f"{where}: calls beside it", "99 %",
            f"{found.share:.1%} of {calls}{refused}", found.share >= 0.99,
        ),
        Figure(
            5, f"{where}: post-dial delay, p95", "500 ms", f"{1000 * found.p95:.0f} ms", found.p95 <= 0.5
        ),
        Figure(
            5, f"{where}: memory", "+100 MB, back to +5 %",
            f"{before:.0f} MB, at most {most:.0f}, then {after:.0f}",
            found.growth_mb <= 100 and after <= 1.05 * before,
        ),
        Figure(
            5, f"{where}: answers to a request", "one, at most 3 times its size",
            f"{flood.answered / flood.sent:.1%} answered, {flood.repeated} twice, {flood.largest:.1f} times",
            not flood.repeated and flood.largest <= 3,
        ),
        Figure(
            6, f"{where}: lag of the event loop, p99 and worst", "20 ms, 200 ms",
            f"{p99:.0f} ms, {worst:.0f} ms", p99 <= 20 and worst <= 200,
        ),
    ]  # fmt: skip


def run(seconds: float | None = None) -> list[Figure]:
    """Flood twice, each time as long as promised or for half of ``seconds``."""
    found = asyncio.run(_measure(SECONDS if seconds is None else seconds / 2))
    return [figure for source, beside in found.items() for figure in _figures(source, beside)]

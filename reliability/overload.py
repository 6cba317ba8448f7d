"""Half to ten times the calls that the gate can carry: what it still does, and how soon others hear of it."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reliability.blaster import Blaster, Offered
from reliability.figures import Figure
from reliability.gate import GateProcess

SEARCHED = (100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 800.0)
"""Rates among which the peak is looked for."""
TIMES = (0.5, 1.0, 2.0, 5.0, 10.0)
GOODPUT_SHARE = 0.8
REFUSED_WITHIN = 0.050
WARM_UP = 2.0
"""Overload is what has stood for a second (`proxy.net.crowd`); before that calls are late."""


@contextmanager
def apart(pid: int) -> Iterator[None]:
    """Give the gate the first core and whoever calls it the last: neither takes the other's time."""
    cores = os.sched_getaffinity(0)
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {min(cores)})
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


async def offer(gate: GateProcess, blaster: Blaster, *, rate: float, seconds: float) -> Offered:
    """Offer so much and return what became of it, when the gate has come to rest."""
    offered = await asyncio.to_thread(blaster.offer, gate.port, rate=rate, seconds=seconds, warm_up=WARM_UP)
    await gate.rests()
    return offered


async def measure(folder: Path, seconds: float) -> tuple[float, list[Offered]]:
    """Return the highest goodput, and what became of each multiple of it."""
    blaster = Blaster()
    gate = GateProcess(folder, blaster.carrier_port, media_ports="20000-29999")
    await gate.start()
    await gate.listens()
    with apart(gate.process.pid):
        await offer(gate, blaster, rate=50.0, seconds=2.0)
        peak = 0.0
        for rate in SEARCHED:
            goodput = (await offer(gate, blaster, rate=rate, seconds=seconds)).goodput
            if goodput < peak:
                break
            peak = goodput
        found = [await offer(gate, blaster, rate=peak * times, seconds=seconds) for times in TIMES]
    await gate.end()
    blaster.close()
    return peak, found


def run(seconds: float | None = None) -> list[Figure]:
    """Measure each rate for a share of the time; 10 s by themselves."""
    share = 10.0 if seconds is None else seconds / (len(SEARCHED) + len(TIMES))
    with tempfile.TemporaryDirectory(prefix="tollgate-overload-") as folder:
        peak, found = asyncio.run(measure(Path(folder), share))
    figures = []
    for times, offered in zip(TIMES, found, strict=True):
        what = f"{times:g}x the peak ({peak:.0f} calls/s completed)"
        goodput = f"{offered.goodput:.0f} calls/s, {offered.goodput / peak:.0%}"
        needed = GOODPUT_SHARE * min(1.0, times)
        figures.append(
            Figure(22, f"{what}: goodput", f"{needed:.0%}", goodput, offered.goodput >= needed * peak)
        )
        if offered.declined:
            delays = sorted(offered.declined)
            p95 = delays[int(len(delays) * 0.95)]
            shown = f"p95 {p95 * 1000:.0f} ms of {len(delays)}, {offered.retry_after} with Retry-After"
            kept = p95 <= REFUSED_WITHIN and not offered.retry_after
            figures.append(Figure(22, f"{what}: 503 after", "50 ms, none with Retry-After", shown, kept))
        what_of_byes = f"{what}: BYEs without an answer"
        figures.append(
            Figure(22, what_of_byes, "0", str(offered.unanswered_byes), not offered.unanswered_byes)
        )
    return figures

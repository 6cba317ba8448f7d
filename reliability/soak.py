"""Days of traffic in hours: calls of every outcome, and what they leave of memory, descriptors and delay."""

from __future__ import annotations

import asyncio
import math
import os
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from proxy.cdr.record import CallRecord
from reliability.figures import Figure
from reliability.gate import GateProcess
from reliability.traffic import Callee, Caller

RATE = 5.0
SECONDS = 2 * 3600.0
SLOPE = 1.0
"""MB per hour, after the first tenth."""
DELAY_GROWTH = 1.1
BUSY, REFUSED, SILENT, ANSWERED, HELP = "4155550486", "4155550603", "4155550180", "4155550200", "911"
MIX = {ANSWERED: 60, BUSY: 12, REFUSED: 8, SILENT: 15, HELP: 5}
"""Of a hundred calls. Who hears nothing but ringing gives up."""


@dataclass
class Soaked:
    """What was seen, and when."""

    calls: int = 0
    answered: int = 0
    records: list[CallRecord] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)
    """Seconds and MB, every so often."""
    descriptors: tuple[int, int] = (0, 0)
    """At the start and at the end."""
    threads: tuple[int, int] = (0, 0)
    delays: list[float] = field(default_factory=list)
    """From INVITE to the answer, in order."""
    left: dict[str, object] = field(default_factory=dict)
    """What the gate's status counts when all is over, where it is not 0."""

    @property
    def slope(self) -> float:
        """MB per hour of the resident memory after the first tenth (least squares)."""
        kept = self.memory[len(self.memory) // 10 :]
        middle = sum(at for at, _ in kept) / len(kept)
        mean = sum(size for _, size in kept) / len(kept)
        spread = sum((at - middle) ** 2 for at, _ in kept)
        return 3600 * sum((at - middle) * (size - mean) for at, size in kept) / spread

    def p99(self, tenth: int) -> float:
        """Return the 99th percentile of a tenth of the delays."""
        size = len(self.delays) // 10
        part = sorted(self.delays[tenth * size : (tenth + 1) * size])
        return part[math.ceil(len(part) * 0.99) - 1]


async def soak(folder: Path, *, seconds: float, rate: float = RATE) -> Soaked:
    """Place calls of every kind for so long, and wait until the gate's timers have run out."""
    callee = Callee(ring=0.05, status_of=_status_of)
    await callee.start()
    gate = GateProcess(folder, callee.port)
    await gate.start()
    await gate.listens()
    caller = Caller(gate.port)
    await caller.start()
    soaked, random = Soaked(), Random(27)
    process = Path(f"/proc/{gate.process.pid}")
    before = _descriptors(process), _threads(process)
    began = time.monotonic()
    numbers, weights = list(MIX), list(MIX.values())
    measured = 0.0
    while (now := time.monotonic() - began) < seconds:
        if now >= measured:
            soaked.memory.append((now, _resident_mb(process)))
            measured += max(1.0, seconds / 200)
        (number,) = random.choices(numbers, weights)
        call = caller.place(number, hold=random.expovariate(1 / 2.0))
        soaked.calls += 1
        if number == SILENT:
            asyncio.get_running_loop().call_later(random.uniform(0.1, 3.0), caller.give_up, call)
        await asyncio.sleep(random.expovariate(rate))
    for call in caller.calls:
        await asyncio.wait_for(call.over.wait(), 120.0)
    soaked.delays = [call.delay for call in caller.calls if call.answered]
    soaked.answered = len(soaked.delays)
    await asyncio.sleep(40.0)  # RFC 3261's longest timers
    status = await gate.status()
    counted = ("calls", "port_pairs", "transactions", "dialogs", "faults")
    soaked.left = {name: status[name] for name in counted if status[name]}
    soaked.descriptors, soaked.threads = (before[0], _descriptors(process)), (before[1], _threads(process))
    soaked.records = await gate.settled()
    await caller.close()
    await callee.close()
    return soaked


def _status_of(number: str) -> int:
    """Return what the callee answers to a number; 180: never anything else."""
    return {BUSY[-3:]: 486, REFUSED[-3:]: 603, SILENT[-3:]: 180}.get(number[-3:], 200)


def _descriptors(process: Path) -> int:
    return len(list((process / "fd").iterdir()))


def _threads(process: Path) -> int:
    return len(list((process / "task").iterdir()))


def _resident_mb(process: Path) -> float:
    pages = int((process / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def run(seconds: float | None = None) -> list[Figure]:
    """Soak for two hours, or so long."""
    with tempfile.TemporaryDirectory(prefix="tollgate-soak-") as folder:
        soaked = asyncio.run(soak(Path(folder), seconds=seconds or SECONDS))
    recorded = Counter(record.a_call_id for record in soaked.records)
    once = len(recorded) == soaked.calls and set(recorded.values()) == {1}
    first, last = soaked.p99(0), soaked.p99(9)
    hours = (seconds or SECONDS) / 3600
    what = f"{soaked.calls} calls in {hours:.2f} h, {soaked.answered} answered"
    same = soaked.descriptors[0] == soaked.descriptors[1] and soaked.threads[0] == soaked.threads[1]
    return [
        Figure(27, f"{what}: records", "one per call", str(len(soaked.records)), once),
        Figure(
            27, "memory after the first tenth", "1 MB/h", f"{soaked.slope:.2f} MB/h", soaked.slope <= SLOPE
        ),
        Figure(
            27,
            "descriptors and threads at start and end",
            "the same",
            f"{soaked.descriptors}, {soaked.threads}",
            same,
        ),
        Figure(
            27, "calls, ports, transactions, dialogs, faults left", "none", str(soaked.left), not soaked.left
        ),
        Figure(
            27,
            "p99 of the post-dial delay, last tenth against the first",
            "1.1x",
            f"{last * 1000:.0f} ms, {first * 1000:.0f} ms",
            last <= DELAY_GROWTH * first,
        ),
    ]

"""Days of traffic in hours: calls of every outcome, and what they leave of memory, descriptors and delay."""

from __future__ import annotations

import asyncio
import math
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from uuid import UUID

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from proxy.policy import CodeCollection, NumberPlan, new_code
from proxy.settings import load_settings
from proxy.store import Store, load_snapshot
from reliability.figures import Figure
from reliability.mixed_calls import CODE, WHOLE_KINDS, Kind, MixedCallee, MixedCaller, Outcomes
from reliability.wire import HOST, ExposedGate, PhoneLine, exposed_gate
from tests.net.waiting import PATIENCE, until

__all__ = ["Load", "Soaked", "soak", "soak_here"]

RATE = 5.0
SECONDS = 2 * 3600.0
SLOPE = 1.0
"""MB per hour, after the first tenth."""
DELAY_GROWTH = 1.1
OVER_TCP = 0.2
"""The share of calls that come over TCP."""
RECONNECT = 15.0
"""Mean seconds after which whoever came over TCP or TLS connects anew."""
LONGEST_CALL = 120.0
_MANY_PORTS = "20000-29999"
_NO_LOCK = {"TOLLGATE_GUESSING__PEER_WRONG_CODES": "0"}
"""All calls come from one peer, and after 300 wrong codes it would be locked with all of its callers."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of a gate."""

    seconds: float = math.inf
    calls: float = math.inf
    """Whatever comes first ends it."""
    rate: float = RATE
    """Calls per second, at random moments."""
    kinds: Sequence[Kind] = WHOLE_KINDS
    timers: str = "timers.ring_timeout = 5\n"
    timers_out: float = 60.0
    """Seconds after the last call in which the longest timers of RFC 3261, and what they leave, run out."""
    counted: Sequence[str] = ("calls", "port_pairs", "transactions", "dialogs", "faults")
    """What the gate's status is to count none of then."""
    media_ports: str = ""
    """Not those that the tests take."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the gate is told besides its settings."""


@dataclass
class Soaked:
    """What was seen, and when."""

    outcomes: Outcomes = field(default_factory=Outcomes)
    memory: list[tuple[float, float]] = field(default_factory=list)
    """Seconds and MB, once a second."""
    before: Counter[str] = field(default_factory=Counter)
    after: Counter[str] = field(default_factory=Counter)
    """Descriptors and threads at the start and at the end, by what they are."""
    left: dict[str, object] = field(default_factory=dict)
    """What the gate's status counts when all is over, where it is not 0."""
    ports: list[int] = field(default_factory=list)
    """UDP ports that the gate has at the end and had not at the start."""
    missing: int = 0
    """Calls without a record."""
    surplus: int = 0
    """Records that are a second one, or of no call."""

    @property
    def slope(self) -> float:
        """MB per hour of the resident memory after the first tenth (least squares)."""
        kept = self.memory[len(self.memory) // 10 :]
        middle = sum(at for at, _ in kept) / len(kept)
        mean = sum(size for _, size in kept) / len(kept)
        spread = sum((at - middle) ** 2 for at, _ in kept)
        return 3600 * sum((at - middle) * (size - mean) for at, size in kept) / spread

    @property
    def growth(self) -> str:
        """What there is more or less of at the end than at the start."""
        changed = {name: self.after[name] - self.before[name] for name in self.after | self.before}
        return ", ".join(f"{number:+} {name}" for name, number in sorted(changed.items()) if number)

    def p99(self, tenth: int) -> float:
        """Return the 99th percentile of a tenth of the delays."""
        size = len(self.outcomes.delays) // 10
        part = sorted(self.outcomes.delays[tenth * size : (tenth + 1) * size])
        return part[math.ceil(len(part) * 0.99) - 1]

    def figures(self, line: int) -> list[Figure]:
        """Return what holds of every load."""
        outcomes, wrong = self.outcomes, +self.outcomes.wrong
        what = f"{outcomes.calls} calls, {outcomes.connections} connections"
        what += f", {outcomes.registrations} registrations in {self.memory[-1][0] / 3600:.2f} h"
        lost = f"{self.missing}, {self.surplus}"
        left = {**self.left, **({"ports": self.ports} if self.ports else {})}
        return [
            Figure(
                line, f"{what}: calls without a record, records without a call", "0, 0", lost, lost == "0, 0"
            ),
            Figure(
                line, "calls that ended or were recorded otherwise", "0", str(dict(wrong) or 0), not wrong
            ),
            Figure(line, "calls, ports, transactions, dialogs, faults left", "0", str(left or 0), not left),
            Figure(
                line,
                "descriptors and threads at start and end",
                "the same",
                self.growth or f"{self.before.total()}, {self.after.total()}",
                not self.growth,
            ),
        ]


async def soak(
    folder: Path, load: Load, tell: Callable[[int, float], None] = lambda _calls, _mb: None
) -> Soaked:
    """Place calls of every kind, and wait until the gate's timers have run out; ``tell`` hears how many calls
    there were and how many MB the gate holds, once a second.
    """
    soaked, random = Soaked(), Random(27)
    async with exposed_gate(
        folder,
        timers=load.timers,
        callee=MixedCallee(),
        media_ports=load.media_ports,
        environment=load.environment,
    ) as exposed:
        settings = load_settings(exposed.gate.file)
        await _ask_for_codes(exposed, settings.store.url)
        process = Path(f"/proc/{exposed.gate.process.pid}")
        soaked.before, ports = await _holdings(process), _ports(process)
        watch = asyncio.create_task(_watch(process, soaked, tell))
        phones = [
            asyncio.create_task(_register(exposed, transport, soaked.outcomes, random))
            for transport in ("TCP", "TLS")
        ]
        await _place(exposed, load, soaked.outcomes, random)
        for task in (watch, *phones):
            task.cancel()
        await asyncio.gather(watch, *phones, return_exceptions=True)
        soaked.left = await _left(exposed, load)
        soaked.after = await _holdings(process)
        soaked.ports = sorted(_ports(process) - ports)
    _compare(soaked, load.kinds, settings.store.url)
    return soaked


async def _ask_for_codes(exposed: ExposedGate, url: str) -> None:
    """Ask for a code where numbers abroad are dialled, and return when the gate does."""
    with Store(url) as store:
        (group,) = (group for group in store.groups.all() if group.name == "Open")
        store.groups.change(replace(group, collection=CodeCollection.REQUIRED))
        store.codes.add(new_code(CODE, plan=NumberPlan()))
        wanted = load_snapshot(store.database, NumberPlan()).version
    async with asyncio.timeout(PATIENCE):
        while (await exposed.gate.status())["policy_version"] != wanted:  # noqa: ASYNC110 - as in gate.py
            await asyncio.sleep(0.05)


async def _place(exposed: ExposedGate, load: Load, outcomes: Outcomes, random: Random) -> None:
    """Place all calls, and return when the last one is over."""
    loop = asyncio.get_running_loop()
    over_udp = await _caller(exposed, "UDP", random, outcomes)
    over_tcp = await _caller(exposed, "TCP", random, outcomes)
    leaving: list[asyncio.Task[None]] = []
    due = began = loop.time()
    reconnects = began + random.expovariate(1 / RECONNECT)
    while due - began < load.seconds and outcomes.calls < load.calls:
        await asyncio.sleep(max(0.0, due - loop.time()))
        if due >= reconnects:
            leaving = [task for task in leaving if not task.done()]
            leaving.append(loop.create_task(_leave(over_tcp)))
            over_tcp = await _caller(exposed, "TCP", random, outcomes)
            reconnects = due + random.expovariate(1 / RECONNECT)
        (over_tcp if random.random() < OVER_TCP else over_udp).begin(load.kinds)
        due += random.expovariate(load.rate)
    await asyncio.gather(*leaving, _leave(over_tcp), _leave(over_udp))


async def _caller(exposed: ExposedGate, transport: str, random: Random, outcomes: Outcomes) -> MixedCaller:
    caller = MixedCaller(exposed.addresses[transport][1], random, outcomes, transport=transport)
    await caller.start()
    outcomes.connections += transport != "UDP"
    return caller


async def _leave(caller: MixedCaller) -> None:
    """Close a caller's connection as soon as its calls are over."""
    await until(lambda: not caller.up, LONGEST_CALL)
    await caller.close()


async def _register(exposed: ExposedGate, transport: str, outcomes: Outcomes, random: Random) -> None:
    """Let a phone register, go without a word and come again by another connection, without end."""
    instance = UUID(int=random.getrandbits(128), version=4)
    while True:
        stream = await exposed.stream(transport, HOST)
        outcomes.connections += 1
        phone = PhoneLine(stream, transport, instance)
        leaves = time.monotonic() + random.expovariate(1 / RECONNECT)
        try:
            while True:
                status = await phone.register()
                outcomes.registrations += 1
                outcomes.wrong[f"REGISTER over {transport}: {status}"] += status != 200
                if time.monotonic() >= leaves:
                    break
                await asyncio.sleep(random.uniform(0.5, 3.0))
        finally:
            await stream.end()


async def _watch(process: Path, soaked: Soaked, tell: Callable[[int, float], None]) -> None:
    began = time.monotonic()
    while True:
        resident = _resident_mb(process)
        soaked.memory.append((time.monotonic() - began, resident))
        tell(soaked.outcomes.calls, resident)
        await asyncio.sleep(1.0)


async def _left(exposed: ExposedGate, load: Load) -> dict[str, object]:
    """Wait until the gate's status counts nothing any more, so long at most; returns what it counts then."""
    until_then = time.monotonic() + load.timers_out
    while True:
        status = await exposed.gate.status()
        left = {name: status[name] for name in load.counted if status[name]}
        if not left or time.monotonic() >= until_then:
            return left
        await asyncio.sleep(0.25)


async def _holdings(process: Path) -> Counter[str]:
    """Count what a process has open, by what it is, and its threads."""
    await asyncio.sleep(0.5)  # whoever has asked over the control socket is gone then
    held: Counter[str] = Counter()
    for target in _open(process):
        # Of a file its name without a number: the journal goes on to another segment.
        is_file = target.startswith("/")
        held[re.sub(r"\d+", "", Path(target).name) if is_file else target.partition(":[")[0]] += 1
    held["thread"] = len(list((process / "task").iterdir()))
    return held


def _ports(process: Path) -> set[int]:
    """Return the UDP ports that a process has (proc_net(5))."""
    inodes = {target[8:-1] for target in _open(process) if target.startswith("socket:")}
    lines = [line.split() for line in (process / "net/udp").read_text().splitlines()[1:]]
    return {int(line[1].partition(":")[2], 16) for line in lines if line[9] in inodes}


def _open(process: Path) -> Iterator[str]:
    """Return what its descriptors are of."""
    for descriptor in (process / "fd").iterdir():
        with suppress(FileNotFoundError):
            yield os.readlink(descriptor)


def _resident_mb(process: Path) -> float:
    pages = int((process / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _compare(soaked: Soaked, kinds: Sequence[Kind], url: str) -> None:
    """Hold the usage log against the calls that were placed."""
    due = {kind.name: kind for kind in kinds}
    without = set(soaked.outcomes.call_ids)
    with Store(url) as store:
        for record in store.usage.stream():
            if record.a_call_id not in without:
                soaked.surplus += 1
                continue
            without.remove(record.a_call_id)
            kind = due[record.a_call_id.partition(".")[0]]
            if record.disposition not in kind.dispositions:
                soaked.outcomes.wrong[f"{kind.name}: recorded as {record.disposition.value}"] += 1
    soaked.missing = len(without)


@contextmanager
def progress(load: Load) -> Iterator[Callable[[int, float], None]]:
    """Show how far a load has come and what the gate holds; gives what is to be told so."""
    columns = (
        BarColumn(),
        TextColumn("{task.completed:.0f} of about {task.total:.0f} calls, {task.fields[mb]:.1f} MB"),
        TimeElapsedColumn(),
        TextColumn("of about"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as shown:
        task = shown.add_task("calls", total=min(load.calls, load.seconds * load.rate), mb=0.0)
        yield lambda calls, mb: shown.update(task, completed=calls, mb=mb)


def soak_here(load: Load) -> Soaked:
    """Soak a gate in a folder of its own, and show how far it is."""
    with tempfile.TemporaryDirectory(prefix="tollgate-soak-") as folder, progress(load) as tell:
        return asyncio.run(soak(Path(folder), load, tell))


def run(seconds: float | None = None, *, calls: float = math.inf, rate: float = RATE) -> list[Figure]:
    """Soak for two hours, or so long, or for so many calls."""
    if seconds is None:
        seconds = SECONDS if math.isinf(calls) else math.inf
    load = Load(seconds, calls, rate, media_ports=_MANY_PORTS, environment=_NO_LOCK)
    soaked = soak_here(load)
    first, last = soaked.p99(0), soaked.p99(9)
    begin, end = soaked.memory[0][1], soaked.memory[-1][1]
    return [
        *soaked.figures(27),
        Figure(
            27,
            f"memory after the first tenth ({begin:.0f} MB at the start, {end:.0f} MB at the end)",
            f"{SLOPE:.0f} MB/h",
            f"{soaked.slope:.2f} MB/h",
            soaked.slope <= SLOPE,
        ),
        Figure(
            27,
            "p99 of the post-dial delay, last tenth against the first",
            f"{DELAY_GROWTH}x",
            f"{last * 1000:.0f} ms, {first * 1000:.0f} ms",
            last <= DELAY_GROWTH * first,
        ),
    ]

"""A host of its own whose kernel loses datagrams, with a gate, a caller and a carrier on it.

`python -m reliability._lossy LOSS CALLS RATE T1 WHO`, started within `NAMESPACE`, prints one JSON object. WHO
places the calls: "own" (this project's user agent) or "sipp" (whose T1 is always RFC 3261's). SIPp takes no
calls: its carrier gives up one whose INVITE comes again because both answers to it were lost.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

from reliability.gate import GateProcess
from reliability.traffic import Callee, Caller

__all__ = ["NAMESPACE", "Outcome", "losing"]

NAMESPACE = ("unshare", "--user", "--map-root-user", "--net", "--")
"""A network of one's own: for root, and for whoever may make user namespaces."""
HOLD = 0.5
HOST = "127.0.0.1"


@dataclass
class Outcome:
    """What came of the calls."""

    calls: int = 0
    packets: int = 0
    dropped: int = 0
    """Of those, by the kernel's own count."""
    refused: dict[str, int] = field(default_factory=dict)
    """Statuses of the calls that nobody answered, and how often each; 0: none came."""
    not_ended: int = 0
    """Answered calls whose caller had no answer to its BYE."""
    doubled: list[str] = field(default_factory=list)
    """Numbers that the carrier was called for twice."""
    without_record: list[str] = field(default_factory=list)
    """Call-IDs of answered calls."""
    two_records: list[str] = field(default_factory=list)
    left: dict[str, object] = field(default_factory=dict)
    """What the gate's status counts when all is over, where it is not 0."""

    @property
    def succeeded(self) -> float:
        """Share of the calls that were answered."""
        return 1 - sum(self.refused.values()) / self.calls


def losing(loss: float) -> str:
    """Return the shell's words that let this network lose that share of all packets over IPv4.

    By tc's classic BPF, which kernels have where netem is missing: the kernel draws a number (SKF_AD_RANDOM)
    for each packet; 2 drops it, -1 lets it pass.
    """
    drawn = 0xFFFF_F000 + 56
    limit = round(loss * 2**32)
    program = f"4,32 0 0 {drawn},53 0 1 {limit},6 0 0 4294967295,6 0 0 2"
    return (
        "ip link set lo up && tc qdisc add dev lo clsact && "
        f"tc filter add dev lo ingress protocol ip prio 1 bpf da bytecode '{program}'"
    )


def _counted() -> tuple[int, int]:
    """Return how many packets have come to this network, and how many were dropped."""
    shown = subprocess.run(
        ["tc", "-s", "-j", "qdisc", "show", "dev", "lo"], capture_output=True, text=True, check=True
    )
    (found,) = [qdisc for qdisc in json.loads(shown.stdout) if qdisc["kind"] == "clsact"]
    return found["packets"], found["drops"]


def _timers(t1: float) -> str:
    return f"timers.t1 = {t1}\ntimers.t2 = {8 * t1}\ntimers.t4 = {10 * t1}\n"


def _left(status: Mapping[str, object]) -> dict[str, object]:
    return {name: status[name] for name in ("port_pairs", "faults") if status[name]}


async def _placed(folder: Path, calls: int, rate: float, t1: float) -> Outcome:
    random = Random(25)
    async with (
        Callee(ring=t1 / 5, t1=t1) as callee,
        GateProcess(folder, callee.port, _timers(t1), media_ports="20000-29999") as gate,
        Caller(gate.port, t1=t1) as caller,
    ):
        for number in range(calls):
            caller.place(f"{4_152_000_000 + number}", hold=random.expovariate(1 / HOLD))
            await asyncio.sleep(random.expovariate(rate))
        for call in caller.calls:
            await call.over.wait()
        outcome = Outcome(calls, *_counted())
        # Whoever is not heard any more is given up after 64*T1, a transaction is kept as long behind that.
        await gate.rests(30.0 + 200 * t1)
        outcome.left = _left(await gate.status())
    records = Counter(record.a_call_id for record in gate.records())
    answered = [call for call in caller.calls if call.answered]
    outcome.refused = dict(Counter(str(call.status) for call in caller.calls if not call.answered))
    outcome.not_ended = sum(not call.ended_at for call in answered)
    outcome.doubled = [number for number, times in Counter(callee.numbers).items() if times > 1]
    outcome.without_record = [call.call_id for call in answered if not records[call.call_id]]
    outcome.two_records = [call_id for call_id, times in records.items() if times > 1]
    return outcome


async def _placed_by_sipp(folder: Path, calls: int, rate: float, t1: float) -> Outcome:
    """By SIPp's own scenario. It takes a repeated 200 to an INVITE whose ACK was lost for the answer to its
    BYE, and is gone: such a call was answered, and has its record, as one that nobody acknowledged.
    """
    async with (
        Callee(ring=t1 / 5, t1=t1) as callee,
        GateProcess(folder, callee.port, _timers(t1), media_ports="20000-29999") as gate,
    ):
        caller = await asyncio.create_subprocess_exec(
            "sipp", "-sn", "uac", f"{HOST}:{gate.port}", "-s", "4155550123", "-i", HOST, "-nostdin",
            "-m", str(calls), "-r", str(rate), "-d", str(round(1_000 * HOLD)),
            "-trace_stat", "-fd", "1", "-stf", "calls.csv",
            cwd=folder, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        await caller.wait()
        outcome = Outcome(calls, *_counted())
        await gate.rests(30.0 + 200 * t1)
        outcome.left = _left(await gate.status())
    records = gate.records()
    names, *_, last = (folder / "calls.csv").read_text().splitlines()
    failed = int(last.split(";")[names.split(";").index("FailedCall(C)")])
    times = Counter(record.a_call_id for record in records)
    outcome.refused = {"failed": failed} if failed else {}
    outcome.doubled = [f"{len(callee.numbers)} in all"] if len(callee.numbers) > calls else []
    outcome.without_record = [f"{len(times)} have one"] if len(times) < calls - failed else []
    outcome.two_records = [call_id for call_id, number in times.items() if number > 1]
    return outcome


def main() -> None:
    """Lose and place calls as the arguments say."""
    loss, calls, rate, t1 = map(float, sys.argv[1:5])
    place = {"own": _placed, "sipp": _placed_by_sipp}[sys.argv[5]]
    subprocess.run(["sh", "-c", losing(loss)], check=True)
    with tempfile.TemporaryDirectory(prefix="tollgate-loss-") as folder:
        print(json.dumps(asdict(asyncio.run(place(Path(folder), int(calls), rate, t1)))))


if __name__ == "__main__":
    main()

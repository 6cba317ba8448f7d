"""Calls through a kernel that drops datagrams at random: how many succeed, and whether any is doubled."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys

from reliability._lossy import NAMESPACE, Outcome, losing
from reliability.figures import Figure
from reliability.gate import ROOT

__all__ = ["PROMISED", "through_loss", "why_not"]

PROMISED = {0.05: 0.999, 0.20: 0.97}
"""Share of the datagrams that is lost, and of the calls that succeed all the same."""
CALLS, RATE, T1 = 5_000, 20.0, 0.5


def why_not() -> str:
    """Return why this host can't make a network that loses datagrams; "" when it can."""
    if shutil.which(NAMESPACE[0]) is None:
        return f"there is no {NAMESPACE[0]}"
    tried = subprocess.run([*NAMESPACE, "sh", "-c", losing(0.5)], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else tried.stderr.strip() or f"status {tried.returncode}"


async def through_loss(
    loss: float, *, calls: int = CALLS, rate: float = RATE, t1: float = T1, who: str = "own"
) -> Outcome:
    """Place so many calls, so many a second, on a network that loses this share of its packets; ``who`` is as
    `_lossy` has it.
    """
    host = await asyncio.create_subprocess_exec(
        *NAMESPACE, sys.executable, "-m", "reliability._lossy",
        *map(str, (loss, calls, rate, t1)), who,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, _ = await host.communicate()
    assert host.returncode == 0
    return Outcome(**json.loads(said))


def run(seconds: float | None = None) -> list[Figure]:
    """Place 5,000 calls at each loss, and 500 of SIPp's; or about as many as there is time for."""
    if reason := why_not():
        return [Figure(25, "a network that loses datagrams", "to be had", reason, kept=False)]
    calls = CALLS if seconds is None else max(10, int(seconds / 2.2 * RATE))
    return [
        figure
        for loss, promised in PROMISED.items()
        for who, number in (("own", calls), ("sipp", calls // 10))
        for figure in _figures(asyncio.run(through_loss(loss, calls=number, who=who)), who, promised)
    ]


def _figures(found: Outcome, who: str, promised: float) -> list[Figure]:
    whose = "SIPp's calls" if who == "sipp" else "calls"
    where = f"{found.calls:,} {whose}, {found.dropped / found.packets:.1%} of all packets lost"
    refused = "".join(f", {times} times {status}" for status, times in found.refused.items())
    wrong = len(found.doubled) + len(found.two_records)
    return [
        Figure(
            25, f"{where}: answered", f"{promised:.1%}",
            f"{found.succeeded:.2%}{refused}", found.succeeded >= promised,
        ),
        Figure(25, f"{where}: doubled calls and records", "0", str(wrong), not wrong),
        Figure(
            25, f"{where}: answered and without a record", "0",
            str(len(found.without_record)), not found.without_record,
        ),
        Figure(25, f"{where}: ports and faults left", "none", str(found.left), not found.left),
    ]  # fmt: skip

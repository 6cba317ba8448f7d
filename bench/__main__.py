"""The benches' one command: runs the rows, prints a table of each and keeps them as JSON."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from rich.console import Console
from rich.table import Table

from bench import calls, instructions, latency, media, policy, registrations, relay, usage

RESULTS = Path(__file__).parent / "results"

Cost = TypeVar("Cost")


@dataclass(frozen=True)
class Bench(Generic[Cost]):
    """One bench: what measures it, and what its table shows of each cost, the first column being its name."""

    title: str
    run: Callable[..., list[Cost]]
    columns: dict[str, Callable[[Cost], str]]

    def table(self, costs: list[Cost]) -> Table:
        """A row of the table per cost."""
        table = Table(title=self.title)
        for place, heading in enumerate(self.columns):
            table.add_column(heading, justify="right" if place else "left")
        for cost in costs:
            table.add_row(*(show(cost) for show in self.columns.values()))
        return table


BENCHES: dict[str, Bench[Any]] = {
    "instructions": Bench[instructions.RoomCost](
        "Signalling of a gated call, counted (driver and cores)",
        instructions.run,
        {
            "room": lambda cost: cost.room,
            "Python calls": lambda cost: f"{cost.python_calls:.0f}",
            "instructions": lambda cost: f"{cost.instructions:,.0f}" if cost.instructions else "",
        },
    ),
    "calls": Bench[calls.CallCost](
        "Calls (gate pinned to one core, SIPp on the other)",
        calls.run,
        {
            "kind": lambda cost: cost.kind,
            "calls/s": lambda cost: f"{cost.rate:.0f}",
            "calls": lambda cost: f"{cost.calls:,}",
            "failed": lambda cost: str(cost.failed),
            "CPU ms per call": lambda cost: f"{cost.cpu_ms:.2f}",
            "of it media": lambda cost: f"{cost.media_ms:.2f}",
            "gate core": lambda cost: f"{cost.gate_share:.0%}",
            "generator core": lambda cost: f"{cost.generator_share:.0%}",
            "": lambda cost: "" if cost.valid else "thrown away: the generator was full",
        },
    ),
    "latency": Bench[latency.Latency](
        "From the first end packet of # to the INVITE of the B leg",
        latency.run,
        {
            "beside": lambda cost: cost.beside,
            "calls/s": lambda cost: f"{cost.rate:.0f}",
            "calls": lambda cost: str(cost.calls),
            "mean ms": lambda cost: f"{cost.mean_ms:.2f}",
            "p50 ms": lambda cost: f"{cost.p50_ms:.2f}",
            "p99 ms": lambda cost: f"{cost.p99_ms:.2f}",
            "max ms": lambda cost: f"{cost.max_ms:.2f}",
        },
    ),
    "media": Bench[media.MediaCost](
        "Media of gated calls (core pinned to one core, phones on the other)",
        media.run,
        {
            "calls/s": lambda cost: str(cost.rate),
            "CPU us per call": lambda cost: f"{cost.media_us_per_call:.0f}",
            "received": lambda cost: f"{cost.received:.0f}",
            "sent": lambda cost: f"{cost.sent:.0f}",
            "sleeps/s": lambda cost: f"{cost.sleeps_per_second:.0f}",
            "key p50 ms": lambda cost: f"{cost.digit_p50_ms:.2f}",
            "key p99 ms": lambda cost: f"{cost.digit_p99_ms:.2f}",
        },
    ),
    "relay": Bench[relay.RelayCost](
        "Relay (engine pinned to one core, generator on the other)",
        relay.run,
        {
            "calls": lambda cost: str(cost.calls),
            "packets/s": lambda cost: f"{cost.packets_per_second:,.0f}",
            "CPU us per packet": lambda cost: f"{cost.cpu_us_per_packet:.2f}",
            "p50 us added": lambda cost: f"{cost.p50_us:.0f}",
            "p99 us added": lambda cost: f"{cost.p99_us:.0f}",
            "lost": lambda cost: str(cost.lost),
            "KB per call": lambda cost: f"{cost.memory_kb_per_call:.1f}",
        },
    ),
    "registrations": Bench[registrations.RegistrationCost](
        "Phones register (gate pinned to one core, phones on the other)",
        registrations.run,
        {
            "phones": lambda cost: str(cost.phones),
            "failed": lambda cost: str(cost.failed),
            "per second": lambda cost: f"{cost.per_second:.0f}",
            "CPU ms each": lambda cost: f"{cost.cpu_ms:.2f}",
            "generator": lambda cost: f"{cost.generator_share:.0%}",
            "MB before": lambda cost: f"{cost.empty_mb:.0f}",
            "MB with all": lambda cost: f"{cost.memory_mb:.0f}",
        },
    ),
    "policy": Bench[policy.PolicyCost](
        "A large policy",
        policy.run,
        {
            "work": lambda cost: cost.what,
            "codes": lambda cost: f"{cost.codes:,}",
            "seconds": lambda cost: f"{cost.seconds:.4f}",
        },
    ),
    "usage": Bench[usage.UsageCost](
        "A large usage log",
        usage.run,
        {
            "question": lambda cost: cost.what,
            "rows": lambda cost: f"{cost.rows:,}",
            "median ms": lambda cost: "" if cost.per_second else f"{cost.median_ms:.1f}",
            "worst ms": lambda cost: "" if cost.per_second else f"{cost.worst_ms:.1f}",
            "rows/s": lambda cost: f"{cost.per_second:,.0f}" if cost.per_second else "",
        },
    ),
}


def main() -> None:
    """Run the benches that are named, or all."""
    names = ", ".join(BENCHES)
    parser = argparse.ArgumentParser(
        prog="script/bench",
        description="Measure what calls and packets cost on this machine.",
        epilog="example: script/bench calls latency --quick",
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {names}; all when none is named")
    parser.add_argument("--quick", action="store_true", help="short runs, to see that everything works")
    options = parser.parse_args()
    if unknown := set(options.rows) - set(BENCHES):
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {names}")
    console = Console()
    result: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {platform.system()} {platform.release()}",
        "quick": options.quick,
    }
    for name, bench in BENCHES.items():
        if name in options.rows or not options.rows:
            costs = bench.run(quick=options.quick)
            result[name] = [dataclasses.asdict(cost) for cost in costs]
            console.print(bench.table(costs))
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{result['date'][:10]}.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(kept | result, indent=1) + "\n")
    console.print(f"kept in bench/results/{path.name}")


if __name__ == "__main__":
    main()

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


def _figure(name: str, spec: str = "") -> Callable[[Any], str]:
    return lambda cost: format(getattr(cost, name), spec)


BENCHES: dict[str, Bench[Any]] = {
    "instructions": Bench[instructions.RoomCost](
        "Signalling of a gated call, counted (driver and cores)",
        instructions.run,
        {
            "room": _figure("room"),
            "Python calls": _figure("python_calls", ".0f"),
            "instructions": lambda cost: f"{cost.instructions:,.0f}" if cost.instructions else "",
        },
    ),
    "calls": Bench[calls.CallCost](
        "Calls (gate pinned to one core, SIPp on the other)",
        calls.run,
        {
            "kind": _figure("kind"),
            "calls/s": _figure("rate", ".0f"),
            "calls": _figure("calls", ","),
            "failed": _figure("failed"),
            "CPU ms per call": _figure("cpu_ms", ".2f"),
            "of it media": _figure("media_ms", ".2f"),
            "gate core": _figure("gate_share", ".0%"),
            "generator core": _figure("generator_share", ".0%"),
            "": lambda cost: "" if cost.valid else "thrown away: the generator was full",
        },
    ),
    "latency": Bench[latency.Latency](
        "From the first end packet of # to the INVITE of the B leg",
        latency.run,
        {
            "beside": _figure("beside"),
            "calls/s": _figure("rate", ".0f"),
            "calls": _figure("calls"),
            "mean ms": _figure("mean_ms", ".2f"),
            "p50 ms": _figure("p50_ms", ".2f"),
            "p99 ms": _figure("p99_ms", ".2f"),
            "max ms": _figure("max_ms", ".2f"),
        },
    ),
    "media": Bench[media.MediaCost](
        "Media of gated calls (core pinned to one core, phones on the other)",
        media.run,
        {
            "calls/s": _figure("rate"),
            "CPU us per call": _figure("media_us_per_call", ".0f"),
            "received": _figure("received", ".0f"),
            "sent": _figure("sent", ".0f"),
            "sleeps/s": _figure("sleeps_per_second", ".0f"),
            "key p50 ms": _figure("digit_p50_ms", ".2f"),
            "key p99 ms": _figure("digit_p99_ms", ".2f"),
        },
    ),
    "relay": Bench[relay.RelayCost](
        "Relay (engine pinned to one core, generator on the other)",
        relay.run,
        {
            "calls": _figure("calls"),
            "packets/s": _figure("packets_per_second", ",.0f"),
            "CPU us per packet": _figure("cpu_us_per_packet", ".2f"),
            "p50 us added": _figure("p50_us", ".0f"),
            "p99 us added": _figure("p99_us", ".0f"),
            "lost": _figure("lost"),
            "KB per call": _figure("memory_kb_per_call", ".1f"),
        },
    ),
    "registrations": Bench[registrations.RegistrationCost](
        "Phones register (gate pinned to one core, phones on the other)",
        registrations.run,
        {
            "phones": _figure("phones"),
            "failed": _figure("failed"),
            "per second": _figure("per_second", ".0f"),
            "CPU ms each": _figure("cpu_ms", ".2f"),
            "generator": _figure("generator_share", ".0%"),
            "MB before": _figure("empty_mb", ".0f"),
            "MB with all": _figure("memory_mb", ".0f"),
        },
    ),
    "policy": Bench[policy.PolicyCost](
        "A large policy",
        policy.run,
        {
            "work": _figure("what"),
            "codes": _figure("codes", ","),
            "seconds": _figure("seconds", ".4f"),
        },
    ),
    "usage": Bench[usage.UsageCost](
        "A large usage log",
        usage.run,
        {
            "question": _figure("what"),
            "rows": _figure("rows", ","),
            "median ms": lambda cost: "" if cost.per_second else f"{cost.median_ms:.1f}",
            "worst ms": lambda cost: "" if cost.per_second else f"{cost.worst_ms:.1f}",
            "median CPU ms": lambda cost: "" if cost.per_second else f"{cost.cpu_ms:.1f}",
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

"""The benches' one command: runs the rows, prints a table and keeps it as JSON."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import platform
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import calls, latency, media, policy, registrations, relay, usage

RESULTS = Path(__file__).parent / "results"
ROWS = ("calls", "latency", "media", "relay", "registrations", "policy", "usage")


def main() -> None:
    """Run the rows that are named, or all."""
    parser = argparse.ArgumentParser(
        prog="script/bench",
        description="Measure what calls and packets cost on this machine.",
        epilog="example: script/bench calls latency --quick",
    )
    parser.add_argument(
        "rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all when none is named"
    )
    parser.add_argument("--quick", action="store_true", help="short runs, to see that everything works")
    options = parser.parse_args()
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    wanted = options.rows or ROWS
    console = Console()
    result: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {platform.system()} {platform.release()}",
        "quick": options.quick,
    }
    if "calls" in wanted:
        costs = calls.run(quick=options.quick)
        result["calls"] = [dataclasses.asdict(cost) for cost in costs]
        console.print(_calls_table(costs))
    if "latency" in wanted:
        delay = latency.run(quick=options.quick)
        result["latency"] = dataclasses.asdict(delay)
        console.print(_latency_table(delay))
    if "media" in wanted:
        threads = media.run(quick=options.quick)
        result["media"] = [dataclasses.asdict(row) for row in threads]
        console.print(_media_table(threads))
    if "relay" in wanted:
        relayed = relay.run(quick=options.quick)
        result["relay"] = [dataclasses.asdict(row) for row in relayed]
        console.print(_relay_table(relayed))
    if "registrations" in wanted:
        phones = registrations.run(quick=options.quick)
        result["registrations"] = dataclasses.asdict(phones)
        console.print(_registrations_table(phones))
    if "policy" in wanted:
        large = policy.run(quick=options.quick)
        result["policy"] = [dataclasses.asdict(cost) for cost in large]
        console.print(_policy_table(large))
    if "usage" in wanted:
        log = usage.run(quick=options.quick)
        result["usage"] = [dataclasses.asdict(cost) for cost in log]
        console.print(_usage_table(log))
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{result['date'][:10]}.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(kept | result, indent=1) + "\n")
    console.print(f"kept in bench/results/{path.name}")


def _registrations_table(cost: registrations.RegistrationCost) -> Table:
    table = Table(title="Phones register (gate pinned to one core, phones on the other)")
    for heading in ("phones", "failed", "per second", "CPU ms each", "generator", "MB before", "MB with all"):
        table.add_column(heading, justify="right")
    table.add_row(
        str(cost.phones),
        str(cost.failed),
        f"{cost.per_second:.0f}",
        f"{cost.cpu_ms:.2f}",
        f"{cost.generator_share:.0%}",
        f"{cost.empty_mb:.0f}",
        f"{cost.memory_mb:.0f}",
    )
    return table


def _policy_table(rows: list[policy.PolicyCost]) -> Table:
    table = Table(title="A large policy")
    for heading in ("work", "codes", "seconds"):
        table.add_column(heading, justify="left" if heading == "work" else "right")
    for row in rows:
        table.add_row(row.what, f"{row.codes:,}", f"{row.seconds:.4f}")
    return table


def _usage_table(rows: list[usage.UsageCost]) -> Table:
    table = Table(title="A large usage log")
    for heading in ("question", "rows", "median ms", "worst ms", "rows/s"):
        table.add_column(heading, justify="left" if heading == "question" else "right")
    for row in rows:
        times = ("", "", f"{row.per_second:,.0f}")
        if not row.per_second:
            times = (f"{row.median_ms:.1f}", f"{row.worst_ms:.1f}", "")
        table.add_row(row.what, f"{row.rows:,}", *times)
    return table


def _calls_table(rows: list[calls.CallCost]) -> Table:
    table = Table(title="Calls (gate pinned to one core, SIPp on the other)")
    for heading in (
        "kind",
        "calls/s",
        "calls",
        "failed",
        "CPU ms per call",
        "of it media",
        "gate core",
        "generator core",
        "",
    ):
        table.add_column(heading, justify="left" if heading == "kind" else "right")
    for row in rows:
        table.add_row(
            row.kind,
            f"{row.rate:.0f}",
            f"{row.calls:,}",
            str(row.failed),
            f"{row.cpu_ms:.2f}",
            f"{row.media_ms:.2f}",
            f"{row.gate_share:.0%}",
            f"{row.generator_share:.0%}",
            "" if row.valid else "thrown away: the generator was full",
        )
    return table


def _latency_table(delay: latency.Latency) -> Table:
    table = Table(title="From the first end packet of # to the INVITE of the B leg")
    for heading in ("calls/s", "calls", "mean ms", "p50 ms", "p99 ms", "max ms"):
        table.add_column(heading, justify="right")
    table.add_row(
        f"{delay.rate:.0f}",
        str(delay.calls),
        *(f"{value:.2f}" for value in (delay.mean_ms, delay.p50_ms, delay.p99_ms, delay.max_ms)),
    )
    return table


def _media_table(rows: list[media.MediaCost]) -> Table:
    table = Table(title="Media of gated calls (core pinned to one core, phones on the other)")
    for heading in ("calls/s", "CPU us per call", "received", "sent", "sleeps/s", "key p50 ms", "key p99 ms"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            str(row.rate),
            f"{row.media_us_per_call:.0f}",
            f"{row.received:.0f}",
            f"{row.sent:.0f}",
            f"{row.sleeps_per_second:.0f}",
            f"{row.digit_p50_ms:.2f}",
            f"{row.digit_p99_ms:.2f}",
        )
    return table


def _relay_table(rows: list[relay.RelayCost]) -> Table:
    table = Table(title="Relay (engine pinned to one core, generator on the other)")
    headings = (
        "calls",
        "packets/s",
        "CPU us per packet",
        "p50 us added",
        "p99 us added",
        "lost",
        "KB per call",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            str(row.calls),
            f"{row.packets_per_second:,.0f}",
            f"{row.cpu_us_per_packet:.2f}",
            f"{row.p50_us:.0f}",
            f"{row.p99_us:.0f}",
            str(row.lost),
            f"{row.memory_kb_per_call:.1f}",
        )
    return table


if __name__ == "__main__":
    main()

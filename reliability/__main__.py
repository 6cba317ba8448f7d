"""The command of the long tests: runs groups by name, prints a table of each, keeps the figures as JSON."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib
import json
import pkgutil
import platform
import sys
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.table import Table

import reliability
from reliability.figures import Figure, Group

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"


def groups() -> dict[str, Group]:
    """Return the groups by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(reliability.__path__))
    found = {
        name: importlib.import_module(f"reliability.{name}")
        for name in names
        if not name.startswith("_") and name != "figures"
    }
    return {name: cast("Group", module) for name, module in found.items() if hasattr(module, "run")}


def table(name: str, group: Group, figures: list[Figure]) -> Table:
    """Return the figures of a group as they are printed."""
    shown = Table(title=f"{name}: {(group.__doc__ or '').splitlines()[0]}")
    for heading in ("line", "what", "promised", "measured", ""):
        shown.add_column(heading)
    for figure in figures:
        verdict = "kept" if figure.kept else "[bold red]missed"
        shown.add_row(str(figure.line), figure.what, figure.promised, figure.measured, verdict)
    return shown


def main() -> None:
    """Run the groups that are named, or all; the status is 1 when a promise was not kept."""
    known = groups()
    parser = argparse.ArgumentParser(
        prog="script/reliability",
        description="Hold the promises of docs/reliability.md against this machine; may take hours.",
        epilog="examples: script/reliability kills --seconds 300; "
        "script/reliability soak --calls 1000000 --rate 100",
    )
    parser.add_argument(
        "groups", nargs="*", metavar="GROUP", help=f"of {', '.join(known)}; all when none is named"
    )
    parser.add_argument(
        "--seconds", type=float, metavar="N", help="about so long per group, instead of its own time"
    )
    parser.add_argument("--calls", type=float, metavar="N", help="soak only: end after so many calls")
    parser.add_argument("--rate", type=float, metavar="N", help="soak only: so many calls per second")
    options = parser.parse_args()
    bounds = {name: value for name in ("calls", "rate") if (value := getattr(options, name)) is not None}
    if bounds and options.groups != ["soak"]:
        parser.error("--calls and --rate are for the soak alone")
    if unknown := set(options.groups) - set(known):
        parser.error(f"no such group: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    console = Console()
    kept = True
    for name in options.groups or known:
        figures = known[name].run(options.seconds, **bounds)
        console.print(table(name, known[name], figures))
        _keep(name, figures, options.seconds)
        kept = kept and all(figure.kept for figure in figures)
    console.print(f"kept in {RESULTS.relative_to(FOLDER.parent)}")
    sys.exit(0 if kept else 1)


def _keep(name: str, figures: list[Figure], seconds: float | None) -> None:
    """Write a group's figures at once: a group that breaks later takes none with it."""
    now = datetime.datetime.now(datetime.UTC)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{now.date()}.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    results[name] = {
        "at": now.isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {platform.system()} {platform.release()}",
        "seconds": seconds,
        "figures": [dataclasses.asdict(figure) for figure in figures],
    }
    path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

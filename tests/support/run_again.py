"""Tests of real phones that failed while others had the machine are run again, and said to be
(docs/decisions/0007).

Who takes part is known by the marker ``system``. On a machine that is all there nothing happens here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

__all__ = ["LOST", "Reading", "RunAgain", "read_machine"]

ENOUGH = 0.05
"""Share of the machine that others may take before a failure is doubted. What they take comes in pieces: a
twentieth of a second in each is more than a phone's jitter buffer makes up for."""
RUNS = 3
TIME_LIMIT = 600.0
"""Seconds for all runs of one test: what is waited for within has limits of its own."""

LOST = pytest.StashKey[float]()
"""The share lost while a test's work was done, when that was not while the test itself ran."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Clock ticks since the machine started, of all its processors."""

    total: int
    taken: int
    """Neither idle nor spent on these tests: stolen by the hypervisor, or used by other processes."""

    def lost_until(self, later: Reading) -> float:
        """Return the share of the machine that others took between two readings."""
        return max(0, later.taken - self.taken) / max(1, later.total - self.total)


def read_machine(proc: Path = Path("/proc"), pid: int = os.getpid()) -> Reading:
    """Read proc(5): what the processors did, and what this process and its descendants had of them."""
    line = (proc / "stat").read_text().partition("\n")[0]
    user, nice, system, idle, waiting, hard, soft, stolen, *_ = map(int, line.split()[1:])
    busy = user + nice + system + stolen
    return Reading(busy + idle + waiting + hard + soft, busy - _ticks_of_family(proc, pid))


def _ticks_of_family(proc: Path, pid: int) -> int:
    ticks: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    for process, parent, used in _processes(proc):
        ticks[process] = used
        children.setdefault(parent, []).append(process)
    family = [pid]
    for member in family:
        family += children.get(member, [])
    return sum(ticks.get(member, 0) for member in family)


def _processes(proc: Path) -> Iterator[tuple[int, int, int]]:
    """Yield each process, its parent, and the ticks of it and of the children that it has waited for."""
    for file in proc.glob("[0-9]*/stat"):
        try:
            facts = file.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        yield int(file.parent.name), int(facts[1]), sum(map(int, facts[11:15]))


class RunAgain:
    """The plugin."""

    def __init__(self, read: Callable[[], Reading] = read_machine) -> None:
        self._read = read
        self._doubted: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Let the time that one test may take be enough for all its runs."""
        for item in items:
            if _is_doubted(item) and item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(TIME_LIMIT))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run one test, again where its failure may be the machine's."""
        if not _is_doubted(item):
            return None
        where = item.nodeid
        item.ihook.pytest_runtest_logstart(nodeid=where, location=item.location)
        reports = self._reports(item, nextitem)
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=where, location=item.location)
        return True

    def _reports(self, item: pytest.Item, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
        for run in range(1, RUNS):
            before = self._read()
            reports = runtestprotocol(item, log=False, nextitem=nextitem)
            lost = item.stash.get(LOST, before.lost_until(self._read()))
            failures = [report for report in reports if report.failed]
            if not failures or lost < ENOUGH:
                return reports
            self._doubted.append(f"{item.nodeid} (run {run}, {lost:.0%} lost): {_reason(failures[0])}")
            if failures[0].when == "setup":
                # What a fixture of the module raised is kept for all its tests: so all are made anew.
                item.session._setupstate.teardown_exact(None)
        return runtestprotocol(item, log=False, nextitem=nextitem)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Tell whoever gave this worker its tests."""
        if (told := getattr(session.config, "workeroutput", None)) is not None:
            told["doubted"] = self._doubted

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Hear it from a worker, unless that has crashed."""
        self._doubted += getattr(node, "workeroutput", {}).get("doubted", [])

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name each failure that did not count, and the share of the machine that was lost meanwhile."""
        if self._doubted:
            terminalreporter.section("run again: others had the machine")
            for line in self._doubted:
                terminalreporter.write_line(line)


def _is_doubted(item: pytest.Item) -> bool:
    return item.get_closest_marker("system") is not None


def _reason(report: pytest.TestReport) -> str:
    lines = report.longreprtext.splitlines()
    return next((line[1:].strip() for line in lines if line.startswith("E ")), lines[-1] if lines else "")

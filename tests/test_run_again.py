"""Which failures are doubted: those of real phones, while others had the machine; twice, and told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.run_again import Reading, RunAgain, read_machine

pytest_plugins = ["pytester"]

FAILS_TWICE = """
    import pathlib, pytest
    @pytest.mark.system
    def test_call(gate):
        runs = pathlib.Path("runs")
        runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
        assert len(runs.read_text()) > 2, "not heard"
    @pytest.fixture
    def gate():
        yield
        with open("closed", "a") as file:
            file.write("x")
"""


class Machine:
    """A machine of which each test loses this share."""

    def __init__(self, lost: int) -> None:
        self.lost = lost
        self.readings = 0

    def __call__(self) -> Reading:
        self.readings += 1
        return Reading(1000 * self.readings, 10 * self.lost * self.readings)


def outcome(pytester: pytest.Pytester, text: str, lost: int) -> pytest.RunResult:
    pytester.makeini("[pytest]\nmarkers = system: real phones\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile(text)
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", plugins=[RunAgain(Machine(lost))])


def runs(pytester: pytest.Pytester) -> tuple[int, int]:
    return len((pytester.path / "runs").read_text()), len((pytester.path / "closed").read_text())


def test_a_failure_while_others_had_the_machine_is_doubted_twice_and_told(pytester: pytest.Pytester) -> None:
    result = outcome(pytester, FAILS_TWICE, lost=40)
    result.assert_outcomes(passed=1)
    assert runs(pytester) == (3, 3), "each run with fixtures of its own"
    result.stdout.fnmatch_lines(
        [
            "*run again: others had the machine*",
            "*::test_call (run 1, 40% lost): *",
            "*::test_call (run 2, 40% lost): *",
        ]
    )


def test_a_failure_on_a_machine_that_is_all_there_fails_at_once(pytester: pytest.Pytester) -> None:
    result = outcome(pytester, FAILS_TWICE, lost=1)
    result.assert_outcomes(failed=1)
    assert runs(pytester) == (1, 1)
    result.stdout.no_fnmatch_line("*run again*")


def test_the_third_failure_counts(pytester: pytest.Pytester) -> None:
    result = outcome(pytester, FAILS_TWICE.replace("> 2", "> 3"), lost=40)
    result.assert_outcomes(failed=1)
    assert runs(pytester) == (3, 3)


def test_a_failure_of_any_other_test_counts_whatever_the_machine_does(pytester: pytest.Pytester) -> None:
    result = outcome(pytester, FAILS_TWICE.replace("@pytest.mark.system", ""), lost=90)
    result.assert_outcomes(failed=1)
    assert runs(pytester) == (1, 1)


def test_a_fixture_of_the_module_lives_on(pytester: pytest.Pytester) -> None:
    text = FAILS_TWICE.replace("@pytest.fixture", '@pytest.fixture(scope="module")')
    text += "    @pytest.mark.system\n    def test_next(gate): pass\n"
    outcome(pytester, text, lost=40).assert_outcomes(passed=2)
    assert runs(pytester) == (3, 1)


def test_a_fixture_of_the_module_that_failed_is_made_anew(pytester: pytest.Pytester) -> None:
    text = """
    import pathlib, pytest
    @pytest.fixture(scope="module")
    def gate():
        runs = pathlib.Path("runs")
        runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
        assert len(runs.read_text()) > 1, "no port is free"
    @pytest.mark.system
    def test_call(gate): pass
    @pytest.mark.system
    def test_next(gate): pass
    """
    result = outcome(pytester, text, lost=40)
    result.assert_outcomes(passed=2)
    assert (pytester.path / "runs").read_text() == "xx"
    result.stdout.fnmatch_lines(["*::test_call (run 1, 40% lost): AssertionError: no port is free"])


def test_what_a_test_says_was_lost_for_it_counts(pytester: pytest.Pytester) -> None:
    text = "    from tests.support.run_again import LOST\n" + FAILS_TWICE.replace(
        "test_call(gate):", "test_call(gate, request):\n        request.node.stash[LOST] = 0.0"
    )
    outcome(pytester, text, lost=40).assert_outcomes(failed=1)
    assert runs(pytester) == (1, 1)


def test_passing_tests_are_run_once(pytester: pytest.Pytester) -> None:
    outcome(pytester, FAILS_TWICE.replace("> 2", "> 0"), lost=90).assert_outcomes(passed=1)
    assert runs(pytester) == (1, 1)


def process(proc: Path, pid: int, parent: int, *ticks: int) -> None:
    (proc / str(pid)).mkdir(exist_ok=True)
    times = " ".join(map(str, ticks))
    (proc / str(pid) / "stat").write_text(f"{pid} (a (b) c) S {parent} 1 1 0 -1 0 0 0 0 0 {times} 20 0 1")


def test_taken_is_what_neither_these_tests_had_nor_anybody(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  1000 10 500 8000 100 5 5 200 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n")
    process(tmp_path, 10, 1, 100, 50, 30, 20)
    process(tmp_path, 11, 10, 10, 10, 0, 0)
    process(tmp_path, 12, 11, 5, 5, 0, 0)
    process(tmp_path, 13, 1, 900, 90, 0, 0)
    before = read_machine(tmp_path, 10)
    assert before == Reading(9820, 1710 - 230)
    # A second later: 60 ticks for these tests, 20 for another process, 40 stolen, the rest idle.
    stat.write_text("cpu  1070 10 510 8080 100 5 5 240 0 0\n")
    process(tmp_path, 10, 1, 130, 60, 30, 20)
    process(tmp_path, 12, 11, 20, 10, 0, 0)
    assert before.lost_until(read_machine(tmp_path, 10)) == (40 + 20) / 200
    assert before.lost_until(before) == 0.0


def test_this_machine_is_read_and_the_work_of_a_child_is_not_taken() -> None:
    before = read_machine()
    used = sum(os.times()[:4])
    subprocess.run([sys.executable, "-c", "sum(range(10_000_000))"], check=True)
    after = read_machine()
    ticks = os.sysconf("SC_CLK_TCK") * (sum(os.times()[:4]) - used)
    assert after.total - before.total >= (after.taken - before.taken) + ticks - 5


def test_what_a_worker_doubts_is_told_too(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nmarkers = system: real phones\nasyncio_default_fixture_loop_scope = function")
    pytester.makeconftest(
        """
        from tests.support.run_again import RunAgain
        from tests.test_run_again import Machine

        def pytest_configure(config):
            config.pluginmanager.register(RunAgain(Machine(40)))
        """
    )
    pytester.makepyfile(FAILS_TWICE)
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-n", "1")
    result.assert_outcomes(passed=1)
    assert runs(pytester) == (3, 3)
    result.stdout.fnmatch_lines(["*run again: others had the machine*", "*::test_call (run 2, 40% lost): *"])

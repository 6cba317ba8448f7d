"""What the process is asked for: systemd's socket, limits, metrics."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from proxy import process
from proxy.metrics import LoopLag, MetricsServer, Sample
from tests.net.waiting import until


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield listening


def test_systemd_hears_what_it_is_told(systemd: socket.socket) -> None:
    assert process.notify("READY=1")
    assert systemd.recv(100) == b"READY=1"


def test_an_abstract_socket_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"tollgate-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        assert process.notify("STOPPING=1")
        assert listening.recv(100) == b"STOPPING=1"


def test_without_systemd_nothing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not process.notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert not process.notify("READY=1")


@pytest.mark.parametrize(
    ("limit", "pid", "expected"),
    [("10000000", "", 5.0), ("10000000", "1", None), ("", "", None), ("0", "", None), ("x", "", None)],
)
def test_the_watchdog_is_fed_twice_per_limit(
    limit: str, pid: str, expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", limit)
    monkeypatch.setenv("WATCHDOG_PID", pid)
    assert process.watchdog_interval() == expected


def test_files_up_to_the_hard_limit_and_no_core_dump(caplog: pytest.LogCaptureFixture) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    core = resource.getrlimit(resource.RLIMIT_CORE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        process.prepare_limits(needed=10**9)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
        assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0
        if before[1] != resource.RLIM_INFINITY:
            assert "raise LimitNOFILE" in caplog.text
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        resource.setrlimit(resource.RLIMIT_CORE, core)
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)


def test_a_kernel_that_refuses_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        def prctl(self, *_: int) -> int:
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Refusing())
    process.prepare_limits()
    assert "core dumps can't be forbidden" in caplog.text


def test_a_crash_leaves_no_core_even_where_cores_go_to_a_program(tmp_path: Path) -> None:
    """PR_GET_DUMPABLE is 3 in prctl(2); with 0 the kernel starts no program of core_pattern (core(5))."""
    crash = (
        "import ctypes, os, signal; from proxy.process import prepare_limits; prepare_limits();"
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), flush=True); os.kill(os.getpid(), signal.SIGSEGV)"
    )
    done = subprocess.run(
        [sys.executable, "-c", crash],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(process.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.returncode) == ("0\n", -signal.SIGSEGV)
    assert not list(tmp_path.iterdir())


def test_what_startup_made_is_out_of_the_collectors_sight() -> None:
    thresholds = gc.get_threshold()
    try:
        process.calm_garbage_collector()
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold() == process.GC_THRESHOLDS
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)


def test_other_threads_give_the_interpreter_back_soon() -> None:
    interval = sys.getswitchinterval()
    try:
        process.put_calls_first()
        assert sys.getswitchinterval() == pytest.approx(process.SWITCH_INTERVAL)
        assert interval > process.SWITCH_INTERVAL
    finally:
        sys.setswitchinterval(interval)


def test_rings_are_freed_and_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="proxy.process")
    gc.collect()
    process.sweep(0)
    assert not caplog.records
    ring: list[object] = []
    ring.append(ring)
    del ring
    process.sweep(process.FEW_TRANSACTIONS + 1)
    assert not caplog.records
    process.sweep(process.FEW_TRANSACTIONS)
    assert "1 objects in rings" in caplog.text


def test_metrics_are_read_at_each_scrape() -> None:
    values = [
        Sample("calls", "Live calls.", 3),
        Sample("datagrams_in", "Received.", 7, counter=True),
        Sample("lag_seconds", "Lag.", 2.5, buckets=(("0.1", 4), ("+Inf", 6))),
    ]
    server = MetricsServer(0, lambda: values)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=60) as page:
            text = page.read().decode()
        assert "tollgate_calls 3.0" in text
        assert "tollgate_datagrams_in_total 7.0" in text
        assert 'tollgate_lag_seconds_bucket{le="0.1"} 4.0' in text
        assert "tollgate_lag_seconds_count 6.0" in text
        assert "tollgate_lag_seconds_sum 2.5" in text
    finally:
        server.close()


async def test_a_blocked_loop_is_measured() -> None:
    late = 0.0
    loop = asyncio.get_running_loop()
    lag = LoopLag(loop, lambda: loop.time() + late)
    lag.start()
    late = 1000.0  # as if the loop had stood still so long
    await until(lambda: lag.worst > 900)
    lag.stop()
    lag.stop()
    measured = lag.buckets[-1][1]
    assert measured >= 1
    assert lag.total > 900
    assert lag.percentile(100) == lag.worst
    assert lag.buckets[-2] == ("5.0", measured - 1)


async def test_the_lag_told_is_that_of_the_last_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LoopLag, "INTERVAL", 0.0)
    monkeypatch.setattr(LoopLag, "KEPT", 4)

    def ticks() -> Iterator[float]:
        """Let each measurement be a hundredth later than the one before."""
        now = 0.0
        for number in count(1):
            yield now
            now += number / 100
            yield now

    lag = LoopLag(asyncio.get_running_loop(), ticks().__next__)
    assert (lag.worst, lag.percentile(99)) == (0.0, 0.0)
    lag.start()
    await until(lambda: lag.buckets[-1][1] >= 6)
    lag.stop()
    measured = lag.buckets[-1][1]
    assert lag.worst == lag.percentile(99) == pytest.approx(measured / 100)
    assert lag.percentile(50) == pytest.approx((measured - 2) / 100)
    assert lag.buckets[4] == ("0.02", 2)

"""A gate in service: reloaded, told to end, started again, with calls all the while."""

from __future__ import annotations

import asyncio
import configparser
import os
import signal
import socket
from pathlib import Path
from random import Random

from proxy.cdr.record import Disposition, HungUpBy
from reliability.gate import ROOT, GateProcess
from reliability.restart import PROMISED, restarted
from reliability.traffic import Callee, Caller, place_calls
from tests.net.waiting import happens, until

NUMBER = "4155550123"
CALLS = 100
LOOP_STANDS_STILL = """
import os, pathlib, signal, time

def stand_still(*_):
    pathlib.Path(os.environ["STANDS_STILL"]).touch()
    time.sleep(3600.0)

signal.signal(signal.SIGUSR2, stand_still)
"""
"""Python runs the handler of a signal on the main thread, where the loop is; all other threads go on."""


def test_systemd_is_told_and_restarts_a_gate_whose_loop_stands_still_within_15_s() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # names of directives have capitals
    unit.read(ROOT / "config" / "tollgate.service")
    service = unit["Service"]
    assert (service["Type"], service["Restart"]) == ("notify", "always")
    # The loop itself says that it runs, twice per limit.
    assert 0 < int(service["WatchdogSec"]) <= 15


async def test_the_watchdog_hears_nothing_of_a_gate_whose_loop_stands_still_while_its_threads_go_on(
    tmp_path: Path,
) -> None:
    (tmp_path / "sitecustomize.py").write_text(LOOP_STANDS_STILL)
    gate = GateProcess(tmp_path, carrier_port=9)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        gate.environment |= {
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "1000000",
            "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
            "STANDS_STILL": str(tmp_path / "still"),
        }
        await gate.start()
        for _ in range(2):
            await until(lambda: "WATCHDOG=1" in _told(systemd))
        gate.process.send_signal(signal.SIGUSR2)
        await until((tmp_path / "still").exists)
        _told(systemd)
        # As long as three of its messages are apart, and half as long again as the limit.
        await asyncio.sleep(1.5)
        assert _told(systemd) == []
    await gate.end(signal.SIGKILL)


def _told(systemd: socket.socket) -> list[str]:
    """Return what has come since the last look."""
    told = []
    while True:
        try:
            told.append(systemd.recv(4_096).decode())
        except BlockingIOError:
            return told


async def test_no_call_is_lost_by_reloads_nor_before_its_end_by_a_drain(tmp_path: Path) -> None:
    callee = Callee()
    await callee.start()
    gate = GateProcess(tmp_path, callee.port, "timers.drain = 60", media_ports="30000-32699")
    await gate.start()
    await gate.listens()
    caller = Caller(gate.port)
    await caller.start()
    traffic = asyncio.create_task(
        place_calls(caller, Random(23), rate=20.0, seconds=2.0, number=NUMBER, hold=0.5)
    )
    for settings in (
        "timers.drain = 60",
        "limits.max_calls = 0",
        "timers.drain = 60\nlimits.max_calls = 500",
    ):
        gate.configure(settings)
        gate.process.send_signal(signal.SIGHUP)
        await asyncio.sleep(0.5)
    await until(lambda: "settings not taken, the old ones stay" in gate.log)
    for call in await traffic:
        await happens(call.over)
        assert (call.answered, bool(call.ended_at), bool(call.hung_up_at)) == (True, True, True)

    up = [caller.place(NUMBER, hold=3600.0) for _ in range(CALLS)]
    await until(lambda: all(call.answered for call in up))
    gate.process.send_signal(signal.SIGTERM)
    while not (await gate.status())["draining"]:  # noqa: ASYNC110 - nothing here would set an event
        await asyncio.sleep(0.05)
    late, emergency = caller.place(NUMBER), caller.place("911", hold=0.1)
    await happens(late.over)
    assert (late.status, late.retry_after) == (503, "")
    await happens(emergency.over)
    assert emergency.answered
    assert not any(call.over.is_set() for call in up)
    for call in up:
        caller.hang_up(call)
    assert await asyncio.wait_for(gate.process.wait(), 30.0) == 0
    records = {record.a_call_id: record for record in gate.records()}
    assert len(records) == len(caller.calls)
    ends = {(records[call.call_id].disposition, records[call.call_id].hung_up_by) for call in up}
    assert ends == {(Disposition.ANSWERED, HungUpBy.A_LEG)}
    assert "Traceback" not in gate.log
    await caller.close()
    await callee.close()


async def test_a_restart_serves_within_3_s_and_knows_the_phones_of_before(tmp_path: Path) -> None:
    found = await restarted(tmp_path, phones=500, recordings=2, ends=(signal.SIGKILL,))
    # Of a core, that is: who else is on the machine, no test can know.
    assert found.processor[0] <= PROMISED, found
    assert found.contacts == [500]
    assert len(found.reached) == 1

"""Many times the calls that a gate can carry, in short; `script/reliability overload` measures it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from statistics import median

from proxy.cdr.record import Disposition
from reliability.blaster import Blaster
from reliability.gate import GateProcess
from reliability.overload import WARM_UP
from reliability.restart import processor_seconds
from reliability.traffic import Caller
from tests.net.waiting import happens, until

RATE = 3_000.0
"""Calls per second: far more than a gate can carry on any machine that runs these tests."""


async def test_overload_is_declined_soon_and_costs_neither_calls_that_are_up_nor_those_for_help(
    tmp_path: Path,
) -> None:
    blaster = Blaster()
    gate = GateProcess(tmp_path, blaster.carrier_port, media_ports="30000-32699")
    await gate.start()
    await gate.listens()
    caller = Caller(gate.port)
    await caller.start()
    idle = processor_seconds(gate.process.pid)
    calm = await asyncio.to_thread(blaster.offer, gate.port, rate=100.0, seconds=0.5, hold=0.05)
    before = processor_seconds(gate.process.pid)
    load = asyncio.create_task(
        asyncio.to_thread(blaster.offer, gate.port, rate=RATE, seconds=4.0, hold=0.05, warm_up=WARM_UP)
    )
    # The blaster answers calls while it makes some. Nothing is overloaded within the first second.
    up = caller.place("4155550123", hold=3600.0)
    await until(lambda: up.answered)
    await until(lambda: "overload: new requests get 503" in gate.log)
    emergencies = []
    for _ in range(3):
        emergencies.append(caller.place("911", hold=0.1))
        await happens(emergencies[-1].over)
    assert all(call.answered for call in emergencies)
    # What takes the cores from the gate does so for a moment: one of three has had its share.
    assert min(call.delay for call in emergencies) <= 2.0
    caller.hang_up(up)
    await happens(up.over)
    offered = await load
    # A second of a core carries its share of a calm one's calls, however many others are declined with it.
    busy = processor_seconds(gate.process.pid) - before
    assert offered.completed / busy >= 0.25 * calm.completed / (before - idle)
    assert len(offered.declined) > offered.sent / 10
    # The bound of 50 ms is exact on the virtual clock (net/test_crowd.py); here the generator is late, too.
    assert min(offered.declined) <= 0.25
    assert median(offered.declined) <= 2.0
    assert (offered.retry_after, offered.unanswered_byes) == (0, 0)
    # Whoever is taken is served: nothing ends in a way that a calm gate would not know.
    assert set(offered.other) <= {500, 486}, offered.other
    names = {call.call_id for call in emergencies}
    assert [record.disposition for record in await gate.settled() if record.a_call_id in names] == [
        Disposition.ANSWERED
    ] * 3
    assert "Traceback" not in gate.log
    await caller.close()
    blaster.close()

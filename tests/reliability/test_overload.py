"""Many times the calls that a gate can carry, in short; `script/reliability overload` measures it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from proxy.cdr.record import Disposition
from reliability.blaster import Blaster
from reliability.gate import GateProcess
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
    load = asyncio.create_task(asyncio.to_thread(blaster.offer, gate.port, rate=RATE, seconds=4.0, hold=0.05))
    # The blaster answers calls while it makes some. Nothing is overloaded within the first second.
    up = caller.place("4155550123", hold=3600.0)
    await until(lambda: up.answered)
    await until(lambda: "overload: new requests get 503" in gate.log)
    emergency = caller.place("911", hold=0.1)
    await happens(emergency.over)
    assert emergency.answered
    caller.hang_up(up)
    await happens(up.over)
    offered = await load
    assert offered.completed > 0
    assert len(offered.declined) > offered.sent / 10
    assert (offered.retry_after, offered.unanswered_byes) == (0, 0)
    # Whoever is taken is served: nothing ends in a way that a calm gate would not know.
    assert set(offered.other) <= {500, 486}, offered.other
    assert [
        record.disposition for record in await gate.settled() if record.a_call_id == emergency.call_id
    ] == [Disposition.ANSWERED]
    assert "Traceback" not in gate.log
    await caller.close()
    blaster.close()

"""Requests without end over a stranger's connections: `script/reliability transport` measures it."""

from __future__ import annotations

from pathlib import Path

from reliability.pipelined import answered_in_order, pressed
from reliability.wire import exposed_gate


async def test_pipelined_requests_of_a_stranger_keep_nobody_else_waiting(tmp_path: Path) -> None:
    async with exposed_gate(tmp_path) as exposed:
        for transport, method, connections in (
            ("TCP", "OPTIONS", 1),
            ("TCP", "REGISTER", 20),
            ("TLS", "MESSAGE", 5),
        ):
            assert await answered_in_order(exposed, transport, count=300)
            pressure = await pressed(exposed, transport, method, connections=connections, looks=5)
            assert pressure.usual < 0.5, pressure
            assert pressure.sent > pressure.received / 4
        await exposed.nothing_left()

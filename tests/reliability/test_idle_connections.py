"""Connections that nobody uses and messages that never end, in short: `script/reliability transport`."""

from __future__ import annotations

from pathlib import Path

from reliability.transport import crowded, slow_senders, too_many_of_one_source
from reliability.wire import exposed_gate

FEWER_PLACES = """
sip.tcp.connections = 200
sip.tcp.message_timeout = 1.0
sip.tls.handshakes = 30
"""
"""A tenth of the usual ones, for a crowd that is a tenth of the long form's."""


async def test_a_crowd_of_idle_connections_and_half_handshakes_shuts_no_phone_out(tmp_path: Path) -> None:
    async with exposed_gate(tmp_path, FEWER_PLACES) as exposed:
        crowd = await crowded(exposed, idle=300, half=60)
        assert crowd.wrong == []
        assert crowd.open_afterwards == 0
        assert await too_many_of_one_source(exposed) == 50
        # After a second and the look that comes once a second; the rest is for a machine that does much else.
        assert 1.0 <= await slow_senders(exposed) <= 8.0
        await exposed.nothing_left()

"""A flood of requests without credentials, in short; `script/reliability flood` lasts four minutes."""

from __future__ import annotations

from pathlib import Path

from reliability.flood import flooded, many_sources
from reliability.wire import exposed_gate


async def test_a_flood_of_strangers_gets_one_small_answer_each_and_costs_no_call_and_no_memory(
    tmp_path: Path,
) -> None:
    async with exposed_gate(tmp_path, timers="timers.t1 = 0.05\n") as exposed:
        hosts = many_sources(exposed.random, 200)
        found = await flooded(exposed, hosts, rate=2_000.0, seconds=4.0, hold=0.2)
    flood = found.flood
    assert flood.sent > 1_000
    # A machine that is busy with something else may lose datagrams, which are not sent again.
    assert flood.answered > flood.sent / 2
    assert flood.repeated == 0
    assert flood.largest <= 3.0
    assert found.delays
    assert found.failed == []
    # 8,000 requests: 2.5 kB for each while it lasts, and afterwards what the long form promises.
    assert found.growth_mb <= 20.0
    before, _, after = found.memory_mb
    assert after <= 1.05 * before

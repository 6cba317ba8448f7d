"""Calls over a network that loses packets, on the virtual clock and through a kernel that drops them: none is
doubled, and hardly any fails.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from proxy.cdr.record import Disposition
from reliability.loss import PROMISED, through_loss, why_not
from tests.support.gate import GateBench, default_config, default_policy
from tests.support.ua import Step

CALLS = 400
TOLL_FREE = "918005550123"


@pytest.mark.parametrize(("loss", "succeeding"), PROMISED.items())
def test_calls_over_a_network_with_loss_succeed_and_none_is_doubled(loss: float, succeeding: float) -> None:
    bench = GateBench(
        config=default_config(),
        policy=default_policy(),
        script=(Step(0.1, 180), Step(0.5, 200, with_sdp=True)),
        seed=25,
        loss=loss,
        delay=(0.005, 0.06),
    )
    calls = []
    for _ in range(CALLS):
        calls.append(bench.pbx.call(TOLL_FREE))
        bench.run(0.25)
    bench.run(40.0)
    answered = [call for call in calls if call.status == 200]
    assert len(answered) >= succeeding * CALLS, Counter(call.status for call in calls)
    # However often an INVITE was sent, the carrier had one call for each that came to the gate.
    connected = [call for call in bench.carrier.calls if call.connected]
    assert len(connected) <= CALLS
    for call in answered:
        call.bye()
    bench.run(2_500.0)
    bench.assert_nothing_left()
    final = bench.journal.final
    assert set(Counter(record.a_call_id for record in final).values()) == {1}
    talked = sum(record.disposition is Disposition.ANSWERED for record in final)
    assert talked >= len(answered)


async def test_calls_through_a_kernel_that_drops_datagrams_succeed_and_none_is_doubled() -> None:
    """Both losses at once, with RFC 3261's timers at a fifth; `script/reliability loss` has them whole."""
    if reason := why_not():
        pytest.skip(f"no network of its own that loses datagrams: {reason}")
    outcomes = await asyncio.gather(*(through_loss(loss, calls=60, rate=60.0, t1=0.1) for loss in PROMISED))
    for (loss, promised), found in zip(PROMISED.items(), outcomes, strict=True):
        assert loss / 2 < found.dropped / found.packets < loss * 2
        assert found.succeeded >= promised, found
        assert (found.doubled, found.two_records, found.without_record, found.left) == ([], [], [], {})

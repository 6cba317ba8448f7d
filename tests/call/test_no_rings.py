"""A call that is over is freed by its reference counts, without the garbage collector.

Its pauses grow with what it has to look at, and every call that lives hears them.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from proxy.call.b_leg import BLeg
from proxy.call.call import Call
from proxy.call.leg import Leg
from proxy.call.media_leg import MediaLeg
from tests.support.gate import NUMBER, GateBench
from tests.support.ua import Step

HALF_A_MINUTE = 40.0
"""Timers L and M (64*T1) and a little more."""


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _parts_of_calls() -> list[object]:
    return [thing for thing in gc.get_objects() if isinstance(thing, Call | Leg | MediaLeg)]


def test_gated_call_leaves_no_ring() -> None:
    before = len(_parts_of_calls())
    with GateBench() as bench:
        call = bench.pbx.call(NUMBER)
        bench.run(0.5)
        bench.press("1234#")
        bench.run(1.0)
        assert len(bench.core.calls) == 1
        call.bye()
        bench.run(HALF_A_MINUTE)
        assert len(_parts_of_calls()) == before


def test_call_that_b_refuses_leaves_no_ring() -> None:
    before = len(_parts_of_calls())
    with GateBench(script=(Step(0.0, 486),)) as bench:
        bench.pbx.call(NUMBER)
        bench.run(0.5)
        bench.press("1234#")
        bench.run(10.0)
        # Nothing keeps what was refused, the transaction that waits for repeats (Timer D) least of all.
        assert not [thing for thing in gc.get_objects() if isinstance(thing, BLeg)]
        bench.run(HALF_A_MINUTE)
        assert len(_parts_of_calls()) == before


def test_caller_who_hangs_up_at_the_prompt_leaves_no_ring() -> None:
    before = len(_parts_of_calls())
    with GateBench() as bench:
        call = bench.pbx.call(NUMBER)
        bench.run(0.5)
        call.bye()
        bench.run(HALF_A_MINUTE)
        assert len(_parts_of_calls()) == before

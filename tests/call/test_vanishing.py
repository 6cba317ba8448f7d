"""One end of a call vanishes in each state that the call can be in: nothing it sends comes any more, nothing
reaches it. The call ends by the timer that the state has for it, with one record, and leaves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from proxy.cdr.record import Disposition, HungUpBy
from tests.call.offers import kept_by
from tests.support.gate import CARRIER, NUMBER, PBX, GateBench, default_config
from tests.support.ua import Step, UaCall, sdp

TOLL_FREE = "918005550123"
LONGEST_TALK = 60.0
RINGING = 180.0
"""What a called party may ring (the default)."""
TIMER_B = TIMER_F = TIMER_H = 32.0
ENTRY = 40.0
"""Three tries at a code that nobody types, and their prompts."""
ROUND = 1.0
"""What is on its way when an end vanishes, and a look every 0.5 s."""


def _called(seconds: float, number: str = NUMBER) -> Callable[[GateBench], UaCall]:
    """Come so far after the caller's INVITE; ports take 0.1 s, every datagram 10 ms."""

    def reach(bench: GateBench) -> UaCall:
        call = bench.pbx.call(number)
        bench.run(seconds)
        return call

    return reach


def _coded(seconds: float) -> Callable[[GateBench], UaCall]:
    """Come so far after the last key of a code; the carrier rings after 1 s and answers after 2."""

    def reach(bench: GateBench) -> UaCall:
        call = bench.dial_with_code()
        bench.run(seconds)
        return call

    return reach


def _keys(bench: GateBench) -> None:
    _called(1.0)(bench)
    bench.press("12")


def _offer(bench: GateBench) -> None:
    """A hold that the callee has heard of, and not answered."""
    kept = kept_by(bench.carrier)
    _coded(4.0)(bench).request("INVITE", sdp(PBX[0], version=2, direction="sendonly"))
    bench.run(0.1)
    assert kept


def _bye(bench: GateBench) -> None:
    _coded(4.0)(bench).bye()
    bench.run(0.015)  # it is with the gate, and no further


def _cancel(bench: GateBench) -> None:
    _called(1.5, TOLL_FREE)(bench).cancel()
    bench.run(0.015)


@dataclass(frozen=True, slots=True)
class End:
    """How the call ends: as its record says, and so many seconds later at most."""

    disposition: Disposition
    cause: int
    """Q.850's."""
    seconds: float
    by: HungUpBy = HungUpBy.GATE


UNHEARD = End(Disposition.FAILED, 102, TIMER_H)
NO_CODE = End(Disposition.CODE_REFUSED, 21, ENTRY)
TALKED = End(Disposition.ANSWERED, 16, LONGEST_TALK + 3.0)
"""Sound of neither side ends it sooner (test_media_failures.py); here there is none to miss."""
HUNG_UP = End(Disposition.ANSWERED, 16, 0.0, HungUpBy.A_LEG)
GIVEN_UP = End(Disposition.ABANDONED_RINGING, 16, 0.0, HungUpBy.A_LEG)
UNREACHED = End(Disposition.TRUNK_FAILED, 102, TIMER_B + 10.0)  # with what the caller is told then
UNANSWERED = End(Disposition.NO_ANSWER, 19, RINGING + 10.0)

STATES: dict[str, tuple[Callable[[GateBench], object], End | None, End | None]] = {
    # What becomes of it without the caller, and without the callee (None: there is none yet).
    "invited": (_called(0.05), UNHEARD, None),
    "answered and not acknowledged": (_called(0.115), UNHEARD, None),
    "prompted": (_called(1.0), NO_CODE, None),
    "some keys of a code": (_keys, NO_CODE, None),
    "callee invited": (_coded(0.015), TALKED, UNREACHED),
    "callee trying": (_coded(0.6), TALKED, UNANSWERED),
    "callee rings": (_coded(1.5), TALKED, UNANSWERED),
    "callee answered and not acknowledged": (_coded(2.015), TALKED, TALKED),
    "talk": (_coded(4.0), TALKED, TALKED),
    "a new offer": (_offer, TALKED, TALKED),
    "hanging up": (_bye, HUNG_UP, HUNG_UP),
    "giving up": (_cancel, GIVEN_UP, GIVEN_UP),
}
CASES = [
    pytest.param(reach, gone, end, id=f"{name}, {'caller' if gone is PBX else 'callee'} gone")
    for name, (reach, *ends) in STATES.items()
    for gone, end in zip((PBX, CARRIER), ends, strict=True)
    if end is not None
]


@pytest.mark.parametrize(("reach", "gone", "end"), CASES)
def test_the_far_end_vanishes_in_each_of_12_states(
    reach: Callable[[GateBench], object], gone: tuple[str, int], end: End
) -> None:
    script = (Step(1.0, 180), Step(1.0, 200, with_sdp=True))
    config = default_config(max_duration=LONGEST_TALK)
    with GateBench(config=config, script=script, delay=(0.01, 0.01)) as bench:
        bench.media.latency = lambda: 0.1
        reach(bench)
        bench.network.drop = lambda sender, receiver, _data: gone in {sender, receiver}
        bench.run(end.seconds + ROUND)
        assert not bench.core.calls
        record = bench.record
        assert (record.disposition, record.q850_cause, record.hung_up_by) == (
            end.disposition,
            end.cause,
            end.by,
        )
        bench.run(TIMER_F + 1.0)
        assert bench.core.idle
        assert bench.gate.endpoint.idle, "no transaction outlives its timer"
        bench.vanished.add(bench.pbx if gone is PBX else bench.carrier)

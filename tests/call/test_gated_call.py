"""A call that is asked for a code, in answer mode: DESIGN 1.6 and 1.7."""

from __future__ import annotations

from proxy.cdr.record import Disposition, HungUpBy
from tests.support.gate import E164, NUMBER, GateBench
from tests.support.ua import RING_AND_ANSWER


def test_right_code_connects_and_is_recorded() -> None:
    with GateBench(script=RING_AND_ANSWER) as bench:
        call = bench.pbx.call(NUMBER)
        bench.run(0.5)
        assert call.statuses == [200]
        assert bench.heard == ["enter_code"]
        bench.press("1234#")
        assert len(bench.carrier.calls) == 1
        bench.run(5.0)
        b_leg = bench.carrier.calls[0]
        assert b_leg.connected
        assert bench.a_leg().bridged_with is not None
        call.bye()
        bench.run(1.0)
        assert b_leg.ended
    record = bench.record
    assert record.disposition is Disposition.ANSWERED
    assert record.code is not None
    assert record.code.form == "ACME-12/34"
    assert record.wrong_tries == 0
    assert record.normalised_number == E164
    assert record.hung_up_by is HungUpBy.A_LEG
    assert record.talk_time > 3.0

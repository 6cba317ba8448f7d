"""How a call that was asked for a code ends: hang-ups at every moment, failures of the B leg (DESIGN 1.7)."""

from __future__ import annotations

import pytest

from proxy.cdr.record import Disposition, HungUpBy
from tests.support.gate import NUMBER, GateBench
from tests.support.ua import Step, sdp


class TestHangUp:
    """The caller may go at any moment; nothing is left behind (contract 5 is asserted at every end)."""

    def test_at_the_prompt(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(1.0)
            call.bye()
            bench.run(0.1)
            assert not bench.carrier.calls
        assert bench.record.disposition is Disposition.ABANDONED_AT_PROMPT
        assert bench.record.hung_up_by is HungUpBy.A_LEG

    def test_after_some_digits(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(NUMBER)
            bench.press("12")
            call.bye()
        assert bench.record.disposition is Disposition.ABANDONED_AT_PROMPT
        assert bench.record.wrong_tries == 0

    def test_while_ringing(self) -> None:
        with GateBench(script=(Step(0.0, 180),)) as bench:
            call = bench.dial_with_code()
            bench.run(1.0)
            call.bye(headers=[("Reason", "Q.850;cause=31")])
            bench.run(1.0)
            b_leg = bench.carrier.calls[0]
            assert b_leg.cancelled
            assert b_leg.requests[-1].headers.get("Reason") == "Q.850;cause=31"
        assert bench.record.disposition is Disposition.ABANDONED_RINGING
        assert bench.record.q850_cause == 31

    def test_in_talk_by_the_callee(self) -> None:
        with GateBench() as bench:
            call = bench.dial_with_code()
            bench.run(2.0)
            bench.carrier.calls[0].bye(headers=[("Reason", "Q.850;cause=16;text=x")])
            bench.run(0.1)
            assert call.ended
            assert call.requests[-1].headers.get("Reason") == "Q.850;cause=16;text=x"
        assert bench.record.hung_up_by is HungUpBy.B_LEG

    def test_during_the_announcement_after_a_failure(self) -> None:
        with GateBench(script=(Step(0.0, 486),)) as bench:
            call = bench.dial_with_code()
            bench.run(0.5)
            call.bye()
        assert bench.record.disposition is Disposition.BUSY
        assert bench.record.hung_up_by is HungUpBy.A_LEG

    def test_before_the_ack_reaches_the_gate(self) -> None:
        # The 200 stays unacknowledged; the BYE is nevertheless the caller's right (RFC 3261 §15).
        with GateBench() as bench:
            bench.pbx.auto_ack = False
            call = bench.pbx.call(NUMBER)
            bench.run(0.1)
            call.bye()
        assert bench.record.disposition is Disposition.ABANDONED_AT_PROMPT


class TestFailureOfTheBLeg:
    """An answered caller hears why, and is released with the cause (issue: right tone and Reason)."""

    @pytest.mark.parametrize(
        ("status", "prompt", "disposition", "cause"),
        [
            (486, "busy", Disposition.BUSY, 17),
            (600, "busy", Disposition.BUSY, 17),
            (480, "no_answer", Disposition.NO_ANSWER, 18),
            (403, "not_allowed", Disposition.REJECTED, 21),
            (404, "call_failed", Disposition.REJECTED, 1),
            (302, "no_answer", Disposition.NO_ANSWER, 19),
            (401, "call_failed", Disposition.TRUNK_FAILED, 21),
            (503, "call_failed", Disposition.TRUNK_FAILED, 41),
            (603, "call_failed", Disposition.REJECTED, 21),
        ],
    )
    def test_announcement_and_reason(
        self, status: int, prompt: str, disposition: Disposition, cause: int
    ) -> None:
        with GateBench(script=(Step(0.0, status),)) as bench:
            call = bench.dial_with_code()
            assert prompt in bench.heard
            bench.run(10.0)
            assert call.ended
            assert call.requests[-1].headers.get("Reason") == f"Q.850;cause={cause}"
        assert bench.record.disposition is disposition
        assert bench.record.q850_cause == cause
        assert bench.record.hung_up_by is HungUpBy.GATE

    def test_reason_of_the_carrier_wins(self) -> None:
        with GateBench(script=(Step(0.0, 480, headers=[("Reason", "Q.850;cause=27")]),)) as bench:
            bench.dial_with_code()
            bench.run(5.0)
        assert bench.record.q850_cause == 27

    def test_nobody_answers(self) -> None:
        with GateBench(script=(Step(0.0, 180),)) as bench:
            call = bench.dial_with_code()
            bench.run(179.0)
            assert bench.a_leg().heard[-1] == "ringback"
            bench.run(1.5)
            assert bench.a_leg().heard[-1] == "no_answer"
            assert bench.carrier.calls[0].cancelled
            bench.run(3.0)
            assert call.ended
        assert bench.record.disposition is Disposition.NO_ANSWER
        assert bench.record.q850_cause == 19

    def test_announcement_that_never_ends_is_bounded(self) -> None:
        with GateBench(script=(Step(0.0, 486),)) as bench:
            call = bench.dial_with_code()
            bench.media._due.clear()
            bench.run(19.9)
            assert not call.has_ended()
            bench.run(0.2)
            assert call.ended

    def test_answer_with_unusable_sdp(self) -> None:
        with GateBench(script=(Step(0.0, 200, body=sdp(codecs="9")),)) as bench:
            call = bench.dial_with_code()
            bench.run(0.5)
            assert bench.carrier.calls[0].ended
            bench.run(10.0)
            assert call.ended
        assert bench.record.disposition is Disposition.NOT_ACCEPTABLE

    def test_answer_without_sdp(self) -> None:
        with GateBench(script=(Step(0.0, 200),)) as bench:
            bench.dial_with_code()
            bench.run(10.0)
            assert bench.carrier.calls[0].ended
        assert bench.record.disposition is Disposition.NOT_ACCEPTABLE


class TestEarlyMediaOfTheCarrier:
    def test_caller_hears_it_instead_of_ringback(self) -> None:
        with GateBench(script=(Step(0.0, 183, with_sdp=True), Step(3.0, 200, with_sdp=True))) as bench:
            call = bench.dial_with_code()
            bench.run(1.0)
            assert "ringback" not in bench.heard
            assert bench.a_leg().bridged_with is not None
            bench.run(4.0)
            assert bench.carrier.calls[0].connected
            call.bye()

    def test_announcement_after_it_stops_the_relay_first(self) -> None:
        with GateBench(script=(Step(0.0, 183, with_sdp=True), Step(3.0, 404))) as bench:
            bench.dial_with_code()
            bench.run(3.5)
            assert bench.a_leg().bridged_with is None
            assert "call_failed" in bench.heard

    def test_answer_without_sdp_after_it_is_taken(self) -> None:
        with GateBench(script=(Step(0.0, 183, with_sdp=True), Step(1.0, 200))) as bench:
            call = bench.dial_with_code()
            bench.run(2.0)
            assert bench.carrier.calls[0].connected
            call.bye()
        assert bench.record.disposition is Disposition.ANSWERED

    def test_unusable_sdp_in_a_provisional_response_is_passed_over(self) -> None:
        script = (Step(0.0, 183, body=b"v=0\r\n"), Step(1.0, 200, with_sdp=True))
        with GateBench(script=script) as bench:
            call = bench.dial_with_code()
            bench.run(2.0)
            assert bench.a_leg().bridged_with is not None
            call.bye()

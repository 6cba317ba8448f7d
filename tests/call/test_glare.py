"""Offers that cross each other (RFC 3261 §14.1 and §14.2, RFC 3311 §5.2)."""

from __future__ import annotations

import pytest

from tests.call.offers import (
    ALLOW_UPDATE,
    CALLEE,
    TOLL_FREE,
    callee,
    follows,
    kept_by,
    talk,
)
from tests.support.gate import GateBench
from tests.support.ua import Step, sdp


class TestGlare:
    """RFC 3261 §14.1 and §14.2, RFC 3311 §5.2."""

    @pytest.mark.parametrize(
        ("first", "second"), [("INVITE", "UPDATE"), ("UPDATE", "INVITE"), ("UPDATE", "UPDATE")]
    )
    def test_an_offer_against_the_gates_own_on_that_leg_is_491(self, first: str, second: str) -> None:
        script = (Step(0.0, 200, with_sdp=True, headers=ALLOW_UPDATE),)
        with talk(GateBench(script=script)) as (bench, call):
            kept = kept_by(bench.carrier)
            call.request(first, sdp(direction="sendonly", version=2))
            bench.run(0.1)
            bench.carrier.within = None
            callee(bench).request(second, sdp(CALLEE, direction="sendonly", version=2))
            bench.run(0.1)
            assert callee(bench).replies[-1].status == 491
            taken = sdp(CALLEE, direction="recvonly", version=2)
            bench.carrier.endpoint.respond(kept[0].transaction, 200, body=taken, now=bench.now)
            bench.run(0.3)
            assert call.replies[-1].status == 200

    def test_both_ask_at_once_both_hear_491_and_both_get_through(self) -> None:
        with talk(GateBench(delay=(0.05, 0.05))) as (bench, call):
            call.request("INVITE", sdp(direction="sendonly", version=2))
            callee(bench).request("INVITE", sdp(CALLEE, direction="sendonly", version=2))
            bench.run(1.0)
            assert call.replies[-1].status == 491
            assert callee(bench).replies[-1].status == 491
            # The side that owns no Call-ID waits the shorter time.
            bench.pbx.within, bench.carrier.within = follows(bench.pbx), follows(bench.carrier)
            callee(bench).request("INVITE", sdp(CALLEE, direction="sendonly", version=3))
            bench.run(1.0)
            assert callee(bench).replies[-1].status == 200
            call.request("INVITE", sdp(direction="inactive", version=4))
            bench.run(1.0)
            assert call.replies[-1].status == 200

    def test_overlapping_updates_get_500_with_retry_after(self) -> None:
        with talk() as (bench, call):
            kept = kept_by(bench.carrier)
            call.request("UPDATE", sdp(direction="sendonly", version=2))
            bench.run(0.1)
            call.request("UPDATE", sdp(direction="inactive", version=3))
            bench.run(0.1)
            assert call.replies[-1].status == 500
            assert call.replies[-1].headers.get("Retry-After") == "3"
            bench.carrier.endpoint.respond(kept[0].transaction, 488, now=bench.now)
            bench.run(0.1)
            assert call.replies[-1].status == 488

    def test_overlapping_invites_get_500_with_retry_after(self) -> None:
        with talk() as (bench, call):
            kept = kept_by(bench.carrier)
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.1)
            assert call.dialog is not None
            call.dialog.invite_client = None  # a caller that knows no §14.1
            call.request("INVITE", sdp(direction="inactive", version=3))
            bench.run(0.1)
            (overlapping,) = [reply for reply in call.replies if reply.status == 500]
            assert overlapping.headers.get("Retry-After") is not None
            bench.carrier.endpoint.respond(kept[0].transaction, 488, now=bench.now)
            bench.run(0.1)

    def test_an_offer_while_an_offer_of_the_gate_is_open_is_491(self) -> None:
        with talk() as (bench, call):
            bench.pbx.auto_ack = False
            call.request("INVITE", b"")
            bench.run(0.5)
            call.request("UPDATE", sdp(version=2))
            bench.run(0.1)
            assert call.replies[-1].status == 491
            callee(bench).request("UPDATE", sdp(CALLEE, direction="sendonly", version=2))
            bench.run(0.1)
            assert callee(bench).replies[-1].status == 491

    def test_the_other_side_has_not_acked_the_gates_200_yet(self) -> None:
        with talk() as (bench, call):
            bench.carrier.auto_ack = False
            callee(bench).request("INVITE", sdp("192.0.2.99", 5000))
            bench.run(0.1)
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.1)
            assert call.replies[-1].status == 491

    def test_an_early_update_before_the_first_offer_is_answered(self) -> None:
        # The gate has no answer to the callee's side yet: the callee offers in an early dialog without SDP.
        with GateBench(script=(Step(0.0, 180),)) as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(0.5)
            callee(bench).request("UPDATE", sdp(CALLEE))
            bench.run(0.1)
            assert callee(bench).replies[-1].status in {491, 500}
            call.cancel()

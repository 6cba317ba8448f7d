"""re-INVITEs without SDP: the offer comes in the 200, the answer in the ACK (RFC 3261 §14.1)."""

from __future__ import annotations

import pytest

from tests.call.offers import (
    CALLEE,
    acks_to_the_carrier,
    answers,
    asked,
    callee,
    cancel,
    direction_of,
    formats_of,
    kept_by,
    talk,
    talking,
    told,
    without_cancel,
)
from tests.support.gate import GateBench
from tests.support.ua import Step, sdp


class TestLateOffer:
    """RFC 3261 §14.1: a re-INVITE without SDP asks the other side for its offer too."""

    def test_the_offer_of_the_one_and_the_answer_of_the_other(self) -> None:
        with talk() as (bench, call):
            bench.pbx.ack_body = sdp(port=4444, direction="sendonly", version=2)
            call.request("INVITE", b"")
            bench.run(0.5)
            (request,) = asked(callee(bench))
            assert request.body == b""
            assert formats_of(call.replies[-1].body) == b"0 8 101"
            assert told(bench).remote.rtp_port == 4444
            ack = callee(bench).requests[-1]
            assert ack.method == "ACK"
            assert direction_of(ack.body) == "sendonly"
            assert formats_of(ack.body) == b"0 101"

    def test_of_the_callee(self) -> None:
        with talk() as (bench, call):
            bench.carrier.ack_body = sdp(CALLEE, 5555, version=2)
            callee(bench).request("INVITE", b"")
            bench.run(0.5)
            assert told(bench, 2).remote.rtp_port == 5555
            assert call.requests[-1].method == "ACK"
            assert formats_of(call.requests[-1].body) == b"0 101"

    def test_rfc3264_6_1_a_callee_that_renumbers_events_is_heard_under_the_offered_number(self) -> None:
        renumbered = sdp(CALLEE, codecs="0 97").replace(b":101 ", b":97 ")
        with talk(GateBench(script=(Step(0.0, 200, body=renumbered),))) as (bench, _call):
            remote = told(bench, 2).remote
            assert (remote.event_payload_type, remote.heard_event_payload_type) == (97, 101)
            assert (remote.audio.payload_type, remote.heard_payload_type) == (0, 0)
            # RFC 3264 §8.3.2: a later offer of the gate keeps to its own numbers.
            bench.carrier.ack_body = renumbered
            callee(bench).request("INVITE", b"")
            bench.run(0.5)
            assert formats_of(callee(bench).replies[-1].body) == b"0 8 101"
            assert told(bench, 2).remote.heard_event_payload_type == 101

    def test_refused_by_the_other_side(self) -> None:
        with talk() as (bench, call):
            bench.carrier.within = answers(bench.carrier, 488)
            call.request("INVITE", b"")
            bench.run(0.5)
            assert call.replies[-1].status == 488

    @pytest.mark.parametrize("body", [b"", b"v=0\r\nnonsense", sdp(CALLEE, codecs="18")])
    def test_an_offer_that_is_no_use_is_acked_and_the_asker_refused(self, body: bytes) -> None:
        with talk() as (bench, call):
            bench.carrier.description = body
            call.request("INVITE", b"")
            bench.run(0.5)
            assert call.replies[-1].status in {400, 488}
            assert callee(bench).requests[-1].method == "ACK"
            bench.run(33.0)
            assert not call.has_ended()

    def test_an_answer_that_is_no_use_leaves_both_as_they_were(self) -> None:
        with talk() as (bench, call):
            call.request("INVITE", b"")
            bench.run(0.5)
            assert told(bench).remote.rtp_port == 4000
            ack = callee(bench).requests[-1]
            assert (ack.method, direction_of(ack.body)) == ("ACK", "sendrecv")

    def test_never_acked_ends_the_call_and_the_other_side_gets_its_ack(self) -> None:
        with talk() as (bench, call):
            bench.pbx.auto_ack = False
            call.request("INVITE", b"")
            bench.run(33.0)
            assert call.has_ended()
            methods = [request.method for request in callee(bench).requests]
            assert methods == ["ACK", "INVITE", "ACK", "BYE"]
            assert callee(bench).requests[2].body
            bench.vanished.add(bench.pbx)

    def test_the_callee_hangs_up_before_its_ack(self) -> None:
        with talk() as (bench, call):
            bench.pbx.auto_ack = False
            call.request("INVITE", b"")
            bench.run(0.3)
            acks = acks_to_the_carrier(bench)
            dialog = callee(bench).dialog
            assert dialog is not None
            assert dialog.awaited_ack is not None
            dialog.awaited_ack.stop()  # a callee that knows no §15
            dialog.awaited_ack = None
            callee(bench).bye()
            bench.run(33.0)
            assert call.has_ended()
            assert len(acks) == 1
            bench.vanished.add(bench.pbx)

    def test_taken_back_while_the_callee_thinks(self) -> None:
        with talk() as (bench, call):
            bench.network.drop = without_cancel
            kept = kept_by(bench.carrier)
            call.request("INVITE", b"")
            bench.run(0.3)
            cancel(call)
            bench.run(0.3)
            offered = sdp(CALLEE, version=2)
            bench.carrier.endpoint.respond(kept[0].transaction, 200, body=offered, now=bench.now)
            bench.run(0.3)
            assert call.replies[-1].status == 487
            assert formats_of(callee(bench).requests[-1].body) == b"0 101"

    def test_taken_back_and_the_callee_says_nonsense(self) -> None:
        with talk() as (bench, call):
            bench.network.drop = without_cancel
            kept = kept_by(bench.carrier)
            call.request("INVITE", b"")
            bench.run(0.3)
            cancel(call)
            bench.run(0.3)
            bench.carrier.endpoint.respond(kept[0].transaction, 200, body=b"v=0\r\nx", now=bench.now)
            bench.run(0.3)
            assert callee(bench).requests[-1].method == "ACK"

    def test_in_a_call_without_telephone_event_none_is_promised(self) -> None:
        with GateBench() as bench:
            bench.pbx.description = sdp(events=False)
            call = talking(bench)
            bench.pbx.ack_body = bench.pbx.description
            call.request("INVITE", b"")
            bench.run(0.5)
            assert formats_of(callee(bench).requests[-1].body) == b"0"
            call.bye()

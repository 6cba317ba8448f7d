"""Offers after the first one: re-INVITE and UPDATE between the legs (RFC 3261 §14, RFC 3311, RFC 6141)."""

from __future__ import annotations

import pytest

from proxy.call.config import CodeMode
from proxy.call.outcome import status_for_asker
from proxy.call.ports import LegId
from proxy.cdr.record import Disposition, HungUpBy
from tests.call.offers import (
    ALLOW_NO_UPDATE,
    ALLOW_UPDATE,
    CALLEE,
    TOLL_FREE,
    acks_to_the_carrier,
    answers,
    asked,
    callee,
    cancel,
    direction_of,
    follows,
    formats_of,
    kept_by,
    talk,
    told,
    version_of,
    without_cancel,
)
from tests.support.gate import CARRIER, NUMBER, GateBench, default_config
from tests.support.ua import ANSWER, Step, sdp


class TestWhatDoesNotCross:
    @pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
    def test_the_same_description_is_a_refresh(self, method: str) -> None:
        with talk() as (bench, call):
            call.request(method, bench.pbx.description)
            bench.run(0.5)
            assert call.replies[-1].body == call.responses[-1].body
            assert not asked(callee(bench))

    def test_rfc3311_5_2_update_without_sdp_is_a_refresh(self) -> None:
        with talk() as (bench, call):
            call.request("UPDATE")
            bench.run(0.5)
            assert (call.replies[-1].status, call.replies[-1].body) == (200, b"")
            assert not asked(callee(bench))

    def test_a_new_address_of_the_callee_moves_its_media(self) -> None:
        with talk() as (bench, call):
            callee(bench).request("INVITE", sdp("192.0.2.99", 5000))
            bench.run(0.5)
            assert told(bench, 2).remote.address == "192.0.2.99"
            assert not asked(call)

    def test_a_format_that_is_spoken_and_still_named_goes_on(self) -> None:
        with talk() as (bench, call):
            call.request("INVITE", sdp(codecs="8 0 101", version=2))
            bench.run(0.5)
            assert formats_of(call.replies[-1].body) == b"0 101"
            assert not asked(callee(bench))

    def test_early_offer_of_the_caller_in_early_mode(self) -> None:
        with GateBench(config=default_config(code_mode=CodeMode.EARLY)) as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            call.request("UPDATE", sdp(port=4500, version=2))
            bench.run(0.1)
            assert call.replies[-1].status == 200
            assert told(bench).remote.rtp_port == 4500
            call.cancel()

    def test_late_offer_at_the_prompt_is_the_gates_own(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            bench.pbx.ack_body = sdp(port=4444, version=2)
            call.request("INVITE", b"")
            bench.run(0.5)
            assert formats_of(call.replies[-1].body) == b"0 101"
            assert told(bench).remote.rtp_port == 4444
            call.bye()

    def test_answer_in_the_ack_that_is_no_use_changes_nothing(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            call.request("INVITE", b"")
            bench.run(0.2)
            assert told(bench).remote.rtp_port == 4000
            call.request("INVITE", sdp(version=3))
            bench.run(0.2)
            assert call.replies[-1].status == 200
            call.bye()

    def test_other_codec_at_the_prompt_is_488(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            call.request("INVITE", sdp(codecs="8 101", version=2))
            bench.run(0.2)
            assert call.replies[-1].status == 488
            call.bye()


class TestMethods:
    """RFC 3311 §5.1: UPDATE goes only to a peer that allows it."""

    @pytest.mark.parametrize(("allow", "method"), [(ALLOW_UPDATE, "UPDATE"), (ALLOW_NO_UPDATE, "INVITE")])
    def test_an_update_crosses_as_one_where_the_peer_allows_it(
        self, allow: list[tuple[str, str]], method: str
    ) -> None:
        script = (Step(0.0, 200, with_sdp=True, headers=allow),)
        with talk(GateBench(script=script)) as (bench, call):
            bench.carrier.within = follows(bench.carrier)
            call.request("UPDATE", sdp(direction="sendonly", version=2))
            bench.run(0.5)
            assert [request.method for request in asked(callee(bench))] == [method]
            assert call.replies[-1].status == 200

    def test_rfc3261_13_2_2_4_the_gates_reinvite_is_acked(self) -> None:
        with talk() as (bench, call):
            bench.carrier.within = follows(bench.carrier)
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(40.0)
            assert bench.carrier.ack_timeouts == 0
            assert [request.method for request in callee(bench).requests] == ["ACK", "INVITE", "ACK"]


class TestRefusal:
    """RFC 3261 §14.1, RFC 6141 §3.4: a refused re-INVITE leaves the call as it was."""

    @pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
    @pytest.mark.parametrize(
        ("status", "told_asker"), [(488, 488), (491, 491), (606, 488), (503, 500), (302, 500), (603, 603)]
    )
    def test_the_asker_hears_of_it_and_nothing_has_changed(
        self, method: str, status: int, told_asker: int
    ) -> None:
        with talk() as (bench, call):
            before = [len(bench.media.all[LegId(leg)].configured) for leg in (1, 2)]
            bench.carrier.within = answers(bench.carrier, status)
            call.request(method, sdp(direction="sendonly", version=2))
            bench.run(0.5)
            assert call.replies[-1].status == told_asker
            assert [len(bench.media.all[LegId(leg)].configured) for leg in (1, 2)] == before
            # The next offer is heard again, under a version of its own.
            refused = asked(callee(bench))[-1].body
            bench.carrier.within = follows(bench.carrier)
            call.request(method, sdp(direction="inactive", version=3))
            bench.run(0.5)
            assert version_of(asked(callee(bench))[-1].body) == version_of(refused) + 1
            assert direction_of(call.replies[-1].body) == "inactive"

    def test_retry_after_of_a_500_crosses(self) -> None:
        with talk() as (bench, call):
            bench.carrier.within = answers(bench.carrier, 500, headers=[("Retry-After", "4")])
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.5)
            assert call.replies[-1].status == 500
            assert call.replies[-1].headers.get("Retry-After") == "4"

    @pytest.mark.parametrize(
        ("body", "content_type", "status"),
        [
            (sdp(codecs="18"), "application/sdp", 488),
            (b"v=0\r\nnonsense", "application/sdp", 400),
            (b"<x/>", "application/xml", 415),
            (sdp(port=0), "application/sdp", 488),
        ],
    )
    def test_an_offer_that_nobody_could_take_does_not_cross(
        self, body: bytes, content_type: str, status: int
    ) -> None:
        with talk() as (bench, call):
            call.request("INVITE", body, content_type)
            bench.run(0.5)
            assert call.replies[-1].status == status
            assert not asked(callee(bench))
            assert not call.has_ended()

    def test_an_answer_that_is_no_use_refuses_the_offer(self) -> None:
        with talk() as (bench, call):
            bench.carrier.description = b""
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.5)
            assert call.replies[-1].status == 488
            assert told(bench).remote.peer_receives
            assert [request.method for request in callee(bench).requests] == ["ACK", "INVITE", "ACK"]

    @pytest.mark.parametrize("status", [408, 481])
    def test_rfc3261_12_2_1_2_a_peer_that_knows_no_such_dialog_ends_the_call(self, status: int) -> None:
        with talk() as (bench, call):
            bench.carrier.within = answers(bench.carrier, status)
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.5)
            assert call.replies[-1].status == 500
            assert call.has_ended()
            assert callee(bench).ended
        assert bench.record.disposition is Disposition.FAILED

    def test_rfc3261_14_1_silence_is_504_and_the_call_goes_on(self) -> None:
        with talk() as (bench, call):
            bench.network.drop = lambda sender, receiver, data: receiver == CARRIER and data[:6] == b"INVITE"
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(31.0)
            assert not call.replies[1:]
            bench.run(2.0)
            assert call.replies[-1].status == 504
            bench.network.drop = None
            bench.carrier.within = follows(bench.carrier)
            call.request("INVITE", sdp(direction="sendonly", version=3))
            bench.run(0.5)
            assert call.replies[-1].status == 200

    def test_rfc4320_an_update_is_answered_before_its_sender_gives_up(self) -> None:
        with talk() as (bench, call):
            bench.network.drop = lambda sender, receiver, data: receiver == CARRIER and b"CSeq: 2" in data
            call.request("UPDATE", sdp(direction="sendonly", version=2))
            bench.run(19.9)
            assert not call.replies
            bench.run(0.2)
            assert call.replies[-1].status == 504
            bench.run(20.0)
            assert not call.has_ended()
            bench.network.drop = None

    def test_a_callee_that_only_rings_is_cancelled(self) -> None:
        with talk() as (bench, call):
            kept = kept_by(bench.carrier)
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.1)
            bench.carrier.endpoint.respond(kept[0].transaction, 180, now=bench.now)
            bench.run(47.0)
            assert [reply.status for reply in call.replies] == [100]
            bench.run(2.0)
            assert call.replies[-1].status == 480  # the 487 to what the gate has cancelled
            assert not call.has_ended()

    def test_the_mapping_of_refusals(self) -> None:
        assert status_for_asker(0) == 504
        assert status_for_asker(407) == 500
        assert status_for_asker(486) == 486


class TestWithdrawn:
    """RFC 3261 §9, RFC 6141 §3.4: what the asker took back, the other side goes back from."""

    def test_a_cancelled_reinvite_is_487_and_the_other_side_is_cancelled(self) -> None:
        with talk() as (bench, call):
            kept = kept_by(bench.carrier)
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.1)
            bench.carrier.endpoint.respond(kept[0].transaction, 180, now=bench.now)
            bench.run(0.3)
            cancel(call)
            bench.run(0.5)
            assert call.replies[-1].status == 487
            assert callee(bench).was_cancelled()
            assert told(bench).remote.peer_receives

    def test_a_callee_that_took_it_all_the_same_is_asked_back(self) -> None:
        with talk() as (bench, call):
            kept = kept_by(bench.carrier)
            bench.network.drop = without_cancel
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.3)
            cancel(call)
            bench.run(0.5)
            assert call.replies[-1].status == 487
            bench.carrier.within = follows(bench.carrier)
            taken = sdp(CALLEE, direction="recvonly", version=2)
            bench.carrier.endpoint.respond(kept[0].transaction, 200, body=taken, now=bench.now)
            bench.run(0.5)
            told_callee = [direction_of(request.body) for request in asked(callee(bench))]
            assert told_callee == ["sendonly", "sendrecv"]
            assert told(bench, 2).remote.peer_sends

    def test_a_cancel_that_is_for_nothing_on_its_way_changes_nothing(self) -> None:
        with talk() as (bench, call):
            live = next(iter(bench.core.calls.values()))
            before = len(bench.media.all[LegId(1)].configured)
            live.a.reinvite_cancelled(live.incoming.transaction, bench.now)
            bench.run(0.5)
            assert not call.replies
            assert len(bench.media.all[LegId(1)].configured) == before

    def test_an_offer_meanwhile_is_491(self) -> None:
        with talk() as (bench, call):
            kept = kept_by(bench.carrier)
            call.request("UPDATE", sdp(direction="sendonly", version=2))
            bench.run(21.0)
            assert call.replies[-1].status == 504
            call.request("UPDATE", sdp(direction="inactive", version=3))
            bench.run(0.1)
            assert call.replies[-1].status == 491
            bench.carrier.endpoint.respond(kept[0].transaction, 488, now=bench.now)
            bench.run(0.1)


class TestEnd:
    """RFC 3261 §15.1.2: a BYE ends what is under way."""

    @pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
    def test_the_asker_hangs_up(self, method: str) -> None:
        with talk() as (bench, call):
            kept = kept_by(bench.carrier)
            call.request(method, sdp(direction="sendonly", version=2))
            bench.run(0.1)
            call.bye()
            bench.run(0.1)
            assert 487 in {reply.status for reply in call.replies}
            assert callee(bench).ended
            if method == "UPDATE":
                bench.carrier.endpoint.respond(kept[0].transaction, 487, now=bench.now)

    def test_the_other_side_hangs_up(self) -> None:
        with talk() as (bench, call):
            kept = kept_by(bench.carrier)
            call.request("UPDATE", sdp(direction="sendonly", version=2))
            bench.run(0.1)
            bench.carrier.within = None
            callee(bench).bye()
            bench.run(0.1)
            assert 487 in {reply.status for reply in call.replies}
            assert call.has_ended()
            bench.carrier.endpoint.respond(kept[0].transaction, 487, now=bench.now)

    def test_a_200_that_crosses_the_gates_bye_is_acked(self) -> None:
        with talk(GateBench(delay=(0.1, 0.1))) as (bench, call):
            call.request("INVITE", sdp(direction="sendonly", version=2))
            acks = acks_to_the_carrier(bench)
            bench.run(0.15)  # the 200 to the gate's re-INVITE comes just after this BYE
            call.bye()
            bench.run(2.0)
            assert len(acks) == 1
        assert bench.record.disposition is Disposition.ANSWERED

    def test_its_200_is_never_acked(self) -> None:
        with talk() as (bench, call):
            bench.carrier.auto_ack = False
            callee(bench).request("INVITE", sdp(CALLEE, version=2))
            bench.run(33.0)
            assert call.ended
            assert callee(bench).ended
        assert bench.record.disposition is Disposition.FAILED

    def test_the_gate_hangs_up_while_it_waits_to_ask_again(self) -> None:
        with talk() as (bench, call):
            bench.carrier.within = answers(bench.carrier, 491)
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.1)
            assert bench.core.hang_up(next(iter(bench.core.calls)), bench.now)
            bench.run(1.0)
            assert call.has_ended()
        assert bench.record.hung_up_by is HungUpBy.GATE


class TestHostile:
    def test_a_format_under_a_wrong_clock_is_refused_and_the_other_side_goes_back(self) -> None:
        strange = sdp(codecs="96", events=False, direction="sendonly", version=2)
        strange = strange.replace(b"a=ptime", b"a=rtpmap:96 PCMA/16000\r\na=ptime")
        with talk() as (bench, call):
            bench.carrier.within = follows(bench.carrier, codecs="0 101")
            call.request("INVITE", strange)
            bench.run(0.5)
            assert call.replies[-1].status == 488
            told_callee = [direction_of(request.body) for request in asked(callee(bench))]
            assert told_callee == ["sendonly", "sendrecv"]

    def test_a_peer_that_asks_over_and_over_is_answered_each_time(self) -> None:
        with talk() as (bench, call):
            bench.carrier.within = follows(bench.carrier)
            for version in range(2, 60):
                direction = "sendonly" if version % 2 else "sendrecv"
                call.request("INVITE", sdp(direction=direction, version=version))
                bench.run(0.05)
                assert call.replies[-1].status == 200

    def test_repeated_and_late_messages_change_nothing_twice(self) -> None:
        with talk(GateBench(seed=3, duplication=0.5, delay=(0.0, 0.05))) as (bench, call):
            bench.carrier.within = follows(bench.carrier)
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(3.0)
            assert len(asked(callee(bench))) == 1
            assert call.replies[-1].status == 200

    @pytest.mark.parametrize("seed", range(8))
    def test_on_a_bad_network_both_sides_end_in_agreement(self, seed: int) -> None:
        with GateBench(seed=seed, loss=0.25, duplication=0.1, delay=(0.0, 0.1), script=ANSWER) as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(20.0)
            bench.carrier.within = follows(bench.carrier)
            if call.status == 200 and not call.has_ended():
                call.request("INVITE", sdp(direction="sendonly", version=2))
                bench.run(33.0)
                if call.replies and call.replies[-1].status == 200:
                    assert not told(bench, 2).remote.peer_sends
            for live in list(bench.core.calls):
                bench.core.hang_up(live, bench.now)
            bench.run(40.0)

"""Requests within the dialogs of a call: re-INVITE, UPDATE, INFO, OPTIONS (RFC 3261 §14, RFC 3311, RFC
6086)."""

from __future__ import annotations

import pytest

from proxy.call.ports import ConfigureMediaLeg, LegId
from proxy.cdr.record import Disposition
from proxy.dtmf.digits import DigitMeans
from tests.support.gate import NUMBER, GateBench, default_config
from tests.support.ua import ANSWER, Step, UaCall, sdp

TOLL_FREE = "918005550123"


def talking(bench: GateBench) -> UaCall:
    call = bench.pbx.call(TOLL_FREE)
    bench.run(1.0)
    assert call.status == 200
    return call


def remote(bench: GateBench, leg: int = 1) -> ConfigureMediaLeg:
    """What the engine was told last about a leg's peer."""
    return bench.media.all[LegId(leg)].configured[-1]


class TestReInvite:
    """RFC 3261 §14.2: answered from the gate's own media, the other side does not notice."""

    @pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
    @pytest.mark.parametrize(
        ("direction", "answer", "sends", "receives"),
        [
            ("sendonly", b"a=recvonly", True, False),
            ("inactive", b"a=inactive", False, False),
            ("recvonly", b"a=sendonly", False, True),
            ("sendrecv", b"a=sendrecv", True, True),
        ],
    )
    def test_hold_is_honoured(
        self, method: str, direction: str, answer: bytes, sends: bool, receives: bool
    ) -> None:
        with GateBench() as bench:
            call = talking(bench)
            call.request(method, sdp(direction=direction, version=2))
            bench.run(0.5)
            assert call.replies[-1].status == 200
            assert answer in call.replies[-1].body
            told = remote(bench).remote
            assert (told.peer_sends, told.peer_receives) == (sends, receives)
            assert [request.method for request in bench.carrier.calls[0].requests] == ["ACK"]
            assert bench.a_leg().bridged_with is not None
            call.bye()

    def test_from_the_callee_moves_its_media(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.calls[0].request("INVITE", sdp("192.0.2.99", 5000))
            bench.run(0.5)
            assert remote(bench, 2).remote.address == "192.0.2.99"
            call.bye()

    def test_unchanged_offer_gets_the_same_answer(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            call.request("INVITE", bench.pbx.description)
            bench.run(0.5)
            assert call.replies[-1].body == call.responses[-1].body
            call.bye()

    @pytest.mark.parametrize(
        ("body", "content_type", "status"),
        [
            (sdp(codecs="8 101"), "application/sdp", 488),
            (b"v=0\r\nnonsense", "application/sdp", 400),
            (b"<x/>", "application/xml", 415),
        ],
    )
    def test_refused_offer_leaves_the_call_as_it_was(
        self, body: bytes, content_type: str, status: int
    ) -> None:
        with GateBench() as bench:
            call = talking(bench)
            before = len(bench.media.all[LegId(1)].configured)
            call.request("INVITE", body, content_type)
            bench.run(0.5)
            assert call.replies[-1].status == status
            assert len(bench.media.all[LegId(1)].configured) == before
            assert not call.has_ended()
            call.bye()

    def test_without_sdp_gets_an_offer_and_answers_in_the_ack(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.pbx.ack_body = sdp(port=4444, version=2)
            call.request("INVITE", b"")
            bench.run(0.5)
            assert b"RTP/AVP 0 101\r\n" in call.replies[-1].body
            assert remote(bench).remote.rtp_port == 4444
            call.bye()

    def test_rfc3264_6_1_a_callee_that_renumbers_events_is_heard_under_the_offered_number(self) -> None:
        renumbered = sdp(codecs="0 97").replace(b":101 ", b":97 ")
        with GateBench(script=(Step(0.0, 200, body=renumbered),)) as bench:
            call = talking(bench)
            told = remote(bench, 2).remote
            assert (told.event_payload_type, told.heard_event_payload_type) == (97, 101)
            assert (told.audio.payload_type, told.heard_payload_type) == (0, 0)
            # RFC 3264 §8.3.2: a later offer of the gate keeps to its own numbers.
            bench.carrier.ack_body = renumbered
            bench.carrier.calls[0].request("INVITE", b"")
            bench.run(0.5)
            assert b"RTP/AVP 0 101\r\n" in bench.carrier.calls[0].replies[-1].body
            assert remote(bench, 2).remote.heard_event_payload_type == 101
            call.bye()

    def test_answer_in_the_ack_that_is_no_use_changes_nothing(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            call.request("INVITE", b"")
            bench.run(0.5)
            assert remote(bench).remote.rtp_port == 4000
            call.request("INVITE", sdp(version=3))
            bench.run(0.5)
            assert call.replies[-1].status == 200
            call.bye()

    def test_offer_while_an_offer_of_the_gate_is_open_is_491(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.pbx.auto_ack = False
            call.request("INVITE", b"")
            bench.run(0.5)
            call.request("UPDATE", sdp(version=2))
            bench.run(0.1)
            assert call.replies[-1].status == 491
            call.bye()

    def test_its_200_is_never_acked(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.auto_ack = False
            bench.carrier.calls[0].request("INVITE", sdp("192.0.2.90", version=2))
            bench.run(33.0)
            assert call.ended
            assert bench.carrier.calls[0].ended
        assert bench.record.disposition is Disposition.FAILED

    def test_in_a_call_without_telephone_event(self) -> None:
        with GateBench() as bench:
            bench.pbx.description = sdp(events=False)
            call = talking(bench)
            bench.pbx.ack_body = bench.pbx.description
            call.request("INVITE", b"")
            bench.run(0.5)
            assert b"RTP/AVP 0\r\n" in call.replies[-1].body
            call.bye()


class TestUpdate:
    """RFC 3311 §5.2."""

    def test_without_sdp_is_a_refresh(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            call.request("UPDATE")
            bench.run(0.5)
            assert call.replies[-1].status == 200
            assert call.replies[-1].body == b""
            call.bye()

    def test_offer_before_the_first_one_is_answered(self) -> None:
        # The gate has no answer to the callee's side yet: the callee offers in an early dialog without SDP.
        with GateBench(script=(Step(0.0, 180),)) as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(0.5)
            bench.carrier.calls[0].request("UPDATE", sdp("192.0.2.90"))
            bench.run(0.1)
            reply = bench.carrier.calls[0].replies[-1]
            assert reply.status in {491, 500}
            if reply.status == 500:
                assert reply.headers.get("Retry-After") is not None
            call.cancel()

    def test_early_offer_of_the_caller_in_early_mode(self) -> None:
        from proxy.call.config import CodeMode

        with GateBench(config=default_config(code_mode=CodeMode.EARLY)) as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            call.request("UPDATE", sdp(port=4500, version=2))
            bench.run(0.1)
            assert call.replies[-1].status == 200
            assert remote(bench).remote.rtp_port == 4500
            call.cancel()


class TestInfo:
    """RFC 6086; digits in talk cross as RFC 4733."""

    def test_digit_in_talk_of_a_phone_that_keys_by_info_crosses_as_an_event(self) -> None:
        with GateBench(script=(Step(0.0, 200, body=sdp("192.0.2.90", events=False)),)) as bench:
            call = talking(bench)
            bench.carrier.calls[0].info("#")
            bench.run(0.5)
            assert bench.media.all[LegId(1)].digits_sent == "#"
            call.bye()

    def test_digit_in_talk_of_a_phone_that_keyed_its_code_by_info_crosses(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            for digit in "1234#":
                call.info(digit)
                bench.run(0.2)
            bench.run(0.5)
            call.info("5")
            bench.run(0.2)
            assert bench.media.all[LegId(2)].digits_sent == "5"
            call.bye()

    @pytest.mark.parametrize("means", [DigitMeans.RFC4733, DigitMeans.INBAND])
    def test_digits_told_twice_do_not_reach_the_callee(self, means: DigitMeans) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(1.0)
            bench.press("1234#", means=means)
            bench.run(0.05)
            for digit in "4#5":  # the last of the code, late; then a key in talk
                call.info(digit)
                bench.run(0.2)
            assert bench.media.all[LegId(2)].digits_sent == ""
            call.bye()

    def test_digits_told_twice_with_info_first_do_not_reach_the_callee(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(1.0)
            for digit in "1234":
                call.info(digit)
                bench.press(digit)
            call.info("#")
            bench.run(0.5)
            call.info("5")
            bench.run(0.2)
            assert bench.media.all[LegId(2)].digits_sent == ""
            call.bye()

    def test_info_of_a_phone_that_negotiated_telephone_event_is_not_doubled_in_a_plain_call(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            call.info("5")
            bench.run(0.2)
            assert call.replies[-1].status == 200
            assert bench.media.all[LegId(2)].digits_sent == ""
            call.bye()

    @pytest.mark.parametrize("body", [b"", b"x"])
    def test_rfc6086_4_2_2_an_unknown_info_package_gets_469_with_recv_info(self, body: bytes) -> None:
        with GateBench() as bench:
            call = talking(bench)
            call.request("INFO", body, "application/foo", headers=[("Info-Package", "foo")])
            bench.run(0.5)
            assert call.replies[-1].status == 469
            assert call.replies[-1].headers.get("Recv-Info") == ""
            call.bye()

    def test_keys_are_taken_whatever_the_info_package_is_called(self) -> None:
        with GateBench(script=(Step(0.0, 200, body=sdp("192.0.2.90", events=False)),)) as bench:
            call = talking(bench)
            bench.carrier.calls[0].request(
                "INFO", b"Signal=5\r\n", "application/dtmf-relay", headers=[("Info-Package", "dtmf")]
            )
            bench.run(0.5)
            assert bench.media.all[LegId(1)].digits_sent == "5"
            call.bye()

    def test_digit_for_a_side_without_telephone_event_is_left_to_the_engine(self) -> None:
        with GateBench(script=(Step(0.0, 200, body=sdp("192.0.2.90", events=False)),)) as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            for digit in "1234#":
                call.info(digit)
                bench.run(0.2)
            bench.run(0.5)
            call.info("5")
            bench.run(0.5)
            assert call.replies[-1].status == 200
            assert bench.media.all[LegId(2)].digits_sent == "5"  # as a tone
            call.bye()

    @pytest.mark.parametrize(
        ("body", "content_type", "status"),
        [
            (b"", "application/sdp", 200),
            (b"Signal=!\r\n", "application/dtmf-relay", 200),
            (b"Signal=nonsense\r\n", "application/dtmf-relay", 400),
            (b"<x/>", "application/xml", 415),
        ],
    )
    def test_other_bodies(self, body: bytes, content_type: str, status: int) -> None:
        with GateBench() as bench:
            call = talking(bench)
            call.request("INFO", body, content_type)
            bench.run(0.5)
            assert call.replies[-1].status == status
            if status == 415:
                assert "application/dtmf-relay" in str(call.replies[-1].headers.get("Accept"))
            call.bye()

    def test_digit_while_ringing_goes_nowhere(self) -> None:
        with GateBench(script=(Step(0.0, 180),)) as bench:
            call = bench.pbx.call(NUMBER)
            bench.press("1234#")
            bench.carrier.calls[0].info("5")
            call.info("5")
            bench.run(0.5)
            assert bench.media.all[LegId(1)].digits_sent == ""
            call.bye()

    def test_digit_of_the_callee_is_none_of_the_gate(self) -> None:
        with GateBench() as bench:
            first = bench.pbx.call(NUMBER)
            bench.run(0.5)
            live = next(iter(bench.core.calls.values()))
            from proxy.call.leg import Leg

            other: Leg = Leg(
                "b", live, bench.gate.endpoint, latching=live.a.latching, security=live.a.security
            )
            live.digit_pressed(other, "#", DigitMeans.INFO, bench.now)
            assert live.record.wrong_tries == 0
            first.bye()


def test_options_within_a_dialog() -> None:
    with GateBench(script=ANSWER) as bench:
        call = talking(bench)
        call.request("OPTIONS")
        bench.run(0.5)
        assert call.replies[-1].status == 200
        assert "INVITE" in str(call.replies[-1].headers.get("Allow"))
        call.bye()


def test_request_after_the_gate_has_said_bye_is_481() -> None:
    with GateBench() as bench:
        call = talking(bench)
        bench.network.delay = (0.1, 0.1)
        bench.carrier.calls[0].bye()
        bench.run(0.15)  # the gate's BYE is on its way to the caller
        call.request("INVITE", sdp(version=2))
        call.info("5")
        bench.run(1.0)
        assert {reply.status for reply in call.replies} == {481, 200} or {r.status for r in call.replies} == {
            481
        }


def test_peer_that_has_forgotten_the_dialog_ends_the_call() -> None:
    # Nothing of the gate's own runs in a dialog yet but BYE; the endpoint may end a dialog all the same.
    from proxy.sip.events import DialogEnded

    with GateBench() as bench:
        call = talking(bench)
        live = next(iter(bench.core.calls.values()))
        assert live.b is not None
        dialog = live.b.dialog
        assert dialog is not None
        bench.gate.endpoint.terminate(dialog)
        bench.core.handle_sip(DialogEnded(dialog), bench.now)
        bench.run(1.0)
        assert call.ended
        bench.vanished.add(bench.carrier)
    assert bench.record.disposition is Disposition.FAILED

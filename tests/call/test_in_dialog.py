"""Requests within the dialogs of a call that leave its sessions alone: INFO, OPTIONS (RFC 6086, RFC 3261)."""

from __future__ import annotations

import pytest

from proxy.call import heard_keys
from proxy.call.ports import LegId
from proxy.cdr.record import Disposition
from proxy.dtmf.digits import DigitMeans
from tests.call.offers import talk
from tests.support.gate import NUMBER, GateBench
from tests.support.ua import ANSWER, Step, sdp

NO_EVENTS = (Step(0.0, 200, body=sdp("192.0.2.90", events=False)),)
"""A callee that takes no telephone-event."""


class TestInfo:
    """RFC 6086; digits in talk cross as RFC 4733."""

    def test_digit_in_talk_of_a_phone_that_keys_by_info_crosses_as_an_event(self) -> None:
        with talk(GateBench(script=NO_EVENTS)) as (bench, _call):
            bench.carrier.calls[0].info("#")
            bench.run(0.5)
            assert bench.media.all[LegId(1)].digits_sent == "#"

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
        with talk() as (bench, call):
            call.info("5")
            bench.run(0.2)
            assert call.replies[-1].status == 200
            assert bench.media.all[LegId(2)].digits_sent == ""

    @pytest.mark.parametrize("body", [b"", b"x"])
    def test_rfc6086_4_2_2_an_unknown_info_package_gets_469_with_recv_info(self, body: bytes) -> None:
        with talk() as (bench, call):
            call.request("INFO", body, "application/foo", headers=[("Info-Package", "foo")])
            bench.run(0.5)
            assert call.replies[-1].status == 469
            assert call.replies[-1].headers.get("Recv-Info") == ""

    def test_keys_are_taken_whatever_the_info_package_is_called(self) -> None:
        with talk(GateBench(script=NO_EVENTS)) as (bench, _call):
            bench.carrier.calls[0].request(
                "INFO", b"Signal=5\r\n", "application/dtmf-relay", headers=[("Info-Package", "dtmf")]
            )
            bench.run(0.5)
            assert bench.media.all[LegId(1)].digits_sent == "5"

    def test_digit_for_a_side_without_telephone_event_is_left_to_the_engine(self) -> None:
        knows_no_info = [("Allow", "INVITE, ACK, BYE, CANCEL")]
        script = (Step(0.0, 200, body=sdp("192.0.2.90", events=False), headers=knows_no_info),)
        with GateBench(script=script) as bench:
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
        with talk() as (bench, call):
            call.request("INFO", body, content_type)
            bench.run(0.5)
            assert call.replies[-1].status == status
            if status == 415:
                assert "application/dtmf-relay" in str(call.replies[-1].headers.get("Accept"))

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

            a = live.a
            other: Leg = Leg(
                "b", live, bench.gate.endpoint, a.party, latching=a.latching, security=a.security
            )
            heard_keys.pressed(other, "#", DigitMeans.INFO, bench.now, 160)
            assert live.record.wrong_tries == 0
            first.bye()


def test_options_within_a_dialog() -> None:
    with talk(GateBench(script=ANSWER)) as (bench, call):
        call.request("OPTIONS")
        bench.run(0.5)
        assert call.replies[-1].status == 200
        assert "INVITE" in str(call.replies[-1].headers.get("Allow"))


def test_request_after_the_gate_has_said_bye_is_481() -> None:
    with talk() as (bench, call):
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

    with talk() as (bench, call):
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

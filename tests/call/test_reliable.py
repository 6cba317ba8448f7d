"""Reliable provisional responses on both legs, and offers that go with them (RFC 3262, RFC 3311)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from proxy.call.a_leg import ALeg
from proxy.call.config import CodeMode, GateConfig, Reliability
from proxy.call.ports import DigitHeard, LegId
from proxy.cdr.record import Disposition
from proxy.dtmf.digits import DigitMeans
from proxy.sip.dialog import DialogState
from proxy.sip.events import PrackTimedOut, RequestReceived
from proxy.sip.message import Response
from tests.support.gate import NUMBER, GateBench, default_config
from tests.support.ua import RING_AND_ANSWER, Step, UaCall, sdp

EARLY = default_config(code_mode=CodeMode.EARLY)
TOLL_FREE = "918005550123"
SUPPORTED = (("Supported", "100rel"),)
REQUIRED = (("Require", "100rel"),)
RING_THEN_ANSWER = (Step(0.0, 180), Step(1.0, 200, with_sdp=True))


def reliably(responses: list[Response]) -> list[int]:
    """Status codes of the responses that ask for a PRACK."""
    return [response.status for response in responses if response.headers.get("Require") == "100rel"]


def of_peer(reliable: Reliability) -> GateConfig:
    config = default_config(code_mode=CodeMode.EARLY)
    return replace(config, peers=(replace(config.peers[0], reliable=reliable), *config.peers[1:]))


class TestCaller:
    """RFC 3262 §3: the gate as the UAS."""

    def test_requires_it_every_1xx_is_reliable(self) -> None:
        with GateBench(script=RING_THEN_ANSWER) as bench:
            call = bench.pbx.call(TOLL_FREE, headers=REQUIRED)
            bench.run(2.0)
            assert call.statuses == [180, 200]
            assert reliably(call.responses) == [180]
            assert call.last.body
            call.bye()

    def test_supports_it_only_what_carries_sdp_is_reliable(self) -> None:
        with GateBench(script=RING_THEN_ANSWER) as bench:
            call = bench.pbx.call(TOLL_FREE, headers=SUPPORTED)
            bench.run(2.0)
            assert call.statuses == [180, 200]
            assert reliably(call.responses) == []
            call.bye()

    def test_rfc3261_13_2_1_the_answer_goes_once(self) -> None:
        with GateBench(config=EARLY, script=RING_AND_ANSWER) as bench:
            call = bench.pbx.call(NUMBER, headers=SUPPORTED)
            bench.run(0.1)
            assert reliably(call.responses) == [183]
            bench.press("1234#")
            bench.run(2.0)
            assert call.statuses == [183, 180, 200]
            assert reliably(call.responses) == [183]
            assert [bool(response.body) for response in call.responses if response.status > 100] == [
                True,
                False,
                False,
            ]
            assert bench.a_leg().bridged_with is not None
            call.bye()
        assert bench.record.disposition is Disposition.ANSWERED

    def test_a_lost_prack_is_waited_for_while_the_prompt_plays(self) -> None:
        with GateBench(config=EARLY) as bench:
            bench.pbx.auto_prack = False
            call = bench.pbx.call(NUMBER, headers=SUPPORTED)
            bench.run(0.1)
            assert bench.heard == ["enter_code"]
            bench.press("1234#")
            bench.run(1.0)
            # B has answered, but no 2xx may overtake the description.
            assert call.statuses == [183]
            assert call.dialog is not None
            call.prack(call.dialog, "7000 1 INVITE")
            bench.run(0.5)
            assert call.statuses == [183, 200]
            assert call.connected
            call.bye()
        assert bench.record.disposition is Disposition.ANSWERED

    def test_no_prack_at_all_ends_with_a_5xx_after_64_t1(self) -> None:
        with GateBench(config=EARLY, script=(Step(0.0, 180),)) as bench:
            bench.pbx.auto_prack = False
            call = bench.pbx.call(NUMBER, headers=SUPPORTED)
            bench.press("1234#")
            bench.run(30.0)
            assert call.statuses[0] == 183
            assert 504 not in call.statuses
            bench.run(2.0)
            assert call.status == 504
            bench.run(0.5)
            assert bench.carrier.calls[0].was_cancelled()
        assert bench.record.disposition is Disposition.FAILED

    def test_the_callee_hangs_up_before_the_prack(self) -> None:
        with GateBench(config=EARLY) as bench:
            bench.pbx.auto_prack = False
            call = bench.pbx.call(NUMBER, headers=SUPPORTED)
            bench.press("1234#")
            bench.run(0.5)
            bench.carrier.calls[0].bye()
            bench.run(0.5)
            assert call.statuses == [183, 480]

    def test_cancel_before_the_prack(self) -> None:
        with GateBench(config=EARLY) as bench:
            bench.pbx.auto_prack = False
            call = bench.pbx.call(NUMBER, headers=SUPPORTED)
            bench.press("1234#")
            bench.run(0.5)
            call.cancel()
            bench.run(0.5)
            assert call.statuses == [183, 487]
            assert bench.carrier.calls[0].has_ended()

    def test_a_prack_after_the_cancel_gets_481(self) -> None:
        with GateBench(config=EARLY) as bench:
            bench.pbx.auto_prack = False
            call = bench.pbx.call(NUMBER, headers=SUPPORTED)
            bench.run(0.5)
            assert call.dialog is not None
            call.prack(call.dialog, "7000 1 INVITE")
            call.cancel()
            bench.run(0.5)
            assert call.statuses == [183, 487]

    def test_bye_within_the_early_dialog_and_a_prack_behind_it(self) -> None:
        with GateBench(config=EARLY) as bench:
            bench.pbx.auto_prack = False
            call = bench.pbx.call(NUMBER, headers=SUPPORTED)
            bench.run(0.5)
            assert call.dialog is not None
            call.prack(call.dialog, "7000 1 INVITE")
            call.bye()
            bench.run(0.5)
            assert call.statuses == [183, 487]

    @pytest.mark.parametrize(
        ("setting", "headers", "expected"),
        [
            (Reliability.OFF, SUPPORTED, []),
            (Reliability.OFF, REQUIRED, [183, 180]),
            (Reliability.SUPPORTED, SUPPORTED, [183]),
            (Reliability.REQUIRED, SUPPORTED, [183, 180]),
            (Reliability.REQUIRED, (), []),
        ],
    )
    def test_the_setting_of_the_peer(
        self, setting: Reliability, headers: tuple[tuple[str, str], ...], expected: list[int]
    ) -> None:
        with GateBench(config=of_peer(setting), script=RING_THEN_ANSWER) as bench:
            call = bench.pbx.call(NUMBER, headers=headers)
            bench.press("1234#")
            bench.run(2.0)
            assert call.statuses == [183, 180, 200]
            assert reliably(call.responses) == expected
            call.bye()

    def test_an_emergency_call_waits_for_no_prack_unless_it_wants_to(self) -> None:
        script = (Step(0.0, 183, with_sdp=True), Step(1.0, 200, with_sdp=True))
        with GateBench(config=EARLY, script=script) as bench:
            bench.pbx.auto_prack = False
            call = bench.pbx.call("911", headers=SUPPORTED)
            bench.run(2.0)
            assert call.statuses == [183, 200]
            assert reliably(call.responses) == []
            call.bye()

    def test_an_emergency_call_that_requires_it_goes_on_without_a_prack(self) -> None:
        script = (Step(0.0, 183, with_sdp=True), Step(0.5, 180), Step(40.0, 200, with_sdp=True))
        with GateBench(config=EARLY, script=script) as bench:
            bench.pbx.auto_prack = False
            call = bench.pbx.call("911", headers=REQUIRED)
            bench.run(39.0)
            assert 504 not in call.statuses
            assert not any(response.body for response in call.responses)
            bench.run(2.0)
            assert call.status == 200
            assert call.last.body
            call.bye()
        assert bench.record.disposition is Disposition.ANSWERED

    def test_an_emergency_call_without_an_offer_is_offered_something_all_the_same(self) -> None:
        with GateBench(config=EARLY, script=(Step(0.0, 180), Step(50.0, 200, with_sdp=True))) as bench:
            bench.pbx.auto_prack = False
            call = bench.pbx.call("911", body=b"", headers=REQUIRED)
            bench.run(33.0)
            # Nothing can be agreed on without the PRACK that holds the answer.
            assert call.statuses[-1] == 504

    def test_early_media_of_the_carrier_goes_reliably(self) -> None:
        script = (Step(0.0, 183, with_sdp=True), Step(1.0, 200, with_sdp=True))
        with GateBench(script=script) as bench:
            call = bench.pbx.call(TOLL_FREE, headers=SUPPORTED)
            bench.run(0.5)
            assert reliably(call.responses) == [183]
            assert bench.a_leg().bridged_with is not None
            bench.run(1.0)
            assert call.status == 200
            call.bye()

    def test_a_prack_after_the_200_and_the_hang_up_changes_nothing(self) -> None:
        with GateBench(script=RING_THEN_ANSWER) as bench:
            bench.pbx.auto_prack = bench.pbx.auto_ack = False
            call = bench.pbx.call(TOLL_FREE, headers=REQUIRED)
            bench.run(1.1)
            # The 180 has no description: the 200 did not wait for its PRACK.
            assert call.statuses == [180, 200]
            bench.carrier.calls[0].bye()
            bench.run(0.1)
            assert call.dialog is not None
            call.prack(call.dialog, "7000 1 INVITE", sdp(version=2))
            bench.run(0.1)
            assert [reply.status for reply in call.replies] == [200]
            assert not call.replies[0].body
            bench.pbx.endpoint.ack(call.dialog, now=bench.now)
            bench.run(1.0)
            assert call.has_ended()

    def test_a_prack_that_is_missed_when_the_call_is_over_changes_nothing(self) -> None:
        with GateBench(config=EARLY) as bench:
            bench.pbx.auto_prack = False
            call = bench.pbx.call(NUMBER, headers=SUPPORTED)
            bench.run(0.5)
            live = next(iter(bench.core.calls.values()))
            leg = live.a
            assert isinstance(leg, ALeg)
            transaction = leg.transaction
            assert bench.core.hang_up(live.id, bench.now)
            bench.core.handle_sip(PrackTimedOut(transaction), bench.now)  # of the same turn of the loop
            bench.run(0.5)
            bench.core.handle_sip(PrackTimedOut(transaction), bench.now)
            assert call.statuses == [183, 480]

    def test_the_183_is_repeated_each_60_s_without_its_description(self) -> None:
        with GateBench(config=EARLY) as bench:
            call = bench.pbx.call(NUMBER, headers=REQUIRED)
            for _ in range(16):
                bench.run(4.0)
                bench.press("1*")
            assert call.statuses == [183, 183]
            assert reliably(call.responses) == [183, 183]
            call.cancel()


class TestOffersOfTheCaller:
    """RFC 3262 §5."""

    def test_an_offer_in_the_prack_is_answered_in_its_200(self) -> None:
        with GateBench(config=EARLY) as bench:
            bench.pbx.prack_body = sdp(port=4444, version=2)
            call = bench.pbx.call(NUMBER, headers=SUPPORTED)
            bench.run(0.5)
            assert [reply.status for reply in call.replies] == [200]
            assert b"m=audio" in call.replies[0].body
            assert bench.media.all[LegId(1)].configured[-1].remote.rtp_port == 4444
            bench.press("1234#")
            bench.run(0.5)
            assert call.status == 200
            call.bye()

    @pytest.mark.parametrize("body", [sdp(codecs="8 101"), b"v=0\r\nnonsense"])
    def test_rfc6337_an_offer_that_is_no_use_ends_the_call_after_its_200(self, body: bytes) -> None:
        with GateBench(config=EARLY) as bench:
            bench.pbx.prack_body = body
            call = bench.pbx.call(NUMBER, headers=SUPPORTED)
            bench.run(0.5)
            assert [reply.status for reply in call.replies] == [200]
            assert call.statuses == [183, 488]
        assert bench.record.disposition is Disposition.NOT_ACCEPTABLE


class TestLateOffer:
    """An INVITE without SDP: the gate offers in the first reliable response (RFC 3262 §5, DESIGN 1.6)."""

    @pytest.mark.parametrize("headers", [SUPPORTED, REQUIRED])
    def test_early_mode_offers_in_a_reliable_183_and_asks_after_the_prack(
        self, headers: tuple[tuple[str, str], ...]
    ) -> None:
        with GateBench(config=EARLY, script=RING_THEN_ANSWER) as bench:
            bench.pbx.auto_prack = False
            call = bench.pbx.call(NUMBER, body=b"", headers=headers)
            bench.run(1.0)
            assert reliably(call.responses) == [183]
            assert b"m=audio" in call.last.body
            assert bench.heard == []
            assert call.dialog is not None
            bench.pbx.auto_prack = True
            call.prack(call.dialog, "7000 1 INVITE", bench.pbx.description)
            bench.run(0.1)
            assert bench.heard == ["enter_code"]
            bench.press("1234#")
            bench.run(2.0)
            assert call.statuses == [183, 180, 200]
            assert not call.last.body
            assert bench.a_leg().bridged_with is not None
            call.bye()
        assert bench.record.disposition is Disposition.ANSWERED
        assert bench.record.codec == "PCMU"

    def test_no_prack_ends_it_before_anything_was_asked(self) -> None:
        with GateBench(config=EARLY) as bench:
            bench.pbx.auto_prack = False
            call = bench.pbx.call(NUMBER, body=b"", headers=SUPPORTED)
            bench.run(33.0)
            assert call.statuses == [183, 504]
            assert bench.heard == []

    @pytest.mark.parametrize("body", [b"", b"v=0\r\nnonsense"])
    def test_a_prack_without_a_usable_answer_ends_the_call(self, body: bytes) -> None:
        with GateBench(config=EARLY) as bench:
            bench.pbx.prack_body = body
            call = bench.pbx.call(NUMBER, body=b"", headers=SUPPORTED)
            bench.run(0.5)
            assert [reply.status for reply in call.replies] == [200]
            assert call.statuses == [183, 488]

    def test_answer_mode_offers_in_the_200(self) -> None:
        with GateBench() as bench:
            bench.pbx.ack_body = bench.pbx.description
            call = bench.pbx.call(NUMBER, body=b"", headers=REQUIRED)
            bench.run(0.1)
            assert call.statuses == [200]
            bench.press("1234#")
            bench.run(0.5)
            call.bye()

    def test_an_ungated_caller_that_requires_it_is_offered_something_with_the_180(self) -> None:
        with GateBench(script=RING_THEN_ANSWER) as bench:
            bench.pbx.prack_body = bench.pbx.description
            call = bench.pbx.call(TOLL_FREE, body=b"", headers=REQUIRED)
            bench.run(0.5)
            assert reliably(call.responses) == [180]
            assert b"m=audio" in call.last.body
            bench.run(1.0)
            assert call.statuses == [180, 200]
            assert not call.last.body
            assert bench.a_leg().bridged_with is not None
            call.bye()

    def test_what_the_callee_speaks_is_offered_when_it_is_known(self) -> None:
        script = (Step(0.0, 183, body=sdp(codecs="8 101")), Step(1.0, 200, body=sdp(codecs="8 101")))
        with GateBench(script=script) as bench:
            bench.pbx.prack_body = bench.pbx.description
            call = bench.pbx.call(TOLL_FREE, body=b"", headers=REQUIRED)
            bench.run(0.5)
            assert b"RTP/AVP 8 101\r\n" in call.last.body
            assert bench.a_leg().bridged_with is not None
            bench.run(1.0)
            call.bye()

    def test_the_callee_answers_before_the_prack(self) -> None:
        with GateBench(script=(Step(0.0, 180), Step(0.2, 200, with_sdp=True))) as bench:
            bench.pbx.auto_prack = False
            call = bench.pbx.call(TOLL_FREE, body=b"", headers=REQUIRED)
            bench.run(1.0)
            assert call.statuses == [180]
            assert call.dialog is not None
            call.prack(call.dialog, "7000 1 INVITE", bench.pbx.description)
            bench.run(0.5)
            assert call.statuses == [180, 200]
            assert bench.a_leg().bridged_with is not None
            call.bye()

    def test_rfc3311_5_2_an_update_while_the_offer_waits_for_its_prack_gets_491(self) -> None:
        with GateBench(config=EARLY) as bench:
            bench.pbx.auto_prack = False
            call = bench.pbx.call(NUMBER, body=b"", headers=SUPPORTED)
            bench.run(0.5)
            call.request("UPDATE", sdp(version=2))
            bench.run(0.5)
            assert [reply.status for reply in call.replies] == [491]
            call.cancel()


def refuse(status: int, method: str, call: UaCall, event: RequestReceived) -> bool:
    """Refuse requests of one method, within dialogs."""
    if event.request.method != method:
        return False
    call.ua.endpoint.respond(event.transaction, status, now=call.ua.now())
    return True


def trunk(reliable: Reliability) -> GateConfig:
    config = default_config()
    return replace(config, trunks=(replace(config.trunks[0], reliable=reliable),))


class TestTrunk:
    """RFC 3262 §4: the gate as the UAC."""

    @pytest.mark.parametrize(
        ("setting", "supported", "required"),
        [
            (Reliability.OFF, False, False),
            (Reliability.SUPPORTED, True, False),
            (Reliability.REQUIRED, True, True),
        ],
    )
    def test_what_the_invite_says(self, setting: Reliability, supported: bool, required: bool) -> None:
        with GateBench(config=trunk(setting), carrier_supports=("100rel",)) as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(0.5)
            invite = bench.carrier.calls[0].invite
            assert invite is not None
            assert ("100rel" in invite.headers.values("Supported")) is supported
            assert (invite.headers.get("Require") == "100rel") is required
            assert "PRACK" in invite.headers.values("Allow")
            call.bye()

    def test_emergency_calls_require_nothing(self) -> None:
        with GateBench(config=trunk(Reliability.REQUIRED)) as bench:
            call = bench.pbx.call("911")
            bench.run(0.5)
            invite = bench.carrier.calls[0].invite
            assert invite is not None
            assert "Require" not in invite.headers
            call.bye()

    def test_reliable_183_is_acknowledged_and_the_200_needs_no_sdp(self) -> None:
        script = (
            Step(0.0, 183, with_sdp=True, reliable=True),
            Step(0.5, 180, reliable=True),
            Step(0.5, 200),
        )
        with GateBench(script=script) as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(0.3)
            assert bench.a_leg().bridged_with is not None
            bench.run(1.5)
            callee = bench.carrier.calls[0]
            assert [request.headers.get("RAck") for request in callee.requests[:2]] == [
                "7000 1 INVITE",
                "7001 1 INVITE",
            ]
            assert not callee.requests[0].body
            # Reliability is per leg: the caller knows nothing of it.
            assert reliably(call.responses) == []
            assert call.statuses == [183, 180, 200]
            call.bye()
        assert bench.record.disposition is Disposition.ANSWERED

    def test_rfc3261_13_2_1_a_description_after_the_reliable_answer_does_not_count(self) -> None:
        script = (
            Step(0.0, 183, with_sdp=True, reliable=True),
            Step(0.5, 200, body=sdp("192.0.2.99", 5000)),
        )
        with GateBench(script=script) as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(1.0)
            assert call.status == 200
            assert bench.media.all[LegId(2)].configured[-1].remote.address == bench.carrier.host
            call.bye()

    def test_prack_that_nobody_answers_leaves_the_call_to_the_invite(self) -> None:
        script = (Step(0.0, 183, with_sdp=True, reliable=True), Step(1.0, 486))
        with GateBench(script=script) as bench:
            bench.carrier.within = lambda _, event: event.request.method == "PRACK"
            bench.vanished.add(bench.carrier)  # it keeps the request that it never answers
            call = bench.pbx.call(TOLL_FREE)
            bench.run(40.0)
            assert call.status == 486

    def test_refused_prack_leaves_the_call_to_the_invite(self) -> None:
        script = (Step(0.0, 183, with_sdp=True, reliable=True), Step(1.0, 200))
        with GateBench(script=script) as bench:
            bench.carrier.within = partial(refuse, 500, "PRACK")
            call = bench.pbx.call(TOLL_FREE)
            bench.run(2.0)
            assert call.status == 200
            call.bye()

    def test_cancelled_between_183_and_its_prack(self) -> None:
        with GateBench(script=(Step(0.0, 183, with_sdp=True, reliable=True),), delay=(0.1, 0.1)) as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(0.35)
            call.cancel()
            bench.run(1.0)
            assert bench.carrier.calls[0].was_cancelled()
            assert call.status == 487

    def test_update_of_the_callee_while_it_rings_is_answered_here(self) -> None:
        with GateBench(script=(Step(0.0, 183, with_sdp=True, reliable=True), Step(1.0, 200))) as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(0.5)
            callee = bench.carrier.calls[0]
            callee.request("UPDATE", sdp("192.0.2.99", 5000, version=2))
            bench.run(0.3)
            assert callee.replies[-1].status == 200
            assert b"m=audio" in callee.replies[-1].body
            assert bench.media.all[LegId(2)].configured[-1].remote.address == "192.0.2.99"
            assert call.statuses == [183]
            bench.run(1.0)
            # The 200 without SDP does not bring the first answer back.
            assert bench.media.all[LegId(2)].configured[-1].remote.address == "192.0.2.99"
            call.bye()

    def test_rfc3311_5_2_update_of_a_callee_that_has_answered_no_offer_gets_491(self) -> None:
        with GateBench(script=(Step(0.0, 180),)) as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(0.5)
            callee = bench.carrier.calls[0]
            callee.request("UPDATE", sdp(version=2))
            callee.request("UPDATE")
            bench.run(0.3)
            assert [reply.status for reply in callee.replies] == [491, 200]
            call.cancel()

    def test_update_after_an_unusable_answer_says_so(self) -> None:
        with GateBench(script=(Step(0.0, 183, body=sdp(codecs="3")),)) as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(0.5)
            callee = bench.carrier.calls[0]
            callee.request("UPDATE", sdp(version=2))
            bench.run(0.3)
            assert callee.replies[-1].status == 491
            call.cancel()


def test_contract_5_100_calls_reliable_on_both_legs_over_a_terrible_network() -> None:
    script = (Step(0.3, 183, with_sdp=True, reliable=True), Step(0.3, 180, reliable=True), Step(6.0, 200))
    bench = GateBench(config=EARLY, script=script, seed=4, loss=0.25, duplication=0.15, delay=(0.005, 0.3))
    calls: list[UaCall] = []
    for turn in range(100):
        late = turn % 2 == 1
        call = bench.pbx.call(NUMBER, body=b"" if late else None, headers=REQUIRED)
        call.prack_body = bench.pbx.description if late else b""
        calls.append(call)
        bench.network.run_for(0.1)
    for _ in range(100):
        for leg in list(bench.media.legs.values()):
            for digit in "1234#":
                if leg.listening and leg.id in bench.media.legs:
                    bench.core.handle_answer(DigitHeard(leg.id, digit, DigitMeans.RFC4733, 100), bench.now)
                    bench.gate.settle(bench.now)
        bench.network.run_for(0.5)
    for call in calls:
        # Each of them in its order, and no 200 before the description was acknowledged.
        reliable = [response for response in call.responses if response.headers.get("RSeq")]
        assert [response.headers.get("RSeq") for response in reliable] == [
            str(7000 + number) for number in range(len(reliable))
        ]
        assert all(not response.body for response in call.responses if response.status == 200)
    talking = [call for call in calls if call.connected]
    assert len(talking) > 80
    for call in calls:
        if call.connected and call.dialog is not None and call.dialog.state is DialogState.CONFIRMED:
            call.bye()
        else:
            call.cancel()
    bench.network.run_for(500.0)
    for call in calls:
        if call.connected and not call.ended and call.dialog is not None:
            call.bye()
    bench.network.run_for(500.0)
    bench.assert_nothing_left()

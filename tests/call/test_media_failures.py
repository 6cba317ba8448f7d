"""What the media engine may do to a call: no ports, no answer, silence, ports gone."""

from __future__ import annotations

import pytest

from proxy.call.config import CodeMode
from proxy.call.media_leg import MediaLeg, MediaState
from proxy.call.ports import (
    Command,
    DigitHeard,
    LegId,
    LegStatistics,
    MediaLatched,
    MediaLegClosed,
    MediaLegOpened,
    MediaLegRefused,
    MediaResumed,
    MediaTimedOut,
    PlayId,
    PromptsFinished,
    RecordDurable,
)
from proxy.cdr.record import Disposition
from proxy.dtmf.digits import DigitMeans
from proxy.sip.inside import Inside
from tests.call.offers import follows
from tests.support.gate import NUMBER, GateBench, default_config
from tests.support.ua import Step, sdp

TOLL_FREE = "918005550123"


def test_no_ports_for_the_caller_is_503() -> None:
    with GateBench() as bench:
        bench.media.refuse = {1}
        call = bench.pbx.call(NUMBER)
        bench.run(0.5)
        assert call.status == 503
    assert bench.record.disposition is Disposition.OVERLOADED


def test_no_ports_for_the_callee_of_a_plain_call_is_503() -> None:
    with GateBench() as bench:
        bench.media.refuse = {2}
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.5)
        assert call.status == 503
        assert not bench.carrier.calls


def test_no_ports_for_the_callee_while_asking_are_asked_for_again() -> None:
    with GateBench() as bench:
        bench.media.refuse = {2}
        call = bench.pbx.call(NUMBER)
        bench.press("1234#")
        bench.run(1.0)
        assert bench.carrier.calls[0].connected
        call.bye()


def test_no_ports_for_the_callee_at_all_is_announced() -> None:
    with GateBench() as bench:
        bench.media.refuse = {2, 3}
        call = bench.pbx.call(NUMBER)
        bench.press("1234#")
        assert "call_failed" in bench.heard
        bench.run(10.0)
        assert call.ended
    assert bench.record.disposition is Disposition.OVERLOADED


def test_ports_refused_to_a_plain_call_are_asked_for_again_when_it_becomes_an_emergency() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(NUMBER)
        bench.media.latency = iter((0.0, 2.0, 0.0, 0.0, 0.0)).__next__
        bench.media.refuse = {2}
        bench.run(0.5)
        bench.press("911#")  # the answer to the asking for the callee's ports is still on its way
        assert not bench.carrier.calls
        bench.run(2.0)
        assert bench.carrier.calls[0].connected
        assert not call.has_ended()
        assert bench.media.emergencies == 1
        bench.media.latency = None
        call.bye()


def test_ports_refused_to_an_emergency_call_are_not_asked_for_without_end() -> None:
    with GateBench() as bench:
        bench.media.refuse = {2, 3, 4}
        call = bench.pbx.call("911")
        bench.run(1.0)
        assert call.status == 503
        assert bench.media.opened == 2


SIX = sdp().replace(b"IP4", b"IP6").replace(b"192.0.2.10", b"2001:db8::5")


def test_rfc3264_6_an_ipv6_offer_where_there_is_no_ipv6_media_is_488() -> None:
    with GateBench() as bench:
        bench.media.ipv4_only = True
        call = bench.pbx.call(TOLL_FREE, body=SIX)
        bench.run(0.5)
        assert call.statuses == [488]
    assert bench.record.disposition is Disposition.NOT_ACCEPTABLE


def test_an_emergency_call_with_an_ipv6_offer_is_placed_all_the_same() -> None:
    with GateBench() as bench:
        bench.media.ipv4_only = True
        call = bench.pbx.call("911", body=SIX)
        bench.run(0.5)
        assert call.status == 200
        assert b"c=IN IP4 192.0.2.1" in call.last.body
        call.bye()


def test_an_emergency_call_without_any_media_address_is_488() -> None:
    with GateBench() as bench:
        bench.media.silent = True
        call = bench.pbx.call("911")
        bench.run(0.1)
        bench.answer(MediaLegRefused(LegId(1), "no address", no_such_family=True))
        bench.answer(MediaLegRefused(LegId(3), "no address", no_such_family=True))
        bench.answer(MediaLegRefused(LegId(2), "no address", no_such_family=True))
        bench.run(0.1)
        assert call.status == 488


@pytest.mark.parametrize("number", [NUMBER, TOLL_FREE, "911"])
def test_engine_that_never_answers_is_503_after_5_s_and_leaves_a_record(number: str) -> None:
    with GateBench() as bench:
        bench.media.silent = True
        call = bench.pbx.call(number)
        bench.run(4.9)
        assert call.statuses == []
        bench.run(0.2)
        assert call.status == 503
        assert not bench.journal.final
        bench.run(5.1)
        assert bench.record.disposition is Disposition.OVERLOADED
        assert bench.record.a_media is None


def test_engine_that_dies_in_talk_leaves_a_record_without_figures() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(1.0)
        bench.media.silent = True
        call.bye()
        bench.run(4.9)
        assert not bench.journal.final
        bench.run(0.2)
        assert bench.record.disposition is Disposition.ANSWERED
        assert bench.record.a_media is None
        bench.media.legs.clear()


def test_ports_given_after_the_caller_has_gone_are_given_back() -> None:
    with GateBench() as bench:
        bench.media.silent = True
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.2)
        assert bench.core.calls
        call.cancel()
        bench.run(0.2)
        for leg in (LegId(1), LegId(2)):
            bench.answer(MediaLegOpened(leg, "192.0.2.1", 10000, 10001))
            bench.answer(MediaLegClosed(leg, LegStatistics()))
        assert call.status == 487
        assert bench.record.disposition is Disposition.ABANDONED_AT_PROMPT


def test_ports_refused_after_the_caller_has_gone() -> None:
    with GateBench() as bench:
        bench.media.silent = True
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.3)
        call.cancel()
        bench.run(0.1)
        for leg in (LegId(1), LegId(2)):
            bench.answer(MediaLegRefused(leg, "none left"))
        assert len(bench.journal.final) == 1


def test_callee_ports_that_come_late_let_the_invite_go() -> None:
    with GateBench() as bench:
        bench.media.silent = True
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.1)
        bench.media.silent = False
        for leg in (1, 2):
            from tests.support.gate import Leg

            bench.media.legs[LegId(leg)] = bench.media.all[LegId(leg)] = Leg(LegId(leg))
            assert not bench.carrier.calls
            bench.answer(MediaLegOpened(LegId(leg), "192.0.2.1", 10000 + 2 * leg, 10001 + 2 * leg))
        bench.run(0.5)
        assert call.status == 200
        call.bye()


def test_silence_of_both_sides_ends_the_call() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(61.0)
        bench.answer(MediaTimedOut(LegId(1)))
        assert not call.has_ended()
        bench.run(30.0)
        bench.answer(MediaTimedOut(LegId(2)))
        bench.run(0.1)
        assert call.ended
        assert bench.carrier.calls[0].ended
    assert bench.record.disposition is Disposition.ANSWERED
    assert bench.record.q850_cause == 102


def silent_for(bench: GateBench, seconds: float, *legs: int) -> None:
    """Let these legs be silent for so long: the engine says so every 60 s."""
    for _ in range(int(seconds // 60)):
        bench.run(60.0)
        for leg in legs:
            if LegId(leg) in bench.media.legs:
                bench.answer(MediaTimedOut(LegId(leg)))


def test_silence_of_one_side_does_not() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(TOLL_FREE)
        silent_for(bench, 3600.0, 1)
        assert not call.has_ended()
        call.bye()


def test_a_side_that_talks_again_is_not_silent_when_the_other_falls_silent() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(TOLL_FREE)
        silent_for(bench, 60.0, 1)
        bench.run(0.5)
        bench.answer(MediaResumed(LegId(1)))
        silent_for(bench, 60.0, 2)
        assert not call.has_ended()
        call.bye()


def test_a_side_that_dies_long_after_the_other_ends_the_call() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(TOLL_FREE)
        silent_for(bench, 600.0, 1)
        assert not call.has_ended()
        bench.answer(MediaTimedOut(LegId(2)))
        bench.run(0.1)
        assert call.ended


@pytest.mark.parametrize("direction", ["inactive", "recvonly"])
def test_silence_while_the_other_side_is_on_hold_ends_the_call(direction: str) -> None:
    with GateBench() as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(70.0)
        call.request("INVITE", sdp(version=2, direction=direction))
        bench.run(1.0)
        assert not call.has_ended()
        bench.answer(MediaTimedOut(LegId(2)))
        bench.run(0.1)
        assert call.ended


def test_rfc3264_8_4_who_holds_without_music_is_not_gone() -> None:
    with GateBench() as bench:
        bench.carrier.within = follows(bench.carrier)
        call = bench.pbx.call(TOLL_FREE)
        bench.run(70.0)
        call.request("INVITE", sdp(version=2, direction="sendonly"))
        bench.run(1.0)
        silent_for(bench, 3600.0, 1)
        assert not call.has_ended()
        call.request("INVITE", sdp(version=3))
        bench.run(1.0)
        silent_for(bench, 60.0, 1, 2)
        assert call.ended


def test_a_new_description_begins_the_silence_afresh() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(TOLL_FREE)
        silent_for(bench, 60.0, 1)
        call.request("INVITE", sdp(version=2))
        bench.run(1.0)
        bench.answer(MediaTimedOut(LegId(2)))
        assert not call.has_ended()
        bench.answer(MediaTimedOut(LegId(1)))
        bench.run(0.1)
        assert call.ended


def test_silence_while_ringing_is_none_of_the_calls_business() -> None:
    with GateBench(script=(Step(0.0, 180),)) as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(1.0)
        bench.answer(MediaTimedOut(LegId(1)))
        bench.answer(MediaTimedOut(LegId(2)))
        assert call.status == 180
        call.cancel()


def test_silence_of_before_the_talk_cuts_nobody_off_but_is_not_forgotten() -> None:
    script = (Step(0.0, 183, with_sdp=True), Step(119.0, 200))
    with GateBench(script=script) as bench:
        call = bench.pbx.call(TOLL_FREE)
        silent_for(bench, 120.0, 1, 2)  # the second time-out comes 1 s into the talk
        assert call.status == 200
        assert not call.has_ended()
        silent_for(bench, 60.0, 1, 2)
        bench.run(0.1)
        assert call.ended


@pytest.mark.parametrize("leg", [1, 2])
def test_ports_taken_away_in_talk_end_the_call(leg: int) -> None:
    with GateBench() as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(1.0)
        del bench.media.legs[LegId(leg)]
        bench.answer(MediaLegClosed(LegId(leg), LegStatistics()))
        bench.run(0.5)
        assert call.ended
    assert bench.record.disposition is Disposition.FAILED


def test_callee_ports_taken_away_while_asking_are_replaced() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(NUMBER)
        bench.run(0.5)
        del bench.media.legs[LegId(2)]
        bench.answer(MediaLegClosed(LegId(2), LegStatistics()))
        bench.press("1234#")
        bench.run(1.0)
        assert bench.carrier.calls[0].connected
        call.bye()


@pytest.mark.parametrize("mode", list(CodeMode))
def test_answers_out_of_turn_change_nothing(mode: CodeMode) -> None:
    with GateBench(config=default_config(code_mode=mode)) as bench:
        call = bench.pbx.call(NUMBER)
        bench.run(0.5)
        bench.answer(PromptsFinished(LegId(1), PlayId(99)))
        bench.answer(PromptsFinished(LegId(2), PlayId(1)))
        bench.answer(MediaLatched(LegId(1), "192.0.2.10", 4000))
        bench.answer(MediaTimedOut(LegId(1)))
        bench.answer(MediaLegOpened(LegId(2), "192.0.2.7", 1, 2))
        bench.answer(MediaLegClosed(LegId(77), LegStatistics()))
        bench.answer(DigitHeard(LegId(2), "#", DigitMeans.RFC4733, 100))
        bench.answer(RecordDurable("unknown"))
        bench.answer(RecordDurable("record-000001"))
        assert bench.heard == ["enter_code"]
        bench.press("1234#")
        bench.run(1.0)
        # a finished prompt of before, and digits after the gate
        bench.answer(PromptsFinished(LegId(1), PlayId(1)))
        bench.answer(DigitHeard(LegId(1), "5", DigitMeans.RFC4733, 100))
        bench.answer(RecordDurable("record-000001"))
        assert bench.carrier.calls[0].connected
        call.bye()
    assert bench.record.disposition is Disposition.ANSWERED


class World:
    def __init__(self) -> None:
        self.done: list[Command] = []
        self.emit = self.done.append


class TestMediaLeg:
    """The life of a port pair (contract 5)."""

    def test_closes_once(self) -> None:
        world = World()
        leg = MediaLeg(LegId(1), world, Inside(), ipv6=False, emergency=False)
        leg.close()
        leg.close()
        assert [type(command).__name__ for command in world.done] == ["OpenMediaLeg", "CloseMediaLeg"]
        leg.opened(MediaLegOpened(LegId(1), "192.0.2.1", 1, 2))
        assert leg.state is MediaState.CLOSING
        assert leg.end is None

    def test_does_nothing_twice(self) -> None:
        world = World()
        leg = MediaLeg(LegId(1), world, Inside(), ipv6=False, emergency=False)
        other = MediaLeg(LegId(2), world, Inside(), ipv6=False, emergency=False)
        leg.stop()
        leg.listen_no_more()
        leg.unbridge()
        assert len(world.done) == 2
        leg.bridge(other)
        other.bridge(leg)
        assert leg.bridged
        leg.unbridge()
        other.unbridge()
        assert not other.bridged
        assert [type(command).__name__ for command in world.done[2:]] == ["BridgeMedia", "UnbridgeMedia"]

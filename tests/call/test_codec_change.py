"""A side takes another format than the caller: it is followed, or transcoded (RFC 3264 §8.3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from proxy.call.config import CodeMode, Trunk
from proxy.call.media_leg import can_transcode
from proxy.sip.flow import Flow
from tests.call.offers import (
    CALLEE,
    answers,
    asked,
    callee,
    follows,
    formats_of,
    talk,
    told,
)
from tests.support.gate import CARRIER, GateBench, default_config
from tests.support.ua import Step, sdp


class TestCodec:
    """RFC 3264 §8.3.2: a side changes its format with the other, or the gate transcodes."""

    PCMA = (Step(0.0, 200, body=sdp(CALLEE, codecs="8 101")),)

    def test_the_callee_is_offered_what_could_be_transcoded(self) -> None:
        with talk() as (bench, _call):
            invite = callee(bench).invite
            assert invite is not None
            assert formats_of(invite.body) == b"0 8 101"

    def test_a_caller_that_is_not_answered_yet_gets_the_callees_choice(self) -> None:
        with talk(GateBench(script=self.PCMA)) as (_bench, call):
            assert formats_of(call.last.body) == b"8 101"
            assert not asked(call)

    def test_a_caller_that_heard_the_prompt_is_reinvited(self) -> None:
        with GateBench(script=self.PCMA) as bench:
            bench.pbx.within = follows(bench.pbx, codecs="8 101")
            call = bench.dial_with_code()
            bench.run(1.0)
            (request,) = asked(call)
            assert request.method == "INVITE"
            assert formats_of(request.body) == b"8 101"
            assert told(bench).remote.audio.name == "PCMA"
            assert told(bench, 2).remote.audio.name == "PCMA"
            call.bye()

    @pytest.mark.parametrize("status", [488, 503])
    def test_a_caller_that_refuses_is_transcoded_for(self, status: int) -> None:
        with GateBench(script=self.PCMA) as bench:
            bench.pbx.within = answers(bench.pbx, status)
            call = bench.dial_with_code()
            bench.run(20.0)
            assert len(asked(call)) == 1
            assert told(bench).remote.audio.name == "PCMU"
            assert told(bench, 2).remote.audio.name == "PCMA"
            assert bench.a_leg().bridged_with is not None
            call.bye()

    def test_a_caller_that_never_named_it_is_not_asked(self) -> None:
        with GateBench(script=self.PCMA) as bench:
            bench.pbx.description = sdp(codecs="0 101")
            call = bench.dial_with_code()
            bench.run(1.0)
            assert not asked(call)
            assert told(bench).remote.audio.name == "PCMU"
            call.bye()

    @pytest.mark.parametrize(("headers", "after"), [((), 1.0), ([("Retry-After", "5")], 5.0)])
    def test_rfc3261_14_1_the_gate_asks_again_after_a_491_or_500(
        self, headers: Sequence[tuple[str, str]], after: float
    ) -> None:
        with GateBench(script=self.PCMA) as bench:
            bench.pbx.within = answers(bench.pbx, 500 if headers else 491, headers=headers)
            call = bench.dial_with_code()
            bench.run(0.5)
            assert len(asked(call)) == 1
            bench.run(after - 0.6)
            assert len(asked(call)) == 1
            bench.pbx.within = follows(bench.pbx, codecs="8 101")
            bench.run(0.2)
            assert len(asked(call)) == 2
            assert told(bench).remote.audio.name == "PCMA"
            call.bye()

    def test_a_caller_that_says_491_for_ever_is_left_alone(self) -> None:
        with GateBench(script=self.PCMA) as bench:
            bench.pbx.within = answers(bench.pbx, *[491] * 20)
            call = bench.dial_with_code()
            bench.run(60.0)
            assert len(asked(call)) == 6
            call.bye()

    @pytest.mark.parametrize("wait", ["soon", "3600"])
    def test_retry_after_that_is_no_number_or_an_hour_is_a_refusal(self, wait: str) -> None:
        with GateBench(script=self.PCMA) as bench:
            bench.pbx.within = answers(bench.pbx, 500, headers=[("Retry-After", wait)])
            call = bench.dial_with_code()
            bench.run(20.0)
            assert len(asked(call)) == 1
            call.bye()

    def test_a_caller_that_has_not_acked_yet_is_asked_after_its_ack(self) -> None:
        with GateBench(script=self.PCMA, config=default_config(code_mode=CodeMode.EARLY)) as bench:
            bench.pbx.auto_ack = False
            call = bench.dial_with_code()
            bench.run(0.3)
            assert formats_of(call.last.body) == b"0 101"
            assert not asked(call)
            bench.pbx.auto_ack = True
            bench.pbx.within = follows(bench.pbx, codecs="8 101")
            assert call.dialog is not None
            bench.pbx.endpoint.ack(call.dialog, now=bench.now)
            bench.run(0.3)
            assert formats_of(asked(call)[-1].body) == b"8 101"
            call.bye()

    def test_of_the_callee_in_talk_crosses_with_the_spoken_one_behind_it(self) -> None:
        with talk() as (bench, call):
            bench.pbx.within = follows(bench.pbx, codecs="8 101")
            callee(bench).request("INVITE", sdp(CALLEE, codecs="8 101", version=2))
            bench.run(0.5)
            assert formats_of(asked(call)[-1].body) == b"8 0 101"
            assert formats_of(callee(bench).replies[-1].body) == b"8 101"
            assert {told(bench, leg).remote.audio.name for leg in (1, 2)} == {"PCMA"}

    def test_of_the_callee_in_talk_is_transcoded_where_the_caller_stays(self) -> None:
        with talk() as (bench, _call):
            bench.pbx.within = follows(bench.pbx, codecs="0 101")
            callee(bench).request("INVITE", sdp(CALLEE, codecs="8 101", version=2))
            bench.run(0.5)
            assert callee(bench).replies[-1].status == 200
            assert told(bench).remote.audio.name == "PCMU"
            assert told(bench, 2).remote.audio.name == "PCMA"

    def test_of_the_caller_back_to_what_the_callee_speaks(self) -> None:
        with talk() as (bench, call):
            bench.carrier.within = follows(bench.carrier, codecs="0 101")
            call.request("INVITE", sdp(codecs="8 101", version=2))
            bench.run(0.5)
            assert formats_of(call.replies[-1].body) == b"8 101"
            # Both named: what the other side speaks needs no transcoding.
            call.request("INVITE", sdp(codecs="8 0 101", version=3))
            bench.run(0.5)
            assert formats_of(call.replies[-1].body) == b"0 101"

    def test_a_format_that_only_one_side_takes_does_not_cross(self) -> None:
        trunk = Trunk("carrier", (Flow("UDP", *CARRIER),), "carrier.example.com", codecs=("PCMU",))
        with talk(GateBench(config=default_config(trunks=(trunk,)))) as (bench, call):
            invite = callee(bench).invite
            assert invite is not None
            assert formats_of(invite.body) == b"0 101"
            bench.carrier.within = follows(bench.carrier)
            call.request("INVITE", sdp(codecs="8 101", direction="sendonly", version=2))
            bench.run(0.5)
            assert formats_of(asked(callee(bench))[-1].body) == b"0 101"
            assert formats_of(call.replies[-1].body) == b"8 101"

    def test_which_can_be_transcoded(self) -> None:
        assert can_transcode("PCMU", "G722")
        assert can_transcode("OPUS", "OPUS")
        assert not can_transcode("OPUS", "PCMU")

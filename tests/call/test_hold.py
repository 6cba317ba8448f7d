"""Hold and resume: a direction crosses the gate (RFC 3264 §8.4, RFC 6337 §5.3)."""

from __future__ import annotations

import pytest

from proxy.sip.message import Request
from tests.call.offers import (
    CALLEE,
    MIRROR,
    TOLL_FREE,
    asked,
    callee,
    direction_of,
    follows,
    talk,
    told,
    version_of,
)
from tests.support.gate import NUMBER, GateBench
from tests.support.ua import Step, sdp


def invite_of(bench: GateBench) -> Request:
    """The INVITE that the carrier got."""
    invite = callee(bench).invite
    assert invite is not None
    return invite


class TestHold:
    """RFC 3264 §8.4: a direction crosses, and so does what is answered."""

    @pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
    @pytest.mark.parametrize(
        ("direction", "sends", "receives"),
        [("sendonly", True, False), ("inactive", False, False), ("recvonly", False, True)],
    )
    def test_of_the_caller_reaches_the_callee_and_ends(
        self, method: str, direction: str, sends: bool, receives: bool
    ) -> None:
        with talk() as (bench, call):
            bench.carrier.within = follows(bench.carrier)
            call.request(method, sdp(direction=direction, version=2))
            bench.run(0.5)
            (asked_for,) = asked(callee(bench))
            assert direction_of(asked_for.body) == direction
            assert call.replies[-1].status == 200
            assert direction_of(call.replies[-1].body) == MIRROR[direction]
            assert (told(bench).remote.peer_sends, told(bench).remote.peer_receives) == (sends, receives)
            held = told(bench, 2).remote
            assert (held.peer_sends, held.peer_receives) == (receives, sends)
            assert bench.a_leg().bridged_with is not None  # music on hold is relayed
            call.request(method, sdp(version=3))
            bench.run(0.5)
            assert direction_of(asked(callee(bench))[-1].body) == "sendrecv"
            assert direction_of(call.replies[-1].body) == "sendrecv"
            assert told(bench, 2).remote.peer_sends

    @pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
    def test_of_the_callee_reaches_the_caller(self, method: str) -> None:
        with talk() as (bench, call):
            bench.pbx.within = follows(bench.pbx)
            callee(bench).request(method, sdp(CALLEE, direction="sendonly", version=2))
            bench.run(0.5)
            assert direction_of(asked(call)[-1].body) == "sendonly"
            assert direction_of(callee(bench).replies[-1].body) == "recvonly"
            assert not told(bench).remote.peer_sends

    def test_each_leg_has_its_own_session(self) -> None:
        with talk() as (bench, call):
            bench.carrier.within = follows(bench.carrier)
            first = callee(bench).invite
            assert first is not None
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.5)
            again = asked(callee(bench))[-1].body
            # RFC 3264 §8: one session id, the version one higher; the port and address are the gate's own.
            assert again.split(b" ")[1] == first.body.split(b" ")[1]
            assert version_of(again) == version_of(first.body) + 1
            assert b"c=IN IP4 192.0.2.1\r\n" in again
            assert version_of(call.replies[-1].body) == version_of(call.responses[-1].body) + 1

    def test_rfc2543_address_of_zeros_holds_too(self) -> None:
        with talk() as (bench, call):
            bench.carrier.within = follows(bench.carrier)
            call.request("INVITE", sdp("0.0.0.0", version=2))
            bench.run(0.5)
            assert direction_of(asked(callee(bench))[-1].body) == "sendonly"
            assert not told(bench).remote.peer_receives

    def test_callee_on_hold_that_holds_too_is_asked_when_the_caller_comes_back(self) -> None:
        with talk() as (bench, call):
            bench.carrier.within = follows(bench.carrier)
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.5)
            bench.pbx.within = follows(bench.pbx, wish="inactive")
            callee(bench).request("INVITE", sdp(CALLEE, direction="inactive", version=9))
            bench.run(0.5)
            assert direction_of(callee(bench).replies[-1].body) == "inactive"
            bench.carrier.within = follows(bench.carrier, wish="sendonly")
            call.request("INVITE", sdp(version=4))
            bench.run(0.5)
            assert direction_of(call.replies[-1].body) == "sendonly"

    def test_at_the_prompt_is_the_gates_own_affair(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.2)
            assert direction_of(call.replies[-1].body) == "recvonly"
            assert not bench.carrier.calls
            call.bye()

    @pytest.mark.parametrize("direction", ["sendonly", "inactive", "recvonly"])
    def test_rfc3264_5_1_a_caller_who_begins_with_it_is_offered_as_it_is(self, direction: str) -> None:
        answer = sdp(CALLEE, direction=MIRROR[direction])
        with GateBench(script=(Step(0.0, 200, body=answer),)) as bench:
            call = bench.pbx.call(TOLL_FREE, body=sdp(direction=direction))
            bench.run(1.0)
            assert direction_of(invite_of(bench).body) == direction
            assert direction_of(call.last.body) == MIRROR[direction]
            assert not asked(callee(bench))  # nothing is left to be said
            assert not asked(call)
            bench.carrier.within = follows(bench.carrier)
            call.request("INVITE", sdp(version=2))
            bench.run(0.5)
            assert [direction_of(request.body) for request in asked(callee(bench))] == ["sendrecv"]
            assert direction_of(call.replies[-1].body) == "sendrecv"
            call.bye()

    def test_of_at_the_prompt_is_what_the_callee_is_offered(self) -> None:
        with GateBench(script=(Step(0.0, 200, body=sdp(CALLEE, direction="recvonly")),)) as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.2)
            bench.press("1234#")
            bench.run(0.5)
            assert direction_of(invite_of(bench).body) == "sendonly"
            assert not asked(callee(bench))
            call.bye()

    def test_help_is_offered_both_ways_whatever_the_caller_begins_with(self) -> None:
        with GateBench() as bench:
            bench.carrier.within = follows(bench.carrier)
            call = bench.pbx.call("911", body=sdp(direction="inactive"))
            bench.run(2.0)
            assert call.status == 200
            assert direction_of(invite_of(bench).body) == "sendrecv"
            assert direction_of(asked(callee(bench))[-1].body) == "inactive"
            call.bye()

    def test_of_before_the_talk_is_told_when_it_begins(self) -> None:
        with GateBench(script=(Step(1.0, 200, with_sdp=True),)) as bench:
            call = bench.dial_with_code()
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.2)
            bench.carrier.within = follows(bench.carrier)
            bench.run(2.0)
            assert direction_of(asked(callee(bench))[-1].body) == "sendonly"
            assert not told(bench, 2).remote.peer_sends
            call.bye()

    def test_callee_that_answers_on_hold_is_told_to_a_caller_that_was_answered_before(self) -> None:
        body = sdp(CALLEE, direction="sendonly")
        with GateBench(script=(Step(0.0, 200, body=body),)) as bench:
            bench.pbx.within = follows(bench.pbx)
            call = bench.dial_with_code()
            bench.run(1.0)
            assert direction_of(asked(call)[-1].body) == "sendonly"
            assert not told(bench).remote.peer_sends
            call.bye()

    def test_callee_that_answers_on_hold_is_told_in_the_callers_own_answer(self) -> None:
        body = sdp(CALLEE, direction="sendonly")
        with talk(GateBench(script=(Step(0.0, 200, body=body),))) as (_bench, call):
            assert direction_of(call.last.body) == "sendonly"
            assert not asked(call)

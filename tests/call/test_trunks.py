"""Trunks in order: failover, silence, limits; at most one B leg is ever connected (DESIGN 1.4, 1.7)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.call.config import Trunk
from proxy.call.ports import LegId, LegStatistics, MediaLegClosed, OpenMediaLeg
from proxy.cdr.record import Disposition
from proxy.policy import NumberStyle, TrunkNumberFormat
from proxy.sip.flow import Flow
from tests.support.gate import CARRIER, CARRIER_2, NUMBER, GateBench, default_config
from tests.support.ua import ANSWER, Step, sdp

TOLL_FREE = "918005550123"
FIRST = Trunk("first", (Flow("UDP", *CARRIER),), "one.example.com")
SECOND = Trunk("second", (Flow("UDP", *CARRIER_2),), "two.example.com", user_phone=True)
TWO = default_config(trunks=(FIRST, SECOND))


def tried(bench: GateBench) -> list[tuple[str, int]]:
    return [(trunk.trunk, trunk.sip_code) for trunk in bench.record.trunks]


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_next_trunk_after_408_and_5xx(status: int) -> None:
    with GateBench(config=TWO, script=(Step(0.0, status),)) as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.5)
        assert call.status == 200
        invite = bench.carrier_2.calls[0].invite
        assert invite is not None
        assert invite.uri == "sip:+18005550123@two.example.com;user=phone"
        call.bye()
    assert tried(bench) == [("first", status), ("second", 200)]


@pytest.mark.parametrize("status", [404, 486, 603, 480, 403])
def test_no_other_trunk_after_a_real_answer(status: int) -> None:
    with GateBench(config=TWO, script=(Step(0.0, status),)) as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.5)
        assert call.status == status
        assert not bench.carrier_2.calls
    assert tried(bench) == [("first", status)]


@pytest.mark.parametrize("status", [302, 404, 415, 487, 488, 480, 403, 420, 503, 603, 604, 606])
def test_an_emergency_call_goes_on_after_every_refusal(status: int) -> None:
    with GateBench(config=TWO, script=(Step(0.0, status),)) as bench:
        call = bench.pbx.call("911")
        bench.run(0.5)
        assert call.status == 200
        call.bye()
    assert tried(bench) == [("first", status), ("second", 200)]


@pytest.mark.parametrize("status", [486, 600])
def test_an_emergency_call_ends_with_the_word_of_who_was_reached(status: int) -> None:
    with GateBench(config=TWO, script=(Step(0.0, status),)) as bench:
        call = bench.pbx.call("911")
        bench.run(0.5)
        assert call.status == status
        assert not bench.carrier_2.calls


def test_no_other_trunk_after_an_18x() -> None:
    with GateBench(config=TWO, script=(Step(0.0, 180), Step(0.5, 503))) as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(1.0)
        assert call.status == 500
        assert not bench.carrier_2.calls


@pytest.mark.parametrize("with_sdp", [False, True])
@pytest.mark.parametrize("refusal", [503, 404, 603, 487])
def test_an_emergency_call_goes_on_after_an_18x_too(refusal: int, with_sdp: bool) -> None:
    """An announcement that the number can't be reached is early media as well."""
    script = (Step(0.0, 183, with_sdp=with_sdp), Step(0.5, refusal))
    with GateBench(config=TWO, script=script) as bench:
        bench.carrier_2.script = (Step(0.2, 180), Step(1.0, 200, with_sdp=True))
        call = bench.pbx.call("911")
        bench.run(0.4)
        assert (bench.a_leg().bridged_with is not None) is with_sdp
        bench.run(0.2)
        assert bench.a_leg().bridged_with is None, "nobody speaks until the other trunk does"
        bench.run(1.5)
        assert call.statuses == [183, 180, 200]
        assert bench.a_leg().bridged_with is not None
        call.bye()
    assert tried(bench) == [("first", refusal), ("second", 200)]


@pytest.mark.parametrize("answer", [b"nonsense", sdp(codecs="18")], ids=["unreadable", "another codec"])
def test_an_emergency_call_that_rang_goes_on_after_an_answer_that_is_no_use(answer: bytes) -> None:
    with GateBench(config=TWO, script=(Step(0.0, 180), Step(0.5, 200, body=answer))) as bench:
        bench.carrier_2.script = ANSWER
        call = bench.pbx.call("911")
        bench.run(1.5)
        assert call.status == 200
        assert bench.carrier.calls[0].ended
        call.bye()
    assert tried(bench) == [("first", 488), ("second", 200)]


def test_a_caller_who_gives_up_for_help_is_called_for_no_more() -> None:
    """RFC 3261 §9.1: the 487 to the gate's own CANCEL is no trunk's refusal."""
    with GateBench(config=TWO, script=(Step(0.0, 180),)) as bench:
        call = bench.pbx.call("911")
        bench.run(0.5)
        call.cancel()
        bench.run(2.0)
        assert call.status == 487
        assert bench.carrier.calls[0].cancelled
        assert not bench.carrier_2.calls
    assert bench.record.disposition is Disposition.ABANDONED_RINGING


G722_ON_SECOND = default_config(trunks=(FIRST, replace(SECOND, codecs=("G722", *SECOND.codecs))))


@pytest.mark.parametrize("number", [TOLL_FREE, "911"])
def test_a_codec_that_one_trunk_takes_goes_over_that_trunk(number: str) -> None:
    with GateBench(config=G722_ON_SECOND) as bench:
        bench.carrier_2.description = sdp(CARRIER_2[0], codecs="9 101")
        call = bench.pbx.call(number, body=sdp(codecs="9 101"))
        bench.run(0.5)
        assert call.status == 200
        call.bye()
    assert tried(bench) == [("second", 200)]
    assert bench.record.codec == "G722"


@pytest.mark.parametrize(("orders", "first"), [(False, b"RTP/AVP 0 "), (True, b"RTP/AVP 9 ")])
def test_rfc3264_6_1_whose_order_of_codecs_decides_is_set(orders: bool, first: bytes) -> None:
    trunk = replace(FIRST, codecs=("G722", "PCMA", "PCMU"), orders_codecs=orders)
    with GateBench(config=default_config(trunks=(trunk,))) as bench:
        call = bench.pbx.call(TOLL_FREE, body=sdp(codecs="0 9 101"))
        bench.run(0.5)
        invite = bench.carrier.calls[0].invite
        assert invite is not None
        assert first in invite.body
        call.bye()


@pytest.mark.parametrize(("orders", "first"), [(False, b"RTP/AVP 0 "), (True, b"RTP/AVP 9 ")])
def test_an_offer_of_the_gate_has_the_order_that_is_set(orders: bool, first: bytes) -> None:
    trunk = replace(FIRST, codecs=("G722", "PCMU"), orders_codecs=orders)
    with GateBench(config=default_config(trunks=(trunk,))) as bench:
        bench.pbx.ack_body = sdp()
        call = bench.pbx.call(NUMBER, body=b"")
        bench.run(0.5)
        assert call.status == 200
        assert first in call.last.body
        call.bye()


def test_a_codec_that_all_trunks_take_is_preferred() -> None:
    with GateBench(config=G722_ON_SECOND) as bench:
        bench.carrier.description = sdp("192.0.2.90", codecs="8 101")
        call = bench.pbx.call(TOLL_FREE, body=sdp(codecs="9 8 101"))
        bench.run(0.5)
        call.bye()
    assert tried(bench) == [("first", 200)]
    assert bench.record.codec == "PCMA"


def test_silence_of_4_s_moves_on() -> None:
    with GateBench(config=TWO) as bench:
        bench.network.drop = lambda _sender, receiver, _data: receiver == CARRIER
        call = bench.pbx.call(TOLL_FREE)
        bench.run(3.99)
        assert not bench.carrier_2.calls
        bench.run(0.02)
        assert call.status == 200
        call.bye()
    assert tried(bench) == [("first", 0), ("second", 200)]


def test_a_timer_that_finds_nothing_due_leaves_the_trunk_alone() -> None:
    """What was due may have been settled by an event of the same moment."""
    with GateBench(config=TWO) as bench:
        bench.network.drop = lambda _sender, receiver, _data: receiver == CARRIER
        call = bench.pbx.call(TOLL_FREE)
        bench.run(3.9)
        next(iter(bench.core.calls.values())).handle_timer(bench.now)
        bench.run()
        assert not bench.carrier_2.calls
        bench.run(0.2)
        assert call.status == 200
        call.bye()


@pytest.mark.parametrize("answer", [b"nonsense", sdp(codecs="18")], ids=["unreadable", "another codec"])
def test_an_emergency_call_goes_on_after_an_answer_that_is_no_use(answer: bytes) -> None:
    with GateBench(config=TWO, script=(Step(0.0, 200, body=answer),)) as bench:
        bench.carrier_2.script = ANSWER
        call = bench.pbx.call("911")
        bench.run(0.5)
        assert call.status == 200
        assert bench.carrier.calls[0].ended
        call.bye()
        bench.run(0.5)
        again = bench.pbx.call(TOLL_FREE)
        bench.run(0.5)
        assert again.status == 488
    assert bench.journal.final[0].disposition is Disposition.ANSWERED


def test_an_emergency_call_that_nobody_answers_usefully_fails() -> None:
    with GateBench(config=default_config(trunks=(FIRST,)), script=(Step(0.0, 200, body=b"x"),)) as bench:
        call = bench.pbx.call("911")
        bench.run(0.5)
        assert call.status == 488
    assert bench.record.disposition is Disposition.NOT_ACCEPTABLE


def test_emergency_call_moves_on_after_1_s() -> None:
    with GateBench(config=TWO) as bench:
        bench.network.drop = lambda _sender, receiver, _data: receiver == CARRIER
        call = bench.pbx.call("911")
        bench.run(0.99)
        assert not bench.carrier_2.calls
        bench.run(0.02)
        assert call.status == 200
        call.bye()


def test_late_first_response_is_cancelled() -> None:
    with GateBench(config=TWO, script=(Step(5.0, 180), Step(20.0, 200, with_sdp=True))) as bench:
        bench.network.drop = lambda sender, _receiver, data: sender == CARRIER and b"SIP/2.0 100" in data
        call = bench.pbx.call(TOLL_FREE)
        bench.run(4.5)
        assert call.status == 200
        bench.run(1.0)
        assert bench.carrier.calls[0].cancelled
        call.bye()
    assert bench.record.disposition is Disposition.ANSWERED


def test_late_200_is_acked_and_ended() -> None:
    with GateBench(config=TWO, script=(Step(6.0, 200, with_sdp=True),)) as bench:
        bench.network.drop = lambda sender, _receiver, data: sender == CARRIER and b"SIP/2.0 100" in data
        call = bench.pbx.call(TOLL_FREE)
        bench.run(5.0)
        assert call.status == 200
        bench.run(2.0)
        late = bench.carrier.calls[0]
        assert [request.method for request in late.requests] == ["ACK", "BYE"]
        assert not call.has_ended()
        call.bye()


def test_nothing_but_100_for_too_long_moves_on() -> None:
    with GateBench(config=TWO, script=(Step(0.0, 100), Step(5.0, 100))) as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(19.9)
        assert not bench.carrier_2.calls
        bench.run(0.2)
        assert call.status == 200
        assert bench.carrier.calls[0].cancelled
        call.bye()


SLOW = (Step(0.0, 100), Step(6.0, 200, with_sdp=True))


def test_an_emergency_call_waits_4_s_behind_a_100() -> None:
    with GateBench(config=TWO, script=(Step(0.0, 100),)) as bench:
        call = bench.pbx.call("911")
        bench.run(3.9)
        assert not bench.carrier_2.calls
        bench.run(0.2)
        assert call.status == 200
        assert bench.carrier.calls[0].cancelled
        call.bye()
    assert tried(bench) == [("first", 0), ("second", 200)]


def test_an_emergency_call_comes_back_to_a_trunk_that_is_only_slow() -> None:
    with GateBench(config=TWO, script=SLOW) as bench:
        bench.carrier_2.script = (Step(0.0, 503),)
        call = bench.pbx.call("911")
        bench.run(11.0)
        assert call.status == 200
        assert len(bench.carrier.calls) == 2
        call.bye()
    assert tried(bench) == [("first", 0), ("second", 503), ("first", 200)]


def test_of_two_slow_trunks_an_emergency_call_waits_for_each_a_second_time() -> None:
    with GateBench(config=TWO, script=(Step(0.0, 100),)) as bench:
        bench.carrier_2.script = (Step(0.0, 100),)
        call = bench.pbx.call("911")
        bench.run(8.1)
        bench.carrier_2.script = (Step(0.0, 100), Step(30.0, 200, with_sdp=True))
        bench.run(19.8)
        assert (len(bench.carrier.calls), len(bench.carrier_2.calls)) == (2, 1)
        bench.run(32.0)
        assert call.status == 200
        call.bye()
    assert tried(bench) == [("first", 0), ("second", 0), ("first", 0), ("second", 200)]


def test_dead_last_trunk_is_504_after_timer_b() -> None:
    with GateBench() as bench:
        bench.network.drop = lambda _sender, receiver, _data: receiver == CARRIER
        call = bench.pbx.call(TOLL_FREE)
        bench.run(31.9)
        assert call.statuses == []
        bench.run(0.2)
        assert call.status == 504
    assert bench.record.disposition is Disposition.TRUNK_FAILED
    assert bench.record.q850_cause == 102


def test_transport_failure_moves_on_at_once() -> None:
    with GateBench(config=TWO) as bench:
        bench.network.drop = lambda _sender, receiver, _data: receiver == CARRIER
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.1)
        bench.gate.endpoint.transport_failed(FIRST.flows[0], bench.now)
        bench.run(0.1)
        assert call.status == 200
        call.bye()


def test_caller_gives_up_while_an_abandoned_invite_is_still_out() -> None:
    with GateBench(config=TWO) as bench:
        bench.carrier_2.script = (Step(0.0, 180),)
        bench.network.drop = lambda _sender, receiver, _data: receiver == CARRIER
        call = bench.pbx.call(TOLL_FREE)
        bench.run(5.0)
        call.cancel()
        bench.run(0.5)
        assert call.status == 487
    assert tried(bench) == [("first", 0), ("second", 0)]


def test_full_trunk_is_passed_over_but_not_by_an_emergency_call() -> None:
    config = default_config(trunks=(Trunk("first", FIRST.flows, "one.example.com", max_calls=1), SECOND))
    with GateBench(config=config) as bench:
        calls = [bench.pbx.call(TOLL_FREE), bench.pbx.call(TOLL_FREE), bench.pbx.call("911")]
        bench.run(0.5)
        assert [call.status for call in calls] == [200, 200, 200]
        assert len(bench.carrier.calls) == 2
        assert len(bench.carrier_2.calls) == 1
        for call in calls:
            call.bye()


@pytest.mark.parametrize(("kept", "plain"), [(1, 2), (2, 1), (0, 3), (9, 1)])
def test_calls_of_a_trunk_are_kept_free_for_emergencies(kept: int, plain: int) -> None:
    trunk = Trunk("first", FIRST.flows, "one.example.com", max_calls=3, emergency_calls=kept)
    with GateBench(config=default_config(trunks=(trunk,))) as bench:
        calls = [bench.pbx.call(TOLL_FREE) for _ in range(4)]
        bench.run(0.5)
        assert [call.status for call in calls].count(200) == plain
        emergency = bench.pbx.call("911")
        bench.run(0.5)
        assert emergency.status == 200
        for call in (*calls, emergency):
            if call.connected:
                call.bye()


def test_all_trunks_full_is_503_without_retry_after() -> None:
    config = default_config(trunks=(Trunk("first", FIRST.flows, "one.example.com", max_calls=1),))
    with GateBench(config=config) as bench:
        first = bench.pbx.call(TOLL_FREE)
        bench.run(0.1)
        second = bench.pbx.call(TOLL_FREE)
        bench.run(0.1)
        assert second.status == 503
        assert second.last.headers.get("Retry-After") is None
        first.bye()
    assert {record.disposition for record in bench.journal.final} == {
        Disposition.ANSWERED,
        Disposition.OVERLOADED,
    }


def test_number_format_of_each_trunk() -> None:
    national = TrunkNumberFormat(NumberStyle.NATIONAL, national_prefix=False, prepend="77#")
    trunk = Trunk("first", FIRST.flows, "one.example.com", number_format=national)
    config = default_config(trunks=(trunk,))
    with GateBench(config=config, script=ANSWER) as bench:
        call = bench.pbx.call(NUMBER)
        bench.press("1234#")
        invite = bench.carrier.calls[0].invite
        assert invite is not None
        assert invite.uri == "sip:77%234155550123@one.example.com"
        call.bye()


def test_forked_200s_leave_one_leg_connected() -> None:
    # A proxy of the carrier forked the INVITE: two 200s with different To tags (RFC 3261 §13.2.2.4).
    with GateBench(script=(Step(0.0, 180),)) as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.5)
        leg = bench.carrier.calls[0]
        leg.respond(200, with_sdp=True)
        bench.run(0.1)
        assert call.status == 200
        # the same 200 from another branch of the fork
        sent: list[bytes] = []
        bench.network.trace = lambda _at, _sender, receiver, data: (
            sent.append(data) if receiver == CARRIER else None
        )
        assert leg.invite is not None
        other = bench.carrier.endpoint
        del other
        answer = last_200(bench)
        bench.gate.receive(
            answer.replace(b"tag=tag-192.0.2.90", b"tag=fork-192.0.2.90"), Flow("UDP", *CARRIER), bench.now
        )
        bench.run(0.1)
        assert [data.split(b" ", 1)[0] for data in sent] == [b"ACK", b"BYE"]
        assert not call.has_ended()
        bench.run(40.0)
        call.bye()


def last_200(bench: GateBench) -> bytes:
    """The 200 to the INVITE as the carrier sent it, rebuilt from what the gate asked."""
    leg = bench.carrier.calls[0]
    assert leg.invite is not None
    assert leg.dialog is not None
    invite = leg.invite
    body = bench.carrier.description
    return (
        "SIP/2.0 200 OK\r\n"
        f"Via: {invite.headers.get('Via')}\r\nFrom: {invite.headers.get('From')}\r\n"
        f"To: {invite.headers.get('To')};tag={leg.dialog.local_tag}\r\nCall-ID: {invite.call_id}\r\n"
        f"CSeq: {invite.headers.get('CSeq')}\r\nContact: <sip:carrier@{CARRIER[0]}:{CARRIER[1]}>\r\n"
        f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


SIX = Trunk("six", (Flow("UDP", "2001:db8::9", 5060),), "six.example.com")
BOTH_FAMILIES = default_config(trunks=(SIX, SECOND))


def families(bench: GateBench) -> list[bool]:
    """Whether each port pair that was asked for was to be IPv6, the caller's first."""
    return [command.ipv6 for command in bench.media.commands if isinstance(command, OpenMediaLeg)]


def test_a_trunk_of_the_other_address_family_is_offered_media_of_its_own_family() -> None:
    with GateBench(config=BOTH_FAMILIES) as bench:
        call = bench.pbx.call("911")
        bench.run(1.1)
        assert call.status == 200
        assert families(bench) == [False, True, False]
        (second,) = bench.carrier_2.calls
        assert second.invite is not None
        assert b"c=IN IP4 " in second.invite.body
        # The ports that were given up are free while the call goes on.
        assert len(bench.media.legs) == 2
        assert bench.a_leg().bridged_with is not None
        call.bye()


def test_a_family_without_ports_leaves_the_trunks_of_the_other() -> None:
    six_too = replace(SIX, name="six too")
    with GateBench(config=default_config(trunks=(SIX, six_too, SECOND))) as bench:
        bench.media.refuse = {2}
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.1)
        assert call.status == 200
        call.bye()
    assert tried(bench) == [("second", 200)]


def test_no_ports_for_any_trunk_is_503() -> None:
    with GateBench(config=BOTH_FAMILIES) as bench:
        bench.media.refuse = {2, 3, 4}
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.1)
        assert call.status == 503


@pytest.mark.parametrize("refused", [set(), {2}])
def test_ports_asked_for_ahead_in_the_wrong_family_are_given_up(refused: set[int]) -> None:
    config = default_config(trunks=(replace(SIX, codecs=("G722",)), SECOND))
    with GateBench(config=config) as bench:
        bench.media.refuse = refused
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.5)
        assert call.status == 200
        assert families(bench) == [False, True, False]
        call.bye()
    assert tried(bench) == [("second", 200)]


def test_a_call_that_ends_while_ports_are_awaited_waits_for_all_of_them_to_be_given_back() -> None:
    with GateBench(config=BOTH_FAMILIES) as bench:
        call = bench.pbx.call("911")
        bench.run(0.5)
        bench.media.silent = True
        bench.run(1.0)
        assert families(bench) == [False, True, False]
        call.cancel()
        bench.run(0.1)
        assert call.status == 487
        for leg in (3, 1, 2):
            assert not bench.journal.final
            bench.answer(MediaLegClosed(LegId(leg), LegStatistics()))
        bench.media.legs.clear()
    assert bench.record.disposition is Disposition.ABANDONED_RINGING

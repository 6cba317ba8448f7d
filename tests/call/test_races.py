"""Messages that cross on the wire (RFC 5407): CANCEL and 200, BYE and BYE, lost ACKs, a caller that is
gone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.call.config import CodeMode
from proxy.cdr.record import Disposition, HungUpBy
from proxy.policy import AccountCode
from proxy.sip.flow import Flow
from tests.call.offers import follows, kept_by
from tests.call.test_forwarding import internal_codes
from tests.call.test_replaces import dialog_of, replacing
from tests.call.transfers import TransferBench, refer, replies, told
from tests.support.gate import CARRIER, NUMBER, PBX, GateBench, default_config
from tests.support.ua import Step, sdp

TOLL_FREE = "918005550123"


def test_b_answers_after_a_has_cancelled() -> None:
    with GateBench(script=(Step(0.0, 180), Step(1.0, 200, with_sdp=True))) as bench:
        bench.network.delay = (0.3, 0.3)
        call = bench.pbx.call(TOLL_FREE)
        bench.run(1.4)
        call.cancel()  # reaches the carrier at 2.0, its 200 left at 1.6
        bench.run(5.0)
        assert call.status == 487
        leg = bench.carrier.calls[0]
        assert [request.method for request in leg.requests] == ["ACK", "BYE"]
    assert bench.record.disposition is Disposition.ABANDONED_RINGING


def test_a_cancels_before_b_says_anything() -> None:
    with GateBench(script=(Step(2.0, 180), Step(1.0, 200, with_sdp=True))) as bench:
        bench.network.drop = lambda sender, _receiver, data: sender == CARRIER and b"SIP/2.0 100" in data
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.5)
        call.cancel()
        bench.run(0.5)
        assert call.status == 487
        assert not bench.carrier.calls[0].was_cancelled()
        bench.run(2.0)
        assert bench.carrier.calls[0].cancelled


def test_cancel_crosses_the_200() -> None:
    with GateBench() as bench:
        bench.network.delay = (0.3, 0.3)
        call = bench.pbx.call(TOLL_FREE)
        bench.run(1.0)
        call.cancel()  # the gate's 200 is on its way
        bench.run(1.0)
        assert call.status == 200
        call.bye()
    assert bench.record.disposition is Disposition.ANSWERED


def test_both_sides_say_bye() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(1.0)
        bench.network.delay = (0.1, 0.1)
        call.bye()
        bench.carrier.calls[0].bye()
        bench.run(2.0)
    assert bench.record.disposition is Disposition.ANSWERED


def test_bye_that_nobody_answers() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(1.0)
        bench.network.drop = lambda _sender, receiver, _data: receiver == CARRIER
        call.bye()
        bench.run(40.0)
        bench.vanished.add(bench.carrier)
    assert bench.record.hung_up_by is HungUpBy.A_LEG


def test_caller_that_never_acks() -> None:
    with GateBench() as bench:
        bench.pbx.auto_ack = False
        call = bench.pbx.call(TOLL_FREE)
        bench.run(31.9)
        assert not call.has_ended()
        assert not bench.carrier.calls[0].has_ended()
        bench.run(0.2)
        assert call.ended
        assert bench.carrier.calls[0].ended
    assert bench.record.disposition is Disposition.FAILED
    assert bench.record.q850_cause == 102


def test_callee_hangs_up_before_the_ack_of_the_caller() -> None:
    # A BYE may not overtake the ACK (RFC 3261 §15): it waits for it.
    with GateBench() as bench:
        bench.pbx.auto_ack = False
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.2)
        bench.carrier.calls[0].bye()
        bench.run(0.2)
        assert not call.has_ended()
        assert call.dialog is not None
        bench.pbx.endpoint.ack(call.dialog, now=bench.now)
        bench.run(0.1)
        assert call.ended
    assert bench.record.hung_up_by is HungUpBy.B_LEG


def test_callee_hangs_up_and_the_ack_never_comes() -> None:
    with GateBench() as bench:
        bench.pbx.auto_ack = False
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.2)
        bench.carrier.calls[0].bye()
        bench.run(31.5)
        assert not call.has_ended()
        bench.run(0.5)
        assert call.ended


def test_offer_of_a_caller_who_is_about_to_be_released_is_481() -> None:
    with GateBench() as bench:
        bench.pbx.auto_ack = False
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.2)
        bench.carrier.calls[0].bye()
        bench.run(0.2)
        call.request("UPDATE", bench.pbx.description)
        call.info("5")
        bench.run(0.2)
        assert sorted(reply.status for reply in call.replies) == [200, 481]
        bench.run(33.0)
        assert call.ended


def test_caller_says_bye_while_its_own_release_waits_for_the_ack() -> None:
    with GateBench() as bench:
        bench.pbx.auto_ack = False
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.2)
        bench.carrier.calls[0].bye()
        bench.run(0.2)
        call.bye()
        bench.run(0.2)
    assert bench.record.hung_up_by is HungUpBy.B_LEG


def test_caller_is_unreachable_when_it_is_to_be_refused() -> None:
    with GateBench(script=(Step(0.5, 486),)) as bench:
        bench.network.drop = lambda sender, receiver, _data: (
            PBX in {sender, receiver} and bench.network.clock.elapsed > 0.2
        )
        bench.pbx.call(TOLL_FREE)
        bench.run(60.0)
        bench.vanished.add(bench.pbx)
    assert bench.record.disposition is Disposition.BUSY


def test_connection_of_the_caller_is_lost_before_the_answer() -> None:
    with GateBench(config=default_config(), script=(Step(0.0, 180),)) as bench:
        data = stream_invite()
        flow = Flow("TCP", PBX[0], 40000, 0, 7)
        bench.gate.receive(data, flow, bench.now)
        bench.run(0.5)
        bench.gate.endpoint.transport_failed(flow, bench.now)
        bench.run(0.1)
        # the response may take a new connection (RFC 3261 §18.2.2); that one fails as well
        bench.gate.endpoint.transport_failed(Flow("TCP", PBX[0], 5060, 0, 0), bench.now)
        bench.run(1.0)
        assert bench.carrier.calls[0].cancelled
    assert bench.record.disposition is Disposition.ABANDONED_RINGING


def stream_invite() -> bytes:
    from tests.support.ua import sdp

    body = sdp()
    return (
        f"INVITE sip:{TOLL_FREE}@gate.example.com SIP/2.0\r\n"
        f"Via: SIP/2.0/TCP {PBX[0]}:5060;branch=z9hG4bKstream\r\n"
        f"From: <sip:204@{PBX[0]}>;tag=s1\r\nTo: <sip:{TOLL_FREE}@gate.example.com>\r\nCall-ID: stream-1\r\n"
        f"CSeq: 1 INVITE\r\nContact: <sip:204@{PBX[0]};transport=tcp>\r\nMax-Forwards: 70\r\n"
        f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


@pytest.mark.parametrize("mode", [CodeMode.ANSWER, CodeMode.EARLY])
@pytest.mark.parametrize("at", [0.0, 0.05, 0.15, 0.3, 0.5, 1.0, 1.5, 2.1, 2.5, 3.5])
def test_caller_vanishes_at_any_moment(mode: CodeMode, at: float) -> None:
    """Whatever the caller sends or gets is lost from a moment on: one record, nothing left."""
    config = default_config(code_mode=mode, max_duration=30.0)
    with GateBench(
        config=config, script=(Step(0.3, 180), Step(1.0, 200, with_sdp=True)), delay=(0.01, 0.01)
    ) as bench:
        bench.pbx.call(NUMBER)
        bench.run(0.05)
        begin = bench.network.clock.elapsed
        bench.network.drop = lambda sender, receiver, _data: (
            PBX in {sender, receiver} and bench.network.clock.elapsed - begin > at
        )
        bench.press("1234#", every=0.1)
        bench.run(300.0)
        bench.vanished.add(bench.pbx)
        assert len(bench.journal.final) == 1


def test_a_refer_that_overtakes_the_answer_of_a_late_offer() -> None:
    """Nothing can be said yet to who is to be transferred."""
    with TransferBench() as bench:
        desk = bench.desk.address
        bench.network.drop = lambda sender, _receiver, data: sender == desk and data.startswith(b"ACK ")
        bench.desk.ack_body = bench.desk.description
        call = bench.desk.call("205", body=b"")
        bench.run(1.0)
        party = bench.second.calls[0]
        refer(party, "206")
        bench.run(0.1)
        assert replies(party) == [491]
        bench.network.drop = lambda *_: False
        bench.run(4.0)
        refer(party, "206")
        bench.run(2.0)
        assert told(party)[-1] == "200 terminated"
        call.bye()
        bench.run(0.5)


def test_a_refer_while_the_200_waits_for_a_prack() -> None:
    """RFC 3262 §3: who has no final response yet can't be transferred."""
    with TransferBench() as bench:
        bench.network.drop = lambda _sender, _receiver, data: data.startswith(b"PRACK ")
        bench.second.script = (Step(0.0, 183, with_sdp=True), Step(0.2, 200, with_sdp=True))
        call = bench.desk.call("205", headers=(("Require", "100rel"),))
        bench.run(0.6)
        party = bench.second.calls[0]
        refer(party, "206")
        bench.run(0.1)
        assert replies(party) == [491]
        bench.network.drop = lambda *_: False
        bench.run(5.0)
        assert call.status == 200
        refer(party, "206")
        bench.run(3.0)
        assert told(party)[-1] == "200 terminated"
        assert not call.has_ended()
        call.bye()
        bench.run(0.5)


@pytest.mark.parametrize("status", [200, 488])
@pytest.mark.parametrize("taken", [False, True])
def test_a_party_that_goes_on_elsewhere_while_it_is_being_held(taken: bool, status: int) -> None:
    """What it answers to the hold is nobody's affair any more; that it is not held then is the new call's."""
    with TransferBench() as bench:
        first = bench.talk(bench.desk, "205")
        consultation = bench.talk(bench.desk, "206")
        kept = kept_by(bench.third)
        consultation.request("INVITE", sdp("192.0.2.24", version=2, direction="sendonly"))
        bench.run(0.1)
        assert len(kept) == 1
        if taken:
            bench.desk.call("206", headers=replacing(consultation))
        else:
            refer(first, "x", replaces=dialog_of(consultation))
        bench.run(0.3)
        bench.third.within = follows(bench.third)
        held = sdp(bench.third.host, version=2, direction="recvonly") if status == 200 else b""
        bench.third.endpoint.respond(kept[0].transaction, status, body=held, now=bench.now)
        bench.run(1.0)
        assert consultation.has_ended()
        party = bench.third.calls[0]
        assert not party.has_ended()
        assert b"a=sendrecv" in [request for request in party.requests if request.method == "INVITE"][-1].body
        party.bye()
        bench.run(0.5)
        if taken:
            first.bye()
        bench.run(0.5)
        assert bench.second.calls[0].has_ended()


def test_a_caller_that_is_forwarded_while_its_session_is_refreshed() -> None:
    """The call that has asked is over when the answer comes."""
    policy = internal_codes(AccountCode("1234"))
    with TransferBench(policy=policy) as bench:
        bench.core.reconfigure(replace(bench.core.config, session_expires=90))
        kept = kept_by(bench.desk)
        bench.second.script = (Step(0.0, 180), Step(46.0, 302, headers=(("Contact", "<sip:206@gate>"),)))
        call = bench.desk.call("205")
        bench.run(1.0)
        bench.press("1234#")
        bench.run(50.0)
        assert len(kept) == 1
        assert bench.third.calls[0].connected
        bench.desk.endpoint.respond(kept[0].transaction, 200, body=bench.desk.description, now=bench.now)
        bench.desk.within = None
        bench.run(0.5)
        assert not call.has_ended()
        call.bye()
        bench.run(0.5)

"""Calls to users: all contacts ring, the first answer wins (RFC 3261 §16.6, §16.7; DESIGN 1.9)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from proxy.call.config import DidRoute
from proxy.call.ports import Latching
from proxy.cdr.record import Direction, Disposition
from proxy.policy import CallClass, ClassOfService, CodeCollection, Snapshot, UserGroup
from proxy.sip.message import Request
from proxy.sip.routing import Target
from tests.call.phones import PhoneBench, phone_policy
from tests.support.gate import CARRIER
from tests.support.network import Address
from tests.support.ua import RING_AND_ANSWER, Step, Ua, UaCall, sdp

BUSY = (Step(0.0, 486),)
DECLINE = (Step(0.0, 180), Step(1.0, 603))
NOT_FOUND = (Step(0.0, 404),)
RING = (Step(0.0, 180),)
NAT = ("203.0.113.7", 32000)
ELSEWHERE = 'SIP;cause=200;text="Call completed elsewhere"'


def invite_of(phone: Ua, number: int = -1) -> Request:
    invite = phone.calls[number].invite
    assert invite is not None
    return invite


def caller(bench: PhoneBench, number: str = "205") -> UaCall:
    """Call from the desk phone, 204."""
    return bench.desk.call(number)


def test_rfc4028_7_3_a_phone_that_asks_for_a_longer_interval_is_not_silent() -> None:
    def script(call: UaCall) -> Sequence[Step]:
        if call is phone.calls[0]:
            return (Step(3.5, 422, headers=[("Min-SE", "3600")]),)
        return (Step(3.5, 200, with_sdp=True),)

    with PhoneBench() as bench:
        phone = bench.phone("192.0.2.25")
        bench.register(phone, "205")
        phone.script = script
        bench.network.drop = lambda sender, _receiver, data: sender == phone.address and b" 100 " in data[:20]
        call = caller(bench)
        bench.run(7.5)
        assert call.status == 200
        call.bye()


def test_a_registered_phone_rings_and_answers() -> None:
    with PhoneBench() as bench:
        phone = bench.phone("192.0.2.25")
        bench.register(phone, "205")
        call = caller(bench)
        bench.run(0.5)
        assert call.statuses == [180]
        invite = invite_of(phone)
        assert invite.uri == "sip:205@192.0.2.25:5060"
        assert invite.headers.get("To") == "<sip:205@192.0.2.1>"
        assert (invite.headers.get("From") or "").startswith('"Desk 204" <sip:204@192.0.2.1>;tag=')
        bench.run(1.0)
        assert call.statuses == [180, 200]
        a, b = bench.media.legs.values()
        assert a.bridged_with == b.id
        assert b.configured[0].remote.latching is Latching.LEARNING
        bench.run(3.0)
        phone.calls[0].bye()
        bench.run(0.5)
        assert call.ended
    record = bench.record
    assert (record.direction, record.disposition) == (Direction.INTERNAL, Disposition.ANSWERED)
    assert (record.user, record.destination_user, record.dialled_number) == ("204", "205", "205")
    assert record.trunks == ()


def test_rfc3261_16_6_all_contacts_of_a_user_ring_and_the_first_answer_wins() -> None:
    with PhoneBench() as bench:
        slow = bench.phone("192.0.2.25", script=(Step(0.0, 180), Step(3.0, 200, with_sdp=True)))
        fast = bench.phone("192.0.2.26")
        bench.register(slow, "205")
        bench.register(fast, "205")
        call = caller(bench)
        bench.run(1.5)
        assert call.status == 200
        assert slow.calls[0].cancelled
        assert slow.calls[0].requests[0].headers.get("Reason") == ELSEWHERE
        assert fast.calls[0].connected
        assert invite_of(slow).call_id != invite_of(fast).call_id
        call.bye()
        bench.run(0.5)
        assert fast.calls[0].ended
    assert bench.record.b_call_id == invite_of(fast).call_id


def test_rfc3261_13_2_2_4_an_answer_that_crosses_the_cancel_is_acked_and_ended() -> None:
    answer = (Step(0.0, 180), Step(1.0, 200, with_sdp=True))
    with PhoneBench() as bench:
        phones = [bench.phone(f"192.0.2.{host}", script=answer) for host in (25, 26)]
        for phone in phones:
            bench.register(phone, "205")
        bench.network.delay = (0.05, 0.05)
        call = caller(bench)
        bench.run(3.0)
        assert call.status == 200
        connected = [phone.calls[0] for phone in phones if not phone.calls[0].ended]
        assert len(connected) == 1
        assert all(phone.calls[0].connected for phone in phones)
        bench.network.delay = (0.0, 0.0)
        call.bye()


def test_rfc3261_16_6_lower_q_rings_when_nobody_answers() -> None:
    with PhoneBench(phone_ring_time=10.0) as bench:
        first = bench.phone("192.0.2.25", script=RING)
        second = bench.phone("192.0.2.26", script=RING)
        third = bench.phone("192.0.2.27")
        bench.register(first, "205", contact="<sip:205@192.0.2.25>;q=1")
        bench.register(second, "205", contact="<sip:205@192.0.2.26>;q=0.9")
        bench.register(third, "205", contact="<sip:205@192.0.2.27>;q=0.8")
        call = caller(bench)
        bench.run(9.9)
        assert [len(phone.calls) for phone in (first, second, third)] == [1, 0, 0]
        bench.run(0.2)
        assert first.calls[0].cancelled
        assert first.calls[0].requests[0].headers.get("Reason") == "Q.850;cause=19"
        assert [len(phone.calls) for phone in (first, second, third)] == [1, 1, 0]
        bench.run(11.5)
        assert call.status == 200
        assert third.calls[0].connected
        call.bye()


def test_rfc3261_16_6_lower_q_rings_at_once_when_all_are_busy() -> None:
    with PhoneBench() as bench:
        busy = bench.phone("192.0.2.25", script=BUSY)
        free = bench.phone("192.0.2.26")
        bench.register(busy, "205")
        bench.register(free, "205", contact="<sip:205@192.0.2.26>;q=0.1")
        call = caller(bench)
        bench.run(1.5)
        assert call.status == 200
        call.bye()


@pytest.mark.parametrize(
    ("scripts", "status", "disposition"),
    [
        ((BUSY,), 486, Disposition.BUSY),
        ((NOT_FOUND, BUSY), 486, Disposition.BUSY),
        ((BUSY, (Step(0.5, 603),)), 603, Disposition.REJECTED),
        ((BUSY, (Step(0.5, 480),)), 486, Disposition.BUSY),
        (((Step(0.0, 480),), (Step(0.0, 488),)), 488, Disposition.NOT_ACCEPTABLE),
        (((Step(0.0, 480),), (Step(0.0, 503),)), 480, Disposition.NO_ANSWER),
        (((Step(0.0, 500),),), 500, Disposition.TRUNK_FAILED),
        (((Step(0.0, 302),),), 480, Disposition.NO_ANSWER),
    ],
)
def test_rfc3261_16_7_the_best_refusal_reaches_the_caller(
    scripts: tuple[tuple[Step, ...], ...], status: int, disposition: Disposition
) -> None:
    with PhoneBench() as bench:
        for host, script in enumerate(scripts):
            bench.register(bench.phone(f"192.0.2.{30 + host}", script=script), "205")
        call = caller(bench)
        bench.run(1.0)
        assert call.statuses == [status]
    assert bench.record.disposition is disposition


def test_one_busy_phone_does_not_stop_the_others() -> None:
    with PhoneBench() as bench:
        bench.register(bench.phone("192.0.2.25", script=BUSY), "205")
        bench.register(bench.phone("192.0.2.26"), "205")
        call = caller(bench)
        bench.run(1.5)
        assert call.status == 200
        call.bye()


def test_rfc3261_16_7_a_decline_ends_the_search() -> None:
    with PhoneBench() as bench:
        bench.register(bench.phone("192.0.2.25", script=DECLINE), "205")
        ringing = bench.phone("192.0.2.26", script=RING)
        bench.register(ringing, "205")
        later = bench.phone("192.0.2.27")
        bench.register(later, "205", contact="<sip:205@192.0.2.27>;q=0.5")
        call = caller(bench)
        bench.run(1.5)
        assert call.status == 603
        assert ringing.calls[0].cancelled
        assert later.calls == []


def test_nobody_is_registered() -> None:
    with PhoneBench() as bench:
        call = caller(bench)
        bench.run(0.1)
        assert call.statuses == [480]
    assert bench.record.disposition is Disposition.NO_ANSWER
    assert bench.record.destination_user == "205"


def test_an_extension_that_is_no_users_is_404() -> None:
    with PhoneBench() as bench:
        call = caller(bench, "299")
        bench.run(0.1)
        assert call.statuses == [404]
    assert bench.record.destination_user == ""


def test_a_phone_that_is_gone_is_given_up_after_4_s() -> None:
    with PhoneBench() as bench:
        bench.register(bench.desk, "205", contact="<sip:205@192.0.2.99>")
        call = caller(bench)
        bench.run(3.9)
        assert call.statuses == []
        bench.run(0.2)
        assert call.statuses == [480]
    record = bench.record
    assert (record.disposition, record.q850_cause) == (Disposition.NO_ANSWER, 20)


def test_a_phone_that_is_gone_holds_up_nobody() -> None:
    with PhoneBench() as bench:
        bench.register(bench.desk, "205", contact="<sip:205@192.0.2.98>")
        bench.register(bench.desk, "205", contact="<sip:205@192.0.2.99>")
        phone = bench.phone("192.0.2.25", script=(Step(0.0, 180), Step(10.0, 200, with_sdp=True)))
        bench.register(phone, "205")
        call = caller(bench)
        bench.run(11.0)
        assert call.statuses == [180, 200]
        call.bye()


def test_the_next_group_rings_when_the_first_is_gone() -> None:
    with PhoneBench() as bench:
        bench.register(bench.desk, "205", contact="<sip:205@192.0.2.98>")
        bench.register(bench.phone("192.0.2.25"), "205", contact="<sip:205@192.0.2.25>;q=0.5")
        call = caller(bench)
        bench.run(5.5)
        assert call.statuses == [180, 200]
        call.bye()


def test_a_phone_whose_way_is_refused_counts_as_gone() -> None:
    with PhoneBench() as bench:
        bench.register(bench.phone("192.0.2.25"), "205")
        call = caller(bench)
        bench.gate.settle(bench.now)
        bench.network.drop = lambda _sender, receiver, _data: receiver[0] == "192.0.2.25"
        bench.run(0.1)
        (binding,) = bench.registrations.registrar.bindings("205")
        bench.gate.endpoint.transport_failed(binding.flow, bench.now)
        bench.run(0.1)
        assert call.statuses == [480]


def test_nobody_answers() -> None:
    with PhoneBench(ring_timeout=30.0) as bench:
        phone = bench.phone("192.0.2.25", script=RING)
        bench.register(phone, "205")
        call = caller(bench)
        bench.run(30.5)
        assert call.statuses == [180, 480]
        assert phone.calls[0].cancelled
    assert bench.record.disposition is Disposition.NO_ANSWER


def test_the_caller_gives_up_while_phones_ring() -> None:
    with PhoneBench() as bench:
        phones = [bench.phone(f"192.0.2.{host}", script=RING) for host in (25, 26)]
        for phone in phones:
            bench.register(phone, "205")
        call = caller(bench)
        bench.run(2.0)
        call.cancel()
        bench.run(0.5)
        assert call.status == 487
        assert [phone.calls[0].cancelled for phone in phones] == [True, True]
    assert bench.record.disposition is Disposition.ABANDONED_RINGING


def test_an_answer_that_can_not_be_used_ends_the_call() -> None:
    useless = (Step(0.0, 180), Step(0.5, 200, body=sdp("192.0.2.25", codecs="18")))
    with PhoneBench() as bench:
        phone = bench.phone("192.0.2.25", script=useless)
        other = bench.phone("192.0.2.26", script=RING)
        bench.register(phone, "205")
        bench.register(other, "205")
        call = caller(bench)
        bench.run(1.0)
        assert call.status == 488
        assert phone.calls[0].ended
        assert other.calls[0].cancelled


# Early media ------------------------------------------------------------------------------------------------

EARLY = (Step(0.0, 183, with_sdp=True), Step(2.0, 200, with_sdp=True))


def test_the_only_phone_is_heard_before_it_answers() -> None:
    with PhoneBench() as bench:
        bench.register(bench.phone("192.0.2.25", script=EARLY), "205")
        call = caller(bench)
        bench.run(0.5)
        assert call.responses[-1].body
        assert any(leg.bridged_with for leg in bench.media.legs.values())
        bench.run(2.0)
        call.bye()


OPUS_FIRST = sdp("192.0.2.24", codecs="111 0 101", extra="a=rtpmap:111 opus/48000/2\r\n")
G711 = sdp("192.0.2.25", codecs="0 101")


@pytest.mark.parametrize(
    "steps",
    [(Step(0.0, 180), Step(0.1, 200, body=G711)), (Step(0.0, 183, body=G711), Step(0.1, 200, body=G711))],
)
def test_rfc3264_6_1_a_caller_of_opus_follows_a_phone_of_g711(steps: tuple[Step, ...]) -> None:
    """Opus is not transcoded: what the caller has named beside it is offered as long as it can follow."""
    with PhoneBench() as bench:
        phone = bench.phone("192.0.2.25", script=steps)
        bench.register(phone, "205")
        call = bench.desk.call("205", body=OPUS_FIRST)
        bench.run(1.0)
        assert b" RTP/AVP 96 0 " in invite_of(phone).body
        assert call.status == 200
        answers = [response.body for response in call.responses if response.body]
        assert all(b" RTP/AVP 0 101\r\n" in body for body in answers)
        assert not any(request.method == "INVITE" for request in call.requests)
        assert {leg.configured[-1].remote.audio.name for leg in bench.media.legs.values()} == {"PCMU"}
        call.bye()


def test_a_caller_of_opus_alone_is_not_promised_more() -> None:
    with PhoneBench() as bench:
        phone = bench.phone("192.0.2.25", script=(Step(0.0, 488),))
        bench.register(phone, "205")
        wrong_clock = OPUS_FIRST.replace(b"111 0 101", b"111 8 101").replace(b"PCMA/8000", b"PCMA/16000")
        call = bench.desk.call("205", body=wrong_clock)
        bench.run(1.0)
        assert b" RTP/AVP 96 " in invite_of(phone).body
        assert b"PCMA" not in invite_of(phone).body
        assert call.status == 488


def test_one_of_several_is_not() -> None:
    with PhoneBench() as bench:
        bench.register(bench.phone("192.0.2.25", script=EARLY), "205")
        bench.register(bench.phone("192.0.2.26", script=RING), "205")
        call = caller(bench)
        bench.run(0.5)
        assert not any(response.body for response in call.responses)
        assert not any(leg.bridged_with for leg in bench.media.legs.values())
        bench.run(2.0)
        assert call.status == 200
        call.bye()


def test_nor_is_one_that_comes_after_others() -> None:
    with PhoneBench() as bench:
        bench.register(bench.phone("192.0.2.25", script=BUSY), "205")
        bench.register(bench.phone("192.0.2.26", script=EARLY), "205", contact="<sip:205@192.0.2.26>;q=0.5")
        call = caller(bench)
        bench.run(0.5)
        assert not any(response.body for response in call.responses)
        bench.run(2.0)
        assert call.status == 200
        call.bye()


# By which way -----------------------------------------------------------------------------------------------


def test_a_phone_behind_nat_gets_everything_where_it_is_seen() -> None:
    with PhoneBench() as bench:
        phone = bench.phone("10.0.0.5", seen_as=NAT)
        bench.register(phone, "205")
        reached: list[Address] = []
        bench.network.trace = lambda _at, sender, receiver, _data: (
            reached.append(receiver) if sender == ("192.0.2.1", 5060) else None
        )
        call = caller(bench)
        bench.run(2.0)
        assert call.status == 200
        assert phone.calls[0].connected, "the ACK went there too"
        call.bye()
        bench.run(0.5)
        assert phone.calls[0].ended
        assert set(reached) == {NAT, bench.desk.address}


def test_rfc3327_5_3_the_path_is_the_route() -> None:
    with PhoneBench() as bench:
        edge = bench.phone("192.0.2.30", script=BUSY)
        headers = ["Supported: path", "Path: <sip:192.0.2.30;lr>", "Path: <sip:192.0.2.31;lr>"]
        bench.register(bench.desk, "205", headers=headers)
        caller(bench)
        bench.run(0.5)
        invite = invite_of(edge)
        assert invite.uri == "sip:205@192.0.2.24:5060"
        assert invite.headers.get_all("Route") == ["<sip:192.0.2.30;lr>", "<sip:192.0.2.31;lr>"]


def test_rfc3263_4_a_phone_behind_a_proxy_by_name_rings_where_dns_says() -> None:
    """As soon as the name is known: no call waits for DNS."""
    known: list[Target] = []
    with PhoneBench() as bench:
        object.__setattr__(bench.gate.endpoint.config, "lookup", lambda *_name: known)
        edge = bench.phone("192.0.2.30", script=RING_AND_ANSWER)
        headers = ["Supported: path", "Path: <sip:edge.example.net;lr>"]
        bench.register(bench.desk, "205", headers=headers)
        known.append(Target("UDP", "192.0.2.30", 5060))
        call = caller(bench)
        bench.run(2.0)
        assert invite_of(edge).headers.get_all("Route") == ["<sip:edge.example.net;lr>"]
        assert call.status == 200
        call.bye()
        bench.run(1.0)
        assert edge.calls[0].ended


def test_a_phone_hears_no_identity_that_it_should_not() -> None:
    with PhoneBench() as bench:
        phone = bench.phone("192.0.2.25", script=BUSY)
        bench.register(phone, "205")
        headers = [("Privacy", "id"), ("P-Asserted-Identity", "<sip:999@example.com>"), ("Floor", "3")]
        bench.desk.call("205", headers=headers)
        bench.run(0.5)
        invite = invite_of(phone)
        assert invite.from_.uri_text == "sip:anonymous@anonymous.invalid"
        assert invite.headers.get("P-Asserted-Identity") is None
        assert invite.headers.get("Floor") == "3"


# From other sides -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("did_routes", "did"),
    [
        ((DidRoute("+1212555", user="205"), DidRoute("", user="206")), "+12125550205"),
        ((), "+12125550204"),
        ((), "204"),
    ],
)
def test_a_call_from_the_trunk_rings_the_user_who_has_the_number(
    did_routes: tuple[DidRoute, ...], did: str
) -> None:
    with PhoneBench(did_routes=did_routes) as bench:
        extension = "205" if did_routes else "204"
        phone = bench.phone("192.0.2.25")
        bench.register(phone, extension)
        call = bench.carrier.call(did, caller="+13105550199")
        bench.run(2.0)
        assert call.status == 200
        assert invite_of(phone).from_.uri_text == "sip:+13105550199@192.0.2.1"
        call.bye()
    record = bench.record
    assert (record.direction, record.destination_user) == (Direction.INBOUND, extension)
    assert record.disposition is Disposition.ANSWERED


@pytest.mark.parametrize(("did", "status"), [("+12125550204", 480), ("+12125550999", 404)])
def test_a_call_from_the_trunk_to_nobody(did: str, status: int) -> None:
    with PhoneBench() as bench:
        call = bench.carrier.call(did)
        bench.run(0.5)
        assert call.statuses == [status]


def test_a_did_of_an_unknown_user_is_404() -> None:
    with PhoneBench(did_routes=(DidRoute("", user="299"),)) as bench:
        call = bench.carrier.call("+12125550204")
        bench.run(0.5)
        assert call.statuses == [404]


def test_with_a_pbx_too_a_registered_phone_comes_first() -> None:
    with PhoneBench(pbx=True) as bench:
        bench.register(bench.phone("192.0.2.25"), "205")
        call = bench.pbx.call("205")
        other = bench.pbx.call("206")
        bench.run(2.0)
        assert call.status == 200
        assert invite_of(bench.pbx).uri.startswith("sip:206@"), "206 is the PBX's"
        call.bye()
        other.cancel()


def test_an_anonymous_caller_of_a_pbx_stays_so() -> None:
    with PhoneBench(pbx=True) as bench:
        phone = bench.phone("192.0.2.25", script=BUSY)
        bench.register(phone, "205")
        bench.pbx.call("205", headers=[("P-Asserted-Identity", "<tel:>")])
        bench.run(0.5)
        assert invite_of(phone).from_.uri_text == "sip:anonymous@anonymous.invalid"


# With a code ------------------------------------------------------------------------------------------------


def test_a_gated_call_rings_the_phones_after_the_code() -> None:
    plain = phone_policy()
    asked = UserGroup(
        "staff",
        permissions=ClassOfService(frozenset()),
        collection=CodeCollection.REQUIRED,
        unlock=ClassOfService(frozenset(CallClass)),
    )
    policy = Snapshot(plain.plan, [asked], plain.users.values(), plain.codes)
    with PhoneBench(policy=policy) as bench:
        phone = bench.phone("192.0.2.25")
        bench.register(phone, "205")
        call = caller(bench)
        bench.run(0.1)
        assert call.status == 200
        assert phone.calls == []
        bench.press("1234#")
        bench.run(2.0)
        assert phone.calls[0].connected
        assert "ringback" in bench.media.all[next(iter(bench.media.all))].heard
        call.bye()
    assert bench.record.code is not None


def test_carrier_is_untouched_by_phones() -> None:
    with PhoneBench() as bench:
        bench.register(bench.desk, "204")
        call = bench.desk.call("918005550123")
        bench.run(1.0)
        assert call.status == 200
        assert bench.carrier.calls[0].connected
        assert bench.carrier.address == CARRIER
        call.bye()


# Over a bad network -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_at_most_one_phone_is_connected_over_a_terrible_network(seed: int) -> None:
    with PhoneBench(ring_timeout=60.0, seed=seed) as bench:
        scripts = (
            RING,
            (Step(0.5, 180), Step(2.0, 200, with_sdp=True)),
            BUSY,
            (Step(2.5, 200, with_sdp=True),),
        )
        phones = [bench.phone(f"192.0.2.{30 + at}", script=script) for at, script in enumerate(scripts)]
        for at, phone in enumerate(phones):
            q = "0.5" if at == 3 else "1"
            bench.register(phone, "205", contact=f"<sip:205@{phone.host}>;q={q}")
        bench.network.loss, bench.network.duplication, bench.network.delay = 0.3, 0.1, (0.0, 0.3)
        call = caller(bench)
        bench.run(70.0)
        # What was dialled or answered too late has been ended again.
        assert (
            sum(phone_call.connected and not phone_call.ended for p in phones for phone_call in p.calls) <= 1
        )
        assert call.status in {200, 480, 486}
        if call.connected and not call.ended:
            call.bye()
        bench.run(40.0)
    assert len(bench.journal.final) == 1


def test_rfc5626_7_430_gives_the_flow_up_and_tries_the_next() -> None:
    with PhoneBench() as bench:
        gone = bench.phone("192.0.2.25", script=(Step(0.0, 430),))
        alive = bench.phone("192.0.2.26")
        instance = '+sip.instance="<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>"'
        for number, phone in enumerate((alive, gone), 1):
            contact = f"<sip:205@{phone.host}:5060>;reg-id={number};{instance}"
            bench.register(phone, "205", contact=contact, headers=("Supported: outbound",))
        assert len(bench.registrations.registrar) == 2
        call = caller(bench)
        bench.run(2.0)
        assert call.status == 200
        assert len(gone.calls) == 1
        assert [binding.reg_id for binding in bench.registrations.registrar.bindings("205")] == [1]
        call.bye()

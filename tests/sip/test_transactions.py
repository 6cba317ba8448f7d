"""Matching and routing around the transaction machines: RFC 3261 §17.1.3, §17.2.3, §18.2, RFC 3581."""

from __future__ import annotations

import pytest

from proxy.sip.events import Cancelled, RequestFailed, RequestReceived, ResponseReceived
from proxy.sip.flow import Flow
from proxy.sip.invite_server import InviteServerTransaction
from tests.sip.harness import PEER, TCP, UDP, Harness, answer, request, spec, state

OLD_VIA = "SIP/2.0/UDP 192.0.2.2:5060"


def test_rfc3261_17_2_3_the_same_branch_from_another_sent_by_is_another_transaction() -> None:
    harness = Harness()
    harness.receive(request("OPTIONS"))
    harness.take(RequestReceived)
    harness.receive(request("OPTIONS", via="SIP/2.0/UDP 192.0.2.2:5062;branch=z9hG4bK-1", call_id="c2"))
    harness.take(RequestReceived)
    harness.receive(request("OPTIONS", via="SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK-1", call_id="c3"))
    harness.take(RequestReceived)


def test_rfc3261_17_2_3_the_same_branch_with_another_method_is_another_transaction() -> None:
    harness = Harness()
    harness.receive(request("OPTIONS"))
    harness.take(RequestReceived)
    harness.receive(request("INVITE", call_id="c2"))
    harness.take(RequestReceived)


def test_rfc3261_17_2_3_sent_by_is_compared_without_case() -> None:
    harness = Harness()
    harness.receive(request("OPTIONS", via="SIP/2.0/UDP Phone.example.com;branch=z9hG4bK-1"))
    harness.take(RequestReceived)
    harness.receive(request("OPTIONS", via="SIP/2.0/UDP phone.EXAMPLE.com;branch=z9hG4bK-1"))
    harness.assert_quiet()


@pytest.mark.parametrize("via", [OLD_VIA, OLD_VIA + ";branch=1", OLD_VIA + ";branch=z9hG4bK"])
def test_rfc3261_17_2_3_rfc2543_requests_match_by_their_headers(via: str) -> None:
    harness = Harness()
    transaction = harness.invited(via=via)
    harness.respond(transaction, 180)
    harness.sent.clear()
    harness.receive(request("INVITE", via=via))
    assert harness.take_sent() == ["180"]
    harness.receive(request("INVITE", via=via, cseq="2"))
    other = harness.take(RequestReceived).transaction
    assert other is not transaction


def test_rfc3261_17_2_3_rfc2543_ack_matches_by_the_to_tag_of_the_response() -> None:
    harness = Harness()
    transaction = harness.invited(via=OLD_VIA)
    harness.respond(transaction, 486)
    harness.receive(request("ACK", via=OLD_VIA, to_tag="another"))
    assert state(transaction) == "Completed"
    harness.receive(request("ACK", via=OLD_VIA, to_tag=transaction.lines.to_tag))
    assert state(transaction) == "Confirmed"
    harness.assert_nothing_left()


def test_rfc3261_17_2_3_rfc2543_ack_of_a_refused_reinvite() -> None:
    harness = Harness()
    first = harness.accepted(via=OLD_VIA)
    tag = first.lines.to_tag
    harness.receive(request("INVITE", via=OLD_VIA, to_tag=tag, cseq="2"))
    second = harness.take(RequestReceived).transaction
    harness.respond(second, 488)
    harness.receive(request("ACK", via=OLD_VIA, to_tag=tag, cseq="2"))
    assert state(second) == "Confirmed"


def test_rfc3261_17_2_3_an_rfc2543_ack_without_any_invite_is_dropped() -> None:
    harness = Harness()
    harness.receive(request("ACK", via=OLD_VIA, to_tag="x"))
    harness.assert_quiet()
    assert harness.endpoint.idle


def test_rfc3261_9_2_rfc2543_cancel_finds_its_invite() -> None:
    harness = Harness()
    transaction = harness.invited(via=OLD_VIA)
    harness.receive(request("CANCEL", via=OLD_VIA))
    assert harness.take(Cancelled).transaction is transaction


def test_rfc3261_17_1_3_a_response_needs_our_branch_method_and_sent_by() -> None:
    harness = Harness()
    harness.endpoint.invite(spec(), None, harness.now)
    invite = harness.last().request
    right = answer(invite, 180)
    for wrong in (
        right.replace(invite.top_via.branch or "", "z9hG4bK-other"),
        right.replace(f";branch={invite.top_via.branch}", ""),
        right.replace("CSeq: 1 INVITE", "CSeq: 1 OPTIONS"),
        right.replace("SIP/2.0/UDP 192.0.2.1:5060", "SIP/2.0/UDP 192.0.2.9:5060"),
    ):
        assert wrong != right
        harness.receive(wrong)
        assert harness.events == []
    harness.receive(right)
    harness.take(ResponseReceived)


def test_rfc3261_8_1_3_3_a_response_with_two_vias_is_dropped() -> None:
    harness = Harness()
    harness.endpoint.invite(spec(), None, harness.now)
    invite = harness.last().request
    right = answer(invite, 180)
    second = "Via: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK-7\r\n"
    harness.receive(right.replace("From:", second + "From:", 1))
    harness.receive(right.replace(";rport\r\n", ";rport, SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK-7\r\n", 1))
    assert harness.events == []


@pytest.mark.parametrize(
    ("via", "flow", "expected_via", "expected_port"),
    [
        # §18.2.1, §18.2.2: received where sent-by differs, answered at the port of sent-by.
        ("SIP/2.0/UDP pc33.example.com:5066;branch=z9hG4bK-1", UDP, ";received=192.0.2.2", 5066),
        ("SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK-1", Flow("UDP", PEER, 33333), "", 5060),
        # RFC 3581 §4: to the source port.
        ("SIP/2.0/UDP 10.0.0.1:5060;rport;branch=z9hG4bK-1", Flow("UDP", PEER, 33333),
         ";rport=33333;branch=z9hG4bK-1;received=192.0.2.2", 33333),
        # A client can't direct the response elsewhere.
        ("SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK-1;received=198.51.100.9;maddr=198.51.100.9", UDP,
         ";branch=z9hG4bK-1;maddr=198.51.100.9", 5060),
    ],
)  # fmt: skip
def test_rfc3261_18_2_responses_go_where_the_request_came_from(
    via: str, flow: Flow, expected_via: str, expected_port: int
) -> None:
    harness = Harness()
    harness.receive(request("OPTIONS", via=via), flow)
    harness.respond(harness.take(RequestReceived).transaction, 200)
    sent = harness.last()
    assert (sent.flow.remote_host, sent.flow.remote_port) == (PEER, expected_port)
    assert (sent.response.headers.get("Via") or "").endswith(expected_via)


def test_rfc3261_18_2_2_every_via_is_echoed_verbatim_and_in_order() -> None:
    harness = Harness()
    lines = ["SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bK-1;X=%41", "SIP / 2.0 / TCP  a.example.com ;branch=x",
             "SIP/2.0/UDP b.example.com;branch=y, SIP/2.0/UDP c.example.com;branch=z"]  # fmt: skip
    harness.receive(request("OPTIONS", via="\r\nVia: ".join(lines)))
    harness.respond(harness.take(RequestReceived).transaction, 200)
    assert harness.last().response.headers.get_all("Via") == lines


def test_rfc3261_18_2_2_a_response_uses_the_connection_of_its_request() -> None:
    harness = Harness()
    transaction = harness.invited(over="TCP")
    harness.respond(transaction, 180)
    assert harness.last().flow == TCP


def test_rfc3261_18_2_2_a_lost_connection_is_replaced_by_one_to_the_via() -> None:
    harness = Harness()
    transaction = harness.invited(over="TCP", via="SIP/2.0/TCP phone.example.com:5070;branch=z9hG4bK-1")
    other = harness.invited(over="TCP", via="SIP/2.0/TCP phone.example.com;branch=z9hG4bK-2", call_id="c2")
    harness.endpoint.transport_failed(TCP, harness.now)
    harness.respond(transaction, 180)
    assert harness.last().flow == Flow("TCP", PEER, 5070, 1)
    harness.respond(other, 180)
    assert harness.last().flow == Flow("TCP", PEER, 5060, 1)
    harness.endpoint.transport_failed(Flow("TCP", PEER, 5060, 1), harness.now)
    assert RequestFailed(other) in harness.take_all()
    assert not transaction.answered


def test_rfc3261_17_1_4_a_lost_connection_fails_what_was_sent_over_it() -> None:
    harness = Harness()
    wanted = Flow("TCP", PEER, 5060, 1)
    unbound = harness.endpoint.invite(spec(wanted), None, harness.now)
    answered = harness.endpoint.invite(spec(wanted), None, harness.now)
    got = wanted._replace(connection=21)
    harness.receive(answer(harness.last().request, 100, to_tag=""), got)
    harness.take(ResponseReceived)
    assert answered.flow == got
    harness.endpoint.transport_failed(wanted._replace(connection=99), harness.now)
    assert [event for event in harness.take_all() if isinstance(event, RequestFailed)] == [
        RequestFailed(unbound)
    ]
    harness.endpoint.transport_failed(wanted, harness.now)
    assert harness.take_all() == []
    harness.endpoint.transport_failed(got, harness.now)
    assert harness.take(RequestFailed).transaction is answered
    assert harness.endpoint.idle


def test_a_connection_that_could_not_be_opened_fails_only_what_asked_for_it() -> None:
    harness = Harness()
    wanted = Flow("TCP", PEER, 5060, 1)
    harness.endpoint.invite(spec(wanted), None, harness.now)
    harness.receive(answer(harness.last().request, 180), wanted._replace(connection=21))
    harness.take(ResponseReceived)
    harness.endpoint.transport_failed(wanted, harness.now)
    assert harness.take_all() == []


@pytest.mark.parametrize("host", ["224.0.1.75", "255.255.255.255", "0.0.0.0", "ff02::1", "::"])
def test_nothing_is_sent_to_multicast_broadcast_or_nowhere(host: str) -> None:
    harness = Harness()
    harness.receive(request("OPTIONS"), Flow("UDP", host, 5060))
    harness.respond(harness.take(RequestReceived).transaction, 200)
    harness.assert_quiet()


def test_nothing_is_sent_to_port_0() -> None:
    harness = Harness()
    harness.receive(
        request("OPTIONS", via="SIP/2.0/UDP 192.0.2.2;rport;branch=z9hG4bK-1"), Flow("UDP", PEER, 0)
    )
    harness.respond(harness.take(RequestReceived).transaction, 200)
    harness.assert_quiet()


def test_two_transactions_of_one_connection_end_apart() -> None:
    harness = Harness()
    first = harness.invited(over="TCP")
    second = harness.invited(over="TCP", branch="z9hG4bK-2", call_id="c2")
    for transaction in (first, second):
        harness.respond(transaction, 486)
        harness.receive(
            request("ACK", branch=transaction.branch, to_tag=transaction.lines.to_tag,
                    call_id="c1" if transaction is first else "c2"), TCP,
        )  # fmt: skip
    assert isinstance(second, InviteServerTransaction)
    assert harness.endpoint.idle

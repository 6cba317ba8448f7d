"""INVITE client transaction: RFC 3261 §17.1.1, RFC 6026 §7.2."""

from __future__ import annotations

import pytest

from proxy.sip.config import EndpointConfig
from proxy.sip.events import DialogEnded, RequestFailed, RequestTimedOut, ResponseReceived
from proxy.sip.flow import Flow
from tests.sip.harness import LISTEN_POINTS, TCP, UDP, Harness, answer, calling, spec, state


def test_rfc3261_17_1_1_2_timer_a_doubles_until_timer_b() -> None:
    harness, transaction, _ = calling()
    assert state(transaction) == "Calling"
    harness.run_until(31.999)
    assert harness.times("INVITE") == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert harness.events == []
    harness.run_until(32.0)
    assert harness.take(RequestTimedOut).transaction is transaction
    assert state(transaction) == "Terminated"
    assert harness.endpoint.idle


def test_rfc3261_17_1_1_2_retransmissions_are_byte_for_byte_the_same() -> None:
    harness, _, _ = calling()
    harness.run_until(4.0)
    assert len({sent.data for sent in harness.sent}) == 1


def test_rfc3261_17_1_1_2_no_timer_a_over_a_reliable_transport() -> None:
    harness, _, _ = calling(TCP)
    harness.run_until(31.999)
    assert harness.times("INVITE") == [0.0]
    harness.run_until(32.0)
    harness.take(RequestTimedOut)
    assert harness.endpoint.idle


def test_rfc3261_17_1_1_2_timers_follow_the_configured_t1() -> None:
    harness = Harness(EndpointConfig(LISTEN_POINTS, t1=0.1))
    harness.endpoint.invite(spec(), None, harness.now)
    assert harness.settle() == 6.4
    assert harness.times("INVITE") == [0.0, 0.1, 0.3, 0.7, 1.5, 3.1, 6.3]


def test_rfc3261_17_1_1_2_a_provisional_response_stops_all_retransmissions() -> None:
    harness, transaction, invite = calling()
    harness.receive(answer(invite, 100, to_tag=""))
    assert state(transaction) == "Proceeding"
    assert harness.take(ResponseReceived).dialog is None
    harness.run_until(300.0)
    assert harness.times("INVITE") == [0.0]
    harness.receive(answer(invite, 180))
    assert harness.take(ResponseReceived).response.status == 180


@pytest.mark.parametrize("provisional", [True, False])
def test_rfc3261_17_1_1_2_a_refusal_is_acked_and_timer_d_absorbs_its_repeats(provisional: bool) -> None:
    harness, transaction, invite = calling()
    if provisional:
        harness.receive(answer(invite, 100, to_tag=""))
        harness.take(ResponseReceived)
    harness.sent.clear()
    harness.receive(answer(invite, 486))
    assert harness.take(ResponseReceived).response.status == 486
    assert state(transaction) == "Completed"
    assert transaction.completed
    harness.run_until(31.999)
    harness.receive(answer(invite, 486))
    harness.receive(answer(invite, 180))
    harness.receive(answer(invite, 200))
    assert harness.take_sent() == ["ACK", "ACK"]
    assert harness.events == []
    assert not harness.endpoint.idle
    harness.run_until(32.0)
    assert state(transaction) == "Terminated"
    assert harness.endpoint.idle


def test_rfc3261_17_1_1_2_timer_d_is_at_least_32_s() -> None:
    harness = Harness(EndpointConfig(LISTEN_POINTS, t1=0.1))
    harness.endpoint.invite(spec(), None, harness.now)
    harness.receive(answer(harness.last().request, 486))
    assert harness.settle() == 32.0


def test_rfc3261_17_1_1_2_timer_d_is_zero_over_a_reliable_transport() -> None:
    harness, transaction, invite = calling(TCP)
    harness.receive(answer(invite, 486), TCP)
    assert harness.take_sent() == ["INVITE", "ACK"]
    assert state(transaction) == "Terminated"
    harness.take(ResponseReceived)
    assert harness.endpoint.idle


def test_rfc3261_17_1_1_3_the_ack_for_a_refusal_repeats_the_invite() -> None:
    harness = Harness()
    harness.endpoint.invite(spec(route="<sip:192.0.2.2;lr>"), None, harness.now)
    invite = harness.last().request
    harness.receive(answer(invite, 404, to_tag="busy"))
    ack = harness.last().request
    assert ack.method == "ACK"
    assert ack.uri == invite.uri
    assert ack.headers.get_all("Via") == invite.headers.get_all("Via")
    assert ack.headers.get("Route") == "<sip:192.0.2.2;lr>"
    assert ack.headers.get("From") == invite.headers.get("From")
    assert ack.to.tag == "busy"
    assert ack.call_id == invite.call_id
    assert (ack.cseq.number, ack.cseq.method) == (1, "ACK")
    assert ack.body == b""


def test_rfc6026_7_2_accepted_passes_every_2xx_up_and_lasts_64_t1() -> None:
    harness, transaction, invite = calling()
    harness.receive(answer(invite, 200, to_tag="one"))
    first = harness.take(ResponseReceived)
    assert state(transaction) == "Accepted"
    assert first.dialog is not None
    harness.receive(answer(invite, 200, to_tag="two"))
    second = harness.take(ResponseReceived)
    assert second.dialog is not None
    assert second.dialog is not first.dialog
    harness.receive(answer(invite, 486))
    harness.receive(answer(invite, 180))
    assert harness.events == []
    harness.run_until(31.999)
    assert state(transaction) == "Accepted"
    harness.run_until(32.0)
    assert state(transaction) == "Terminated"
    harness.receive(answer(invite, 200, to_tag="three"))
    assert harness.events == []
    for dialog in (first.dialog, second.dialog):
        harness.endpoint.terminate(dialog)
    assert harness.endpoint.idle


@pytest.mark.parametrize("provisional", [True, False])
def test_rfc3261_17_1_4_a_transport_error_ends_the_transaction(provisional: bool) -> None:
    harness, transaction, invite = calling()
    if provisional:
        harness.receive(answer(invite, 183))
        harness.take(ResponseReceived)
    harness.endpoint.transport_failed(UDP, harness.now)
    events = harness.take_all()
    assert events[0] == RequestFailed(transaction)
    assert [type(event) for event in events[1:]] == ([DialogEnded] if provisional else [])
    assert harness.endpoint.idle


def test_rfc3261_17_1_4_errors_of_another_flow_or_after_the_final_response_change_nothing() -> None:
    harness, _, invite = calling()
    harness.endpoint.transport_failed(Flow("UDP", "192.0.2.9", 5060), harness.now)
    harness.receive(answer(invite, 486))
    harness.take(ResponseReceived)
    harness.endpoint.transport_failed(UDP, harness.now)
    harness.drain()
    assert harness.events == []
    harness.assert_nothing_left()


def test_the_transaction_tells_what_a_repeated_invite_needs() -> None:
    _, transaction, invite = calling()
    assert transaction.call_id == invite.call_id
    assert transaction.local_tag == invite.from_.tag
    assert transaction.cseq == 1
    assert not transaction.completed

"""INVITE server transaction: RFC 3261 §17.2.1, RFC 6026 §7.1."""

from __future__ import annotations

import pytest

from proxy.sip.config import EndpointConfig
from proxy.sip.events import AckReceived, RequestFailed, RequestReceived
from tests.sip.harness import LISTEN_POINTS, TCP, UDP, Harness, request, state


def test_rfc3261_17_2_1_100_after_200_ms_unless_the_tu_was_faster() -> None:
    harness = Harness()
    harness.invited()
    harness.run_until(0.199)
    harness.assert_quiet()
    harness.run_until(0.2)
    trying = harness.last().response
    assert trying.status == 100
    assert trying.to.tag is None
    fast = Harness()
    fast.respond(fast.invited(), 180)
    fast.run_until(10.0)
    assert fast.take_sent() == ["180"]


def test_rfc3261_8_2_6_1_100_echoes_timestamp_and_may_be_sent_at_once() -> None:
    harness = Harness()
    transaction = harness.invited(extra="Timestamp: 54\r\n")
    harness.respond(transaction, 100)
    trying = harness.last().response
    assert trying.headers.get("Timestamp") == "54"
    harness.run_until(1.0)
    assert harness.take_sent() == ["100"]


def test_rfc3261_17_2_1_a_retransmitted_invite_gets_the_latest_provisional_response() -> None:
    harness = Harness()
    transaction = harness.invited()
    harness.receive(request("INVITE"))
    harness.assert_quiet()
    harness.respond(transaction, 180)
    harness.respond(transaction, 183)
    harness.sent.clear()
    harness.receive(request("INVITE"))
    assert harness.take_sent() == ["183"]
    assert harness.events == []
    assert state(transaction) == "Proceeding"


def test_rfc3261_17_2_1_timer_g_doubles_up_to_t2_until_timer_h() -> None:
    harness = Harness()
    transaction = harness.invited()
    harness.respond(transaction, 486)
    assert state(transaction) == "Completed"
    assert transaction.answered
    harness.run_until(31.999)
    assert harness.times("486") == [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert harness.events == []
    harness.run_until(32.0)
    assert harness.take(RequestFailed).transaction is transaction
    assert state(transaction) == "Terminated"
    assert harness.endpoint.idle


def test_rfc3261_17_2_1_a_retransmitted_invite_gets_the_refusal_again() -> None:
    harness = Harness()
    harness.respond(harness.invited(), 486)
    harness.run_until(0.1)
    harness.receive(request("INVITE"))
    assert harness.times("486") == [0.0, 0.1]


def test_rfc3261_17_2_1_ack_stops_timer_g_and_timer_i_absorbs_more_of_it() -> None:
    harness = Harness()
    transaction = harness.invited()
    harness.respond(transaction, 486)
    harness.receive(request("ACK", to_tag=transaction.lines.to_tag))
    assert state(transaction) == "Confirmed"
    harness.run_until(4.999)
    harness.receive(request("ACK", to_tag=transaction.lines.to_tag))
    harness.receive(request("INVITE"))
    assert harness.times("486") == [0.0]
    assert harness.events == []
    assert not harness.endpoint.idle
    harness.run_until(5.0)
    assert state(transaction) == "Terminated"
    assert harness.endpoint.idle


def test_rfc3261_17_2_1_reliable_transport_has_neither_timer_g_nor_i() -> None:
    harness = Harness()
    transaction = harness.invited(over="TCP")
    harness.respond(transaction, 486)
    harness.run_until(31.0)
    assert harness.times("486") == [0.0]
    harness.receive(request("ACK", to_tag=transaction.lines.to_tag), TCP)
    assert state(transaction) == "Terminated"
    assert harness.endpoint.idle


def test_rfc3261_17_2_1_timer_h_over_a_reliable_transport() -> None:
    harness = Harness()
    harness.respond(harness.invited(over="TCP"), 486)
    assert harness.settle() == 32.0
    harness.take(RequestFailed)
    assert harness.endpoint.idle


def test_rfc6026_7_1_accepted_absorbs_retransmissions_for_64_t1() -> None:
    harness = Harness()
    transaction = harness.invited()
    harness.respond(transaction, 200)
    assert state(transaction) == "Accepted"
    tag = transaction.lines.to_tag
    harness.receive(request("ACK", to_tag=tag, branch="z9hG4bK-2"))
    harness.take(AckReceived)
    harness.sent.clear()
    harness.run_until(31.999)
    harness.receive(request("INVITE"))
    harness.assert_quiet()
    assert state(transaction) == "Accepted"
    harness.run_until(32.0)
    assert state(transaction) == "Terminated"


def test_rfc6026_7_1_an_ack_for_a_2xx_with_the_invites_branch_still_counts() -> None:
    harness = Harness()
    transaction = harness.invited()
    harness.respond(transaction, 200)
    harness.receive(request("ACK", to_tag=transaction.lines.to_tag))
    harness.take(AckReceived)
    harness.run_until(10.0)
    assert harness.times("200") == [0.0]


def test_an_ack_before_any_final_response_is_ignored() -> None:
    harness = Harness()
    transaction = harness.invited()
    harness.receive(request("ACK"))
    harness.assert_quiet()
    assert state(transaction) == "Proceeding"


@pytest.mark.parametrize("status", [None, 180, 486])
def test_rfc3261_17_2_4_a_response_that_no_connection_can_carry_ends_the_transaction(
    status: int | None,
) -> None:
    harness = Harness()
    transaction = harness.invited(over="TCP")
    if status is not None:
        harness.respond(transaction, status)
    harness.endpoint.transport_failed(TCP, harness.now)
    harness.endpoint.transport_failed(transaction.flow, harness.now)
    assert RequestFailed(transaction) in harness.take_all()
    assert transaction.answered
    assert harness.endpoint.idle


def test_rfc6026_8_9_a_transport_error_in_accepted_leaves_timer_l() -> None:
    harness = Harness()
    transaction = harness.invited(over="TCP")
    harness.respond(transaction, 200)
    harness.endpoint.transport_failed(TCP, harness.now)
    harness.endpoint.transport_failed(transaction.flow, harness.now)
    harness.drain()
    assert harness.events == []
    assert state(transaction) == "Accepted"


def test_timers_follow_the_configured_t1_t2_and_t4() -> None:
    harness = Harness(EndpointConfig(LISTEN_POINTS, t1=0.1, t2=0.3, t4=1.0, trying_after=0.05))
    harness.receive(request("INVITE"), UDP)
    transaction = harness.take(RequestReceived).transaction
    harness.run_until(0.05)
    assert harness.times("100") == [0.05]
    harness.respond(transaction, 486)
    harness.run_until(1.0)
    assert harness.times("486") == [0.05, 0.15, 0.35, 0.65, 0.95]
    harness.receive(request("ACK", to_tag=transaction.lines.to_tag))
    assert harness.settle() == 2.0

"""Non-INVITE server transaction: RFC 3261 §17.2.2."""

from __future__ import annotations

from proxy.sip.events import RequestFailed, RequestReceived, ServerTransaction
from proxy.sip.flow import Flow
from tests.sip.harness import TCP, UDP, Harness, request, state


def asked(flow: Flow = UDP) -> tuple[Harness, ServerTransaction]:
    harness = Harness()
    harness.receive(request("OPTIONS"), flow)
    return harness, harness.take(RequestReceived).transaction


def test_rfc3261_17_2_2_a_retransmission_in_trying_is_absorbed() -> None:
    harness, transaction = asked()
    assert state(transaction) == "Trying"
    assert not transaction.answered
    harness.receive(request("OPTIONS"))
    harness.assert_quiet()


def test_rfc3261_17_2_2_a_retransmission_in_proceeding_gets_the_provisional_response() -> None:
    harness, transaction = asked()
    harness.respond(transaction, 100)
    assert state(transaction) == "Proceeding"
    assert not transaction.answered
    harness.receive(request("OPTIONS"))
    assert harness.take_sent() == ["100", "100"]


def test_rfc3261_17_2_2_a_retransmission_in_completed_gets_the_final_response_until_timer_j() -> None:
    harness, transaction = asked()
    harness.respond(transaction, 200)
    assert state(transaction) == "Completed"
    harness.run_until(31.999)
    harness.receive(request("OPTIONS"))
    assert harness.times("200") == [0.0, 31.999]
    assert harness.events == []
    assert harness.sent[0].data == harness.sent[1].data
    harness.run_until(32.0)
    assert state(transaction) == "Terminated"
    assert harness.endpoint.idle


def test_rfc3261_17_2_2_timer_j_is_zero_over_a_reliable_transport() -> None:
    harness, transaction = asked(TCP)
    harness.respond(transaction, 200)
    assert state(transaction) == "Terminated"
    assert transaction.answered
    assert harness.endpoint.idle


def test_rfc3261_17_2_4_a_response_that_no_connection_can_carry_ends_the_transaction() -> None:
    harness, transaction = asked(TCP)
    harness.endpoint.transport_failed(TCP, harness.now)
    harness.endpoint.transport_failed(transaction.flow, harness.now)
    assert harness.take(RequestFailed).transaction is transaction
    assert harness.endpoint.idle

"""Non-INVITE client transaction: RFC 3261 §17.1.2."""

from __future__ import annotations

from proxy.sip.events import ClientTransaction, RequestFailed, RequestTimedOut, ResponseReceived
from proxy.sip.flow import Flow
from proxy.sip.message import Request
from tests.sip.harness import TCP, UDP, Harness, answer, state


def trying(flow: Flow = UDP) -> tuple[Harness, ClientTransaction, Request]:
    harness = Harness()
    transaction = harness.endpoint.send_request("OPTIONS", "sip:192.0.2.2", flow=flow, now=harness.now)
    return harness, transaction, harness.last().request


def test_rfc3261_17_1_2_2_timer_e_doubles_up_to_t2_until_timer_f() -> None:
    harness, transaction, _ = trying()
    assert state(transaction) == "Trying"
    harness.run_until(31.999)
    assert harness.times("OPTIONS") == [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert harness.events == []
    harness.run_until(32.0)
    assert harness.take(RequestTimedOut).transaction is transaction
    assert state(transaction) == "Terminated"
    assert transaction.completed
    assert harness.endpoint.idle


def test_rfc3261_17_1_2_2_in_proceeding_timer_e_is_t2_and_timer_f_goes_on() -> None:
    harness, transaction, request = trying()
    harness.run_until(0.6)
    harness.receive(answer(request, 100, to_tag=""))
    assert harness.take(ResponseReceived).response.status == 100
    assert state(transaction) == "Proceeding"
    assert not transaction.completed
    harness.run_until(31.999)
    assert harness.times("OPTIONS") == [0.0, 0.5, 1.5, 5.5, 9.5, 13.5, 17.5, 21.5, 25.5, 29.5]
    harness.run_until(32.0)
    harness.take(RequestTimedOut)
    assert harness.endpoint.idle


def test_rfc3261_17_1_2_2_timer_k_absorbs_repeats_for_t4() -> None:
    harness, transaction, request = trying()
    harness.receive(answer(request, 200))
    assert harness.take(ResponseReceived).response.status == 200
    assert state(transaction) == "Completed"
    harness.run_until(4.999)
    harness.receive(answer(request, 200))
    assert harness.events == []
    assert harness.times("OPTIONS") == [0.0]
    assert not harness.endpoint.idle
    harness.run_until(5.0)
    assert state(transaction) == "Terminated"
    assert harness.endpoint.idle


def test_rfc3261_17_1_2_2_reliable_transport_has_neither_timer_e_nor_k() -> None:
    harness, transaction, request = trying(TCP)
    harness.run_until(31.0)
    assert harness.times("OPTIONS") == [0.0]
    harness.receive(answer(request, 200), TCP)
    harness.take(ResponseReceived)
    assert state(transaction) == "Terminated"
    assert harness.endpoint.idle


def test_rfc3261_17_1_2_2_timer_f_over_a_reliable_transport() -> None:
    harness, transaction, _ = trying(TCP)
    assert harness.settle() == 32.0
    assert harness.take(RequestTimedOut).transaction is transaction


def test_rfc3261_17_1_4_a_transport_error_ends_the_transaction() -> None:
    harness, transaction, _ = trying()
    harness.endpoint.transport_failed(UDP, harness.now)
    assert harness.take(RequestFailed).transaction is transaction
    assert harness.endpoint.idle

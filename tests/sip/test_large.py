"""Requests of more than 1300 octets towards a peer on UDP: RFC 3261 §18.1.1."""

from __future__ import annotations

import pytest

from proxy.sip.config import EndpointConfig
from proxy.sip.dialog import Dialog
from proxy.sip.events import RequestFailed, RequestTimedOut, ResponseReceived
from proxy.sip.flow import Flow, ListenPoint
from proxy.sip.large import LargeRequests, PeersWithoutTcp
from tests.sip.harness import GATE, PEER, UDP, Harness, answer, request, spec

BODY = b"v=0\r\n" + b"a=x\r\n" * 300
OVER_TCP = Flow("TCP", PEER, 5060, 1)
CONNECTED = OVER_TCP._replace(connection=7)


def invited(large: LargeRequests, body: bytes = BODY, harness: Harness | None = None) -> Harness:
    harness = harness or Harness()
    harness.endpoint.invite(spec()._replace(body=body, large=large), "leg", harness.now)
    harness.drain()
    return harness


def ways(harness: Harness) -> list[tuple[str, str]]:
    """Return the transport each INVITE took, and the one that its top Via names."""
    harness.drain()
    return [
        (item.flow.transport, item.request.top_via.transport)
        for item in harness.sent
        if item.what == "INVITE"
    ]


def talking(large: LargeRequests) -> tuple[Harness, Dialog]:
    harness = invited(large, b"v=0\r\n")
    return harness, harness.talking(harness.last().request)


def test_it_goes_over_tcp_to_the_same_address_and_its_via_says_so() -> None:
    harness = invited(LargeRequests.TCP_FIRST)
    sent = harness.last()
    assert sent.flow == OVER_TCP
    via = sent.request.top_via
    assert (via.transport, via.host, via.port) == ("TCP", GATE, 5060)
    # What belongs to the dialog stays with UDP.
    assert sent.request.headers.get("Contact") == f"<sip:tollgate@{GATE}:5060>"
    assert sent.request.body == BODY


@pytest.mark.parametrize("large", list(LargeRequests))
def test_1300_octets_and_less_go_over_udp(large: LargeRequests) -> None:
    size = len(invited(LargeRequests.UDP, b"x").last().data) - 1
    # Content-Length has two digits more.
    harness = invited(large, b"x" * (1300 - size - 2))
    assert len(harness.last().data) == 1300
    assert ways(harness) == [("UDP", "UDP")]


def test_a_peer_set_to_udp_gets_it_as_it_is() -> None:
    harness = invited(LargeRequests.UDP)
    assert ways(harness) == [("UDP", "UDP")]


def test_a_gate_without_tcp_sends_it_as_it_is() -> None:
    harness = Harness(EndpointConfig((ListenPoint("UDP", GATE, 5060),)))
    assert ways(invited(LargeRequests.TCP, harness=harness)) == [("UDP", "UDP")]


def test_a_peer_on_tcp_keeps_it() -> None:
    harness = Harness()
    harness.endpoint.invite(
        spec(OVER_TCP)._replace(body=BODY, large=LargeRequests.TCP_FIRST), "leg", harness.now
    )
    assert ways(harness) == [("TCP", "TCP")]
    harness.run_until(1.0)
    assert ways(harness) == [("TCP", "TCP")]


def test_a_refused_connection_lets_it_go_over_udp_with_the_same_branch() -> None:
    harness = invited(LargeRequests.TCP_FIRST)
    first = harness.last().request
    harness.endpoint.transport_failed(OVER_TCP, harness.now)
    assert ways(harness) == [("TCP", "TCP"), ("UDP", "UDP")]
    assert harness.last().request.top_via.branch == first.top_via.branch
    assert harness.last().flow == UDP
    assert not harness.events
    harness.run_until(1.5)
    assert harness.times("INVITE") == [0.0, 0.0, 0.5, 1.5]


def test_what_goes_over_udp_is_no_longer_wanted_over_tcp() -> None:
    harness = invited(LargeRequests.TCP_FIRST)
    assert harness.endpoint.withdrawals() == []
    harness.run_until(2.1)
    ((data, flow),) = harness.endpoint.withdrawals()
    assert flow == OVER_TCP
    assert data.startswith(b"INVITE ")
    assert b"Via: SIP/2.0/TCP " in data
    assert harness.endpoint.withdrawals() == []


def test_silence_for_4_t1_lets_it_go_over_udp_until_timer_b() -> None:
    harness = invited(LargeRequests.TCP_FIRST)
    harness.run_until(31.9)
    assert [way for way, _ in ways(harness)] == ["TCP", *["UDP"] * 6]
    assert harness.times("INVITE") == [0.0, 2.0, 2.5, 3.5, 5.5, 9.5, 17.5]
    harness.run_until(32.0)
    harness.take(RequestTimedOut)
    harness.assert_nothing_left()


@pytest.mark.parametrize("large", [LargeRequests.TCP_FIRST, LargeRequests.TCP])
def test_an_urgent_one_waits_t1_only_and_goes_by_both_ways(large: LargeRequests) -> None:
    harness = Harness()
    urgent = spec()._replace(body=BODY, large=large, urgent=True)
    harness.endpoint.invite(urgent, "leg", harness.now)
    harness.run_until(1.1)
    assert [way for way, _ in ways(harness)] == ["TCP", "UDP", "UDP"]
    assert harness.times("INVITE") == [0.0, 0.5, 1.0]


def test_what_comes_back_over_tcp_ends_the_trial() -> None:
    harness = invited(LargeRequests.TCP_FIRST)
    harness.receive(answer(harness.last().request, 180), CONNECTED)
    harness.take(ResponseReceived)
    harness.run_until(5.0)
    assert ways(harness) == [("TCP", "TCP")]


def test_its_dialog_stays_with_udp() -> None:
    harness = invited(LargeRequests.TCP_FIRST)
    harness.receive(answer(harness.last().request, 200), CONNECTED)
    dialog = harness.take(ResponseReceived).dialog
    assert dialog is not None
    harness.endpoint.ack(dialog, now=harness.now)
    assert harness.last().flow == UDP
    harness.endpoint.request(dialog, "BYE", now=harness.now)
    assert harness.last().flow == UDP
    harness.receive(answer(harness.last().request, 200))
    harness.take_all()
    harness.assert_nothing_left()


def test_ack_of_a_refusal_and_cancel_go_the_way_of_their_invite() -> None:
    harness = invited(LargeRequests.TCP_FIRST)
    invite = harness.last().request
    harness.receive(answer(invite, 180), CONNECTED)
    transaction = harness.take(ResponseReceived).transaction
    harness.endpoint.cancel(transaction, now=harness.now)  # type: ignore[arg-type]  # it is the INVITE's
    cancel = harness.last()
    assert (cancel.what, cancel.flow) == ("CANCEL", CONNECTED)
    assert cancel.request.headers.get("Via") == invite.headers.get("Via")
    harness.take_sent()
    harness.receive(answer(invite, 487), CONNECTED)
    ack = harness.last()
    assert (ack.what, ack.flow) == ("ACK", CONNECTED)
    assert ack.request.headers.get("Via") == invite.headers.get("Via")


def test_a_refusal_of_the_second_way_is_acked_over_udp() -> None:
    harness = invited(LargeRequests.TCP_FIRST)
    harness.endpoint.transport_failed(OVER_TCP, harness.now)
    harness.receive(answer(harness.last().request, 503))
    ack = harness.last()
    assert (ack.what, ack.flow, ack.request.top_via.transport) == ("ACK", UDP, "UDP")
    harness.take(ResponseReceived)
    harness.assert_nothing_left()


def test_tcp_alone_fails_with_its_connection_and_is_not_repeated() -> None:
    harness = invited(LargeRequests.TCP)
    harness.run_until(5.0)
    assert ways(harness) == [("TCP", "TCP")]
    harness.endpoint.transport_failed(OVER_TCP, harness.now)
    harness.take(RequestFailed)
    assert ways(harness) == [("TCP", "TCP")]
    harness.assert_nothing_left()


def test_both_ways_failing_is_one_failure() -> None:
    harness = invited(LargeRequests.TCP_FIRST)
    harness.endpoint.transport_failed(OVER_TCP, harness.now)
    harness.endpoint.transport_failed(UDP, harness.now)
    harness.take(RequestFailed)
    harness.assert_nothing_left()


def test_a_peer_without_tcp_is_remembered_for_ten_minutes() -> None:
    harness = invited(LargeRequests.TCP_FIRST)
    harness.endpoint.transport_failed(OVER_TCP, harness.now)
    harness.settle()
    harness.sent.clear()
    invited(LargeRequests.TCP_FIRST, harness=harness)
    assert ways(harness) == [("UDP", "UDP")]
    # One that is set to TCP alone is asked each time.
    invited(LargeRequests.TCP, harness=harness)
    assert ways(harness)[-1] == ("TCP", "TCP")
    harness.settle()
    harness.run_until(700.0)
    harness.sent.clear()
    invited(LargeRequests.TCP_FIRST, harness=harness)
    assert ways(harness) == [("TCP", "TCP")]


def test_remembered_peers_are_bounded() -> None:
    peers = PeersWithoutTcp()
    flows = [Flow("TCP", f"192.0.2.{n % 250}", 1024 + n) for n in range(1_001)]
    for flow in flows:
        peers.add(flow, 0.0)
    assert not peers.holds(flows[0], 1.0)
    assert peers.holds(flows[-1], 1.0)


class TestWithinADialog:
    """RFC 3261 §18.1.1 knows no exception for requests within a dialog."""

    def test_a_large_reinvite_goes_over_tcp_and_back_to_udp(self) -> None:
        harness, dialog = talking(LargeRequests.TCP_FIRST)
        harness.endpoint.request(dialog, "INVITE", body=BODY, now=harness.now)
        assert ways(harness) == [("TCP", "TCP")]
        harness.endpoint.transport_failed(OVER_TCP, harness.now)
        assert ways(harness) == [("TCP", "TCP"), ("UDP", "UDP")]

    def test_a_large_update_falls_back_on_a_refused_connection(self) -> None:
        harness, dialog = talking(LargeRequests.TCP_FIRST)
        harness.endpoint.request(dialog, "UPDATE", body=BODY, now=harness.now)
        assert harness.last().flow == OVER_TCP
        harness.endpoint.transport_failed(OVER_TCP, harness.now)
        sent = harness.last()
        assert (sent.flow, sent.request.top_via.transport) == (UDP, "UDP")
        harness.receive(answer(sent.request, 200))
        harness.take(ResponseReceived)

    def test_a_large_update_over_udp_is_no_longer_wanted_over_tcp(self) -> None:
        harness, dialog = talking(LargeRequests.TCP_FIRST)
        harness.endpoint.request(dialog, "UPDATE", body=BODY, now=harness.now)
        harness.run_until(harness.now + 2.1)
        ((data, flow),) = harness.endpoint.withdrawals()
        assert (data[:7], flow) == (b"UPDATE ", OVER_TCP)

    def test_a_large_update_falls_back_on_silence(self) -> None:
        harness, dialog = talking(LargeRequests.TCP_FIRST)
        begun = harness.clock.elapsed
        harness.endpoint.request(dialog, "UPDATE", body=BODY, now=harness.now)
        harness.run_until(begun + 3.1)
        assert [item.flow.transport for item in harness.sent] == ["TCP", "UDP", "UDP"]

    def test_a_provisional_response_ends_the_trial_of_an_update(self) -> None:
        harness, dialog = talking(LargeRequests.TCP_FIRST)
        begun = harness.clock.elapsed
        harness.endpoint.request(dialog, "UPDATE", body=BODY, now=harness.now)
        harness.receive(answer(harness.last().request, 100), CONNECTED)
        harness.take(ResponseReceived)
        harness.run_until(begun + 31.0)
        assert harness.times("UPDATE") == [pytest.approx(begun)]
        harness.run_until(begun + 32.1)
        harness.take(RequestTimedOut)

    def test_a_bye_is_never_held_up(self) -> None:
        harness, dialog = talking(LargeRequests.TCP)
        harness.endpoint.request(dialog, "BYE", headers=[("Reason", "x" * 1400)], now=harness.now)
        assert harness.last().flow == UDP

    def test_a_dialog_of_the_peers_invite_keeps_udp_unless_told(self) -> None:
        harness = Harness()
        transaction = harness.invited()
        dialog = harness.endpoint.respond(transaction, 200, body=b"v=0\r\n", now=harness.now)
        assert dialog is not None
        harness.receive(request("ACK", to_tag=transaction.lines.to_tag, branch="z9hG4bK-ack"))
        harness.endpoint.request(dialog, "UPDATE", body=BODY, now=harness.now)
        assert harness.last().flow == UDP
        dialog.large = LargeRequests.TCP
        harness.endpoint.request(dialog, "UPDATE", body=BODY, now=harness.now)
        assert harness.last().flow == OVER_TCP

"""A request within a dialog whose address fails goes to the next one of its name: RFC 3263 §4.3."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest

from proxy.sip.config import EndpointConfig
from proxy.sip.dialog import Dialog
from proxy.sip.events import DialogEnded, RequestFailed, RequestTimedOut, ResponseReceived
from proxy.sip.flow import Flow
from proxy.sip.large import LargeRequests
from proxy.sip.routing import Target
from tests.sip.harness import LISTEN_POINTS, TCP, Harness, Sent, answer, calling, request

NAMED = "<sip:15551230001@far.example.com>"
FIRST, SECOND, THIRD = (Target("UDP", f"198.51.100.{host}", 5060) for host in (1, 2, 3))
UPDATE_TIMES = [0.0, 0.5, 1.5, 3.5]
"""Timer E, until the address is given up at 8*T1."""


def talking(*targets: Target, contact: str = NAMED) -> tuple[Harness, Dialog]:
    """The peer has accepted our INVITE, and its Contact is a name with these addresses."""

    def lookup(host: str, port: int | None, transport: str, preferred: str) -> Sequence[Target]:
        del port, transport, preferred
        return targets if host == "far.example.com" else ()

    harness, _, invite = calling(config=EndpointConfig(LISTEN_POINTS, lookup=lookup))
    harness.receive(answer(invite, 200, contact=contact))
    dialog = harness.take(ResponseReceived).dialog
    assert dialog is not None
    harness.endpoint.ack(dialog, now=harness.now)
    harness.settle()
    harness.sent.clear()
    harness.clock.start = harness.now
    return harness, dialog


def ask(harness: Harness, dialog: Dialog, method: str, body: bytes = b"") -> Sent:
    harness.endpoint.request(dialog, method, body=body, now=harness.now)
    return harness.last()


def to(harness: Harness) -> list[str]:
    """Return where requests went, each address once for those that followed each other there."""
    harness.drain()
    hosts = [item.flow.remote_host for item in harness.sent]
    return [host for host, before in zip(hosts, ["", *hosts], strict=False) if host != before]


def over(target: Target) -> Flow:
    return Flow(target.transport, target.host, target.port, 1 if target.transport == "TCP" else 0)


@pytest.mark.parametrize("method", ["INVITE", "UPDATE", "BYE", "INFO"])
def test_rfc3263_4_3_a_refused_one_is_repeated_at_the_next_address_with_another_branch(method: str) -> None:
    harness, dialog = talking(FIRST, SECOND)
    first = ask(harness, dialog, method)
    harness.endpoint.transport_failed(over(FIRST), harness.now)
    second = harness.last()
    assert [first.flow.remote_host, second.flow.remote_host] == [FIRST.host, SECOND.host]
    assert first.request.top_via.branch != second.request.top_via.branch
    assert first.data.split(b"\r\n")[2:] == second.data.split(b"\r\n")[2:], "all but the Via is the same"
    harness.receive(answer(first.request, 200), over(FIRST))
    harness.sent.clear()
    harness.receive(answer(second.request, 200), over(SECOND))
    told = harness.take_all()[0]
    assert isinstance(told, ResponseReceived), "and it is one request to whoever made it"
    assert (told.response.status, told.dialog) == (200, dialog)


@pytest.mark.parametrize("method", ["INVITE", "UPDATE", "BYE"])
def test_rfc3263_4_3_a_silent_one_is_repeated_after_8_t1(method: str) -> None:
    harness, dialog = talking(FIRST, SECOND)
    ask(harness, dialog, method)
    harness.run_until(3.99)
    assert to(harness) == [FIRST.host]
    assert harness.times(method) == pytest.approx(UPDATE_TIMES)
    harness.run_until(4.0)
    assert to(harness) == [FIRST.host, SECOND.host]
    harness.run_until(4.6)
    assert harness.times(method)[-2:] == pytest.approx([4.0, 4.5]), "from T1 on again"


def test_all_addresses_together_last_no_longer_than_one() -> None:
    harness, dialog = talking(FIRST, SECOND, THIRD)
    ask(harness, dialog, "UPDATE")
    assert harness.settle() == pytest.approx(32.0)
    assert to(harness) == [FIRST.host, SECOND.host, THIRD.host]
    harness.take(RequestTimedOut)


def test_twenty_silent_addresses_end_with_timer_f_too() -> None:
    targets = [Target("UDP", f"198.51.100.{host}", 5060) for host in range(1, 21)]
    harness, dialog = talking(*targets)
    ask(harness, dialog, "INVITE")
    assert harness.settle() == pytest.approx(32.0)
    assert to(harness) == [target.host for target in targets[:8]]
    harness.take(RequestTimedOut)


def test_a_bye_that_no_address_takes_ends_the_dialog() -> None:
    harness, dialog = talking(FIRST, SECOND)
    ask(harness, dialog, "BYE")
    for target in (FIRST, SECOND):
        harness.endpoint.transport_failed(over(target), harness.now)
    events = harness.take_all()
    assert [type(event) for event in events] == [RequestFailed, DialogEnded]
    harness.assert_nothing_left()


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_who_has_said_anything_is_waited_for(method: str) -> None:
    harness, dialog = talking(FIRST, SECOND)
    sent = ask(harness, dialog, method)
    harness.receive(answer(sent.request, 100), over(FIRST))
    harness.take(ResponseReceived)
    harness.run_until(31.0)
    assert to(harness) == [FIRST.host]
    harness.endpoint.transport_failed(over(FIRST), harness.now)
    harness.take(RequestFailed)


def test_over_tcp_a_provisional_response_ends_the_patience_too() -> None:
    first, second = FIRST._replace(transport="TCP"), SECOND._replace(transport="TCP")
    harness, dialog = talking(first, second)
    sent = ask(harness, dialog, "UPDATE")
    harness.receive(answer(sent.request, 100), over(first)._replace(connection=7))
    harness.take(ResponseReceived)
    harness.run_until(31.9)
    assert len(harness.sent) == 1
    harness.run_until(32.0)
    harness.take(RequestTimedOut)


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_what_waits_for_a_connection_is_no_longer_wanted(method: str) -> None:
    first = FIRST._replace(transport="TCP")
    harness, dialog = talking(first, SECOND)
    dialog.not_reached(over(SECOND))
    object.__setattr__(
        harness.endpoint.config, "lookup", lambda *_name: (first, THIRD._replace(transport="TCP"))
    )
    sent = ask(harness, dialog, method)
    assert sent.flow == over(first)
    harness.run_until(4.0)
    assert [(item.data, item.flow) for item in harness.endpoint.withdrawals()] == [(sent.data, over(first))]
    assert harness.last().request.top_via.transport == "TCP"
    assert to(harness) == [FIRST.host, THIRD.host]


def test_requests_keep_to_the_address_that_took_one() -> None:
    harness, dialog = talking(FIRST, SECOND)
    ask(harness, dialog, "INFO")
    harness.endpoint.transport_failed(over(FIRST), harness.now)
    harness.receive(answer(harness.last().request, 200), over(SECOND))
    harness.take(ResponseReceived)
    harness.sent.clear()
    assert ask(harness, dialog, "INFO").flow == over(SECOND)


def test_an_address_that_the_gate_has_no_way_to_is_passed_over() -> None:
    harness, dialog = talking(FIRST, Target("TLS", SECOND.host, 5061), THIRD)
    ask(harness, dialog, "INFO")
    harness.endpoint.transport_failed(over(FIRST), harness.now)
    assert to(harness) == [FIRST.host, THIRD.host]


def test_without_a_way_to_any_other_it_has_failed() -> None:
    harness, dialog = talking(FIRST, Target("TLS", SECOND.host, 5061))
    ask(harness, dialog, "INFO")
    harness.endpoint.transport_failed(over(FIRST), harness.now)
    harness.take(RequestFailed)


def test_no_request_is_repeated_that_means_nothing_any_more() -> None:
    harness, dialog = talking(FIRST, SECOND)
    ask(harness, dialog, "UPDATE")
    ask(harness, dialog, "BYE")
    harness.endpoint.transport_failed(over(FIRST), harness.now)
    harness.take(RequestFailed)
    assert [item.what for item in harness.sent if item.flow.remote_host == SECOND.host] == ["BYE"]


def test_a_reinvite_that_was_taken_back_is_not_repeated() -> None:
    harness, dialog = talking(FIRST, SECOND)
    ask(harness, dialog, "INVITE")
    transaction = dialog.invite_client
    assert transaction is not None
    harness.endpoint.cancel(transaction, now=harness.now)
    harness.endpoint.transport_failed(over(FIRST), harness.now)
    assert to(harness) == [FIRST.host]
    harness.take(RequestFailed)


def test_a_bye_that_waited_for_the_ack_goes_on_too() -> None:
    harness = Harness(EndpointConfig(LISTEN_POINTS, lookup=lambda *_name: (FIRST, SECOND)))
    invited = harness.invited(contact=NAMED)
    harness.respond(invited, 200, b"v=0\r\n")
    dialog = invited.dialog
    assert dialog is not None
    harness.endpoint.request(dialog, "BYE", now=harness.now)
    assert "BYE" not in harness.take_sent()
    harness.receive(request("ACK", to_tag=invited.lines.to_tag, branch="z9hG4bK-ack"))
    harness.endpoint.transport_failed(over(FIRST), harness.now)
    assert to(harness) == [FIRST.host, SECOND.host]


@pytest.mark.parametrize("contact", ["<sip:15551230001@192.0.2.2:5060>", NAMED])
def test_one_address_is_repeated_nowhere(contact: str) -> None:
    harness, dialog = talking(FIRST, contact=contact)
    sent = ask(harness, dialog, "INFO")
    harness.endpoint.transport_failed(sent.flow, harness.now)
    harness.take(RequestFailed)
    assert len(harness.sent) == 1


def test_rfc3261_18_1_1_a_large_one_is_tried_over_tcp_and_udp_at_each_address() -> None:
    harness, dialog = talking(FIRST, SECOND)
    dialog.large = LargeRequests.TCP_FIRST
    ask(harness, dialog, "UPDATE", b"v=0\r\n" + b"a=x\r\n" * 300)
    harness.run_until(6.0)
    ways = [(item.at, item.flow.transport, item.flow.remote_host) for item in harness.sent]
    starts = [ways[0], *(now for before, now in pairwise(ways) if now[1:] != before[1:])]
    assert starts == [
        (0.0, "TCP", FIRST.host),
        (2.0, "UDP", FIRST.host),
        (4.0, "TCP", SECOND.host),
        (6.0, "UDP", SECOND.host),
    ]


class TestAck:
    """An ACK of a 2xx has no transaction: the 2xx that comes again says that it was lost (§13.2.2.4)."""

    @staticmethod
    def acked(*targets: Target, contact: str = NAMED) -> tuple[Harness, str]:
        lookup = lambda *_name: targets  # noqa: E731
        harness, _, invite = calling(config=EndpointConfig(LISTEN_POINTS, lookup=lookup))
        accepted = answer(invite, 200, contact=contact)
        harness.receive(accepted)
        dialog = harness.take(ResponseReceived).dialog
        assert dialog is not None
        harness.endpoint.ack(dialog, body=b"v=0\r\n", now=harness.now)
        harness.take_sent()
        return harness, accepted

    def test_rfc3263_4_3_one_that_does_not_help_goes_to_the_next_address(self) -> None:
        harness, accepted = self.acked(FIRST, SECOND)
        for _ in range(4):
            harness.receive(accepted)
        hosts = [item.flow.remote_host for item in harness.sent]
        assert hosts == [FIRST.host, SECOND.host, SECOND.host, FIRST.host]
        acks = [item.request for item in harness.sent]
        assert acks[0].top_via.branch != acks[1].top_via.branch == acks[2].top_via.branch
        assert {ack.headers.get("CSeq") for ack in acks} == {"1 ACK"}
        assert {ack.body for ack in acks} == {b"v=0\r\n"}

    def test_to_one_address_it_stays_the_same(self) -> None:
        harness, accepted = self.acked(FIRST)
        for _ in range(4):
            harness.receive(accepted)
        assert {item.flow for item in harness.sent} == {over(FIRST)}
        assert len({item.data for item in harness.sent}) == 1


def test_who_came_by_a_connection_is_reached_by_it_alone() -> None:
    harness = Harness(EndpointConfig(LISTEN_POINTS, lookup=lambda *_name: (FIRST, SECOND)))
    invited = harness.invited(over="TCP", contact=NAMED)
    harness.respond(invited, 200, b"v=0\r\n")
    dialog = invited.dialog
    assert dialog is not None
    harness.receive(request("ACK", to_tag=dialog.local_tag, branch="z9hG4bK-ack"), TCP)
    harness.take_all()
    harness.sent.clear()
    assert ask(harness, dialog, "INFO").flow == TCP
    harness.run_until(31.9)
    assert len(harness.sent) == 1, "a slow peer is no dead one"

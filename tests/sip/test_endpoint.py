"""Two endpoints over a fake network: whole calls, bad networks, hostile input."""

from __future__ import annotations

import logging
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.sip.config import ALLOW, EndpointConfig
from proxy.sip.dialog import Dialog
from proxy.sip.endpoint import Endpoint
from proxy.sip.events import (
    AckReceived,
    AckTimedOut,
    Cancelled,
    DialogEnded,
    RequestReceived,
    RequestTimedOut,
    ResponseReceived,
    ServerTransaction,
)
from proxy.sip.flow import Flow, ListenPoint
from proxy.sip.invite_client import InviteClientTransaction
from proxy.sip.parser import ParserLimits
from proxy.sip.spec import InviteSpec
from tests.sip.harness import LISTEN_POINTS, TCP, UDP, Harness, Sent, answer, request, spec
from tests.support.ids import CountingIds
from tests.support.network import Address, FakeNetwork


def _note(log: list[tuple[float, bytes]], at: float, sender: Address, receiver: Address, data: bytes) -> None:
    del sender, receiver
    log.append((at, data))


CALLER, CALLEE = ("192.0.2.1", 5060), ("192.0.2.2", 5060)


class Phone:
    """A TU that answers everything it is asked and hangs up what it has started."""

    def __init__(self, network: FakeNetwork, address: tuple[str, int], name: str) -> None:
        self.endpoint = Endpoint(EndpointConfig((ListenPoint("UDP", *address),)), CountingIds(name))
        self.network = network
        self.ended: list[Dialog] = []
        self.answered = 0
        self.refused: list[int] = []
        self.timed_out = 0
        self.ringing: list[ServerTransaction] = []
        network.attach(address, self.endpoint, self.after)

    def call(self, number: int, to: tuple[str, int]) -> InviteClientTransaction:
        uri = f"sip:{number}@{to[0]}"
        return self.endpoint.invite(
            InviteSpec(uri, "<sip:204@example.com>", f"<{uri}>", Flow("UDP", *to), b"v=0\r\n"),
            number,
            self.network.clock.now,
        )

    def after(self, now: float) -> None:
        for event in self.endpoint.events():
            if isinstance(event, RequestReceived):
                self.requested(event, now)
            elif isinstance(event, ResponseReceived):
                self.responded(event, now)
            elif isinstance(event, AckTimedOut):
                self.endpoint.request(event.dialog, "BYE", now=now)
            elif isinstance(event, Cancelled):
                self.endpoint.respond(event.transaction, 487, now=now)
            elif isinstance(event, RequestTimedOut):
                self.timed_out += 1
            elif isinstance(event, DialogEnded):
                self.ended.append(event.dialog)

    def give_up(self) -> None:
        """Refuse what still rings: its caller's CANCEL was lost every time."""
        for transaction in self.ringing:
            if not transaction.answered:
                self.endpoint.respond(transaction, 480, now=self.network.clock.now)

    def requested(self, event: RequestReceived, now: float) -> None:
        if event.request.method != "INVITE":
            self.endpoint.respond(event.transaction, 200, now=now)
            return
        self.endpoint.respond(event.transaction, 180, now=now)
        if event.request.uri.startswith("sip:4"):
            self.endpoint.respond(event.transaction, 486, now=now)
        elif event.request.uri.startswith("sip:9"):
            self.ringing.append(event.transaction)
        else:
            self.endpoint.respond(event.transaction, 200, body=b"v=0\r\n", now=now)

    def responded(self, event: ResponseReceived, now: float) -> None:
        if event.transaction.method != "INVITE":
            return
        if 200 <= event.response.status < 300:
            assert event.dialog is not None
            self.answered += 1
            self.endpoint.ack(event.dialog, now=now)
            self.endpoint.request(event.dialog, "BYE", now=now)
        elif event.response.status >= 300:
            self.refused.append(event.response.status)
        elif isinstance(event.transaction, InviteClientTransaction) and event.transaction.owner in range(
            900, 1000
        ):
            self.endpoint.cancel(event.transaction, now=now)


def pair(network: FakeNetwork) -> tuple[Phone, Phone]:
    return Phone(network, CALLER, "a"), Phone(network, CALLEE, "b")


def test_rfc3665_3_1_a_call_from_invite_to_bye() -> None:
    network = FakeNetwork()
    log: list[tuple[float, bytes]] = []
    network.trace = partial(_note, log)
    caller, callee = pair(network)
    caller.call(100, CALLEE)
    network.settle()
    seen = [Sent(at, data, UDP).what for at, data in log]
    assert seen == ["INVITE", "180", "200", "ACK", "BYE", "200"]
    assert (caller.answered, len(caller.ended), len(callee.ended)) == (1, 1, 1)
    assert network.clock.elapsed == 32.0
    assert caller.endpoint.idle
    assert callee.endpoint.idle


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_900_calls_over_a_network_that_loses_duplicates_and_reorders(seed: int) -> None:
    network = FakeNetwork(seed=seed, loss=0.3, duplication=0.1, delay=(0.001, 0.3))
    caller, callee = pair(network)
    invites = [caller.call(100 + number % 900, CALLEE) for number in range(900)]
    network.settle()
    callee.give_up()
    network.settle()
    assert network.lost > 300
    assert caller.endpoint.idle
    assert callee.endpoint.idle
    assert all(invite.completed for invite in invites)
    # Each call found exactly one end: answered, refused, or given up after 32 s of losses.
    assert caller.answered + len(caller.refused) + caller.timed_out >= 900
    assert caller.answered >= 690
    assert caller.refused.count(486) >= 98
    assert caller.refused.count(487) >= 95
    assert len(caller.ended) == len({id(dialog) for dialog in caller.ended})
    assert len(callee.ended) == len({id(dialog) for dialog in callee.ended})


def test_the_same_seed_gives_the_same_run_byte_for_byte() -> None:
    runs = []
    for _ in range(2):
        network = FakeNetwork(seed=5, loss=0.2, duplication=0.1, delay=(0.0, 0.1))
        log: list[tuple[float, bytes]] = []
        network.trace = partial(_note, log)
        caller, _ = pair(network)
        for number in range(20):
            caller.call(100 + number, CALLEE)
        network.settle()
        runs.append(log)
    assert runs[0] == runs[1]


def test_bye_crossing_bye_ends_both_sides() -> None:
    network = FakeNetwork(delay=(0.05, 0.05))
    a = Endpoint(EndpointConfig((ListenPoint("UDP", *CALLER),)), CountingIds("a"))
    b = Endpoint(EndpointConfig((ListenPoint("UDP", *CALLEE),)), CountingIds("b"))
    network.attach(CALLER, a)
    network.attach(CALLEE, b)
    a.invite(
        InviteSpec("sip:1@192.0.2.2", "<sip:2@x>", "<sip:1@x>", Flow("UDP", *CALLEE)), None, network.clock.now
    )
    network.run_for(0.06)
    [event] = b.events()
    assert isinstance(event, RequestReceived)
    b_dialog = b.respond(event.transaction, 200, now=network.clock.now)
    network.run_for(0.06)
    [answered] = a.events()
    assert isinstance(answered, ResponseReceived)
    assert answered.dialog is not None
    a.ack(answered.dialog, now=network.clock.now)
    network.run_for(0.06)
    [acked] = b.events()
    assert isinstance(acked, AckReceived)
    assert b_dialog is not None
    a.request(answered.dialog, "BYE", now=network.clock.now)
    b.request(b_dialog, "BYE", now=network.clock.now)
    network.settle()
    for endpoint in (a, b):
        assert [type(item) for item in endpoint.events()] == [ResponseReceived, DialogEnded]
        assert endpoint.idle


def test_the_trace_hook_sees_every_message_both_ways() -> None:
    seen: list[tuple[bool, Flow, bytes]] = []
    harness = Harness()
    harness.endpoint.trace = lambda incoming, flow, data: seen.append((incoming, flow, data))
    harness.receive(request("OPTIONS"))
    event = harness.take(RequestReceived)
    harness.respond(event.transaction, 200)
    harness.drain()
    assert [(incoming, flow) for incoming, flow, _ in seen] == [(True, UDP), (False, UDP)]
    assert seen[0][2] == request("OPTIONS").encode()


def test_capabilities_answer_an_options() -> None:
    harness = Harness()
    harness.receive(request("OPTIONS"))
    transaction = harness.take(RequestReceived).transaction
    harness.endpoint.respond(transaction, 200, headers=harness.endpoint.capabilities, now=harness.now)
    headers = harness.last().response.headers
    assert headers.get("Allow") == ", ".join(ALLOW)
    assert headers.get("Accept") == "application/sdp, multipart/mixed"
    assert headers.get("Accept-Encoding") == "identity"
    assert headers.get("Accept-Language") == "en"
    assert headers.get("Supported") == ""


def test_rfc3891_3_a_dialog_is_found_by_its_name() -> None:
    harness = Harness()
    harness.receive(request("INVITE"))
    transaction = harness.take(RequestReceived).transaction
    dialog = harness.endpoint.respond(transaction, 180, now=harness.now)
    assert dialog is not None
    assert harness.endpoint.dialog(*dialog.key) is dialog
    assert harness.endpoint.dialog(dialog.call_id, dialog.remote_tag, dialog.local_tag) is None


def test_a_configuration_without_a_product_name_and_with_option_tags() -> None:
    harness = Harness(
        EndpointConfig((ListenPoint("UDP", "192.0.2.1", 5060),), user_agent="", supported=("timer",))
    )
    harness.endpoint.invite(spec(), None, harness.now)
    headers = harness.last().request.headers
    assert headers.get("User-Agent") is None
    assert headers.get("Supported") == "timer"
    transaction = harness.invited()
    harness.respond(transaction, 180)
    assert harness.last().response.headers.get("Server") is None


def test_no_digit_of_an_info_is_ever_logged(caplog: pytest.LogCaptureFixture) -> None:
    harness = Harness()
    tag = harness.accepted().lines.to_tag
    with caplog.at_level(logging.DEBUG, logger="proxy.sip"):
        harness.receive(
            request("INFO", to_tag=tag, cseq="2", branch="z9hG4bK-2", body="Signal=7\r\nDuration=160\r\n",
                    extra="Content-Type: application/dtmf-relay\r\n")
        )  # fmt: skip
        harness.receive("INFO sip:x SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.2\r\n\r\nSignal=7")
        harness.receive("Signal=7")
        harness.receive("SIP/2.0 200 OK\r\nVia: x\r\n\r\nSignal=7")
    assert caplog.records
    assert "Signal" not in caplog.text


def test_a_transport_error_for_nothing_is_harmless() -> None:
    harness = Harness()
    for flow in (UDP, TCP, TCP._replace(connection=0)):
        harness.endpoint.transport_failed(flow, harness.now)
    harness.assert_quiet()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_octets_of_any_kind_never_raise_and_leave_nothing(data: bytes) -> None:
    harness = Harness()
    harness.receive(data)
    harness.settle()
    assert harness.endpoint.idle


MESSAGES = [
    request(
        "INVITE",
        extra="Record-Route: <sip:192.0.2.3;lr>\r\nContent-Type: application/sdp\r\n",
        body="v=0\r\n",
    ),
    request("CANCEL"),
    request("ACK", to_tag="tag-gate-1"),
    request("BYE", to_tag="tag-gate-1", cseq="2", branch="z9hG4bK-2"),
    request("OPTIONS", via="SIP/2.0/UDP x;rport;branch=1"),
    request("INFO", to_tag="tag-gate-1", cseq="3", branch="z9hG4bK-3"),
    "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=b\r\nFrom: <sip:x>;tag=y\r\nTo: <sip:z>\r\n\r\n",
]


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_messages_with_octets_changed_never_raise_and_leave_nothing(data: st.DataObject) -> None:
    harness = Harness()
    transactions = []
    for _ in range(data.draw(st.integers(1, 5))):
        octets = bytearray(data.draw(st.sampled_from(MESSAGES)).encode())
        for _ in range(data.draw(st.integers(0, 4))):
            position = data.draw(st.integers(0, len(octets) - 1))
            octets[position] = data.draw(st.integers(0, 255))
        harness.receive(bytes(octets), data.draw(st.sampled_from([UDP, TCP])))
        for event in harness.take_all():
            if isinstance(event, RequestReceived):
                transactions.append(event.transaction)
                if event.request.method == "INVITE":
                    harness.respond(event.transaction, data.draw(st.sampled_from([180, 200, 486])))
    for transaction in transactions:
        if not transaction.answered:
            harness.respond(transaction, 487)
    harness.settle()
    for event in harness.take_all():
        if isinstance(event, AckTimedOut):
            harness.endpoint.terminate(event.dialog)
    for transaction in transactions:
        if transaction.dialog is not None:
            harness.endpoint.terminate(transaction.dialog)
    harness.assert_nothing_left()


def test_rfc3261_11_1_a_ping_is_an_options_without_a_transaction() -> None:
    harness = Harness()
    harness.endpoint.ping("sip:204@10.0.0.5", UDP, route=("<sip:192.0.2.9;lr>",))
    sent = harness.last()
    assert (sent.request.method, sent.request.uri, sent.flow) == ("OPTIONS", "sip:204@10.0.0.5", UDP)
    assert sent.request.headers.get("Route") == "<sip:192.0.2.9;lr>"
    assert sent.request.headers.get("Max-Forwards") == "70"
    harness.receive(answer(sent.request, 200))
    assert harness.endpoint.idle
    harness.sent.clear()
    harness.assert_quiet()


def test_rfc5626_5_3_a_lost_connection_is_told() -> None:
    harness = Harness()
    for flow in (TCP, UDP, TCP._replace(connection=0)):
        harness.endpoint.transport_failed(flow, harness.now)
    harness.assert_quiet()
    assert harness.lost == [TCP]


def test_rfc3261_7_5_line_ends_keep_a_way_open() -> None:
    harness = Harness()
    harness.endpoint.keep_open(UDP)
    harness.drain()
    assert [(sent.data, sent.flow) for sent in harness.sent] == [(b"\r\n\r\n", UDP)]
    harness.receive(b"\r\n\r\n")
    assert len(harness.sent) == 1


@pytest.mark.parametrize("limits", [ParserLimits(message_size=300), ParserLimits(header_lines=4)])
def test_rfc3261_21_5_7_what_is_over_a_limit_gets_513(limits: ParserLimits) -> None:
    harness = Harness(EndpointConfig(LISTEN_POINTS, limits=limits))
    harness.receive(request("OPTIONS", body="x" * 200))
    assert harness.take_sent() == ["513"]
    harness.assert_nothing_left()

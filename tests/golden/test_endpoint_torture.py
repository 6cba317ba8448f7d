"""RFC 4475 and RFC 5118 against a whole endpoint: the answer the RFC allows, nothing raised, nothing left."""

from __future__ import annotations

import pytest

from proxy.sip.config import EndpointConfig
from proxy.sip.events import AckTimedOut, DialogEnded, RequestReceived
from proxy.sip.flow import Flow
from proxy.sip.message import Request
from proxy.sip.parser import parse_message
from tests.golden.torture import TORTURE, Kind
from tests.sip.harness import LISTEN_POINTS, TCP, UDP, Harness
from tests.support.corpora import read_corpus

IN_NO_DIALOG = {
    # A To tag names a dialog that the gate has never had.
    "rfc4475/wsinv.dat": {481},
}


def finish(gate: Harness) -> None:
    """Let the TU answer what it got with 200, time run out, and end what is left."""
    for event in gate.take_all():
        if isinstance(event, RequestReceived):
            gate.respond(event.transaction, 200)
    gate.settle()
    for event in gate.take_all():
        if isinstance(event, AckTimedOut):
            gate.endpoint.terminate(event.dialog)
        else:
            assert isinstance(event, DialogEnded)
    gate.assert_nothing_left()


@pytest.mark.parametrize("name", sorted(TORTURE))
@pytest.mark.parametrize("flow", [UDP, TCP], ids=["udp", "tcp"])
def test_each_file_gets_an_answer_the_rfc_allows(name: str, flow: Flow) -> None:
    verdict = TORTURE[name]
    gate = Harness()
    gate.receive(read_corpus(name), flow)
    statuses = {sent.response.status for sent in gate.sent}
    assert len(gate.sent) + len(gate.events) <= 1
    if verdict.kind in {Kind.RESPONSE, Kind.DROPPED}:
        gate.assert_quiet()
    elif verdict.kind is Kind.REFUSED:
        assert statuses <= set(verdict.answers)
        assert gate.events == []
        assert gate.endpoint.idle
    else:
        assert statuses <= set(verdict.answers) | IN_NO_DIALOG.get(name, set()) | for_the_method(name)
    finish(gate)


def for_the_method(name: str) -> set[int]:
    """405 or 501 is right for any sound request whose method the gate doesn't take (§8.2.1)."""
    message = parse_message(read_corpus(name))
    assert isinstance(message, Request)
    return set() if message.method in EndpointConfig(LISTEN_POINTS).allow else {405, 501}

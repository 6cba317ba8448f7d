"""What the gate says of itself where the peer speaks sips: RFC 3261 §8.1.1.8, §12.1.1, RFC 5630 §4."""

from __future__ import annotations

import pytest

from proxy.sip.config import EndpointConfig
from proxy.sip.events import ResponseReceived
from proxy.sip.flow import Flow, ListenPoint
from proxy.sip.message import Request, Response
from tests.sip.harness import GATE, PEER, Harness, answer, request, spec

TLS = Flow("TLS", PEER, 40000, 1, 17)
SECURE = f"<sips:tollgate@{GATE}:5061>"
PLAIN = f"<sip:tollgate@{GATE}:5061;transport=tls>"
VIA = "SIP/2.0/TLS 192.0.2.2:5061;branch=z9hG4bK-1"
SIPS_URI = "sips:15551230001@192.0.2.1"
SIPS_CONTACT = "<sips:204@192.0.2.2:5061>"


def harness() -> Harness:
    return Harness(EndpointConfig((ListenPoint("UDP", GATE, 5060), ListenPoint("TLS", GATE, 5061))))


def contact_of(message: Request | Response) -> str:
    return message.headers.get("Contact") or ""


@pytest.mark.parametrize(
    ("uri", "contact", "route", "expected"),
    [
        (SIPS_URI, "<sip:204@192.0.2.2>", "", SECURE),
        ("SIPS:1@192.0.2.1", "<sip:204@192.0.2.2>", "", SECURE),
        ("sip:1@192.0.2.1", SIPS_CONTACT, "", SECURE),
        ("sip:1@192.0.2.1", SIPS_CONTACT, "<sip:192.0.2.9;lr>", PLAIN),
        ("sip:1@192.0.2.1", "<sip:204@192.0.2.2>", '"p" <SIPS:192.0.2.9;lr>, <sip:192.0.2.8;lr>', SECURE),
        ("sip:1@192.0.2.1", "<sip:204@192.0.2.2>", "", PLAIN),
        ("tel:+1555", "<sip:204@192.0.2.2>", "", PLAIN),
    ],
)
def test_rfc3261_12_1_1_the_answer_to_sips_has_a_sips_contact(
    uri: str, contact: str, route: str, expected: str
) -> None:
    here = harness()
    extra = f"Record-Route: {route}\r\n" if route else ""
    here.receive(request("INVITE", uri=uri, contact=contact, via=VIA, extra=extra), TLS)
    transaction = here.events.pop().transaction  # type: ignore[union-attr]  # it is a RequestReceived
    here.respond(transaction, 180)  # type: ignore[arg-type]
    assert contact_of(here.last().response) == expected
    here.respond(transaction, 200, b"v=0\r\n")  # type: ignore[arg-type]
    assert contact_of(here.last().response) == expected


def test_a_socket_without_tls_has_no_sips_uri() -> None:
    here = harness()
    here.receive(request("INVITE", uri=SIPS_URI))
    transaction = here.events.pop().transaction  # type: ignore[union-attr]
    here.respond(transaction, 180)  # type: ignore[arg-type]
    assert contact_of(here.last().response) == f"<sip:tollgate@{GATE}:5060>"


@pytest.mark.parametrize(
    ("uri", "route", "expected"),
    [
        ("sips:204@192.0.2.2", (), SECURE),
        ("sip:204@192.0.2.2", (), PLAIN),
        ("sip:204@192.0.2.2", ("<sips:192.0.2.9;lr>",), SECURE),
        ("sips:204@192.0.2.2", ("<sip:192.0.2.9;lr>",), PLAIN),
    ],
)
def test_rfc3261_8_1_1_8_an_invite_to_sips_has_a_sips_contact(
    uri: str, route: tuple[str, ...], expected: str
) -> None:
    here = harness()
    here.endpoint.invite(spec(TLS)._replace(uri=uri, route=route), "leg", here.now)
    assert contact_of(here.last().request) == expected


def test_a_contact_of_the_tu_keeps_its_user() -> None:
    here = harness()
    here.endpoint.invite(spec(TLS)._replace(uri="sips:204@x", contact_user="desk"), "leg", here.now)
    assert contact_of(here.last().request) == f"<sips:desk@{GATE}:5061>"


def test_requests_within_a_dialog_of_sips_keep_to_it() -> None:
    here = harness()
    here.endpoint.invite(spec(TLS)._replace(uri="sips:204@192.0.2.2"), "leg", here.now)
    here.receive(answer(here.last().request, 200, contact=SIPS_CONTACT), TLS)
    dialog = here.take(ResponseReceived).dialog
    assert dialog is not None
    here.endpoint.ack(dialog, now=here.now)
    for method in ("INVITE", "UPDATE"):
        here.endpoint.request(dialog, method, body=b"v=0\r\n", now=here.now)
        assert here.last().request.uri == "sips:204@192.0.2.2:5061"
        assert contact_of(here.last().request) == SECURE

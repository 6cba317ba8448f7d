"""What a UAS looks at in a request before it acts on it: RFC 3261 §8.2.1-§8.2.3, §16.3."""

from __future__ import annotations

import pytest

from proxy.sip.config import ALLOW, EndpointConfig
from proxy.sip.events import RequestReceived
from proxy.sip.message import Response
from tests.sip.harness import LISTEN_POINTS, Harness, request

SDP = "Content-Type: application/sdp\r\n"


def refused(harness: Harness, text: str) -> Response:
    harness.receive(text)
    assert harness.events == []
    assert harness.endpoint.idle, "nothing is kept of what is refused (RFC 3261 §8.2.7)"
    response = harness.last().response
    assert response.to.tag
    return response


def taken(harness: Harness, text: str) -> None:
    harness.receive(text)
    harness.take(RequestReceived)


def test_rfc3261_8_2_1_a_known_method_that_is_not_taken_gets_405_with_allow() -> None:
    response = refused(Harness(), request("REGISTER"))
    assert response.status == 405
    assert response.headers.get("Allow") == ", ".join(ALLOW)


@pytest.mark.parametrize("method", ["NEWMETHOD", "invite"])
def test_rfc3261_21_5_2_an_unknown_method_gets_501(method: str) -> None:
    assert refused(Harness(), request(method)).status == 501


@pytest.mark.parametrize(
    "uri", ["nobodyKnowsThisScheme:totallyopaquecontent", "http://example.com", "mailto:a@example.com"]
)
def test_rfc3261_8_2_2_1_an_unknown_uri_scheme_gets_416(uri: str) -> None:
    assert refused(Harness(), request("INVITE", uri=uri)).status == 416


@pytest.mark.parametrize(
    "uri",
    ["sip:911@192.0.2.1", "sips:911@192.0.2.1", "tel:+15551230001", "urn:service:sos", "SIP:911@192.0.2.1"],
)
def test_rfc3261_8_2_2_1_sip_sips_tel_and_urn_are_taken(uri: str) -> None:
    taken(Harness(), request("INVITE", uri=uri))


def test_rfc3261_16_3_max_forwards_0_gets_483_but_options_an_answer() -> None:
    assert refused(Harness(), request("INVITE", extra="Max-Forwards: 0\r\n")).status == 483
    taken(Harness(), request("INVITE", extra="Max-Forwards: 1\r\n"))
    taken(Harness(), request("OPTIONS", extra="Max-Forwards: 0\r\n"))


def test_rfc3261_16_3_a_request_within_a_dialog_has_arrived_whatever_its_max_forwards() -> None:
    harness = Harness()
    tag = harness.accepted().lines.to_tag
    for number, method in enumerate(("INVITE", "INFO", "BYE"), 2):
        sdp = SDP if method == "INVITE" else ""
        body = "v=0\r\n" if sdp else ""
        taken(
            harness,
            request(
                method,
                to_tag=tag,
                cseq=str(number),
                branch=f"z9hG4bK-{number}",
                extra=f"{sdp}Max-Forwards: 0\r\n",
                body=body,
            ),
        )


def test_rfc3261_8_2_2_3_require_of_the_unknown_gets_420_with_unsupported() -> None:
    harness = Harness(EndpointConfig(LISTEN_POINTS, supported=("timer",)))
    response = refused(
        harness, request("INVITE", extra="Require: Timer, 100rel\r\nRequire: nothingSupportsThis\r\n")
    )
    assert response.status == 420
    assert response.headers.values("Unsupported") == ["100rel", "nothingSupportsThis"]
    taken(harness, request("INVITE", branch="z9hG4bK-2", call_id="c2", extra="Require: timer\r\n"))


def test_rfc3261_8_2_2_3_require_is_ignored_in_cancel_and_ack() -> None:
    harness = Harness()
    transaction = harness.invited()
    harness.receive(request("CANCEL", extra="Require: 100rel\r\n"))
    assert harness.take_sent() == ["200"]
    harness.respond(transaction, 487)
    harness.receive(request("ACK", to_tag=transaction.lines.to_tag, extra="Require: 100rel\r\n"))
    harness.run_until(20.0)
    assert harness.times("487") == [0.0]


def test_a_require_that_cannot_be_read_gets_400() -> None:
    assert refused(Harness(), request("INVITE", extra='Require: "100rel, timer\r\n')).status == 400


@pytest.mark.parametrize(
    ("extra", "status", "header", "value"),
    [
        ("Content-Type: text/plain\r\n", 415, "Accept", "application/sdp, multipart/mixed"),
        ("", 415, "Accept", "application/sdp, multipart/mixed"),
        (SDP + "Content-Encoding: gzip\r\n", 415, "Accept-Encoding", "identity"),
    ],
)
def test_rfc3261_8_2_3_a_body_that_is_not_understood_gets_415(
    extra: str, status: int, header: str, value: str
) -> None:
    response = refused(Harness(), request("INVITE", extra=extra, body="hello"))
    assert response.status == status
    assert response.headers.get(header) == value


@pytest.mark.parametrize(
    "extra",
    [
        SDP,
        "Content-Type: multipart/mixed;boundary=b\r\n",
        "Content-Type: Application/SDP; charset=utf-8\r\n",
        SDP + "Content-Encoding: identity\r\n",
        "Content-Type: text/plain\r\nContent-Disposition: icon; handling=optional\r\n",
    ],
)
def test_rfc3261_8_2_3_a_body_that_is_understood_or_optional_is_taken(extra: str) -> None:
    taken(Harness(), request("INVITE", extra=extra, body="v=0\r\n"))


def test_bodies_of_other_methods_are_the_tus_to_judge() -> None:
    harness = Harness()
    tag = harness.accepted().lines.to_tag
    taken(
        harness,
        request(
            "INFO",
            to_tag=tag,
            cseq="2",
            branch="z9hG4bK-3",
            extra="Content-Type: application/dtmf\r\n",
            body="5",
        ),
    )


def test_a_content_type_without_a_body_is_no_content() -> None:
    taken(Harness(), request("INVITE", extra="Content-Type: text/plain\r\n"))


def test_rfc3327_5_3_a_register_may_require_path_and_outbound() -> None:
    config = EndpointConfig(LISTEN_POINTS, allow=("REGISTER", "INVITE"))
    taken(Harness(config), request("REGISTER", extra="Require: path, Outbound, gruu\r\n"))
    response = refused(Harness(config), request("REGISTER", extra="Require: path, gin\r\n"))
    assert (response.status, response.headers.get("Unsupported")) == (420, "gin")
    assert refused(Harness(config), request("INVITE", extra="Require: path\r\n")).status == 420

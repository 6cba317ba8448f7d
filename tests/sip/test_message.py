"""Requests and responses and their typed values (RFC 3261 §7, §8)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import RemoteProtocolError
from proxy.sip.headers import Headers
from proxy.sip.message import CSeq, Request, Response, reason_phrase
from proxy.sip.uri import Uri

SECOND_VIA = "SIP/2.0/TCP 192.0.2.2;branch=z9hG4bK0"


def invite(*changes: tuple[str, str]) -> Request:
    headers = Headers(
        [
            ("Via", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1;rport, " + SECOND_VIA),
            ("v", "SIP/2.0/UDP 192.0.2.3;branch=z9hG4bKf"),
            ("f", '"Desk" <sip:204@192.0.2.1>;tag=a'),
            ("To", "sip:5550123@example.com"),
            ("Call-ID", "c1"),
            ("CSeq", "7 INVITE"),
            ("Contact", "<sip:204@192.0.2.1:5062>"),
        ]
    )
    for name, value in changes:
        headers.set(name, value)
    return Request("INVITE", "sip:5550123@example.com", headers)


def test_rfc3261_8_1_1_typed_values() -> None:
    request = invite(("Max-Forwards", "70"), ("Content-Type", "Application/SDP;x=y"))
    assert request.call_id == "c1"
    assert request.cseq is request.cseq
    assert request.cseq == CSeq(7, "INVITE")
    assert request.from_.display_name == "Desk"
    assert request.from_ is request.from_
    assert request.to.uri == request.request_uri == Uri("sip", "5550123", "example.com")
    assert request.to is request.to
    assert request.to.tag is None
    assert str(request.top_via) == "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1;rport"
    assert request.contact is not None
    assert request.contact.uri.port == 5062
    assert request.max_forwards == 70
    assert request.content_type == "application/sdp"


def test_absent_optional_headers() -> None:
    request = Request("OPTIONS", "sip:h")
    assert request.contact is None
    assert request.contacts == request.routes == request.record_routes == []
    assert request.max_forwards is None
    assert request.content_type == ""
    assert not request.has_star_contact


GETTERS: list[Callable[[Request], object]] = [
    lambda request: request.call_id,
    lambda request: request.cseq,
    lambda request: request.from_,
    lambda request: request.to,
    lambda request: request.top_via,
]


@pytest.mark.parametrize("get", GETTERS)
@pytest.mark.parametrize("headers", [[], [(name, "") for name in ("Via", "From", "To", "Call-ID", "CSeq")]])
def test_rfc3261_8_1_1_missing_or_empty(
    get: Callable[[Request], object], headers: list[tuple[str, str]]
) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        get(Request("INVITE", "sip:h", Headers(headers)))
    assert caught.value.status_hint == 400


def test_rfc3261_10_2_2_star_contact() -> None:
    request = invite(("Contact", "*"))
    assert request.has_star_contact
    assert request.contacts == []
    assert request.contact is None


def test_rfc3261_20_30_and_20_34_route_lists() -> None:
    request = invite(("Route", "<sip:a;lr>, <sip:b;lr>"), ("Record-Route", "<sip:c;lr>"))
    assert [route.uri.host for route in request.routes] == ["a", "b"]
    assert [route.uri.host for route in request.record_routes] == ["c"]


@pytest.mark.parametrize("value", ["256", "-1", "", "x", "٣", "999999999999"])
def test_rfc3261_20_22_max_forwards_out_of_range(value: str) -> None:
    with pytest.raises(RemoteProtocolError):
        _ = invite(("Max-Forwards", value)).max_forwards


@given(st.integers(0, 2**32 - 1), st.sampled_from(["INVITE", "ACK", "X-1"]))
def test_rfc3261_20_16_cseq_round_trip(number: int, method: str) -> None:
    assert CSeq.parse(str(CSeq(number, method))) == CSeq(number, method)


@pytest.mark.parametrize(
    "text",
    ["", "1", "INVITE", "1 INVITE x", "-1 INVITE", "٣ INVITE", "1 IN@VITE", "4294967296 A", "9" * 40 + " A"],
)
def test_rfc3261_20_16_malformed_cseq(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        CSeq.parse(text)


def test_rfc3261_20_16_leading_zeros_and_wide_space() -> None:
    assert CSeq.parse("0009 \t INVITE") == CSeq(9, "INVITE")
    assert CSeq.parse("9" + " " * 300 + "INVITE") == CSeq(9, "INVITE")


def test_rfc3261_8_2_6_2_a_response_echoes_its_request() -> None:
    request = invite(("Record-Route", "<sip:p;lr>"), ("Timestamp", "54"))
    response = Response.to_request(request, 180, to_tag="b")
    assert response.headers.lines() == [
        "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1;rport, SIP/2.0/TCP 192.0.2.2;branch=z9hG4bK0",
        "v: SIP/2.0/UDP 192.0.2.3;branch=z9hG4bKf",
        'f: "Desk" <sip:204@192.0.2.1>;tag=a',
        "To: sip:5550123@example.com;tag=b",
        "Call-ID: c1",
        "CSeq: 7 INVITE",
    ]
    assert response.to.tag == "b"
    assert (response.status, response.reason) == (180, "Ringing")


def test_rfc3261_8_2_6_1_trying_copies_timestamp_and_needs_no_tag() -> None:
    response = Response.to_request(invite(("Timestamp", "54")), 100)
    assert response.headers.get("Timestamp") == "54"
    assert response.to.tag is None


def test_rfc3261_12_1_1_record_route_is_copied_for_a_dialog() -> None:
    request = invite(("Record-Route", "<sip:p;lr>"))
    assert Response.to_request(request, 200, record_route=True).headers.get("Record-Route") == "<sip:p;lr>"
    assert "Record-Route" not in Response.to_request(request, 200).headers


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("<sip:x@h>;tag=t", "<sip:x@h>;tag=t"),
        ("<sip:x@h>;TAG = t", "<sip:x@h>;TAG = t"),
        ("<sip:tag@h>", "<sip:tag@h>;tag=b"),
        ('"tag" <sip:x', '"tag" <sip:x'),
    ],
)
def test_rfc3261_8_2_6_2_the_to_tag_is_added_once(to: str, expected: str) -> None:
    response = Response.to_request(invite(("To", to)), 486, "Busy", to_tag="b")
    assert response.headers.get("To") == expected
    assert response.reason == "Busy"


def test_rfc4475_3_3_8_the_answer_to_a_doubled_header_has_one() -> None:
    request = invite()
    request.headers.add("CSeq", "8 INVITE")
    request.defect = RemoteProtocolError("two CSeq")
    response = Response.to_request(request, 400)
    assert response.headers.get_all("CSeq") == ["7 INVITE"]
    assert len(response.headers.get_all("Via")) == 2


def test_rfc3261_20_14_content_length_fits_the_body() -> None:
    request = invite(("Content-Length", "99"))
    request.body = b"v=0\r\n"
    assert request.serialize().endswith(b"Content-Length: 5\r\n\r\nv=0\r\n")
    response = Response.to_request(request, 200)
    assert response.serialize().startswith(b"SIP/2.0 200 OK\r\nVia: ")
    assert response.serialize().endswith(b"\r\nContent-Length: 0\r\n\r\n")


def test_rfc3581_4_the_source_is_noted_in_the_first_via_alone() -> None:
    request = invite()
    _ = request.top_via
    request.note_source("198.51.100.1", 5070)
    assert request.headers.get_all("Via") == [
        "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1;rport=5070;received=198.51.100.1, " + SECOND_VIA,
        "SIP/2.0/UDP 192.0.2.3;branch=z9hG4bKf",
    ]
    assert (request.top_via.rport, request.top_via.received) == (5070, "198.51.100.1")
    request.forget_parsed()
    assert request.top_via.rport == 5070


def test_a_via_that_tells_the_truth_stays() -> None:
    request = invite(("Via", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1"))
    before = request.headers.lines()
    request.note_source("192.0.2.1", 5070)
    assert request.headers.lines() == before


@pytest.mark.parametrize(
    ("status", "reason"),
    [(200, "OK"), (199, "Progress"), (499, "Request Failure"), (699, "Global Failure"), (799, "Unknown")],
)
def test_rfc3261_21_reason_phrases(status: int, reason: str) -> None:
    assert reason_phrase(status) == reason


def test_values_stay_out_of_traces() -> None:
    assert repr(invite(("Authorization", "secret"))) == "Request('INVITE', call_id='c1')"
    assert repr(Response(200)) == "Response(200, call_id=None)"

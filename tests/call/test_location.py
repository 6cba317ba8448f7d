"""Where a caller is: Geolocation and PIDF-LO across the legs (RFC 6442, RFC 5621, RFC 7852)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.call.config import PrivacyPolicy, Trunk
from proxy.sip.body import session_description
from proxy.sip.flow import Flow
from proxy.sip.large import LargeRequests
from proxy.sip.message import Request
from tests.call.test_identity import digest_bench
from tests.support.gate import CARRIER, GateBench, default_config
from tests.support.ua import sdp

TOLL_FREE = "918005550123"
PIDF = b'<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="pres:204@example.com"/>'
LOCATION = (
    b"--b\r\nContent-Type: application/pidf+xml\r\nContent-ID: <target204@pbx.example.com>\r\n"
    b"Content-Disposition: by-reference;handling=optional\r\n\r\n" + PIDF + b"\r\n"
)
DATA = b"--b\r\nContent-Type: application/EmergencyCallData.ServiceInfo+xml\r\n\r\n<x/>\r\n"
ISUP = b"--b\r\nContent-Type: application/isup;version=itu-t92+\r\n\r\n\x01\x00\r\n--CARRIED\r\n"
TEXT = b"--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n"
SDP = b"--b\r\nContent-Type: application/sdp\r\n\r\n" + sdp() + b"\r\n"
END = b"--b--\r\n"
MIXED = "multipart/mixed;boundary=b"
HEADERS = (
    ("Geolocation", "<cid:target204@pbx.example.com>"),
    ("Geolocation-Routing", "yes"),
    ("Call-Info", "<cid:info@pbx.example.com>;purpose=EmergencyCallData.ServiceInfo"),
    ("Privacy", "id;user"),
)
UNTRUSTED = Trunk("carrier", (Flow("UDP", *CARRIER),), "carrier.example.com", trusted=False)
DROPPING = replace(UNTRUSTED, trusted=True, drop_headers=frozenset({"Geolocation", "Call-Info"}))
TRUSTED = replace(UNTRUSTED, trusted=True)


def invite_of(
    number: str, *parts: bytes, trunk: Trunk = TRUSTED, content_type: str = MIXED, trusted: bool = True
) -> Request:
    """Place a call with these parts in its body; returns the INVITE that the carrier gets."""
    pbx = replace(default_config().peers[0], trusted=trusted)
    config = default_config(trunks=(trunk,), peers=(pbx,))
    with GateBench(config=config) as bench:
        bench.pbx.ack_body = sdp()
        call = bench.pbx.call(number, body=b"".join(parts), content_type=content_type, headers=HEADERS)
        bench.run(1.0)
        assert call.status == 200
        invite = bench.carrier.calls[0].invite
        assert invite is not None
        call.bye()
    assert session_description(invite).startswith(b"v=0\r\no=- ")
    return invite


@pytest.mark.parametrize("trunk", [TRUSTED, UNTRUSTED, DROPPING])
@pytest.mark.parametrize("trusted", [True, False])
def test_rfc6442_an_emergency_call_keeps_where_it_comes_from(trunk: Trunk, trusted: bool) -> None:
    invite = invite_of("911", LOCATION, SDP, DATA, END, trunk=trunk, trusted=trusted)
    assert invite.headers.get("Geolocation") == "<cid:target204@pbx.example.com>"
    assert invite.headers.get("Geolocation-Routing") == "yes"
    assert invite.headers.get("Call-Info") == HEADERS[2][1]
    # The reference leads to its part.
    assert LOCATION.partition(b"\r\n")[2].strip() in invite.body
    assert b"<x/>" in invite.body
    assert invite.headers.get("Content-Type") == "multipart/mixed;boundary=tollgate"


def test_rfc6442_a_location_without_an_offer_is_kept() -> None:
    invite = invite_of("911", PIDF, content_type="application/pidf+xml")
    assert PIDF in invite.body


@pytest.mark.parametrize(
    "number", ["urn:service:sos", "sip:911@gate.example.com", "sip:9911@gate.example.com"]
)
def test_every_dress_of_an_emergency_number_keeps_it(number: str) -> None:
    with GateBench(config=default_config(trunks=(UNTRUSTED,))) as bench:
        call = bench.pbx.call("", uri=number, body=LOCATION + SDP + END, content_type=MIXED, headers=HEADERS)
        bench.run(1.0)
        assert call.status == 200
        invite = bench.carrier.calls[0].invite
        assert invite is not None
        assert PIDF in invite.body
        call.bye()


def test_what_a_carrier_might_refuse_an_emergency_call_for_stays_behind() -> None:
    """RFC 5621 §8.1: a part that must be understood and is not means 415."""
    invite = invite_of("911", LOCATION, SDP, TEXT, ISUP, END)
    assert PIDF in invite.body
    assert b"hello" not in invite.body
    assert b"isup" not in invite.body


def test_an_emergency_call_says_who_calls_whatever_privacy_asks() -> None:
    invite = invite_of("911", SDP, END)
    assert invite.from_.uri_text == "sip:204@carrier.example.com"
    assert invite_of(TOLL_FREE, SDP, END).from_.uri_text == "sip:anonymous@anonymous.invalid"
    told = invite_of(TOLL_FREE, SDP, END, trunk=replace(TRUSTED, privacy=PrivacyPolicy.HEADER))
    assert told.from_.uri_text == "sip:204@carrier.example.com"


def test_among_trusted_sides_all_parts_of_an_ordinary_call_cross() -> None:
    invite = invite_of(TOLL_FREE, LOCATION, SDP, TEXT, ISUP, END)
    assert invite.headers.get("Geolocation") == "<cid:target204@pbx.example.com>"
    for content in (PIDF, b"hello", b"application/isup", b"--CARRIED"):
        assert content in invite.body


@pytest.mark.parametrize(("trunk", "trusted"), [(UNTRUSTED, True), (TRUSTED, False)])
def test_an_ordinary_call_tells_an_untrusted_side_neither_place_nor_isup(trunk: Trunk, trusted: bool) -> None:
    invite = invite_of(TOLL_FREE, LOCATION, SDP, TEXT, ISUP, END, trunk=trunk, trusted=trusted)
    assert "Geolocation" not in invite.headers
    assert PIDF not in invite.body
    assert b"isup" not in invite.body
    assert b"hello" in invite.body


NESTED = (
    b"--b\r\nContent-Type: multipart/related;boundary=n\r\n\r\n"
    + (LOCATION + ISUP + TEXT).replace(b"--b\r\n", b"--n\r\n")
    + b"--n--\r\n"
)


def test_what_is_nested_is_kept_for_help_and_hidden_from_untrusted_sides() -> None:
    help_ = invite_of("911", SDP, NESTED, END, trunk=UNTRUSTED)
    assert PIDF in help_.body
    assert b"isup" not in help_.body
    told = invite_of(TOLL_FREE, SDP, NESTED, END, trunk=UNTRUSTED)
    assert b"hello" in told.body
    assert PIDF not in told.body
    assert b"isup" not in told.body
    assert PIDF not in invite_of(TOLL_FREE, SDP, NESTED, END, trunk=DROPPING).body
    assert NESTED.strip() in invite_of(TOLL_FREE, SDP, NESTED, END).body.replace(
        b"--tollgate\r\n", b"--b\r\n"
    )


def test_a_dropped_geolocation_takes_its_part_with_it() -> None:
    invite = invite_of(TOLL_FREE, LOCATION, SDP, END, trunk=DROPPING)
    assert "Geolocation" not in invite.headers
    assert PIDF not in invite.body


def test_an_unregistered_phone_of_a_local_network_keeps_it_too() -> None:
    with digest_bench() as bench:
        call = bench.stranger.call("911", body=LOCATION + SDP + END, content_type=MIXED, headers=HEADERS)
        bench.run(1.0)
        assert call.status == 401  # no local network here
    assert not bench.carrier.calls


def test_large_requests_within_a_callers_dialog_go_as_its_peer_is_set() -> None:
    pbx = replace(default_config().peers[0], large_requests=LargeRequests.TCP)
    with GateBench(config=default_config(peers=(pbx,))) as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.5)
        dialog = next(iter(bench.core.calls.values())).a.dialog
        assert dialog is not None
        assert dialog.large is LargeRequests.TCP
        call.bye()


def test_a_large_emergency_call_goes_over_udp_where_there_is_no_tcp_socket() -> None:
    big = LOCATION.replace(b"<presence", b"<presence " + b"x='y' " * 400)
    assert (
        len(invite_of("911", big, SDP, END, trunk=replace(TRUSTED, large_requests=LargeRequests.TCP)).body)
        > 2400
    )

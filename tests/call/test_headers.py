"""What crosses between the legs and what does not (RFC 7092, RFC 3325; issue: header mapping)."""

from __future__ import annotations

import pytest

from proxy.call.config import CallerIdPolicy, Trunk
from proxy.call.headers import crossing_headers, quote_display_name, wants_anonymity
from proxy.call.routing import did_of
from proxy.sip.flow import Flow
from proxy.sip.message import Request
from proxy.sip.parser import parse_message
from tests.support.gate import CARRIER, GATE, PBX, GateBench, default_config
from tests.support.ua import sdp

TOLL_FREE = "918005550123"


def sent_to_carrier(
    headers: list[tuple[str, str]], *, trunk: Trunk | None = None, caller: str = "204"
) -> Request:
    config = default_config() if trunk is None else default_config(trunks=(trunk,))
    with GateBench(config=config) as bench:
        call = bench.pbx.call(TOLL_FREE, headers=headers, caller=caller)
        bench.run(0.5)
        invite = bench.carrier.calls[0].invite
        assert invite is not None
        call.bye()
    return invite


def trunk(**changes: object) -> Trunk:
    made = Trunk("carrier", (Flow("UDP", *CARRIER),), "carrier.example.com")
    for name, value in changes.items():
        object.__setattr__(made, name, value)
    return made


def test_unknown_headers_pass_unchanged() -> None:
    invite = sent_to_carrier(
        [("x-cRM-id", "a;b=<c>, d"), ("X-Twice", "1"), ("X-Twice", "2"), ("Subject", "s")]
    )
    lines = invite.headers.lines()
    assert "x-cRM-id: a;b=<c>, d" in lines
    assert [line for line in lines if line.startswith("X-Twice")] == ["X-Twice: 1", "X-Twice: 2"]
    assert "Subject: s" in lines


@pytest.mark.parametrize(
    "name",
    [
        "Proxy-Authorization",
        "Authorization",
        "Record-Route",
        "Session-Expires",
        "Min-SE",
        "Replaces",
        "Referred-By",
        "P-Preferred-Identity",
        "Accept-Contact",
        "Path",
    ],
)
def test_hop_dialog_and_credentials_never_cross(name: str) -> None:
    invite = sent_to_carrier([(name, "<sip:x@example.com>")])
    assert "sip:x@example.com" not in "".join(invite.headers.lines())


def test_dialog_of_the_b_leg_is_its_own() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.5)
        a, b = call.last, bench.carrier.calls[0].invite
        assert b is not None
        assert b.call_id != a.call_id
        assert b.from_.tag != a.from_.tag
        assert len(b.headers.get_all("Via")) == 1
        assert PBX[0] not in str(b.headers.get("Contact"))
        call.bye()


def test_max_forwards_is_one_less() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(TOLL_FREE, max_forwards=10)
        bench.run(0.5)
        invite = bench.carrier.calls[0].invite
        assert invite is not None
        assert invite.headers.get("Max-Forwards") == "9"
        call.bye()


def test_missing_max_forwards_counts_as_70() -> None:
    with GateBench() as bench:
        body = sdp()
        data = (
            f"INVITE sip:{TOLL_FREE}@gate.example.com SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {PBX[0]}:{PBX[1]};branch=z9hG4bKraw\r\nFrom: <sip:204@{PBX[0]}>;tag=r1\r\n"
            f"To: <sip:{TOLL_FREE}@gate.example.com>\r\nCall-ID: raw-1\r\nCSeq: 1 INVITE\r\n"
            f"Contact: <sip:204@{PBX[0]}:{PBX[1]}>\r\nContent-Type: application/sdp\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        bench.gate.receive(data, Flow("UDP", *PBX), bench.now)
        bench.run(0.5)
        invite = bench.carrier.calls[0].invite
        assert invite is not None
        assert invite.headers.get("Max-Forwards") == "69"
        bench.carrier.calls[0].bye()
        bench.run(40.0)


TRUST = [
    "P-Asserted-Identity",
    "Remote-Party-ID",
    "Diversion",
    "History-Info",
    "P-Charging-Vector",
    "Identity",
]


@pytest.mark.parametrize("name", TRUST)
def test_trust_headers_reach_a_trusted_trunk_only(name: str) -> None:
    value = "<sip:+12125550204@pbx.example.com>;x=1"
    assert sent_to_carrier([(name, value)]).headers.get(name) == value
    assert sent_to_carrier([(name, value)], trunk=trunk(trusted=False)).headers.get(name) is None


@pytest.mark.parametrize(
    "line",
    [
        b"P-Asserted-Identity: <sip:1@x>",
        b"p-asserted-identity:<sip:1@x>",
        b"P-ASSERTED-IDENTITY : <sip:1@x>",
        b"P-Asserted-Identity\t: <sip:1@x>",
        b"P-Asserted-Identity:\r\n <sip:1@x>",
        b"P-Asserted-Identity: <sip:2@x>\r\nP-Asserted-Identity: <sip:1@x>",
        b"remote-party-id: <sip:1@x>",
        b"DIVERSION: <sip:1@x>",
        b"y: <sip:1@x>",
    ],
)
def test_every_spelling_of_a_trust_header_is_known(line: bytes) -> None:
    message = parse_message(
        b"INVITE sip:1@x SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK1\r\nFrom: <sip:1@y>;tag=1\r\n"
        b"To: <sip:1@x>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n"
        + line
        + b"\r\nX-Kept: 1\r\nContent-Length: 0\r\n\r\n"
    )
    crossing = crossing_headers(message.headers, trusted=False)
    assert crossing == [("X-Kept", "1")]


class TestCallerId:
    def test_pass_keeps_the_caller_of_a_trusted_peer(self) -> None:
        invite = sent_to_carrier([], caller="+12125550199")
        assert invite.from_.uri_text == "sip:+12125550199@carrier.example.com"
        assert invite.headers.get("P-Asserted-Identity") == "<sip:+12125550199@carrier.example.com>"

    def test_user_shows_the_number_of_the_user(self) -> None:
        pai = ("P-Asserted-Identity", "<sip:204@pbx.example.com>")
        invite = sent_to_carrier([pai], trunk=trunk(caller_id=CallerIdPolicy.USER))
        assert invite.from_.uri_text == "sip:+12125550204@carrier.example.com"
        assert invite.headers.get_all("P-Asserted-Identity") == ["<sip:+12125550204@carrier.example.com>"]

    def test_user_of_an_unknown_caller_is_the_caller(self) -> None:
        invite = sent_to_carrier([], trunk=trunk(caller_id=CallerIdPolicy.USER), caller="lobby")
        assert invite.from_.uri_text == "sip:lobby@carrier.example.com"

    def test_fixed(self) -> None:
        fixed = trunk(caller_id=CallerIdPolicy.FIXED, fixed_caller_number="+12125550100", trusted=False)
        invite = sent_to_carrier([], trunk=fixed)
        assert invite.from_.uri_text == "sip:+12125550100@carrier.example.com"
        assert invite.headers.get("P-Asserted-Identity") is None

    @pytest.mark.parametrize("privacy", ["id", "user;critical", "none, header", "FULL"])
    def test_anonymous_caller(self, privacy: str) -> None:
        invite = sent_to_carrier([("Privacy", privacy)])
        assert invite.from_.uri_text == "sip:anonymous@anonymous.invalid"
        assert invite.headers.get("P-Asserted-Identity") == "<sip:204@carrier.example.com>"
        assert invite.headers.get("Privacy") == privacy

    def test_privacy_none(self) -> None:
        assert not wants_anonymity(["none", "session"])


def test_trunk_named_by_an_ipv6_address() -> None:
    invite = sent_to_carrier([], trunk=trunk(host="2001:db8::90"))
    assert invite.uri == "sip:+18005550123@[2001:db8::90]"


def test_reason_and_identity_of_a_provisional_response_reach_the_caller() -> None:
    from tests.support.ua import Step

    headers = [
        ("Alert-Info", "<http://example.com/ring>"),
        ("P-Asserted-Identity", "<sip:1@x>"),
        ("Server", "y"),
    ]
    with GateBench(script=(Step(0.0, 180, headers=headers), Step(0.5, 200, with_sdp=True))) as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.2)
        assert call.last.headers.get("Alert-Info") == "<http://example.com/ring>"
        assert call.last.headers.get("P-Asserted-Identity") == "<sip:1@x>"
        assert call.last.headers.get("Server") != "y"
        bench.run(1.0)
        call.bye()
    assert GATE


@pytest.mark.parametrize(
    ("name", "quoted"),
    [("Desk", '"Desk"'), ('a"b\\c', '"a\\"b\\\\c"'), ("a\r\nEvil: 1\x7f", '"aEvil: 1"')],
)
def test_display_names_are_quoted_safely(name: str, quoted: str) -> None:
    assert quote_display_name(name) == quoted


@pytest.mark.parametrize(
    ("uri", "user"),
    [
        ("sip:204@x", "204"),
        ("SIPS:204:pw@x", "204"),
        ("sip:+1212;isub=2@x;user=phone", "+1212"),
        ("tel:+1212;phone-context=x", "+1212"),
        ("sip:x.example.com", ""),
        ("urn:service:sos", ""),
    ],
)
def test_user_part_as_it_stands(uri: str, user: str) -> None:
    assert did_of(uri) == user

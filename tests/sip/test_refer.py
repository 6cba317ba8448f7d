"""REFER and Replaces as values (RFC 3515 §2.1, RFC 3891 §6.1, RFC 4488 §4, RFC 3420)."""

from __future__ import annotations

import pytest

from proxy.errors import RemoteProtocolError
from proxy.sip.headers import Headers
from proxy.sip.message import Request
from proxy.sip.refer import Referral, parse_referral, refer_to, sipfrag, sipfrag_status
from proxy.sip.replaces import Replaces, replaces_of


def refer(*refer_to: str, sub: str = "") -> Request:
    headers = Headers([("Refer-To", value) for value in refer_to])
    if sub:
        headers.add("Refer-Sub", sub)
    return Request("REFER", "sip:tollgate@192.0.2.1", headers)


@pytest.mark.parametrize(
    ("value", "target"),
    [
        ("<sip:205@gate>", "sip:205@gate"),
        ("sip:205@gate", "sip:205@gate"),
        ('"Bob" <sip:+12125550100@gate;user=phone>;x=y', "sip:+12125550100@gate;user=phone"),
        ("<tel:+12125550100>", "tel:+12125550100"),
        ("<sip:205@gate;method=INVITE>", "sip:205@gate"),
        ("<sip:205@gate:5070;method=invite;user=phone>", "sip:205@gate:5070;user=phone"),
        ("<sips:205@gate?Subject=free&Require=replaces>", "sips:205@gate"),
        ("<sip:2%2305@gate?Call-Info=%3Chttp://x%3E>", "sip:2%2305@gate"),
    ],
)
def test_rfc3515_2_1_whom_to_call(value: str, target: str) -> None:
    assert parse_referral(refer(value)) == Referral(target)


def test_rfc3515_2_1_the_compact_form() -> None:
    request = Request("REFER", "sip:x@y", Headers([("r", "<sip:205@gate>")]))
    assert parse_referral(request).target == "sip:205@gate"


def test_rfc5031_somebody_may_be_referred_to_a_service() -> None:
    assert parse_referral(refer("<urn:service:sos.police>")).target == "urn:service:sos.police"


def test_rfc5589_7_replaces_within_refer_to() -> None:
    value = "<sip:205@gate?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2%3Bearly-only&Require=replaces>"
    assert parse_referral(refer(value)) == Referral(
        "sip:205@gate", Replaces("a@b", "1", "2", early_only=True)
    )


@pytest.mark.parametrize(
    ("sub", "subscribes"), [("", True), ("true", True), ("false", False), ("FALSE ;x=y", False), ("x", True)]
)
def test_rfc4488_4_whether_to_notify(sub: str, subscribes: bool) -> None:
    assert parse_referral(refer("<sip:205@gate>", sub=sub)).subscribes is subscribes


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ((), 400),
        (("<sip:a@b>", "<sip:a@b>"), 400),
        (("",), 400),
        (("<>",), 400),
        (("<sip:a@b?Replaces=x>",), 400),
        (("<sip:a@b?Replaces=c%3Bto-tag%3D1%3Bfrom-tag%3D2&replaces=c%3Bto-tag%3D1%3Bfrom-tag%3D2>",), 400),
        (("<sip:a@b?%zz=1>",), 400),
        (("<im:a@b>",), 416),
        (("<sip:a@b;method=REFER>",), 603),
        (("<sip:a@b;method>",), 603),
    ],
)
def test_rfc3515_2_4_2_what_makes_no_sense(values: tuple[str, ...], status: int) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        parse_referral(refer(*values))
    assert caught.value.status_hint == status


def test_rfc3420_a_status_line() -> None:
    assert sipfrag(180) == b"SIP/2.0 180 Ringing\r\n"
    assert sipfrag(603).startswith(b"SIP/2.0 603 ")
    for status in (100, 180, 603):
        assert sipfrag_status(sipfrag(status)) == status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP x\r\n", 200),
        (b"SIP/2.0 486", 486),
        (b"SIP/2.0\t 183 Session Progress", 183),
        (b"SIP/2.0 1801 x", 0),
        (b"SIP/2.0 700 x", 0),
        (b"SIP/2.0 99 x", 0),
        (b"HTTP/1.1 200 OK", 0),
        (b" SIP/2.0 200 OK", 0),
        (b"", 0),
    ],
)
def test_rfc3515_2_4_5_the_status_of_a_sipfrag(body: bytes, status: int) -> None:
    assert sipfrag_status(body) == status


def test_rfc5589_7_a_refer_to_of_the_gates_own() -> None:
    assert refer_to("sip:241@192.0.2.10:5060", None) == "<sip:241@192.0.2.10:5060>"
    replaces = Replaces("a@b", "1", "2")
    value = refer_to("sip:241@[2001:db8::1]:5060", replaces)
    assert value == "<sip:241@[2001:db8::1]:5060?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2>"
    assert parse_referral(refer(value)) == Referral("sip:241@[2001:db8::1]:5060", replaces)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a@b;to-tag=1;from-tag=2", Replaces("a@b", "1", "2")),
        ("a@b ; From-Tag=2;to-tag = 1 ;early-only;x=y", Replaces("a@b", "1", "2", early_only=True)),
        ("a;to-tag=0;from-tag=0", Replaces("a", "", "")),
    ],
)
def test_rfc3891_6_1_replaces(text: str, wanted: Replaces) -> None:
    parsed = Replaces.parse(text)
    assert parsed == wanted
    assert Replaces.parse(str(parsed)) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        ";to-tag=1;from-tag=2",
        "a;to-tag=1",
        "a;to-tag=1;to-tag=2;from-tag=3",
        "a;to-tag=;from-tag=2",
        "a;to-tag=1;from-tag=2 3",
        "a\x00;to-tag=1;from-tag=2",
        "a b;to-tag=1;from-tag=2",
    ],
)
def test_rfc3891_6_1_malformed_replaces(text: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        Replaces.parse(text)
    assert caught.value.status_hint == 400


def test_rfc3891_3_one_replaces_or_none() -> None:
    value = ("Replaces", "a;to-tag=1;from-tag=2")
    assert replaces_of(Headers()) is None
    assert replaces_of(Headers([value])) == Replaces("a", "1", "2")
    for headers in ([value, value], [value, ("Join", "a;to-tag=1;from-tag=2")]):
        with pytest.raises(RemoteProtocolError):
            replaces_of(Headers(headers))

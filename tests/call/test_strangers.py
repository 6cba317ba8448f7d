"""What a stranger learns: nothing, by answer or by time (issue 3, Bad input and limits)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import pytest

from proxy.sip.digest import answer_challenge, choose_challenge
from proxy.sip.flow import Flow
from proxy.sip.message import Response
from proxy.sip.parser import parse_message
from tests.call.test_identity import digest_bench
from tests.support.gate import E164, NUMBER, STRANGER, GateBench

FLOW = Flow("UDP", *STRANGER)
WHO = {
    "unknown": ("999", "secret"),
    "wrong password": ("204", "guess"),
    "disabled": ("206", "secret"),
    "nobody": ("", ""),
    "strange": ('20"4;<sip:x>', "secret"),
}
"""Names and passwords that prove nothing."""
HASHING = {
    "hash",
    "digest_response",
    "_mac",
    "compare_digest",
    "openssl_sha256",
    "openssl_md5",
    "hmac_digest",
}


def request(method: str, user: str, authorization: str = "", *, uri: str = "") -> bytes:
    uri = uri or ("sip:gate.example.com" if method == "REGISTER" else f"sip:{NUMBER}@gate.example.com")
    credentials = f"Authorization: {authorization}\r\n" if authorization else ""
    return (
        f"{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {STRANGER[0]}:5060;branch=z9hG4bK{len(credentials)}\r\n"
        f"From: <sip:204@gate.example.com>;tag=s\r\nTo: <sip:204@gate.example.com>\r\nCall-ID: s\r\n"
        f"CSeq: 1 {method}\r\nContact: <sip:204@{STRANGER[0]}>\r\nMax-Forwards: 70\r\n{credentials}"
        "Content-Length: 0\r\n\r\n"
    ).encode()


def answered(bench: GateBench, data: bytes) -> Response:
    """Let the gate answer a datagram of the stranger."""
    bench.gate.receive(data, FLOW, bench.now)
    bench.gate.settle(bench.now)
    (transmit,) = bench.gate.transmits()
    response = parse_message(transmit.data)
    assert isinstance(response, Response)
    return response


def proof(bench: GateBench, method: str, user: str, password: str) -> bytes:
    """Return the request again, with credentials."""
    first = answered(bench, request(method, user))
    challenge = choose_challenge(first.headers.get_all("WWW-Authenticate"))
    assert challenge is not None
    uri = "sip:gate.example.com" if method == "REGISTER" else f"sip:{NUMBER}@gate.example.com"
    credentials = answer_challenge(
        challenge, method=method, uri=uri, username=user.replace('"', ""), password=password, cnonce="c"
    )
    return request(method, user, str(credentials))


def shape(response: Response) -> list[tuple[str, int]]:
    """Return what can be seen of a response without knowing its nonce: the names and lengths of its lines."""
    assert response.status == 401
    return [(name, len(value)) for name, value in response.headers.items() if name != "Via"]


def work(act: Callable[[], object]) -> list[str]:
    """Return every hashing and comparing that ``act`` does, in order."""
    done: list[str] = []

    def note(frame: FrameType, event: str, arg: object) -> None:
        if event == "call" and frame.f_code.co_name in HASHING:
            done.append(frame.f_code.co_name)
        elif event == "c_call" and getattr(arg, "__name__", "") in HASHING:
            done.append(getattr(arg, "__name__", ""))

    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
    return done


@pytest.mark.parametrize("method", ["INVITE", "REGISTER"])
class TestNoUserIsTold:
    def test_the_answer_is_the_same(self, method: str) -> None:
        shapes = []
        for user, password in WHO.values():
            with digest_bench() as bench:
                shapes.append(shape(answered(bench, request(method, user))))
                shapes.append(shape(answered(bench, proof(bench, method, user, password))))
                bench.gate.transmits()
        assert all(found == shapes[0] for found in shapes)

    def test_the_work_is_the_same(self, method: str) -> None:
        done: dict[str, list[str]] = {}
        for who, (user, password) in WHO.items():
            with digest_bench() as bench:
                data = proof(bench, method, user, password)
                done[who] = work(lambda bench=bench, data=data: answered(bench, data))  # type: ignore[misc]
        assert len(done["unknown"]) > 6
        assert all(found == done["unknown"] for found in done.values()), done

    def test_it_does_not_hear_what_software_this_is(self, method: str) -> None:
        with digest_bench() as bench:
            response = answered(bench, request(method, "204"))
            assert "Server" not in response.headers
            assert b"ollgate" not in response.serialize().replace(b'realm="tollgate"', b"")


@pytest.mark.parametrize(
    "uri",
    [
        "sip:204@gate.example.com",
        "sip:205@gate.example.com",
        "sip:206@gate.example.com",
        "sip:999@gate.example.com",
        f"sip:{NUMBER}@gate.example.com",
        f"sip:{E164}@carrier.example.com",
        "sip:911@gate.example.com",
        "urn:service:sos",
        "tel:+14155550123",
        "sip:gate.example.com",
        "sips:204@gate.example.com",
        "sip:204@gate.example.com;gr=urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
    ],
)
@pytest.mark.parametrize(
    "extra",
    [
        "",
        "P-Asserted-Identity: <sip:204@gate.example.com>\r\n",
        "Route: <sip:carrier.example.com;lr>\r\n",
        "Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-pbx\r\n",
        "Replaces: x;to-tag=1;from-tag=2\r\n",
        "Referred-By: <sip:204@gate.example.com>\r\n",
        "Proxy-Authorization: Digest username=204\r\n",
        "Require: replaces\r\n",
    ],
)
def test_no_invite_of_a_stranger_reaches_anybody(uri: str, extra: str) -> None:
    with digest_bench() as bench:
        data = request("INVITE", "204", uri=uri).replace(b"Max-Forwards", extra.encode() + b"Max-Forwards")
        assert answered(bench, data).status == 401
        bench.run(5.0)
        for heard in (bench.carrier.calls, bench.carrier_2.calls, bench.pbx.calls):
            assert not heard
        for kept in (bench.media.opened, bench.journal.records, bench.core.calls):
            assert not kept

"""The description within a body: RFC 2046 §5.1, RFC 5621 §8, RFC 6442 §3.3."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.sip.body import session_description
from proxy.sip.headers import Headers
from proxy.sip.message import Request

SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\n"


def described(body: bytes, content_type: str | None, disposition: str | None = None) -> bytes:
    headers = Headers()
    if content_type is not None:
        headers.add("Content-Type", content_type)
    if disposition is not None:
        headers.add("Content-Disposition", disposition)
    return session_description(Request("INVITE", "sip:911@example.com", headers, body))


def part(content: bytes, *fields: str) -> bytes:
    head = "".join(f"{field}\r\n" for field in fields).encode()
    return b"--b\r\n" + head + b"\r\n" + content + b"\r\n"


LOCATION = part(b"<presence/>", "Content-Type: application/pidf+xml", "Content-ID: <place@example.com>")
MIXED = "multipart/mixed;boundary=b"


@pytest.mark.parametrize("content_type", ["application/sdp", "Application/SDP; charset=utf-8", None])
def test_a_plain_body_is_the_description(content_type: str | None) -> None:
    assert described(SDP, content_type) == SDP


def test_rfc3261_20_11_no_body_or_another_one_describes_nothing() -> None:
    assert described(b"", "application/sdp") == b""
    assert described(b"hello", "text/plain", "render;handling=optional") == b""


@pytest.mark.parametrize(
    ("disposition", "described_by"),
    [("session", SDP), (" Session ;handling=required", SDP), ("early-session", b""), ("preview", b"")],
)
def test_rfc3261_20_11_only_a_session_disposition_counts(disposition: str, described_by: bytes) -> None:
    assert described(SDP, "application/sdp", disposition) == described_by
    mixed = part(SDP, "Content-Type: application/sdp", f"Content-Disposition: {disposition}")
    assert described(mixed + b"--b--\r\n", MIXED) == described_by


@pytest.mark.parametrize("content_type", [MIXED, 'Multipart/Mixed; charset=x; Boundary="b"'])
@pytest.mark.parametrize("preamble", [b"", b"\r\n", b"text before\r\n"])
def test_rfc5621_8_2_the_description_is_found_beside_other_parts(content_type: str, preamble: bytes) -> None:
    body = preamble + LOCATION + part(SDP, "content-type: application/sdp") + b"--b--\r\nafter"
    assert described(body, content_type) == SDP


def test_rfc2046_5_1_1_a_delimiter_line_may_end_with_blanks_and_parts_may_have_no_headers() -> None:
    text = b"--b \r\n\r\nv=0, but text\r\n"
    assert described(text + part(SDP, "Content-Type: application/sdp") + b"--b--", MIXED) == SDP


def test_rfc2046_5_1_1_what_follows_the_last_delimiter_is_no_part() -> None:
    assert described(LOCATION + b"--b--\r\n" + part(SDP, "Content-Type: application/sdp"), MIXED) == b""


def test_rfc5621_8_2_parts_may_nest_but_not_without_end() -> None:
    inner = b"--c\r\nContent-Type: application/sdp\r\n\r\n" + SDP + b"\r\n--c--"
    outer = part(inner, "Content-Type: multipart/alternative;boundary=c")
    assert described(LOCATION + outer + b"--b--", MIXED) == SDP
    body, boundary = SDP, "application/sdp"
    for name in "defg":
        body = f"--{name}\r\nContent-Type: {boundary}\r\n\r\n".encode() + body + f"\r\n--{name}--".encode()
        boundary = f"multipart/mixed;boundary={name}"
    assert described(body, boundary) == b""


@pytest.mark.parametrize("content_type", ["multipart/mixed", 'multipart/mixed;boundary=""'])
def test_parts_without_a_boundary_cannot_be_told_apart(content_type: str) -> None:
    assert described(part(SDP, "Content-Type: application/sdp"), content_type) == b""


@given(
    body=st.binary(max_size=200),
    boundary=st.binary(max_size=8).map(lambda raw: raw.translate(None, b"\r\n\0")),
)
def test_never_raises(body: bytes, boundary: bytes) -> None:
    described(b"--b\r\n" + body, MIXED)
    # As the parser decodes it: any bytes, but no surrogates of other kinds.
    described(body, f"multipart/mixed;boundary={boundary.decode('utf-8', 'surrogateescape')}")

"""The description within a body: RFC 2046 §5.1, RFC 5621 §8, RFC 6442 §3.3."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.sip.body import session_description, with_description
from proxy.sip.headers import Headers
from proxy.sip.message import Request

SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\n"
OURS = b"v=0\r\no=- 2 2 IN IP4 192.0.2.1\r\n"


def every(_media_type: str, _required: bool) -> bool:
    return True


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


@pytest.mark.parametrize(
    "content_type", [MIXED, 'Multipart/Mixed; charset=x; Boundary="b"', "multipart/mixed;boundary=b ;"]
)
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


def carried(
    body: bytes, content_type: str | None, *, disposition: str = "", keep: Callable[[str, bool], bool] = every
) -> tuple[str, bytes]:
    headers = Headers()
    if content_type is not None:
        headers.add("Content-Type", content_type)
    if disposition:
        headers.add("Content-Disposition", disposition)
    return with_description(Request("INVITE", "sip:911@example.com", headers, body), OURS, keep)


def as_message(made: tuple[str, bytes]) -> Request:
    return Request("INVITE", "sip:911@example.com", Headers([("Content-Type", made[0])]), made[1])


class TestWithDescription:
    """RFC 5621: the description of another leg in the place of this one's, all other parts as they came."""

    @pytest.mark.parametrize("content_type", ["application/sdp", "APPLICATION/SDP;x=1", None])
    def test_a_plain_description_is_replaced(self, content_type: str | None) -> None:
        assert carried(SDP, content_type) == ("application/sdp", OURS)

    def test_no_body_becomes_the_description(self) -> None:
        assert carried(b"", MIXED) == ("application/sdp", OURS)

    def test_other_parts_are_kept_as_they_came(self) -> None:
        made = carried(LOCATION + part(SDP, "Content-Type: application/sdp") + b"--b--\r\n", MIXED)
        assert made == (
            "multipart/mixed;boundary=tollgate",
            b"--tollgate\r\nContent-Type: application/sdp\r\n\r\n" + OURS + b"\r\n--tollgate\r\n"
            b"Content-Type: application/pidf+xml\r\nContent-ID: <place@example.com>\r\n\r\n<presence/>"
            b"\r\n--tollgate--\r\n",
        )
        assert session_description(as_message(made)) == OURS
        assert b"Content-ID: <place@example.com>" in made[1]
        assert SDP not in made[1]

    def test_unwanted_parts_stay_behind(self) -> None:
        body = LOCATION + part(SDP, "Content-Type: application/sdp") + b"--b--\r\n"
        asked: list[tuple[str, bool]] = []

        def nothing(media_type: str, required: bool) -> bool:
            asked.append((media_type, required))
            return False

        assert carried(body, MIXED, keep=nothing) == ("application/sdp", OURS)
        assert asked == [("application/pidf+xml", True)]

    def test_rfc5621_8_1_optional_handling_is_told(self) -> None:
        text = part(b"hi", "Content-Type: text/plain", "Content-Disposition: render; Handling = optional")
        made = carried(text + b"--b--\r\n", MIXED, keep=lambda _type, required: not required)
        assert b"hi" in made[1]

    def test_a_nested_description_is_replaced_with_its_alternatives(self) -> None:
        inner = b"--c\r\nContent-Type: application/sdp\r\n\r\n" + SDP + b"\r\n--c--\r\n"
        nested = part(inner, "Content-Type: multipart/alternative;boundary=c")
        made = carried(nested + LOCATION + b"--b--\r\n", MIXED)
        assert session_description(as_message(made)) == OURS
        assert b"<presence/>" in made[1]
        assert SDP not in made[1]

    @pytest.mark.parametrize(
        "fields",
        [
            ["Content-Type:\r\n application/isup"],
            ["Content-Type: application /ISUP\t;version=x"],
            ["Content-Type: application/isup (as the network has it)"],
            ["c: application/isup"],
            ["Content-Type: application/isup", "Content-Type: text/plain"],
            ["Content-Type: text/plain", "c: application/isup"],
            ["Content-Type: text/plain\nContent-Type: application/isup"],
            ["Content-Type: text/plain\rContent-Type: application/isup"],
            ["Content-Type: isup"],
        ],
    )
    def test_no_spelling_hides_what_a_part_is(self, fields: list[str]) -> None:
        made = carried(
            part(b"secret", *fields) + LOCATION + b"--b--\r\n",
            MIXED,
            keep=lambda media_type, _required: media_type != "application/isup",
        )
        assert b"secret" not in made[1]
        assert b"<presence/>" in made[1]

    def test_a_head_brings_no_part_of_its_own(self) -> None:
        head = "X-Line: y\r\n--tollgate\r\nContent-Type: text/plain"
        made = carried(part(b"hi", head) + b"--b--\r\n", MIXED)
        assert made[0] == "multipart/mixed;boundary=tollgate-"

    def test_a_part_without_a_type_is_text(self) -> None:
        made = carried(
            part(b"hi", "Content-ID: <a@b>") + b"--b--\r\n", MIXED, keep=lambda kind, _: kind == "text/plain"
        )
        assert b"hi" in made[1]

    @pytest.mark.parametrize(("depth", "found"), [(1, True), (2, True), (3, False)])
    def test_of_an_unwanted_multipart_each_part_is_asked_for(self, depth: int, found: bool) -> None:
        body = part(b"secret", "Content-Type: application/isup") + LOCATION + b"--b--\r\n"
        for at in range(depth):
            outer, inner = "cdef"[at], "bcde"[at]
            body = (
                f"--{outer}\r\nContent-Type: multipart/related;boundary={inner}\r\n\r\n".encode()
                + body
                + f"\r\n--{outer}--\r\n".encode()
            )
        made = carried(
            body,
            f"multipart/mixed;boundary={'bcde'[depth]}",
            keep=lambda media_type, _required: media_type == "application/pidf+xml",
        )
        assert (b"<presence/>" in made[1]) is found
        assert b"secret" not in made[1]

    def test_a_wanted_multipart_crosses_as_it_came(self) -> None:
        inner = b"--c\r\nContent-Type: text/plain\r\n\r\nsigned\r\n--c--\r\n"
        made = carried(part(inner, "Content-Type: multipart/signed;boundary=c") + b"--b--\r\n", MIXED)
        assert b"Content-Type: multipart/signed;boundary=c\r\n\r\n" + inner in made[1]

    def test_a_late_offer_keeps_its_other_parts(self) -> None:
        made = carried(LOCATION + b"--b--\r\n", MIXED)
        assert session_description(as_message(made)) == OURS
        assert b"<presence/>" in made[1]

    def test_nothing_to_describe_leaves_the_other_parts(self) -> None:
        headers = Headers([("Content-Type", MIXED)])
        request = Request("INVITE", "sip:911@example.com", headers, LOCATION + b"--b--\r\n")
        made = with_description(request, b"", every)
        assert b"<presence/>" in made[1]
        assert session_description(as_message(made)) == b""

    def test_a_whole_body_of_another_type_becomes_a_part(self) -> None:
        made = carried(b"<presence/>", "application/pidf+xml", disposition="by-reference;handling=optional")
        assert session_description(as_message(made)) == OURS
        assert (
            b"Content-Type: application/pidf+xml\r\n"
            b"Content-Disposition: by-reference;handling=optional\r\n\r\n<presence/>" in made[1]
        )

    def test_an_encoded_body_is_not_carried(self) -> None:
        headers = Headers([("Content-Type", "application/pidf+xml"), ("Content-Encoding", "gzip")])
        request = Request("INVITE", "sip:911@example.com", headers, b"\x1f\x8b")
        assert with_description(request, OURS, every) == ("application/sdp", OURS)

    def test_the_boundary_is_in_no_part(self) -> None:
        text = part(b"x\r\n--tollgate\r\ny\r\n--tollgate--", "Content-Type: text/plain")
        made = carried(text + b"--b--\r\n", MIXED)
        assert made[0] == "multipart/mixed;boundary=tollgate---"
        assert session_description(as_message(made)) == OURS

    def test_a_multipart_without_boundary_carries_nothing(self) -> None:
        assert carried(LOCATION, "multipart/mixed") == ("application/sdp", OURS)

    @given(st.lists(st.sampled_from([LOCATION, part(SDP, "Content-Type: application/sdp")]), max_size=40))
    def test_more_parts_than_are_looked_at_stay_behind(self, parts: list[bytes]) -> None:
        made = carried(b"".join(parts) + b"--b--\r\n", MIXED)
        assert session_description(as_message(made)) == OURS
        assert made[1].count(b"<presence/>") == parts[:16].count(LOCATION)

    @given(st.binary(max_size=300), st.binary(max_size=300))
    def test_whatever_comes_the_description_is_ours(self, head: bytes, content: bytes) -> None:
        made = carried(b"--b\r\n" + head + b"\r\n\r\n" + content + b"\r\n--b--\r\n", MIXED)
        assert session_description(as_message(made)) == OURS

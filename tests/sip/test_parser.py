"""From bytes to messages, and what is refused (RFC 3261 §7, §8.2, §18.3)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import RemoteProtocolError
from proxy.sip.address import NameAddr
from proxy.sip.digest import Credentials
from proxy.sip.grammar import split_list
from proxy.sip.message import CSeq, Request, Response
from proxy.sip.parser import (
    MAX_HEADERS,
    MAX_LINE_LENGTH,
    MAX_MESSAGE_SIZE,
    ParserLimits,
    is_answerable,
    parse_datagram,
    parse_message,
    validate_request,
    validate_response,
)
from proxy.sip.uri import Uri
from proxy.sip.via import Via

LINES = (
    b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1",
    b"From: <sip:204@example.com>;tag=a",
    b"To: <sip:5550123@example.com>",
    b"Call-ID: c1",
    b"CSeq: 1 INVITE",
)


def message(
    *more: bytes, start: bytes = b"INVITE sip:5550123@example.com SIP/2.0", body: bytes = b""
) -> bytes:
    return b"\r\n".join([start, *LINES, *more, b"", body])


def request(data: bytes, limits: ParserLimits | None = None) -> Request:
    parsed = parse_message(data, limits or ParserLimits())
    assert isinstance(parsed, Request)
    return parsed


def refusal(data: bytes, limits: ParserLimits | None = None) -> int:
    parsed = request(data, limits)
    with pytest.raises(RemoteProtocolError) as caught:
        validate_request(parsed)
    return caught.value.status_hint


def without(name: bytes) -> bytes:
    return message().replace(next(line for line in LINES if line.startswith(name)) + b"\r\n", b"")


def test_rfc3261_7_1_a_sound_request() -> None:
    parsed = request(message(b"Content-Length: 4", body=b"body"))
    validate_request(parsed)
    assert (parsed.method, parsed.uri, parsed.body) == ("INVITE", "sip:5550123@example.com", b"body")
    assert parsed.defect is None
    assert is_answerable(parsed)


def test_rfc3261_7_2_a_sound_response() -> None:
    parsed = parse_message(message(start=b"SIP/2.0 486 Busy  Here"))
    assert isinstance(parsed, Response)
    validate_response(parsed)
    assert (parsed.status, parsed.reason) == (486, "Busy  Here")


@pytest.mark.parametrize("start", [b"sip/2.0 200 ", b"SIP/2.0 200"])
def test_rfc3261_7_2_liberal_status_lines(start: bytes) -> None:
    parsed = parse_message(message(start=start))
    assert isinstance(parsed, Response)
    assert (parsed.status, parsed.reason) == (200, "")


@pytest.mark.parametrize(
    "start",
    [
        b"SIP/2.0 099 X",
        b"SIP/2.0 700 X",
        b"SIP/2.0 20 X",
        b"SIP/2.0 2000 X",
        b"SIP/2.0 2x0 X",
        "SIP/2.0 ٣٣٣ X".encode(),
        b"SIP/2.0",
        b"SIP/7.0 200 OK",
        b"SIP/2.0  200 OK",
    ],
)
def test_rfc3261_7_2_broken_responses_are_dropped(start: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_message(message(start=start))


def test_rfc3261_18_3_a_response_with_a_defect_is_dropped() -> None:
    with pytest.raises(RemoteProtocolError):
        parse_message(message(b"Content-Length: 9", start=b"SIP/2.0 200 OK"))


@pytest.mark.parametrize("data", [b"", b"\r\n", b"\r\n\r\n", b"\0", b"\0\0\0\0"])
def test_rfc5626_3_5_1_keep_alives(data: bytes) -> None:
    assert parse_datagram(data) is None


@pytest.mark.parametrize(
    "data", [b"\x00\x01\x00\x00!\x12\xa4B", b"x", b"IN@VITE sip:h SIP/2.0\r\n\r\n", b" \r\n\r\n"]
)
def test_what_is_no_sip_is_dropped(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_datagram(data)


def test_rfc3261_7_5_line_ends_before_the_start_line() -> None:
    assert request(b"\r\n\r\n" + message()).call_id == "c1"
    assert request(b"\n" + message()).call_id == "c1"


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (b"INVITE sip:h SIP/3.0", 505),
        (b"INVITE sip:h sip/2.1", 505),
        (b"INVITE  sip:h SIP/2.0", 400),
        (b"INVITE sip:h SIP/2.0 ", 400),
        (b" INVITE sip:h SIP/2.0", 400),
        (b"INVITE sip:h ;lr SIP/2.0", 400),
        (b"INVITE\tsip:h SIP/2.0", 400),
        (b"INVITE sip:h", 400),
        (b"GET / HTTP/1.1", 400),
        (b"INVITE <sip:h> SIP/2.0", 400),
        (b"INVITE sip:h?a=b SIP/2.0", 400),
        (b"BYE sip:h SIP/2.0", 400),
    ],
)
def test_rfc3261_7_1_broken_requests_are_refused(start: bytes, status: int) -> None:
    assert refusal(message(start=start)) == status


def test_rfc3261_7_1_the_version_is_case_insensitive() -> None:
    validate_request(request(message(start=b"INVITE sip:h sip/2.0")))


@pytest.mark.parametrize("name", [b"Via", b"From", b"To", b"Call-ID", b"CSeq"])
def test_rfc3261_8_1_1_each_mandatory_header(name: bytes) -> None:
    data = without(name)
    assert refusal(data) == 400
    assert is_answerable(request(data)) is (name != b"Via")


def test_rfc3261_17_1_1_3_an_ack_is_never_answered() -> None:
    assert not is_answerable(request(message(start=b"ACK sip:h SIP/2.0")))


@pytest.mark.parametrize("line", [*LINES, b"Max-Forwards: 70", b"Content-Length: 0"])
def test_rfc4475_3_3_8_single_headers_given_twice(line: bytes) -> None:
    data = message(line, line)
    if line.startswith(b"Via"):
        validate_request(request(data))
    else:
        assert refusal(data) == 400


@pytest.mark.parametrize(
    "line",
    [
        b"Max-Forwards: 256",
        b"Contact: <sip:@>",
        b"Contact: sip:a@h?x=y",
        b'Contact: <sip:a@h>, "b',
        b"Route: <sip:a",
        b"Record-Route: <sip:a>, <sip:@>",
        b"no colon",
        b"Subject",
        b": no name",
        b"bad name: x",
        b"b\xc3\xa4d: x",
    ],
)
def test_rfc3261_7_3_malformed_headers(line: bytes) -> None:
    assert refusal(message(line)) == 400


def test_a_malformed_line_is_left_out_of_the_headers() -> None:
    for line in (b"no colon", b"Subject"):
        assert len(request(message(line)).headers) == len(LINES)


@pytest.mark.parametrize("length", [b"5", b"-1", b"x", b"", "٣".encode(), b"99999999999"])
def test_rfc3261_18_3_content_length_that_does_not_fit(length: bytes) -> None:
    data = message(b"Content-Length: " + length, body=b"body")
    assert refusal(data) == 400
    assert request(data).body == b"body"


def test_rfc3261_18_3_octets_behind_the_body_are_ignored() -> None:
    parsed = request(message(b"l: 2", body=b"body"))
    validate_request(parsed)
    assert parsed.body == b"bo"


def test_rfc3261_18_3_without_content_length_the_body_is_the_rest() -> None:
    assert request(message(body=b"body")).body == b"body"


def test_rfc3261_7_3_1_folding() -> None:
    data = message(b"Subject: a\r\n\t b \r\n  c", b"X: \r\n 1")
    parsed = request(data)
    validate_request(parsed)
    assert parsed.headers.get("Subject") == "a b c"
    assert parsed.headers.get("X") == "1"
    assert parsed.headers.lines()[-2:] == ["Subject: a\r\n\t b \r\n  c", "X: \r\n 1"]


def test_rfc3261_7_3_1_a_continuation_of_nothing() -> None:
    assert refusal(message().replace(b"\r\nVia", b"\r\n x\r\nVia")) == 400


@pytest.mark.parametrize("inside", [b"a\nRoute: <sip:x>", b"a\rRoute: <sip:x>", b"a\n", b"\ra"])
def test_no_header_hides_behind_a_bare_line_end(inside: bytes) -> None:
    data = message(b"X: " + inside)
    assert refusal(data) == 400
    parsed = request(data)
    assert "X" not in parsed.headers
    assert "Route" not in parsed.headers
    assert refusal(b"INVITE sip:h\nX: y SIP/2.0" + data[data.index(b"\r\n") :]) == 400


def test_lines_that_all_end_with_lf_are_understood() -> None:
    parsed = request(message(body=b"").replace(b"\r\n", b"\n"))
    validate_request(parsed)
    assert parsed.serialize().count(b"\r\n") == len(LINES) + 3
    assert refusal(message().replace(b"\r\n", b"\n").rstrip(b"\n")) == 400


def test_a_head_without_its_empty_line() -> None:
    data = message()[:-2]
    assert refusal(data) == 400
    assert len(request(data).headers) == len(LINES)
    assert len(request(data + b"X: a\nb\r\n").headers) == len(LINES)


def test_rfc3261_18_1_1_limits() -> None:
    validate_request(request(message(*[b"X: y"] * (MAX_HEADERS - len(LINES)))))
    assert refusal(message(*[b"X: y"] * (MAX_HEADERS - len(LINES) + 1))) == 513
    assert len(request(message(*[b"X: y"] * 2000)).headers) == MAX_HEADERS
    validate_request(request(message(b"X: " + b"y" * (MAX_LINE_LENGTH - 3))))
    assert refusal(message(b"X: " + b"y" * (MAX_LINE_LENGTH - 2))) == 513
    validate_request(request(message(body=b"y" * (MAX_MESSAGE_SIZE - len(message())))))
    assert refusal(message(body=b"y" * (MAX_MESSAGE_SIZE - len(message()) + 1))) == 513


def test_rfc3261_21_5_7_limits_that_are_set() -> None:
    limits = ParserLimits(message_size=len(message()) + 10, header_lines=len(LINES))
    validate_request(request(message(), limits))
    assert refusal(message(body=b"y" * 60), limits) == 513
    assert refusal(message(b"X: y"), limits) == 513
    datagram = parse_datagram(message(body=b"y" * 60), limits)
    assert isinstance(datagram, Request)
    assert datagram.defect is not None


def test_bytes_that_are_no_utf8_pass_unchanged() -> None:
    data = message(b"X: \xff\xfe", b"Content-Length: 0")
    parsed = request(data)
    validate_request(parsed)
    assert parsed.serialize() == data


@pytest.mark.parametrize(
    ("name", "more"), [("Via", b"Via: SIP/2.0/UDP h"), ("Via", b"v: SIP/2.0/UDP h, SIP/2.0/UDP i")]
)
def test_rfc3261_8_1_3_3_a_response_for_someone_else(name: str, more: bytes) -> None:
    parsed = parse_message(message(more, start=b"SIP/2.0 200 OK"))
    assert isinstance(parsed, Response)
    assert len(parsed.headers.values(name)) > 1
    with pytest.raises(RemoteProtocolError):
        validate_response(parsed)


def test_rfc3261_8_1_3_3_two_via_in_one_line() -> None:
    line = LINES[0] + b", SIP/2.0/UDP 192.0.2.2"
    parsed = parse_message(message(start=b"SIP/2.0 200 OK").replace(LINES[0], line))
    assert isinstance(parsed, Response)
    with pytest.raises(RemoteProtocolError):
        validate_response(parsed)
    quoted = parse_message(message(start=b"SIP/2.0 200 OK").replace(LINES[0], LINES[0] + b';x="a,b"'))
    assert isinstance(quoted, Response)
    validate_response(quoted)


HEADER_TEXT = st.text(alphabet='"<>;=,:@ \\sipab1', max_size=40).map(str.strip)


@given(st.lists(st.tuples(st.sampled_from(["X-A", "Subject", "k", "User-Agent"]), HEADER_TEXT), max_size=6))
def test_what_is_parsed_is_printed_again(items: list[tuple[str, str]]) -> None:
    lines = [f"{name}: {value}".encode() for name, value in items]
    data = message(*lines, b"Content-Length: 4", body=b"body")
    assert parse_message(data).serialize() == data


def exercise(data: bytes) -> None:
    """Whatever comes in: only the documented error, and after validation nothing raises."""
    try:
        parsed = parse_datagram(data)
    except RemoteProtocolError:
        return
    if parsed is None:
        return
    try:
        if isinstance(parsed, Request):
            validate_request(parsed)
        else:
            validate_response(parsed)
    except RemoteProtocolError as error:
        assert 400 <= error.status_hint <= 699  # noqa: PT017 - raising is allowed, not demanded
        if isinstance(parsed, Request) and is_answerable(parsed):
            answer = parse_message(Response.to_request(parsed, error.status_hint, to_tag="t").serialize())
            assert isinstance(answer, Response)
        return
    assert parsed.call_id
    assert parsed.cseq
    assert parsed.top_via.host
    assert parsed.from_.uri.scheme
    assert parsed.to.uri.scheme
    assert parsed.contact is None or parsed.contact.uri.scheme
    if isinstance(parsed, Request):
        assert parsed.request_uri.scheme
        assert parsed.max_forwards is None or parsed.max_forwards < 256
        parsed.note_source("192.0.2.1", 5060)
    again = parse_message(parsed.serialize())
    assert again.headers.lines() == parsed.headers.lines()


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    exercise(data)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 250), st.sampled_from([b"\r", b"\n", b"\0", b",", b'"', b"<", b";", b" ", b"\xff"])
        )
    ),
    st.booleans(),
)
def test_any_damage_to_a_sound_message(damage: list[tuple[int, bytes]], is_response: bool) -> None:
    start = b"SIP/2.0 200 OK" if is_response else b"INVITE sip:5550123@example.com;user=phone SIP/2.0"
    data = message(b"Contact: <sip:204@192.0.2.1>", b"Content-Length: 0", start=start)
    for at, octets in damage:
        data = data[:at] + octets + data[at + 1 :]
    exercise(data)


HOSTILE = {
    "open quotes": b"To: " + b'"\\' * 30_000,
    "brackets": b"Contact: " + b"<" * 60_000,
    "contacts": b"Contact: " + b"<sip:a@h>," * 6_000,
    "folds": b"Subject: a" + b"\r\n b" * 12_000,
    "folded folds": b"\r\n".join([b"X: a" + b"\r\n b" * 50] * 200),
    "short lines": b"\r\n".join([b"a:"] * 15_000),
    "no colons": b"\r\n".join([b"a"] * 20_000),
    "no names": b"\r\n".join([b" :"] * 15_000),
    "bare line feeds": b"X: " + b"\n " * 30_000,
}

HOSTILE_VALUES = {
    "open quotes": '"\\' * 30_000,
    "escaped quotes": '"' + '\\"' * 30_000,
    "closed quotes": '"",' * 20_000,
    "brackets": "<," * 30_000,
    "closed brackets": "<>," * 20_000,
    "commas": "," * 60_000,
    "semicolons": "<sip:a@h>" + ";" * 60_000,
    "parameters": "SIP/2.0/UDP h" + "".join([f";p{number}" for number in range(8_000)]),
    "uri parameters": "sip:h" + "".join([f";p{number}" for number in range(8_000)]),
    "percents": "sip:" + "%41" * 20_000 + "@h",
    "slashes": "SIP" + " / " * 20_000,
    "spaces": " " * 60_000 + "x",
    "digits": "9" * 60_000,
    "digest": "Digest " + 'a="\\",' * 8_000,
}

LINEAR_SECONDS = 1.0
"""Linear work over 64 kB takes some 10 ms, anything quadratic many seconds."""


@pytest.mark.parametrize("kind", HOSTILE)
def test_64_kb_of_hostile_header_costs_linear_time(kind: str) -> None:
    line = HOSTILE[kind]
    lines = [each for each in LINES if each.partition(b":")[0] != line.partition(b":")[0]]
    data = b"\r\n".join([b"INVITE sip:h SIP/2.0", *lines, line, b"", b""])
    begun = time.process_time()
    exercise(data)
    assert time.process_time() - begun < LINEAR_SECONDS


@pytest.mark.parametrize("kind", HOSTILE_VALUES)
@pytest.mark.parametrize(
    "parse",
    [NameAddr.parse, Via.parse, Uri.parse, CSeq.parse, Credentials.parse, split_list],
    ids=lambda parse: parse.__qualname__,
)
def test_64_kb_of_hostile_value_costs_linear_time(parse: Callable[[str], object], kind: str) -> None:
    begun = time.process_time()
    with contextlib.suppress(RemoteProtocolError):
        parse(HOSTILE_VALUES[kind])
    assert time.process_time() - begun < LINEAR_SECONDS


def test_a_line_that_is_too_long_is_not_echoed() -> None:
    parsed = request(without(b"To").replace(b"CSeq", b"To: <sip:b@h>;x=" + b"y" * 9000 + b"\r\nCSeq"))
    assert parsed.defect is not None
    assert len(Response.to_request(parsed, 513).serialize()) < 400


def test_a_long_request_line() -> None:
    assert refusal(message(start=b"INVITE sip:" + b"%41" * 20_000 + b" SIP/2.0")) == 513
    assert refusal(message(start=b"INVITE " + b" " * 60_000 + b" SIP/2.0")) == 400

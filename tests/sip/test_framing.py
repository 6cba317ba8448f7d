"""Messages out of a byte stream (RFC 3261 §18.3, RFC 5626 §3.5.1 and §4.4.1)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.sip.framing import MAX_HEAD_SIZE, FramingError, StreamFramer
from proxy.sip.message import Response
from proxy.sip.parser import MAX_MESSAGE_SIZE, parse_message
from tests.support.corpora import read_corpus


def message(
    length: bytes = b"Content-Length: 4", body: bytes = b"body", start: bytes = b"INVITE sip:h SIP/2.0"
) -> bytes:
    return b"\r\n".join(
        [
            start,
            b"Via: SIP/2.0/TCP 192.0.2.1;branch=z9hG4bK1",
            b"From: <sip:a@h>;tag=a",
            b"To: <sip:b@h>",
            b"Call-ID: c",
            b"CSeq: 1 INVITE",
            length,
            b"",
            body,
        ]
    )


def failure_of(framer: StreamFramer) -> FramingError:
    assert framer.failure is not None
    return framer.failure


STREAM = st.lists(
    st.sampled_from([message(), message(b"l:0", b""), b"\r\n\r\n", message(b"CONTENT-length :\r\n 4")])
)


@given(STREAM, st.lists(st.integers(0, 1200), max_size=30))
def test_rfc3261_18_3_cuts_do_not_matter(parts: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(parts)
    framer = StreamFramer()
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    frames: list[bytes] = []
    for start, end in itertools.pairwise(edges):
        frames += framer.feed(stream[start:end])
    assert framer.failure is None
    assert frames == [part for part in parts if part != b"\r\n\r\n"]
    assert framer.take_pongs() == parts.count(b"\r\n\r\n")
    assert framer.is_between_messages


@given(st.lists(st.binary(max_size=50) | st.sampled_from([b"\r\n", b"\r\n\r\n", message()]), max_size=12))
def test_any_stream_ends_in_frames_or_failure(parts: list[bytes]) -> None:
    framer = StreamFramer()
    for part in parts:
        for frame in framer.feed(part):
            assert b"\r\n\r\n" in frame
    assert framer.take_pongs() >= 0


def test_octet_by_octet() -> None:
    framer = StreamFramer()
    frames: list[bytes] = []
    for octet in message() + b"\r\n\r\n" + message():
        frames += framer.feed(bytes([octet]))
    assert frames == [message(), message()]
    assert framer.take_pongs() == 1
    assert framer.take_pongs() == 0


def test_an_unfinished_message_is_kept() -> None:
    framer = StreamFramer()
    assert framer.feed(message()[:-1]) == []
    assert not framer.is_between_messages
    assert framer.feed(b"y") == [message()]
    assert framer.is_between_messages


def test_rfc3261_7_5_single_line_ends_are_ignored() -> None:
    framer = StreamFramer()
    assert framer.feed(b"\r\n" + message() + b"\r\n") == [message()]
    assert framer.is_between_messages
    assert framer.take_pongs() == 0


def test_rfc5626_4_4_1_a_ping_in_two_halves() -> None:
    framer = StreamFramer()
    framer.feed(b"\r\n")
    assert framer.take_pongs() == 0
    framer.feed(b"\r")
    framer.feed(b"\n")
    assert framer.take_pongs() == 1


def test_rfc5626_4_4_1_pongs_to_our_own_pings_want_no_answer() -> None:
    framer = StreamFramer(answers_pings=False)
    assert framer.feed(b"\r\n\r\n\r\n" + message()) == [message()]
    assert framer.take_pongs() == 0


@pytest.mark.parametrize(
    "length",
    [
        b"X: y",
        b"Content-Length: -1",
        b"Content-Length: x",
        b"Content-Length: ",
        b"Content-Length: 99999999999",
        b"Content-Length: 4\r\nl: 4",
        "Content-Length: ٤".encode(),
        "Content-Length: ４".encode(),
        b"Content-Length: 4, 40",
        b"Content-Length: 0x4",
        b"Content-Length: +4",
        b"Content-Length: 4\nX: y",
        b"Content-Length: 4\rX: y",
        b"X: y\nContent-Length: 40\r\nContent-Length: 4",
    ],
)
def test_rfc3261_18_3_without_a_usable_length_the_stream_ends(length: bytes) -> None:
    framer = StreamFramer()
    assert framer.feed(message() + message(length)) == [message()]
    failure = failure_of(framer)
    assert failure.status_hint == 400
    answer = parse_message(failure.answer)
    assert isinstance(answer, Response)
    assert (answer.status, answer.top_via.branch) == (400, "z9hG4bK1")
    assert answer.to.tag
    assert framer.feed(message()) == []


@pytest.mark.parametrize(
    "start", [b"SIP/2.0 200 OK", b"ACK sip:h SIP/2.0", b"\x16\x03\x01", b"SIP/2.0 x"], ids=str
)
def test_no_answer_to_what_is_never_answered(start: bytes) -> None:
    framer = StreamFramer()
    framer.feed(message(b"X: y", start=start))
    assert failure_of(framer).answer == b""


@pytest.mark.parametrize("name", ["clerr.dat", "mcl01.dat", "ncl.dat"])
def test_rfc4475_lost_framing(name: str) -> None:
    framer = StreamFramer()
    frames = framer.feed(read_corpus(f"rfc4475/{name}"))
    # clerr promises more than it brings: its stream waits, and is closed by the connection's timer.
    assert frames == []
    assert (framer.failure is None) is (name == "clerr.dat")
    assert framer.is_between_messages is (name != "clerr.dat")


def test_an_endless_head_ends_the_stream() -> None:
    framer = StreamFramer()
    framer.feed(b"x" * MAX_HEAD_SIZE)
    assert framer.failure is None
    framer.feed(b"x")
    assert failure_of(framer).status_hint == 513


def test_a_head_that_is_too_long_is_answered() -> None:
    framer = StreamFramer(max_head=100)
    framer.feed(message())
    assert failure_of(framer).status_hint == 513
    assert failure_of(framer).answer.startswith(b"SIP/2.0 513 ")


def test_a_body_that_is_too_long_is_answered_before_it_comes() -> None:
    framer = StreamFramer()
    framer.feed(message(b"l: %d" % MAX_MESSAGE_SIZE, b""))
    assert failure_of(framer).answer.startswith(b"SIP/2.0 513 ")
    framer = StreamFramer(max_message=len(message()))
    assert framer.feed(message()) == [message()]

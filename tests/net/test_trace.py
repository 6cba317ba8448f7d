"""Traces never show what must not be written down."""

from __future__ import annotations

import logging
import time

import pytest

from proxy.net import trace
from proxy.sip.flow import Flow

INFO = (
    b"INFO sip:gate@192.0.2.1 SIP/2.0\r\nCSeq: 2 INFO\r\nContent-Type: application/dtmf-relay\r\n"
    b"Content-Length: 24\r\n\r\nSignal=5\r\nDuration=160\r\n"
)


def test_digits_of_an_info_are_hidden() -> None:
    text = trace.masked(INFO)
    assert "Signal" not in text
    assert "application/dtmf-relay" in text


@pytest.mark.parametrize("separator", [b"\n\n", b"\r\r"])
def test_digits_stay_hidden_with_broken_line_ends(separator: bytes) -> None:
    assert "Signal" not in trace.masked(INFO.replace(b"\r\n\r\n", separator))


@pytest.mark.parametrize("method", [b"INVITE", b"NOTIFY", b"MESSAGE", b"SUBSCRIBE"])
@pytest.mark.parametrize(
    "content_type",
    [
        b"Content-Type: application/dtmf-relay",
        b"Content-Type:\r\n\taudio/telephone-event",
        b"c : application/dtmf",
    ],
)
@pytest.mark.parametrize("line_end", [b"\r\n", b"\n", b"\r"])
def test_digits_are_hidden_in_a_part_of_whatever_method(
    method: bytes, content_type: bytes, line_end: bytes
) -> None:
    data = (
        method + b" sip:gate@192.0.2.1 SIP/2.0\r\nCSeq: 2 " + method + b"\r\n"
        b"Content-Type: multipart/mixed;boundary=x\r\n\r\n--x\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n"
        b"--x\r\n" + content_type + b"\r\n\r\nSignal=5\r\n--x--\r\n"
    )
    text = trace.masked(data.replace(b"\r\n", line_end))
    assert "Signal" not in text
    assert "multipart/mixed" in text


@pytest.mark.parametrize("before", [b"", b"\r\n\r\n"])
def test_a_response_to_info_with_folded_lines_hides_its_body_too(before: bytes) -> None:
    assert "Signal" not in trace.masked(
        before + b"SIP/2.0 200 OK\r\nCSeq:\r\n 2\r\n INFO\r\n\r\nSignal=5\r\n"
    )


@pytest.mark.parametrize(
    ("dialled", "shown"),
    [
        ("sip:14155550123,,1234@192.0.2.1", "sip:14155550123, (hidden)@192.0.2.1"),
        ("sip:14155550123%2C%2c1234@192.0.2.1", "sip:14155550123%2C (hidden)@192.0.2.1"),
        ("tel:+1-415-555-0123p1234", "tel:+1-415-555-0123p (hidden)"),
        ("SIP:4155550123W1234#;user=phone@192.0.2.1", "SIP:4155550123W (hidden);user=phone@192.0.2.1"),
        ("tel:+14155550123;postd=pp1234;isub=1", "tel:+14155550123;postd= (hidden);isub=1"),
        ("sip:204@1.example.com,1234", "sip:204@1.example.com,1234"),
        ("sip:7wonders@192.0.2.1", "sip:7wonders@192.0.2.1"),
    ],
)
def test_digits_behind_a_pause_are_hidden(dialled: str, shown: str) -> None:
    text = trace.masked(f"INVITE {dialled} SIP/2.0\r\nTo: <{dialled}>\r\n\r\n".encode())
    assert text.startswith(f"INVITE {shown} SIP/2.0\nTo: <{shown}>")


def test_credentials_are_hidden_in_a_message_that_is_told_of_in_a_body() -> None:
    """RFC 3420: message/sipfrag."""
    data = (
        b"NOTIFY sip:1@x SIP/2.0\r\nc: message/sipfrag\r\n\r\nSIP/2.0 200\r\nAuthorization: Digest dead\r\n"
    )
    assert "dead" not in trace.masked(data)


@pytest.mark.parametrize(
    "hostile",
    ["sip:", "sip:1p", "\nc:", "c:\n ", "\n", "\n ", "k ", "\nauthorization :", "SIP/2.0\ncseq:", "\r"],
)
def test_hostile_text_costs_no_more_than_its_length(hostile: str) -> None:
    """Twice as much takes about twice as long, where a search that goes back would take four times."""

    def seconds(size: int) -> float:
        data = f"INVITE\n{hostile * (size // len(hostile))}".encode()
        took = []
        for _ in range(3):
            began = time.process_time()
            trace.masked(data)
            took.append(time.process_time() - began)
        return min(took)

    assert seconds(64_000) < 3 * seconds(32_000) + 0.05


def test_a_response_to_info_hides_its_body_too() -> None:
    assert "Signal" not in trace.masked(b"SIP/2.0 200 OK\r\nCSeq: 2 INFO\r\n\r\nSignal=5\r\n")


@pytest.mark.parametrize(
    "content_type",
    [
        b"Content-Type: application/dtmf-relay",
        b"c:application/dtmf",
        b"content-type : Application/KPML-Response+xml",
        b"Content-Type: audio/telephone-event",
    ],
)
@pytest.mark.parametrize("method", [b"NOTIFY", b"MESSAGE"])
def test_digits_are_hidden_in_whatever_request_brings_them(method: bytes, content_type: bytes) -> None:
    head = method + b" sip:gate@192.0.2.1 SIP/2.0\r\n" + content_type
    assert "5" not in trace.masked(head + b"\r\n\r\nSignal=5\r\n").partition("\n\n")[2]


@pytest.mark.parametrize(
    "line",
    [
        b"Authorization: Digest username=204, response=deadbeef",
        b"proxy-authorization :Digest response=deadbeef",
        b"Authorization: Digest username=204,\r\n response=deadbeef",
    ],
)
def test_credentials_are_hidden(line: bytes) -> None:
    text = trace.masked(b"INVITE sip:1@x SIP/2.0\r\n" + line + b"\r\nCall-ID: kept\r\n\r\n")
    assert "deadbeef" not in text
    assert "kept" in text


@pytest.mark.parametrize(
    "line",
    [
        b"a=crypto:1 AES_CM_128 inline:abcd",
        b"A=Crypto : 1 AES_CM_128 inline:abcd",
        b"a=key-mgmt:mikey abcd",
        b"k=base64:abcd",
        b" k = clear:abcd",
    ],
)
@pytest.mark.parametrize("line_end", [b"\r\n", b"\n", b"\r"])
def test_media_keys_are_hidden(line: bytes, line_end: bytes) -> None:
    data = b"INVITE sip:1@x SIP/2.0\r\n\r\nv=0\r\n" + line + b"\r\na=ptime:20\r\n"
    text = trace.masked(data.replace(b"\r\n", line_end))
    assert "abcd" not in text
    assert "a=ptime:20" in text


def test_bytes_that_are_no_text_are_escaped() -> None:
    assert "\\xff" in trace.masked(b"\xff\xfe")


def test_a_message_is_logged_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    trace.log_message(True, Flow("UDP", "192.0.2.1", 5060), INFO)
    trace.log_message(False, Flow("TCP", "192.0.2.1", 5060), b"SIP/2.0 200 OK\r\n\r\n")
    assert "from UDP 192.0.2.1:5060" in caplog.text
    assert "to TCP 192.0.2.1:5060" in caplog.text
    assert "Signal" not in caplog.text

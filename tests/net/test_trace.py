"""Traces never show what must not be written down."""

from __future__ import annotations

import logging

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


def test_media_keys_are_hidden() -> None:
    text = trace.masked(
        b"INVITE sip:1@x SIP/2.0\r\n\r\nv=0\r\na=crypto:1 AES_CM_128 inline:abcd\r\na=ptime:20\r\n"
    )
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

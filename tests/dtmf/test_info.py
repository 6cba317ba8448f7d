"""Digits in SIP INFO bodies, as phones really write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dtmf.digits import DIGITS
from proxy.dtmf.info import DTMF, DTMF_RELAY, InfoDigit, build_info, parse_info
from proxy.errors import LocalProtocolError, RemoteProtocolError


@pytest.mark.parametrize(
    ("body", "digit", "duration_ms"),
    [
        (b"Signal=5\r\nDuration=160\r\n", "5", 160),
        (b"Signal= 5\r\nDuration= 250\r\n", "5", 250),
        (b"Signal=5\nDuration=160\n", "5", 160),
        (b"Signal=5\rDuration=160\r", "5", 160),
        (b"Signal=5", "5", 160),
        (b"signal=*\r\nduration=100", "*", 100),
        (b"SIGNAL = # \r\n", "#", 160),
        (b"Signal=10\r\nDuration=160\r\n", "*", 160),
        (b"Signal=11\r\nDuration=160\r\n", "#", 160),
        (b"Signal=12\r\n", "A", 160),
        (b"Signal=15\r\n", "D", 160),
        (b"Signal=d\r\n", "D", 160),
        (b"Signal=star\r\n", "*", 160),
        (b"Signal=Pound\r\n", "#", 160),
        (b'Signal="7"\r\n', "7", 160),
        (b"Signal: 7\r\nDuration: 90\r\n", "7", 90),
        (b"\r\nDuration=80\r\nSignal=3\r\n\r\n", "3", 80),
        (b"Signal=1\r\nSignal=2\r\n", "1", 160),
    ],
)
def test_dtmf_relay_spellings(body: bytes, digit: str, duration_ms: int) -> None:
    assert parse_info(DTMF_RELAY, body) == InfoDigit(digit, duration_ms)


@pytest.mark.parametrize(
    ("text", "duration_ms"),
    [
        ("0", 160),
        ("", 160),
        ("-5", 160),
        ("x", 160),
        ("99999", 10_000),
        ("100000", 160),
        ("٣", 160),
        ("40", 40),
    ],
)
def test_a_senseless_duration_keeps_the_digit(text: str, duration_ms: int) -> None:
    body = f"Signal=5\r\nDuration={text}\r\n".encode()
    assert parse_info(DTMF_RELAY, body) == InfoDigit("5", duration_ms)


@pytest.mark.parametrize(
    ("body", "digit"),
    [(b"5", "5"), (b" 5 \r\n", "5"), (b"#", "#"), (b"*\n", "*"), (b"10", "*"), (b"11\r\n", "#"), (b"a", "A")],
)
def test_dtmf_is_the_bare_digit(body: bytes, digit: str) -> None:
    assert parse_info(DTMF, body) == InfoDigit(digit, 160)


def test_dtmf_with_the_fields_of_dtmf_relay() -> None:
    assert parse_info(DTMF, b"Signal=8\r\nDuration=90\r\n") == InfoDigit("8", 90)


@pytest.mark.parametrize(
    "content_type", ["Application/DTMF-Relay", " application/dtmf-relay ; charset=utf-8"]
)
def test_content_type_is_compared_without_case_and_parameters(content_type: str) -> None:
    assert parse_info(content_type, b"Signal=1") == InfoDigit("1", 160)


@pytest.mark.parametrize("body", [b"Signal=16", b"Signal=!", b"Signal=hf\r\nDuration=50", b"Signal=flash"])
def test_a_hook_flash_is_no_digit_and_no_error(body: bytes) -> None:
    assert parse_info(DTMF_RELAY, body) is None


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/sdp", "application/dtmf-relayed"])
def test_rfc3261_21_4_13_other_bodies_get_415(content_type: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        parse_info(content_type, b"Signal=1")
    assert caught.value.status_hint == 415


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (DTMF_RELAY, b""),
        (DTMF_RELAY, b"5"),
        (DTMF_RELAY, b"Signal="),
        (DTMF_RELAY, b"Signal=1234"),
        (DTMF_RELAY, b"Signal=17"),
        (DTMF_RELAY, b"Duration=100"),
        (DTMF_RELAY, "Signal=٣".encode()),
        (DTMF_RELAY, b"Signal=5" + b" " * 600),
        (DTMF, b""),
        (DTMF, b"1234"),
    ],
)
def test_a_body_without_a_digit_gets_400_and_is_not_quoted(content_type: str, body: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        parse_info(content_type, body)
    assert caught.value.status_hint == 400
    assert "1234" not in str(caught.value)


@pytest.mark.parametrize("digit", DIGITS)
@pytest.mark.parametrize("content_type", [DTMF, DTMF_RELAY])
def test_written_bodies_are_read_again(digit: str, content_type: str) -> None:
    assert parse_info(content_type, build_info(digit, content_type=content_type)) == InfoDigit(digit, 160)


def test_written_body_has_both_fields() -> None:
    assert build_info("#", 90) == b"Signal=#\r\nDuration=90\r\n"


@pytest.mark.parametrize(
    ("digit", "content_type"), [("", DTMF), ("12", DTMF_RELAY), ("x", DTMF), ("5", "text/plain")]
)
def test_only_digits_and_the_two_types_are_written(digit: str, content_type: str) -> None:
    with pytest.raises(LocalProtocolError):
        build_info(digit, content_type=content_type)


def test_the_digit_stays_out_of_the_repr() -> None:
    assert repr(InfoDigit("7", 100)) == "InfoDigit(duration_ms=100)"


@given(st.binary(max_size=600), st.sampled_from([DTMF, DTMF_RELAY]))
def test_any_body_gives_a_digit_a_flash_or_the_documented_error(body: bytes, content_type: str) -> None:
    status = 200
    heard = None
    try:
        heard = parse_info(content_type, body)
    except RemoteProtocolError as error:
        status = error.status_hint
    assert status in {200, 400}
    assert heard is None or (heard.digit in DIGITS and 1 <= heard.duration_ms <= 10_000)

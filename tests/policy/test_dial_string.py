"""Dial strings: RFC 3966 tel URIs, RFC 3261 §19.1 SIP URIs, RFC 5031 service URNs, plain text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import RemoteProtocolError
from proxy.policy.dial_string import (
    MAX_DIGITS,
    MAX_TEXT,
    SOS,
    DialString,
    emergency_readings,
    read_dial_string,
    without_later_keys,
)


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("204", "204"),
        ("+14155550100", "+14155550100"),
        (" (415) 555-0100 ", "4155550100"),
        ("415.555/0100", "4155550100"),
        ("*98", "*98"),
        ("\uff14\uff11\uff15", "415"),
        ("\uff0b\u0661", "+1"),
        ("415\u20115550100", "4155550100"),
        ("\u202a+1 415\u00a0555\u202c", "+1415555"),
        ("204@192.0.2.1", "204"),
        ("sip:204@192.0.2.1", "204"),
        ("SIPS:+1-415-555-0100@example.com;user=phone", "+14155550100"),
        ("sip:%32%30%34@example.com", "204"),
        ("sip:%2B1415@example.com", "+1415"),
        ("sip:%2398@example.com", "#98"),
        ("sip:204:secret@example.com", "204"),
        ("sip:204;ext=5;isub=1@example.com;transport=tcp?Subject=x", "204"),
        ("tel:+1-415-555-0100;ext=7;rn=+1900", "+14155550100"),
        ("TEL:204;phone-context=example.com", "204"),
    ],
)
def test_digits_in_every_dress(text: str, digits: str) -> None:
    assert read_dial_string(text) == DialString(digits)


def test_rfc3966_5_1_5_global_phone_context() -> None:
    assert read_dial_string("tel:5550100;phone-context=+1-415") == DialString("5550100", "+1415")
    assert read_dial_string("sip:5550100;Phone-Context=%2B1415@h") == DialString("5550100", "+1415")


@pytest.mark.parametrize(
    "text",
    [
        "urn:service:sos",
        "URN:Service:SOS.fire",
        "urn:service:sos;x=y",
        "sip:sos@example.com",
        "tel:sos",
        "sip:sos.police@h",
    ],
)
def test_rfc5031_4_2_emergency_services(text: str) -> None:
    assert read_dial_string(text) is SOS


@pytest.mark.parametrize("text", ["sip:911", "sip:911;user=phone", "sip:911:5060", "sip:911?a=b"])
def test_host_only_is_told(text: str) -> None:
    assert read_dial_string(text) == DialString("911", host_only=True)


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        ("", 484, "empty"),
        ("+", 484, "empty"),
        (" - ", 484, "empty"),
        ("sip:@example.com", 484, "empty"),
        ("sip:reception@example.com", 404, "can't be dialled"),
        ("1-800-FLOWERS", 404, "can't be dialled"),
        ("1+2", 404, "can't be dialled"),
        ("++1", 404, "can't be dialled"),
        ("204\x00", 404, "can't be dialled"),
        ("sip:20%004@h", 404, "can't be dialled"),
        ("sip:20%2531@h", 404, "can't be dialled"),
        ("sip:20%zz@h", 404, "can't be dialled"),
        ("sip:204%3Bext=1@h", 404, "can't be dialled"),
        ("sip:204%@h", 404, "can't be dialled"),
        ("²04", 404, "can't be dialled"),
        ("sip:%ff@h", 404, "not UTF-8"),
        ("sip:204@a@b", 404, "more than one @"),
        ("tel:1;phone-context=+1;phone-context=+2", 404, "more than one phone-context"),
        ("tel:1;phone-context=", 404, "phone-context is empty"),
        ("tel:1;phone-context=+abc", 404, "can't be dialled"),
        ("http:204", 416, "neither sip"),
        (":204", 416, "neither sip"),
        ("urn:service:counseling", 404, "not an emergency service"),
        ("urn:service:sosx", 404, "not an emergency service"),
        ("urn:ietf:sos", 404, "not an emergency service"),
        ("1" * (MAX_DIGITS + 1), 404, "too long"),
        ("1" + "-" * MAX_TEXT, 404, "too long"),
    ],
)
def test_what_is_no_dial_string_is_refused(text: str, status: int, reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason) as refused:
        read_dial_string(text)
    assert refused.value.status_hint == status


@given(st.one_of(st.text(max_size=60), st.text("0123456789+%;:@*#-. sipte\uff11\u0661", max_size=60)))
def test_any_text_gives_ascii_digits_or_the_documented_error(text: str) -> None:
    try:
        dial = read_dial_string(text)
    except RemoteProtocolError:
        return
    if dial is not SOS:
        assert dial.digits.removeprefix("+").strip("0123456789*#") == ""
        assert 1 <= len(dial.digits) <= MAX_DIGITS


def test_what_stands_around_the_user_part_does_not_count_for_its_length() -> None:
    assert read_dial_string(f"sip:204@example.com;x={'a' * 4000}") == DialString("204")


@pytest.mark.parametrize(
    "text",
    [
        "911",
        " 911\n",
        "911#",
        "911*",
        "sip:911%23@h",
        "911,",
        "911p1",
        "911w123#",
        "9-1-1",
        "\u0669\u0661\u0661",
        "sip:911:secret@h",
        "sip:911",
        "sip:911:5060",
        "sip:911?Subject=x",
        f"sip:911@h;x={'a' * 4000}",
        f"tel:911;x={'a' * 4000}",
        "tel:911;phone-context=+1;phone-context=+1",
        "tel:911;phone-context=",
        "tel:911;phone-context=+1x",
        "sip:911;phone-context=+zz@h",
        "sip:911@a@b",
        "911@h",
    ],
)
def test_an_emergency_number_is_read_from_the_user_part_alone(text: str) -> None:
    assert emergency_readings(text) == ("911",)


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        ("+911", ("+911",)),
        ("*67911", ("*67911", "911")),
        ("#31#112", ("#31#112", "112")),
        ("9*67911", ("9*67911", "9911")),
        ("*85911", ("*85911",)),
        ("urn:service:sos.fire;x=y", ("sos",)),
        ("SIP:SOS@h", ("sos",)),
        ("tel:sos.police", ("sos",)),
        ("urn:service:counseling", ()),
        ("http:911", ()),
        ("call 911", ("",)),
        ("911 or 112", ("",)),
        ("9+11", ("",)),
        (",911", ("",)),
        ("sip:9%ff11@h", ("",)),
        ("", ("",)),
    ],
)
def test_what_may_mean_an_emergency_number(text: str, readings: tuple[str, ...]) -> None:
    assert emergency_readings(text) == readings


@given(st.one_of(st.text(max_size=60), st.text("0123456789+%;:@*#-,p. sipte\uff11\u0661", max_size=60)))
def test_looking_for_emergency_numbers_never_raises(text: str) -> None:
    for reading in emergency_readings(text):
        assert reading == "sos" or reading.removeprefix("+").strip("0123456789*#") == ""


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("sip:14155550123,,8642@192.0.2.1", "sip:14155550123,"),
        ("sip:14155550123%2c%2C8642@192.0.2.1", "sip:14155550123,"),
        ("sip:1415555%30123p8642@192.0.2.1", "sip:14155550123p"),
        ("tel:+1-415-555-0123 w 8642#", "tel:+1-415-555-0123 w"),
        ("tel:+14155550123;postd=pp8642;isub=1", "tel:+14155550123;postd="),
        (",8642", ","),
        ("%0d%0a14155550123W8642", "14155550123W"),
        ("sip:7wonders@192.0.2.1", "sip:7wonders@192.0.2.1"),
        ("http:x", "http:x"),
    ],
)
def test_what_is_pressed_behind_a_pause_is_not_kept(text: str, kept: str) -> None:
    assert without_later_keys(text) == kept


@given(st.text(max_size=80), st.text(alphabet=",pPwW", min_size=1, max_size=3))
def test_nothing_behind_the_pause_of_a_number_is_kept(before: str, pause: str) -> None:
    assert "8642" not in without_later_keys(f"{before.replace('8642', '')}5{pause}8642")

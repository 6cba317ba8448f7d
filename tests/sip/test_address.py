"""Name-addr and addr-spec (RFC 3261 §20.10)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import RemoteProtocolError
from proxy.sip.address import NameAddr, parse_addresses

ADDRESSES = st.builds(
    NameAddr,
    uri_text=st.sampled_from(["sip:204@example.com;lr?x=y", "tel:+1212", "sips:[2001:db8::1]"]),
    display_name=st.text(max_size=20),
    params=st.dictionaries(
        st.text("abc", min_size=1, max_size=3), st.none() | st.sampled_from(["1", '"a;b"', "0.5"]), max_size=3
    ),
)


@given(ADDRESSES)
def test_rfc3261_20_10_what_is_printed_is_parsed_again(address: NameAddr) -> None:
    assert NameAddr.parse(str(address)) == address


@given(st.text(max_size=60) | st.text(alphabet='"<>;=\\sip:a@, ', max_size=60))
def test_any_text_parses_or_raises_the_documented_error(text: str) -> None:
    try:
        address = NameAddr.parse(text)
    except RemoteProtocolError:
        return
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "name", "uri", "params"),
    [
        ("sip:204@example.com", "", "sip:204@example.com", {}),
        ("sip:204@example.com;tag=1", "", "sip:204@example.com", {"tag": "1"}),
        ("<sip:204@example.com;lr>;tag=1", "", "sip:204@example.com;lr", {"tag": "1"}),
        ("Desk 204 <sip:204@example.com>", "Desk 204", "sip:204@example.com", {}),
        ('"Desk \\"204\\""<sip:204@example.com>', 'Desk "204"', "sip:204@example.com", {}),
        ('"<sip:no@example.com>" <sip:204@example.com>', "<sip:no@example.com>", "sip:204@example.com", {}),
        ("Büro <tel:+1;ext=2> ; tag = x", "Büro", "tel:+1;ext=2", {"tag": "x"}),
        ('"a>;b" <sip:a@h>;p=">;tag=2";tag=1', "a>;b", "sip:a@h", {"p": '">;tag=2"', "tag": "1"}),
        ('<sip:a@h>;p="<x>;y"', "", "sip:a@h", {"p": '"<x>;y"'}),
        ("<sip:a@h?Route=%3Csip:x%3E>", "", "sip:a@h?Route=%3Csip:x%3E", {}),
    ],
)
def test_rfc3261_20_10_forms(text: str, name: str, uri: str, params: dict[str, str | None]) -> None:
    address = NameAddr.parse(text)
    assert (address.display_name, address.uri_text, dict(address.params)) == (name, uri, params)
    assert address.tag == params.get("tag")
    assert str(address) == text
    assert str(address.uri) == uri


@pytest.mark.parametrize(
    "text",
    [
        "",
        ";tag=1",
        "<>",
        "< sip:a@h >",
        "<sip:a@h",
        "<sip:a@h> x",
        '"a" sip:a@h',
        '"a" b <sip:a@h>',
        '"a <sip:a@h>',
        "a, b <sip:a@h>",
        'a "b" <sip:a@h>',
        "sip:a@h?x=y",
        "sip:a@h,i",
        "sip:a@h;",
        "<sip:a@h>;;",
        "<sip:a@h>;tag=1;tag=2",
    ],
)
def test_rfc3261_20_10_malformed(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        NameAddr.parse(text)


def test_the_uri_is_judged_when_it_is_asked_for() -> None:
    address = NameAddr.parse("<sip:>;tag=1")
    assert address.tag == "1"
    with pytest.raises(RemoteProtocolError):
        _ = address.uri


def test_long_addresses_are_parsed_without_the_memo() -> None:
    text = f'"{"x" * 300}" <sip:a@h>'
    assert NameAddr.parse(text).display_name == "x" * 300
    assert NameAddr.parse(text) is not NameAddr.parse(text)


def test_rfc3261_7_3_1_lists_over_several_lines() -> None:
    lines = ['"a, b" <sip:a@h>, <sip:b@h;lr>', "<sip:c@h>"]
    assert [address.uri.user for address in parse_addresses(lines)] == ["a", "b", "c"]

"""Tokens, quoted strings, lists and parameters (RFC 3261 §25.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import RemoteProtocolError
from proxy.sip.grammar import (
    format_params,
    is_token,
    parse_params,
    quote,
    quoted_end,
    split_list,
    split_top_level,
    unquote,
)


@pytest.mark.parametrize("text", ["INVITE", "a", "z9hG4bK-1.2", "!%*_+`'~", "100rel"])
def test_rfc3261_25_1_token(text: str) -> None:
    assert is_token(text)


@pytest.mark.parametrize("text", ["", "a b", "a;b", "täg", "täg-1", '"a"', "a\x00", "\u0663"])
def test_rfc3261_25_1_not_a_token(text: str) -> None:
    assert not is_token(text)


def test_rfc3261_25_1_quoted_pair() -> None:
    text = r'"a \" b \\" rest'
    assert quoted_end(text, 0) == 11
    assert unquote(text[:11]) == 'a " b \\'


@pytest.mark.parametrize("text", ['"', '"a', r'"a\"', '"\\'])
def test_rfc3261_25_1_open_quote(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        quoted_end(text, 0)


@pytest.mark.parametrize("text", ["", "a", '"', "a b"])
def test_text_without_quotes_is_its_own_content(text: str) -> None:
    assert unquote(text) == text


@given(st.text())
def test_quote_and_unquote(text: str) -> None:
    assert unquote(quote(text)) == text
    assert quoted_end(quote(text), 0) == len(quote(text))


def test_rfc3261_7_3_1_commas_in_quotes_and_brackets_do_not_split() -> None:
    text = '"a, b" <sip:1,2@h>, <sip:x@y>;p="1,2", sip:z@y'
    assert split_list(text) == ['"a, b" <sip:1,2@h>', '<sip:x@y>;p="1,2"', "sip:z@y"]


def test_rfc3261_7_3_1_plain_lists() -> None:
    assert split_list("timer, 100rel ,,replaces") == ["timer", "100rel", "replaces"]
    assert split_list(" timer ") == ["timer"]
    assert split_list("") == []


@pytest.mark.parametrize("text", ['a, "b', "a, <b"])
def test_rfc3261_7_3_1_what_opens_must_close(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        split_top_level(text, ",")


def test_rfc3261_25_1_generic_params() -> None:
    params = parse_params('tag=1; Q = "a;b" ;lr;x=[::1]')
    assert params == {"tag": "1", "q": '"a;b"', "lr": None, "x": "[::1]"}
    assert format_params(params) == ';tag=1;q="a;b";lr;x=[::1]'
    assert format_params({}) == ""


@pytest.mark.parametrize(
    "text", ["", ";", "tag=1;", "a b=1", "tag=", "tag= ;x", "tag=1;tag=2", 'x="a', 'x=a"b"', 'x="a"b']
)
def test_rfc3261_25_1_malformed_params(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_params(text)


@given(st.text(alphabet='a";,<>\\ =', max_size=60))
def test_only_the_documented_error(text: str) -> None:
    for function in (parse_params, split_list, lambda text: quoted_end(text, 0)):
        try:
            function(text)
        except RemoteProtocolError as error:
            assert error.status_hint == 400  # noqa: PT017 - raising is allowed, not demanded

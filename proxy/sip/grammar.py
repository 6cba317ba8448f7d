"""Lexical pieces that several SIP headers share: tokens, quoted strings, lists and parameters (RFC 3261).

Every function here is linear in its input and raises nothing but `RemoteProtocolError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from proxy.errors import RemoteProtocolError

__all__ = [
    "ALPHANUMERIC",
    "MEMO_SIZE",
    "MEMO_TEXT_LIMIT",
    "TOKEN_CHARS",
    "Params",
    "format_params",
    "is_token",
    "parse_params",
    "quote",
    "quoted_end",
    "split_list",
    "split_top_level",
    "unquote",
]

ALPHANUMERIC: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
TOKEN_CHARS: Final = ALPHANUMERIC + "-.!%*_+`'~"

_COMMON_PARAMS: Final = frozenset({"branch", "expires", "received", "rport", "tag"})
"""Names, spelled as usual, that need no check."""

MEMO_SIZE: Final = 2048
"""Values kept by the memo of each parser: the headers of one call repeat each other."""
MEMO_TEXT_LIMIT: Final = 256
"""Longer texts are parsed anew each time, so that hostile traffic can't fill the memory with them."""

Params = Mapping[str, str | None]
"""Parameters in order of appearance: lower-case name to value as received (quotes kept), None without "="."""


def is_token(text: str) -> bool:
    """Say whether the text is a ``token`` (RFC 3261 §25.1)."""
    # strip() with a set of characters leaves something exactly when a character outside the set is there.
    # Most are plain words, for which isalnum() is the quickest answer.
    return (text.isalnum() and text.isascii()) or (text != "" and not text.strip(TOKEN_CHARS))


def quoted_end(text: str, start: int) -> int:
    """Find the index just behind the quoted string that opens at ``start`` (RFC 3261 §25.1 quoted-string)."""
    at = start + 1
    while True:
        end = text.find('"', at)
        if end < 0:
            raise RemoteProtocolError("quoted string without its closing quote")
        escape = text.find("\\", at, end)
        if escape < 0:
            return end + 1
        at = escape + 2


def unquote(text: str) -> str:
    """Give the content of a quoted string; text that is not quoted comes back as it is."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    inner = text[1:-1]
    if "\\" not in inner:
        return inner
    characters = iter(inner)
    return "".join([next(characters, "") if character == "\\" else character for character in characters])


def quote(text: str) -> str:
    """Make a quoted string of the text (RFC 3261 §25.1)."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def split_top_level(text: str, separator: str) -> list[str]:
    """Split at a separator that stands neither in quotes nor in angle brackets; the parts are stripped."""
    if separator not in text:
        return [text.strip()]
    if '"' not in text and "<" not in text:
        return [part.strip() for part in text.split(separator)]
    parts: list[str] = []
    start = at = 0
    length = len(text)
    while at < length:
        character = text[at]
        if character == separator:
            parts.append(text[start:at].strip())
            start = at = at + 1
        elif character == '"':
            at = quoted_end(text, at)
        elif character == "<":
            at = text.find(">", at) + 1
            if at == 0:
                raise RemoteProtocolError("angle bracket without its closing one")
        else:
            at += 1
    parts.append(text[start:].strip())
    return parts


def split_list(text: str) -> list[str]:
    """Split a header value at its top-level commas (RFC 3261 §7.3.1); empty elements fall away."""
    return [part for part in split_top_level(text, ",") if part]


def parse_params(text: str) -> dict[str, str | None]:
    """Parse ``name=value;name``, what stands behind a header's first ";" (RFC 3261 §25.1 generic-param)."""
    params: dict[str, str | None] = {}
    for part in split_top_level(text, ";") if '"' in text else text.split(";"):
        name, equals, value = part.partition("=")
        if name not in _COMMON_PARAMS:
            name = name.strip().lower()
            if not is_token(name):
                raise RemoteProtocolError("malformed header parameter")
        if name in params:
            raise RemoteProtocolError("header parameter given twice")
        if equals:
            value = value.strip()
            if not value:
                raise RemoteProtocolError("header parameter without the value it announces")
            if '"' in value and (value[0] != '"' or quoted_end(value, 0) != len(value)):
                raise RemoteProtocolError("malformed quoted string in a header parameter")
            params[name] = value
        else:
            params[name] = None
    return params


def format_params(params: Params) -> str:
    """Print parameters, each with its leading ";"."""
    return "".join([f";{name}" if value is None else f";{name}={value}" for name, value in params.items()])

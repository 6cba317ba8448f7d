"""Name-addr and addr-spec, the value of From, To, Contact, Route and their like (RFC 3261 §20.10, §25.1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from proxy.errors import RemoteProtocolError
from proxy.sip.grammar import (
    MEMO_SIZE,
    MEMO_TEXT_LIMIT,
    Params,
    format_params,
    parse_params,
    quote,
    quoted_end,
    split_list,
    unquote,
)
from proxy.sip.uri import Uri

__all__ = ["NameAddr", "parse_addresses"]

_NOT_IN_DISPLAY_NAME = frozenset(',;"<>\\')


@dataclass(frozen=True, slots=True)
class NameAddr:
    """A URI with an optional display name and the parameters of the header it stands in.

    Without angle brackets the parameters belong to the header, never to the URI (RFC 3261 §20).
    """

    uri_text: str
    """The URI as received, or as it is to be printed."""
    display_name: str = ""
    """Without quotes and escapes; empty where there is none."""
    params: Params = field(default_factory=dict, hash=False)
    _text: str = field(default="", init=False, repr=False, compare=False)

    @staticmethod
    def parse(text: str) -> NameAddr:
        """Parse one value, its URI only when `uri` is asked; raises `RemoteProtocolError` (400)."""
        return _parse_memo(text) if len(text) <= MEMO_TEXT_LIMIT else _parse(text)

    @property
    def uri(self) -> Uri:
        """The parsed URI; raises `RemoteProtocolError` (400) when malformed."""
        return Uri.parse(self.uri_text)

    @property
    def tag(self) -> str | None:
        """The tag parameter (RFC 3261 §19.3)."""
        return self.params.get("tag")

    def __str__(self) -> str:
        if self._text:
            return self._text
        name = quote(self.display_name) + " " if self.display_name else ""
        return f"{name}<{self.uri_text}>{format_params(self.params)}"


def parse_addresses(lines: list[str]) -> list[NameAddr]:
    """Parse every address of a list header such as Route or Contact, given one text per header line."""
    return [NameAddr.parse(value) for line in lines for value in split_list(line)]


def _parse(text: str) -> NameAddr:
    # A user's name and URI recur from call to call, the tag behind them never does.
    head, mark, param_text = text.rpartition(">;")
    name, uri_text, more = _split_memo(head + ">") if mark and len(head) < MEMO_TEXT_LIMIT else ("", "", "")
    if more is not None:
        # No tail that can be cut off so simply.
        name, uri_text, rest = _split(text)
    else:
        rest = param_text
    address = NameAddr(uri_text, name, {} if rest is None else parse_params(rest))
    object.__setattr__(address, "_text", text)
    return address


def _split(text: str) -> tuple[str, str, str | None]:
    """Split into display name, URI and what follows the first ";" behind it, None without one."""
    bracket = text.find("<")
    if text[:1] == '"':
        end = quoted_end(text, 0)
        display_name = unquote(text[:end])
        bracket = text.find("<", end)
        if bracket < 0 or text[end:bracket].strip():
            raise RemoteProtocolError("display name without a bracketed URI")
    elif bracket > 0:
        display_name = text[:bracket].strip()
        if not _NOT_IN_DISPLAY_NAME.isdisjoint(display_name):
            raise RemoteProtocolError("display name that needs quotes")
    else:
        display_name = ""
    if bracket < 0:
        uri_text, semicolon, param_text = text.partition(";")
        uri_text = uri_text.strip()
        if "?" in uri_text or "," in uri_text:
            raise RemoteProtocolError("URI that needs angle brackets")
    else:
        close = text.find(">", bracket)
        if close < 0:
            raise RemoteProtocolError("angle bracket without its closing one")
        uri_text = text[bracket + 1 : close]
        between, semicolon, param_text = text[close + 1 :].partition(";")
        if between.strip():
            raise RemoteProtocolError("text behind an address")
    if not uri_text or " " in uri_text:
        raise RemoteProtocolError("malformed URI in an address")
    return display_name, uri_text, param_text if semicolon else None


_parse_memo = lru_cache(maxsize=MEMO_SIZE)(_parse)
_split_memo = lru_cache(maxsize=MEMO_SIZE)(_split)

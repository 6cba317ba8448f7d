"""The Via header: where a request came by and where its response goes (RFC 3261 §20.42, §18.2, RFC 3581)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from proxy.errors import RemoteProtocolError
from proxy.sip.grammar import (
    MEMO_SIZE,
    MEMO_TEXT_LIMIT,
    Params,
    format_params,
    is_token,
    parse_params,
    split_top_level,
)
from proxy.sip.uri import format_host, parse_host_port

__all__ = ["MAGIC_COOKIE", "Via"]

MAGIC_COOKIE: Final = "z9hG4bK"
"""A branch that begins so is unique for its transaction (RFC 3261 §8.1.1.7)."""


@dataclass(frozen=True, slots=True)
class Via:
    """One Via value; a parsed one prints as it was received."""

    transport: str
    """Upper-case."""
    host: str
    """Host of sent-by; IPv6 without brackets."""
    port: int | None = None
    params: Params = field(default_factory=dict, hash=False)
    _text: str = field(default="", init=False, repr=False, compare=False)

    @staticmethod
    def parse(text: str) -> Via:
        """Parse one Via value; raises `RemoteProtocolError` (400) when malformed."""
        return _parse_memo(text) if len(text) <= MEMO_TEXT_LIMIT else _parse(text)

    @property
    def branch(self) -> str | None:
        """The branch parameter; absent from RFC 2543 elements."""
        return self.params.get("branch")

    @property
    def has_unique_branch(self) -> bool:
        """The branch alone names the transaction (RFC 3261 §17.2.3); a bare magic cookie does not."""
        branch = self.params.get("branch")
        return branch is not None and len(branch) > len(MAGIC_COOKIE) and branch.startswith(MAGIC_COOKIE)

    @property
    def received(self) -> str | None:
        """Source address as the receiver noted it, IPv6 without the brackets some write (RFC 5118 §4.5)."""
        received = self.params.get("received")
        return received if received is None else received.strip("[]")

    @property
    def wants_rport(self) -> bool:
        """The client asks for symmetric response routing (RFC 3581 §3)."""
        return "rport" in self.params

    @property
    def rport(self) -> int | None:
        """Source port as the receiver noted it, or None where there is none or no valid one (RFC 3581 §4)."""
        value = self.params.get("rport")
        if value is None or not value.isascii() or not value.isdigit() or len(value) > 5:
            return None
        return int(value)

    def with_source(self, host: str, port: int) -> Via:
        """Note in this Via where its packet came from (RFC 3261 §18.2.1, RFC 3581 §4).

        ``received`` is set when sent-by names another host, and always with rport; ``rport`` gets its value
        when the client asked for it. All else stays as received. Values that the client itself wrote for the
        two are replaced, since they would misdirect the response.
        """
        wants_rport = "rport" in self.params
        elsewhere = self.host.lower() != host
        if not wants_rport and not elsewhere and "received" not in self.params:
            return self
        text = str(self)
        parts = text.split(";") if '"' not in text else split_top_level(text, ";")
        kept = [parts[0]]
        for part in parts[1:]:
            name = part.partition("=")[0].strip().lower()
            if name == "rport":
                kept.append(f"rport={port}")
            elif name != "received":
                kept.append(part)
        params = dict(self.params)
        params.pop("received", None)
        if wants_rport:
            params["rport"] = str(port)
        if wants_rport or elsewhere:
            kept.append(f"received={host}")
            params["received"] = host
        via = Via(self.transport, self.host, self.port, params)
        object.__setattr__(via, "_text", ";".join(kept))
        return via

    def __str__(self) -> str:
        if self._text:
            return self._text
        port = "" if self.port is None else f":{self.port}"
        return f"SIP/2.0/{self.transport} {format_host(self.host)}{port}{format_params(self.params)}"


def _parse(text: str) -> Via:
    head, semicolon, param_text = text.partition(";")
    if len(head) <= MEMO_TEXT_LIMIT:
        transport, host, port = _parse_head_memo(head)
    else:
        transport, host, port = _parse_head(head)
    via = Via(transport, host, port, parse_params(param_text) if semicolon else {})
    object.__setattr__(via, "_text", text)
    return via


def _parse_head(head: str) -> tuple[str, str, int | None]:
    """Parse sent-protocol and sent-by."""
    if head[:8] == "SIP/2.0/":
        transport, _, sent_by = head[8:].partition(" ")
    else:
        transport, sent_by = _parse_protocol(head)
    if not is_token(transport):
        raise RemoteProtocolError("malformed Via transport")
    host, port = _parse_sent_by(sent_by)
    return transport.upper(), host, port


def _parse_sent_by(text: str) -> tuple[str, int | None]:
    text = text.strip()
    if " " in text or "\t" in text:
        # sent-by allows space around its colon (RFC 3261 §25.1 COLON); an IPv6 reference has none inside.
        host, colon, port = text.rpartition(":")
        if not colon:
            raise RemoteProtocolError("malformed sent-by")
        text = f"{host.rstrip()}:{port.lstrip()}"
    return parse_host_port(text)


def _parse_protocol(text: str) -> tuple[str, str]:
    """Take apart a sent-protocol that is written with space around its slashes or in another case."""
    parts = text.split("/", 2)
    if len(parts) != 3:
        raise RemoteProtocolError("malformed Via")
    name, version, rest = parts[0].strip(), parts[1].strip(), parts[2].strip()
    if name.upper() != "SIP" or version != "2.0":
        raise RemoteProtocolError("Via of another protocol")
    words = rest.split(None, 1)
    if len(words) != 2:
        raise RemoteProtocolError("Via without sent-by")
    return words[0], words[1]


_parse_memo = lru_cache(maxsize=MEMO_SIZE)(_parse)
_parse_head_memo = lru_cache(maxsize=MEMO_SIZE)(_parse_head)

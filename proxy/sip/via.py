"""The Via header: where a request came by and where its response goes (RFC 3261 §20.42, §18.2, RFC 3581)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from proxy.errors import RemoteProtocolError
from proxy.sip.grammar import Params, format_params, is_token, parse_params, split_top_level
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
        if text[:8] == "SIP/2.0/":
            transport, _, rest = text[8:].partition(" ")
        else:
            transport, rest = _parse_protocol(text)
        sent_by, semicolon, param_text = rest.partition(";")
        if not is_token(transport):
            raise RemoteProtocolError("malformed Via transport")
        host, port = _parse_sent_by(sent_by)
        via = Via(transport.upper(), host, port, parse_params(param_text) if semicolon else {})
        object.__setattr__(via, "_text", text)
        return via

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
        return (
            int(value)
            if value is not None and value.isascii() and value.isdigit() and len(value) <= 5
            else None
        )

    def stamped(self, host: str, port: int) -> str:
        """Print this Via with the packet's source noted in it (RFC 3261 §18.2.1, RFC 3581 §4).

        ``received`` is set when sent-by names another host, and always with rport; ``rport`` gets its value when
        the client asked for it. All else stays as received. Values that the client itself wrote for the two are
        replaced, since they would misdirect the response.
        """
        text = str(self)
        parts = text.split(";") if '"' not in text else split_top_level(text, ";")
        kept = [parts[0]]
        with_rport = False
        for part in parts[1:]:
            name = part.partition("=")[0].strip().lower()
            if name == "rport":
                with_rport = True
                kept.append(f"rport={port}")
            elif name != "received":
                kept.append(part)
        if with_rport or self.host.lower() != host:
            kept.append(f"received={host}")
        return ";".join(kept)

    def __str__(self) -> str:
        if self._text:
            return self._text
        port = "" if self.port is None else f":{self.port}"
        return f"SIP/2.0/{self.transport} {format_host(self.host)}{port}{format_params(self.params)}"


def _parse_sent_by(text: str) -> tuple[str, int | None]:
    text = text.strip()
    if " " in text or "\t" in text:
        # sent-by allows space around its colon (RFC 3261 §25.1 COLON), which an IPv6 reference has not inside.
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

"""URIs of SIP: sip, sips, tel, urn and any other scheme as an opaque text (RFC 3261 §19.1, RFC 3966).

Percent-escapes are undone exactly once, on parsing, and made once, on printing. A parsed URI prints as it was
received, so that what only passes through is never changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final
from urllib.parse import quote as percent_quote
from urllib.parse import unquote as percent_unquote

from proxy.errors import RemoteProtocolError
from proxy.sip.grammar import ALPHANUMERIC, MEMO_SIZE, MEMO_TEXT_LIMIT

__all__ = ["Uri", "format_host", "parse_host_port"]

_SCHEME_CHARS: Final = ALPHANUMERIC + "+-."
_HOST_CHARS: Final = ALPHANUMERIC + "-._"  # "_" is in no RFC, but in the field's host names
_IPV6_CHARS: Final = "0123456789abcdefABCDEF:."
_HEX: Final = "0123456789abcdefABCDEF"
_MARK: Final = "-_.!~*'()"
_USER_SAFE: Final = _MARK + "&=+$,;?/"
_PASSWORD_SAFE: Final = _MARK + "&=+$,"
_PARAM_SAFE: Final = _MARK + "[]/:&+$"
_HEADER_SAFE: Final = _MARK + "[]/?:+$"

_ALWAYS_COMPARED: Final = ("user", "ttl", "method", "maddr", "transport")


def _unescape(text: str) -> str:
    """Undo percent-escapes once; malformed ones are refused (RFC 3261 §25.1 escaped)."""
    if "%" not in text:
        return text
    for part in text.split("%")[1:]:
        if len(part) < 2 or part[0] not in _HEX or part[1] not in _HEX:
            raise RemoteProtocolError("malformed percent-escape in a URI")
    return percent_unquote(text, errors="surrogateescape")


def _escape(text: str, safe: str) -> str:
    return percent_quote(text, safe=safe, errors="surrogateescape")


def format_host(host: str) -> str:
    """Print a host: an IPv6 address gets its brackets, anything else (a port may follow) stays as it is."""
    return f"[{host}]" if host.count(":") > 1 and host[0] != "[" else host


def parse_host_port(text: str) -> tuple[str, int | None]:
    """Parse ``host[:port]`` (RFC 3261 §25.1 hostport); an IPv6 address comes back without its brackets.

    The IPv6 reference is checked by its characters only: the three colons that the grammar of RFC 3261
    produces by mistake must be tolerated (RFC 5118 §4.10).
    """
    if text[:1] == "[":
        host, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in host or host.strip(_IPV6_CHARS) or rest[:1] not in {"", ":"}:
            raise RemoteProtocolError("malformed IPv6 reference")
        colon, port_text = rest[:1], rest[1:]
    else:
        host, colon, port_text = text.partition(":")
        if not host or host.strip(_HOST_CHARS):
            raise RemoteProtocolError("malformed host")
    if not colon:
        return host, None
    if not port_text.isascii() or not port_text.isdigit() or len(port_text) > 5:
        raise RemoteProtocolError("malformed port")
    port = int(port_text)
    if not 0 < port < 65536:
        raise RemoteProtocolError("port out of range")
    return host, port


def _parse_params(text: str) -> dict[str, str | None]:
    params: dict[str, str | None] = {}
    for part in text.split(";"):
        name, equals, value = part.partition("=")
        name = _unescape(name).lower()
        if not name:
            raise RemoteProtocolError("empty URI parameter")
        if name in params:
            raise RemoteProtocolError("URI parameter given twice")
        params[name] = _unescape(value) if equals else None
    return params


def _parse_headers(text: str) -> tuple[tuple[str, str], ...]:
    headers: list[tuple[str, str]] = []
    for part in text.split("&"):
        name, equals, value = part.partition("=")
        if not name or not equals:
            raise RemoteProtocolError("malformed header in a URI")
        headers.append((_unescape(name), _unescape(value)))
    return tuple(headers)


@dataclass(frozen=True, slots=True)
class Uri:
    """One URI. ``scheme`` is lower-case; texts are free of percent-escapes."""

    scheme: str
    user: str | None = None
    """sip, sips: the user part with its ";" parameters, if any. tel: the number."""
    host: str = ""
    """sip, sips: host name or address; IPv6 without brackets."""
    port: int | None = None
    params: Mapping[str, str | None] = field(default_factory=dict, hash=False)
    """Lower-case name to value, None where there is no "="."""
    headers: tuple[tuple[str, str], ...] = ()
    """What a sip URI carries behind its "?"."""
    password: str | None = field(default=None, repr=False)
    opaque: str = ""
    """Other schemes: all that follows the colon, untouched (``service:sos`` of ``urn:service:sos``)."""
    _text: str = field(default="", init=False, repr=False, compare=False)

    @staticmethod
    def parse(text: str) -> Uri:
        """Parse a URI; raises `RemoteProtocolError` (400) when malformed. An unknown scheme is no error."""
        return _parse_memo(text) if len(text) <= MEMO_TEXT_LIMIT else _parse(text)

    @property
    def is_sip(self) -> bool:
        """A sip or sips URI."""
        return self.scheme in {"sip", "sips"}

    @property
    def telephone(self) -> tuple[str, Mapping[str, str | None]]:
        """Number and parameters of a telephone-subscriber: tel, or a sip user part (RFC 3261 §19.1.6)."""
        if self.scheme == "tel":
            return self.user or "", self.params
        if not (self._text and self.is_sip):
            number, semicolon, rest = (self.user or "").partition(";")
            return number, _split_user_params(rest) if semicolon else {}
        # The text as received tells a ";" that separates from one that was escaped.
        userinfo = self._text.partition(":")[2].rpartition("@")[0].partition(":")[0]
        number, semicolon, rest = userinfo.partition(";")
        return _unescape(number), {
            _unescape(name): None if value is None else _unescape(value)
            for name, value in (_split_user_params(rest) if semicolon else {}).items()
        }

    def equivalent_to(self, other: Uri) -> bool:
        """Compare as RFC 3261 §19.1.4 says (RFC 3966 §5 for tel). Not transitive, hence not ``==``."""
        if self.scheme != other.scheme:
            return False
        if self.scheme == "tel":
            return _bare_number(self.user) == _bare_number(other.user) and _folded(self.params) == _folded(
                other.params
            )
        if not self.is_sip:
            return self.opaque == other.opaque
        if (self.user, self.password, self.host.lower(), self.port) != (
            other.user,
            other.password,
            other.host.lower(),
            other.port,
        ):
            return False
        mine, others = _folded(self.params), _folded(other.params)
        if any((name in mine) != (name in others) for name in _ALWAYS_COMPARED):
            return False
        if any(mine[name] != others[name] for name in mine.keys() & others.keys()):
            return False
        return sorted((name.lower(), value) for name, value in self.headers) == sorted(
            (name.lower(), value) for name, value in other.headers
        )

    def __str__(self) -> str:
        return self._text or self._format()

    def _format(self) -> str:
        if self.scheme == "tel":
            return f"tel:{_escape(self.user or '', _USER_SAFE)}{self._format_params()}"
        if not self.is_sip:
            return f"{self.scheme}:{self.opaque}"
        userinfo = ""
        if self.user is not None:
            userinfo = _escape(self.user, _USER_SAFE)
            if self.password is not None:
                userinfo += ":" + _escape(self.password, _PASSWORD_SAFE)
            userinfo += "@"
        port = "" if self.port is None else f":{self.port}"
        headers = "&".join(
            f"{_escape(name, _HEADER_SAFE)}={_escape(value, _HEADER_SAFE)}" for name, value in self.headers
        )
        return (
            f"{self.scheme}:{userinfo}{format_host(self.host)}{port}{self._format_params()}"
            f"{'?' if headers else ''}{headers}"
        )

    def _format_params(self) -> str:
        return "".join(
            f";{_escape(name, _PARAM_SAFE)}"
            if value is None
            else f";{_escape(name, _PARAM_SAFE)}={_escape(value, _PARAM_SAFE)}"
            for name, value in self.params.items()
        )


def _split_user_params(text: str) -> dict[str, str | None]:
    params: dict[str, str | None] = {}
    for part in text.split(";"):
        name, equals, value = part.partition("=")
        if name:
            params.setdefault(name.lower(), value if equals else None)
    return params


def _folded(params: Mapping[str, str | None]) -> dict[str, str | None]:
    """Parameter values compare without regard to case (RFC 3261 §19.1.4)."""
    return {name: None if value is None else value.lower() for name, value in params.items()}


def _bare_number(number: str | None) -> str:
    """A number without its visual separators (RFC 3966 §5.1.1)."""
    return (number or "").lower().translate({ord(separator): None for separator in "-.()"})


def _parse(text: str) -> Uri:
    scheme, colon, rest = text.partition(":")
    if not colon or not rest or not scheme or scheme.strip(_SCHEME_CHARS) or not scheme[0].isalpha():
        raise RemoteProtocolError("malformed URI")
    if (
        not text.isascii()
        or not text.isprintable()
        or " " in text
        or "<" in text
        or ">" in text
        or '"' in text
    ):
        raise RemoteProtocolError("character that no URI may hold")
    scheme = scheme.lower()
    if scheme in {"sip", "sips"}:
        uri = _parse_sip(scheme, rest)
    elif scheme == "tel":
        number, semicolon, params = rest.partition(";")
        if not number:
            raise RemoteProtocolError("tel URI without a number")
        uri = Uri(scheme, _unescape(number), params=_parse_params(params) if semicolon else {})
    else:
        uri = Uri(scheme, opaque=rest)
    object.__setattr__(uri, "_text", text)
    return uri


def _parse_sip(scheme: str, rest: str) -> Uri:
    user: str | None = None
    password: str | None = None
    # A user part may hold ";" and "?", so the "@" is looked for first; everything behind it may not hold one.
    userinfo, at, remainder = rest.partition("@")
    if at:
        rest = remainder
        user, has_password, secret = userinfo.partition(":")
        if not user:
            raise RemoteProtocolError("URI with an empty user part")
        user = _unescape(user)
        password = _unescape(secret) if has_password else None
    rest, question, header_text = rest.partition("?")
    rest, semicolon, param_text = rest.partition(";")
    host, port = parse_host_port(rest)
    return Uri(
        scheme,
        user,
        host,
        port,
        _parse_params(param_text) if semicolon else {},
        _parse_headers(header_text) if question else (),
        password,
    )


_parse_memo = lru_cache(maxsize=MEMO_SIZE)(_parse)

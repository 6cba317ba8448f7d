"""From the text that names the callee to bare digits: URIs, escapes, separators and parameters go.

RFC 3966 (tel URI), RFC 3261 §19.1.6 (tel parts in a SIP user part), RFC 5031 (service URN). What is not
surely a dial string raises RemoteProtocolError; nothing is guessed.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import unquote

from proxy.errors import RemoteProtocolError

__all__ = [
    "MAX_DIGITS",
    "MAX_TEXT",
    "DialString",
    "emergency_readings",
    "read_dial_string",
    "without_later_keys",
]

MAX_TEXT = 512
"""Characters of the longest user part that is looked at."""
MAX_DIGITS = 40
"""Digits of the longest dial string: E.164 has 15, prefixes and private numbers take the rest."""

_SEPARATORS = frozenset(
    "-.()/ \t\u00a0\u00ad\u2007\u2009\u200b\u200e\u200f\u202a\u202c\u202d\u202f\u2060\ufeff"
)
_DASHES = frozenset("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d")
_SKIPPED = _SEPARATORS | _DASHES
_PLUS = frozenset("+\uff0b")
_PAUSES = frozenset(",pPwW")
"""Dialled by some phones after a number, with what is to be pressed later."""
_LATER_KEYS = re.compile(r"(?i),|(?<=[\d*#])[-.()/\s]*[pw](?=[-.()/\s\d*#,pw]*[\d*#])|;postd=")
"""Where what is to be pressed later begins: behind a pause, or a ``postd`` (RFC 2806 §2.2)."""
_SERVICE_CODE = re.compile(r"^(\d{0,3})(?:\*67|\*70|\*82|[*#]31#)")
"""Before a number, or between it and the outside prefix: hide or show the own number, no call waiting."""


@dataclass(frozen=True, slots=True)
class DialString:
    """Digits in ASCII with ``*`` and ``#``; a leading ``+`` means E.164."""

    digits: str
    context: str = ""
    """Digits (with ``+``) of a global ``phone-context``, or "" (RFC 3966 §5.1.5)."""
    host_only: bool = False
    """Came from a SIP URI without user part: only an emergency number may be believed."""


SOS = DialString("sos")
"""``urn:service:sos`` and its sub-services (RFC 5031 §4.2)."""


def read_dial_string(text: str) -> DialString:
    """Return the dial string in a Request-URI, tel URI, service URN or plain text.

    Raises RemoteProtocolError with the status that tells the caller: 404 for what is no number, 416 for a
    scheme that is none of ours, 484 for a number that is empty.
    """
    if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS:
        return DialString(text)
    text = text.strip()
    scheme, colon, rest = text.partition(":")
    scheme = scheme.lower() if colon else ""
    if scheme == "urn":
        return _service(rest)
    if scheme in {"sip", "sips"}:
        user, host_only = _user_part(rest)
    elif scheme == "tel":
        user, host_only = rest, False
    elif not colon:
        user, host_only = (_user_part(text)[0] if "@" in text else text), False
    else:
        raise RemoteProtocolError("the address is neither sip, tel nor an emergency service", status_hint=416)
    if len(user) > MAX_TEXT:
        raise RemoteProtocolError("the number is too long", status_hint=404)
    number, *params = user.split(";")
    number = _unescape(number)
    if number.lower() == "sos" or number.lower().startswith("sos."):
        return SOS
    return DialString(_digits(number), _context(params), host_only)


def emergency_readings(text: str) -> tuple[str, ...]:
    """Return the digit strings to be held against the emergency numbers, ``sos`` for a service URN.

    Never raises, and reads the user part alone: nothing that stands around a number, behind it or before it
    (host, parameters, a ``phone-context``, ``#``, ``*``, pauses, ``*67``) may keep an emergency call from
    being known as one. What is no emergency number is then judged strictly, by `read_dial_string`.
    """
    if text.isascii() and text.isdigit():
        return (text[: MAX_DIGITS + 1],)
    scheme, colon, rest = text.strip().partition(":")
    scheme = scheme.lower() if colon else ""
    if scheme == "urn":
        name = rest[:MAX_TEXT].partition(";")[0].strip().lower()
        return (SOS.digits,) if name == "service:sos" or name.startswith("service:sos.") else ()
    if scheme not in {"", "sip", "sips", "tel"}:
        return ()
    user, at, _ = (rest if colon else scheme or text).partition("@")
    if not at and scheme.startswith("sip"):
        user = user.partition("?")[0]
    number = user[:MAX_TEXT].partition(";")[0].partition(":")[0]
    number = unquote(number, errors="replace").strip()
    if number.lower() == SOS.digits or number.lower().startswith(f"{SOS.digits}."):
        return (SOS.digits,)
    digits = _leading_digits(number).rstrip("*#")
    bare = _SERVICE_CODE.sub(r"\1", digits)
    return (digits,) if bare == digits else (digits, bare)


def without_later_keys(text: str) -> str:
    """Return a text that names no number up to what it would have pressed later: that may be a code."""
    plain = unquote(text[:MAX_TEXT], errors="replace")
    found = _LATER_KEYS.search(plain)
    if found is None:
        return text
    return "".join(sign for sign in plain[: found.end()] if sign.isprintable())


def _leading_digits(text: str) -> str:
    """Return the digits up to the first pause; "" when anything else stands among them."""
    collected: list[str] = []
    for character in text:
        if character in "0123456789*#":
            collected.append(character)
        elif character in _PLUS and not collected:
            collected.append("+")
        elif character in _PAUSES and collected:
            break
        elif character.isdecimal():
            collected.append(str(unicodedata.decimal(character)))
        elif character not in _SKIPPED:
            return ""
    return "".join(collected)


def _service(rest: str) -> DialString:
    name = rest.partition(";")[0].strip().lower()
    if name == "service:sos" or name.startswith("service:sos."):
        return SOS
    raise RemoteProtocolError("the service is not an emergency service", status_hint=404)


def _user_part(rest: str) -> tuple[str, bool]:
    """Return the user part without password, and whether there was only a host (RFC 3261 §19.1.1)."""
    user, at, host = rest.partition("@")
    if not at:
        return rest.partition(";")[0].partition("?")[0].partition(":")[0], True
    if "@" in host:
        raise RemoteProtocolError("the address has more than one @", status_hint=404)
    return user.partition(":")[0], False


def _unescape(text: str) -> str:
    if "%" not in text:
        return text
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise RemoteProtocolError("the number holds escapes that are not UTF-8", status_hint=404) from None


def _context(params: list[str]) -> str:
    """Return the digits of a global phone-context; a domain as context says nothing about the digits."""
    found = ""
    for param in params:
        name, _, value = param.partition("=")
        if _unescape(name).strip().lower() != "phone-context":
            continue
        if found:
            raise RemoteProtocolError("the number has more than one phone-context", status_hint=404)
        found = _unescape(value).strip().strip('"')
        if not found:
            raise RemoteProtocolError("the phone-context is empty", status_hint=404)
    return _digits(found) if found[:1] in _PLUS else ""


def _digits(text: str) -> str:
    """Return the ASCII digits of a text with visual separators (RFC 3966 §5.1.1) gone."""
    collected: list[str] = []
    for character in text:
        if character in "0123456789*#":
            collected.append(character)
        elif character in _SKIPPED:
            continue
        elif character in _PLUS and not collected:
            collected.append("+")
        elif character.isdecimal():
            collected.append(str(unicodedata.decimal(character)))
        else:
            raise RemoteProtocolError("the number holds characters that can't be dialled", status_hint=404)
    if not collected or collected == ["+"]:
        raise RemoteProtocolError("the number is empty", status_hint=484)
    if len(collected) > MAX_DIGITS:
        raise RemoteProtocolError("the number is too long", status_hint=404)
    return "".join(collected)

"""Digits in SIP INFO bodies (RFC 6086 §1 calls this use legacy; every phone has it).

Two body types are about: ``application/dtmf-relay``, lines of ``Signal=5`` and ``Duration=160``, and
``application/dtmf``, the bare digit. Neither has an RFC, so phones differ in spaces, case, line ends and in
how they write ``*`` and ``#``. Errors never quote a body: it holds a digit of somebody's code.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.dtmf.digits import DIGITS
from proxy.errors import LocalProtocolError, RemoteProtocolError

__all__ = ["DTMF", "DTMF_RELAY", "InfoDigit", "build_info", "parse_info"]

DTMF_RELAY = "application/dtmf-relay"
DTMF = "application/dtmf"

DEFAULT_DURATION_MS = 160
_MAX_BODY = 512
_MAX_DURATION_MS = 10_000

_SPELLINGS = (
    {digit: digit for digit in DIGITS}
    | {str(code): DIGITS[code] for code in range(10, 16)}  # the event codes of * # A B C D
    | {"STAR": "*", "POUND": "#", "HASH": "#"}
)
_FLASH = frozenset({"16", "!", "FLASH", "HF", "HOOKFLASH"})
"""A hook flash is well formed, but no digit."""


@dataclass(frozen=True, slots=True)
class InfoDigit:
    """One digit that a phone reported in an INFO."""

    digit: str = field(repr=False)
    """One of `proxy.dtmf.digits.DIGITS`."""
    duration_ms: int


def parse_info(content_type: str, body: bytes) -> InfoDigit | None:
    """Read the digit of an INFO; None for a hook flash, which is to be answered 200 and forgotten.

    Raises `RemoteProtocolError`: 415 for any other content type, 400 for a body that names no digit.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in {DTMF_RELAY, DTMF}:
        raise RemoteProtocolError("INFO with a body that is no DTMF", status_hint=415)
    if len(body) > _MAX_BODY:
        raise RemoteProtocolError("DTMF INFO body is too long", status_hint=400)
    text = body.decode("latin-1")
    signal, duration = _fields(text)
    if not signal and media_type == DTMF:
        signal = text.strip().upper()
    if signal in _FLASH:
        return None
    digit = _SPELLINGS.get(signal)
    if digit is None:
        raise RemoteProtocolError("DTMF INFO body without a known signal", status_hint=400)
    return InfoDigit(digit, _duration(duration))


def _fields(text: str) -> tuple[str, str]:
    """Return the values of the first Signal and Duration lines, in upper case, "" where there is none."""
    values: dict[str, str] = {}
    for line in text.replace("\r", "\n").split("\n"):
        name, separator, value = line.partition("=")
        if not separator:
            name, _, value = line.partition(":")
        values.setdefault(name.strip().lower(), value.strip().strip('"').upper())
    return values.get("signal", ""), values.get("duration", "")


def _duration(text: str) -> int:
    """Read a duration in ms; one that is missing or senseless does not make the digit worth less."""
    if text.isascii() and text.isdecimal() and len(text) <= 5:
        return min(int(text), _MAX_DURATION_MS) or DEFAULT_DURATION_MS
    return DEFAULT_DURATION_MS


def build_info(
    digit: str, duration_ms: int = DEFAULT_DURATION_MS, *, content_type: str = DTMF_RELAY
) -> bytes:
    """Write the INFO body for one digit. Raises `LocalProtocolError` for what is no digit or no such type."""
    if len(digit) != 1 or digit not in DIGITS:
        raise LocalProtocolError("not one of the sixteen DTMF digits")
    if content_type == DTMF_RELAY:
        return f"Signal={digit}\r\nDuration={duration_ms}\r\n".encode("ascii")
    if content_type == DTMF:
        return digit.encode("ascii")
    raise LocalProtocolError(f"{content_type} is no DTMF body")

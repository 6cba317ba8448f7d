"""SRTP keys in SDP: ``a=crypto`` lines and which of them is taken (RFC 4568; RFC 6188 §7, RFC 7714 §14).

A key belongs to whoever wrote it: its writer encrypts with it. The answerer takes one offered line, repeats
its tag and suite and puts a key of its own. Keys come from an injected source; nothing here shows one.
"""

from __future__ import annotations

import base64
import binascii
import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from proxy.errors import RemoteProtocolError

__all__ = [
    "DEFAULT_SUITES",
    "CryptoAttribute",
    "KeySource",
    "SrtpPolicy",
    "accept_crypto",
    "answer_crypto",
    "offer_crypto",
    "parse_crypto",
    "read_crypto",
]

KeySource = Callable[[int], bytes]
"""Returns as many random bytes as asked for, fit for keys."""

_KEY_LENGTHS = {
    "AES_CM_128_HMAC_SHA1_80": 30,
    "AES_CM_128_HMAC_SHA1_32": 30,
    "AES_256_CM_HMAC_SHA1_80": 46,
    "AES_256_CM_HMAC_SHA1_32": 46,
    "AEAD_AES_128_GCM": 28,
    "AEAD_AES_256_GCM": 44,
}
"""Octets of master key and salt together."""

DEFAULT_SUITES = (
    "AES_CM_128_HMAC_SHA1_80",
    "AEAD_AES_128_GCM",
    "AES_256_CM_HMAC_SHA1_80",
    "AES_CM_128_HMAC_SHA1_32",
)
"""What the gate takes, and offers in this order: first the one that everybody knows (RFC 4568 §6.2.1)."""

_LINES = 16
"""``a=crypto`` lines of one stream that are read; phones write one to eight."""
_LENGTH = 512
"""Characters of one such line."""
_MKI_LENGTH = 16
"""Octets of the longest master key identifier that is taken (the grammar allows 128, §9.2)."""
_TAG_DIGITS = 9


class SrtpPolicy(enum.Enum):
    """Whether one side of the gate speaks SRTP."""

    OFF = "off"
    """Plain RTP only."""
    OPTIONAL = "optional"
    """SRTP with a peer that takes it, over RTP/SAVP or, as many phones ask for it, over RTP/AVP."""
    REQUIRED = "required"
    """SRTP or no call (488)."""


@dataclass(frozen=True, slots=True)
class CryptoAttribute:
    """One ``a=crypto`` line that the gate can use."""

    tag: int
    suite: str
    key: bytes = field(repr=False)
    """Master key then salt."""
    mki: bytes = field(default=b"", repr=False)
    """Master key identifier that its writer puts into every packet; empty for none."""

    @property
    def line(self) -> str:
        """The line as the gate writes it: no lifetime, no identifier, no session parameters (§6)."""
        return f"a=crypto:{self.tag} {self.suite} inline:{base64.b64encode(self.key).decode()}"


def parse_crypto(value: str) -> CryptoAttribute | None:
    """Read what follows ``a=crypto:`` (§9.1).

    None for a line that is malformed or asks for what the gate does not do: an unknown suite, several keys, a
    key derivation rate, unencrypted or unauthenticated streams, FEC, unknown mandatory parameters.
    """
    fields = value.split() if len(value) <= _LENGTH else []
    if len(fields) < 3 or not _is_number(fields[0], _TAG_DIGITS) or not _are_harmless(fields[3:]):
        return None
    tag, suite, parameters = int(fields[0]), fields[1], fields[2]
    method, _, inline = parameters.partition(":")
    if method.lower() != "inline" or suite not in _KEY_LENGTHS:
        return None
    encoded, *extras = inline.split("|")
    try:
        # Some phones leave the padding out that RFC 4648 §4 asks for.
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    mki = _identifier(extras)
    if len(key) != _KEY_LENGTHS[suite] or mki is None:
        return None
    return CryptoAttribute(tag, suite, key, mki)


def _are_harmless(parameters: Sequence[str]) -> bool:
    """Say whether session parameters may be passed over: window hints (§6.3.7), those with "-" (§6.3.8)."""
    return all(
        parameter[0] == "-"
        or (parameter[:4] == "WSH=" and _is_number(parameter[4:], 4) and int(parameter[4:]) >= 64)
        for parameter in parameters
    )


def _identifier(extras: Sequence[str]) -> bytes | None:
    """Return the identifier of ``|lifetime|MKI:length`` (§6.1), b"" without one, None when malformed.

    A lifetime binds its sender to change the key in time; the gate need not count along.
    """
    mki = b""
    lifetime_seen = False
    for extra in extras:
        number, colon, length = extra.partition(":")
        if not colon:
            digits = extra.removeprefix("2^")
            if lifetime_seen or mki or not _is_number(digits, 15) or int(digits) == 0:
                return None
            lifetime_seen = True
            continue
        if mki or not _is_number(number, 39) or not _is_number(length, 3):
            return None
        size = int(length)
        if not 1 <= size <= _MKI_LENGTH or int(number) >> (8 * size):
            return None
        mki = int(number).to_bytes(size, "big")
    return mki


def _is_number(text: str, digits: int) -> bool:
    # isdecimal alone would let other scripts' digits through; the length bound keeps int() cheap.
    return text.isascii() and text.isdecimal() and len(text) <= digits


def read_crypto(values: Sequence[str]) -> tuple[CryptoAttribute, ...]:
    """Return the usable ones among a stream's ``a=crypto`` values, in the writer's order.

    Of several lines with one tag only the first counts: a tag is unique (§4.1).
    """
    taken: dict[int, CryptoAttribute] = {}
    for value in values[:_LINES]:
        crypto = parse_crypto(value)
        if crypto is not None:
            taken.setdefault(crypto.tag, crypto)
    return tuple(taken.values())


def answer_crypto(
    offered: Sequence[CryptoAttribute],
    suites: Sequence[str],
    keys: KeySource,
    *,
    current: tuple[CryptoAttribute, CryptoAttribute] | None = None,
) -> tuple[CryptoAttribute, CryptoAttribute] | None:
    """Choose an offered line; return the gate's answer and that line, or None when none will do (§5.1.2).

    The offerer's preference decides among the ``suites`` that the gate takes (§4.1). ``current`` is what is
    spoken so far: while the peer keeps its key the gate keeps its own; once it changes both begin anew
    (§7.1.4).
    """
    for theirs in offered:
        if theirs.suite not in suites:
            continue
        if current is not None and (theirs.suite, theirs.key) == (current[1].suite, current[1].key):
            return CryptoAttribute(theirs.tag, theirs.suite, current[0].key), theirs
        return CryptoAttribute(theirs.tag, theirs.suite, keys(_KEY_LENGTHS[theirs.suite])), theirs
    return None


def offer_crypto(
    suites: Sequence[str], keys: KeySource, *, current: CryptoAttribute | None = None
) -> tuple[CryptoAttribute, ...]:
    """Return the lines of an offer, one per suite in the gate's order, each with a key of its own (§5.1.1).

    In a later offer of a dialog ``current`` is the gate's line that is in force; it alone is offered again.
    """
    if current is not None:
        return (current,)
    return tuple(
        CryptoAttribute(tag, suite, keys(_KEY_LENGTHS[suite])) for tag, suite in enumerate(suites, start=1)
    )


def accept_crypto(
    offered: Sequence[CryptoAttribute], answered: Sequence[CryptoAttribute]
) -> tuple[CryptoAttribute, CryptoAttribute]:
    """Match an answer's line with the offered one of its tag; return the gate's and the peer's (§5.1.3).

    Raises `RemoteProtocolError` 488 for an answer that names none of the offered, or several.
    """
    if len(answered) == 1:
        theirs = answered[0]
        for ours in offered:
            if (ours.tag, ours.suite) == (theirs.tag, theirs.suite):
                return ours, theirs
    raise RemoteProtocolError(
        "SDP answer takes none of the offered crypto lines (RFC 4568 §5.1.3)", status_hint=488
    )

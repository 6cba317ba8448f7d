"""Octets changed at random, for who has no coverage-guided fuzzer at hand: the short form in the tests."""

from __future__ import annotations

from random import Random

__all__ = ["mutated"]

LONGEST = 8_192
TOKENS = (
    *(b"\r\n", b"\r\n ", b"\n", b"\0", b'"', b"\\", b"<", b">", b";", b",", b"=", b"@", b"[", b"]", b":"),
    *(b"%", b"%00", b"%zz", b"--", b"-1", b"65536", b"4294967296", b"9" * 40, b"\xff", "４".encode(), b"("),
)
"""What the grammars of SIP and SDP turn on."""


def mutated(seed: bytes, random: Random) -> bytes:
    """Return ``seed`` with a few changes: octets, tokens, pieces cut out, moved and doubled."""
    octets = bytearray(seed)
    for _ in range(random.randint(1, 8)):
        at = random.randint(0, len(octets))
        to = min(len(octets), at + random.randint(1, 40))
        match random.randrange(6):
            case 0:
                octets[at:at] = random.choice(TOKENS)
            case 1:
                octets[at:to] = random.choice(TOKENS)
            case 2:
                del octets[at:to]
            case 3:
                place = random.randint(0, len(octets))
                octets[place:place] = octets[at:to] * random.choice((1, 1, 1, 50))
            case 4 if at < len(octets):
                octets[at] = random.randrange(256)
            case _ if at < len(octets):
                octets[at] ^= 1 << random.randrange(8)
        del octets[LONGEST:]
    return bytes(octets)

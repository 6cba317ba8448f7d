"""Where branches, tags and Call-IDs come from: injected, so that the core never asks for randomness.

RFC 3261 §8.1.1.4 (Call-ID), §8.1.1.7 (branch), §19.3 (tags).
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Protocol

from proxy.sip.via import MAGIC_COOKIE

__all__ = ["IdSource", "KeyedIds"]


class IdSource(Protocol):
    """Makes the identifiers of one endpoint."""

    def branch(self) -> str:
        """Return a branch never used before, magic cookie included (§8.1.1.7)."""
        ...

    def tag(self) -> str:
        """Return a tag with at least 32 bits of randomness (§19.3)."""
        ...

    def call_id(self) -> str:
        """Return a Call-ID never used before (§8.1.1.4)."""
        ...

    def derived_tag(self, material: str) -> str:
        """Return always the same tag for the same material, unguessable from outside.

        A stateless UAS must give retransmissions of one request the same To tag (§8.2.7).
        """
        ...

    def retry_after(self) -> int:
        """Return 0 to 10 seconds for the Retry-After of an overlapping INVITE (§14.2)."""
        ...

    def glare_wait(self, *, owns_call_id: bool) -> float:
        """Return how many seconds to wait after a 491 (§14.1): 2.1 to 4 for the owner of the Call-ID, 0 to 2
        for the other side, in units of 10 ms."""
        ...

    def rseq(self) -> int:
        """Return 1 to 2**31 - 1 for the first RSeq of an INVITE (RFC 3262 §3)."""
        ...


class KeyedIds:
    """Identifiers from a keyed hash over a counter: unguessable without the key, never repeated with it.

    ``key`` is 16 to 64 random bytes, fresh at every start of the process.
    """

    __slots__ = ("_counter", "_key", "_pool")

    def __init__(self, key: bytes) -> None:
        if not 16 <= len(key) <= 64:
            raise ValueError("the key of the id source must be 16 to 64 bytes long")
        self._key = key
        self._counter = 0
        self._pool: list[str] = []

    def _next(self) -> str:
        # One hash makes four identifiers of 128 bits each: the hash costs more than the cutting.
        pool = self._pool
        if not pool:
            self._counter += 1
            text = blake2b(b"id%d" % self._counter, digest_size=64, key=self._key).hexdigest()
            pool += (text[:32], text[32:64], text[64:96], text[96:])
        return pool.pop()

    def branch(self) -> str:
        """Return a branch of 128 random bits behind the magic cookie."""
        return MAGIC_COOKIE + self._next()

    def tag(self) -> str:
        """Return a tag of 64 random bits."""
        return self._next()[:16]

    def call_id(self) -> str:
        """Return a Call-ID of 128 random bits without a host part, so that it says nothing about the gate."""
        return self._next()

    def derived_tag(self, material: str) -> str:
        """Return the tag that belongs to this material under this key."""
        return blake2b(material.encode("utf-8", "surrogateescape"), digest_size=8, key=self._key).hexdigest()

    def retry_after(self) -> int:
        """Return 0 to 10 seconds, evenly enough."""
        return int(self._next()[:8], 16) % 11

    def glare_wait(self, *, owns_call_id: bool) -> float:
        """Return 2.1 to 4 or 0 to 2 seconds, evenly enough."""
        chance = int(self._next()[:8], 16)
        return (210 + chance % 191) / 100 if owns_call_id else chance % 201 / 100

    def rseq(self) -> int:
        """Return a number that nobody can guess (RFC 3262 §3: SHOULD be random)."""
        return int(self._next()[:8], 16) % (2**31 - 1) + 1

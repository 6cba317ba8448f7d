"""Loops: a call that comes back to the gate that sent it (RFC 3261 §16.3 step 4, §8.2.2.2).

A B2BUA's Via ends at the next B2BUA, so each INVITE of the gate carries a token in a header of its own, which
proxies leave alone and most other equipment passes. A call may well come back on purpose, out over a trunk
and in again to a phone, so only the third return is a loop. Where equipment takes the header away,
Max-Forwards bounds the loop.

The token is a random-looking number and a keyed hash of it and of how often the call has passed here, so it
tells nobody anything, and nobody can make one. Who copies one that went by shortens the way of its own call
only: a token speaks about the INVITE that it stands in, and the gate remembers none.
"""

from __future__ import annotations

from hashlib import blake2s
from hmac import compare_digest

from proxy.sip.headers import Headers

__all__ = ["LOOP_HEADER", "LoopGuard"]

LOOP_HEADER = "X-Tollgate-Loop"

_PASSES = 3
"""So often one call may leave the gate."""
_KEPT = 8
"""Tokens of other gates on the way that are passed on: a call crosses no more of them."""
_TOKEN_LENGTH = 32


class LoopGuard:
    """Marks calls on their way out and knows them when they come back."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        """``key``: random octets of this process."""
        self._key = key

    def passes(self, headers: Headers) -> int:
        """Return how often a call has left this gate already."""
        found = (self._count(token) for token in _tokens(headers))
        return max(found, default=0)

    def is_loop(self, headers: Headers) -> bool:
        """Tell whether a call has come back too often."""
        return self.passes(headers) >= _PASSES

    def mark(self, headers: Headers, call_id: str) -> tuple[str, str]:
        """Return the header for the INVITE that goes on with a call; ``call_id`` is this gate's name for
        it."""
        tokens = _tokens(headers)
        passes = 0
        others: list[str] = []
        for token in tokens:
            count = self._count(token)
            passes = max(passes, count)
            if not count:
                others.append(token)
        nonce = blake2s(call_id.encode(), key=self._key, person=b"call", digest_size=8).hexdigest()
        own = nonce + self._seal(nonce, min(passes + 1, _PASSES))
        return LOOP_HEADER, ", ".join((*others[-_KEPT:], own))

    def _count(self, token: str) -> int:
        nonce, seal = token[:16], token[16:]
        for passes in range(1, _PASSES + 1):
            if compare_digest(seal, self._seal(nonce, passes)):
                return passes
        return 0

    def _seal(self, nonce: str, passes: int) -> str:
        text = f"{passes}{nonce}".encode()
        return blake2s(text, key=self._key, person=b"loop", digest_size=8).hexdigest()


def _tokens(headers: Headers) -> list[str]:
    """Return what can be a token at all; anything else in that header is dropped."""
    found = [token.strip() for line in headers.get_all(LOOP_HEADER) for token in line.split(",", 64)]
    return [token for token in found if len(token) == _TOKEN_LENGTH and set(token) <= set("0123456789abcdef")]

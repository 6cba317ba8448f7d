"""The challenging side of digest authentication: nonces, replay, verdict (RFC 7616 §3.3, §5; RFC 8760).

A nonce carries its expiry and a MAC over it and the packet's source, so that strangers' challenges cost no
memory. Only nonces that proved good are remembered, with the highest nonce-count each was used with.
"""

from __future__ import annotations

import enum
import hmac
from collections import Counter
from collections.abc import Iterable
from typing import Final, Protocol

from proxy.errors import RemoteProtocolError
from proxy.sip.digest import Algorithm, Challenge, Credentials, Ha1, digest_response
from proxy.sip.uri import Uri

__all__ = ["DigestServer", "NonceCounts", "RecentNonceCounts", "Verdict"]

_MAC_DIGITS: Final = 32
_NOBODY: Final = {algorithm: Ha1(algorithm, algorithm.hash("")) for algorithm in Algorithm}
"""HA1s as long as real ones, to compare with in place of those that are not there."""


class Verdict(enum.Enum):
    """What credentials are worth."""

    ACCEPTED = "accepted"
    STALE = "stale"
    """The password is right, but the nonce is not (any more): challenge again with stale=true."""
    REJECTED = "rejected"
    """Wrong or unusable: challenge again."""


class NonceCounts(Protocol):
    """Remembers how far each nonce has been used (RFC 7616 §3.4 nc)."""

    def use(self, nonce: str, count: int, *, user: str, expires: float, now: float) -> bool:
        """Note a use by who has proved to be ``user``; False for a count that is not above all before it.
        Times are in seconds.
        """


class _Second:
    """The nonces that expire in one second."""

    __slots__ = ("counts", "of_users")

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.of_users: Counter[str] = Counter()


class RecentNonceCounts:
    """`NonceCounts` in memory, bounded. A live nonce is never forgotten, since its requests could be
    replayed: a user who has too many has no further one accepted, however fresh, until some of those are
    over. That is who has ``most`` of them, and when there are ``limit`` in all, who has a ``few``. All others
    have room, which bounds the memory too: there are only so many users.

    Nonces are kept by the second in which they expire, so that old ones go in whole seconds' worth: however
    many phones register at once, no request pays for looking at the nonces of all others.
    """

    __slots__ = ("_by_second", "_few", "_kept", "_limit", "_most", "_of_users")

    def __init__(self, limit: int = 400_000, *, most: int = 40_000, few: int = 100) -> None:
        self._limit = limit
        self._most = most
        self._few = few
        self._by_second: dict[int, _Second] = {}
        self._of_users: Counter[str] = Counter()
        self._kept = 0

    def use(self, nonce: str, count: int, *, user: str, expires: float, now: float) -> bool:
        """Note a use; see `NonceCounts.use`. One nonce always comes with the same ``expires``."""
        second = self._by_second.get(int(expires))
        known = None if second is None else second.counts.get(nonce)
        if second is None or (known is None and not self._has_room(user)):
            self._forget_expired(now)
            if not self._has_room(user):
                return False
            second = self._by_second.setdefault(int(expires), _Second())
        if known is None:
            self._kept += 1
            self._of_users[user] += 1
            second.of_users[user] += 1
        elif count <= known:
            return False
        second.counts[nonce] = count
        return True

    def _has_room(self, user: str) -> bool:
        return self._of_users[user] < (self._most if self._kept < self._limit else self._few)

    def _forget_expired(self, now: float) -> None:
        for at in [at for at in self._by_second if at <= now]:
            second = self._by_second.pop(at)
            self._kept -= len(second.counts)
            for user, nonces in second.of_users.items():
                left = self._of_users.pop(user) - nonces
                if left:
                    self._of_users[user] = left

    def __len__(self) -> int:
        return self._kept


class DigestServer:
    """Challenges for one realm and judges the answers.

    ``key`` is secret and lasts as long as the process; ``lifetime`` of a nonce is in seconds. ``now`` is
    seconds of the monotonic clock throughout.
    """

    __slots__ = ("_counts", "_key", "_lifetime", "algorithms", "realm")

    def __init__(
        self,
        realm: str,
        key: bytes,
        counts: NonceCounts,
        *,
        lifetime: float = 300.0,
        algorithms: Iterable[Algorithm] = Algorithm,
    ) -> None:
        self.realm = realm
        self.algorithms = tuple(algorithms)
        self._key = key
        self._counts = counts
        self._lifetime = lifetime

    def challenges(self, *, source: str, salt: str, now: float, stale: bool = False) -> list[str]:
        """Make the WWW-Authenticate values, strongest first (RFC 8760 §2.4), all with one fresh nonce.

        ``source`` is the sender's IP address; ``salt`` a token from the identifier source, so that two
        requests of one moment get two nonces.
        """
        nonce = self._issue(source, salt, now)
        return [str(Challenge(self.realm, nonce, algorithm, stale=stale)) for algorithm in self.algorithms]

    def verify(
        self, credentials: Credentials, *, method: str, uri: str, ha1s: Iterable[Ha1], source: str, now: float
    ) -> Verdict:
        """Judge credentials (RFC 7616 §3.4.6). ``ha1s`` are the user's, empty for an unknown one.

        ``uri`` is the Request-URI: credentials that name one number place no call to another. Clients that
        name a host only are let through, since nothing can change what they signed either.
        """
        if credentials.realm != self.realm or credentials.algorithm not in self.algorithms:
            return Verdict.REJECTED
        if credentials.qop != "auth" or not credentials.cnonce or not credentials.nonce_count:
            # Every challenge of ours offers qop; without it nothing would stop a replay.
            return Verdict.REJECTED
        ha1 = next((ha1 for ha1 in ha1s if ha1.algorithm is credentials.algorithm), None)
        # An unknown user costs the same time as a known one.
        nobody = _NOBODY[credentials.algorithm]
        expected = digest_response(nobody if ha1 is None else ha1, credentials, method)
        response = credentials.response.encode("utf-8", "surrogateescape")
        matches = hmac.compare_digest(expected.encode(), response)
        if ha1 is None or not matches or not _covers(credentials.uri, uri):
            return Verdict.REJECTED
        expires = self._expiry(credentials.nonce, source)
        if expires is None or expires <= now:
            return Verdict.STALE
        nonce, count, user = credentials.nonce, credentials.nonce_count, credentials.username
        if not self._counts.use(nonce, count, user=user, expires=expires, now=now):
            return Verdict.STALE
        return Verdict.ACCEPTED

    def was_given(self, nonce: str, source: str) -> bool:
        """Tell whether a nonce is one of ours for this source, however old."""
        return self._expiry(nonce, source) is not None

    def _issue(self, source: str, salt: str, now: float) -> str:
        stamp = f"{int(now + self._lifetime):x}.{salt}"
        return f"{stamp}.{self._mac(stamp, source)}"

    def _expiry(self, nonce: str, source: str) -> float | None:
        """Read the expiry of a nonce of ours; None for any other, or one that was given to another source."""
        stamp, _, mac = nonce.rpartition(".")
        if not nonce.isascii() or not hmac.compare_digest(mac, self._mac(stamp, source)):
            return None
        return float(int(stamp.partition(".")[0], 16))

    def _mac(self, stamp: str, source: str) -> str:
        return hmac.digest(self._key, f"{stamp} {source}".encode(), "sha256").hex()[:_MAC_DIGITS]

    def __repr__(self) -> str:
        return f"DigestServer({self.realm!r})"


def _covers(signed: str, requested: str) -> bool:
    """Say whether a digest's uri is meant for the Request-URI: no other text, or no other user part."""
    if signed == requested:
        return True
    try:
        target = Uri.parse(signed)
        return target.is_sip and (target.user is None or target.user == Uri.parse(requested).user)
    except RemoteProtocolError:
        return False

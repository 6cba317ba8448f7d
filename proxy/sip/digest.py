"""Digest authentication: challenges, credentials and their arithmetic (RFC 7616, RFC 8760, RFC 3261 §22).

Pure values and functions, for both ends: the gate challenges with them (`digest_server`) and answers the
challenges of a trunk. Nothing here keeps or prints a password or an HA1.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from proxy.errors import RemoteProtocolError
from proxy.sip.grammar import quote, split_list, unquote

__all__ = [
    "Algorithm",
    "Challenge",
    "Credentials",
    "Ha1",
    "answer_challenge",
    "choose_challenge",
    "digest_response",
    "find_credentials",
]


class Algorithm(enum.Enum):
    """Hash algorithms in the order of preference (RFC 8760 §2.2); the value is the name on the wire."""

    SHA256 = "SHA-256"
    MD5 = "MD5"

    def hash(self, text: str) -> str:
        """Give the lower-case hexadecimal digest of the text."""
        data = text.encode("utf-8", "surrogateescape")
        if self is Algorithm.SHA256:
            return hashlib.sha256(data).hexdigest()
        return hashlib.md5(data, usedforsecurity=False).hexdigest()

    @staticmethod
    def named(name: str) -> Algorithm | None:
        """Find an algorithm by its name on the wire; None for one that is not known here."""
        return _ALGORITHMS.get(name.upper())


_ALGORITHMS = {algorithm.value: algorithm for algorithm in Algorithm}


@dataclass(frozen=True, slots=True)
class Ha1:
    """H(username:realm:password), which proves the password without holding it (RFC 7616 §3.4.2)."""

    algorithm: Algorithm
    digest: str = field(repr=False)
    """Lower-case hexadecimal."""

    @staticmethod
    def of(algorithm: Algorithm, username: str, realm: str, password: str) -> Ha1:
        """Compute it from the password."""
        return Ha1(algorithm, algorithm.hash(f"{username}:{realm}:{password}"))


@dataclass(frozen=True, slots=True)
class Challenge:
    """One WWW-Authenticate or Proxy-Authenticate value (RFC 7616 §3.3)."""

    realm: str
    nonce: str
    algorithm: Algorithm | None = Algorithm.MD5
    """None for an algorithm that is not known here: such a challenge can't be answered."""
    qop: tuple[str, ...] = ("auth",)
    """Empty in challenges of RFC 2069."""
    opaque: str | None = None
    stale: bool = False

    @staticmethod
    def parse(text: str) -> Challenge | None:
        """Parse a header value; None for another scheme, `RemoteProtocolError` (400) when malformed."""
        params = _parse_auth_params(text)
        if params is None:
            return None
        qop = tuple(
            word for word in (part.strip().lower() for part in params.get("qop", "").split(",")) if word
        )
        return Challenge(
            realm=_required(params, "realm"),
            nonce=_required(params, "nonce"),
            algorithm=Algorithm.named(params.get("algorithm", "MD5")),
            qop=qop,
            opaque=params.get("opaque"),
            stale=params.get("stale", "").lower() == "true",
        )

    def __str__(self) -> str:
        parts = [f"realm={quote(self.realm)}", f"nonce={quote(self.nonce)}"]
        if self.opaque is not None:
            parts.append(f"opaque={quote(self.opaque)}")
        if self.stale:
            parts.append("stale=true")
        if self.algorithm is not None:
            parts.append(f"algorithm={self.algorithm.value}")
        if self.qop:
            parts.append(f'qop="{",".join(self.qop)}"')
        return "Digest " + ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Credentials:
    """One Authorization or Proxy-Authorization value (RFC 7616 §3.4)."""

    username: str
    realm: str
    nonce: str
    uri: str
    response: str = field(repr=False)
    algorithm: Algorithm | None = Algorithm.MD5
    """None for an algorithm that is not known here."""
    cnonce: str | None = None
    opaque: str | None = None
    qop: str | None = None
    nonce_count: int | None = None

    @staticmethod
    def parse(text: str) -> Credentials | None:
        """Parse a header value; None for another scheme, `RemoteProtocolError` (400) when malformed."""
        params = _parse_auth_params(text)
        if params is None:
            return None
        count = params.get("nc")
        qop = params.get("qop")
        return Credentials(
            username=_required(params, "username"),
            realm=_required(params, "realm"),
            nonce=_required(params, "nonce"),
            uri=_required(params, "uri"),
            response=_required(params, "response").lower(),
            algorithm=Algorithm.named(params.get("algorithm", "MD5")),
            cnonce=params.get("cnonce"),
            opaque=params.get("opaque"),
            qop=None if qop is None else qop.lower(),
            nonce_count=None if count is None else _parse_count(count),
        )

    def __str__(self) -> str:
        parts = [
            f"username={quote(self.username)}",
            f"realm={quote(self.realm)}",
            f"nonce={quote(self.nonce)}",
            f"uri={quote(self.uri)}",
            f"response={quote(self.response)}",
        ]
        if self.algorithm is not None:
            parts.append(f"algorithm={self.algorithm.value}")
        if self.cnonce is not None:
            parts.append(f"cnonce={quote(self.cnonce)}")
        if self.opaque is not None:
            parts.append(f"opaque={quote(self.opaque)}")
        if self.qop is not None:
            parts.append(f"qop={self.qop}")
        if self.nonce_count is not None:
            parts.append(f"nc={self.nonce_count:08x}")
        return "Digest " + ", ".join(parts)


def digest_response(ha1: Ha1, credentials: Credentials, method: str) -> str:
    """Compute what ``response`` has to be (RFC 7616 §3.4.1); of RFC 2069 kind where there is no qop."""
    hashed = ha1.algorithm.hash
    ha2 = hashed(f"{method}:{credentials.uri}")
    if credentials.qop is None:
        return hashed(f"{ha1.digest}:{credentials.nonce}:{ha2}")
    count = f"{credentials.nonce_count or 0:08x}"
    return hashed(f"{ha1.digest}:{credentials.nonce}:{count}:{credentials.cnonce}:{credentials.qop}:{ha2}")


def find_credentials(values: Iterable[str], realm: str) -> Credentials | None:
    """Find the credentials for a realm among the header's lines.

    Other schemes and malformed values count as none: the answer to them is a new challenge (RFC 4475 §3.3.7).
    """
    for value in values:
        try:
            credentials = Credentials.parse(value)
        except RemoteProtocolError:
            continue
        if credentials is not None and credentials.realm == realm:
            return credentials
    return None


def choose_challenge(values: Iterable[str]) -> Challenge | None:
    """Choose the topmost challenge that can be answered here (RFC 8760 §2.4), or None."""
    for value in values:
        try:
            challenge = Challenge.parse(value)
        except RemoteProtocolError:
            continue
        if challenge is None or challenge.algorithm is None:
            continue
        if not challenge.qop or "auth" in challenge.qop:
            return challenge
    return None


def answer_challenge(
    challenge: Challenge,
    *,
    method: str,
    uri: str,
    username: str,
    password: str,
    cnonce: str,
    nonce_count: int = 1,
) -> Credentials:
    """Answer a challenge as a UAC (RFC 3261 §22.2).

    ``cnonce`` is fresh from the identifier source; ``nonce_count`` counts the requests sent with this nonce.
    The challenge must be one that `choose_challenge` let through.
    """
    algorithm = challenge.algorithm or Algorithm.MD5
    with_qop = bool(challenge.qop)

    def credentials(response: str) -> Credentials:
        return Credentials(
            username=username,
            realm=challenge.realm,
            nonce=challenge.nonce,
            uri=uri,
            response=response,
            algorithm=algorithm,
            cnonce=cnonce if with_qop else None,
            opaque=challenge.opaque,
            qop="auth" if with_qop else None,
            nonce_count=nonce_count if with_qop else None,
        )

    ha1 = Ha1.of(algorithm, username, challenge.realm, password)
    return credentials(digest_response(ha1, credentials(""), method))


def _parse_auth_params(text: str) -> dict[str, str] | None:
    scheme, _, rest = text.strip().partition(" ")
    if scheme.lower() != "digest":
        return None
    params: dict[str, str] = {}
    for part in split_list(rest):
        name, equals, value = part.partition("=")
        name = name.strip().lower()
        if not equals or not name or name in params:
            raise RemoteProtocolError("malformed digest parameter")
        params[name] = unquote(value.strip())
    return params


def _required(params: dict[str, str], name: str) -> str:
    value = params.get(name)
    if value is None:
        raise RemoteProtocolError(f"digest without {name}")
    return value


def _parse_count(text: str) -> int:
    """Parse nc: exactly eight hexadecimal digits (RFC 7616 §3.4)."""
    if len(text) != 8 or text.strip("0123456789abcdefABCDEF"):
        raise RemoteProtocolError("malformed nonce count")
    return int(text, 16)

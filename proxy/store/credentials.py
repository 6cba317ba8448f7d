"""SIP passwords of users: made, and turned into what the store keeps of them."""

from __future__ import annotations

import hashlib
import secrets

from proxy.policy import DigestCredential

__all__ = ["digest_credentials", "generate_password"]

_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # nothing that is mistaken for something else when typed


def generate_password() -> str:
    """A SIP password of 80 random bits, in letters that can be typed on a phone."""
    return "".join(secrets.choice(_LETTERS) for _ in range(16))


def digest_credentials(
    name: str, realm: str, password: str, *, md5: bool = True
) -> tuple[DigestCredential, ...]:
    """The HA1 values of a password (RFC 7616 §3.4.2), SHA-256 first; MD5 for phones that know no other."""
    secret = f"{name}:{realm}:{password}".encode()
    found = [DigestCredential("SHA-256", realm, hashlib.sha256(secret).hexdigest())]
    if md5:
        ha1 = hashlib.md5(secret, usedforsecurity=False).hexdigest()
        found.append(DigestCredential("MD5", realm, ha1))
    return tuple(found)

"""GRUUs: URIs that reach one phone of a user from anywhere (RFC 5627).

A public GRUU is the user's own URI with the phone's instance-id as its ``gr`` parameter. A temporary one
hides both: its user part holds the user and a mark of one registration, encrypted and authenticated with the
gate's key (the stateless way of RFC 5627 appendix A), so that nothing has to be kept for it. It is good as
long as the phone keeps that registration up: for another Call-ID, or after the last contact has gone, the
mark fits no binding any more.
"""

from __future__ import annotations

import base64
import hmac
from typing import Final, NamedTuple

from proxy.sip.bindings import Binding
from proxy.sip.uri import Uri, format_host

__all__ = ["Gruu", "Gruus"]

_PREFIX: Final = "tgruu."
_NONCE: Final = 8
_MARK: Final = 8
_MAC: Final = 10
"""Octets within a temporary GRUU."""
_LONGEST: Final = 200
"""Characters of a user part that are looked at."""
_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.!~*'():/[]&+$")
"""Characters that stand in a URI parameter as they are (RFC 3261 §25.1 paramchar)."""


class Gruu(NamedTuple):
    """What a GRUU names: a user, and one of its phones by its instance-id or by its registration."""

    user: str
    instance: str = ""
    """Instance-id without quotes and brackets."""
    mark: bytes = b""

    def names(self, binding: Binding) -> bool:
        """Say whether a binding is one of that phone."""
        if self.mark:
            return hmac.compare_digest(self.mark, _mark(binding))
        return bool(self.instance) and instance_of(binding) == self.instance


class Gruus:
    """Makes and reads the GRUUs of one gate. ``key`` is secret; as long as it stays, temporary GRUUs do."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def parameters(self, binding: Binding, host: str) -> str:
        """Return what the Contact of a binding with an instance-id gets in the 200 (RFC 5627 §5.3)."""
        instance = instance_of(binding)
        if not instance:
            return ""
        domain = format_host(host)
        public = f"sip:{binding.user}@{domain};gr={_escaped(instance)}"
        temporary = f"sip:{_PREFIX}{self._token(binding)}@{domain};gr"
        return f';pub-gruu="{public}";temp-gruu="{temporary}"'

    def read(self, uri: Uri) -> Gruu | None:
        """Return what a GRUU names; None for any other URI. One that was not made here names nobody."""
        if not uri.is_sip or "gr" not in uri.params:
            return None
        instance, user = uri.params["gr"], uri.user or ""
        if instance:
            return Gruu(user, instance)
        return self._open(user.lower()) or Gruu("")

    def _token(self, binding: Binding) -> str:
        """Encrypt user and registration; a fresh one for every REGISTER, the same while nothing changes."""
        nonce = self._hash("nonce", f"{binding.user} {binding.call_id} {binding.cseq}".encode())[:_NONCE]
        text = _mark(binding) + binding.user.encode()
        hidden = self._cipher(nonce, text)
        sealed = nonce + hidden
        sealed += self._hash("mac", sealed)[:_MAC]
        return base64.b32encode(sealed).decode().rstrip("=").lower()

    def _open(self, user: str) -> Gruu | None:
        if not user.startswith(_PREFIX) or len(user) > _LONGEST:
            return None
        token = user.removeprefix(_PREFIX).upper()
        try:
            sealed = base64.b32decode(token + "=" * (-len(token) % 8))
        except ValueError:
            return None
        sealed, mac = sealed[:-_MAC], sealed[-_MAC:]
        if not hmac.compare_digest(mac, self._hash("mac", sealed)[:_MAC]):
            return None
        text = self._cipher(sealed[:_NONCE], sealed[_NONCE:])
        return Gruu(text[_MARK:].decode("utf-8", "replace"), mark=text[:_MARK])

    def _cipher(self, nonce: bytes, text: bytes) -> bytes:
        stream = b""
        while len(stream) < len(text):
            stream += self._hash("stream", nonce + bytes([len(stream) // 32]))
        return bytes(a ^ b for a, b in zip(text, stream, strict=False))

    def _hash(self, purpose: str, data: bytes) -> bytes:
        return hmac.digest(self._key, purpose.encode() + b"\0" + data, "sha256")


def instance_of(binding: Binding) -> str:
    """Return the instance-id of a binding as a URN, without its quotes and brackets, or ""."""
    text = binding.instance.strip('"')
    return text[1:-1] if text[:1] == "<" and text[-1:] == ">" else ""


def _mark(binding: Binding) -> bytes:
    """Return what tells one registration of one phone from all others (RFC 5627 §5.1: its Call-ID)."""
    return hmac.digest(binding.instance.encode(), binding.call_id.encode(), "sha256")[:_MARK]


def _escaped(text: str) -> str:
    return "".join(
        char if char in _PLAIN else "".join(f"%{octet:02x}" for octet in char.encode()) for char in text
    )

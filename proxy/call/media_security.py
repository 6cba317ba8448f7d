"""SRTP of one leg: what its side's policy allows, the keys on offer and those in force (RFC 4568 §5, §7).

Each leg ends its own SRTP: no key crosses, and one side may be plain while the other is not.
"""

from __future__ import annotations

from typing import NamedTuple

from proxy.call.ports import SrtpKeys
from proxy.errors import LocalProtocolError, RemoteProtocolError
from proxy.sdp import (
    DEFAULT_SUITES,
    AudioDescription,
    CryptoAttribute,
    KeySource,
    NegotiatedAudio,
    SessionDescription,
    SrtpPolicy,
    answer_crypto,
    offer_crypto,
    read_audio,
)

__all__ = ["Agreed", "MediaSecurity", "no_keys"]


def no_keys(length: int) -> bytes:
    """Stand for the key source of a gate that speaks no SRTP."""
    raise LocalProtocolError(f"SRTP needs a source of keys, {length} octets were asked for")


class Agreed(NamedTuple):
    """What one dialog of a leg has come to."""

    pair: tuple[CryptoAttribute, CryptoAttribute] | None
    offered: tuple[CryptoAttribute, ...]
    secure_profile: bool


class MediaSecurity:
    """The keys of one leg."""

    __slots__ = ("_emergency", "_keys", "_pair", "offered", "policy", "secure_profile")

    def __init__(self, policy: SrtpPolicy, keys: KeySource, *, emergency: bool) -> None:
        if emergency and policy is SrtpPolicy.REQUIRED:
            policy = SrtpPolicy.OPTIONAL  # an emergency call is never refused for want of keys (DESIGN 1.4)
        self.policy = policy
        self._emergency = emergency
        self._keys = keys
        self._pair: tuple[CryptoAttribute, CryptoAttribute] | None = None
        """The gate's and the peer's line that are in force; None: plain RTP."""
        self.offered: tuple[CryptoAttribute, ...] = ()
        """The lines of the gate's latest offer."""
        self.secure_profile = policy is SrtpPolicy.REQUIRED
        """Offers say RTP/SAVP; they stay with what the peer has said (RFC 3264 §8)."""

    def read(self, sdp: SessionDescription) -> AudioDescription:
        """Read the peer's offer under the policy; raises `RemoteProtocolError` as `read_audio` does.

        A caller in need who offers nothing but SRTP gets it where it is off, too.
        """
        try:
            return read_audio(sdp, self.policy)
        except RemoteProtocolError:
            if not self._emergency:
                raise
            return read_audio(sdp, SrtpPolicy.OPTIONAL)

    def answer(self, offered: AudioDescription) -> CryptoAttribute | None:
        """Return the gate's line for an answer to what `read` returned, and put it in force; None: plain."""
        if not offered.crypto:
            self._pair = None
            return None
        self._pair = answer_crypto(offered.crypto, DEFAULT_SUITES, self._keys, current=self._pair)
        self.secure_profile = _is_secure(offered)
        return None if self._pair is None else self._pair[0]

    def offer(self, *, again: bool) -> tuple[CryptoAttribute, ...]:
        """Return the lines of an offer. ``again``: media is agreed on already, keys or none included."""
        if again:
            self.offered = () if self._pair is None else self._pair[:1]
        elif self.policy is SrtpPolicy.OFF:
            self.offered = ()
        else:
            self.offered = offer_crypto(DEFAULT_SUITES, self._keys)
        return self.offered

    @property
    def answer_policy(self) -> SrtpPolicy:
        """What the answer to the gate's latest offer may bring: no keys where none were offered."""
        return self.policy if self.offered else SrtpPolicy.OFF

    def accepted(self, negotiated: NegotiatedAudio) -> None:
        """Put in force what the peer answered."""
        self._pair = negotiated.crypto
        if negotiated.crypto is not None:
            self.secure_profile = _is_secure(negotiated.remote)

    @property
    def agreed(self) -> Agreed:
        """What stands in the dialog that speaks; another one begins, or goes on, with its own."""
        return Agreed(self._pair, self.offered, self.secure_profile)

    @agreed.setter
    def agreed(self, agreed: Agreed) -> None:
        self._pair, self.offered, self.secure_profile = agreed

    @property
    def keys(self) -> SrtpKeys | None:
        """Return what the media engine needs to know; None: plain RTP."""
        if self._pair is None:
            return None
        ours, theirs = self._pair
        return SrtpKeys(ours.suite, ours.key, theirs.key, theirs.mki)


def _is_secure(audio: AudioDescription) -> bool:
    return audio.protocol.upper().startswith("RTP/SAVP")

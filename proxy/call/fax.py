"""Fax within a call: the legs change from audio to UDPTL together, and back by an offer of audio (RFC 3362).

Who asks and how it is passed on is `proxy.call.renegotiation`; here is what the descriptions say and what the
media engine is told. UDPTL knows no keys: a side whose media is encrypted stays with audio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from proxy.errors import RemoteProtocolError
from proxy.sdp import FaxDescription, SessionDescription, answer_fax, offer_fax, parse_sdp, read_fax

if TYPE_CHECKING:
    from proxy.call.leg import Leg

__all__ = ["FaxOffer", "accept", "offer_to", "read_offer", "take_answer", "takes_fax"]


class FaxOffer(NamedTuple):
    """What a peer offers: the description, and its fax stream as it was read."""

    sdp: SessionDescription
    fax: FaxDescription


def read_offer(leg: Leg, body: bytes) -> FaxOffer | None:
    """Read an offer of fax; None for one of anything else. Raises `RemoteProtocolError` 400 or 488."""
    sdp = parse_sdp(body)
    fax = read_fax(sdp)
    return None if fax is None else FaxOffer(sdp, leg.judged(fax))


def takes_fax(leg: Leg) -> bool:
    """Say whether a side may be asked: nothing that was encrypted goes in the clear."""
    return leg.security.keys is None and leg.local is not None


def offer_to(leg: Leg, attributes: tuple[str, ...]) -> bytes:
    """Return an offer of fax within the session."""
    assert leg.local is not None  # noqa: S101
    leg.local = offer_fax(attributes, leg.end, leg.local)
    return leg.local.data


def take_answer(leg: Leg, body: bytes) -> None:
    """Take the peer's answer to `offer_to`; raises `RemoteProtocolError` (488 where it takes no fax)."""
    fax = read_fax(parse_sdp(body))
    assert leg.local is not None  # noqa: S101
    if fax is None or fax.index != leg.local.audio_index:
        raise RemoteProtocolError("SDP answer refuses fax", status_hint=488)
    _begin(leg, leg.judged(fax))


def accept(leg: Leg, offer: FaxOffer, attributes: tuple[str, ...]) -> bytes:
    """Answer a peer's offer with what the other side said of itself, and put it in force."""
    assert leg.local is not None  # noqa: S101
    leg.local = answer_fax(offer.sdp, offer.fax, attributes, leg.end, leg.local)
    _begin(leg, offer.fax)
    return leg.local.data


def _begin(leg: Leg, fax: FaxDescription) -> None:
    assert leg.media is not None and leg.chosen is not None  # noqa: S101, PT018
    leg.agreed = leg.local
    leg.fax = fax
    leg.media.configure_fax(fax, leg.chosen, latching=leg.latching, signalled_from=leg.signalled_from)

"""The fax stream of a description: ``m=image ... udptl t38`` (RFC 3362, ITU-T T.38 Annex D).

A call changes from audio to fax and back by a new offer. The gate relays fax between the legs as it comes, so
what the two machines agree on crosses unchanged: every ``a=T38...`` line. Addresses and ports are each leg's.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.sdp.audio import CONNECTION_LENGTH, read_connection
from proxy.sdp.build import LocalDescription, LocalEnd, describe
from proxy.sdp.values import Direction, MediaDescription, SessionDescription

__all__ = ["FaxDescription", "answer_fax", "offer_fax", "read_fax"]

_CARRIED_LINES = 32
_CARRIED_LENGTH = 256
_DIRECTIONS = {f"a={direction.value}": direction for direction in Direction}


@dataclass(frozen=True, slots=True)
class FaxDescription:
    """The fax stream of one description, as its writer (the peer) sees it."""

    index: int
    """Which media section this is, from 0."""
    form: str
    """Profile and format as written, "udptl t38"; an answer repeats it."""
    address: str
    """Where the peer takes UDPTL: an IP address or, rarely, a host name."""
    port: int
    direction: Direction
    """Effective, as with audio: no address takes nothing."""
    attributes: tuple[str, ...]
    """The ``a=T38...`` lines, as received."""


def read_fax(sdp: SessionDescription) -> FaxDescription | None:
    """Read what the peer offers or answers for fax.

    None where there is no such stream, and where an audio stream stands beside it: the call is about audio
    then. Raises `RemoteProtocolError`: 400 when the stream has no valid address, 488 for multicast.
    """
    live = [(index, media) for index, media in enumerate(sdp.media) if media.port]
    found = next(((index, media) for index, media in live if _is_fax(media)), None)
    if found is None or any(media.kind == "audio" for _, media in live):
        return None
    index, media = found
    lines = (*media.lines, *sdp.lines)  # a value of the section overrides the session's (RFC 8866 §5.7)
    connection = next((line for line in lines if line[0] == "c"), "")
    _, address, nowhere = read_connection(connection[:CONNECTION_LENGTH])
    said = next((_DIRECTIONS[line.rstrip()] for line in lines if line.rstrip() in _DIRECTIONS), None)
    direction = said or Direction.SENDRECV
    if nowhere:
        direction = Direction.of(sends=direction.sends, receives=False)
    attributes = [
        line for line in media.lines if line[:5].upper() == "A=T38" and len(line) <= _CARRIED_LENGTH
    ]
    form = f"{media.protocol} {media.formats[0]}"
    return FaxDescription(index, form, address, media.port, direction, tuple(attributes[:_CARRIED_LINES]))


def _is_fax(media: MediaDescription) -> bool:
    return (
        media.kind == "image"
        and media.protocol.lower() == "udptl"
        and [entry.lower() for entry in media.formats] == ["t38"]
    )


def offer_fax(attributes: tuple[str, ...], local: LocalEnd, previous: LocalDescription) -> LocalDescription:
    """Offer fax in the place of the stream that the session has (RFC 3264 §8.3.3)."""
    section = _section("udptl t38", attributes, local)
    return describe(section, previous.sections, "t=0 0", local, session_id=0, previous=previous)


def answer_fax(
    offer: SessionDescription,
    fax: FaxDescription,
    attributes: tuple[str, ...],
    local: LocalEnd,
    previous: LocalDescription,
) -> LocalDescription:
    """Answer an offer of fax; every other section of it is refused (RFC 3264 §6)."""
    sections = tuple(
        None if index == fax.index else f"m={media.kind} 0 {media.protocol} {' '.join(media.formats)}\r\n"
        for index, media in enumerate(offer.media)
    )
    timing = next((line for line in offer.lines if line[0] == "t"), "t=0 0")
    section = _section(fax.form, attributes, local)
    return describe(section, sections, timing, local, session_id=0, previous=previous)


def _section(form: str, attributes: tuple[str, ...], local: LocalEnd) -> str:
    return f"m=image {local.rtp_port} {form}\r\n" + "".join([f"{line}\r\n" for line in attributes])

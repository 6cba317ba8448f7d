"""The gate's own descriptions: offers, answers, and their next versions (RFC 3264 §5, §6, §8).

A `LocalDescription` is a value: the SDP of a 183 is sent again in its 200 by sending the same `data`. Every
later offer or answer of the dialog is built with ``previous=``, which keeps the session id, the order of the
media sections and, when nothing changed, the very same bytes and version (RFC 3264 §8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from proxy.sdp.audio import AudioDescription
from proxy.sdp.crypto import CryptoAttribute
from proxy.sdp.negotiate import DEFAULT_PTIME_MS, ChosenAudio
from proxy.sdp.values import Codec, Direction, SessionDescription

__all__ = ["CONTENT_TYPE", "LocalDescription", "LocalEnd", "build_answer", "build_offer", "describe"]

CONTENT_TYPE = "application/sdp"

_EVENTS_TAKEN = "0-15"
"""The sixteen events the gate understands (RFC 4733 §2.4.1, §3.2), whatever the peer offered."""


@dataclass(frozen=True, slots=True)
class LocalEnd:
    """Where the gate takes the media of one leg: an IP address and its two ports."""

    address: str
    rtp_port: int
    rtcp_port: int


@dataclass(frozen=True, slots=True)
class LocalDescription:
    """What the gate last said to one peer."""

    data: bytes = field(repr=False)
    """The body of the SIP message; not printed, for it may hold keys."""
    session_id: int
    version: int
    sections: tuple[str | None, ...]
    """The media sections in order: the line of a refused one, None for the stream that the call is about."""

    @property
    def audio_index(self) -> int:
        """Which media section the call is about: where `accept_answer` looks for the audio stream."""
        return self.sections.index(None)


def build_answer(
    offer: SessionDescription,
    offered: AudioDescription,
    chosen: ChosenAudio,
    local: LocalEnd,
    session_id: int,
    *,
    direction: Direction = Direction.SENDRECV,
    crypto: CryptoAttribute | None = None,
    previous: LocalDescription | None = None,
) -> LocalDescription:
    """Answer an offer (RFC 3264 §6): one section per section of the offer, all but the audio stream refused.

    ``offered`` is `read_audio` of ``offer``, ``chosen`` what `choose_codec` made of it; payload types are the
    offerer's. ``direction`` is what the gate would like; the answer keeps to what the offer allows (§6.1).
    ``crypto`` is the gate's line of `answer_crypto` for a stream with keys. ``session_id`` counts only where
    there is no ``previous``.
    """
    codec, event = chosen.codec, chosen.event
    # Opus parameters say what their writer wants to receive (RFC 7587 §7.1); other codecs' must match.
    parameters = "" if codec.name == "OPUS" else codec.fmtp
    codecs = [Codec(codec.name, codec.payload_type, codec.clock_rate, codec.channels, parameters)]
    if event is not None:
        codecs.append(Codec(event.name, event.payload_type, event.clock_rate, event.channels, _EVENTS_TAKEN))
    audio = _audio_section(
        codecs,
        local,
        offered.protocol,
        chosen.ptime_ms,
        offered.direction.answered_by(direction),
        rtcp_mux=offered.rtcp_mux,
        crypto=() if crypto is None else (crypto,),
    )
    if offered.media_count == 1:
        sections: tuple[str | None, ...] = (None,)
    else:
        sections = tuple(
            None
            if index == offered.index
            else f"m={media.kind} 0 {media.protocol} {' '.join(media.formats)}\r\n"
            for index, media in enumerate(offer.media)
        )
    # The time line of an answer is the offer's (RFC 3264 §6).
    timing = next((line for line in offer.lines if line[0] == "t"), "t=0 0")
    return describe(audio, sections, timing, local, session_id=session_id, previous=previous)


def build_offer(
    codecs: Sequence[Codec],
    local: LocalEnd,
    session_id: int,
    *,
    ptime_ms: int = DEFAULT_PTIME_MS,
    direction: Direction = Direction.SENDRECV,
    rtcp_mux: bool = False,
    attributes: Sequence[str] = (),
    crypto: Sequence[CryptoAttribute] = (),
    secure: bool = False,
    previous: LocalDescription | None = None,
) -> LocalDescription:
    """Offer these codecs (RFC 3264 §5), telephone-event entries among them.

    For the B leg pass `relayed_codecs`, for an INVITE without SDP `gate_codecs`, for a later offer in a
    dialog the codec and event that are spoken (payload types keep their meaning, §8.3.2) and ``previous``.
    ``attributes`` are more lines of the audio section, from `carried_attributes`; ``crypto`` the keys of
    `offer_crypto`. ``secure`` says RTP/SAVP, which a peer without SRTP refuses; over RTP/AVP it may pass the
    keys over.
    """
    audio = _audio_section(
        codecs,
        local,
        "RTP/SAVP" if secure else "RTP/AVP",
        ptime_ms,
        direction,
        rtcp_mux=rtcp_mux,
        crypto=crypto,
        attributes=attributes,
    )
    sections = (None,) if previous is None else previous.sections
    return describe(audio, sections, "t=0 0", local, session_id=session_id, previous=previous)


def _audio_section(
    codecs: Sequence[Codec],
    local: LocalEnd,
    protocol: str,
    ptime_ms: int,
    direction: Direction,
    *,
    rtcp_mux: bool,
    crypto: Sequence[CryptoAttribute],
    attributes: Sequence[str] = (),
) -> str:
    formats = " ".join([str(codec.payload_type) for codec in codecs])
    lines = [f"m=audio {local.rtp_port} {protocol} {formats}"]
    for codec in codecs:
        lines.extend(codec.attribute_lines())
    lines.append(f"a=ptime:{ptime_ms}")
    lines.append(f"a={direction.value}")
    if rtcp_mux:
        lines.append("a=rtcp-mux")
    if local.rtcp_port != local.rtp_port + 1:
        lines.append(f"a=rtcp:{local.rtcp_port}")
    lines.extend([line.line for line in crypto])
    lines.extend(attributes)
    lines.append("")
    return "\r\n".join(lines)


def describe(
    stream: str,
    sections: tuple[str | None, ...],
    timing: str,
    local: LocalEnd,
    *,
    session_id: int,
    previous: LocalDescription | None,
) -> LocalDescription:
    """Put the session part before the sections; only a change counts the version up (RFC 3264 §8)."""
    version = 1
    if previous is not None:
        session_id, version = previous.session_id, previous.version
    address = f"IN IP6 {local.address}" if ":" in local.address else f"IN IP4 {local.address}"
    rest = f"{address}\r\ns=-\r\nc={address}\r\n{timing}\r\n" + "".join(
        [stream if section is None else section for section in sections]
    )
    data = _encode(session_id, version, rest)
    if previous is not None:
        if data == previous.data:
            return previous
        version += 1
        data = _encode(session_id, version, rest)
    return LocalDescription(data, session_id, version, sections)


def _encode(session_id: int, version: int, rest: str) -> bytes:
    return f"v=0\r\no=- {session_id} {version} {rest}".encode("utf-8", "surrogateescape")

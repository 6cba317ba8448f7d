"""What one description says about its audio stream (RFC 3264, 3551, 3605, 4733, 5761, 7587).

The gate carries one audio stream. It is the first ``m=audio`` that is not refused, over SRTP where the policy
of that side takes it (`proxy.sdp.crypto`), else over plain RTP; every other media section is somebody else's
and is answered with port 0.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from proxy.errors import RemoteProtocolError
from proxy.sdp.crypto import DEFAULT_SUITES, CryptoAttribute, SrtpPolicy, read_crypto
from proxy.sdp.values import EVENT_NAME, Codec, Direction, MediaDescription, SessionDescription

__all__ = [
    "CONNECTION_LENGTH",
    "AudioDescription",
    "carried_attributes",
    "is_ip_address",
    "read_audio",
    "read_connection",
]

_PROFILES = frozenset({"RTP/AVP", "RTP/AVPF"})
_SECURE_PROFILES = frozenset({"RTP/SAVP", "RTP/SAVPF"})

_STATIC = {
    0: Codec("PCMU", 0, 8000),
    3: Codec("GSM", 3, 8000),
    4: Codec("G723", 4, 8000),
    5: Codec("DVI4", 5, 8000),
    6: Codec("DVI4", 6, 16000),
    7: Codec("LPC", 7, 8000),
    8: Codec("PCMA", 8, 8000),
    9: Codec("G722", 9, 8000),
    10: Codec("L16", 10, 44100, 2),
    11: Codec("L16", 11, 44100),
    12: Codec("QCELP", 12, 8000),
    13: Codec("CN", 13, 8000),
    14: Codec("MPA", 14, 90000),
    15: Codec("G728", 15, 8000),
    16: Codec("DVI4", 16, 11025),
    17: Codec("DVI4", 17, 22050),
    18: Codec("G729", 18, 8000),
}
"""RFC 3551 §6, table 4: types that need no rtpmap. G722's clock is 8000 although it samples at 16 kHz."""

_DIRECTIONS = {f"a={direction.value}": direction for direction in Direction}

# fmt: off
_OWN_ATTRIBUTES = frozenset({
    "acap", "acfg", "altc", "bundle-only", "candidate", "connection", "creq", "crypto", "csup", "direction",
    "end-of-candidates", "extmap", "extmap-allow-mixed", "fingerprint", "fmtp", "group", "ice-lite",
    "ice-mismatch", "ice-options", "ice-pacing", "ice-pwd", "ice-ufrag", "identity", "imageattr",
    "inactive", "key-mgmt", "maxptime", "mid", "minptime", "msid", "msid-semantic", "nortpproxy", "pcfg",
    "ptime", "recvonly", "remote-candidates", "rid", "rtcp", "rtcp-fb", "rtcp-mux", "rtcp-mux-only",
    "rtcp-rsize", "rtcp-xr", "rtpmap", "sendonly", "sendrecv", "setup", "simulcast", "source-filter",
    "ssrc", "ssrc-group", "tcap", "tls-id", "zrtp-hash",
})
# fmt: on
"""Attributes bound to one leg's transport, keys, grouping or payload types. They never cross legs."""

_CARRIED_LINES = 32
_CARRIED_LENGTH = 256
"""The B leg's INVITE must still fit a datagram."""

_FORMAT_LENGTH = 1024
"""Characters of a payload type, its rtpmap and its fmtp together; longer ones are passed over."""
CONNECTION_LENGTH = 300
"""Characters of a ``c=`` line; a host name has up to 253."""


@dataclass(frozen=True, slots=True)
class AudioDescription:
    """The audio stream of one description, as its writer (the peer) sees it."""

    index: int
    """Which media section this is, from 0."""
    protocol: str
    """"RTP/AVP", "RTP/AVPF" or their secure kin "RTP/SAVP", "RTP/SAVPF"; an answer repeats it."""
    address: str
    """Where the peer takes media: an IP address or, rarely, a host name (`is_ip_address` tells)."""
    address_type: str
    """"IP4" or "IP6"."""
    rtp_port: int
    rtcp_port: int
    """The RTP port with rtcp-mux (RFC 5761), else that of ``a=rtcp`` (RFC 3605), else the RTP port + 1."""
    rtcp_mux: bool
    codecs: tuple[Codec, ...]
    """Audio formats in the peer's order of preference; comfort noise and formats without a name left out."""
    events: tuple[Codec, ...]
    """telephone-event entries, one per clock rate (RFC 4733 §2.4)."""
    ptime_ms: int | None
    """What the peer would like to receive; None when it says nothing usable."""
    maxptime_ms: int | None
    direction: Direction
    """Effective: an address of 0.0.0.0 or :: has taken "receives" away (RFC 3264 §8.4)."""
    media_count: int
    """Media sections in the whole description; all but this one are answered with port 0."""
    crypto: tuple[CryptoAttribute, ...] = ()
    """Keys for SRTP that the gate can use, in the peer's order; empty where the stream is plain RTP."""

    def event(self, clock_rate: int) -> Codec | None:
        """Return the telephone-event entry with this clock rate in Hz."""
        for event in self.events:
            if event.clock_rate == clock_rate:
                return event
        return None


def read_audio(
    sdp: SessionDescription,
    srtp: SrtpPolicy = SrtpPolicy.OFF,
    suites: Collection[str] = DEFAULT_SUITES,
) -> AudioDescription:
    """Read what the peer offers or answers for audio.

    A stream with usable keys for one of the ``suites`` goes before a plain one, whatever its profile says:
    many phones ask for SRTP over RTP/AVP when they can do without.

    Raises `RemoteProtocolError`: 488 when there is no audio stream that the policy allows, or a multicast
    one; 400 when the stream has no valid address.
    """
    plain: tuple[int, MediaDescription] | None = None
    for index, media in enumerate(sdp.media):
        if not media.port or media.kind != "audio":
            continue
        profile = media.protocol.upper()
        if srtp is not SrtpPolicy.OFF and (profile in _PROFILES or profile in _SECURE_PROFILES):
            crypto = tuple(line for line in read_crypto(media.attributes("crypto")) if line.suite in suites)
            if crypto:
                return _read_stream(sdp, index, media, crypto)
        if plain is None and profile in _PROFILES:
            plain = index, media
            if srtp is SrtpPolicy.OFF:
                break
    if plain is None:
        raise RemoteProtocolError("SDP without an audio stream over RTP that can be taken", status_hint=488)
    if srtp is SrtpPolicy.REQUIRED:
        raise RemoteProtocolError("SDP without usable keys for SRTP, which is required", status_hint=488)
    return _read_stream(sdp, *plain, ())


def _read_stream(
    sdp: SessionDescription, index: int, media: MediaDescription, crypto: tuple[CryptoAttribute, ...]
) -> AudioDescription:
    connection = ""
    direction: Direction | None = None
    for line in sdp.lines:
        if line[0] == "c":
            connection = connection or line
        elif line[0] == "a" and line.rstrip() in _DIRECTIONS:
            direction = _DIRECTIONS[line.rstrip()]
    # A value of the media section overrides the session's (RFC 8866 §5.7, §6.7).
    rtpmaps: dict[str, str] = {}
    fmtps: dict[str, str] = {}
    others: dict[str, str] = {}
    own_connection = ""
    for line in media.lines:
        if line[0] == "c":
            own_connection = own_connection or line
        elif line[0] == "a":
            name, _, value = line.rstrip().partition(":")
            if name in _DIRECTIONS:
                direction = _DIRECTIONS[name]
                continue
            if name in {"a=rtpmap", "a=fmtp"}:
                payload_type, _, rest = value.strip().partition(" ")
                (rtpmaps if name == "a=rtpmap" else fmtps).setdefault(payload_type, rest)
            else:
                others.setdefault(name, value)
    address_type, address, nowhere = read_connection((own_connection or connection)[:CONNECTION_LENGTH])
    direction = direction or Direction.SENDRECV
    if nowhere:
        direction = Direction.of(sends=direction.sends, receives=False)
    mux = "a=rtcp-mux" in others
    codecs, events = _codecs(media.formats, rtpmaps, fmtps)
    return AudioDescription(
        index,
        media.protocol,
        address,
        address_type,
        media.port,
        media.port if mux else _rtcp_port(others.get("a=rtcp", ""), media.port),
        mux,
        codecs,
        events,
        _milliseconds(others.get("a=ptime", "")),
        _milliseconds(others.get("a=maxptime", "")),
        direction,
        len(sdp.media),
        crypto,
    )


def _codecs(
    formats: tuple[str, ...], rtpmaps: dict[str, str], fmtps: dict[str, str]
) -> tuple[tuple[Codec, ...], tuple[Codec, ...]]:
    """Return the audio codecs and the telephone-events of a stream, in order of preference."""
    codecs: list[Codec] = []
    events: list[Codec] = []
    seen: set[str] = set()
    for payload_type in formats:
        if payload_type in seen:
            continue
        seen.add(payload_type)
        mapping, fmtp = rtpmaps.get(payload_type, ""), fmtps.get(payload_type, "")
        if len(payload_type) + len(mapping) + len(fmtp) > _FORMAT_LENGTH:
            continue
        codec = _codec(payload_type, mapping, fmtp)
        if codec is None or codec.name == "CN":
            continue
        if codec.name != EVENT_NAME:
            codecs.append(codec)
        elif all(event.clock_rate != codec.clock_rate for event in events):
            events.append(codec)
    return tuple(codecs), tuple(events)


# A gate sees the same few rtpmap lines all day; entries are bounded in number and size (`_FORMAT_LENGTH`).
@lru_cache(maxsize=1024)
def _codec(payload_type: str, mapping: str, fmtp: str) -> Codec | None:
    """Make a codec of one format; None for one that is not a payload type or has no valid name and clock."""
    if not (payload_type.isascii() and payload_type.isdecimal()) or (number := int(payload_type)) > 127:
        return None
    if not mapping:
        static = _STATIC.get(number)
        if static is None or not fmtp:
            return static
        return Codec(static.name, number, static.clock_rate, static.channels, fmtp)
    name, *numbers = mapping.strip().split("/")
    if not name or not 1 <= len(numbers) <= 2:
        return None
    if not all(text.isascii() and text.isdecimal() and len(text) <= 6 for text in numbers):
        return None
    clock_rate, channels = int(numbers[0]), int(numbers[1]) if len(numbers) == 2 else 1
    if not clock_rate or not channels:
        return None
    return Codec(name.upper(), number, clock_rate, channels, fmtp.strip())


@lru_cache(maxsize=4096)
def read_connection(line: str) -> tuple[str, str, bool]:
    """Return address type and address of a ``c=`` line (RFC 8866 §5.7), and whether that is nowhere."""
    fields = line[2:].split()
    if len(fields) != 3 or fields[0] != "IN" or fields[1] not in {"IP4", "IP6"}:
        raise RemoteProtocolError("SDP stream without a valid c= line (RFC 8866 §5.7)", status_hint=400)
    address_type, (address, slash, _) = fields[1], fields[2].partition("/")
    if not is_ip_address(address):
        if not _is_host_name(address):
            raise RemoteProtocolError("SDP c= line with an impossible address", status_hint=400)
        return address_type, address, False
    parsed = ipaddress.ip_address(address)
    if parsed.version != int(address_type[2]):
        raise RemoteProtocolError("SDP c= line with an address of another type", status_hint=400)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    if (
        mapped is not None
    ):  # RFC 5118 §4.9: such a peer takes IPv4 packets, and an IPv6 socket couldn't send them
        parsed, address_type, address = mapped, "IP4", str(mapped)
    if slash or parsed.is_multicast or address == "255.255.255.255":
        raise RemoteProtocolError("SDP asks for multicast, which a call has no use for", status_hint=488)
    return address_type, address, parsed.is_unspecified


def is_ip_address(address: str) -> bool:
    """Say whether this is an IPv4 or IPv6 address and not a host name (RFC 8866 §9 allows a name)."""
    if "%" in address:  # a zone means something on one machine only
        return False
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def _is_host_name(text: str) -> bool:
    """Say whether this is a domain name (RFC 1123 §2.1) that is not a broken IPv4 address."""
    labels = text.removesuffix(".").split(".")
    return (
        len(text) <= 253
        and text.isascii()
        and not labels[-1].isdecimal()
        and all(label and len(label) <= 63 and label.replace("-", "").isalnum() for label in labels)
    )


def _milliseconds(value: str) -> int | None:
    """Read a packet time; some phones write "20.0". Anything outside 1 to 1000 ms says nothing."""
    whole = value.strip().partition(".")[0]
    if whole.isascii() and whole.isdecimal() and len(whole) <= 4 and 1 <= int(whole) <= 1000:
        return int(whole)
    return None


def _rtcp_port(value: str, rtp_port: int) -> int:
    """Return the port of ``a=rtcp:port [IN IP4 address]`` (RFC 3605 §2.1), else the RTP port + 1."""
    port = value.strip().partition(" ")[0]
    if port.isascii() and port.isdecimal() and len(port) <= 5 and 1 <= int(port) <= 65_535:
        return int(port)
    return min(rtp_port + 1, 65_535)


def carried_attributes(sdp: SessionDescription, audio: AudioDescription) -> tuple[str, ...]:
    """Return the audio section's attribute lines that may cross to the other leg (language, content, X- ...).

    The gate ends the media of each leg, so whatever belongs to one leg's transport, keys, grouping or payload
    types stays behind; what the gate does not know describes the stream and is passed on, within limits.
    """
    carried = [
        line
        for line in sdp.media[audio.index].lines
        if line[0] == "a"
        and len(line) <= _CARRIED_LENGTH
        and line[2:].partition(":")[0].strip().lower() not in _OWN_ATTRIBUTES
    ]
    return tuple(carried[:_CARRIED_LINES])

"""SDP as values: the description as its lines, a codec, a direction.

A description is kept as the lines it was made of (RFC 8866 §5), in order, so that a line or an attribute that
this gate does not know is carried and printed as it came. What a line means is worked out by the reader that
needs it (`proxy.sdp.audio`), never twice.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["EVENT_NAME", "Codec", "Direction", "MediaDescription", "Origin", "SessionDescription"]

EVENT_NAME = "TELEPHONE-EVENT"
"""`Codec.name` of a telephone-event entry (RFC 4733 §2.4)."""

_SPELLING = {"OPUS": "opus", EVENT_NAME: "telephone-event"}


class Direction(enum.Enum):
    """Which way media flows, seen from whoever wrote the description (RFC 8866 §6.7)."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @property
    def sends(self) -> bool:
        """The writer of the description may send."""
        return self is Direction.SENDRECV or self is Direction.SENDONLY

    @property
    def receives(self) -> bool:
        """The writer of the description takes media."""
        return self is Direction.SENDRECV or self is Direction.RECVONLY

    @staticmethod
    def of(*, sends: bool, receives: bool) -> Direction:
        """Return the direction with these two halves."""
        if sends:
            return Direction.SENDRECV if receives else Direction.SENDONLY
        return Direction.RECVONLY if receives else Direction.INACTIVE

    def answered_by(self, wanted: Direction) -> Direction:
        """Return the answerer's direction for an offer of ``self`` when it would like ``wanted``.

        RFC 3264 §6.1: the answerer sends only where the offerer receives, and the other way round.
        """
        if self is Direction.SENDRECV:
            return wanted
        return Direction.of(sends=wanted.sends and self.receives, receives=wanted.receives and self.sends)


@dataclass(frozen=True, slots=True)
class Codec:
    """One payload format of an audio stream, or its telephone-event (`EVENT_NAME`).

    ``name`` is the encoding name in upper case (names are case-insensitive, RFC 8866 §6.6); ``clock_rate``
    the RTP clock in Hz; ``fmtp`` the format parameters as received, without the payload type.
    """

    name: str
    payload_type: int
    clock_rate: int
    channels: int = 1
    fmtp: str = ""

    @property
    def is_event(self) -> bool:
        """This is telephone-event, not audio."""
        return self.name == EVENT_NAME

    def attribute_lines(self) -> list[str]:
        """Return the ``a=rtpmap`` line and, if there are parameters, the ``a=fmtp`` line."""
        channels = f"/{self.channels}" if self.channels != 1 else ""
        spelling = _SPELLING.get(self.name, self.name)
        lines = [f"a=rtpmap:{self.payload_type} {spelling}/{self.clock_rate}{channels}"]
        if self.fmtp:
            lines.append(f"a=fmtp:{self.payload_type} {self.fmtp}")
        return lines

    def same_format(self, other: Codec) -> bool:
        """Say whether both name the same format, whatever their payload types and parameters."""
        return (
            self.name == other.name
            and self.clock_rate == other.clock_rate
            and self.channels == other.channels
        )


@dataclass(frozen=True, slots=True)
class Origin:
    """The ``o=`` line (RFC 8866 §5.2). Numbers stay text: peers write more digits than integers hold."""

    username: str
    session_id: str
    version: str
    network_type: str
    address_type: str
    address: str


@dataclass(frozen=True, slots=True)
class MediaDescription:
    """One media section: the ``m=`` line taken apart and the lines under it (RFC 8866 §5.14)."""

    kind: str
    """Media type in lower case: "audio", "video", "image" ..."""
    port: int
    """0 means refused or ended (RFC 3264 §6, §8.2)."""
    port_count: int
    """The number of ports after the slash, 1 when there is none."""
    protocol: str
    """Transport profile as written: "RTP/AVP", "udptl" ..."""
    formats: tuple[str, ...]
    lines: tuple[str, ...]
    """The lines after ``m=``, each "x=value", as received."""

    @property
    def media_line(self) -> str:
        """The ``m=`` line."""
        ports = f"{self.port}/{self.port_count}" if self.port_count != 1 else f"{self.port}"
        return f"m={self.kind} {ports} {self.protocol} {' '.join(self.formats)}"

    def attributes(self, name: str) -> list[str]:
        """Return the values of all ``a=name:value`` lines, "" for a property attribute ``a=name``."""
        return _attributes(self.lines, name)


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """A whole description: the session-level lines and the media sections, in order."""

    lines: tuple[str, ...]
    """Lines before the first ``m=``, "v=0" first."""
    media: tuple[MediaDescription, ...]

    @property
    def origin(self) -> Origin:
        """The ``o=`` line taken apart; the parser has made sure of its six fields."""
        fields = next(line for line in self.lines if line[0] == "o")[2:].split()
        return Origin(*fields)

    def attributes(self, name: str) -> list[str]:
        """Return the values of all session-level ``a=name:value`` lines, "" for a property attribute."""
        return _attributes(self.lines, name)

    def to_bytes(self) -> bytes:
        """Print the description: every line as it came, ended by CRLF (RFC 8866 §5)."""
        lines = list(self.lines)
        for media in self.media:
            lines.append(media.media_line)
            lines.extend(media.lines)
        lines.append("")
        return "\r\n".join(lines).encode("utf-8", "surrogateescape")


def _attributes(lines: tuple[str, ...], name: str) -> list[str]:
    bare, prefix = f"a={name}", f"a={name}:"
    return [line[len(prefix) :] for line in lines if line == bare or line.startswith(prefix)]

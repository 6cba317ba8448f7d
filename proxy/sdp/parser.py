"""Bytes to a `SessionDescription` (RFC 8866 §5, §9), within limits.

Strict where a guess could send media to the wrong place (``v=``, ``o=``, ``m=``, ports), tolerant of what
real phones do otherwise: bare LF line ends, a missing ``s=`` or ``t=``, lines out of order, unknown type
letters, text that is not UTF-8, an empty line at the end.
"""

from __future__ import annotations

from itertools import pairwise

from proxy.errors import RemoteProtocolError
from proxy.sdp.values import MediaDescription, SessionDescription

__all__ = ["MAX_LINES", "MAX_MEDIA", "MAX_SIZE", "parse_sdp"]

MAX_SIZE = 65_536
"""Octets of one description."""
MAX_LINES = 1_000
"""Lines of one description; a browser's offer with all its candidates has about 200."""
MAX_MEDIA = 32
"""Media sections of one description."""


def parse_sdp(data: bytes) -> SessionDescription:
    """Parse one description.

    Raises `RemoteProtocolError`: 400 for one that is malformed, 488 for one beyond the limits.
    """
    lines = _split(data)
    starts: list[int] = []
    origin = ""
    for number, line in enumerate(lines):
        if line[1:2] != "=" or not line[0].isalpha():
            raise RemoteProtocolError(
                f"SDP line {number + 1} is not type=value (RFC 8866 §5)", status_hint=400
            )
        if line[0] == "m":
            starts.append(number)
        elif line[0] == "o" and not origin and not starts:
            origin = line
    if len(origin[2:].split()) != 6:
        raise RemoteProtocolError("SDP without an o= line of six fields (RFC 8866 §5.2)", status_hint=400)
    if len(starts) > MAX_MEDIA:
        raise RemoteProtocolError(f"SDP with more than {MAX_MEDIA} media sections", status_hint=488)
    bounds = [*starts, len(lines)]
    media = [_parse_media(lines[start], tuple(lines[start + 1 : end])) for start, end in pairwise(bounds)]
    return SessionDescription(tuple(lines[: bounds[0]]), tuple(media))


def _split(data: bytes) -> list[str]:
    """Return the lines of a description, the first of them "v=0"; line ends are CRLF or LF (RFC 8866 §5)."""
    if len(data) > MAX_SIZE:
        raise RemoteProtocolError(f"SDP of {len(data)} octets, at most {MAX_SIZE} are taken", status_hint=488)
    # Latin-1 or any other text in s= and i= must come out again as it went in.
    text = data.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
    if "\r" in text or "\0" in text:
        raise RemoteProtocolError("SDP with a bare CR or a NUL (RFC 8866 §9)", status_hint=400)
    lines = text.rstrip("\n").split("\n")
    if len(lines) > MAX_LINES:
        raise RemoteProtocolError(f"SDP with more than {MAX_LINES} lines", status_hint=488)
    if lines[0].rstrip() != "v=0":
        raise RemoteProtocolError("SDP does not begin with v=0 (RFC 8866 §5.1)", status_hint=400)
    return lines


def _parse_media(line: str, rest: tuple[str, ...]) -> MediaDescription:
    """Take apart ``m=<media> <port>[/<count>] <proto> <fmt> ...`` (RFC 8866 §5.14)."""
    fields = line[2:].split()
    if len(fields) < 4:
        raise RemoteProtocolError("SDP m= line with fewer than four fields (RFC 8866 §5.14)", status_hint=400)
    port, slash, count = fields[1].partition("/")
    return MediaDescription(
        fields[0].lower(),
        _number(port, 65_535),
        _number(count, 65_535) if slash else 1,
        fields[2],
        tuple(fields[3:]),
        rest,
    )


def _number(text: str, most: int) -> int:
    # isdecimal alone would let other scripts' digits through; the length bound keeps int() cheap.
    if text.isascii() and text.isdecimal() and len(text) <= 5 and (number := int(text)) <= most:
        return number
    raise RemoteProtocolError("SDP m= line with an impossible port (RFC 8866 §5.14)", status_hint=400)

"""The journal's bytes: self-checking lines, so that a torn tail is told from a whole one.

One frame is ``crc32 length body LF``, the first two as eight hexadecimal digits. The body is ``kind clock
id json``:

    3f2a91c0 0000004e L 12345.678 0190a2b4c6 {"v":1,...}

``clock`` is the monotonic clock of the process that wrote it, in seconds: it has a meaning only beside the
other clocks of the same run. A segment is pre-allocated with zeros, so a NUL where a frame should begin is
its clean end.
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, unquote

__all__ = ["Frame", "FrameKind", "ends_cleanly", "holds_a_line", "pack_frame", "scan_frames"]

_HEAD = 18  # eight digits, space, eight digits, space


class FrameKind(enum.StrEnum):
    """What a frame says."""

    HEADER = "H"
    """A segment begins; the id is that of the run."""
    LIVE = "L"
    """A call that lives: its latest record."""
    FINAL = "F"
    """A call that is over: the record for the usage log."""
    HEARTBEAT = "B"
    """All calls that were live a moment ago still are."""


_KINDS = {kind.value: kind for kind in FrameKind}


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as read: where it begins, and the offset of the byte after it."""

    kind: FrameKind
    clock: float
    key: str
    """Record id, run id, or "-"."""
    payload: str
    start: int
    end: int


def pack_frame(kind: FrameKind, clock: float, key: str, payload: str) -> bytes:
    """One frame as bytes. ``payload`` is ASCII without line breaks (as `encode_record` writes)."""
    body = b"%b %.3f %b %b" % (
        kind.encode("ascii"),
        clock,
        quote(key, safe="", errors="surrogatepass").encode("ascii") or b"-",
        payload.encode("ascii"),
    )
    return b"%08x %08x %b\n" % (zlib.crc32(body), len(body), body)


def scan_frames(data: bytes, offset: int = 0) -> Iterator[Frame]:
    """Read the sound frames from ``offset`` on.

    Damage costs the frames it touches only: reading goes on after the next line break. What was left out lies
    between the end of one frame and the start of the next.
    """
    while True:
        frame = _read_frame(data, offset)
        if frame is not None:
            offset = frame.end
            yield frame
        else:
            offset = data.find(b"\n", offset) + 1
            if not offset:
                return


def ends_cleanly(data: bytes, offset: int) -> bool:
    """After the last sound frame there is nothing but the zeros of the pre-allocation."""
    return data.count(0, offset) == len(data) - offset


def holds_a_line(data: bytes, offset: int) -> bool:
    """After the last sound frame lies what was once a whole one: a torn tail has no line break."""
    return data.find(b"\n", offset) >= 0


def _read_frame(data: bytes, offset: int) -> Frame | None:
    head = data[offset : offset + _HEAD]
    if len(head) < _HEAD or head[8:9] != b" " or head[17:18] != b" ":
        return None
    try:
        checksum = int(head[:8], 16)
        length = int(head[9:17], 16)
    except ValueError:
        return None
    start = offset + _HEAD
    end = start + length
    body = data[start:end]
    # Whatever stands where the line break should, the sum says that the frame is whole.
    if end >= len(data) or zlib.crc32(body) != checksum:
        return None
    try:
        kind, clock, key, payload = body.decode("ascii").split(" ", 3)
        return Frame(
            _KINDS[kind], float(clock), unquote(key, errors="surrogatepass"), payload, offset, end + 1
        )
    except (ValueError, KeyError):
        return None

"""What a journal tells after a restart: which calls lived when the process died, and when that was.

A call with a live record and no final one was cut off: its record is closed as interrupted, and its end is
the last moment at which its run is known to have lived (any frame of that run, heartbeats included).

Where frames are damaged, its final one may be among them: nothing behind the damage tells that it lived, so
its end is the last sound frame before. With a heartbeat every few seconds a damaged frame costs seconds of a
call, and never adds days to it. A segment begins with all live calls: one that isn't there was over, too.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field, replace

from proxy.cdr.encoding import RecordFormatError, decode_record
from proxy.cdr.frames import Frame, FrameKind, ends_cleanly, holds_a_line, scan_frames
from proxy.cdr.record import CallRecord, Disposition, HungUpBy, RecordPhase
from proxy.cdr.segments import SegmentDirectory

__all__ = ["Damage", "Recovery", "recover"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Damage:
    """Octets of a segment that can't be read though they were written whole."""

    segment: int
    offset: int
    octets: int


@dataclass(slots=True)
class _LiveCall:
    run: str
    clock: float
    payload: str = field(repr=False)
    lived_until: float = math.inf
    """Later frames of its run don't tell that it lived on, unless they are its own."""


@dataclass(slots=True)
class Recovery:
    """What was found in the segments of earlier runs."""

    interrupted: list[CallRecord] = field(default_factory=list)
    """Final records of the calls that were cut off, in order of their start."""
    ends: dict[int, int] = field(default_factory=dict)
    """For each segment the offset after its last sound frame."""
    torn: list[int] = field(default_factory=list)
    """Segments whose tail was cut in the middle of a write."""
    damage: list[Damage] = field(default_factory=list)
    """What can't be read anywhere else, in order."""
    unreadable: int = 0
    """Sound frames whose record can't be read."""


def recover(directory: SegmentDirectory) -> Recovery:
    """Read all segments. Raises OSError when one can't be read."""
    reader = _Reader()
    for number in directory.numbers():
        reader.read(number, directory.read(number))
    return reader.finish()


class _Reader:
    """Follows every call through the segments, oldest first."""

    def __init__(self) -> None:
        self._found = Recovery()
        self._live: dict[str, _LiveCall] = {}
        self._finals: set[str] = set()
        self._last_seen: dict[str, float] = {}
        self._run = ""
        self._tail: Damage | None = None
        """A part of a frame at the end of the segment before."""

    def read(self, number: int, data: bytes) -> None:
        run = self._begin(number)
        damage: list[Damage] = []
        end = 0
        for frame in scan_frames(data):
            if frame.start > end:
                damage.append(Damage(number, end, frame.start - end))
                self._doubt()
            end = frame.end
            self._follow(frame)
        self._found.ends[number] = end
        # When its run wrote on in this one, its death did not cut that tail.
        self._tell_tail(torn=self._run != run)
        if not ends_cleanly(data, end):
            tail = Damage(number, end, len(data[end:].rstrip(b"\0")))
            if holds_a_line(data, end):
                damage.append(tail)
            else:
                self._tail = tail
        self._tell(damage)

    def _begin(self, number: int) -> str:
        """Begin a segment, and return the run of the one before: this one is of a run of its own until its
        header says more.
        """
        self._doubt()
        run, self._run = self._run, f"segment {number}"
        return run

    def _doubt(self) -> None:
        """From here on calls have to show that they live: their ends may be lost."""
        for call in self._live.values():
            call.lived_until = min(call.lived_until, self._last_seen[call.run])

    def _tell_tail(self, *, torn: bool) -> None:
        tail, self._tail = self._tail, None
        if tail is None:
            return
        if torn:
            self._found.torn.append(tail.segment)
            _log.warning("journal segment %d: its tail was cut in the middle of a write", tail.segment)
        else:
            self._tell([tail])

    def _tell(self, damage: list[Damage]) -> None:
        if damage:
            self._found.damage += damage
            _log.error(
                "journal segment %d is damaged: %d octets in %d place(s) can't be read, the first at offset"
                " %d; records of calls may be lost or end too early",
                damage[0].segment,
                sum(one.octets for one in damage),
                len(damage),
                damage[0].offset,
            )

    def _follow(self, frame: Frame) -> None:
        if frame.kind is FrameKind.HEADER:
            self._run = frame.key
        self._last_seen[self._run] = max(frame.clock, self._last_seen.get(self._run, frame.clock))
        if frame.kind is FrameKind.FINAL:
            self._live.pop(frame.key, None)
            self._finals.add(frame.key)
        elif frame.kind is FrameKind.LIVE and frame.key not in self._finals:
            self._live[frame.key] = _LiveCall(self._run, frame.clock, frame.payload)

    def finish(self) -> Recovery:
        self._tell_tail(torn=True)
        for call in self._live.values():
            try:
                record = decode_record(call.payload)
            except RecordFormatError as error:
                self._found.unreadable += 1
                _log.error("a live call in the journal can't be read: %s", error)
                continue
            lived_until = min(call.lived_until, self._last_seen[call.run])
            self._found.interrupted.append(_interrupted(record, lived_until - call.clock))
        self._found.interrupted.sort(key=lambda record: record.record_id)
        return self._found


def _interrupted(record: CallRecord, lived_on: float) -> CallRecord:
    return replace(
        record,
        phase=RecordPhase.FINAL,
        disposition=Disposition.INTERRUPTED,
        hung_up_by=HungUpBy.GATE,
        ended_after=record.ended_after + max(0.0, lived_on),
    )

"""What a journal tells after a restart: which calls lived when the process died, and when that was.

A call with a live record and no final one was cut off: its record is closed as interrupted, and its end is
the last moment at which its run is known to have lived (any frame of that run, heartbeats included).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace

from proxy.cdr.encoding import RecordFormatError, decode_record
from proxy.cdr.frames import Frame, FrameKind, ends_cleanly, scan_frames
from proxy.cdr.record import CallRecord, Disposition, HungUpBy, RecordPhase
from proxy.cdr.segments import SegmentDirectory

__all__ = ["Recovery", "recover"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _LiveCall:
    run: str
    clock: float
    payload: str = field(repr=False)


@dataclass(slots=True)
class Recovery:
    """What was found in the segments of earlier runs."""

    interrupted: list[CallRecord] = field(default_factory=list)
    """Final records of the calls that were cut off, in order of their start."""
    ends: dict[int, int] = field(default_factory=dict)
    """For each segment the offset after its last sound frame."""
    torn: list[int] = field(default_factory=list)
    """Segments whose tail was cut in the middle of a write."""
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

    def read(self, number: int, data: bytes) -> None:
        end = 0
        for frame in scan_frames(data):
            end = frame.end
            self._follow(frame)
        self._found.ends[number] = end
        if not ends_cleanly(data, end):
            self._found.torn.append(number)
            _log.warning("journal segment %d: its tail was cut in the middle of a write", number)

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
        for call in self._live.values():
            try:
                record = decode_record(call.payload)
            except RecordFormatError as error:
                self._found.unreadable += 1
                _log.error("a live call in the journal can't be read: %s", error)
                continue
            self._found.interrupted.append(_interrupted(record, self._last_seen[call.run] - call.clock))
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

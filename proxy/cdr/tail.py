"""What the sinks read: the final records of the journal, in order, from any position on.

Records of this run are served from memory as long as the sinks keep up; what is older, or what a sink that
was down has missed, is read from the segments again.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from proxy.cdr.encoding import RecordFormatError, decode_record
from proxy.cdr.frames import FrameKind, scan_frames
from proxy.cdr.record import CallRecord
from proxy.cdr.recovery import Damage, Recovery
from proxy.cdr.segments import Position, SegmentDirectory
from proxy.private_files import open_private

__all__ = ["JournalEntry", "JournalTail"]

_log = logging.getLogger(__name__)

_KEPT = 4096  # final records held in memory
_HELD = 64  # segments that are kept for the next start, which finds records that no sink could read
_CHUNK = 1 << 18  # bytes read from a segment at once


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One final record, its JSON, and the position after it."""

    record: CallRecord
    payload: str
    position: Position


class JournalTail:
    """The final records that are on the disk. Safe to use from any thread."""

    def __init__(self, segments: SegmentDirectory, found: Recovery) -> None:
        """``found`` tells how far the segments of earlier runs are sound."""
        self._segments = segments
        self._ends = dict(found.ends)
        self._lock = threading.Lock()
        self._kept: deque[JournalEntry] = deque()
        self._floor = Position(max(self._ends, default=0) + 1, 0)
        self._listeners: list[Callable[[], None]] = []
        self._held: int | None = None
        """The first segment of this run in which the last word about a call may be damaged."""
        self._damage = {(one.segment, one.offset): one.octets for one in found.damage}

    def listen(self, listener: Callable[[], None]) -> None:
        """Call this (in the journal's thread) whenever final records have become durable."""
        with self._lock:
            self._listeners.append(listener)

    def extend(self, entries: list[JournalEntry], end: Position) -> None:
        """These became durable, and the journal now ends here."""
        with self._lock:
            self._ends[end.segment] = end.offset
            self._kept.extend(entries)
            while len(self._kept) > _KEPT:
                self._floor = self._kept.popleft().position
            listeners = tuple(self._listeners) if entries else ()
        for listener in listeners:
            listener()

    @property
    def start(self) -> Position:
        """The oldest position there is."""
        with self._lock:
            return Position(min(self._ends), 0)

    @property
    def end(self) -> Position:
        """The position after the last durable frame."""
        with self._lock:
            number = max(self._ends)
            return Position(number, self._ends[number])

    @property
    def damaged_octets(self) -> int:
        """So many octets of the journal could not be read, at the start or since."""
        with self._lock:
            return sum(self._damage.values())

    def read(self, after: Position, limit: int) -> tuple[list[JournalEntry], Position]:
        """At most ``limit`` records after a position, and the position to read on from.

        An empty list with the position unchanged means that there is nothing more. Raises OSError when a
        segment can't be read.
        """
        with self._lock:
            if after >= self._floor:
                entries = [entry for entry in self._kept if entry.position > after][:limit]
                return entries, entries[-1].position if entries else self._newest(after)
            ends = dict(self._ends)
        return self._read_files(after, limit, ends)

    def _newest(self, after: Position) -> Position:
        number = max(self._ends)
        return max(after, Position(number, self._ends[number]))

    def _read_files(
        self, after: Position, limit: int, ends: dict[int, int]
    ) -> tuple[list[JournalEntry], Position]:
        while after.segment not in ends or after.offset >= ends[after.segment]:
            later = [number for number in ends if number > after.segment]
            if not later:
                return [], after
            after = Position(min(later), 0)
        rest = ends[after.segment] - after.offset
        data = self._segments.read_from(after, min(_CHUNK, rest))
        frames = list(scan_frames(data))
        if not frames:
            # A frame longer than a chunk, or damage to the end of the segment.
            frames = list(scan_frames(self._segments.read_from(after, rest)))
        entries: list[JournalEntry] = []
        reached = after.offset
        for frame in frames:
            if len(entries) == limit:
                break
            if (lost := after.offset + frame.start - reached) > 0:
                self._tell(Damage(after.segment, reached, lost))
            reached = after.offset + frame.end
            position = Position(after.segment, reached)
            if frame.kind is FrameKind.FINAL:
                try:
                    entries.append(JournalEntry(decode_record(frame.payload), frame.payload, position))
                except RecordFormatError as error:
                    self._set_aside(frame.payload, error)
        if not frames:
            reached = ends[after.segment]
            self._tell(Damage(after.segment, after.offset, rest))
        return entries, Position(after.segment, reached)

    def _tell(self, damage: Damage) -> None:
        """Say once what every sink misses."""
        with self._lock:
            known = (damage.segment, damage.offset) in self._damage
            self._damage[damage.segment, damage.offset] = damage.octets
            if not known:
                self._held = damage.segment if self._held is None else min(self._held, damage.segment)
        if not known:
            _log.error(
                "journal segment %d is damaged: %d octets at offset %d can't be read; records of calls may"
                " be missing until the gate starts again",
                damage.segment,
                damage.octets,
                damage.offset,
            )

    def _set_aside(self, payload: str, error: RecordFormatError) -> None:
        """Keep a record that this version can't read, out of the way of the others."""
        path = self._segments.path / "unreadable.jsonl"
        _log.error("a final record can't be read and is kept in %s: %s", path.name, error)
        descriptor = open_private(path, os.O_WRONLY | os.O_APPEND)
        with os.fdopen(descriptor, "a", encoding="ascii") as file:
            file.write(payload + "\n")

    def release(self, before: Position) -> None:
        """Every sink has what lies before this position: delete the segments that hold nothing else.

        Behind damage that was met since the start they are kept for the next one, up to a bound: it makes
        records of the calls that no other frame ends.
        """
        with self._lock:
            current = max(self._ends)
            while self._kept and self._kept[0].position <= before:
                self._floor = self._kept.popleft().position
            last = min(before.segment, current)
            if self._held is not None:
                last = min(last, max(self._held, current - _HELD))
            done = [number for number in self._ends if number < last]
            for number in done:
                del self._ends[number]
        for number in sorted(done):
            self._segments.delete(number)

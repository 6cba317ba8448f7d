"""The durable journal of call records: appended by the event loop, written and fsynced by one thread.

The event loop pays for an append to a deque. The thread turns records into frames, writes all that is
waiting with one write and one fdatasync (a group), and then hands the confirmations back through ``post``.
A disk that fails never raises into the event loop: the confirmations say ``False``, the frames stay in
memory, in order, and the write is tried again until it succeeds.

Segments: when one is full the next begins with the records of all live calls, so that older segments can be
deleted as soon as every sink has their final records, however long a call lasts.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from proxy.cdr.encoding import encode_record
from proxy.cdr.frames import FrameKind, pack_frame
from proxy.cdr.record import CallRecord, RecordPhase
from proxy.cdr.recovery import recover
from proxy.cdr.segments import Position, SegmentDirectory
from proxy.cdr.tail import JournalEntry, JournalTail
from proxy.errors import JournalUnavailable

__all__ = ["Confirm", "Journal", "JournalSettings", "Post"]

_log = logging.getLogger(__name__)

Confirm = Callable[[str, bool], None]
"""Called in the event loop with the record id and whether the record is on the disk."""

Post = Callable[[Callable[[], None]], object]
"""Runs a callable in the event loop from another thread (``loop.call_soon_threadsafe``)."""


_GROUP = 1000  # records of one write at most


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """How the journal writes. Times in seconds."""

    segment_bytes: int = 8 * 1024 * 1024
    group_interval: float = 0.008
    """At least this long between two fdatasyncs: what comes in between shares one."""
    lazy_interval: float = 0.05
    """How long a record that nobody waits for may wait for company."""
    retry_interval: float = 1.0
    """Between two tries while the disk fails."""
    confirm_timeout: float = 2.0
    """After this long without a word of the disk a confirmation says False (`Journal.expire_confirms`)."""


@dataclass(slots=True)
class _Item:
    """One thing to write: a record, or a heartbeat (record None). Framed at its first try."""

    record: CallRecord | None
    clock: float
    ticket: int
    frame: bytes = b""
    payload: str = ""


class Journal:
    """One journal directory, owned by this process from `start` to `stop`."""

    def __init__(
        self,
        directory: Path,
        *,
        post: Post,
        settings: JournalSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``post`` is how confirmations reach the event loop; nothing is opened before `start`."""
        self._path = directory
        self._post = post
        self._settings = settings or JournalSettings()
        self._clock = clock
        self._pending: deque[_Item] = deque()
        self._waiting: dict[int, tuple[str, Confirm, float]] = {}
        self._ticket = 0
        self._roused = False
        self._urgent = False
        self._stopping = threading.Event()
        self._event = threading.Event()
        self._thread: threading.Thread | None = None
        self._open = False
        self._overdue = 0
        """The last ticket that the disk did not answer in time."""
        # Below: the thread's own from `start` on.
        self._backlog: list[_Item] = []
        self._live: dict[str, _Item] = {}
        self._run = uuid.uuid4().hex
        self._number = 0
        self._descriptor = -1
        self._end = 0
        self._last_flush = -math.inf
        self._last_try = -math.inf
        self._failures = 0
        self._no_reserve = False
        self._drained = 0
        self._settled = 0
        """Tickets up to this one have met a disk that works."""

    # --- the event loop's side -----------------------------------------------------------------------------

    def start(self) -> tuple[CallRecord, ...]:
        """Open the journal, close what an earlier run left open, and start the thread.

        Returns the calls that were interrupted; their records are on the disk already and go to the sinks
        like any other. Raises `ConfigurationError` when another process has the directory, and
        `JournalUnavailable` when it can't be used or has no room for a segment: then `start` may be called
        again, and what is appended meanwhile waits in memory.
        """
        self._segments = SegmentDirectory(self._path, self._settings.segment_bytes)
        self._live.clear()
        try:
            found = recover(self._segments)
            self._tail = JournalTail(self._segments, found)
            self._number = max(found.ends, default=0)
            now = self._clock()
            self._backlog = [_Item(record, now, 0) for record in found.interrupted]
            self._open_segment()
            for item in self._backlog:
                self._frame(item)
            self._write_backlog()
        except OSError as error:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
            self._segments.release_lock()
            where = error.filename or self._path
            raise JournalUnavailable(f"journal directory: {where}: {error.strerror}") from error
        self._renew_reserve()
        if found.interrupted:
            _log.warning("%d call(s) were cut off; their records are closed", len(found.interrupted))
        self._event.set()  # for what has waited in memory
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()
        self._open = True
        return tuple(found.interrupted)

    def append(self, record: CallRecord, confirm: Confirm | None = None) -> None:
        """Write this state of a call. ``confirm`` is called in the event loop when it is on the disk, or
        not; at once while the journal could not be opened.

        The first word of a call, whose caller is being answered, waits for no company either: a call that
        somebody saw answered must not be gone after a crash.
        """
        now = self._clock()
        if not self._open:
            self._pending.append(_Item(record, now, 0))
            if confirm is not None:
                confirm(record.record_id, False)
            return
        if confirm is None:
            self._pending.append(_Item(record, now, 0))
            self._rouse(urgent=record.phase is RecordPhase.SETUP)
            return
        self._ticket = ticket = self._ticket + 1
        self._waiting[ticket] = (record.record_id, confirm, now)
        self._pending.append(_Item(record, now, ticket))
        self._rouse(urgent=True)

    def heartbeat(self) -> None:
        """All calls that are live in the journal still are. Every 3 s; costs one short line for all of
        them.
        """
        if not self._open:
            return
        self._pending.append(_Item(None, self._clock(), 0))
        self._rouse(urgent=False)

    def _rouse(self, *, urgent: bool) -> None:
        """Let the thread look: within the lazy interval, or now."""
        if urgent and not self._urgent:
            self._urgent = self._roused = True
            self._event.set()
        elif not self._roused:
            self._roused = True
            self._event.set()

    def expire_confirms(self) -> None:
        """Answer False for what a hanging disk has not answered in time; its record is still tried."""
        limit = self._clock() - self._settings.confirm_timeout
        overdue = [ticket for ticket, (_, _, since) in self._waiting.items() if since < limit]
        if overdue:
            self._overdue = overdue[-1]
            self._deliver(overdue, durable=False)

    @property
    def is_open(self) -> bool:
        """`start` has succeeded, and `stop` has not been called."""
        return self._open

    @property
    def durable(self) -> bool:
        """The disk takes records, and did not keep the last one waiting too long."""
        return self._open and self._failures == 0 and self._settled >= self._overdue

    @property
    def takes_calls(self) -> bool:
        """Calls that cost money may be begun: their records will reach the disk. A disk without room for a
        reserve holds those of the calls that are up.
        """
        return self.durable and not self._no_reserve

    @property
    def damaged_octets(self) -> int:
        """So many octets of its files could not be read: records of calls may be lost there."""
        return self._tail.damaged_octets if self._open else 0

    @property
    def tail(self) -> JournalTail:
        """The final records, for the sinks."""
        return self._tail

    def stop(self, timeout: float = 5.0) -> bool:
        """Write what is left and close. True when everything is on the disk."""
        thread = self._thread
        if thread is None:
            return not self._pending
        self._stopping.set()
        self._event.set()
        thread.join(timeout)
        if thread.is_alive():
            return False
        self._thread = None
        self._open = False
        os.close(self._descriptor)
        self._segments.release_lock()
        return not self._backlog

    def _deliver(self, tickets: list[int], *, durable: bool) -> None:
        for ticket in tickets:
            if (waiting := self._waiting.pop(ticket, None)) is not None:
                record_id, confirm, _ = waiting
                confirm(record_id, durable)

    # --- the thread's side ---------------------------------------------------------------------------------

    def _work(self) -> None:
        settings = self._settings
        while True:
            troubled = bool(self._failures) or self._no_reserve
            self._event.wait(settings.retry_interval if troubled else None)
            self._event.clear()
            if not (self._stopping.is_set() or self._urgent):
                self._event.wait(settings.lazy_interval)
                self._event.clear()
            spare = self._last_flush + settings.group_interval - time.monotonic()
            if spare > 0:
                self._stopping.wait(spare)
            # The flags go down before the deque is drained: what is appended after rouses the thread again.
            self._urgent = self._roused = False
            stopping = self._stopping.is_set()
            self._flush()
            if self._pending:
                self._urgent = True
                self._event.set()
            if self._no_reserve:
                self._renew_reserve()
            if stopping and not self._pending:
                return

    def _flush(self) -> None:
        tickets: list[int] = []
        # No more than is there now: a flood of records must not keep those at its head from the disk.
        for _ in range(min(len(self._pending), _GROUP)):
            item = self._pending.popleft()
            if item.ticket:
                tickets.append(item.ticket)
                self._drained = item.ticket
            self._frame(item)
            if item.frame:
                self._backlog.append(item)
        if not self._backlog:
            self._settled = self._drained
            self._confirm(tickets, durable=False)
            return
        if self._failures and not self._stopping.is_set():
            wait = self._last_try + self._settings.retry_interval - time.monotonic()
            if wait > 0:
                self._confirm(tickets, durable=False)
                return
        self._last_try = time.monotonic()
        try:
            self._write_backlog()
        except OSError as error:
            self._failures += 1
            if self._failures == 1:
                _log.error("the journal can't be written (%s): trying again", error.strerror)
            self._confirm(tickets, durable=False)
            if self._failures % 3 == 0:
                self._leave_segment()
        else:
            if self._failures:
                _log.warning("the journal can be written again")
            self._failures = 0
            self._settled = self._drained
            self._confirm(tickets, durable=True)
        self._last_flush = time.monotonic()

    def _confirm(self, tickets: list[int], *, durable: bool) -> None:
        if tickets:
            try:
                self._post(functools.partial(self._deliver, tickets, durable=durable))
            except RuntimeError:
                # The event loop is closed: nobody is left to hear it.
                _log.debug("confirmations came after the end of the event loop")

    def _write_backlog(self) -> None:
        """Write and sync the whole backlog at the durable end. On OSError nothing counts as written.

        The frames of a failed try are written again over the same place, so that a page which the kernel
        dropped after a failed fdatasync is made dirty anew.
        """
        finals: list[JournalEntry] = []
        frames: list[bytes] = []
        size = sum(len(item.frame) for item in self._backlog)
        # A segment that begins with very many live calls may grow to twice that: else each write would
        # begin one.
        limit = max(self._settings.segment_bytes, 2 * self._header_end)
        if self._end > self._header_end and self._end + size > limit:
            self._rotate()
        end = self._end
        for item in self._backlog:
            if item.record is None and not self._live:
                continue
            frames.append(item.frame)
            end += len(item.frame)
            if item.record is not None and item.record.final:
                finals.append(JournalEntry(item.record, item.payload, Position(self._number, end)))
        self._write(b"".join(frames))
        for item in self._backlog:
            if item.record is None:
                continue
            if item.record.final:
                self._live.pop(item.record.record_id, None)
            else:
                self._live[item.record.record_id] = item
        self._backlog.clear()
        self._tail.extend(finals, Position(self._number, self._end))

    def _frame(self, item: _Item) -> None:
        if item.record is None:
            item.frame = pack_frame(FrameKind.HEARTBEAT, item.clock, "", "")
            return
        try:
            item.payload = encode_record(item.record)
        except (TypeError, ValueError) as error:
            # One impossible record must not keep all others from the disk.
            _log.error("record %s can't be written: %s", item.record.record_id, error)
            return
        kind = FrameKind.FINAL if item.record.final else FrameKind.LIVE
        item.frame = pack_frame(kind, item.clock, item.record.record_id, item.payload)

    def _write(self, data: bytes) -> None:
        if not data:
            return
        view = memoryview(data)
        offset = self._end
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            view = view[written:]
            offset += written
        os.fdatasync(self._descriptor)
        self._end = offset

    def _rotate(self) -> None:
        try:
            self._open_segment()
        except OSError as error:
            # Going on in the full segment is better than not writing: it may still grow.
            _log.warning("no new journal segment (%s)", error.strerror)
            self._no_reserve = True
            return
        self._renew_reserve()

    def _open_segment(self) -> None:
        """Begin the next segment with a header and the live calls."""
        number = self._number + 1
        fresh = self._segments.open_new(number)
        old = self._descriptor, self._end, self._number
        self._descriptor, self._end, self._number = fresh, 0, number
        now = self._clock()
        frames = [pack_frame(FrameKind.HEADER, now, self._run, "")]
        frames += [item.frame for item in self._live.values()]
        try:
            self._write(b"".join(frames))
        except OSError:
            os.close(fresh)
            self._segments.delete(number)
            self._descriptor, self._end, self._number = old
            raise
        self._header_end = self._end
        descriptor, end, _ = old
        if descriptor >= 0:
            # What failed tries left behind its end must not be read as records: it is written again here.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, end)
            os.close(descriptor)

    def _leave_segment(self) -> None:
        """Several tries in this file failed: perhaps another file fares better."""
        try:
            self._open_segment()
        except OSError as error:
            _log.debug("no other journal segment either (%s)", error.strerror)

    def _renew_reserve(self) -> None:
        try:
            self._segments.make_reserve()
        except OSError as error:
            if not self._no_reserve:
                _log.error("no room for the journal's reserve (%s)", error.strerror)
            self._no_reserve = True
        else:
            self._no_reserve = False

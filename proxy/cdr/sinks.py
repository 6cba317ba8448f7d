"""The pump from the journal to one sink: in order, exactly once, patient while the sink is down.

Exactly once: the pump remembers in a file how far its sink has come, and after a crash offers again what
lies behind that position. A sink must therefore know what it has: the store knows records by their ids.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from proxy.cdr.segments import Position
from proxy.cdr.tail import JournalEntry, JournalTail
from proxy.private_files import open_private

__all__ = ["RecordPump", "RecordSink", "forget_position", "release_delivered"]

_log = logging.getLogger(__name__)

_BATCH = 500
_GATHER = 0.2
"""Seconds: records that come within it share a batch."""
MOST_BEHIND = 64
"""Segments that a sink which may miss records keeps on the disk when it is stuck."""
_FIRST_BACK_OFF, _LAST_BACK_OFF = 0.5, 30.0


class RecordSink(Protocol):
    """Takes final records for good."""

    def write(self, entries: Sequence[JournalEntry]) -> str:
        """Take these records, or raise and take none.

        Returns a note (ASCII, may be "") that is kept with the position and given to `resume` after a
        restart.
        """
        ...

    def resume(self, note: str) -> None:
        """The position goes with this note: whatever was taken after it will be offered again."""
        ...


class RecordPump:
    """Carries the final records to one sink in a thread of its own."""

    def __init__(
        self,
        name: str,
        tail: JournalTail,
        sink: RecordSink,
        *,
        directory: Path,
        gather: float = _GATHER,
        rest: float = 0.0,
        first_back_off: float = _FIRST_BACK_OFF,
    ) -> None:
        """``name`` names the position file in ``directory``; two sinks never share one.

        A record waits ``gather`` seconds for company, and until ``rest`` seconds after the last batch: what a
        batch costs depends little on how many records are in it.
        """
        self._name = name
        self._tail = tail
        self._sink = sink
        self._file = _position_file(directory, name)
        self._gather = gather
        self._rest = rest
        self._first_back_off = first_back_off
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._resumed = False
        self._note = ""
        self._failing = False
        self._position = tail.start
        self._thread = threading.Thread(target=self._work, name=f"records-{name}", daemon=True)

    def start(self) -> None:
        """Begin after the remembered position, or with the oldest record there is."""
        self._load()
        self._tail.listen(self._wake.set)
        self._wake.set()
        self._thread.start()

    @property
    def position(self) -> Position:
        """What lies before it is in the sink."""
        return self._position

    @property
    def failing(self) -> bool:
        """The sink refused its last batch; it is being tried again."""
        return self._failing

    def stop(self, timeout: float = 5.0) -> bool:
        """Deliver what is there, unless the sink is down, and end. True when nothing is left."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout)
        return not self._thread.is_alive() and not self._failing

    def _work(self) -> None:
        back_off = self._first_back_off
        rested_at = -math.inf
        while True:
            self._wake.wait()
            self._wake.clear()
            self._stopping.wait(max(self._gather, rested_at - time.monotonic()))
            stopping = self._stopping.is_set()
            self._try_to_deliver()
            rested_at = time.monotonic() + self._rest
            if stopping:
                return
            if self._failing:
                self._stopping.wait(back_off)
                back_off = min(back_off * 2, _LAST_BACK_OFF)
                self._wake.set()
            else:
                back_off = self._first_back_off

    def _try_to_deliver(self) -> None:
        try:
            self._deliver_all()
        except Exception as error:  # noqa: BLE001 - whatever a sink raises, its records are kept
            if not self._failing:
                _log.error("records can't go to %s, trying again: %s", self._name, _first_line(error))
            self._failing = True
        else:
            if self._failing:
                _log.warning("records go to %s again", self._name)
            self._failing = False

    def _deliver_all(self) -> None:
        if not self._resumed:
            self._sink.resume(self._note)
            self._resumed = True
        while True:
            entries, position = self._tail.read(self._position, _BATCH)
            if entries:
                try:
                    self._note = self._sink.write(entries)
                except Exception:
                    self._resumed = False
                    raise
            elif position == self._position:
                return
            self._position = position
            self._save()

    def _load(self) -> None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            saved = json.loads(self._file.read_text(encoding="ascii"))
            position = Position(int(saved["segment"]), int(saved["offset"]))
            if self._tail.start <= position <= self._tail.end:
                self._position = position
                self._note = str(saved["note"])

    def _save(self) -> None:
        """Remember the position. When the disk is full it stays in memory: a restart offers some again."""
        text = json.dumps(
            {"segment": self._position.segment, "offset": self._position.offset, "note": self._note}
        )
        fresh = self._file.with_suffix(".new")
        try:
            descriptor = open_private(fresh, os.O_WRONLY | os.O_TRUNC)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(text)
            os.replace(fresh, self._file)
        except OSError as error:
            _log.debug("the position of %s can't be kept: %s", self._name, error.strerror)


def forget_position(directory: Path, name: str) -> None:
    """Let a sink be offered again, at the next start, all that the journal still holds."""
    _position_file(directory, name).unlink(missing_ok=True)


def _position_file(directory: Path, name: str) -> Path:
    return directory / f"position-{name}.json"


def release_delivered(
    tail: JournalTail, pumps: Sequence[RecordPump], *, patient: Sequence[RecordPump] = ()
) -> None:
    """Delete the journal segments that every sink has. Called now and then (each minute) and at the end.

    Those of ``patient`` need not have all of them: one that is stuck keeps `MOST_BEHIND` segments at most, so
    that it never fills the disk, and goes on with the oldest record that is left.
    """
    if pumps:
        taken = min(pump.position for pump in pumps)
        oldest = Position(tail.end.segment - MOST_BEHIND, 0)
        tail.release(min([taken, *(max(pump.position, oldest) for pump in patient)]))


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]

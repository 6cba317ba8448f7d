"""Events of the gate on their way to the store's outbox: batched, in threads, and never in a call's way.

The end of a call is told from its final record, by a pump from the journal (`EventSink`), so that none is
lost. What happens before (`EventWriter`) waits in memory for a fifth of a second; what a gate that is killed
had there is lost, but for emergencies, which the final record tells again.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from proxy.call.trunk_watch import DestinationStatus, TrunkState
from proxy.cdr.record import CallRecord
from proxy.cdr.tail import JournalEntry
from proxy.errors import TollgateError
from proxy.store import WebhooksRepository
from proxy.store.call_events import (
    EMERGENCY,
    ENDED,
    NewEvent,
    Site,
    final_events,
    of_call,
    of_trunk,
)

__all__ = ["EventSink", "EventWriter", "TrunkNews"]

_log = logging.getLogger(__name__)

_GATHER = 0.2
_LOOK = 2.0
"""Seconds between two looks whether anybody wants to be told anything."""
_MOST = 20_000
"""Events that wait; older ones are dropped while the store is down."""
_BATCH = 500

_Waiting = tuple[str, CallRecord, float] | NewEvent
"""An event of a call, its record and when it was; or an event that is written already."""


class EventSink:
    """Tells of calls that are over, from their final records (`proxy.cdr.sinks.RecordSink`).

    A sink of its own beside the usage log's: no trouble with events keeps a record back.
    """

    def __init__(self, outbox: WebhooksRepository, site: Site) -> None:
        self._outbox = outbox
        self._site = site

    def write(self, entries: Sequence[JournalEntry]) -> str:
        """Tell of these calls, those that are offered again too: the outbox knows events by their ids."""
        if self._outbox.wanted() & {ENDED, EMERGENCY}:
            events = [event for entry in entries for event in final_events(entry.record, self._site)]
            self._outbox.enqueue(events, now=time.time())
        return ""

    def resume(self, note: str) -> None:
        """Nothing to do: the outbox knows what it has."""


class EventWriter:
    """Writes what happens now to the outbox, in a thread of its own."""

    def __init__(
        self, outbox: WebhooksRepository, site: Site, *, on_wanted: Callable[[frozenset[str]], None]
    ) -> None:
        """``on_wanted`` is called in the thread with the events that somebody wants, when they change."""
        self._outbox = outbox
        self.site = site
        self._on_wanted = on_wanted
        self._wanted: frozenset[str] = frozenset()
        self._waiting: deque[_Waiting] = deque(maxlen=_MOST)
        self._news = threading.Event()
        self._ending = threading.Event()
        self.failing = False
        """The store refused the last events; they are offered again."""
        self._thread = threading.Thread(target=self._work, name="events", daemon=True)

    def start(self) -> None:
        """Begin to look and to write."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Write what there is and end."""
        self._ending.set()
        self._news.set()
        self._thread.join(timeout)

    def tell(self, event: str, record: CallRecord) -> None:
        """Tell of a call; costs the event loop an append."""
        if event in self._wanted:
            self._waiting.append((event, record, time.time()))
            self._news.set()

    def tell_trunks(self, down: Iterable[DestinationStatus]) -> None:
        """Tell of trunks that answer no more."""
        for one in down:
            self._waiting.append(of_trunk(one.trunk, one.address, one.reason, at=time.time()))
            self._news.set()

    def _work(self) -> None:
        while not self._ending.is_set():
            self._try(self._look)
            if self._news.wait(_LOOK):
                self._ending.wait(_GATHER)
                self._news.clear()
                self._try(self._write)
        self._try(self._write)

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001
            # Of any kind: without this thread nobody is told of an emergency.
            if not self.failing:
                _log.error("events can't be noted, trying again: %s", _told(error))
            self.failing = True
            self._news.set()
            self._ending.wait(_LOOK)
        else:
            self.failing = False

    def _look(self) -> None:
        wanted = self._outbox.wanted()
        if wanted != self._wanted:
            before, self._wanted = self._wanted, wanted
            try:
                self._on_wanted(wanted)
            except Exception:
                self._wanted = before
                raise

    def _write(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            try:
                self._enqueue(batch)
            except TollgateError:
                self._waiting.extendleft(reversed(batch[: _MOST - len(self._waiting)]))
                raise

    def _enqueue(self, batch: Sequence[_Waiting]) -> None:
        """Note these; one that can't be noted at all is left out, and keeps no other back."""
        try:
            events = [
                one if isinstance(one, NewEvent) else of_call(one[0], one[1], self.site, at=one[2])
                for one in batch
            ]
            self._outbox.enqueue(events, now=time.time())
        except TollgateError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are to be noted
            if len(batch) == 1:
                _log.error("an event can't be noted and is left out: %s", _told(error))
                return
            for one in batch:
                self._enqueue([one])


def _told(error: Exception) -> str:
    """An error for the log: of one nobody thought of its kind and place, its words may be a call's."""
    if isinstance(error, TollgateError):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {place.name}, line {place.lineno} of {place.filename}"


class TrunkNews:
    """Notices destinations of trunks that have gone down since the last look."""

    def __init__(self) -> None:
        self._down: frozenset[tuple[str, str]] = frozenset()

    def look(self, now: Iterable[DestinationStatus]) -> list[DestinationStatus]:
        """Return those that are down now and were not before."""
        down = {(one.trunk, one.address): one for one in now if one.state is TrunkState.DOWN}
        fresh = [one for key, one in down.items() if key not in self._down]
        self._down = frozenset(down)
        return fresh

"""From the journal to the sinks: in order, exactly once, whatever a sink does in between."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from proxy.cdr import sinks
from proxy.cdr.journal import Journal, JournalSettings
from proxy.cdr.segments import Position
from proxy.cdr.sinks import RecordPump, RecordSink, release_delivered
from proxy.cdr.tail import JournalEntry, JournalTail
from tests.cdr.samples import full_record

SETTINGS = JournalSettings(segment_bytes=16_384, group_interval=0.0, lazy_interval=0.0)


class ListSink:
    """Keeps what it is given; refuses while it is down."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.down = False
        self.refused = threading.Event()
        self.reached = threading.Event()
        self.wanted = 0

    def write(self, entries: Sequence[JournalEntry]) -> str:
        if self.down:
            self.refused.set()
            raise RuntimeError("the store is down\nwith more lines")
        self.ids += [entry.record.record_id for entry in entries]
        if len(self.ids) >= self.wanted:
            self.reached.set()
        return "note"

    def resume(self, note: str) -> None:
        assert note in {"", "note"}

    def wait_for(self, count: int) -> None:
        self.wanted = count
        if len(self.ids) < count:
            assert self.reached.wait(60)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path, post=lambda call: call(), settings=SETTINGS)
    opened.start()
    yield opened
    opened.stop()


@pytest.fixture
def pump_to(journal: Journal, tmp_path: Path) -> Iterator[Callable[[RecordSink], RecordPump]]:
    pumps: list[RecordPump] = []

    def make(sink: RecordSink) -> RecordPump:
        pump = RecordPump("test", journal.tail, sink, directory=tmp_path, gather=0.0, first_back_off=0.001)
        pump.start()
        pumps.append(pump)
        return pump

    yield make
    for pump in pumps:
        pump.stop()


def _append(journal: Journal, first: int, count: int) -> list[str]:
    ids = [f"r{number:04d}" for number in range(first, first + count)]
    done = threading.Event()
    for record_id in ids:
        journal.append(full_record(record_id))
    journal.append(full_record("~" + ids[-1]), lambda _record_id, _durable: done.set())
    assert done.wait(10)
    return [*ids, "~" + ids[-1]]


Pumps = Callable[[RecordSink], RecordPump]


def test_records_arrive_in_order_and_once(journal: Journal, pump_to: Pumps) -> None:
    ids = _append(journal, 0, 20)
    sink = ListSink()
    pump = pump_to(sink)
    ids += _append(journal, 100, 20)
    sink.wait_for(len(ids))
    assert pump.stop()
    assert sink.ids == ids


def test_records_of_many_calls_go_in_few_batches(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = ListSink()
    read, rests = JournalTail.read, threading.Event()

    def watched(tail: JournalTail, after: Position, limit: int) -> tuple[list[JournalEntry], Position]:
        entries, position = read(tail, after, limit)
        if sink.ids and not entries and position == after:
            rests.set()
        return entries, position

    monkeypatch.setattr(JournalTail, "read", watched)
    pump = RecordPump("test", journal.tail, sink, directory=tmp_path, gather=0.0, rest=3600.0)
    first = _append(journal, 0, 1)
    pump.start()
    assert rests.wait(60)
    assert sink.ids == first
    later = [*_append(journal, 100, 1), *_append(journal, 200, 1)]
    assert sink.ids == first
    # Whoever ends it does not wait for the rest.
    assert pump.stop()
    assert sink.ids == [*first, *later]


def test_a_sink_that_was_down_misses_nothing(journal: Journal, pump_to: Pumps) -> None:
    sink = ListSink()
    sink.down = True
    pump = pump_to(sink)
    ids = _append(journal, 0, 30)
    assert sink.refused.wait(10)
    sink.down = False
    sink.wait_for(len(ids))
    assert pump.stop()
    assert sink.ids == ids
    assert not pump.failing


def test_a_pump_ends_while_its_sink_is_down(journal: Journal, pump_to: Pumps) -> None:
    sink = ListSink()
    sink.down = True
    pump = pump_to(sink)
    _append(journal, 0, 3)
    assert sink.refused.wait(10)
    assert not pump.stop()
    assert pump.failing


def test_a_new_pump_goes_on_where_the_last_one_ended(
    journal: Journal, pump_to: Pumps, tmp_path: Path
) -> None:
    first, second = ListSink(), ListSink()
    ids = _append(journal, 0, 5)
    pump = pump_to(first)
    first.wait_for(len(ids))
    assert pump.stop()
    assert stat.S_IMODE((tmp_path / "position-test.json").stat().st_mode) == 0o600
    more = _append(journal, 100, 5)
    pump = pump_to(second)
    second.wait_for(len(more))
    assert pump.stop()
    assert second.ids == more


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"segment":"x","offset":1,"note":""}', '{"segment":99,"offset":0,"note":""}']
)
def test_a_bad_position_means_from_the_beginning(
    text: str, journal: Journal, pump_to: Pumps, tmp_path: Path
) -> None:
    (tmp_path / "position-test.json").write_text(text)
    ids = _append(journal, 0, 3)
    sink = ListSink()
    pump = pump_to(sink)
    sink.wait_for(len(ids))
    assert pump.stop()
    assert sink.ids == ids


def test_a_position_that_cannot_be_kept_stops_nothing(
    journal: Journal, pump_to: Pumps, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    ids = _append(journal, 0, 3)
    sink = ListSink()
    monkeypatch.setattr(os, "replace", full)
    pump = pump_to(sink)
    sink.wait_for(len(ids))
    assert pump.stop()


def test_segments_go_when_every_sink_has_them(journal: Journal, pump_to: Pumps, tmp_path: Path) -> None:
    ids = [record_id for first in (0, 100, 200, 300) for record_id in _append(journal, first, 12)]
    sink = ListSink()
    pump = pump_to(sink)
    sink.wait_for(len(ids))
    assert pump.stop()
    before = len(list(tmp_path.glob("journal-*.log")))
    release_delivered(journal.tail, [])
    assert len(list(tmp_path.glob("journal-*.log"))) == before > 2
    release_delivered(journal.tail, [pump])
    assert len(list(tmp_path.glob("journal-*.log"))) == 1


def test_a_sink_that_may_miss_records_never_keeps_all_segments(
    journal: Journal, pump_to: Pumps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [record_id for first in (0, 100, 200, 300) for record_id in _append(journal, first, 12)]
    usage, events = ListSink(), ListSink()
    events.down = True
    pump = pump_to(usage)
    stuck = RecordPump("stuck", journal.tail, events, directory=tmp_path, gather=0.0, first_back_off=0.001)
    stuck.start()
    usage.wait_for(len(ids))
    assert pump.stop()
    assert events.refused.wait(10)
    before = len(list(tmp_path.glob("journal-*.log")))
    assert before > 3
    release_delivered(journal.tail, [pump], patient=[stuck])
    assert len(list(tmp_path.glob("journal-*.log"))) == before, "not so far behind"
    monkeypatch.setattr(sinks, "MOST_BEHIND", 1)
    release_delivered(journal.tail, [pump], patient=[stuck])
    assert len(list(tmp_path.glob("journal-*.log"))) == 2
    events.down = False
    later = _append(journal, 400, 1)
    assert stuck.stop()
    assert events.ids == [*ids, *later][-len(events.ids) :]
    assert len(later) < len(events.ids) < len(ids)

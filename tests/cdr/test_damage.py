"""Damage in the journal's files: told, no call made longer by it, none lost that has one sound frame."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cdr.encoding import decode_record
from proxy.cdr.frames import Frame, FrameKind, scan_frames
from proxy.cdr.journal import Journal, JournalSettings
from proxy.cdr.record import CallRecord, Disposition, RecordPhase
from proxy.cdr.recovery import Damage, Recovery, recover
from proxy.cdr.segments import SegmentDirectory
from tests.cdr.samples import full_record

QUICK = JournalSettings(segment_bytes=8_192, group_interval=0.0, lazy_interval=0.0)
HEARTBEAT = 3.0
SECTOR = 4_096
_ANYWHERE = st.integers(0, 1 << 40)
_OF_CALLS = {FrameKind.LIVE, FrameKind.FINAL}


class Gate:
    """Runs of a gate on one journal, whose clock is moved by hand."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begun: dict[str, float] = {}
        self.now = 1_000.0

    def start(self) -> None:
        self.journal = Journal(
            self._path, post=lambda deliver: deliver(), settings=QUICK, clock=lambda: self.now
        )
        self.journal.start()

    def kill(self) -> None:
        assert self.journal.stop()

    def say(self, record_id: str, phase: RecordPhase) -> None:
        """Write what is known of a call."""
        begun = self._begun.setdefault(record_id, self.now)
        record = replace(full_record(record_id, phase=phase), ended_after=self.now - begun)
        if phase is RecordPhase.SETUP:
            record = replace(record, answered_after=None)
        written = threading.Event()
        self.journal.append(record, lambda _record_id, _durable: written.set())
        assert written.wait(60)

    def begin(self, *record_ids: str) -> None:
        for record_id in record_ids:
            self.say(record_id, RecordPhase.SETUP)
            self.now += 2.0
            self.say(record_id, RecordPhase.ANSWERED)

    def end(self, *record_ids: str) -> None:
        for record_id in record_ids:
            self.say(record_id, RecordPhase.FINAL)

    def live_on(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now + HEARTBEAT <= end:
            self.now += HEARTBEAT
            self.journal.heartbeat()
        self.now = end


@dataclass(frozen=True, repr=False)
class Written:
    """The segments of a journal, and what they say while nothing is damaged."""

    directory: SegmentDirectory
    segments: dict[int, bytes]
    """Without the zeros behind."""
    frames: dict[int, list[Frame]]
    ends: dict[str, float]
    """How long each call was, from its start."""

    def __repr__(self) -> str:
        return "written"  # Hypothesis prints what a test is given

    def read(self, number: int, data: bytes) -> Recovery:
        """What a start finds when one segment is this."""
        file = self.directory.file(number)
        file.write_bytes(data)
        try:
            return recover(self.directory)
        finally:
            file.write_bytes(self.segments[number])

    def of_calls(self) -> Iterator[tuple[int, Frame]]:
        for number, frames in self.frames.items():
            yield from ((number, frame) for frame in frames if frame.kind in _OF_CALLS)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    """Two runs: short calls, one over many segments, two days of silence, calls that are cut off."""
    path = tmp_path_factory.mktemp("damage") / "journal"
    gate = Gate(path)
    gate.start()
    gate.begin("long")
    for number in range(8):
        gate.begin(f"a{number}", f"b{number}")
        gate.live_on(10.0)
        gate.end(f"b{number}", f"a{number}")
    gate.end("long")
    gate.now += 2 * 86_400.0
    gate.begin("monday", "cut", "cut too")
    gate.live_on(60.0)
    gate.end("monday")
    gate.live_on(60.0)
    gate.kill()
    gate.now = 50.0
    gate.start()
    for number in range(5):
        gate.begin(f"c{number}", f"d{number}")
        gate.live_on(10.0)
        gate.end(f"d{number}", f"c{number}")
    gate.begin("last")
    gate.live_on(20.0)
    gate.kill()
    directory = SegmentDirectory(path, QUICK.segment_bytes)
    segments = {number: directory.read(number).rstrip(b"\0") for number in directory.numbers()}
    for number, data in segments.items():
        directory.file(number).write_bytes(data)
    frames = {number: list(scan_frames(data)) for number, data in segments.items()}
    found = recover(directory)
    ends = {record.record_id: record.ended_after for record in found.interrupted}
    for frame in itertools.chain(*frames.values()):
        if frame.kind is FrameKind.FINAL:
            ends[frame.key] = decode_record(frame.payload).ended_after
    yield Written(directory, segments, frames, ends)
    directory.release_lock()


def _judge(written: Written, number: int, data: bytes, found: Recovery) -> list[Frame]:
    """Hold what a start found against the truth; returns the frames that are lost."""
    read = list(scan_frames(data))
    said = {(frame.kind, frame.clock, frame.key, frame.payload) for frame in read}
    lost = [
        frame
        for frame in written.frames[number]
        if (frame.kind, frame.clock, frame.key, frame.payload) not in said
    ]
    sound = {frame.key for other, frame in written.of_calls() if other != number}
    sound |= {frame.key for frame in read if frame.kind in _OF_CALLS}
    finals = {
        frame.key
        for other, frame in written.of_calls()
        if frame.kind is FrameKind.FINAL and not (other == number and frame in lost)
    }
    closed = {record.record_id: record for record in found.interrupted}
    assert closed.keys() == sound - finals
    for record_id, record in closed.items():
        assert record.disposition is Disposition.INTERRUPTED
        assert record.ended_after <= written.ends[record_id] + 0.001, record_id
    return lost


def _place(written: Written, anywhere: int) -> tuple[int, int]:
    """A segment and an offset there, so that each octet of the journal has its turn."""
    anywhere %= sum(map(len, written.segments.values()))
    number = min(written.segments)
    while anywhere >= len(written.segments[number]):
        anywhere -= len(written.segments[number])
        number += 1
    return number, anywhere


def _own_end(lost: list[Frame], record: CallRecord) -> bool:
    return any(frame.kind is FrameKind.FINAL and frame.key == record.record_id for frame in lost)


def test_what_is_whole_is_read_without_a_word(written: Written, caplog: pytest.LogCaptureFixture) -> None:
    found = recover(written.directory)
    assert (found.damage, found.torn, found.unreadable) == ([], [], 0)
    assert [record.record_id for record in found.interrupted] == ["last"]
    assert len(written.segments) > 6
    assert len(written.ends) == 31
    assert not caplog.records


@given(_ANYWHERE, st.integers(0, 7))
def test_one_bit_anywhere_is_told_and_costs_a_call_seconds(written: Written, anywhere: int, bit: int) -> None:
    number, place = _place(written, anywhere)
    data = bytearray(written.segments[number])
    data[place] ^= 1 << bit
    found = written.read(number, bytes(data))
    lost = _judge(written, number, bytes(data), found)
    assert len(lost) <= 1
    assert found.damage == [Damage(number, frame.start, frame.end - frame.start) for frame in lost]
    assert not found.torn
    for record in found.interrupted:
        if _own_end(lost, record):
            assert record.ended_after >= written.ends[record.record_id] - HEARTBEAT - 0.001


@given(_ANYWHERE, st.integers(1, SECTOR), st.sampled_from([b"\0", b"\n", b"\xff", b"F"]))
def test_a_sector_that_is_gone_is_told_and_no_call_is_longer(
    written: Written, anywhere: int, size: int, other: bytes
) -> None:
    number, place = _place(written, anywhere)
    whole = written.segments[number]
    size = min(size, len(whole) - place)
    data = whole[:place] + other * size + whole[place + size :]
    found = written.read(number, data)
    lost = _judge(written, number, data, found)
    if lost and data.rstrip(b"\0")[place:]:
        assert found.damage or found.torn == [number]
        assert all(one.segment == number for one in found.damage)
    if lost and lost[-1] is not written.frames[number][-1]:
        assert sum(one.octets for one in found.damage) == sum(frame.end - frame.start for frame in lost)


@given(_ANYWHERE, st.sampled_from([0, 5_000]))
def test_a_tail_that_was_cut_is_no_damage_unless_its_run_wrote_on(
    written: Written, anywhere: int, zeros: int
) -> None:
    number, place = _place(written, anywhere)
    data = written.segments[number][:place] + bytes(zeros)
    found = written.read(number, data)
    _judge(written, number, data, found)
    cut = max((frame.end for frame in scan_frames(data)), default=0)
    runs = {other: frames[0].key for other, frames in written.frames.items()}
    clean = not written.segments[number][cut:place]
    if clean:
        assert (found.damage, found.torn) == ([], [])
    elif cut > 0 and runs[number] == runs.get(number + 1):
        assert (found.damage, found.torn) == ([Damage(number, cut, place - cut)], [])
    else:
        assert (found.damage, found.torn) == ([], [number])


def test_a_call_of_which_nothing_is_left_is_told(written: Written, caplog: pytest.LogCaptureFixture) -> None:
    number, data = 1, bytearray(written.segments[1])
    own = [frame for frame in written.frames[1] if frame.key == "b0"]
    for frame in own:
        data[frame.end - 30] ^= 1
    found = written.read(number, bytes(data))
    assert {frame.kind for frame in own} == _OF_CALLS
    assert "b0" not in {record.record_id for record in found.interrupted}
    octets = sum(frame.end - frame.start for frame in own)
    assert sum(one.octets for one in found.damage) == octets
    (told,) = caplog.records
    assert told.levelno == logging.ERROR
    assert f"journal segment 1 is damaged: {octets} octets" in told.getMessage()
    assert f"the first at offset {own[0].start};" in told.getMessage()
    assert "2263127" not in caplog.text


def test_a_damaged_end_before_days_of_silence_costs_seconds(written: Written) -> None:
    ((number, end),) = [
        (number, frame)
        for number, frame in written.of_calls()
        if frame.kind is FrameKind.FINAL and frame.key == "long"
    ]
    data = bytearray(written.segments[number])
    data[end.start + 3] ^= 1
    (record,) = [one for one in written.read(number, bytes(data)).interrupted if one.record_id == "long"]
    assert written.ends["long"] - HEARTBEAT <= record.ended_after <= written.ends["long"]


def test_a_running_gate_tells_damage_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("proxy.cdr.tail._KEPT", 2)
    gate = Gate(tmp_path / "journal")
    gate.start()
    ids = [f"r{number}" for number in range(6)]
    gate.end(*ids)
    file = tmp_path / "journal" / "journal-00000001.log"
    data = bytearray(file.read_bytes())
    damaged = [frame for frame in scan_frames(bytes(data)) if frame.key in {"r1", "r2"}]
    data[damaged[0].end - 30] ^= 1
    data[damaged[1].end - 30] ^= 1
    file.write_bytes(data)
    assert gate.journal.damaged_octets == 0
    assert _finals(gate.journal) == _finals(gate.journal) == ["r0", "r3", "r4", "r5"]
    octets = damaged[1].end - damaged[0].start
    assert gate.journal.damaged_octets == octets
    (told,) = caplog.records
    says = f"journal segment 1 is damaged: {octets} octets at offset {damaged[0].start} can't be read"
    assert told.getMessage().startswith(says)
    gate.kill()
    assert gate.journal.damaged_octets == 0
    caplog.clear()
    gate.start()
    assert gate.journal.damaged_octets == octets
    assert _finals(gate.journal) == ["r0", "r3", "r4", "r5"]
    assert [one.levelno for one in caplog.records] == [logging.ERROR]
    gate.kill()


@pytest.mark.parametrize("held", [1, 64])
def test_a_call_whose_end_no_sink_could_read_waits_for_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    monkeypatch.setattr("proxy.cdr.tail._KEPT", 2)
    monkeypatch.setattr("proxy.cdr.tail._HELD", held)
    gate = Gate(tmp_path / "journal")
    gate.start()
    ids = [f"r{number:02d}" for number in range(30)]
    for record_id in ids:
        gate.begin(record_id)
        gate.end(record_id)
    file = tmp_path / "journal" / "journal-00000002.log"
    data = bytearray(file.read_bytes())
    lost = next(frame for frame in scan_frames(bytes(data)) if frame.kind is FrameKind.FINAL)
    data[lost.end - 30] ^= 1
    file.write_bytes(data)
    others = [record_id for record_id in ids if record_id != lost.key]
    assert _finals(gate.journal) == others
    tail = gate.journal.tail
    tail.release(tail.end)
    assert tail.start.segment == (2 if held == 64 else tail.end.segment - 1)
    gate.kill()
    gate.start()
    # What the sinks have they get once more only if their positions are lost.
    assert (lost.key in _finals(gate.journal)) is (held == 64)
    gate.kill()


def test_damage_at_the_end_of_what_a_running_gate_wrote_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("proxy.cdr.tail._KEPT", 0)
    gate = Gate(tmp_path / "journal")
    gate.start()
    gate.end("r0", "r1")
    file = tmp_path / "journal" / "journal-00000001.log"
    data = bytearray(file.read_bytes())
    *_, last = scan_frames(bytes(data))
    data[last.end - 30] ^= 1
    file.write_bytes(data)
    assert _finals(gate.journal) == ["r0"]
    assert gate.journal.damaged_octets == last.end - last.start
    assert [one.levelno for one in caplog.records] == [logging.ERROR]
    gate.kill()


def _finals(journal: Journal) -> list[str]:
    found: list[str] = []
    position = journal.tail.start
    while True:
        entries, following = journal.tail.read(position, 3)
        found += [entry.record.record_id for entry in entries]
        if following == position:
            return found
        position = following

"""The journal on a real disk: durable, recovered after a kill, patient with a disk that fails."""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.cdr.frames import FrameKind, scan_frames
from proxy.cdr.journal import Journal, JournalSettings
from proxy.cdr.record import CallRecord, Disposition, HungUpBy, RecordPhase
from proxy.cdr.segments import Position
from proxy.errors import ConfigurationError, JournalUnavailable
from tests.cdr.samples import full_record

FAST = JournalSettings(
    segment_bytes=16_384, group_interval=0.0, lazy_interval=0.0, retry_interval=0.01, confirm_timeout=5.0
)


class Clock:
    """A monotonic clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Confirmations:
    """Confirmations as the journal's thread hands them over."""

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[str, bool]] = queue.Queue()

    def __call__(self, record_id: str, durable: bool) -> None:
        self._queue.put((record_id, durable))

    def next(self) -> tuple[str, bool]:
        return self._queue.get(timeout=60)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def said() -> Confirmations:
    return Confirmations()


OpenJournal = Callable[..., Journal]


@pytest.fixture
def open_journal(tmp_path: Path, clock: Clock) -> Iterator[OpenJournal]:
    opened: list[Journal] = []

    def make(settings: JournalSettings = FAST) -> Journal:
        journal = Journal(tmp_path / "journal", post=lambda call: call(), settings=settings, clock=clock)
        journal.start()
        opened.append(journal)
        return journal

    yield make
    for journal in opened:
        journal.stop()


def _crash(journal: Journal) -> None:
    """End without a word more in the files: what kill -9 leaves when all was on the disk."""
    assert journal.stop()


def _finals(journal: Journal) -> list[CallRecord]:
    found: list[CallRecord] = []
    position = journal.tail.start
    while True:
        entries, following = journal.tail.read(position, 3)
        found += [entry.record for entry in entries]
        if following == position:
            return found
        position = following


def _takes_calls(journal: Journal) -> bool:
    return journal.takes_calls


def _troubled(journal: Journal) -> bool:
    return not journal.durable


def _short_of_space(journal: Journal) -> bool:
    return journal.durable and not journal.takes_calls


def _answered(record_id: str) -> CallRecord:
    return full_record(record_id, phase=RecordPhase.ANSWERED)


def test_a_confirmed_record_is_on_the_disk(
    tmp_path: Path, open_journal: OpenJournal, said: Confirmations
) -> None:
    journal = open_journal()
    journal.append(_answered("r1"), said)
    assert said.next() == ("r1", True)
    data = (tmp_path / "journal" / "journal-00000001.log").read_bytes()
    assert [(frame.kind, frame.key) for frame in scan_frames(data)][1:] == [(FrameKind.LIVE, "r1")]
    assert journal.durable
    assert _takes_calls(journal)


def test_files_are_private(tmp_path: Path, open_journal: OpenJournal) -> None:
    open_journal()
    directory = tmp_path / "journal"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    names = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert names == {"lock": 0o600, "reserve": 0o600, "journal-00000001.log": 0o600}


def test_finals_come_out_in_order_once(open_journal: OpenJournal, said: Confirmations) -> None:
    journal = open_journal()
    ids = [f"r{number:03d}" for number in range(100)]
    for record_id in ids:
        journal.append(_answered(record_id))
        journal.append(full_record(record_id))
    journal.append(_answered("last"), said)
    said.next()
    assert [record.record_id for record in _finals(journal)] == ids


def test_an_answered_call_without_end_is_interrupted_at_its_last_heartbeat(
    open_journal: OpenJournal, clock: Clock, said: Confirmations
) -> None:
    journal = open_journal()
    journal.append(_answered("r1"), said)
    said.next()
    clock.now += 3.0
    journal.heartbeat()
    clock.now += 3.0
    journal.heartbeat()
    _crash(journal)
    clock.now += 500.0
    [record] = _finals(open_journal())
    before = _answered("r1")
    assert (record.record_id, record.phase, record.disposition) == (
        "r1",
        RecordPhase.FINAL,
        Disposition.INTERRUPTED,
    )
    assert record.hung_up_by is HungUpBy.GATE
    assert record.ended_after == pytest.approx(before.ended_after + 6.0)
    assert record.code == before.code


def test_a_later_phase_is_no_second_call(open_journal: OpenJournal) -> None:
    journal = open_journal()
    journal.append(full_record("r1", phase=RecordPhase.SETUP))
    journal.append(full_record("r1", phase=RecordPhase.ANSWERED))
    _crash(journal)
    assert [record.record_id for record in _finals(open_journal())] == ["r1"]


def test_a_call_cut_off_at_the_prompt_has_its_record(open_journal: OpenJournal) -> None:
    journal = open_journal()
    asked = replace(full_record("r1", phase=RecordPhase.SETUP), answered_after=None, code=None)
    journal.append(asked)
    _crash(journal)
    (record,) = _finals(open_journal())
    assert (record.disposition, record.answered_after) == (Disposition.INTERRUPTED, None)


@pytest.mark.parametrize("lazy_one_waits", [False, True])
def test_the_first_word_of_a_call_waits_for_no_company(
    tmp_path: Path, open_journal: OpenJournal, lazy_one_waits: bool
) -> None:
    # Its caller is being answered: who kills the gate then finds the call all the same.
    journal = open_journal(replace(FAST, lazy_interval=3600.0))
    if lazy_one_waits:
        journal.heartbeat()
        journal.append(_answered("r0"))
    journal.append(replace(full_record("r1", phase=RecordPhase.SETUP), answered_after=None, code=None))
    file = tmp_path / "journal" / "journal-00000001.log"
    until = time.monotonic() + 60
    while "r1" not in [frame.key for frame in scan_frames(file.read_bytes())]:
        assert time.monotonic() < until
        time.sleep(0.001)


def test_recovery_happens_once(open_journal: OpenJournal) -> None:
    journal = open_journal()
    journal.append(_answered("r1"))
    journal.append(_answered("r2"))
    journal.append(full_record("r2"))
    _crash(journal)
    for _ in range(3):
        journal = open_journal()
        assert sorted(record.record_id for record in _finals(journal)) == ["r1", "r2"]
        _crash(journal)


def test_a_torn_tail_costs_only_the_frame_that_was_being_written(
    tmp_path: Path, open_journal: OpenJournal
) -> None:
    journal = open_journal()
    journal.append(full_record("r1"))
    journal.append(full_record("r2"))
    _crash(journal)
    path = tmp_path / "journal" / "journal-00000001.log"
    data = path.read_bytes()
    ends = [frame.end for frame in scan_frames(data)]
    path.write_bytes(data[: ends[-1] - 7] + bytes(100))
    assert [record.record_id for record in _finals(open_journal())] == ["r1"]


def test_live_calls_move_to_the_next_segment_so_that_old_ones_can_go(
    tmp_path: Path, open_journal: OpenJournal, said: Confirmations
) -> None:
    journal = open_journal()
    journal.append(_answered("long"), said)
    said.next()
    for number in range(100):
        journal.append(full_record(f"r{number:03d}"), said)
        said.next()
    assert len(list((tmp_path / "journal").glob("journal-*.log"))) > 3
    assert len(_finals(journal)) == 100
    journal.tail.release(journal.tail.end)
    assert len(list((tmp_path / "journal").glob("journal-*.log"))) == 1
    _crash(journal)
    found = [record.record_id for record in _finals(open_journal())]
    assert found[-1] == "long"
    assert found.count("long") == 1


def test_a_sink_that_is_far_behind_reads_the_files(
    open_journal: OpenJournal, said: Confirmations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.cdr.tail._KEPT", 5)
    monkeypatch.setattr("proxy.cdr.tail._CHUNK", 4000)
    journal = open_journal()
    ids = [f"r{number:03d}" for number in range(60)]
    for record_id in ids:
        journal.append(full_record(record_id), said)
        said.next()
    assert [record.record_id for record in _finals(journal)] == ids
    assert journal.tail.read(Position(999, 0), 5) == ([], Position(999, 0))


def test_a_frame_longer_than_a_chunk_is_read(
    open_journal: OpenJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal()
    journal.append(full_record("r1"))
    _crash(journal)
    monkeypatch.setattr("proxy.cdr.tail._CHUNK", 100)
    assert [record.record_id for record in _finals(open_journal())] == ["r1"]


def test_a_record_of_a_newer_version_is_set_aside(
    tmp_path: Path, open_journal: OpenJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.cdr.encoding.VERSION", 2)
    journal = open_journal()
    journal.append(full_record("newer"))
    journal.append(_answered("newer-live"))
    _crash(journal)
    monkeypatch.undo()
    journal = open_journal()
    journal.append(full_record("r1"))
    _crash(journal)
    assert [record.record_id for record in _finals(journal)] == ["r1"]
    aside = tmp_path / "journal" / "unreadable.jsonl"
    assert '"newer"' in aside.read_text(encoding="ascii")
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600


class FailingCall:
    """Stands in for an os function; fails with an errno while it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
        self._real = getattr(os, name)
        self._number = number
        self.failing = False
        monkeypatch.setattr(os, name, self)

    def __call__(self, *arguments: object) -> object:
        if self.failing:
            raise OSError(self._number, os.strerror(self._number))
        return self._real(*arguments)


@pytest.mark.parametrize(
    ("name", "number"), [("pwrite", errno.ENOSPC), ("fdatasync", errno.EIO), ("pwrite", errno.EIO)]
)
def test_a_failing_disk_says_so_and_loses_nothing(
    name: str,
    number: int,
    open_journal: OpenJournal,
    said: Confirmations,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    journal = open_journal()
    journal.append(full_record("r1"), said)
    assert said.next() == ("r1", True)
    call = FailingCall(monkeypatch, name, number)
    call.failing = True
    for record_id in ("r2", "r3", "r4"):
        journal.append(full_record(record_id), said)
        assert said.next() == (record_id, False)
    assert _troubled(journal)
    assert [record.record_id for record in _finals(journal)] == ["r1"]
    call.failing = False
    # The first of these may still meet the pause between two tries; the journal tries on by itself.
    for number_of_try in range(1000):
        journal.append(full_record(f"s{number_of_try:03d}"), said)
        if said.next()[1]:
            break
    assert not _troubled(journal)
    _crash(journal)
    found = [record.record_id for record in _finals(open_journal())]
    assert found[:4] == ["r1", "r2", "r3", "r4"]
    assert len(found) == len(set(found)) == 5 + number_of_try


def test_a_full_disk_has_room_for_one_more_segment(
    open_journal: OpenJournal, said: Confirmations, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal()
    call = FailingCall(monkeypatch, "posix_fallocate", errno.ENOSPC)
    call.failing = True
    number = 0
    while not _short_of_space(journal):
        journal.append(full_record(f"r{number:03d}"), said)
        assert said.next() == (f"r{number:03d}", True)
        number += 1
    journal.append(full_record("r999"), said)
    assert said.next() == ("r999", True)
    call.failing = False
    while _short_of_space(journal):
        journal.append(_answered("live"), said)
        assert said.next()[1]
    assert len(_finals(journal)) == number + 1


def _fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_real_full_disk(tmp_path: Path, said: Confirmations) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        journal = Journal(disk / "journal", post=lambda call: call(), settings=FAST)
        journal.start()
        filler = disk / "filler"
        _fill(filler)
        number = 0
        while True:
            journal.append(full_record(f"r{number:03d}"), said)
            if not said.next()[1]:
                break
            number += 1
        # One segment and the reserve: all of both was used before the first refusal.
        assert number > 2 * FAST.segment_bytes // 1200
        assert not journal.takes_calls
        written = threading.Event()
        journal.tail.listen(written.set)
        filler.unlink()
        assert written.wait(10)
        assert journal.stop()
        journal = Journal(disk / "journal", post=lambda call: call(), settings=FAST)
        journal.start()
        found = {record.record_id for record in _finals(journal)}
        assert found >= {f"r{index:03d}" for index in range(number + 1)}
        journal.stop()
    finally:
        subprocess.run(["/bin/umount", str(disk)], check=True)


def test_a_hanging_disk_answers_in_time(open_journal: OpenJournal, clock: Clock, said: Confirmations) -> None:
    slow = JournalSettings(segment_bytes=16_384, group_interval=3600.0, confirm_timeout=2.0)
    journal = open_journal(slow)
    journal.append(full_record("r1"), said)
    assert said.next() == ("r1", True)
    # The next group is an hour away: a disk that hangs looks the same from the event loop.
    journal.append(full_record("r2"), said)
    clock.now += 1.9
    journal.expire_confirms()
    assert journal.durable
    clock.now += 0.2
    journal.expire_confirms()
    assert said.next() == ("r2", False)
    assert _troubled(journal)


def test_a_disk_that_hung_counts_again_once_it_has_answered(
    open_journal: OpenJournal, clock: Clock, said: Confirmations, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal()
    syncing, going_on = threading.Event(), threading.Event()
    real = os.fdatasync

    def hang(descriptor: int) -> None:
        syncing.set()
        assert going_on.wait(10)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", hang)
    journal.append(full_record("r1"), said)
    assert syncing.wait(10)
    clock.now += 60
    journal.expire_confirms()
    assert said.next() == ("r1", False)
    assert not _takes_calls(journal)
    going_on.set()
    journal.append(full_record("r2"), said)
    assert said.next() == ("r2", True)
    assert _takes_calls(journal)


def test_an_impossible_record_does_not_stop_the_others(
    open_journal: OpenJournal, said: Confirmations
) -> None:
    journal = open_journal()
    journal.append(CallRecord("bad", float("nan")), said)
    assert said.next() == ("bad", False)
    journal.append(full_record("r1"), said)
    assert said.next() == ("r1", True)


def test_a_closed_event_loop_is_no_error(tmp_path: Path) -> None:
    def closed(_: Callable[[], None]) -> None:
        raise RuntimeError("Event loop is closed")

    journal = Journal(tmp_path / "journal", post=closed, settings=FAST)
    journal.start()
    journal.append(full_record("r1"), lambda _record_id, _durable: None)
    assert journal.stop()
    assert journal.stop()


def test_one_process_at_a_time(open_journal: OpenJournal) -> None:
    open_journal()
    with pytest.raises(ConfigurationError, match="in use by another process"):
        open_journal()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    journal = Journal(tmp_path / "file" / "journal", post=lambda call: call())
    with pytest.raises(JournalUnavailable, match=r"journal directory .* can't be used"):
        journal.start()


def test_a_journal_that_finds_no_room_keeps_records_until_it_can_be_opened(
    tmp_path: Path, said: Confirmations, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = FailingCall(monkeypatch, "posix_fallocate", errno.ENOSPC)
    call.failing = True
    journal = Journal(tmp_path / "journal", post=lambda call: call(), settings=FAST)
    with pytest.raises(JournalUnavailable, match="No space left"):
        journal.start()
    assert not _takes_calls(journal)
    journal.append(_answered("r1"), said)
    assert said.next() == ("r1", False)
    journal.append(full_record("r1"))
    assert not journal.stop()
    call.failing = False
    journal.start()
    pause = threading.Event()
    while not _finals(journal):
        pause.wait(0.01)
    assert _takes_calls(journal)
    assert [record.record_id for record in _finals(journal)] == ["r1"]
    assert journal.stop()


def test_a_full_disk_at_start_costs_the_reserve_only(
    open_journal: OpenJournal, said: Confirmations, monkeypatch: pytest.MonkeyPatch
) -> None:
    _crash(open_journal())
    FailingCall(monkeypatch, "posix_fallocate", errno.ENOSPC).failing = True
    journal = open_journal()
    assert _short_of_space(journal)
    assert not _takes_calls(journal)
    journal.append(full_record("r1"), said)
    assert said.next() == ("r1", True)


def test_a_disk_that_fails_while_opening_leaves_nothing_open(
    tmp_path: Path, open_journal: OpenJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal()
    journal.append(_answered("r1"))
    _crash(journal)
    before = len(os.listdir("/proc/self/fd"))
    call = FailingCall(monkeypatch, "pwrite", errno.EIO)
    call.failing = True
    with pytest.raises(JournalUnavailable, match="Input/output error"):
        open_journal()
    assert len(os.listdir("/proc/self/fd")) == before
    call.failing = False
    assert [record.record_id for record in _finals(open_journal())] == ["r1"]


def test_a_new_segment_is_no_reason_to_refuse_calls(
    open_journal: OpenJournal, said: Confirmations, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal()
    took: list[bool] = []
    real = os.posix_fallocate

    def allocate(descriptor: int, offset: int, size: int) -> None:
        took.append(_takes_calls(journal))
        real(descriptor, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", allocate)
    for number in range(60):
        journal.append(full_record(f"r{number:03d}"), said)
        assert said.next()[1]
    assert took
    assert all(took)


def test_killed_in_mid_call_every_confirmed_call_has_its_record(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import itertools, pathlib, sys, threading
        from proxy.cdr.journal import Journal, JournalSettings
        from proxy.cdr.record import RecordPhase
        from tests.cdr.samples import full_record

        journal = Journal(pathlib.Path(sys.argv[1]), post=lambda call: call(),
                          settings=JournalSettings(segment_bytes=65536))
        journal.start()

        pause = threading.Event()

        def confirmed(record_id, durable):
            assert durable
            print(record_id, flush=True)

        for number in itertools.count():
            journal.append(full_record(f"r{number:05d}", phase=RecordPhase.ANSWERED), confirmed)
            if number % 3:
                journal.append(full_record(f"r{number:05d}"))
            if number % 10 == 0:
                journal.heartbeat()
                pause.wait(0.005)
        """
    )
    directory = tmp_path / "journal"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(directory)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    ) as gate:
        assert gate.stdout is not None
        confirmed = {gate.stdout.readline().strip() for _ in range(300)}
        gate.send_signal(signal.SIGKILL)
        confirmed |= {
            line.strip() for line in gate.stdout.read().splitlines(keepends=True) if line[-1] == "\n"
        }
    journal = Journal(directory, post=lambda call: call(), settings=FAST)
    journal.start()
    found = [record.record_id for record in _finals(journal)]
    journal.stop()
    assert len(confirmed) >= 300
    assert confirmed <= set(found)
    assert len(found) == len(set(found))

"""Calls while the store or its disk is in real trouble, and their records afterwards: all, in order, once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from proxy import persistence
from proxy.cdr.journal import Journal, JournalSettings
from proxy.cdr.record import CallRecord, Disposition
from tests.net.waiting import happens, until
from tests.server.house import CODE, House


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Somebody else writes, and does not come to an end."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def _without_its_table(path: Path) -> Iterator[None]:
    _rename(path, "call_records", "hidden")
    yield
    _rename(path, "hidden", "call_records")


def _rename(path: Path, old: str, new: str) -> None:
    with closing(sqlite3.connect(path, timeout=30)) as database:
        database.execute("PRAGMA legacy_alter_table = ON")
        database.execute(f"ALTER TABLE {old} RENAME TO {new}")
        database.commit()


@contextmanager
def _read_only(path: Path) -> Iterator[None]:
    """Nobody may write a row: what SQLite says to it is what a read-only file system makes it say."""
    triggers = [
        f"CREATE TRIGGER stop_{table} BEFORE INSERT ON {table} "
        "BEGIN SELECT RAISE(ABORT, 'attempt to write a readonly database'); END"
        for table in ("call_records", "call_numbers")
    ]
    _run(path, *triggers)
    yield
    _run(path, "DROP TRIGGER stop_call_records", "DROP TRIGGER stop_call_numbers")


def _run(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, timeout=30)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


Trouble = Callable[[Path], AbstractContextManager[None]]


@pytest.mark.parametrize("trouble", [_locked, _without_its_table, _read_only])
async def test_a_store_in_trouble_costs_no_call_and_gets_every_record_in_order_once(
    house: House, trouble: Trouble
) -> None:
    with trouble(house.folder / "gate.db"):
        house.phone.hang_up(await house.talk())
        # The first record goes nowhere, and nobody after it is kept from calling.
        await until(lambda: house.gate.records_delayed)
        emergency = house.dial("911")
        await happens(emergency.answered)
        house.phone.hang_up(emergency)
        house.phone.hang_up(await house.talk())
        await until(lambda: house.gate.core.idle)
        assert house.gate.core.recording
    records = await house.records(3)
    await until(lambda: not house.gate.records_delayed)
    _all_in_order_once(records, calls=3)
    assert [record.emergency for record in records] == [False, True, False]
    house.phone.hang_up(await house.talk())
    _all_in_order_once(await house.records(4), calls=4)


def _all_in_order_once(records: list[CallRecord], *, calls: int) -> None:
    assert len({record.record_id for record in records}) == len(records) == calls
    starts = [record.start_time for record in records]
    assert starts == sorted(starts)


@contextmanager
def _small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root, and the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["/bin/umount", str(folder)], check=True)


async def _call(house: House, number: int) -> None:
    """Place a call, which talks or is refused, and end it."""
    call = house.dial()
    await happens(call.answered)
    call.rtp.press(CODE + "#")
    await until(lambda: call.ended.is_set() or len(house.carrier.streams) == number)
    house.phone.hang_up(call)
    await until(lambda: house.gate.core.idle)


async def test_a_full_disk_takes_the_reserve_then_refuses_paid_calls_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = JournalSettings(segment_bytes=16_384, retry_interval=0.05)
    monkeypatch.setattr(persistence, "Journal", partial(Journal, settings=small))
    with _small_disk(tmp_path / "disk", "4m") as disk:
        house = House(disk)
        await house.open()
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        calls = 0
        while house.gate.core.recording:
            # Segment and reserve still take the records of these, but for the last one's.
            calls += 1
            await _call(house, calls)
            assert calls < 100
        assert calls > 5
        refused = house.dial()
        await happens(refused.ended)
        assert refused.status == 500
        emergency = house.dial("911")
        await happens(emergency.answered)
        house.phone.hang_up(emergency)
        await until(lambda: house.gate.core.idle)
        await asyncio.to_thread(filler.unlink)
        await until(lambda: house.gate.core.recording)
        records = await house.records(calls + 2)
        _all_in_order_once(records, calls=calls + 2)
        last_two = [record.disposition for record in records[-2:]]
        assert last_two == [Disposition.OVERLOADED, Disposition.ANSWERED]
        assert [record.disposition for record in records][: calls - 1] == [Disposition.ANSWERED] * (calls - 1)
        await house.close()

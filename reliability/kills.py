"""The gate is killed (SIGKILL) again and again with calls in every state: what its records are worth."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from proxy.cdr.journal import Journal
from proxy.cdr.record import CallRecord, RecordPhase
from reliability.figures import Figure
from reliability.gate import GateProcess
from reliability.traffic import Callee, Caller, PlacedCall, place_calls
from tests.net.waiting import until

NUMBER = "4155550123"
RATE = 20.0
HOLD = 1.0
LIVES = (0.2, 5.0)
"""Shortest and longest life of a gate in seconds: with and without a heartbeat of the journal."""
KILLS = 1_000
END_TIME = 5.0
SILENT_EVERY, SILENCE = 20, 9.0
"""Before one of so many kills a call is up, and nothing else happens, for so many seconds: longer than its
end may be wrong and a heartbeat takes to come, so that heartbeats alone make it right.
"""
CALL_RATE, JOURNAL_SECONDS, SYNC_P95 = 200.0, 30.0, 0.020


@dataclass
class Damage:
    """What was found afterwards."""

    kills: int = 0
    answered: int = 0
    lost: list[str] = field(default_factory=list)
    """Call-IDs that were answered and have no record."""
    double: list[str] = field(default_factory=list)
    interrupted: int = 0
    end_time_error: float = 0.0
    """The worst, in seconds, of the answered calls."""


async def kill_often(
    folder: Path,
    random: Random,
    *,
    kills: int,
    until: float = float("inf"),
    lives: tuple[float, float] = LIVES,
    silence: float = SILENCE,
    settings: str = "",
) -> Damage:
    """Kill a gate so often, or until then (monotonic); its last start ends in order."""
    callee = Callee(ring=0.05)
    await callee.start()
    gate = GateProcess(folder, callee.port, settings)
    damage = Damage()
    ends: dict[str, float] = {}
    while damage.kills < kills and time.monotonic() < until:
        await gate.start()
        await gate.listens()
        caller = Caller(gate.port)
        await caller.start()
        life = random.uniform(*lives)
        placed = await place_calls(caller, random, rate=RATE, seconds=life, number=NUMBER, hold=HOLD)
        if damage.kills % SILENT_EVERY == 0:
            placed.append(await _fall_silent(caller, silence))
        killed_at = time.time()
        await gate.end(signal.SIGKILL)
        damage.kills += 1
        # What the kernel had for the caller already: answers that the gate gave before its end.
        await asyncio.sleep(0.05)
        ends |= {call.call_id: call.ended_at or killed_at for call in placed if call.answered}
        await caller.close()
    await gate.start()
    records = await gate.settled()
    await callee.close()
    judge(damage, ends, records)
    return damage


async def _fall_silent(caller: Caller, seconds: float) -> PlacedCall:
    """End all calls but a new one, and let that be for so long."""
    others = caller.calls.copy()
    held = caller.place(NUMBER, hold=3600.0)
    await until(lambda: held.answered and all(call.status or call.over.is_set() for call in others))
    for call in others:
        caller.hang_up(call)
    await until(lambda: all(call.over.is_set() for call in others))
    await asyncio.sleep(seconds)
    return held


def judge(damage: Damage, ends: dict[str, float], records: list[CallRecord]) -> None:
    """Compare records with the ends of answered calls, by Call-ID, as their caller knows them."""
    found = Counter(record.a_call_id for record in records)
    damage.answered = len(ends)
    damage.lost = [call_id for call_id in ends if not found[call_id]]
    damage.double = [call_id for call_id, count in found.items() if count > 1]
    damage.interrupted = sum(record.disposition.value == "interrupted" for record in records)
    errors = [abs(record.end_time - ends[record.a_call_id]) for record in records if record.a_call_id in ends]
    damage.end_time_error = max(errors, default=0.0)


def disk_waits(folder: Path, *, rate: float = CALL_RATE, seconds: float = JOURNAL_SECONDS) -> list[float]:
    """Return how long each answer of so many calls a second waited for the disk, in order of length; as one
    is answered, another one begins and a third one ends. Of the journal alone: no gate and no event loop,
    through which a confirmation has to go there, runs beside it.
    """
    lock, waited, done = threading.Lock(), list[float](), threading.Semaphore(0)
    journal = Journal(folder / "journal", post=lambda deliver: deliver())
    journal.start()
    random = Random(1)
    due = end = time.monotonic()
    end += seconds
    begun = 0
    while due < end:
        time.sleep(max(0.0, due - time.monotonic()))
        since = time.monotonic()

        def confirmed(_record: str, durable: bool, since: float = since) -> None:
            assert durable
            with lock:
                waited.append(time.monotonic() - since)
            done.release()

        begun += 1
        journal.append(CallRecord(f"r{begun}", time.time(), phase=RecordPhase.SETUP))
        journal.append(CallRecord(f"r{begun - 1}", time.time(), phase=RecordPhase.ANSWERED), confirmed)
        journal.append(CallRecord(f"r{begun - 2}", time.time(), phase=RecordPhase.FINAL))
        due += random.expovariate(rate)
    for _ in range(begun):
        assert done.acquire(timeout=30)
    journal.stop()
    return sorted(waited)


def bare_syncs(folder: Path, *, times: int = 300) -> list[float]:
    """Return how long one write and its fdatasync take by themselves, in order of length."""
    path, taken = folder / "bare", []
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.posix_fallocate(file, 0, times * 512)
        for place in range(times):
            time.sleep(0.01)
            begun = time.monotonic()
            os.pwrite(file, b"x" * 512, place * 512)
            os.fdatasync(file)
            taken.append(time.monotonic() - begun)
    finally:
        os.close(file)
        path.unlink()
    return sorted(taken)


def _p95(values: list[float]) -> float:
    """Return what 95 % of the sorted values don't exceed."""
    return values[int(len(values) * 0.95)]


def run(seconds: float | None = None) -> list[Figure]:
    """Kill as often as promised, or for so long."""
    until = float("inf") if seconds is None else time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="tollgate-kills-") as folder:
        damage = asyncio.run(kill_often(Path(folder), Random(18), kills=KILLS, until=until))
        bare, waits = _p95(bare_syncs(Path(folder))), _p95(disk_waits(Path(folder)))
    many = f"{damage.kills} kills at {RATE:.0f} calls/s, {damage.answered} calls answered"
    return [
        Figure(18, f"{many}: without a record", "0", str(len(damage.lost)), not damage.lost),
        Figure(18, f"{many}: with two records", "0", str(len(damage.double)), not damage.double),
        Figure(
            18,
            f"{many}, {damage.interrupted} interrupted: worst error of an end time",
            f"{END_TIME:.0f} s",
            f"{damage.end_time_error:.2f} s",
            damage.end_time_error <= END_TIME,
        ),
        Figure(
            18,
            f"the journal alone: an answer's wait for the disk at {CALL_RATE:.0f} calls/s, p95",
            f"{SYNC_P95 * 1000:.0f} ms",
            f"{waits * 1000:.1f} ms (one bare fdatasync: {bare * 1000:.1f} ms)",
            waits <= SYNC_P95,
        ),
    ]

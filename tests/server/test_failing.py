"""What a gate does when a call, the store, the disk, a thread or its start fails."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy import persistence, phone_register, serve, server
from proxy.call.code_desk import CodeDesk
from proxy.cdr.record import Disposition
from proxy.errors import ConfigurationError, TollgateError
from proxy.server import Gate
from proxy.sip.bindings import StoredBinding
from proxy.store import Store
from proxy.store.changes import ChangeAction, ChangeKind, log_change
from tests.net.waiting import PATIENCE, happens, until
from tests.server.house import CODE, NUMBER, House


async def test_a_fault_in_one_call_leaves_the_others_alone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    talking = await house.talk()

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(CodeDesk, "judge", broken)
        doomed = house.dial()
        await happens(doomed.answered)
        doomed.rtp.press("1#")
        await happens(doomed.ended)
    assert house.gate.driver.faults == 1
    assert not talking.ended.is_set()
    house.phone.hang_up(talking)
    outcomes = {record.disposition for record in await house.records(2)}
    assert outcomes == {Disposition.ANSWERED, Disposition.FAILED}


async def _only_emergency_calls_pass(house: House) -> None:
    emergency = house.dial("911")
    await happens(emergency.answered)
    refused = house.dial()
    await happens(refused.ended)
    assert refused.status >= 400
    house.phone.hang_up(emergency)


PBX = '[[peers]]\nname = "pbx"\nnetworks = ["127.0.0.1"]\n'


def _no_database(path: Path) -> None:
    path.write_text("Dear customer, " * 100)


def _newer_database(path: Path) -> None:
    Store(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [(_no_database, "is not a Tollgate database"), (_newer_database, r"newer version of Tollgate")],
)
async def test_a_broken_store_leaves_emergency_calls_until_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None], says: str
) -> None:
    monkeypatch.setattr(persistence, "STORE_RETRY", 0.05)
    path = tmp_path / "gate.db"
    spoil(path)
    house = House(tmp_path)
    house.extra = PBX
    await house.open(fill=False)
    assert says in house.gate.ready_line
    await _only_emergency_calls_pass(house)
    path.unlink()
    await until(lambda: house.gate.store_trouble == "")
    assert {record.emergency for record in await house.records(2)} == {True, False}
    await house.close()


async def test_a_store_that_takes_its_time_does_not_hold_up_emergency_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mended = threading.Event()

    def slow(url: str, *, steady: bool) -> Store:
        assert mended.wait(PATIENCE)
        return Store(url, steady=steady)

    monkeypatch.setattr(persistence, "Store", slow)
    monkeypatch.setattr(persistence, "STORE_PATIENCE", 0.05)
    house = House(tmp_path)
    house.extra = PBX
    await house.open(fill=False)
    await _only_emergency_calls_pass(house)
    mended.set()
    await until(lambda: house.gate.store_trouble == "")
    assert len(await house.records(2)) == 2
    await house.close()


class FullDisk:
    """No file can grow any more, while it is told so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: int = errno.ENOSPC) -> None:
        self.full = True
        self._error = error
        for name in ("posix_fallocate", "pwrite"):
            monkeypatch.setattr(os, name, self._failing(getattr(os, name)))

    def _failing(self, real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            if self.full:
                raise OSError(self._error, os.strerror(self._error))
            return real(*arguments)

        return call


async def test_a_full_disk_at_start_leaves_emergency_calls_and_keeps_their_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persistence, "STORE_RETRY", 0.05)
    disk = FullDisk(monkeypatch)
    house = House(tmp_path)
    house.extra = PBX
    await house.open()
    await _only_emergency_calls_pass(house)
    disk.full = False
    await until(lambda: house.gate.core.recording)
    assert {record.emergency for record in await house.records(2)} == {True, False}
    await house.close()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EIO], ids=os.strerror)
async def test_a_disk_that_fills_or_fails_stops_paid_calls_before_they_cost(
    house: House, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    house.extra = "timers.checkpoint_interval = 0.1"
    await asyncio.to_thread(house.ask, "reload")
    asked = house.dial()
    await happens(asked.answered)
    disk = FullDisk(monkeypatch, error)
    await until(lambda: not house.gate.core.recording)
    asked.rtp.press(CODE + "#")
    await happens(asked.ended)
    refused = house.dial()
    await happens(refused.ended)
    assert refused.status == 500
    emergency = house.dial("911")
    await happens(emergency.answered)
    assert house.carrier.numbers == ["911"]
    house.phone.hang_up(emergency)
    disk.full = False
    await until(lambda: house.gate.core.recording)
    house.phone.hang_up(await house.talk())
    await until(lambda: house.gate.core.idle)


async def test_a_reload_with_an_unreadable_store_keeps_the_policy(house: House) -> None:
    assert house.gate.store is not None
    with house.gate.store.database.write() as connection:
        connection.exec_driver_sql("UPDATE groups SET rules = 'x'")
        log_change(connection, ChangeKind.GROUP, ChangeAction.SAVED)
    await until(lambda: house.gate.store_trouble != "")
    house.extra = 'number_plan.outside_prefix = "9"'
    await asyncio.to_thread(house.ask, "reload")
    assert house.gate.core.policy.plan.outside_prefix == "9"
    house.phone.hang_up(await house.talk("9" + NUMBER))
    assert len(await house.records()) == 1


async def test_housekeeping_outlives_its_faults(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    times: list[float] = []

    def broken(now: float) -> None:
        times.append(now)
        raise OSError("disk gone")

    monkeypatch.setattr(house.gate, "_keep_house", broken)
    await until(lambda: len(times) >= 2)
    assert "housekeeping failed" in caplog.text


async def test_records_that_can_not_be_released_are_tried_again(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[None] = []

    def broken() -> None:
        tries.append(None)
        raise OSError("disk gone")

    monkeypatch.setattr(server, "RELEASE", 0.0)
    monkeypatch.setattr(house.gate._kept, "release_records", broken)
    house.gate._release_due = 0.0
    await until(lambda: len(tries) >= 2)
    assert "housekeeping failed (release records)" in caplog.text
    monkeypatch.undo()


async def test_a_store_that_hangs_keeps_neither_the_house_nor_the_watchdog_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mended = threading.Event()

    def slow(_store: Store, _now: float) -> list[StoredBinding]:
        assert mended.wait(PATIENCE)
        return []

    said: list[str] = []
    monkeypatch.setattr(phone_register, "_left_by_the_last_run", slow)
    monkeypatch.setattr(server, "PHONES_PATIENCE", 0.05)
    monkeypatch.setattr(server, "watchdog_interval", lambda: 1.0)
    monkeypatch.setattr(server, "notify", said.append)
    house = House(tmp_path)
    await house.open()
    assert house.gate.phones is not None
    await until(lambda: len(said) >= 3)
    assert set(said) == {"WATCHDOG=1"}
    assert [name for name in house.gate._errands if name == "open phones"]
    mended.set()
    await until(lambda: "open phones" not in house.gate._errands)
    await house.close()


async def test_a_dead_media_thread_ends_the_process_with_its_reason(house: House) -> None:
    ending = asyncio.create_task(serve._until_told_to_end(house.gate, serve._take_orders(house.gate)))
    await asyncio.sleep(0)
    house.gate._media_failed("media thread died")
    with pytest.raises(TollgateError, match="media thread died"):
        await asyncio.wait_for(ending, PATIENCE)


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ('control.socket = "/nonexistent/gate.sock"', "control socket"),
        ('prompts.folder = "{folder}/prompts"', "prompts"),
        ('media.address = "192.0.2.77"', r"media\.address: 192\.0\.2\.77"),
    ],
)
async def test_a_start_that_fails_leaves_nothing_running(tmp_path: Path, extra: str, expected: str) -> None:
    house = House(tmp_path)
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "enter_code.wav").write_bytes(b"RIFF")
    await house.carrier.start()
    house.extra = extra.format(folder=tmp_path)
    gate = Gate(house.load())
    with pytest.raises(ConfigurationError, match=expected):
        await gate.start()
    await house.carrier.close()
    remaining = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert not [task.get_name() for task in remaining if task.get_name() in {"housekeeping", "open store"}]


async def test_a_port_in_use_is_said(house: House, tmp_path: Path) -> None:
    other = House(tmp_path / "second")
    other.folder.mkdir()
    settings = other.load()
    taken = settings.sip.listen[0]._replace(port=house.gate.bound[0][1])
    sip = settings.sip.model_copy(update={"listen": (taken,)})
    with pytest.raises(ConfigurationError, match=rf"sip\.listen: Address already in use \({taken}\)"):
        await Gate(settings.model_copy(update={"sip": sip, "trunks": ()})).start()
    assert json.dumps(await asyncio.to_thread(house.ask, "calls")) == "[]"

"""The composed gate in this process: real sockets, store, journal and media; simulated phone and carrier."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import sqlite3
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from proxy import composition, persistence, serve, server
from proxy._native import encode_prompt
from proxy.cdr.record import CallRecord, Disposition
from proxy.clock import LocalClock
from proxy.demo_agents import Carrier, Phone, PhoneCall
from proxy.errors import ConfigurationError, TollgateError
from proxy.media.prompts import EncodedSound, PromptLibrary
from proxy.net.control import ask
from proxy.operations import samples
from proxy.policy import CallClass, ClassOfService, CodeCollection, User, UserGroup, new_code
from proxy.server import Gate
from proxy.settings import Settings, load_settings
from proxy.store import Store, digest_credentials
from proxy.store.changes import ChangeAction, ChangeKind, log_change
from tests.net.waiting import until
from tests.support.ports import reserved_tcp_port, rtp_ports

PASSWORD = "only-for-this-test"
NUMBER = "4155550123"
CODE = "1234"


class House:
    """A gate with everything around it, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.carrier = Carrier({}, ring=0.05)
        self.extra = ""
        self.gate: Gate
        self.phone: Phone
        self.calls: list[PhoneCall] = []

    def load(self) -> Settings:
        file = self.folder / "gate.toml"
        file.write_text(
            f"""
            local_networks = ["127.0.0.2"]
            sip.listen = ["udp:127.0.0.1:0", "tcp:127.0.0.1:0"]
            media.ports = "{rtp_ports()}"
            store.url = "sqlite:///{self.folder}/gate.db"
            phones.codecs = ["PCMU"]
            timers.drain = 1
            {self.extra}
            [[trunks]]
            name = "carrier"
            addresses = ["udp:127.0.0.1:{self.carrier.port}"]
            inbound = false
            number_format = {{ style = "e164_without_plus" }}
            """
        )
        return load_settings(file)

    def fill_store(self, settings: Settings) -> None:
        with Store(settings.store.url) as store:
            free = ClassOfService(frozenset({CallClass.TOLL_FREE}))
            store.groups.add(UserGroup("Codes", permissions=free, collection=CodeCollection.REQUIRED))
            credentials = digest_credentials("204", settings.auth.realm, PASSWORD)
            store.users.add(User("204", "Codes", "Phone 204", credentials=credentials))
            store.codes.add(new_code(CODE, "Test", plan=composition.number_plan(settings)))

    async def open(self, *, fill: bool = True) -> None:
        await self.carrier.start()
        settings = self.load()
        if fill:
            self.fill_store(settings)
        self.gate = Gate(settings, load=self.load)
        await self.gate.start()
        self.phone = Phone("204", PASSWORD, self.gate.bound[0][1], {})
        await self.phone.start()

    async def close(self) -> None:
        await self.gate.stop()
        for call in self.calls:
            await call.rtp.close()
        await self.phone.close()
        await self.carrier.close()

    def dial(self, number: str = NUMBER) -> PhoneCall:
        call = self.phone.call(number)
        self.calls.append(call)
        return call

    async def talk(self, number: str = NUMBER) -> PhoneCall:
        """Place a gated call and come as far as the conversation."""
        call = self.dial(number)
        await asyncio.wait_for(call.answered.wait(), 5)
        call.rtp.press(CODE + "#")
        await until(lambda: self.carrier.streams and self.carrier.streams[-1].packets > 5)
        return call

    def ask(self, command: str, **arguments: object) -> object:
        return ask(self.gate.settings.control_socket, command, timeout=5.0, **arguments)

    async def records(self, count: int = 1) -> list[CallRecord]:
        found: list[CallRecord] = []

        def enough() -> bool:
            assert self.gate.store is not None
            found[:] = self.gate.store.usage.stream()
            return len(found) >= count

        await until(enough)
        return found


@pytest.fixture(scope="module")
def encoded() -> Callable[[PromptLibrary, str], list[EncodedSound]]:
    """Encode the shipped sounds once for all gates of this module."""
    sounds: dict[str, list[EncodedSound]] = {}

    def encode(library: PromptLibrary, codec: str) -> list[EncodedSound]:
        if codec not in sounds:
            sounds[codec] = list(library.encode(encode_prompt, (codec,)))
        return sounds[codec]

    return encode


@pytest.fixture(autouse=True)
def _fast_start(
    monkeypatch: pytest.MonkeyPatch, encoded: Callable[[PromptLibrary, str], list[EncodedSound]]
) -> None:
    monkeypatch.setattr(server, "_encoded", encoded)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("TOLLGATE_"):
            monkeypatch.delenv(name)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    await house.open()
    yield house
    await house.close()


async def test_a_gated_call_leaves_a_record_and_nothing_else(house: House) -> None:
    call = await house.talk()
    live = await asyncio.to_thread(house.ask, "calls")
    assert isinstance(live, list)
    assert [(entry["user"], entry["dialled"], entry["code"]) for entry in live] == [("204", NUMBER, "Test")]
    house.phone.hang_up(call)
    (record,) = await house.records()
    assert (record.disposition, record.code_means) == (Disposition.ANSWERED, "rfc4733")
    assert record.code is not None
    assert house.carrier.numbers == ["1" + NUMBER]
    await until(lambda: house.gate.core.idle)
    await until(lambda: house.gate.engine.open_legs == 0)


async def test_the_ready_line_says_where_what_and_over_which_trunks(house: House) -> None:
    line = house.gate.ready_line
    udp, tcp = house.gate.bound
    assert f"udp:127.0.0.1:{udp[1]} tcp:127.0.0.1:{tcp[1]}" in line
    assert "gate.db" in line
    assert "carrier (udp:127.0.0.1:" in line
    assert "\n" not in line


async def test_a_policy_change_is_live_without_a_restart(house: House) -> None:
    before = house.gate.core.policy.version
    assert house.gate.store is not None
    with Store(house.gate.settings.store.url) as other:
        other.codes.add(new_code("777", "New", plan=house.gate.core.policy.plan))
    await until(lambda: house.gate.core.policy.version > before)


async def test_a_call_is_ended_over_the_control_socket(house: House) -> None:
    call = await house.talk()
    (entry,) = house.gate.core.live_calls()
    with pytest.raises(ConfigurationError, match="no live call 'nothing'"):
        await asyncio.to_thread(house.ask, "hangup", call_id="nothing")
    assert await asyncio.to_thread(house.ask, "hangup", call_id=entry.call_id) == {"ended": entry.call_id}
    await asyncio.wait_for(call.ended.wait(), 5)
    (record,) = await house.records()
    assert record.disposition is Disposition.ANSWERED


async def test_live_calls_are_told_over_the_control_socket(house: House) -> None:
    await house.talk()
    calls = await asyncio.to_thread(house.ask, "calls")
    assert isinstance(calls, list)
    (told,) = calls
    assert (told["user"], told["dialled"], told["state"], told["code"]) == ("204", NUMBER, "talking", "Test")
    assert (told["group"], told["destination_user"], told["emergency"]) == ("Codes", "", False)
    assert 0 <= time.time() - told["started_at"] < 3600


async def test_a_phone_is_deregistered_over_the_control_socket(house: House) -> None:
    with pytest.raises(ConfigurationError, match="deregister: say"):
        await asyncio.to_thread(house.ask, "deregister")
    with pytest.raises(ConfigurationError, match="deregister: say"):
        await asyncio.to_thread(house.ask, "deregister", user="204", contact=7)
    assert await asyncio.to_thread(house.ask, "deregister", user="204") == {"ended": 0}


async def test_status_and_metrics_tell_how_the_gate_is(house: House, tmp_path: Path) -> None:
    status = await asyncio.to_thread(house.ask, "status")
    assert isinstance(status, dict)
    assert (status["calls"], status["journal_durable"], status["store_trouble"]) == (0, True, "")
    (shown,) = status["trunks"]
    assert shown["destinations"][0]["state"] == "up"
    assert all(sample.value >= 0 for sample in samples(house.gate))
    other = House(tmp_path / "other")
    other.folder.mkdir()
    with reserved_tcp_port() as port:
        other.extra = f"metrics.port = {port}"
        await other.open()
    page = await asyncio.to_thread(_fetch, other.gate.settings.metrics.port)
    assert "tollgate_journal_durable 1.0" in page
    (trunk,) = other.gate.settings.trunks
    assert f'tollgate_trunk_up{{address="{trunk.addresses[0]}",trunk="{trunk.name}"}} 1.0' in page
    assert f'tollgate_trunk_calls{{trunk="{trunk.name}"}} 0.0' in page
    await other.close()


def _fetch(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
        return str(page.read().decode())


async def test_tracing_shows_messages_but_no_digits_nor_credentials(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigurationError, match="true"):
        await asyncio.to_thread(house.ask, "trace", on="yes")
    await asyncio.to_thread(house.ask, "trace", on=True)
    call = house.dial()
    await asyncio.wait_for(call.answered.wait(), 5)
    await asyncio.to_thread(house.ask, "trace", on=False)
    assert "INVITE sip:" in caplog.text
    assert "Authorization: (hidden)" in caplog.text
    assert "response=" not in caplog.text
    house.phone.hang_up(call)
    await house.records()


async def test_the_log_of_a_call_never_holds_its_digits(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    call = house.dial()
    await asyncio.wait_for(call.answered.wait(), 5)
    call.rtp.press("98765#" + "98765#" + "98765#")
    await asyncio.wait_for(call.ended.wait(), 20)
    (record,) = await house.records()
    assert (record.disposition, record.wrong_tries) == (Disposition.CODE_REFUSED, 3)
    assert "98765" not in caplog.text
    assert "98765" not in (await asyncio.to_thread(_dump, house.folder / "gate.db"))
    journal = b"".join(path.read_bytes() for path in house.gate.settings.journal_folder.iterdir())
    assert b"98765" not in journal


def _dump(path: Path) -> str:
    with sqlite3.connect(path) as database:
        text = "\n".join(database.iterdump())
    database.close()
    return text


async def test_a_reload_changes_what_it_may_and_names_the_rest(house: House) -> None:
    house.extra = 'limits.max_calls = 1\nnumber_plan.outside_prefix = "9"\nauth.realm = "other"'
    assert await asyncio.to_thread(house.ask, "reload") == {"after_restart": ["auth"]}
    assert house.gate.core.config.max_calls == 1
    assert house.gate.core.config.realm == "tollgate"
    assert house.gate.core.policy.plan.outside_prefix == "9"
    call = await house.talk("9" + NUMBER)
    refused = house.dial()
    await asyncio.wait_for(refused.ended.wait(), 5)
    assert refused.status == 503
    house.phone.hang_up(call)
    await house.records(2)


async def test_a_bad_reload_changes_nothing(house: House) -> None:
    before = house.gate.core.config
    house.extra = "limits.max_calls = 0"
    with pytest.raises(ConfigurationError, match=r"limits\.max_calls"):
        await asyncio.to_thread(house.ask, "reload")
    house.extra = 'number_plan.extensions = ["("]'
    with pytest.raises(ConfigurationError, match=r"number_plan\.extensions"):
        await asyncio.to_thread(house.ask, "reload")
    assert house.gate.core.config is before


async def test_a_reload_makes_new_groups_and_refuses_bad_ones(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.extra = '[[groups]]\nname = "callers"\n'
    await asyncio.to_thread(house.ask, "reload")
    await until(lambda: "callers" in house.gate.core.policy.groups)
    looked_up: list[object] = []

    async def watch(names: object) -> None:
        looked_up.append(names)

    monkeypatch.setattr(house.gate._names, "watch", watch)
    house.extra = '[[groups]]\nname = " bad "\n'
    with pytest.raises(ConfigurationError, match="group name"):
        await asyncio.to_thread(house.ask, "reload")
    assert looked_up == []


async def test_a_gate_without_a_file_cannot_reload(house: House) -> None:
    house.gate._load = None
    with pytest.raises(ConfigurationError, match="without a file"):
        await house.gate.reload()


async def test_draining_refuses_new_calls_but_no_emergency_and_waits(house: House) -> None:
    call = await house.talk()
    draining = asyncio.create_task(house.gate.drain(30))
    await asyncio.sleep(0)
    refused = house.dial()
    await asyncio.wait_for(refused.ended.wait(), 5)
    assert refused.status == 503
    emergency = house.dial("911")
    await asyncio.wait_for(emergency.answered.wait(), 5)
    assert house.carrier.numbers[-1] == "911"
    assert not draining.done()
    house.phone.hang_up(call)
    house.phone.hang_up(emergency)
    await asyncio.wait_for(draining, 5)
    assert len(await house.records(3)) == 3


async def test_calls_are_ended_when_the_drain_limit_is_over(house: House) -> None:
    call = await house.talk()
    await house.gate.drain(0.05)
    await asyncio.wait_for(call.ended.wait(), 5)
    (record,) = await house.records()
    assert record.disposition is Disposition.ANSWERED


async def test_stopping_with_a_call_up_still_records_it(house: House) -> None:
    await house.talk()
    await house.gate.stop()
    with Store(house.gate.settings.store.url) as store:
        (record,) = store.usage.stream()
    assert record.final
    assert not house.gate.settings.control_socket.exists()


async def test_a_fault_in_one_call_leaves_the_others_alone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    talking = await house.talk()

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(house.gate.core, "judge", broken)
        doomed = house.dial()
        await asyncio.wait_for(doomed.answered.wait(), 5)
        doomed.rtp.press("1#")
        await asyncio.wait_for(doomed.ended.wait(), 5)
    assert house.gate.driver.faults == 1
    assert not talking.ended.is_set()
    house.phone.hang_up(talking)
    outcomes = {record.disposition for record in await house.records(2)}
    assert outcomes == {Disposition.ANSWERED, Disposition.FAILED}


async def _only_emergency_calls_pass(house: House) -> None:
    emergency = house.dial("911")
    await asyncio.wait_for(emergency.answered.wait(), 5)
    refused = house.dial()
    await asyncio.wait_for(refused.ended.wait(), 5)
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

    def slow(url: str) -> Store:
        assert mended.wait(20)
        return Store(url)

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

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = True
        for name in ("posix_fallocate", "pwrite"):
            monkeypatch.setattr(os, name, self._failing(getattr(os, name)))

    def _failing(self, real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            if self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
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


async def test_a_disk_that_fills_stops_paid_calls_before_they_cost(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.extra = "timers.checkpoint_interval = 0.1"
    await asyncio.to_thread(house.ask, "reload")
    asked = house.dial()
    await asyncio.wait_for(asked.answered.wait(), 5)
    disk = FullDisk(monkeypatch)
    await until(lambda: not house.gate.core.recording)
    asked.rtp.press(CODE + "#")
    await asyncio.wait_for(asked.ended.wait(), 20)
    refused = house.dial()
    await asyncio.wait_for(refused.ended.wait(), 5)
    assert refused.status == 500
    emergency = house.dial("911")
    await asyncio.wait_for(emergency.answered.wait(), 5)
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


async def test_the_ready_line_never_shows_the_stores_password(tmp_path: Path) -> None:
    gate = Gate(House(tmp_path).load())
    store = gate.settings.store.model_copy(update={"url": "postgresql://gate:hunter2@db.example.com/x"})
    gate.settings = gate.settings.model_copy(update={"store": store})
    gate._kept = persistence.Persistence(gate.settings, on_policy=lambda _: None, on_wanted=lambda _: None)
    gate.bound = [("127.0.0.1", 5060), ("127.0.0.1", 5060)]
    assert "gate:***@db.example.com" in gate.ready_line
    assert "hunter2" not in gate.ready_line + repr(gate.settings)


def test_the_clock_follows_the_sites_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = LocalClock()
    winter, summer = 1_772_324_000.0, 1_785_000_000.0
    try:
        monkeypatch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        for moment, hours in ((winter, 1), (winter + 30, 1), (summer, 2), (winter, 1)):
            monkeypatch.setattr(time, "time", lambda moment=moment: moment)
            local = clock()
            assert local.timestamp() == moment
            assert local.utcoffset() == timedelta(hours=hours)
    finally:
        monkeypatch.undo()
        time.tzset()


async def test_housekeeping_outlives_its_faults(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    times: list[float] = []

    async def broken(now: float) -> None:
        times.append(now)
        raise OSError("disk gone")

    monkeypatch.setattr(house.gate, "_keep_house", broken)
    await until(lambda: len(times) >= 2)
    assert "housekeeping failed" in caplog.text


async def test_a_dead_media_thread_ends_the_process_with_its_reason(house: House) -> None:
    ending = asyncio.create_task(serve._until_told_to_end(house.gate, serve._take_orders(house.gate)))
    await asyncio.sleep(0)
    house.gate._media_failed("media thread died")
    with pytest.raises(TollgateError, match="media thread died"):
        await asyncio.wait_for(ending, 5)


async def test_groups_of_the_settings_are_made_once(house: House, tmp_path: Path) -> None:
    other = House(tmp_path / "groups")
    other.folder.mkdir()
    other.extra = '[[groups]]\nname = "callers"\ntreatments = { premium = "block" }\n'
    await other.open()
    assert other.gate.store is not None
    group = other.gate.store.groups.get("callers")
    assert group is not None
    await other.close()
    again = Gate(other.load())
    await again.start()
    await again.stop()
    assert house.gate.core.idle


async def test_example_data_is_made_with_passwords_shown_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    house = House(tmp_path)
    await house.carrier.start()
    for expected in (True, False):
        gate = Gate(house.load(), example_data=True)
        await gate.start()
        await gate.stop()
        assert ("password" in capsys.readouterr().out) is expected
    await house.carrier.close()


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

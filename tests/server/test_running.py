"""The composed gate in this process: real sockets, store, journal and media; simulated phone and carrier."""

from __future__ import annotations

import asyncio
import logging
import socket
import sqlite3
import time
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from proxy import persistence, server
from proxy.cdr.record import Disposition, HungUpBy
from proxy.clock import LocalClock
from proxy.demo_agents import RtpStream
from proxy.errors import ConfigurationError
from proxy.metrics import MetricsServer, Sample
from proxy.operations import samples
from proxy.policy import new_code
from proxy.server import Gate
from proxy.store import Store
from tests.net.waiting import PATIENCE, happens, until
from tests.server.house import NUMBER, House
from tests.support.ports import reserved_tcp_port


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
    await happens(call.ended)
    (record,) = await house.records()
    assert record.disposition is Disposition.ANSWERED


async def test_no_emergency_call_is_ended_over_the_control_socket(house: House) -> None:
    call = house.dial("911")
    await happens(call.answered)
    (entry,) = house.gate.core.live_calls()
    with pytest.raises(ConfigurationError, match="an emergency call is not ended by hand"):
        await asyncio.to_thread(house.ask, "hangup", call_id=entry.call_id)
    assert [live.call_id for live in house.gate.core.live_calls()] == [entry.call_id]
    house.phone.hang_up(call)
    (record,) = await house.records()
    assert record.hung_up_by is HungUpBy.A_LEG


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
        pbx = '{ name = "pbx", networks = ["192.0.2.9"], address = "sip:192.0.2.9" }'
        other.extra = f"metrics.port = {port}\npeers = [{pbx}]"
        await other.open()
    page = await asyncio.to_thread(_fetch, other.gate.settings.metrics.port)
    assert "tollgate_journal_durable 1.0" in page
    (trunk,) = other.gate.settings.trunks
    assert f'tollgate_trunk_up{{address="{trunk.addresses[0]}",trunk="{trunk.name}"}} 1.0' in page
    assert f'tollgate_trunk_calls{{trunk="{trunk.name}"}} 0.0' in page
    assert 'tollgate_peer_up{address="udp:192.0.2.9:5060",peer="pbx"} 1.0' in page
    status = await asyncio.to_thread(other.ask, "status")
    assert isinstance(status, dict)
    (peer,) = status["peers"]
    assert [one["state"] for one in peer["destinations"]] == ["up"]
    await other.close()


async def test_a_metrics_port_that_is_taken_costs_no_call(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[int] = []

    def opened(port: int, read: Callable[[], Iterable[Sample]]) -> MetricsServer:
        tries.append(port)
        return MetricsServer(port, read)

    monkeypatch.setattr(server, "MetricsServer", opened)
    monkeypatch.setattr(server, "METRICS_AGAIN", 0.1)
    other = House(tmp_path / "other")
    other.folder.mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        other.extra = f"metrics.port = {port}"
        await other.open()
        call = await other.talk()
        other.phone.hang_up(call)
        await other.records()
        await until(lambda: len(tries) > 1)
        (said,) = [line for line in caplog.messages if line.startswith("metrics.port: ")]
    assert f"127.0.0.1 port {port}: Address already in use" in said
    assert "`ss -lntp` shows by whom: stop that, or set another" in said
    await until(lambda: f"metrics are shown now on 127.0.0.1 port {port}" in caplog.messages)
    assert "tollgate_journal_durable 1.0" in await asyncio.to_thread(_fetch, port)
    await other.close()
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(_fetch, port)


def _fetch(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as page:
        return str(page.read().decode())


async def test_tracing_shows_messages_but_no_digits_nor_credentials(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigurationError, match="true"):
        await asyncio.to_thread(house.ask, "trace", on="yes")
    await asyncio.to_thread(house.ask, "trace", on=True)
    call = house.dial()
    await happens(call.answered)
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
    await happens(call.answered)
    call.rtp.press("98765#" + "98765#" + "98765#")
    await happens(call.ended)
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
    await happens(refused.ended)
    assert refused.status == 503
    house.phone.hang_up(call)
    await house.records(2)


async def test_reloads_lose_no_packet_of_a_talk(house: House) -> None:
    call = await house.talk()
    stream = house.carrier.streams[-1]
    for number, settings in enumerate(
        ("limits.max_calls = 7", "limits.max_calls = 0", "limits.max_calls = 8")
    ):
        house.extra = settings
        with suppress(ConfigurationError):
            await asyncio.to_thread(house.ask, "reload")
        await _heard(stream, 20 * (number + 1))
    assert house.gate.core.config.max_calls == 8
    house.phone.hang_up(call)
    (record,) = await house.records()
    assert record.a_media is not None
    assert record.b_media is not None
    assert (record.a_media.packets_lost, record.b_media.packets_lost) == (0, 0)
    sent = record.a_media.packets_sent, record.b_media.packets_sent
    await until(lambda: (call.rtp.packets, stream.packets) == sent)


async def _heard(stream: RtpStream, packets: int) -> None:
    await until(lambda: stream.packets >= packets)


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
    await happens(refused.ended)
    assert refused.status == 503
    emergency = house.dial("911")
    await happens(emergency.answered)
    assert house.carrier.numbers[-1] == "911"
    assert not draining.done()
    house.phone.hang_up(call)
    house.phone.hang_up(emergency)
    await asyncio.wait_for(draining, PATIENCE)
    assert len(await house.records(3)) == 3


async def test_calls_are_ended_when_the_drain_limit_is_over(house: House) -> None:
    call = await house.talk()
    await house.gate.drain(0.05)
    await happens(call.ended)
    (record,) = await house.records()
    assert record.disposition is Disposition.ANSWERED


async def test_an_emergency_call_outlasts_the_drain_limit(house: House) -> None:
    call = await house.talk()
    emergency = house.dial("911")
    await happens(emergency.answered)
    draining = asyncio.create_task(house.gate.drain(0.05, help_limit=600))
    await happens(call.ended)
    await asyncio.sleep(0.2)  # it would end with the others
    assert not emergency.ended.is_set()
    assert not draining.done()
    house.phone.hang_up(emergency)
    await asyncio.wait_for(draining, PATIENCE)
    assert len(await house.records(2)) == 2


async def test_an_emergency_call_ends_with_the_time_that_is_left_for_it(house: House) -> None:
    emergency = house.dial("911")
    await happens(emergency.answered)
    await house.gate.drain(0.05, help_limit=0.05)
    await happens(emergency.ended)


async def test_stopping_with_a_call_up_still_records_it(house: House) -> None:
    await house.talk()
    await house.gate.stop()
    with Store(house.gate.settings.store.url) as store:
        (record,) = store.usage.stream()
    assert record.final
    assert not house.gate.settings.control_socket.exists()


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

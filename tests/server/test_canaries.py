"""Codes and secrets that must be found nowhere but where they belong, and locks that outlive the gate."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import sqlite3
import stat
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy import log
from proxy.call.code_guard import GuessingRules
from proxy.cdr.builder import RecordBuilder
from proxy.cdr.record import Disposition
from proxy.demo_agents import EVENT, Carrier, RtpStream
from proxy.operations import samples
from proxy.policy import new_code
from proxy.sip.events import Event, RequestReceived
from proxy.store import WebhookEndpoint
from proxy.store.webhooks import EVENTS
from tests.net.waiting import happens, until
from tests.server.house import NUMBER, PASSWORD, House
from tests.support.ports import reserved_tcp_port

GOOD = "73519024"
"""A code that is valid: on the record, and nowhere else."""
WRONG = "80264713"
"""One that is not: nowhere at all."""
SECRET = "canary-key-of-the-gate-0001"


class AttentiveCarrier(Carrier):
    """Keeps every request that it gets."""

    def __init__(self) -> None:
        super().__init__({}, ring=0.05)
        self.texts: list[str] = []

    def handle_sip(self, event: Event, now: float) -> None:
        if isinstance(event, RequestReceived):
            self.texts.append(event.request.serialize().decode())
        super().handle_sip(event, now)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A gate that says all it can say."""
    house = House(tmp_path)
    with reserved_tcp_port() as port:
        house.extra = f'metrics.port = {port}\nlog.level = "DEBUG"\nauth.secret = "{SECRET}"\n'
        yield house


def everything(folder: Path) -> dict[str, bytes]:
    """Return what lies on the disk, by name."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


async def test_a_code_and_a_password_are_found_nowhere_but_where_they_belong(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[bytes] = []

    def listen(stream: RtpStream) -> None:
        with contextlib.suppress(OSError):
            while True:
                heard.append(stream._socket.recv(2_048))
                stream.packets += 1

    monkeypatch.setattr(RtpStream, "_readable", listen)
    carrier = AttentiveCarrier()
    house.carrier = carrier
    await house.open()
    written = house.folder / "gate.log"
    with written.open("w") as stream:
        log.configure("DEBUG", "text", stream=stream)
        try:
            store = house.gate.store
            assert store is not None
            store.codes.add(new_code(GOOD, "Canary", plan=house.gate.core.policy.plan))
            store.webhooks.add(WebhookEndpoint("https://x.example/", frozenset(EVENTS)), now=1.0)
            await until(lambda: len(house.gate.core.policy.codes) > 1 and house.gate.core.telling)
            house.gate.trace(True)
            call = house.dial()
            await happens(call.answered)
            call.rtp.press(WRONG + "#")
            await until(lambda: any(one.wrong_tries for one in _live(house)))
            call.rtp.press(GOOD + "#")
            streams = carrier.streams
            await until(lambda: bool(streams) and streams[-1].packets > 5)
            told = "".join([str(await asyncio.to_thread(house.ask, name)) for name in ("calls", "status")])
            metrics = await asyncio.to_thread(_metrics, house.gate.settings.metrics.port)
            house.phone.hang_up(call)
            (record,) = await house.records(1)
            bodies = "".join(item.body for item in store.webhooks.deliveries())
            invites = "".join(carrier.texts)
        finally:
            house.gate.trace(False)
            logging.getLogger().handlers.clear()
            await house.close()
    assert record.code is not None
    assert record.code.dialled == GOOD
    assert record.wrong_tries == 1
    lines = written.read_text()
    assert "INVITE sip:" in lines, "nothing was traced"
    said = {"log": lines, "control": told, "metrics": metrics, "webhooks": bodies, "trunk": invites}
    for place, text in said.items():
        assert text, place
        for canary in (GOOD, WRONG, PASSWORD, SECRET):
            assert canary not in text, f"{canary} in {place}"
            assert " ".join(canary) not in text, f"{canary} in {place}, spelled"
    assert heard
    assert not [data for data in heard if data[1] & 0x7F == EVENT], "somebody heard keys of the code"
    for name, data in everything(house.folder).items():
        assert WRONG.encode() not in data, f"a wrong code in {name}"
        assert name.endswith((".toml", ".log")) or PASSWORD.encode() not in data, f"the password in {name}"
        belongs = name.startswith(("gate.db", "gate.journal"))
        assert belongs or GOOD.encode() not in data, f"the code in {name}"


async def test_what_it_keeps_is_its_own_users_alone(house: House) -> None:
    await house.open()
    try:
        await house.talk()
        kept = [file for file in house.folder.rglob("*") if file.name != "gate.toml"]
        assert len(kept) >= 4
        assert {file.name: stat.S_IMODE(file.stat().st_mode) & 0o077 for file in kept} == {
            file.name: 0 for file in kept
        }
    finally:
        await house.close()


async def test_a_locked_caller_stays_locked_over_a_restart_until_somebody_unlocks_it(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.extra = "guessing.wrong_codes = 3\n"
    await house.open()
    try:
        assert house.gate.core.config.guessing == GuessingRules(wrong_codes=3)
        assert house.gate.store is not None
        house.gate.store.webhooks.add(WebhookEndpoint("https://x.example/", frozenset(EVENTS)), now=1.0)
        await until(lambda: house.gate.core.telling)
        call = house.dial()
        await happens(call.answered)
        for _ in range(3):
            call.rtp.press(WRONG + "#")
        await happens(call.ended)
        await until(lambda: "user 204" in house.gate.core.policy.locks)
        told = house.gate.store.webhooks.deliveries
        await until(lambda: "caller.locked" in [item.event for item in told()])
    finally:
        await house.close()
    with sqlite3.connect(tmp_path / "gate.db") as kept:
        ((until_,),) = kept.execute("SELECT until FROM caller_locks WHERE caller = 'user 204'")
    kept.close()
    assert 3_500 < until_ - time.time() <= 3_600

    house.carrier = Carrier({}, ring=0.05)
    await house.open(fill=False)
    try:
        await until(lambda: "user 204" in house.gate.core.policy.locks)
        assert {sample.name: sample.value for sample in samples(house.gate)}["callers_locked"] == 1
        call = house.dial()
        await happens(call.ended)
        assert call.status == 403
        help_call = house.dial("911")
        await happens(help_call.answered)
        house.phone.hang_up(help_call)
        assert house.gate.store is not None
        house.gate.store.locks.unlock(["user 204"])
        await until(lambda: not house.gate.core.policy.locks)
        await house.talk(NUMBER)
        records = await house.records(3)
        metrics = {sample.name: sample.value for sample in samples(house.gate)}
        assert metrics["callers_locked"] == 0
        refused = [one for one in records if one.disposition is Disposition.CODE_REFUSED]
        assert len(refused) == 2
    finally:
        await house.close()


def _live(house: House) -> list[RecordBuilder]:
    return [call.record for call in house.gate.core.calls.values()]


def _metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as page:
        text = page.read().decode()
    assert re.search(r"tollgate_calls 1\.0", text)
    return str(text)

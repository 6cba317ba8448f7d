"""Trunks and Peers: shown as the gate tells them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from proxy.portal.app import create_app
from proxy.portal.gate_link import GateLink
from proxy.portal.portal import Portal
from tests.portal.gate import TalkingGate
from tests.portal.person import Person, notice

DOWN = {"address": "udp:192.0.2.91:5060", "state": "down", "seconds": 65.0, "reason": "<no answer>"}
UP = {"address": "udp:192.0.2.90:5060", "state": "up", "seconds": None, "reason": ""}
TRUNK = {
    "name": "carrier",
    "calls": 7,
    "max_calls": 30,
    "registration": "registered",
    "destinations": [UP, DOWN],
}
PEER = {"name": "pbx", "networks": ["192.0.2.0/28"], "default_group": None, "calls": 4}


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[TalkingGate]:
    with TalkingGate(tmp_path / "gate.sock") as talking:
        yield talking


async def shown(portal: Portal, gate: TalkingGate, manager: Person, path: str) -> str:
    app = create_app(replace(portal, gate=GateLink(gate.path)))
    transport = httpx.ASGITransport(app, client=("192.0.2.7", 4711))
    cookies = manager.client.cookies
    async with httpx.AsyncClient(
        transport=transport, base_url="https://portal.test", cookies=cookies
    ) as client:
        answer = await Person(client).get(path)
    assert answer.status_code == 200
    return " ".join(answer.text.split())


async def test_trunks_and_peers_are_shown(portal: Portal, gate: TalkingGate, manager: Person) -> None:
    gate.status = {"trunks": [TRUNK], "peers": [PEER]}
    text = await shown(portal, gate, manager, "/trunks")
    assert "udp:192.0.2.90:5060" in text
    assert "7 / 30" in text
    assert "&lt;no answer&gt;" in text
    assert "registration: registered" in text
    assert ">1:05<" in text
    assert "192.0.2.0/28" in text


async def test_overview_shows_what_is_down(portal: Portal, gate: TalkingGate, manager: Person) -> None:
    gate.status = {"trunks": [TRUNK], "peers": [], "store_trouble": "disk full", "journal_durable": False}
    text = await shown(portal, gate, manager, "/")
    assert "1 of 2 down" in text
    assert "disk full" in text
    assert "can&#39;t be written to disk" in text


async def test_nothing_is_set_up(portal: Portal, gate: TalkingGate, manager: Person) -> None:
    gate.status = {}
    text = await shown(portal, gate, manager, "/trunks")
    assert "There are no trunks." in text
    assert "There are no peers." in text


async def test_gate_down(manager: Person) -> None:
    answer = await manager.get("/trunks")
    assert (answer.status_code, "The gate is not running" in notice(answer)) == (200, True)

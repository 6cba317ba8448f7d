"""A real gate and what it notes for those who want to be told of its calls."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from proxy.cdr.record import Disposition
from proxy.policy import CallLimits
from proxy.store import WebhookEndpoint
from proxy.store.webhooks import EVENTS
from tests.net.waiting import happens, until
from tests.server.house import House


@pytest.fixture
def told(house: House) -> None:
    """Somebody wants to be told everything."""
    assert house.gate.store is not None
    house.gate.store.webhooks.add(WebhookEndpoint("https://x.example/", frozenset(EVENTS)), now=1.0)


def noted(house: House) -> list[str]:
    assert house.gate.store is not None
    return [item.event for item in reversed(house.gate.store.webhooks.deliveries())]


@pytest.mark.usefixtures("told")
async def test_a_call_is_told_from_its_beginning_to_its_end(house: House) -> None:
    await until(lambda: house.gate.core.telling)
    call = house.dial()
    await until(call.answered.is_set)
    call.rtp.press("9#")
    await until(lambda: "code.rejected" in noted(house))
    call.rtp.press("1234#")
    await until(lambda: "call.answered" in noted(house))
    assert "call.ended" not in noted(house)
    house.phone.hang_up(call)
    await until(lambda: "call.ended" in noted(house))
    assert sorted(noted(house)) == ["call.answered", "call.ended", "call.started", "code.rejected"]
    assert house.gate.store is not None
    bodies = [item.body for item in house.gate.store.webhooks.deliveries()]
    assert len({json.loads(body)["data"]["call"]["record_id"] for body in bodies}) == 1
    assert not any('"1234' in body for body in bodies)


@pytest.mark.usefixtures("told")
async def test_an_emergency_is_told_while_it_goes_out(house: House) -> None:
    await until(lambda: house.gate.core.telling)
    call = house.dial("911")
    await until(lambda: "emergency.dialed" in noted(house))
    await until(call.answered.is_set)
    house.phone.hang_up(call)
    await until(lambda: "call.ended" in noted(house))
    assert noted(house).count("emergency.dialed") == 1


@pytest.mark.usefixtures("told")
async def test_a_limit_that_is_met_is_told_within_a_minute_of_the_refusal(house: House) -> None:
    store = house.gate.store
    assert store is not None
    group = store.groups.get("Codes")
    assert group is not None
    store.groups.change(replace(group, limits=CallLimits(caller_calls=1)))
    await until(lambda: house.gate.core.telling)
    await until(lambda: house.gate.core.policy.groups["Codes"].limits.caller_calls == 1)
    call = house.dial()
    await happens(call.answered)
    refused = house.dial()
    await happens(refused.ended)
    assert refused.status == 403
    house.phone.hang_up(call)
    await until(lambda: "limit.reached" in noted(house))
    (told,) = [item for item in store.webhooks.deliveries() if item.event == "limit.reached"]
    happened = datetime.fromisoformat(json.loads(told.body)["timestamp"]).timestamp()
    assert -0.001 <= told.created_at - happened < 60.0, "the portal looks for it every second"


@pytest.mark.usefixtures("told")
async def test_a_trunk_that_goes_down_is_told(house: House) -> None:
    await until(lambda: "trunk.down" in house.gate._wanted)
    for probe in list(house.gate.core.watch._destinations.values()):
        probe.failed("no answer", 0.0)
        probe.failed("no answer", 0.0)
    await until(lambda: "trunk.down" in noted(house))


@pytest.mark.usefixtures("told")
async def test_trouble_with_telling_costs_no_call(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await until(lambda: house.gate.core.telling)

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(house.gate._kept.events, "tell", broken)
        house.phone.hang_up(await house.talk())
        (record,) = await house.records()
    assert record.disposition is Disposition.ANSWERED
    assert house.gate.driver.faults == 0
    assert "call.answered is not told" in caplog.text


async def test_nothing_is_told_and_noted_while_nobody_wants_it(house: House, tmp_path: Path) -> None:
    call = await house.talk()
    house.phone.hang_up(call)
    await house.records()
    assert not house.gate.core.telling
    assert noted(house) == []

"""A real gate and a real portal: an emergency call is told to people while it is up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from proxy.demo_agents import Carrier, Phone
from proxy.policy import ClassOfService, User, UserGroup
from proxy.store import Store, WebhookEndpoint, digest_credentials
from tests.net.waiting import happens, until
from tests.portal.receiver import Receiver
from tests.portal.test_process import Folder

pytestmark = pytest.mark.system

PASSWORD = "only-for-this-test"


@pytest_asyncio.fixture
async def carrier() -> AsyncIterator[Carrier]:
    made = Carrier({}, ring=0.05)
    await made.start()
    yield made
    await made.close()


@pytest_asyncio.fixture
async def folder(tmp_path: Path, carrier: Carrier) -> AsyncIterator[Folder]:
    made = Folder(tmp_path)
    made.write(
        "enabled = true",
        "[notify]",
        'location = "Main Street 1, 2nd floor"',
        'private_networks = ["127.0.0.0/8"]',
        "[[trunks]]",
        'name = "carrier"',
        f'addresses = ["udp:127.0.0.1:{carrier.port}"]',
        "inbound = false",
    )
    yield made
    await made.end()


def fill(store: Store, receiver: Receiver) -> None:
    store.groups.add(UserGroup("Desk", permissions=ClassOfService()))
    credentials = digest_credentials("204", "tollgate", PASSWORD)
    store.users.add(User("204", "Desk", "Front desk", "+14155550104", credentials=credentials))
    wanted = frozenset({"emergency.dialed", "call.ended"})
    store.webhooks.add(WebhookEndpoint(receiver.url, wanted), now=1.0)


async def test_an_emergency_reaches_people_while_it_is_up(folder: Folder) -> None:
    with Receiver() as receiver:
        with Store(f"sqlite:///{folder.path}/gate.db") as store:
            await asyncio.to_thread(fill, store, receiver)
        gate = await folder.run("serve")
        port = int((await gate.says(r"listening on udp:127\.0\.0\.1:(\d+)"))[1])
        phone = Phone("204", PASSWORD, port, {})
        await phone.start()
        call = phone.call("911")
        await happens(call.answered)
        await until(lambda: receiver.taken, 90)
        told = json.loads(receiver.taken[0].body)
        assert told["type"] == "emergency.dialed"
        assert told["data"]["emergency"] == {
            "number": "911",
            "caller": "204",
            "caller_name": told["data"]["emergency"]["caller_name"],
            "callback": "+14155550104",
            "location": "Main Street 1, 2nd floor",
        }
        assert not call.ended.is_set(), "they are told while it is up"
        phone.hang_up(call)
        await until(lambda: len(receiver.taken) == 2, 90)
        assert json.loads(receiver.taken[1].body)["type"] == "call.ended"
        await call.rtp.close()
        await phone.close()

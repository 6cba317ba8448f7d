"""System > Webhooks and API Tokens: who is told, what was delivered, and which programs may ask."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from ipaddress import ip_network

import httpx
import pytest
import pytest_asyncio

from proxy.portal.portal import Portal
from proxy.portal.webhook_doubts import WebhookDoubts
from proxy.store import PortalAccount, Role, Store, WebhookEndpoint
from proxy.store.call_events import NewEvent
from proxy.store.webhooks import NEWS
from tests.portal.conftest import NOW, Clock
from tests.portal.person import Person, notice, rows

Program = Callable[..., httpx.AsyncClient]
HOOK: dict[str, str | list[str]] = {
    "url": "https://billing.example/hook",
    "event": ["call.ended", "trunk.down"],
}


@pytest_asyncio.fixture
async def chief(person: Callable[..., Person], account: Callable[..., PortalAccount]) -> Person:
    """A Decision Maker, logged in."""
    account(Role.DECISION_MAKER)
    someone = person()
    assert (await someone.log_in("decision_maker")).status_code == 303
    return someone


def made(answer: httpx.Response) -> str:
    found = re.search(r'<code id="made">([^<]*)</code>', answer.text)
    return unescape(found[1]) if found else ""


# API tokens


async def test_a_token_is_shown_once_and_opens_what_it_is_for(
    chief: Person, program: Program, store: Store
) -> None:
    answer = await chief.post(
        "/tokens", {"name": "billing", "scope": ["codes:read", "usage:read"], "days": "90"}
    )
    secret = made(answer)
    assert secret.startswith("tollgate_")
    [token] = store.tokens.all()
    assert (token.name, token.created_by) == ("billing", "decision_maker")
    assert token.expires_at == NOW + 90 * 86_400
    again = await chief.get("/tokens")
    assert secret not in again.text
    assert rows(again)[0][:3] == ["billing", "codes:read, usage:read", "decision_maker"]
    client = program()
    client.headers["authorization"] = f"Bearer {secret}"
    assert (await client.get("/codes")).status_code == 200
    assert (await client.get("/users")).status_code == 403


async def test_a_token_is_revoked_when_it_was_said_to_be_sure(chief: Person, store: Store) -> None:
    await chief.post("/tokens", {"name": "billing", "scope": "codes:read", "days": "0"})
    [token] = store.tokens.all()
    assert token.expires_at is None
    asked = await chief.get(f"/tokens?revoke={token.id}")
    assert "Revoke the token of billing?" in asked.text
    asked = await chief.post("/tokens/revoke", {"id": str(token.id)})
    assert "Revoke the token of billing?" in asked.text
    assert store.tokens.all() == [token]
    done = await chief.post("/tokens/revoke", {"id": str(token.id), "sure": "yes"})
    assert done.headers["location"] == "/tokens?said=revoked"
    assert notice(await chief.get("/tokens?said=revoked")).endswith("The token is revoked.")
    assert store.tokens.all() == []
    gone = await chief.post("/tokens/revoke", {"id": str(token.id), "sure": "yes"})
    assert gone.status_code == 404


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": "", "scope": "codes:read", "days": "30"}, "token name"),
        ({"name": "x" * 65, "scope": "codes:read", "days": "30"}, "token name"),
        ({"name": "x", "days": "30"}, "token scopes"),
        ({"name": "x", "scope": "everything", "days": "30"}, "scope"),
        ({"name": "x", "scope": "none", "days": "30"}, "scope"),
        ({"name": "x", "scope": "codes:read", "days": "31"}, "days"),
        ({"name": "x", "scope": "codes:read"}, "days"),
    ],
)
async def test_a_token_that_cannot_be_is_refused_where_it_was_typed(
    chief: Person, store: Store, fields: dict[str, str | list[str]], says: str
) -> None:
    answer = await chief.post("/tokens", fields)
    assert answer.status_code == 422
    assert says in unescape(answer.text)
    assert store.tokens.all() == []


async def test_a_token_that_is_over_is_shown_as_such(chief: Person, clock: Clock) -> None:
    await chief.post("/tokens", {"name": "billing", "scope": "codes:read", "days": "30"})
    assert "over" not in rows(await chief.get("/tokens"))[0][3]
    clock.now += 30 * 86_400
    await chief.log_in("decision_maker")
    assert rows(await chief.get("/tokens"))[0][3].endswith("over")


# Webhooks


async def test_a_receiver_is_added_and_its_secret_shown_once(chief: Person, store: Store) -> None:
    answer = await chief.post("/webhooks", {**HOOK})
    [endpoint] = store.webhooks.endpoints()
    assert made(answer) == endpoint.secret
    assert endpoint.secret.startswith("whsec_")
    again = await chief.get("/webhooks")
    assert endpoint.secret not in again.text
    assert rows(again) == [["https://billing.example/hook", "call.ended, trunk.down", "is told"]]
    assert endpoint.secret not in (await chief.get(f"/webhooks/{endpoint.id}")).text
    mail = await chief.post("/webhooks", {"url": "mailto:security@example.com", "event": "emergency.dialed"})
    assert made(mail) == ""
    assert "mailto:security@example.com is told from now on." in mail.text


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"url": "ftp://x/", "event": "call.ended"}, "webhook URL"),
        ({"url": "mailto:a@b?bcc=c@d", "event": "call.ended"}, "webhook URL"),
        ({"url": "mailto:a@b,c@d", "event": "call.ended"}, "webhook URL"),
        ({"url": "https://x.example/"}, "webhook events"),
        ({"url": "https://x.example/", "event": "call.paused"}, "event"),
    ],
)
async def test_a_receiver_that_cannot_be_is_refused_where_it_was_typed(
    chief: Person, store: Store, fields: dict[str, str | list[str]], says: str
) -> None:
    answer = await chief.post("/webhooks", fields)
    assert answer.status_code == 422
    assert says in unescape(answer.text)
    assert store.webhooks.endpoints() == []


async def test_the_second_of_two_editors_sees_the_firsts_change(chief: Person, store: Store) -> None:
    await chief.post("/webhooks", {**HOOK})
    [endpoint] = store.webhooks.endpoints()
    where = f"/webhooks/{endpoint.id}"
    first = await chief.post(where, {"url": "https://new.example/", "event": "call.ended", "version": "1"})
    assert first.headers["location"] == "/webhooks?said=changed"
    [changed] = store.webhooks.endpoints()
    assert (changed.url, changed.enabled, changed.secret) == ("https://new.example/", False, endpoint.secret)
    late = await chief.post(where, {**HOOK, "enabled": "yes", "version": "1"})
    assert late.status_code == 409
    assert "Somebody else has changed it" in late.text
    told = "Address: https://new.example/; Told of: A call is over; It is told: No."
    assert told in unescape(late.text)
    assert 'name="url" value="https://billing.example/hook"' in late.text, "what was typed is still there"
    assert late.text.count(" checked") == 3
    assert 'name="version" value="2"' in late.text
    again = await chief.post(where, {**HOOK, "enabled": "yes", "version": "2"})
    assert again.status_code == 303
    bad = await chief.post(where, {"url": "x", "event": "call.ended", "version": "3"})
    assert (bad.status_code, "webhook URL" in bad.text) == (422, True)
    assert 'name="url" value="x"' in bad.text
    for version in ("", "x", "²", "9" * 20):
        assert (await chief.post(where, {**HOOK, "version": version})).status_code == 422
    assert [entry.who for entry in store.audit.page()][:3] == ["decision_maker"] * 3


async def test_a_receiver_is_deleted_with_yes_and_with_what_it_was_to_be_told(
    chief: Person, store: Store
) -> None:
    await chief.post("/webhooks", {**HOOK})
    [endpoint] = store.webhooks.endpoints()
    store.webhooks.enqueue([NewEvent("e1", "call.ended", "{}")], now=NOW)
    where = f"/webhooks/{endpoint.id}"
    assert "Delete https://billing.example/hook?" in (await chief.get(f"{where}?delete=true")).text
    assert "Delete https://billing.example/hook?" in (await chief.post(f"{where}/delete")).text
    assert store.webhooks.endpoints() == [endpoint]
    done = await chief.post(f"{where}/delete", {"sure": "yes"})
    assert done.headers["location"] == "/webhooks?said=deleted"
    assert store.webhooks.endpoints() == []
    assert store.webhooks.deliveries() == []
    for answer in (await chief.get(where), await chief.post(where), await chief.post(f"{where}/delete")):
        assert answer.status_code == 404


async def test_deliveries_are_shown_page_by_page_and_sent_again(chief: Person, store: Store) -> None:
    endpoint = store.webhooks.add(WebhookEndpoint("https://x.example/", frozenset({"call.ended"})), now=NOW)
    store.webhooks.enqueue([NewEvent(f"r{n:02d}", "call.ended", "{}") for n in range(53)], now=NOW)
    due = {item.event_id: item for _, item in store.webhooks.take_due(now=NOW, limit=100, most=100)}
    store.webhooks.delivered(due["r52"].id, 204, now=NOW)
    for _ in range(8):
        store.webhooks.failed(due["r51"], 500, "<Internal Server Error>", now=NOW)
        due["r51"] = store.webhooks.deliveries()[1]
        store.webhooks.take_due(now=NOW + 1e7, limit=100, most=100)
    first = await chief.get("/webhooks/deliveries")
    shown = rows(first)
    assert len(shown) == 50
    assert shown[0][1] == "call.ended r52"
    assert shown[0][3].startswith("delivered ")
    assert "500 <Internal Server Error>" in shown[1][3]
    older = re.search(r'href="(/webhooks/deliveries\?endpoint=0&amp;before=\d+)"', first.text)
    assert older
    rest = rows(await chief.get(unescape(older[1])))
    assert [line[1] for line in rest] == ["call.ended r02", "call.ended r01", "call.ended r00"]
    assert rows(await chief.get("/webhooks/deliveries?endpoint=77"))[0] == ["Nothing was sent."]
    assert len(rows(await chief.get(f"/webhooks/deliveries?endpoint={endpoint.id}"))) == 50
    again = await chief.post("/webhooks/replay", {"id": str(due["r52"].id)})
    assert again.headers["location"] == "/webhooks/deliveries?said=replayed"
    assert "r52" in {item.event_id for _, item in store.webhooks.take_due(now=NOW, limit=100)}
    off = store.webhooks.change(replace(endpoint, enabled=False), version=1, now=NOW)
    refused = await chief.post("/webhooks/replay", {"id": str(due["r52"].id)})
    assert (refused.status_code, "switched off" in refused.text) == (409, True)
    store.webhooks.change(replace(off, enabled=True), version=2, now=NOW)
    assert (await chief.post("/webhooks/replay", {"id": "999"})).status_code == 404
    assert (await chief.post("/webhooks/replay", {"id": "x"})).status_code == 422


_FOUND = {
    "billing.example": ["203.0.113.7", "1.1.1.1"],
    "pbx.internal": ["fe80::1%eth0", "192.168.7.9"],
    "public.example": ["192.168.7.9", "1.1.1.1"],
}


def addresses(host: str) -> list[str]:
    if host in _FOUND:
        return _FOUND[host]
    if host[0].isdigit():
        return [host]
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://billing.example/hook", ""),
        ("https://pbx.internal/hook", "its address is private, and in none of notify.private_networks"),
        ("http://public.example/", "http: goes to notify.private_networks only; use https:"),
        ("http://10.1.2.3:8080/", ""),
        ("https://10.9.2.3/", "its address is private"),
        ("https://nowhere.example/", "Name or service not known"),
        ("https://[x/", "Invalid IPv6 URL"),
        ("mailto:boss@example.com", "no mail server is set: notify.mail.server"),
    ],
)
async def test_a_receiver_that_cannot_be_told_is_taken_with_a_warning(
    chief: Person, portal: Portal, store: Store, url: str, reason: str
) -> None:
    doubts = WebhookDoubts(private_networks=[ip_network("10.1.0.0/16")], addresses=addresses)
    object.__setattr__(portal, "webhook_doubts", doubts)
    added = await chief.post("/webhooks", {"url": url, "event": "call.ended"})
    told = f"It can't be told as things are: {reason}"
    assert added.status_code == 200
    assert (told in notice(added)) is bool(reason)
    [endpoint] = store.webhooks.endpoints()
    where = f"/webhooks/{endpoint.id}"
    assert (told in notice(await chief.get(where))) is bool(reason)
    fields: dict[str, str | list[str]] = {"url": url, "event": "trunk.down", "enabled": "yes"}
    changed = await chief.post(where, {**fields, "version": "1"})
    assert changed.headers["location"] == f"{where if reason else '/webhooks'}?said=changed"
    if reason:
        shown = notice(await chief.get(changed.headers["location"]))
        assert "The receiver is changed." in shown
        assert told in shown
    off = await chief.post(where, {**fields, "enabled": "", "version": "2"})
    assert off.headers["location"] == "/webhooks?said=changed", "nobody is to be told"


async def test_a_name_that_is_looked_up_for_long_keeps_nobody_waiting(
    chief: Person, portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = threading.Event()

    def slowly(_host: str) -> list[str]:
        assert answer.wait(60)
        return ["127.0.0.1"]

    monkeypatch.setattr("proxy.portal.webhook_pages._PATIENCE", 0.05)
    object.__setattr__(portal, "webhook_doubts", WebhookDoubts(addresses=slowly))
    added = await chief.post("/webhooks", HOOK)
    answer.set()
    assert (added.status_code, "It can't be told" in notice(added)) == (200, False)


async def test_the_list_says_whose_last_delivery_has_failed(chief: Person, store: Store) -> None:
    for host in ("a.example", "b.example", "c.example"):
        store.webhooks.add(WebhookEndpoint(f"https://{host}/", frozenset({"call.ended"})), now=NOW)
    store.webhooks.enqueue([NewEvent("r1", "call.ended", "{}"), NewEvent("r2", "call.ended", "{}")], now=NOW)
    for endpoint, item in store.webhooks.take_due(now=NOW, limit=100):
        if endpoint.id == 1 or (endpoint.id == 2 and item.event_id == "r1"):
            reason = "its address is private, and in none of notify.private_networks"
            store.webhooks.failed(item, 0, reason, now=NOW)
        elif endpoint.id == 2:
            store.webhooks.delivered(item.id, 204, now=NOW)
    first, second, third = (line[2] for line in rows(await chief.get("/webhooks")))
    assert first.startswith("is told the last delivery failed ")
    assert first.endswith("its address is private, and in none of notify.private_networks")
    assert (second, third) == ("is told", "is told")
    german = rows(await chief.get("/webhooks", **{"accept-language": "de"}))
    assert "seine Adresse ist privat" in german[0][2]


async def test_why_a_delivery_was_given_up_is_said_in_every_language(chief: Person, store: Store) -> None:
    added = store.webhooks.add(WebhookEndpoint("https://a.example/", frozenset({"call.ended"})), now=NOW)
    store.webhooks.enqueue([NewEvent("r1", "call.ended", "{}")], now=NOW)
    off = store.webhooks.change(replace(added, enabled=False), version=1, now=NOW)
    store.webhooks.change(replace(off, enabled=True), version=2, now=NOW + NEWS + 1)
    for language, said in (
        ("en", "too old when the receiver was switched on again"),
        ("de", "zu alt, als der Empfänger wieder eingeschaltet wurde"),
        ("es", "demasiado antiguo cuando se volvió a activar el receptor"),
    ):
        assert said in (await chief.get("/webhooks/deliveries", **{"accept-language": language})).text


@pytest.mark.parametrize(
    "path",
    [
        "/tokens?said=nothing",
        "/tokens?revoke=x",
        "/webhooks?said=nothing",
        "/webhooks/deliveries?before=-1",
        "/webhooks/deliveries?endpoint=x",
        "/webhooks/deliveries?said=x",
    ],
)
async def test_parameters_outside_their_lists_are_refused(chief: Person, path: str) -> None:
    assert (await chief.get(path)).status_code == 400


@pytest.mark.parametrize("path", ["/tokens", "/webhooks", "/webhooks/deliveries"])
async def test_the_pages_are_there_in_every_language(chief: Person, path: str) -> None:
    for language in ("en", "es", "de"):
        answer = await chief.get(path, **{"accept-language": language})
        assert answer.status_code == 200

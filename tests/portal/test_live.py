"""Live calls: the list, hanging up, and what pages are told without asking."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from proxy.cdr.record import CallRecord
from proxy.portal.app import create_app
from proxy.portal.gate_link import GateLink, LiveCall
from proxy.portal.portal import Feed, Portal
from proxy.portal.rendered import Rendered
from proxy.store import AuditFilter, PortalAccount, Role, Store
from proxy.store.call_events import Site
from tests.net.waiting import PATIENCE
from tests.portal.conftest import NOW, Clock
from tests.portal.gate import TalkingGate
from tests.portal.person import Person, notice

Account = Callable[..., PortalAccount]
Browser = Callable[..., Person]


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[TalkingGate]:
    with TalkingGate(tmp_path / "gate.sock") as talking:
        yield talking


@pytest_asyncio.fixture
async def browser(portal: Portal, gate: TalkingGate) -> AsyncIterator[Browser]:
    """Make a browser at a portal whose gate runs."""
    site = Site("Main Street 1", "+14155550100")
    running = replace(portal, gate=GateLink(gate.path), site=site, feed=Feed(every=0.01, lasts=0.03))
    app = create_app(running)
    opened: list[httpx.AsyncClient] = []

    def make(source: str = "192.0.2.7") -> Person:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(source, 4711))
        opened.append(httpx.AsyncClient(transport=transport, base_url="https://portal.test"))
        return Person(opened[-1])

    yield make
    for client in opened:
        await client.aclose()


@pytest_asyncio.fixture
async def watcher(browser: Browser, account: Account) -> Person:
    """A Phone Manager, logged in."""
    account(Role.PHONE_MANAGER)
    someone = browser()
    assert (await someone.log_in("phone_manager")).status_code == 303
    return someone


def lines(answer: httpx.Response) -> list[list[str]]:
    """Return the cells of the list of calls."""
    body = answer.text.partition('id="live-calls"')[2].partition("<tbody>")[2].partition("</tbody>")[0]
    found = []
    for line in re.findall(r"<tr[^>]*>(.*?)</tr>", body, re.DOTALL):
        cells = re.findall(r"<td[^>]*>(.*?)</td>", line, re.DOTALL)
        found.append([unescape(" ".join(re.sub(r"<[^>]*>", " ", cell).split())) for cell in cells])
    return found


async def test_calls_are_shown_with_state_timer_and_description(watcher: Person, gate: TalkingGate) -> None:
    gate.call("late", started_at=1_790_000_000.0 - 5, state="asking", code="", user="", group="")
    gate.call("c1")
    answer = await watcher.get("/live")
    assert "2 call(s) now" in answer.text
    assert lines(answer) == [
        ["2001 +14155550104 Sales", "4155550123", "talking", "1:05", "ACME, general", "Hang up"],
        ["+14155550104", "4155550123", "asking for code", "0:05", "", "Hang up"],
    ]


async def test_nobody_speaks(watcher: Person) -> None:
    assert "Nobody is on the phone." in (await watcher.get("/live")).text


async def test_gate_down_is_said_and_the_stream_empties_the_list_and_alerts_on(
    portal: Portal, account: Account, store: Store
) -> None:
    account(Role.PHONE_MANAGER)
    recorded(store, "e1", 10)
    app = create_app(replace(portal, feed=Feed(every=0.01, lasts=0.03)))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="https://portal.test"
    ) as client:
        someone = Person(client)
        await someone.log_in("phone_manager")
        answer = await someone.get("/live")
        assert (answer.status_code, "The gate is not running" in notice(answer)) == (200, True)
        assert "Nobody is on the phone." not in answer.text, "who knows?"
        told = (await someone.get("/live/events")).text
    assert re.search(r'event: down\ndata: <p class="notice warning">The gate is not running', told)
    assert told.count("event: down") == 1
    assert "event: figures\ndata:\n\n" in told
    assert "Nobody is on the phone." not in told
    assert 'event: alert\ndata: <div class="notice error emergency">' in told


async def test_gate_that_is_back_is_told(
    portal: Portal, account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account(Role.PHONE_MANAGER)
    link = GateLink(tmp_path / "none.sock")
    found: list[tuple[LiveCall, ...] | None] = [None, ()]
    monkeypatch.setattr(link, "calls", lambda: found.pop(0) if len(found) > 1 else found[0])
    app = create_app(replace(portal, gate=link, feed=Feed(every=0.01, lasts=0.04)))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="https://portal.test"
    ) as client:
        someone = Person(client)
        await someone.log_in("phone_manager")
        first, second = [(await someone.get("/live/events")).text for _ in range(2)]
    assert "The gate is not running" in first
    assert "event: down\ndata:\n\n" in second
    assert "Nobody is on the phone." in second


async def test_hanging_up_is_asked_first_then_done_and_noted(
    watcher: Person, gate: TalkingGate, portal: Portal
) -> None:
    gate.call("c 1/?")
    page = (await watcher.get("/live")).text
    link = re.search(r'href="(/live\?ask=[^"]*)"', page)
    assert link
    asked = await watcher.get(unescape(link[1]))
    assert "End this call?" in asked.text
    assert "2001 → 4155550123" in asked.text
    assert "http-equiv" not in asked.text, "a question must not reload itself"
    answer = await watcher.post("/live/hangup", {"call": "c 1/?"})
    assert "End this call?" in answer.text
    assert gate.ended == []
    answer = await watcher.post("/live/hangup", {"call": "c 1/?", "sure": "yes"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/live?said=ended")
    assert gate.ended == ["c 1/?"]
    entry = portal.store.audit.page(limit=1)[0]
    assert (entry.who, entry.source) == ("phone_manager", "192.0.2.7")
    assert (entry.action, entry.kind, entry.name) == ("hang_up", "call", "c 1/?")
    assert entry.before == {
        "caller": "+14155550104",
        "user": "2001",
        "dialled": "4155550123",
        "state": "talking",
    }
    after = await watcher.get("/live?said=ended")
    assert "The call was ended." in notice(after)
    assert lines(after) == []


async def test_call_that_has_ended_meanwhile(watcher: Person, gate: TalkingGate, portal: Portal) -> None:
    answer = await watcher.post("/live/hangup", {"call": "gone", "sure": "yes"})
    assert (answer.status_code, "ended already" in notice(answer)) == (409, True)
    answer = await watcher.get("/live?ask=gone")
    assert (answer.status_code, "ended already" in notice(answer)) == (404, True)
    answer = await watcher.get("/live?said=<b>")
    assert answer.status_code == 400
    assert gate.ended == []
    assert portal.store.audit.page(AuditFilter(kind="call")) == []


async def test_hanging_up_needs_the_token_of_the_session(watcher: Person, gate: TalkingGate) -> None:
    gate.call("c1")
    answer = await watcher.post("/live/hangup", {"call": "c1", "sure": "yes"}, csrf="0" * 64)
    assert (answer.status_code, gate.ended) == (403, [])


async def test_what_a_caller_sends_is_text_and_not_html(watcher: Person, gate: TalkingGate) -> None:
    gate.call("c1", caller="<script>alert(1)</script>", dialled='"><img src=x>', state="<odd>", code="<b>")
    for answer in (await watcher.get("/live"), await watcher.get("/live/events")):
        assert "<script>alert" not in answer.text
        assert "<img src=x" not in answer.text
        assert "&lt;odd&gt;" in answer.text


async def test_users_see_their_own_calls_only_and_end_none(
    browser: Browser, account: Account, gate: TalkingGate
) -> None:
    account(Role.USER)
    someone = browser()
    await someone.log_in("user")
    gate.call("own", state="ringing")
    gate.call("theirs", user="2002", dialled="9005550199")
    gate.call("called", user="2003", dialled="2001", destination_user="2001")
    gate.call("emergency", user="2004", dialled="911", emergency=True)
    answer = await someone.get("/live")
    assert [line[:3] for line in lines(answer)] == [
        ["2003 +14155550104 Sales", "2001", "talking"],
        ["2001 +14155550104 Sales", "4155550123", "ringing"],
    ]
    told = (await someone.get("/live/events")).text
    for text in (answer.text, told, (await someone.get("/")).text):
        assert "9005550199" not in text
        assert "ACME" not in text
        assert not re.search(r"\b911\b", text)  # a random token may hold it
    assert (await someone.post("/live/hangup", {"call": "own", "sure": "yes"})).status_code == 403
    assert gate.ended == []


async def test_emergency_call_is_told_on_every_page_at_once(watcher: Person, gate: TalkingGate) -> None:
    gate.call("e1", dialled="911", emergency=True, location="Floor 3", code="")
    for path in ("/", "/codes", "/live", "/password"):
        text = " ".join((await watcher.get(path)).text.split())
        assert "2001 (+14155550104) has dialled 911. Where: Floor 3, Main Street 1. Call back:" in text
    told = (await watcher.get("/live/events")).text
    assert 'event: alert\ndata: <div class="notice error' in told
    assert 'value="e1"' not in told, "what is up can't be noted away"


async def test_no_emergency_call_is_ended_by_hand(watcher: Person, gate: TalkingGate) -> None:
    gate.call("e1", dialled="911", emergency=True)
    page = (await watcher.get("/live")).text
    assert 'id="live-calls"' in page
    assert "ask=e1" not in page, "no button"
    answer = await watcher.get("/live?ask=e1")
    assert (answer.status_code, "not ended by hand" in notice(answer)) == (409, True)
    assert "End this call?" not in answer.text
    for _ in range(2):
        answer = await watcher.post("/live/hangup", {"call": "e1", "sure": "yes"})
        assert (answer.status_code, "not ended by hand" in notice(answer)) == (409, True)
    assert gate.ended == []


def alerts(answer: httpx.Response) -> list[str]:
    """Return what a page says of emergency calls."""
    found = re.findall(r'<div class="notice error emergency">(.*?)</div>', answer.text, re.DOTALL)
    return [" ".join(unescape(re.sub(r"<[^>]*>", " ", one)).split()) for one in found]


def recorded(store: Store, call_id: str, ended_ago: float, **more: object) -> None:
    """Let the record of an emergency call be in the store."""
    record = CallRecord(
        call_id,
        NOW - ended_ago - 20,
        ended_after=20.0,
        emergency=True,
        user="2005",
        caller_number="2005",
        dialled_number="112",
        location="Floor 3",
    )
    assert store.usage.insert_many([replace(record, **more)]) == 1  # type: ignore[arg-type]


async def test_emergency_call_that_is_over_is_told_for_a_while_with_place_and_number(
    watcher: Person, store: Store, clock: Clock
) -> None:
    recorded(store, "old", 901)
    recorded(store, "by e-mail only", 1, emergency=False)
    recorded(store, "e1", 600)
    recorded(store, "e2", 0, caller_e164="+14155550105", location="<b>", user="", caller_number="+1555<i>")
    for path in ("/", "/codes", "/live"):
        first, second = alerts(await watcher.get(path))
        assert re.match(
            r"Emergency call at \d\d:\d\d, ended\. \+1555<i> \(\+1555<i>\) has dialled 112\."
            r" Where: <b>, Main Street 1\. Call back: \+14155550105\. Live Calls Noted$",
            first,
        )
        assert "Where: Floor 3, Main Street 1. Call back: +14155550100." in second
    assert 'value="e1"' in (await watcher.get("/live/events")).text
    clock.now += 301
    assert len(alerts(await watcher.get("/"))) == 1
    clock.now += 700
    assert alerts(await watcher.get("/")) == []


async def test_emergency_call_whose_record_is_late_is_told_on(
    watcher: Person, gate: TalkingGate, store: Store, clock: Clock
) -> None:
    gate.call("e1", dialled="911", emergency=True, caller_e164="+14155550107", started_at=NOW - 5)
    (up,) = alerts(await watcher.get("/"))
    assert up.startswith("Emergency call now. 2001 (+14155550104) has dialled 911.")
    assert "Call back: +14155550107." in up
    gate.calls.clear()
    (over,) = [up]
    async with asyncio.timeout(PATIENCE):
        while over == up:  # the portal asks the gate now and then
            await asyncio.sleep(0.05)
            (over,) = alerts(await watcher.get("/"))
    assert ", ended. 2001" in over
    recorded(store, "e1", 0)
    clock.now += 2
    (known,) = alerts(await watcher.get("/"))
    assert ", ended. 2005" in known
    clock.now += 1000
    assert alerts(await watcher.get("/")) == []


async def test_who_has_noted_an_emergency_call_is_told_no_more_and_others_are(
    browser: Browser, account: Account, store: Store
) -> None:
    recorded(store, "e1", 10)
    recorded(store, "e2", 20)
    people = {}
    for role in (Role.PHONE_MANAGER, Role.DECISION_MAKER):
        account(role)
        people[role] = browser()
        await people[role].log_in(role.value)
        assert len(alerts(await people[role].get("/"))) == 2
    noting, other = people.values()
    for call in ("e1", "e1", "unknown", ""):
        answer = await noting.post("/live/noted", {"call": call})
        assert (answer.status_code, answer.headers["location"]) == (303, "/live")
    assert len(alerts(await noting.get("/"))) == 1
    assert len(alerts(await other.get("/"))) == 2
    answer = await other.post("/live/noted", {"call": "e2"}, **{"hx-request": "true"})
    assert (answer.status_code, len(alerts(answer)), "<html" in answer.text) == (200, 1, False)
    assert (await noting.post("/live/noted", {"call": "e2"}, csrf="0" * 64)).status_code == 403
    assert len(alerts(await noting.get("/"))) == 1


async def test_billing_contacts_and_users_are_told_of_no_emergency(
    browser: Browser, account: Account, store: Store
) -> None:
    recorded(store, "e1", 10)
    for role in (Role.BILLING_CONTACT, Role.USER):
        account(role)
        someone = browser()
        await someone.log_in(role.value)
        assert alerts(await someone.get("/")) == []
        assert (await someone.post("/live/noted", {"call": "e1"})).status_code == 403


async def test_stream_is_server_sent_events_and_tells_a_state_once(
    watcher: Person, gate: TalkingGate
) -> None:
    gate.call("c1")
    answer = await watcher.get("/live/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-accel-buffering"] == "no"
    names = re.findall(r"^event: (\w+)$", answer.text, re.MULTILINE)
    assert sorted(names) == ["alert", "calls", "down", "figures"]
    assert all(re.match(r"(event|data|retry):|$", line) for line in answer.text.split("\n"))


async def test_stream_says_that_it_lives_when_nothing_happens(
    portal: Portal, gate: TalkingGate, account: Account
) -> None:
    account(Role.PHONE_MANAGER)
    # The feed counts its own steps and no clock: 8 of them, silent from the second on.
    feed = Feed(every=1 / 64, lasts=8 / 64, quiet=3 / 64)
    app = create_app(replace(portal, gate=GateLink(gate.path), feed=feed))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="https://portal.test") as client:
        someone = Person(client)
        await someone.log_in("phone_manager")
        assert (await someone.get("/live/events")).text.count(": still here") == 2


async def test_many_who_watch_are_shown_what_was_made_once(
    browser: Browser, account: Account, portal: Portal, gate: TalkingGate, clock: Clock
) -> None:
    account(Role.PHONE_MANAGER)
    account(Role.DECISION_MAKER)
    account(Role.USER)
    gate.call("c1", user="2009", dialled="9005550199")
    told = {}
    for who in ("phone_manager", "decision_maker", "user"):
        someone = browser()
        await someone.log_in(who)
        told[who] = [(await someone.get("/live/events")).text for _ in range(2)]
    assert told["phone_manager"][0] == told["phone_manager"][1]
    assert "9005550199" in told["decision_maker"][0]
    assert "9005550199" not in "".join(told["user"])
    clock.now += 10
    someone = browser()
    await someone.log_in("phone_manager")
    assert "1:15" in (await someone.get("/live/events")).text, "timers begin where they are now"


def test_a_part_is_made_once_for_all_who_may_see_the_same() -> None:
    rendered, made = Rendered(), list[str]()

    def make() -> str:
        made.append("x")
        return f"part {len(made)}"

    def get(who: str, seen: object, now: float) -> str:
        return rendered.get(who, seen, make, now=now, good_for=1.0)

    assert [get("a", (1,), 5.0), get("a", (1,), 5.9)] == ["part 1", "part 1"]
    assert get("b", (1,), 5.9) == "part 2"
    assert get("a", (2,), 5.9) == "part 3"
    assert get("a", (2,), 7.0) == "part 4"
    assert get("a", (2,), 6.0) == "part 5", "a clock that was set back"
    for number in range(300):
        get(str(number), (), 8.0)
    assert len(rendered._parts) == 256


@pytest.mark.parametrize(
    "headers",
    [{"origin": "https://evil.test"}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}],
)
async def test_stream_is_refused_to_other_sites(watcher: Person, headers: dict[str, str]) -> None:
    answer = await watcher.get("/live/events", **headers)
    assert (answer.status_code, "did not come from a page" in notice(answer)) == (403, True)


async def test_listening_keeps_nobody_logged_in(watcher: Person, clock: Clock, portal: Portal) -> None:
    idle = portal.settings.session_idle
    clock.now += idle - 100
    assert (await watcher.get("/live/events")).status_code == 200
    clock.now += 200
    answer = await watcher.get("/live/events")
    assert (answer.status_code, answer.text, "location" in answer.headers) == (401, "", False)


async def test_board_of_calls_stays_until_the_session_is_over(
    watcher: Person, clock: Clock, portal: Portal
) -> None:
    assert 'data-events="/live/events?board=true"' in (await watcher.get("/live")).text
    assert 'data-events="/live/events"' in (await watcher.get("/codes")).text
    idle, end = portal.settings.session_idle, clock.now + portal.settings.session_lifetime
    while clock.now < end - idle / 2:
        clock.now += idle / 2
        if clock.now < end:
            assert (await watcher.get("/live/events?board=true")).status_code == 200
    clock.now = end
    assert (await watcher.get("/live/events?board=true")).status_code == 401


async def test_reload_without_scripts_can_be_stopped(watcher: Person) -> None:
    assert '<noscript><meta http-equiv="refresh"' in (await watcher.get("/live")).text
    assert "http-equiv" not in (await watcher.get("/live?still=true")).text


@pytest.mark.parametrize(
    "told",
    [None, "calls", [1, "x", None], [{}], [{"call_id": 7, "started_at": "x", "emergency": "yes"}]],
)
async def test_gate_that_tells_nonsense_breaks_no_page(
    watcher: Person, gate: TalkingGate, told: object
) -> None:
    gate.answers = {"calls": told, "status": {}}
    for path in ("/live", "/live/events", "/"):
        assert (await watcher.get(path)).status_code == 200

"""The overview: what came of calls, whom wrong codes point at, and the emergency calls of the last days."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import httpx

from proxy.cdr.record import CallRecord, Disposition
from proxy.policy import CallerLock
from proxy.store import Store
from tests.portal.conftest import NOW
from tests.portal.gate import TalkingGate
from tests.portal.person import Person


def card(answer: httpx.Response, name: str) -> str:
    """Return the words of one card."""
    html = answer.text.partition(f'aria-labelledby="{name}"')[2].partition("</section>")[0].partition(">")[2]
    return unescape(" ".join(re.sub(r"<[^>]*>", " ", html).split()))


async def test_who_guesses_carefully_is_an_alarm_too(manager: Person, store: Store) -> None:
    assert card(await manager.get("/"), "wrong").endswith("Nobody has typed a wrong code.")
    ends = Disposition.ANSWERED, Disposition.ABANDONED_AT_PROMPT, Disposition.CODE_REFUSED
    calls = [
        CallRecord(f"g{number}", NOW - number, user="2001", wrong_tries=2, disposition=end)
        for number, end in enumerate(ends)
    ]
    mistaken = CallRecord("m", NOW, caller_number="<b>", wrong_tries=1, disposition=Disposition.ANSWERED)
    store.usage.insert_many(
        [*calls, mistaken, CallRecord("old", NOW - 2 * 86_400, user="2002", wrong_tries=3)]
    )
    found = card(await manager.get("/"), "wrong")
    assert (
        found
        == "Wrong codes today alarm 2001: 6 wrong code(s) in 3 call(s) <b>: 1 wrong code(s) in 1 call(s)"
    )


async def test_more_emergency_calls_than_are_shown_are_said(manager: Person, store: Store) -> None:
    calls = [
        CallRecord(
            f"e{number}", NOW - 86_400 - number, emergency=True, call_class="emergency", dialled_number="911"
        )
        for number in range(51)
    ]
    store.usage.insert_many([*calls[1:], CallRecord("n", NOW - 86_400, call_class="national")])
    assert "are shown" not in card(await manager.get("/"), "emergencies"), "50 are all"
    store.usage.insert_many(calls[:1])
    answer = await manager.get("/")
    assert card(answer, "emergencies").endswith("The newest 50 of 51 are shown. All are in the usage log.")
    link = re.search(r'href="(/usage\?[^"]*class=emergency[^"]*)"', answer.text)
    assert link
    assert "51 call" in (await manager.get(unescape(link[1]))).text


async def test_limits_that_were_reached_and_locked_callers_are_told_first(
    manager: Person, store: Store, tmp_path: Path
) -> None:
    hourly = "the group allows 10 calls of one caller an hour"
    with TalkingGate(tmp_path / "none.sock") as gate:
        gate.status["limits_reached"] = [
            {"caller": "user <b>204", "limit": hourly, "seconds": 65.0},
            {"caller": "user 205", "limit": "the group allows 2 calls to JM at once", "seconds": 86_400.0},
            *(
                "nonsense",
                {"caller": "user 206"},
                {"caller": 7, "seconds": "soon"},
                {"seconds": float("nan")},
            ),
        ]
        store.locks.add([CallerLock("user 207", NOW - 60, NOW + 3540, 5)])
        answer = await manager.get("/")
        shown = card(answer, "limits")
        assert shown.startswith("Calls were refused by a limit ")
        assert shown.endswith(f" user <b>204: {hourly}")
        assert "206" not in shown
        assert answer.text.index("Locked callers: 1") < answer.text.index('id="now"'), "before all else"
        manager.client.cookies.set("language", "de")
        assert "10 Anrufe eines Anrufers in der Stunde" in card(await manager.get("/"), "limits")


async def test_without_limits_that_were_reached_nothing_is_said(manager: Person) -> None:
    assert 'aria-labelledby="limits"' not in (await manager.get("/")).text

"""The Usage Log as a person uses it: filters, order, pages, columns, whose calls and whose codes."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
import zipfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from html import unescape
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Message

from proxy.cdr.record import CallRecord, Direction, Disposition, UsedCode
from proxy.cdr.usage_log import CORRECTION_COLUMNS, USAGE_LOG_COLUMNS, UsageFacts, facts_of
from proxy.policy import NumberPlan, UserGroup, new_code
from proxy.portal.portal import Portal
from proxy.portal.streams import Made, stream
from proxy.portal.usage_exports import Exports
from proxy.portal.usage_view import COLUMNS, Column
from proxy.portal.usage_workbook import write_workbook
from proxy.portal.visit import Refused
from proxy.store import PortalAccount, Role, Store, UsageRepository
from tests.cdr.samples import full_record
from tests.portal.conftest import NOW, Clock
from tests.portal.person import Person, notice

New = Callable[..., Person]
Account = Callable[..., PortalAccount]
DAY = 86_400.0


def call(record_id: str, **more: object) -> CallRecord:
    plain = replace(full_record(record_id), start_time=NOW - 60, first_record_id="", continuation="")
    return replace(plain, **more)  # type: ignore[arg-type]


def lines(answer: httpx.Response) -> list[dict[str, str]]:
    """The lines of the list by the titles of their columns."""
    assert answer.status_code == 200, notice(answer)
    body = answer.text.partition("<tbody>")[2].partition("</tbody>")[0]
    return [
        {
            unescape(name): unescape(" ".join(re.sub("<[^>]*>", " ", text).split()))
            for name, text in re.findall(r'<td data-label="([^"]*)">(.*?)</td>', row, re.DOTALL)
        }
        for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
        if "data-label" in row
    ]


def numbers(answer: httpx.Response) -> list[str]:
    return [line["Dialed Number"] for line in lines(answer)]


@pytest.fixture
def some(store: Store) -> Store:
    """Calls of several days, people and ends; the dialled number says which is which."""
    store.groups.add(UserGroup("Sales"))
    store.codes.add(new_code("ACME-12/7", "Acme", plan=NumberPlan()))
    zone = store.usage.zone
    midnight = datetime.fromtimestamp(NOW, zone).replace(hour=0, minute=0, second=0).timestamp()
    store.usage.insert_many(
        [
            call("now", dialled_number="1", start_time=NOW),
            call("dawn", dialled_number="2", start_time=midnight, user="2001", group="Sales", code=None),
            call("eve", dialled_number="3", start_time=midnight - 1, disposition=Disposition.BUSY),
            call("week", dialled_number="4", start_time=midnight - 6 * DAY + 1, call_class="premium"),
            call(
                "old",
                dialled_number="5",
                start_time=midnight - 7 * DAY,
                direction=Direction.INTERNAL,
                destination_user="2001",
                user="204",
            ),
            call(
                "older", dialled_number="6", start_time=midnight - 40 * DAY, code=UsedCode("77", "77", "77")
            ),
        ]
    )
    return store


async def test_list_has_the_columns_of_the_issue(manager: Person, store: Store) -> None:
    store.usage.insert_many([call("r1")])
    [line] = lines(await manager.get("/usage"))
    start = datetime.fromtimestamp(NOW - 60, store.usage.zone)
    assert line == {
        "Date and Time": f"{start:%Y-%m-%d %H:%M:%S}",
        "Duration": "00:01:00",
        "Calling Number": "+12125550123",
        "Direction": "Outbound",
        "Originating": "204",
        "Dialed Number": "901144201234567",
        "Destination": "+442012345678",
        "Internal": "No",
        "Account Code": "ACME-12/7",
        "Result": "Answered",
    }


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "123456"),
        ("?period=today", "12"),
        ("?period=yesterday", "3"),
        ("?period=last7", "1234"),
        ("?user=2001", "25"),
        ("?group=Sales", "2"),
        ("?code=acme-127", "1345"),
        ("?class=premium", "4"),
        ("?result=busy", "3"),
        ("?direction=internal", "5"),
        ("?number=6", "6123456"[1:]),
        ("?number=901144", ""),
        ("?period=today&user=2001&result=answered", "2"),
        ("?user=2001&result=busy", ""),
        ("?descending=false", "654321"),
        ("?order=dialled", "654321"),
        ("?order=dialled&descending=false", "123456"),
        ("?user=&group=&code=&class=&result=&direction=&number=&first=&last=", "123456"),
    ],
)
async def test_filters_and_orders(manager: Person, some: Store, query: str, found: str) -> None:
    answer = await manager.get(f"/usage{query}")
    assert "".join(numbers(answer)) == found
    assert f"{len(found)} call(s)" in answer.text


async def test_a_range_of_days_includes_both_ends_in_the_time_of_the_site(
    manager: Person, some: Store
) -> None:
    today = datetime.fromtimestamp(NOW, some.usage.zone).date()
    first, last = today - timedelta(days=7), today - timedelta(days=1)
    assert numbers(await manager.get(f"/usage?first={first}&last={last}")) == ["3", "4", "5"]
    assert numbers(await manager.get(f"/usage?first={today}")) == ["1", "2"]
    assert numbers(await manager.get(f"/usage?period=range&last={first}")) == ["5", "6"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("period=tomorrow", "period"),
        ("first=yesterday", "first"),
        ("last=2026-02-30", "last"),
        ("first=0001-01-01", "first"),
        ("last=9999-12-31", "last"),
        ("first=2026-02-02&last=2026-02-01", "first, last"),
        ("user=" + "1" * 21, "user"),
        ("number=1%00", "number"),
        ("group=a%0ab", "group"),
        ("code=%23", "code"),
        ("class=cheap", "class"),
        ("result=happy", "result"),
        ("direction=up", "direction"),
        ("order=body", "order"),
        ("descending=maybe", "descending"),
        ("column=secret", "column"),
        ("cursor=" + "a" * 25, "cursor"),
    ],
)
@pytest.mark.parametrize("path", ["/usage", "/usage/export/file"])
async def test_what_is_not_possible_is_refused_naming_the_field(
    manager: Person, some: Store, path: str, query: str, field: str
) -> None:
    answer = await manager.get(f"{path}?{query}")
    assert answer.status_code == 422
    assert field in notice(answer)


@pytest.mark.parametrize("cursor", ["a1%27", "a99", "c1", "a0"])
async def test_places_that_are_not_in_the_list_are_refused(manager: Person, cursor: str) -> None:
    answer = await manager.get(f"/usage?cursor={cursor}")
    assert (answer.status_code, "page:" in notice(answer)) == (422, True)


async def test_pages_follow_each_other_both_ways_and_keep_filters(
    manager: Person, portal: Portal, store: Store
) -> None:
    object.__setattr__(portal.settings, "page_size", 10)
    calls = [call(f"r{n:02d}", start_time=NOW + n, dialled_number=str(n)) for n in range(25)]
    store.usage.insert_many(calls)

    def link(answer: httpx.Response, rel: str) -> str:
        found = re.search(rf'rel="{rel}" href="([^"]*)"', answer.text)
        return unescape(found[1]) if found else ""

    query = "/usage?user=204&order=duration&column=dialled"
    seen, answer = [], await manager.get(query)
    while True:
        seen.append(numbers(answer))
        if not (following := link(answer, "next")):
            break
        assert "user=204" in following
        answer = await manager.get(following)
    assert [len(page) for page in seen] == [10, 10, 5]
    assert sorted(int(one) for page in seen for one in page) == list(range(25))
    answer = await manager.get(link(answer, "prev"))
    assert numbers(answer) == seen[1]
    assert "more than" not in answer.text


async def test_columns_are_chosen_in_the_address(manager: Person, some: Store) -> None:
    chosen = "&".join(f"column={name.value}" for name in Column)
    answer = await manager.get(f"/usage?{chosen}")
    assert len(lines(answer)[0]) == len(Column)
    assert lines(answer)[0]["Wrong tries"] == "1"
    answer = await manager.get("/usage?column=result&column=dialled")
    assert list(lines(answer)[0]) == ["Dialed Number", "Result"]
    assert "column=dialled&amp;column=result" in answer.text
    assert len(COLUMNS) == len(lines(await manager.get("/usage"))[0]) == 10


async def test_users_see_their_own_calls_only_and_no_codes(
    person: New, account: Account, some: Store
) -> None:
    account(Role.USER)
    someone = person()
    await someone.log_in("user")
    for query in ("", "?user=204", "?period=all&number=1"):
        assert set(numbers(await someone.get(f"/usage{query}"))) <= {"2", "5"}
    answer = await someone.get("/usage")
    assert numbers(answer) == ["2", "5"]
    assert "ACME" not in answer.text
    assert (await someone.get("/usage/now")).status_code == 404
    answer = await someone.get("/usage/old")
    assert answer.status_code == 200
    for hidden in ("ACME", "2263127", "192.0.2.1", "a@192", "<td>second"):
        assert hidden not in answer.text
    exported = (await someone.get("/usage/export/file")).text
    assert len(exported.splitlines()) == 3
    assert "ACME" not in exported
    for query in ("?format=jsonl", "?format=asterisk"):
        assert (await someone.get(f"/usage/export/file{query}")).status_code == 403


@pytest.mark.parametrize("granted", [False, True])
async def test_billing_contacts_see_masked_codes_unless_granted(
    person: New, account: Account, some: Store, granted: bool
) -> None:
    account(Role.BILLING_CONTACT, see_codes=granted)
    some.corrections.correct("older", "2263127", "right so")
    someone = person()
    await someone.log_in("billing_contact")
    pages = [
        "/usage",
        "/usage/now",
        "/usage/older",
        *(f"/usage/export/file?format={form}" for form in ("usage-log", "asterisk", "freeswitch", "jsonl")),
        "/usage/export/file?format=jsonl&corrections=true",
        "/usage/export/file?corrections=true",
    ]
    for path in pages:
        answer = await someone.get(path)
        assert answer.status_code == 200
        assert ("ACME-12/7" in answer.text) is granted, path
        assert ("*******/7" in answer.text) is not granted, path
        if not granted:
            assert "2263127" not in answer.text
            assert not re.search(r'"77"|>77<', answer.text), path
    for query in ("?code=ACME-12/7", "?order=code"):
        assert (await someone.get(f"/usage{query}")).status_code == (200 if granted else 403)
        assert (await someone.get(f"/usage/export/file{query}")).status_code == (200 if granted else 403)
    assert (await someone.post("/usage/now/correct", {"code": "1", "reason": "x"})).status_code == 403


async def test_text_of_callers_is_shown_as_text(manager: Person, store: Store) -> None:
    store.usage.insert_many([call("r1", dialled_number="<b>1</b>", caller_name="<script>", reason="<i>")])
    for path in ("/usage", "/usage/r1"):
        text = (await manager.get(path)).text
        assert "<b>1" not in text
        assert "<i>" not in text
        assert text.count("<script>") == 0


async def test_a_moment_that_no_calendar_has_breaks_no_page(manager: Person, store: Store) -> None:
    store.usage.insert_many([call("r1", start_time=1e15)])
    for path in ("/usage", "/usage/r1", "/usage/export/file", "/usage/export/file?format=jsonl"):
        assert (await manager.get(path)).status_code == 200


# --- exports


async def test_csv_is_what_the_command_writes(manager: Person, some: Store) -> None:
    answer = await manager.get("/usage/export/file?period=today")
    assert answer.headers["content-disposition"] == 'attachment; filename="usage-log.csv"'
    header, *rows = csv.reader(io.StringIO(answer.text))
    assert tuple(header) == USAGE_LOG_COLUMNS
    assert [row[8] for row in rows] == ["2", "1"]
    assert rows[1][3] == "'+12125550123"
    answer = await manager.get("/usage/export/file?format=asterisk&user=2001")
    assert [row[2] for row in csv.reader(io.StringIO(answer.text))] == ["5", "2"]
    answer = await manager.get("/usage/export/file?format=freeswitch&user=2001")
    assert [row[2] for row in csv.reader(io.StringIO(answer.text))] == ["5", "2"]
    answer = await manager.get("/usage/export/file?format=jsonl")
    assert [json.loads(line)["dialled_number"] for line in answer.text.splitlines()] == list("654321")


async def test_exports_show_the_corrected_code_and_can_show_both(manager: Person, some: Store) -> None:
    some.corrections.correct("older", "2263127", "=cmd|x")
    assert csv_rows(await manager.get("/usage/export/file"))[1][15] == "ACME-12/7"
    rows = csv_rows(await manager.get("/usage/export/file?corrections=true"))
    assert tuple(rows[0]) == USAGE_LOG_COLUMNS + CORRECTION_COLUMNS
    assert rows[1][15:18] == ["ACME-12/7", "77", "system"]
    assert rows[1][19] == "'=cmd|x"
    assert rows[2][16:] == ["", "", "", ""]
    text = (await manager.get("/usage/export/file?format=jsonl&corrections=true")).text
    first, second, *_ = [json.loads(line) for line in text.splitlines()]
    assert first["code"]["form"] == "ACME-12/7"
    assert first["recorded_code"]["form"] == "77"
    assert (first["corrected"]["by"], first["corrected"]["reason"]) == ("system", "=cmd|x")
    assert second["corrected"] is None


def csv_rows(answer: httpx.Response) -> list[list[str]]:
    return list(csv.reader(io.StringIO(answer.text)))


@pytest.mark.parametrize(
    ("query", "field"),
    [("format=xls", "format"), ("format=asterisk&corrections=true", "corrections")],
)
async def test_exports_that_do_not_exist_are_refused(manager: Person, query: str, field: str) -> None:
    answer = await manager.get(f"/usage/export/file?{query}")
    assert (answer.status_code, field in notice(answer)) == (422, True)


async def test_bad_tickets_are_refused(manager: Person) -> None:
    for path in ("/usage/export/file", "/usage/export/progress"):
        answer = await manager.get(f"{path}?ticket=%3Cb%3E")
        assert (answer.status_code, "ticket" in notice(answer)) == (400, True)


async def test_a_workbook_holds_text_days_and_durations(manager: Person, some: Store) -> None:
    some.usage.insert_many([call("bad", caller_number="=1+1", user="http://x", start_time=NOW + 5)])
    answer = await manager.get("/usage/export/file?format=xlsx&corrections=true")
    assert answer.headers["content-type"].endswith("spreadsheetml.sheet")
    sheet = zipfile.ZipFile(io.BytesIO(answer.content)).read("xl/worksheets/sheet1.xml").decode()
    assert sheet.count("<row ") == 8
    assert "<f>" not in sheet
    assert "<hyperlink" not in sheet
    assert "=1+1" in sheet
    assert "'=1+1" not in sheet
    duration = re.findall(r'<c r="N\d+" s="\d+"><v>([\d.e-]+)</v>', sheet)
    assert [round(float(one) * DAY) for one in duration] == [60] * 7
    days = {round(float(one)) for one in re.findall(r'<c r="B\d+" s="\d+"><v>(\d+)</v>', sheet)}
    epoch = datetime(1899, 12, 30, tzinfo=some.usage.zone)
    today = datetime.fromtimestamp(NOW, some.usage.zone)
    assert (today.replace(tzinfo=None) - epoch.replace(tzinfo=None)).days in days


def test_a_workbook_goes_on_in_another_sheet_when_one_is_full(tmp_path: Path) -> None:
    facts = [facts_of(call(f"r{n}")) for n in range(7)]
    steps = list(write_workbook(tmp_path / "x.xlsx", facts, zone=ZoneInfo("UTC"), max_rows=3))
    assert steps[-1] == 7
    names = [name for name in zipfile.ZipFile(tmp_path / "x.xlsx").namelist() if "worksheets/" in name]
    assert len(names) == 3


def test_a_workbook_that_is_given_up_leaves_nothing_open(tmp_path: Path) -> None:
    def facts() -> Iterator[UsageFacts]:
        while True:
            yield facts_of(call("r1", start_time=1e15))

    made = write_workbook(tmp_path / "x.xlsx", facts(), zone=ZoneInfo("UTC"))
    assert next(made) == 500
    made.close()
    assert not (tmp_path / "x.xlsx").exists()


def test_a_workbook_that_the_disk_refuses_is_told(tmp_path: Path) -> None:
    none: list[UsageFacts] = []
    with pytest.raises(OSError, match="No such file"):
        list(write_workbook(tmp_path / "nowhere" / "x.xlsx", none, zone=ZoneInfo("UTC")))


async def test_an_export_tells_how_far_it_is(manager: Person, portal: Portal, some: Store) -> None:
    page = await manager.get("/usage/export?period=last7")
    [ticket] = set(re.findall(r'name="ticket" value="([\w-]+)"', page.text))
    assert 'name="period" value="last7"' in page.text
    assert '<form id="export" class="slim" data-follow="#progress"' in page.text
    assert "submit from:" not in page.text  # htmx would keep the form from downloading
    path = f"/usage/export/progress?ticket={ticket}"
    answer = await manager.get(path)
    assert (answer.status_code, "about to begin" in answer.text) == (200, True)
    await manager.get(f"/usage/export/file?ticket={ticket}&period=last7")
    answer = await manager.get(path)
    assert (answer.status_code, "4 calls are exported" in answer.text) == (286, True)
    assert portal.exports.running == 0


async def test_progress_is_told_to_its_account_only(
    manager: Person, person: New, account: Account, portal: Portal
) -> None:
    account(Role.DECISION_MAKER)
    other = person()
    await other.log_in("decision_maker")
    await manager.get("/usage/export/file?ticket=mine")
    assert (await manager.get("/usage/export/progress?ticket=mine")).status_code == 286
    assert (await other.get("/usage/export/progress?ticket=mine")).status_code == 200
    [(mine, _ticket)] = portal.exports._known
    state = portal.exports.begin(mine, "other")
    assert state
    state.done, state.total = 40, 100
    text = (await manager.get("/usage/export/progress?ticket=other")).text
    assert "40 of 100 calls" in text
    assert '<progress value="40" max="100">' in text
    state.packing = True
    assert "being put together" in (await manager.get("/usage/export/progress?ticket=other")).text
    portal.exports.end(state, failed=True)
    answer = await manager.get("/usage/export/progress?ticket=other")
    assert (answer.status_code, "broke off after 40" in answer.text) == (286, True)
    await manager.post("/logout")
    await manager.log_in("phone_manager")
    again = await manager.get("/usage/export/progress?ticket=other")
    assert "broke off after 40" in again.text, "whoever has logged in again is told of what was begun before"


async def test_a_page_stops_asking_for_an_export_that_was_refused_or_never_begins(
    manager: Person, portal: Portal, some: Store
) -> None:
    assert portal.exports.begin(portal.store.accounts.all()[0].id, "another tab's")
    assert (await manager.get("/usage/export/file?ticket=mine")).status_code == 503
    answer = await manager.get("/usage/export/progress?ticket=mine")
    assert (answer.status_code, "Too many exports" in answer.text) == (286, True)
    answer = await manager.get("/usage/export/progress?ticket=none")
    assert (answer.status_code, "ticket=none&amp;asked=1" in answer.text) == (200, True)
    answer = await manager.get("/usage/export/progress?ticket=none&asked=120")
    assert (answer.status_code, "has not begun" in answer.text, "hx-get" in answer.text) == (286, True, False)


async def test_a_page_that_asks_for_progress_keeps_nobody_logged_in(
    manager: Person, portal: Portal, clock: Clock
) -> None:
    for status in (200, 303):
        clock.now += portal.settings.session_idle / 2 + 1
        assert (await manager.get("/usage/export/progress?ticket=mine")).status_code == status


async def test_too_many_exports_are_refused_and_places_are_given_back(
    manager: Person, portal: Portal
) -> None:
    states = [portal.exports.begin(1_000 + n, str(n)) for n in range(4)]
    answer = await manager.get("/usage/export/file")
    assert (answer.status_code, "Too many exports" in notice(answer)) == (503, True)
    for state in states:
        assert state
        portal.exports.end(state, failed=False)
    assert (await manager.get("/usage/export/file")).status_code == 200


async def test_one_account_has_one_export_at_a_time(
    manager: Person, person: New, account: Account, portal: Portal
) -> None:
    mine = portal.store.accounts.by_name("phone_manager")
    assert mine
    state = portal.exports.begin(mine.id, "another window's")
    assert state
    answer = await manager.get("/usage/export/file")
    assert (answer.status_code, "Too many exports" in notice(answer)) == (503, True)
    account(Role.DECISION_MAKER)
    other = person()
    await other.log_in("decision_maker")
    assert (await other.get("/usage/export/file")).status_code == 200
    portal.exports.end(state, failed=False)
    assert (await manager.get("/usage/export/file")).status_code == 200


def test_old_exports_are_forgotten() -> None:
    exports = Exports(most=1000)
    for number in range(300):
        state = exports.begin(1, str(number))
        assert state
        exports.end(state, failed=False)
    assert exports.find(1, "299")
    assert exports.find(1, "0") is None


async def test_an_export_that_fails_at_once_is_a_page_and_gives_its_place_back(
    manager: Person, portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(UsageRepository, "count", fail)
    answer = await manager.get("/usage/export/file?ticket=t")
    assert (answer.status_code, "No space left" in notice(answer)) == (507, True)
    assert portal.exports.running == 0
    assert "broke off" in (await manager.get("/usage/export/progress?ticket=t")).text


class Endless:
    """A file without an end, that knows whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    def made(self) -> Made:
        try:
            while True:
                yield b"x"
        finally:
            self.closed = True


async def read(answer: StreamingResponse, send: Callable[[Message], Awaitable[None]]) -> None:
    """Let a browser have a file, that takes each part of it as ``send`` does and says nothing itself."""

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    await asyncio.wait_for(answer({"type": "http", "asgi": {"spec_version": "2.4"}}, receive, send), 60)


async def test_a_stream_whose_reader_has_gone_is_closed() -> None:
    async def send(message: Message) -> None:
        if message.get("body"):
            raise OSError(32, "Broken pipe")

    file = Endless()
    with pytest.raises(ClientDisconnect):
        await read(await stream(file.made(), "x.csv", "text/csv"), send)
    assert file.closed


async def test_who_reads_nothing_of_a_file_is_left() -> None:
    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    file = Endless()
    with pytest.raises(ClientDisconnect):
        await read(await stream(file.made(), "x.csv", "text/csv", patience=0.05), send)
    assert file.closed


async def test_a_stream_that_breaks_in_the_middle_is_closed_too() -> None:
    sent = []

    def breaking() -> Made:
        yield b"a"
        yield b"b"
        raise OSError(28, "No space left on device")

    async def send(message: Message) -> None:
        sent.append(message.get("body"))

    with pytest.raises(Refused, match=r"usage\.disk"):
        await read(await stream(breaking(), "x.csv", "text/csv"), send)
    # The end of the body was never told: the browser knows that the file is not whole.
    assert sent == [None, b"a", b"b"]

"""Reports and statements as a person reads them: tables, charts, files, whose eyes see which codes."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape

import httpx
import pytest
import pytest_asyncio

from proxy.cdr.record import CallRecord, UsedCode
from proxy.cdr.usage_log import USAGE_LOG_COLUMNS
from proxy.policy import NumberPlan, User, UserGroup, new_code
from proxy.portal.portal import Portal
from proxy.portal.report_chart import columns, lying_bars
from proxy.portal.turns import Turns
from proxy.store import PortalAccount, Role, Store
from tests.cdr.samples import full_record
from tests.portal.conftest import NOW
from tests.portal.person import Person, notice

New = Callable[..., Person]
Account = Callable[..., PortalAccount]
MONTH = f"{datetime.fromtimestamp(NOW, UTC):%Y-%m}"
ACME, OTHER = UsedCode("ACME-12/7", "2263127", "2263127"), UsedCode("47-11", "4711", "4711")
LEDES = "number=1&client_id=C&matter_id=M&law_firm_id=L&rate=0,10"


def call(record_id: str, **more: object) -> CallRecord:
    plain = replace(full_record(record_id), start_time=NOW, answered_after=6.0, ended_after=66.0)
    return replace(plain, **more)  # type: ignore[arg-type]


def table(answer: httpx.Response) -> list[list[str]]:
    assert answer.status_code == 200, notice(answer)
    body = answer.text.partition("<tbody>")[2].partition("</tbody>")[0]
    return [
        [unescape(" ".join(re.sub("<[^>]*>", " ", cell).split())) for cell in re.findall(r"<td.*?</td>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    ]


@pytest.fixture
def log(store: Store) -> Store:
    store.groups.add(UserGroup("Consultants"))
    store.users.add(User("204", "Consultants", name="Anna"))
    store.codes.add(replace(new_code("ACME-12/7", plan=NumberPlan()), description="Acme"))
    store.codes.add(new_code("47-11", plan=NumberPlan()))
    store.usage.insert_many(
        [
            call("r1", code=ACME),
            call("r2", code=ACME, ended_after=126.0),
            call("r3", code=OTHER, user="205", group="Sales"),
            call("r4", code=None, answered_after=None, call_class="", user=""),
            call("r5", code=ACME, start_time=NOW - 70 * 86_400),
        ]
    )
    return store


@pytest_asyncio.fixture
async def maker(person: New, account: Account) -> Person:
    """A Decision Maker, logged in."""
    account(Role.DECISION_MAKER)
    someone = person()
    await someone.log_in("decision_maker")
    return someone


@pytest.mark.parametrize(
    ("by", "lines"),
    [
        ("code", ["ACME-12/7 Acme 2 2 00:03:00 75.0 %", "47-11  1 1 00:01:00 25.0 %"]),
        (
            "user",
            [
                "204 Anna 2 2 00:03:00 75.0 %",
                "205  1 1 00:01:00 25.0 %",
                "none  1 0 00:00:00 0.0 %",
            ],
        ),
        ("group", ["Consultants 3 2 00:03:00 75.0 %", "Sales 1 1 00:01:00 25.0 %"]),
        ("class", ["International 3 3 00:04:00 100.0 %", "none 1 0 00:00:00 0.0 %"]),
        ("result", ["Answered 4 3 00:04:00 100.0 %"]),
    ],
)
async def test_a_report_of_this_month(maker: Person, log: Store, by: str, lines: list[str]) -> None:
    answer = await maker.get(f"/reports?by={by}")
    assert [" ".join(line) for line in table(answer)] == lines
    assert answer.text.count('<rect class="drawn"') == len(lines)
    widths = [float(one) for one in re.findall(r'<rect[^>]* width="([\d.]+)"', answer.text)]
    assert widths == sorted(widths, reverse=True)


async def test_a_report_by_day_is_drawn_from_left_to_right(maker: Person, log: Store) -> None:
    start = datetime.fromtimestamp(NOW, log.usage.zone).date()
    answer = await maker.get(f"/reports?by=day&first={start.replace(month=1, day=1)}&last={start}")
    [early, late] = table(answer)
    assert (late[0], late[1:4]) == (str(start), ["4", "3", "00:04:00"])
    assert early[0] < late[0]
    left = [float(one) for one in re.findall(r'<rect class="drawn" x="([\d.]+)"', answer.text)]
    assert left == [0.0, 360.0]


async def test_a_call_past_midnight_belongs_to_the_day_on_which_it_started(
    maker: Person, store: Store
) -> None:
    midnight = datetime.fromtimestamp(NOW, store.usage.zone).replace(hour=0, minute=0, second=0)
    store.usage.insert_many([call("r1", start_time=midnight.timestamp() - 30, ended_after=3_606.0)])
    before = datetime.fromtimestamp(midnight.timestamp() - 30, store.usage.zone).date()
    assert table(await maker.get(f"/reports?by=day&first={before}&last={before}")) == [
        [str(before), "1", "1", "01:00:00", "100.0 %"]
    ]


async def test_lines_are_sorted_and_paged(maker: Person, portal: Portal, log: Store) -> None:
    assert [line[0] for line in table(await maker.get("/reports?by=user&order=key&descending=false"))] == [
        "none",
        "204",
        "205",
    ]
    object.__setattr__(portal.settings, "page_size", 1)
    answer = await maker.get("/reports?by=code")
    assert [line[0] for line in table(answer)] == ["ACME-12/7"]
    following = re.search(r'rel="next" href="([^"]*)"', answer.text)
    assert following
    answer = await maker.get(unescape(following[1]))
    assert [line[0] for line in table(answer)] == ["47-11"]
    assert 'rel="prev"' in answer.text
    assert 'rel="next"' not in answer.text


async def test_the_file_holds_every_line(maker: Person, portal: Portal, log: Store) -> None:
    object.__setattr__(portal.settings, "page_size", 1)
    log.codes.add(replace(new_code("9", plan=NumberPlan()), description="=1+1"))
    log.usage.insert_many([call("r9", code=UsedCode("9", "9", "9"))])
    answer = await maker.get("/reports/file?by=code")
    assert 'filename="code-20' in answer.headers["content-disposition"]
    header, *lines = csv.reader(io.StringIO(answer.text))
    assert header == ["Code", "Description", "Calls", "Answered", "Talk Time", "Talk Time in Seconds"]
    assert lines[0] == ["ACME-12/7", "Acme", "2", "2", "00:03:00", "180"]
    assert sorted(line[1] for line in lines) == ["", "'=1+1", "Acme"]


async def test_files_of_reports_have_places_like_exports(maker: Person, portal: Portal, log: Store) -> None:
    states = [portal.exports.begin(1_000 + number, "") for number in range(4)]
    answer = await maker.get("/reports/file?by=user")
    assert (answer.status_code, "Too many exports" in notice(answer)) == (503, True)
    for state in states:
        assert state
        portal.exports.end(state, failed=False)
    assert (await maker.get("/reports/file?by=user")).status_code == 200
    assert portal.exports.running == 0


async def test_reports_are_added_up_two_at_a_time(maker: Person, portal: Portal, log: Store) -> None:
    async with portal.reports.of("one"), portal.reports.of("another"):
        waiting = asyncio.create_task(maker.get("/reports"))
        assert (await maker.get("/codes")).status_code == 200, "nobody else waits"
        assert not waiting.done()
    assert (await asyncio.wait_for(waiting, 60)).status_code == 200


async def test_who_asks_for_many_reports_waits_for_themselves() -> None:
    turns, running, most = Turns(), dict.fromkeys("ab", 0), 0
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def ask(who: str) -> None:
        nonlocal most
        async with turns.of(who):
            running[who] += 1
            most = max(most, sum(running.values()))
            begun.set()
            await go_on.wait()
            running[who] -= 1

    many = [asyncio.create_task(ask("a")) for _ in range(50)]
    await begun.wait()
    begun.clear()
    late = asyncio.create_task(ask("b"))
    await asyncio.wait_for(begun.wait(), 60)
    assert running == {"a": 1, "b": 1}
    go_on.set()
    await asyncio.wait_for(asyncio.gather(late, *many), 60)
    assert most == 2
    del many, late
    async with turns.of("c"), turns.of("d"):
        assert list(turns._own) == ["c", "d"]
    assert list(turns._own) == [], "nobody is remembered"


async def test_files_of_statements_have_places_like_exports(
    maker: Person, portal: Portal, log: Store
) -> None:
    query = f"code=4711&month={MONTH}"
    mine = portal.store.accounts.by_name("decision_maker")
    assert mine
    state = portal.exports.begin(mine.id, "another window's")
    assert state
    for path in (f"/reports/statement/file?{query}", f"/reports/statement/ledes?{query}&{LEDES}"):
        answer = await maker.get(path)
        assert (answer.status_code, "Too many exports" in notice(answer)) == (503, True)
    portal.exports.end(state, failed=False)
    assert (await maker.get(f"/reports/statement/file?{query}")).status_code == 200
    assert portal.exports.running == 0


async def test_an_empty_report_says_so(maker: Person) -> None:
    answer = await maker.get("/reports")
    assert table(answer) == [["There were no calls."]]
    assert "<svg" not in answer.text


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("by=shoe", "by"),
        ("first=x", "first"),
        ("last=2026-13-01", "last"),
        ("first=2026-02-01&last=2026-01-01", "first, last"),
        ("first=2000-01-01&last=2026-01-01", "first, last"),
        ("order=size", "order"),
        ("descending=2", "descending"),
        ("page=0", "page"),
        ("page=-1", "page"),
        ("page=%C2%B2", "page"),
        ("page=99999999", "page"),
    ],
)
@pytest.mark.parametrize("path", ["/reports", "/reports/file"])
async def test_what_is_not_possible_is_refused_naming_the_field(
    maker: Person, path: str, query: str, field: str
) -> None:
    answer = await maker.get(f"{path}?{query}")
    assert (answer.status_code, field in notice(answer)) == (422, True)


# --- statements


async def test_a_statement_is_found_from_its_report_without_digits_in_the_address(
    maker: Person, log: Store
) -> None:
    answer = await maker.get("/reports")
    found = re.search(r'href="(/reports/statement\?id[^"]*)"', answer.text)
    assert found
    assert "2263127" not in found[1]
    answer = await maker.get(unescape(found[1]))
    assert len(table(answer)) == 2
    assert [line[4] for line in table(answer)] == ["00:01:00", "00:02:00"]
    assert "00:03:00" in answer.text


@pytest.mark.parametrize("days", [70, 3])
async def test_a_line_of_another_time_than_a_month_leads_to_its_calls_of_that_time(
    maker: Person, person: New, account: Account, log: Store, days: int
) -> None:
    last = datetime.fromtimestamp(NOW, log.usage.zone).date()
    first = last - timedelta(days=days)
    query = f"/reports?first={first}&last={last}"
    answer = await maker.get(query)
    assert "/reports/statement?" not in answer.text
    links = [unescape(one) for one in re.findall(r'<td[^>]*><a href="(/usage[^"]*)"', answer.text)]
    assert len(links) == 2
    for line, link in zip(table(answer), links, strict=True):
        found = (await maker.get(link)).text
        assert found.count('href="/usage/r') == int(line[2])
    account(Role.BILLING_CONTACT)
    blind = person()
    await blind.log_in("billing_contact")
    assert '<td data-label="Account code"><a' not in (await blind.get(query)).text
    assert "2263127" not in (await blind.get(query)).text


@pytest.mark.parametrize("code", ["ACME-12/7", "2263127", "acme+12+7"])
async def test_a_statement_is_asked_for_by_the_code_in_any_form(maker: Person, log: Store, code: str) -> None:
    assert 'name="code"' in (await maker.get("/reports/statement")).text
    answer = await maker.get(f"/reports/statement?code={code}&month={MONTH}")
    assert len(table(answer)) == 2
    answer = await maker.get(f"/reports/statement/file?code={code}&month={MONTH}")
    header, *rows = csv.reader(io.StringIO(answer.text))
    assert tuple(header) == USAGE_LOG_COLUMNS
    assert [row[13] for row in rows] == ["00:01:00", "00:02:00"]


async def test_the_statement_of_a_deleted_code_and_that_of_a_corrected_call(
    maker: Person, log: Store
) -> None:
    log.corrections.correct("r3", "2263127", "other client")
    log.codes.delete_ids([code.id for code in log.codes.versioned_page() if code.value.digits == "4711"])
    assert len(table(await maker.get(f"/reports/statement?code=2263127&month={MONTH}"))) == 3
    assert table(await maker.get(f"/reports/statement?code=4711&month={MONTH}")) == [["There were no calls."]]


async def test_a_statement_without_a_month_is_that_of_the_last(maker: Person, log: Store) -> None:
    answer = await maker.get("/reports/statement?code=4711")
    last = datetime.fromtimestamp(NOW, log.usage.zone).replace(day=1).timestamp() - 86_400
    assert f'value="{datetime.fromtimestamp(last, log.usage.zone):%Y-%m}"' in answer.text


async def test_a_statement_becomes_an_invoice_for_legal_billing(maker: Person, log: Store) -> None:
    page = await maker.get(f"/reports/statement?code=2263127&month={MONTH}")
    assert 'name="matter_id" value="ACME-12/7"' in page.text
    answer = await maker.get(f"/reports/statement/ledes?code=2263127&month={MONTH}&{LEDES}")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = answer.text.split("\r\n")
    assert lines[0] == "LEDES1998B[]"
    assert [line.split("|")[12] for line in lines[2:-1]] == ["0.10", "0.20"]
    assert {line.split("|")[4] for line in lines[2:-1]} == {"0.30"}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (f"code=4711&{LEDES}&rate=cheap", "rate"),
        (f"code=4711&{LEDES}&rate=-1", "rate"),
        (f"code=4711&{LEDES}&number=", "number"),
        (f"code=4711&{LEDES}&client_id=a%7Cb", "client_id"),
        (f"code=4711&{LEDES}&day=soon", "day"),
        (f"code=4711&{LEDES}&month=2026-7", "month"),
        (f"code=4711&{LEDES}&month=2026-13", "month"),
        (f"code=4711&{LEDES}&month=never", "month"),
        (f"code=%23&{LEDES}", "code"),
        (LEDES, "code"),
    ],
)
async def test_bad_invoices_are_refused_naming_the_field(
    maker: Person, log: Store, query: str, field: str
) -> None:
    # The last of two values counts, as for every field of an address.
    answer = await maker.get(f"/reports/statement/ledes?{query}")
    assert (answer.status_code, field in notice(answer)) == (422, True)


async def test_codes_that_do_not_exist_any_more(maker: Person) -> None:
    assert (await maker.get("/reports/statement?id=99")).status_code == 404
    for bad in ("-1", "x", str(2**60)):
        assert (await maker.get(f"/reports/statement?id={bad}")).status_code == 400


async def test_billing_contacts_read_reports_with_masked_codes(
    person: New, account: Account, log: Store
) -> None:
    account(Role.BILLING_CONTACT)
    someone = person()
    await someone.log_in("billing_contact")
    code_id = next(code.id for code in log.codes.versioned_page() if code.value.digits == "2263127")
    answer = await someone.get("/reports")
    assert table(answer)[0][:2] == ["*******/7", "Acme"]
    for path in (
        "/reports",
        "/reports?by=user",
        "/reports/file",
        f"/reports/statement?id={code_id}&month={MONTH}",
        f"/reports/statement/file?id={code_id}&month={MONTH}",
        f"/reports/statement/ledes?id={code_id}&month={MONTH}&{LEDES}",
    ):
        answer = await someone.get(path)
        assert answer.status_code == 200
        assert "ACME" not in answer.text
        assert "2263127" not in answer.text
        assert not re.search(r"\b4711\b", answer.text)
    for path in ("/reports/statement?code=2263127", "/reports?order=key", "/reports/file?order=key"):
        assert (await someone.get(path)).status_code == 403


def test_charts_of_nothing_and_of_much_keep_inside_their_picture() -> None:
    assert lying_bars([]).bars == columns([]).bars == []
    many = columns([(f"2026-{n:04d}", float(n % 7), "") for n in range(1_830)])
    assert all(0 <= bar.x <= many.width and 0 <= bar.y <= many.height for bar in many.bars)
    assert sum(bool(bar.name) for bar in many.bars) <= 16
    long = lying_bars([("x" * 300, 5.0, "5"), ("", 0.0, "0"), ("negative", -1.0, "")])
    assert max(len(bar.name) for bar in long.bars) == 26
    assert all(bar.width >= 0 for bar in long.bars)


async def test_a_report_and_a_statement_say_when_digits_have_become_anothers(
    maker: Person, portal: Portal, log: Store
) -> None:
    code = UsedCode("300003", "300003", "300003", "Client <C>")
    start = portal.clock() - 60
    log.usage.insert_many([replace(full_record("handed"), start_time=start, code=code)])
    log.codes.add(new_code("300003", "Client D", plan=NumberPlan()))
    answer = await maker.get("/reports?by=code")
    assert "Client &lt;C&gt; <small>today: Client D</small>" in answer.text
    month = datetime.fromtimestamp(start, log.usage.zone).strftime("%Y-%m")
    answer = await maker.get(f"/reports/statement?code=300003&month={month}")
    assert "more than one thing: Client &lt;C&gt; · Client D." in answer.text

"""Section 28 of docs/reliability.md: every route of the portal against who means it no good.

What is hostile here comes from a browser that was led astray, from a caller's phone, from an address that was
typed by hand, or in a body. Recordings are in `test_hostile_uploads`, guessing in `test_hostile_logins`.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
from fastapi.routing import APIRoute

from proxy.cdr.record import CallRecord, TrunkTry, UsedCode
from proxy.policy import CallerLock, NumberPlan, User, UserGroup, new_code
from proxy.portal.api.app import api_routes
from proxy.portal.api.scopes import GRANTABLE
from proxy.portal.app import routes
from proxy.portal.permissions import Permission
from proxy.store import (
    MailedCalls,
    PortalAccount,
    ReportSchedule,
    Rhythm,
    Role,
    Store,
    WebhookEndpoint,
)
from tests.cdr.samples import full_record
from tests.portal.conftest import NOW
from tests.portal.gate import TalkingGate
from tests.portal.person import Person
from tests.portal.test_permissions import ROUTES
from tests.portal.test_users import registered

New = Callable[..., Person]
Account = Callable[..., PortalAccount]
Program = Callable[..., httpx.AsyncClient]

MARKUP = "\"'><x-evil onload=alert(1)><script>alert(1)</script>{{7*7}}javascript:alert(1)"
FORMULAS = ("=cmd|'/c calc'!A1", "+1+1", "-1+1", "@SUM(A1)", "\t=1+1", "\r=1+1", "a;=1+1")
INJECTED = (
    "1' OR '1'='1",
    '1"; DROP TABLE account_codes; --',
    "start_time, (SELECT password_hash FROM portal_accounts)",
    "%' ESCAPE '%",
    "a%27 UNION SELECT token_hash FROM api_tokens --",
    "\0\x1b[2J",
    "9" * 400,
    "../../etc/passwd",
    "é\u202e\ud7ff",
)


class _Markup(HTMLParser):
    """What a browser would run or ask of a page that the portal has not written."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.foreign: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            leads = name in {"href", "src", "action", "formaction", "hx-get", "hx-post"}
            if name.startswith("on") or name == "style" or (leads and "script:" in (value or "")[:20]):
                self.foreign.append(f"{tag} {name}={value}")
        if tag == "x-evil" or (tag == "script" and not (dict(attrs).get("src") or "").startswith("/assets/")):
            self.foreign.append(tag)


def _where(path: str) -> str:
    """An address of a route: of the first row, where it names one."""
    found = re.sub(r"\{\w+:int\}", "1", path).replace("{name:path}", "portal.css")
    return found.replace("{record_id}", "r1")


def _parameters(route: APIRoute) -> set[str]:
    """What may stand in the address of a page: what it declares, and what its own forms would send."""
    declared = {one.alias for one in route.dependant.query_params}
    for dependency in route.dependant.dependencies:
        declared |= {one.alias for one in dependency.query_params}
    return declared | {"sort", "order", "search", "by", "first", "last", "month", "column", "before", "after"}


def _spoken(record_id: str, text: str, **more: object) -> CallRecord:
    """The record of a call each of whose words its caller has chosen."""
    kept = {"record_id", "call_class", "treatment", "decision", "first_record_id", "user"}
    words = {
        one.name: text
        for one in fields(CallRecord)
        if one.name not in kept and isinstance(getattr(full_record(), one.name), str)
    }
    facts = {"start_time": NOW - 3600, "user": "2001", "code": UsedCode(text, "1", "1", text)}
    given = {**words, "trunks": (TrunkTry(text, 200),), **facts, **more}
    enums = {one: getattr(full_record(), one) for one in ("direction", "phase", "disposition", "hung_up_by")}
    return replace(full_record(record_id), **{**given, **enums})


@pytest.fixture
def spoken(store: Store, account: Account) -> Store:
    """A store with a row of everything, whose words were chosen by somebody hostile."""
    store.groups.add(UserGroup("Sales"))
    store.users.add(User("2001", "Sales", MARKUP[:60], digest_name="d"))
    store.codes.add(new_code("4711", MARKUP, plan=NumberPlan()))
    store.locks.add([CallerLock(f"peer {MARKUP}"[:120], NOW - 30, None, 7)])
    urgent = _spoken("r2", MARKUP, emergency=True, call_class="emergency")
    store.usage.insert_many([_spoken("r1", MARKUP), urgent])
    store.tokens.add("<x-evil>", ["codes:read"], now=NOW)
    chief = account(Role.DECISION_MAKER)
    store.accounts.add(replace(chief, id=0, name="<x-evil onload=1>"), now=NOW)
    month = ReportSchedule(chief.id, MailedCalls.USAGE, Rhythm.DAILY, ("a@example.com",), user="2001")
    store.schedules.add(month, now=NOW)
    told = WebhookEndpoint("https://example.com/<x-evil>?'onload=1", frozenset({"limit.reached"}))
    store.webhooks.add(told, now=NOW)
    return store


@pytest.fixture
async def chief(person: New, spoken: Store) -> Person:
    """A Decision Maker who looks at it, logged in."""
    assert spoken.codes.count() == 1
    someone = person()
    assert (await someone.log_in("decision_maker")).status_code == 303
    return someone


async def test_csrf_no_change_goes_through_without_the_token_or_from_another_site(
    chief: Person, spoken: Store
) -> None:
    token, before = await chief.csrf(), len(spoken.audit.page(limit=1000))
    changes = [(path, permission) for method, path, permission in ROUTES if method == "POST"]
    assert len(changes) > 30
    for path, permission in changes:
        where = _where(path)
        tries: list[tuple[str, dict[str, str]]] = [
            (token, {"origin": "https://evil.test"}),
            (token, {"origin": "null"}),
            (token, {"sec-fetch-site": "cross-site"}),
            (token, {"sec-fetch-site": "same-site"}),
        ]
        if permission is not Permission.PUBLIC:
            tries += [("", {}), ("0" * 64, {}), (token[:-1], {})]
        for given, headers in tries:
            answer = await chief.post(where, {"sure": "yes", "id": "1"}, csrf=given, **headers)
            assert answer.status_code == 403, (path, given, headers)
    assert len(spoken.audit.page(limit=1000)) == before
    assert (await chief.get("/password")).status_code == 200, "nor was anybody logged out"


async def test_csrf_looking_changes_nothing(chief: Person, spoken: Store) -> None:
    before = [(entry.action, entry.kind) for entry in spoken.audit.page(limit=1000)]
    for method, path, _ in ROUTES:
        if method == "GET" and path not in {"/audit/chain", "/login/oidc", "/login/oidc/answer"}:
            await chief.get(_where(path) + "?sure=yes&delete=true&action=remove&id=1")
    after = [(entry.action, entry.kind) for entry in spoken.audit.page(limit=1000)]
    assert [one for one in after if one[0] != "export"] == before
    assert (spoken.codes.count(), len(spoken.accounts.all())) == (1, 2)


async def test_xss_what_callers_user_agents_and_files_say_is_text_on_every_page(
    chief: Person, spoken: Store, tmp_path: Path
) -> None:
    registered(spoken, "sip:2001@192.0.2.24", user="2001", user_agent=MARKUP)
    gate = TalkingGate(tmp_path / "none.sock")
    gate.call(MARKUP, **dict.fromkeys(("caller", "dialled", "state", "code", "location", "group"), MARKUP))
    gate.call("e1", emergency=True, caller=MARKUP, location=MARKUP)
    place = {"address": MARKUP, "state": MARKUP, "seconds": 1, "reason": MARKUP}
    gate.status |= {
        "trunks": [{"name": MARKUP, "registration": MARKUP, "destinations": [place], "calls": 1}],
        "peers": [{"name": MARKUP, "networks": [MARKUP], "state": MARKUP}],
        "store_trouble": MARKUP,
    }
    seen = 0
    with gate:
        for method, path, _ in ROUTES:
            if method != "GET" or path == "/live/events":
                continue
            for query in ("", "?panel=1", "?edit=1", "?extension=2001", "?name=Sales", "?id=2", "?ask=e1"):
                answer = await chief.get(_where(path) + query)
                if "html" in answer.headers.get("content-type", ""):
                    assert _Markup(answer.text).foreign == [], (path, query)
                    assert "49javascript" not in answer.text, "no template is made of it"
                    seen += "x-evil" in answer.text
    assert seen > 20, "it was shown"


async def test_injection_no_address_of_a_page_reaches_the_database_as_words_of_its_own(
    chief: Person, spoken: Store
) -> None:
    asked = 0
    for route in routes():
        if not isinstance(route, APIRoute) or "GET" not in (route.methods or ()):
            continue
        names = sorted(_parameters(route))
        for text in INJECTED:
            answers = [await chief.get(f"{_where(route.path)}?{urlencode(dict.fromkeys(names, text))}")]
            if text is INJECTED[2]:
                answers += [await chief.get(f"{_where(route.path)}?{urlencode({n: text})}") for n in names]
            for answer in answers:
                asked += 1
                assert answer.status_code < 500, (route.path, text, answer.status_code)
                assert "argon2" not in answer.text
    assert asked > 500
    assert spoken.codes.count() == 1
    assert len(spoken.accounts.all()) == 2


async def test_injection_no_address_of_the_api_reaches_the_database_as_words_of_its_own(
    program: Program, spoken: Store
) -> None:
    for route in api_routes():
        if not isinstance(route, APIRoute) or "GET" not in (route.methods or ()):
            continue
        client = program(*GRANTABLE)
        names = sorted({one.alias for one in route.dependant.query_params} | {"sort", "order", "search"})
        for text in INJECTED:
            path = re.sub(r"\{[^}]*\}", "1", route.path)
            inside = re.sub(r"\{[^}]*\}", httpx.QueryParams({"": text})[""].replace("/", "%2F"), route.path)
            for where in (f"{path}?{urlencode(dict.fromkeys(names, text))}", inside):
                if where.isprintable():
                    answer = await client.get(where)
                    assert answer.status_code in {200, 400, 404, 422, 503}, (where, answer.text)
    assert spoken.codes.count() == 1


async def test_formulas_of_callers_and_of_whoever_named_codes_are_text_in_every_file(
    chief: Person, spoken: Store
) -> None:
    for number, text in enumerate(FORMULAS):
        spoken.usage.insert_many([_spoken(f"f{number}", text)])
        spoken.codes.add(new_code(f"82{number}", text.strip(), plan=NumberPlan()))
    files = [
        "/codes/export",
        "/usage/export/file?format=usage-log",
        "/usage/export/file?format=usage-log&corrections=true",
        *(f"/reports/file?by={by}" for by in ("code", "user", "group", "class", "result", "day")),
        "/reports/statement/file?code=4711",
    ]
    cells = 0
    for where in files:
        answer = await chief.get(where)
        assert answer.status_code == 200, where
        for row in csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))):
            cells += len(row)
            for cell in row:
                assert not re.match(r"[=+\-@\t\r]", cell) or re.fullmatch(r"\+\d+", cell), (where, cell)
    assert cells > 100
    answer = await chief.get("/usage/export/file?format=xlsx&corrections=true")
    book = zipfile.ZipFile(io.BytesIO(answer.content))
    for name in book.namelist():
        written = book.read(name).decode()
        assert "<f>" not in written, name
        assert "<hyperlink" not in written, name
    assert "=cmd|" in "".join(book.read(name).decode() for name in book.namelist()), "it is there, as text"


def _bombs() -> Iterator[tuple[str, bytes]]:
    zeros = bytes(8 * 1024 * 1024)
    yield "codes.csv.gz", gzip.compress(zeros)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("xl/worksheets/sheet1.xml", zeros)
        book.writestr("../../../../tmp/escaped", "x")
    yield "codes.xlsx", packed.getvalue()


async def test_bombs_no_archive_is_opened(chief: Person, spoken: Store) -> None:
    for name, data in _bombs():
        assert len(data) < 20_000
        for called in (name, f"../../../../tmp/{name}", "/etc/cron.d/x.csv", "C:\\x.csv", MARKUP):
            answer = await chief.upload(data, called)
            assert answer.status_code == 422
            assert _Markup(answer.text).foreign == []
    assert spoken.codes.count() == 1


async def test_bombs_no_body_is_inflated(chief: Person, program: Program, spoken: Store) -> None:
    body = gzip.compress(urlencode({"csrf": await chief.csrf(), "code": "123" * 1_000_000}).encode())
    headers = {"content-encoding": "gzip", "content-type": "application/x-www-form-urlencoded"}
    answer = await chief.client.post("/codes", content=body, headers=headers)
    assert answer.status_code == 403, "what was packed is no form"
    answer = await chief.client.post(
        "/codes", content=body, headers={**headers, "x-csrf-token": await chief.csrf()}
    )
    assert answer.status_code == 422
    document = gzip.compress(b'{"code": "' + b"1" * 4_000_000 + b'"}')
    said = {"content-encoding": "gzip", "content-type": "application/json"}
    told = await program("codes:write").post("/codes", content=document, headers=said)
    assert told.status_code == 400
    assert spoken.codes.count() == 1

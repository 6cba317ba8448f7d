"""What holds for every page: headers, languages, themes, assets, errors."""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

import proxy.portal
from proxy.call.state import CallState
from proxy.call.trunk_watch import TrunkState
from proxy.cdr.record import Disposition
from proxy.errors import ConfigurationError
from proxy.policy import CallClass, CodeCollection, OwnerKind, Treatment, UserGroup
from proxy.portal import access_pages, group_pages, schedule_pages, token_pages, user_pages, webhook_pages
from proxy.portal.api.scopes import GRANTABLE
from proxy.portal.app import create_app
from proxy.portal.code_pages import MESSAGES
from proxy.portal.group_form import PRESETS, TREATMENTS, fields_of
from proxy.portal.headers import MAX_FORM, MAX_UPLOAD
from proxy.portal.pages import ASSETS, asset, versioned
from proxy.portal.permissions import GRANTS
from proxy.portal.portal import Portal
from proxy.portal.prompt_files import OFFERED
from proxy.portal.schedule_form import WEEKDAYS
from proxy.portal.texts import LANGUAGES, preferred, texts_of
from proxy.portal.visit import THEMES
from proxy.settings_portal import PortalSettings
from proxy.store import (
    MAILED,
    CodesRepository,
    ReportFormat,
    Rhythm,
    Role,
    Store,
    StoreUnavailable,
)
from proxy.store.webhooks import EVENTS
from tests.portal.person import Person, notice

ROOM = Path(proxy.portal.__file__).parent
New = Callable[..., Person]
PAGES = (
    "/login",
    "/password",
    "/",
    "/live",
    "/groups",
    "/groups/edit",
    "/users",
    "/users/edit",
    "/trunks",
    "/codes",
    "/codes?add=true",
    "/codes/import",
    "/nowhere",
)


class _Page(HTMLParser):
    """What a strict policy and people without a mouse or a screen need of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.foreign: list[str] = []
        self.unnamed: list[str] = []
        self.ids: list[str] = []
        self.language = ""
        self._labels = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.inline += [f"{tag} {name}" for name in found if name.startswith("on") or name == "style"]
        if tag == "style" or (tag == "script" and "src" not in found):
            self.inline.append(tag)
        self.foreign += [
            url for name in ("src", "href", "action") if (url := found.get(name)) and "//" in url
        ]
        if tag == "html":
            self.language = found.get("lang") or ""
        if tag == "label":
            self._labels += 1
        if "id" in found:
            self.ids.append(found["id"] or "")
        named = self._labels or found.get("aria-label") or found.get("type") == "hidden"
        if tag in {"input", "select", "textarea"} and not named:
            self.unnamed.append(f"{tag} {found.get('name')}")

    def handle_endtag(self, tag: str) -> None:
        self._labels -= tag == "label"


@pytest.mark.parametrize("path", PAGES)
async def test_every_answer_has_the_headers(manager: Person, path: str) -> None:
    headers = (await manager.get(path)).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert headers["strict-transport-security"].startswith("max-age=31536000")


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_keeps_the_policy_and_names_its_fields(manager: Person, path: str) -> None:
    if path == "/login":
        await manager.post("/logout")
    found = _Page((await manager.get(path)).text)
    assert found.inline == []
    assert found.foreign == []
    assert found.unnamed == []
    assert len(found.ids) == len(set(found.ids))
    assert found.language == "en"


async def test_fault_of_our_own_is_told_with_the_headers_and_without_details(
    manager: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_(*_: object, **__: object) -> None:
        raise ZeroDivisionError("digits 4711000815")

    monkeypatch.setattr(CodesRepository, "count", break_)
    answer = await manager.get("/codes")
    assert answer.status_code == 500
    assert "The portal has made a mistake" in notice(answer)
    assert "4711000815" not in answer.text
    assert "content-security-policy" in answer.headers


async def test_store_that_fails_is_told(manager: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StoreUnavailable("store: database or disk is full")

    monkeypatch.setattr(CodesRepository, "add", fail)
    answer = await manager.post("/codes", {"code": "1"})
    assert answer.status_code == 503
    assert "full disk" in notice(answer)


async def test_sessions_that_cannot_be_read_give_a_page_too(
    manager: Person, store: Store, portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StoreUnavailable("store: database is locked")

    monkeypatch.setattr(type(store.sessions), "find", fail)
    answer = await manager.get("/codes")
    assert answer.status_code == 503
    assert "can't be reached" in notice(answer)


async def test_refusals_outside_forms_are_told(manager: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConfigurationError("not <b>now</b>")

    monkeypatch.setattr(CodesRepository, "count", refuse)
    answer = await manager.get("/codes")
    assert answer.status_code == 422
    assert "not &lt;b&gt;now" in answer.text


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "BREW"])
async def test_other_methods_are_no_pages(manager: Person, method: str) -> None:
    answer = await manager.client.request(method, "/codes")
    assert (answer.status_code, "html" in answer.headers["content-type"]) == (405, True)


async def test_form_too_large_is_refused_before_it_is_read(manager: Person) -> None:
    answer = await manager.post("/codes", {"code": "1" * (MAX_FORM + 1)})
    assert (answer.status_code, "20 MB" in notice(answer)) == (413, True)


async def test_upload_too_large_is_refused(manager: Person) -> None:
    answer = await manager.upload(b"x" * (MAX_UPLOAD + 1))
    assert (answer.status_code, "20 MB" in notice(answer)) == (413, True)
    answer = await manager.upload(b"x" * (MAX_UPLOAD + 100_000))
    assert (answer.status_code, "20 MB" in notice(answer)) == (413, True)


async def test_body_of_unknown_length_is_refused(manager: Person) -> None:
    async def endless() -> object:
        yield b"code=1"

    answer = await manager.client.post("/codes", content=endless())  # type: ignore[arg-type]
    assert answer.status_code == 411


@pytest.mark.parametrize("name", ASSETS)
async def test_assets_are_there_and_kept(person: New, name: str) -> None:
    answer = await person().get(versioned(name))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(ASSETS[name])
    assert "immutable" in answer.headers["cache-control"]
    assert (await person().get(f"/assets/{name}")).headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("name", ["package.json", "../app.py", "..%2fapp.py", "/etc/passwd", "", "vendor"])
async def test_nothing_else_is_an_asset(person: New, name: str) -> None:
    assert (await person().get(f"/assets/{name}")).status_code == 404
    assert asset(name) is None


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_is_whole(language: str) -> None:
    def fields(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    english, words = texts_of("en").words, texts_of(language).words
    assert set(words) == set(english)
    assert {key for key in words if fields(words[key]) != fields(english[key])} == set()
    assert all(text.strip() for text in words.values())


def test_templates_and_code_use_texts_that_exist_and_have_no_words_of_their_own() -> None:
    words = set(texts_of("en").words)
    sections, used = "|".join({word.partition(".")[0] for word in words}), set[str]()
    sources = [*ROOM.glob("*.py"), *ROOM.glob("templates/*.html")]
    for source in sources:
        text = source.read_text(encoding="utf-8")
        used |= set(re.findall(rf"""["']((?:{sections})\.\w+)["']""", text))
        if source.suffix == ".html":
            visible = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|<[^>]*>", " ", text, flags=re.DOTALL)
            assert set(re.findall(r"[A-Za-z]{2,}", visible)) <= {"Tollgate"}, source
    unknown = {key for key in used - words if not key.endswith(".html")}
    # What ends so is the beginning of a key: each of its kind has one.
    assert unknown == {
        "base.theme_",
        "codes.is_",
        "codes.owner_",
        "home.role_",
        "live.state_",
        "trunks.state_",
        "groups.collection_",
        "groups.preset_",
        "groups.treatment_",
        "record.by_",
        "report.by_",
        "audit.kind_",
        "audit.action_",
        "record.treatment_",
        "record.decided_",
        "tokens.scope_",
        "webhooks.event_",
        "accounts.role_",
        "accounts.grant_",
        "second.said_",
        "mailed.report_",
        "mailed.format_",
        "mailed.rhythm_",
        "mailed.weekday_",
    }
    assert {f"base.theme_{theme}" for theme in THEMES} <= words
    assert {f"codes.owner_{kind.value}" for kind in OwnerKind} <= words
    assert {f"home.role_{role.value}" for role in Role} <= words
    assert {f"live.state_{state.value}" for state in CallState if state is not CallState.ENDED} <= words
    assert {f"trunks.state_{state.value}" for state in TrunkState} <= words
    assert {f"groups.collection_{collection.value}" for collection in CodeCollection} <= words
    assert {f"groups.preset_{preset}" for preset in PRESETS} <= words
    assert {f"groups.treatment_{treatment.value.split(' ')[0]}" for treatment in Treatment} <= words
    assert {f"groups.treatment_{treatment}" for treatment in TREATMENTS if treatment} <= words
    assert {f"groups.{said}" for said in group_pages.MESSAGES} <= words
    assert {
        f"groups.{field}" for field in fields_of(UserGroup("a")) if not field.startswith("cell_")
    } <= words
    assert {f"prompts.{name}" for name in OFFERED} <= words
    assert {f"users.{said}" for said in user_pages.MESSAGES} <= words
    assert {f"result.{result.value}" for result in Disposition} <= words
    assert {f"class.{name.value}" for name in CallClass} <= words
    assert {f"codes.{said}" for said in MESSAGES} <= words
    assert {f"tokens.{said}" for said in token_pages.MESSAGES} <= words
    assert {f"tokens.scope_{scope.replace(':', '_')}" for scope in GRANTABLE} <= words
    assert {f"accounts.{said}" for said in access_pages.MESSAGES} <= words
    assert {f"accounts.role_{role.value}" for role in Role} <= words
    assert {f"accounts.grant_{grant}" for grant in GRANTS} <= words
    assert {"second.said_on", "second.said_off"} <= words
    assert {f"mailed.{said}" for said in schedule_pages.MESSAGES} <= words
    kinds = {"report": MAILED, "format": tuple(ReportFormat), "rhythm": tuple(Rhythm)}
    assert {f"mailed.{name}_{one.value}" for name, kind in kinds.items() for one in kind} <= words
    assert {f"mailed.weekday_{day}" for day in WEEKDAYS} <= words
    assert {f"webhooks.{said}" for said in webhook_pages.MESSAGES} <= words
    assert {f"webhooks.event_{event.replace('.', '_')}" for event in EVENTS} <= words


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("fr, es;q=0.5, en;q=0.4", "es"),
        ("en;q=0.1, es-419;q=0.2", "es"),
        ("de;q=0", "en"),
        ("de;q=x, es", "es"),
        ("de;q=99", "en"),
        ("," * 10_000, "en"),
    ],
)
def test_rfc9110_12_5_4_the_browsers_language_is_taken(header: str, language: str) -> None:
    assert preferred(header) == language


async def test_language_and_theme_are_kept(manager: Person) -> None:
    answer = await manager.post("/preferences", {"language": "de", "theme": "dark", "next": "/codes"})
    assert answer.headers["location"] == "/codes"
    text = (await manager.get("/codes")).text
    assert '<html lang="de" data-theme="dark">' in text
    assert "Account-Codes" in text
    await manager.post("/preferences", {"language": "es", "theme": "auto"})
    assert '<html lang="es">' in (await manager.get("/codes")).text


@pytest.mark.parametrize("fields", [{"language": "xx"}, {"theme": "pink"}, {"language": "../en"}])
async def test_other_languages_and_themes_are_refused(manager: Person, fields: dict[str, str]) -> None:
    answer = await manager.post("/preferences", {**fields})
    assert (answer.status_code, "one of" in notice(answer)) == (422, True)
    manager.client.cookies.set("language", "../../x")
    manager.client.cookies.set("theme", '"><script>')
    assert '<html lang="en">' in (await manager.get("/codes")).text


async def test_portal_works_with_the_gate_down_and_says_so(manager: Person) -> None:
    for path in ("/", "/codes"):
        answer = await manager.get(path)
        assert answer.status_code == 200
        assert "The gate is not running" in notice(answer)
    assert (await manager.post("/codes", {"code": "4711"})).status_code == 303


async def test_plain_http_on_this_host_has_no_https_headers(portal: Portal) -> None:
    local = create_app(replace(portal, settings=PortalSettings()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(local), base_url="http://127.0.0.1") as client:
        assert "strict-transport-security" not in (await client.get("/login")).headers

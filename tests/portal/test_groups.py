"""User Groups: the rules, the matrix, and what happens when somebody dials."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from proxy.policy import (
    ALL_CLASSES,
    CallClass,
    ClassOfService,
    CodeCollection,
    Treatment,
    User,
    UserGroup,
    parse_patterns,
)
from proxy.portal.gate_link import GateLink
from proxy.portal.group_form import PRESETS, fields_of
from proxy.portal.portal import Portal
from proxy.settings import ALL_PHONES, Settings
from proxy.store import PortalAccount, Role, Store
from tests.portal.gate import TalkingGate
from tests.portal.person import Person, notice, rows

Account = Callable[..., PortalAccount]
New = Callable[..., Person]
SALES = UserGroup(
    "Sales & <Co>",
    ClassOfService(frozenset({CallClass.INTERNAL, CallClass.LOCAL}), parse_patterns(["1900."])),
    CodeCollection.REQUIRED,
    ClassOfService(ALL_CLASSES - {CallClass.PREMIUM}),
    {CallClass.MOBILE: Treatment.OPTIONAL_CODE},
    tries=4,
    fixed_length=6,
)


def form_of(group: UserGroup, **changes: str | list[str]) -> dict[str, str | list[str]]:
    return {**fields_of(group), **changes}


async def read(person: Person, group: str = SALES.name) -> dict[str, str]:
    """Return what the page's form sends along to say which group this is."""
    page = (await person.client.get("/groups/edit", params={"name": group})).text
    found = re.search(r'name="version" value="(\d+)"', page)
    assert found
    return {"old": group, "version": found[1]}


def verdict(answer: httpx.Response) -> str:
    part = answer.text.partition('id="decision"')[2].partition("</aside>")[0].partition(">")[2]
    return unescape(" ".join(re.sub(r"<[^>]*>", " ", part).split()))


async def test_group_is_added_listed_and_read_back(decider: Person, store: Store) -> None:
    answer = await decider.post("/groups/save", form_of(SALES))
    assert answer.headers["location"] == "/groups/edit?name=Sales%20%26%20%3CCo%3E&said=added"
    assert store.groups.get(SALES.name) == SALES
    assert "The group was added." in notice(await decider.get(answer.headers["location"]))
    store.users.add(User("204", SALES.name))
    (row,) = rows(await decider.get("/groups"))
    assert row[:3] == ["Sales & <Co>", "required", "Emergency, Internal, Local"]
    assert (row[3], row[5], row[6]) == ("Mobile", "Premium", "1")


async def test_what_the_page_shows_is_what_it_saves(decider: Person, store: Store) -> None:
    """Saving without a change changes nothing, whatever the group."""
    store.groups.add(SALES)
    page = await decider.client.get("/groups/edit", params={"name": SALES.name})
    sent: dict[str, list[str]] = {}
    for tag in re.findall(r'<input[^>]*form="group"[^>]*>', page.text):
        name, value = (re.search(rf'{part}="([^"]*)"', tag) for part in ("name", "value"))
        if name and value and ("checkbox" not in tag or " checked" in tag):
            sent.setdefault(name[1], []).append(unescape(value[1]))
    for name, body in re.findall(r'<textarea form="group" name="(\w+)"[^>]*>([^<]*)<', page.text):
        sent[name] = [unescape(body)]
    for name, body in re.findall(
        r'<select form="group" name="(\w+)"[^>]*>(.*?)</select>', page.text, re.DOTALL
    ):
        sent[name] = re.findall(r'value="(\w*)" selected', body)
    fields: dict[str, str | list[str]] = {**sent, **await read(decider)}
    assert (await decider.post("/groups/save", fields)).status_code == 303
    assert store.groups.get(SALES.name) == SALES
    assert "emergency" not in sent["free"], "it is no choice"
    found = store.groups.versioned(SALES.name)
    assert found is not None
    assert found.version == int((await read(decider))["version"])


async def test_second_editor_sees_the_change_of_the_first(decider: Person, store: Store) -> None:
    store.groups.add(SALES)
    mine = await read(decider)
    store.groups.change(replace(SALES, tries=7, collection=CodeCollection.OPTIONAL))
    answer = await decider.post("/groups/save", form_of(replace(SALES, tries=2), **mine))
    assert answer.status_code == 409
    assert "Account codes outside that: optional" in notice(answer)
    assert "Tries: 7" in notice(answer)
    assert 'name="tries" value="2"' in answer.text
    kept = store.groups.get(SALES.name)
    assert kept is not None
    assert kept.tries == 7
    theirs = re.search(r'name="version" value="(\d+)"', answer.text)
    assert theirs
    again = form_of(replace(SALES, tries=2), old=SALES.name, version=theirs[1])
    assert (await decider.post("/groups/save", again)).status_code == 303
    kept = store.groups.get(SALES.name)
    assert kept is not None
    assert kept.tries == 2


async def test_what_happens_is_told_before_saving(decider: Person, store: Store) -> None:
    store.groups.add(UserGroup("Lobby"))
    mine = await read(decider, "Lobby")
    blocked = await decider.post("/groups/try", form_of(UserGroup("Lobby"), dialled="4155550123", **mine))
    assert verdict(blocked).startswith("Block +14155550123 · ")
    assert "collects no account codes" in verdict(blocked)
    asked = replace(UserGroup("Lobby"), collection=CodeCollection.REQUIRED)
    answer = await decider.post("/groups/try", form_of(asked, dialled="4155550123", **mine))
    assert verdict(answer).startswith("Code required +14155550123")
    assert "an account code is required" in verdict(answer)
    assert 'value="4155550123"' in answer.text
    emergency = await decider.post("/groups/try", form_of(asked, dialled="911", **mine))
    assert verdict(emergency).startswith("Allow 911 · Emergency")
    assert store.groups.get("Lobby") == UserGroup("Lobby")
    assert f'name="version" value="{mine["version"]}"' in answer.text


async def test_extension_of_a_user_is_known_and_nonsense_is_told(decider: Person, store: Store) -> None:
    store.groups.add(UserGroup("Lobby"))
    store.users.add(User("204", "Lobby"))
    mine = await read(decider, "Lobby")
    inside = await decider.post("/groups/try", form_of(UserGroup("Lobby"), dialled="204", **mine))
    assert verdict(inside).startswith("Allow 204 · Internal")
    for dialled in ("<b>x</b>", "\0", "😀" * 60, "sip:", "*" * 300):
        answer = await decider.post("/groups/try", form_of(UserGroup("Lobby"), dialled=dialled, **mine))
        assert answer.status_code == 200
        assert "<b>x" not in answer.text
        assert verdict(answer).startswith("Block")


@pytest.mark.parametrize("name", PRESETS)
async def test_preset_fills_the_form_and_saves_nothing(decider: Person, store: Store, name: str) -> None:
    store.groups.add(SALES)
    answer = await decider.post("/groups/try", form_of(SALES, preset=name, **await read(decider)))
    assert answer.status_code == 200
    preset = PRESETS[name]
    assert f'value="{preset.collection.value}" selected' in answer.text
    ticked = re.findall(r'name="free" value="(\w+)" checked', answer.text)
    assert set(ticked) == {found.value for found in preset.free}
    assert 'name="tries" value="4"' in answer.text
    assert store.groups.get(SALES.name) == SALES


async def test_new_group_is_tried_out_without_a_name(decider: Person, store: Store) -> None:
    answer = await decider.post("/groups/try", form_of(UserGroup("x"), name="", dialled="911"))
    assert verdict(answer).startswith("Allow 911")
    assert 'name="name" value=""' in answer.text
    assert store.groups.all() == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": ""}, "group name"),
        ({"name": "x" * 65}, "group name"),
        ({"collection": "perhaps"}, "off, optional or required"),
        ({"free": ["premium", "nothing"]}, "no such class"),
        ({"cell_mobile": "maybe"}, "can't say that"),
        ({"cell_emergency": "block"}, "emergency calls are always allowed"),
        ({"tries": "0"}, "tries must be 1 to 20"),
        ({"tries": "many"}, "Tries: write a number"),
        ({"tries": "-1"}, "Tries: write a number"),
        ({"tries": "³"}, "Tries: write a number"),
        ({"first_digit": "1e9"}, "First digit within: write a number"),
        ({"first_digit": "nan"}, "First digit within: write a number"),
        ({"whole_entry": "9999999"}, "0.5 to 600"),
        ({"min_length": "9", "max_length": "3"}, "least first"),
        ({"fixed_length": "25"}, "fixed_length"),
        ({"restricted": "12a"}, "not allowed here"),
        ({"permitted": "+"}, "fits no number"),
        ({"unlock_restricted": "\n".join(["1"] * 501)}, "at most 500"),
        ({"unlock_permitted": "1" * 65}, "at most 64"),
    ],
)
async def test_bad_rules_are_refused_with_the_reason(
    decider: Person, store: Store, changes: dict[str, str | list[str]], said: str
) -> None:
    for path in ("/groups/save", "/groups/try"):
        fields = form_of(UserGroup("New"), **{**changes, **({"dialled": "911"} if "try" in path else {})})
        if "try" in path and changes.get("name") == "":
            continue
        answer = await decider.post(path, fields)
        assert (answer.status_code, said in notice(answer)) == (422, True), notice(answer)
    assert store.groups.all() == []


async def test_times_may_be_written_with_a_comma(decider: Person, store: Store) -> None:
    await decider.post("/groups/save", form_of(UserGroup("New"), inter_digit="2,5"))
    found = store.groups.get("New")
    assert found is not None
    assert found.inter_digit == 2.5


@pytest.mark.parametrize("version", ["", "x", "-1", "9" * 13])
async def test_version_that_is_none(decider: Person, store: Store, version: str) -> None:
    store.groups.add(SALES)
    for path in ("/groups/save", "/groups/try"):
        answer = await decider.post(path, form_of(SALES, old=SALES.name, version=version))
        assert (answer.status_code, "version" in notice(answer)) == (422, True)


async def test_preset_that_does_not_exist(decider: Person) -> None:
    answer = await decider.post("/groups/try", form_of(UserGroup("New"), preset="all"))
    assert (answer.status_code, "inside, country" in notice(answer)) == (422, True)


async def test_delete_asks_first_and_keeps_groups_with_users(decider: Person, store: Store) -> None:
    store.groups.add(SALES)
    assert "Delete the group" in (await decider.post("/groups/delete", {"name": SALES.name})).text
    store.users.add(User("204", SALES.name))
    answer = await decider.post("/groups/delete", {"name": SALES.name, "sure": "yes"})
    assert (answer.status_code, "1 user(s) belong to it" in notice(answer)) == (409, True)
    store.users.delete_many(["204"])
    answer = await decider.post("/groups/delete", {"name": SALES.name, "sure": "yes"})
    assert answer.headers["location"] == "/groups?said=deleted"
    assert store.groups.all() == []


async def test_a_group_of_callers_who_match_no_user_is_not_deleted(
    decider: Person, portal: Portal, store: Store, program: Callable[..., httpx.AsyncClient], tmp_path: Path
) -> None:
    store.groups.add(SALES)
    client = program("groups:read", "groups:write")
    where = f"/groups/{quote(SALES.name, safe='')}"
    object.__setattr__(portal, "default_groups", {"old-pbx": SALES.name, ALL_PHONES: SALES.name})
    answer = await decider.post("/groups/delete", {"name": SALES.name, "sure": "yes"})
    said = "it is the default_group of [phones], old-pbx"
    assert (answer.status_code, said in notice(answer)) == (409, True), "no gate: as in the settings"
    answer = await client.delete(where)
    assert (answer.status_code, said in answer.json()["errors"][0]["detail"]) == (409, True)
    with TalkingGate(tmp_path / "gate.sock") as gate:
        object.__setattr__(portal, "gate", GateLink(gate.path))
        gate.status = {"peers": [{"name": "new-pbx", "default_group": SALES.name}, {"name": "other"}, 7]}
        answer = await client.delete(where)
        assert "default_group of [phones], new-pbx" in answer.json()["detail"], "the gate knows better"
        object.__setattr__(portal, "default_groups", {"old-pbx": SALES.name})
        object.__setattr__(portal, "gate", GateLink(gate.path))
        gate.status = {"peers": [{"name": "new-pbx", "default_group": None}]}
        assert (await client.delete(where)).status_code == 204
    assert store.groups.all() == []


def test_settings_tell_the_default_groups_of_peers_and_phones() -> None:
    settings = Settings.model_validate(
        {
            "peers": [
                {"name": "pbx", "networks": ["192.0.2.0/24"], "default_group": "Sales"},
                {"name": "quiet", "networks": ["198.51.100.0/24"]},
                {"name": "phones", "networks": ["203.0.113.0/24"], "default_group": "Hall"},
            ],
            "phones": {"default_group": "Lobby"},
        }
    )
    assert settings.default_groups == {
        "pbx": "Sales",
        "quiet": None,
        "phones": "Hall",
        ALL_PHONES: "Lobby",
    }
    without = settings.model_copy(update={"phones": settings.phones.model_copy(update={"enabled": False})})
    assert without.default_groups == {"pbx": "Sales", "quiet": None, "phones": "Hall"}


async def test_group_that_is_gone(decider: Person) -> None:
    assert (await decider.get("/groups/edit?name=Nobody")).status_code == 404
    for path in ("/groups/save", "/groups/try", "/groups/delete"):
        fields: dict[str, str | list[str]] = {
            "old": "Nobody",
            "name": "Nobody",
            "version": "1",
            "sure": "yes",
        }
        answer = await decider.post(path, fields)
        assert (answer.status_code, "does not exist any more" in notice(answer)) == (404, True)


async def test_phone_managers_look_and_try_and_change_when_granted(
    person: New, account: Account, store: Store
) -> None:
    store.groups.add(SALES)
    manager = account(Role.PHONE_MANAGER)
    someone = person()
    await someone.log_in("phone_manager")
    mine = await read(someone)
    page = (await someone.client.get("/groups/edit", params={"name": SALES.name})).text
    assert "a Decision Maker can let you change them" in page
    assert 'action="/groups/delete"' not in page
    answer = await someone.post("/groups/try", form_of(SALES, dialled="911", **mine))
    assert verdict(answer).startswith("Allow")
    changed = form_of(replace(SALES, tries=9), **mine)
    assert (await someone.post("/groups/save", changed)).status_code == 403
    assert store.groups.get(SALES.name) == SALES
    store.accounts.change(replace(manager, groups_write=True), version=manager.version)
    await someone.log_in("phone_manager")
    assert (await someone.post("/groups/save", changed)).status_code == 303


async def test_audit_names_who_changed_what(decider: Person, store: Store) -> None:
    store.groups.add(SALES)
    await decider.post("/groups/save", form_of(replace(SALES, tries=9), **await read(decider)))
    entry = store.audit.page(limit=1)[0]
    assert (entry.who, entry.action, entry.kind, entry.name) == (
        "decision_maker",
        "change",
        "group",
        SALES.name,
    )
    assert (entry.before, entry.after) == ({"tries": 4}, {"tries": 9})

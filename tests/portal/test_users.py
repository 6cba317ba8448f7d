"""Users / Phones: the list, adding, changing, SIP passwords, registrations."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from proxy.errors import ConfigurationError
from proxy.policy import CodeOwner, NumberPlan, OwnerKind, User, UserGroup, new_code
from proxy.portal.app import create_app
from proxy.portal.gate_link import GateLink
from proxy.portal.portal import Portal
from proxy.sip.bindings import StoredBinding
from proxy.store import PortalAccount, Role, Store, digest_credentials
from tests.portal.conftest import NOW
from tests.portal.gate import TalkingGate
from tests.portal.person import Person, notice, rows

NEW = {
    "extension": "204",
    "name": "Front desk",
    "group": "Sales",
    "enabled": "yes",
    "password": "make",
    "md5": "yes",
}
CONTACT = "sip:204@192.0.2.24:5060"


@pytest.fixture(autouse=True)
def groups(store: Store) -> None:
    store.groups.add(UserGroup("Sales"))
    store.groups.add(UserGroup("Lobby"))


@pytest.fixture
def user(store: Store) -> User:
    made = User(
        "204",
        "Sales",
        "Front desk",
        "+14155550104",
        credentials=digest_credentials("204", "tollgate", "x" * 9),
    )
    store.users.add(made)
    return made


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[TalkingGate]:
    with TalkingGate(tmp_path / "gate.sock") as talking:
        yield talking


@pytest_asyncio.fixture
async def beside_gate(portal: Portal, gate: TalkingGate, manager: Person) -> AsyncIterator[Person]:
    """The same manager at a portal whose gate runs."""
    app = create_app(replace(portal, gate=GateLink(gate.path)))
    transport = httpx.ASGITransport(app, client=("192.0.2.7", 4711))
    async with httpx.AsyncClient(
        transport=transport, base_url="https://portal.test", cookies=manager.client.cookies
    ) as client:
        yield Person(client)


def registered(
    store: Store, *contacts: str, user: str = "204", user_agent: str = "<b>Desk phone</b>"
) -> None:
    bindings = [
        StoredBinding(
            user=user,
            contact=contact,
            params="",
            q=1.0,
            expires_at=NOW + 125,
            call_id="c",
            cseq=1,
            transport="UDP",
            flow=("203.0.113.7", 32000),
            source=("203.0.113.7", 32000),
            behind_nat=True,
            path=(),
            instance="",
            reg_id=0,
            user_agent=user_agent,
        )
        for contact in contacts
    ]
    store.bindings.replace({user: bindings})


async def version_of(person: Person, extension: str = "204") -> str:
    page = (await person.get(f"/users/edit?extension={extension}")).text
    found = re.search(r'name="version" value="(\d+)"', page)
    assert found
    return found[1]


async def test_password_is_made_shown_once_and_only_hashed(manager: Person, store: Store) -> None:
    answer = await manager.post("/users/save", NEW)
    assert answer.status_code == 200
    made = re.search(r'<code id="made">(\w{16})</code>', answer.text)
    assert made
    assert "shown this once" in answer.text
    found = store.users.get("204")
    assert found is not None
    assert found.credentials == digest_credentials("204", "tollgate", made[1])
    again = await manager.get("/users/edit?extension=204")
    assert made[1] not in again.text
    assert "shown this once" not in again.text
    (entry,) = [entry for entry in store.audit.page(limit=50) if entry.kind == "user"]
    assert made[1] not in repr(entry)
    assert (entry.action, entry.name, entry.who) == ("add", "204", "phone_manager")


async def test_password_that_was_typed_is_never_shown(manager: Person, store: Store) -> None:
    answer = await manager.post(
        "/users/save", {**NEW, "password": "set", "secret": "typed by hand", "md5": ""}
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/users/edit?extension=204&said=added")
    found = store.users.get("204")
    assert found is not None
    assert found.credentials == digest_credentials("204", "tollgate", "typed by hand", md5=False)
    short = await manager.post(
        "/users/save", {**NEW, "extension": "205", "password": "set", "secret": "hunter2"}
    )
    assert (short.status_code, "at least 8" in notice(short)) == (422, True)
    assert "hunter2" not in short.text
    assert store.users.get("205") is None


async def test_a_caller_number_of_two_users_is_told_at_both(
    manager: Person, store: Store, user: User
) -> None:
    new = {**NEW, "extension": "205", "password": "set", "secret": "typed by hand"}
    answer = await manager.post("/users/save", {**new, "caller_number": "415 555-0104"})
    assert answer.status_code == 303, "a number that many show outside is no mistake"
    said = notice(await manager.get(answer.headers["location"]))
    assert "is that of 204 Front desk too" in said
    assert "is that of 205 Front desk too" in notice(await manager.get("/users/edit?extension=204"))
    changed = await manager.post(
        "/users/save",
        {
            **new,
            "old": "205",
            "version": await version_of(manager, "205"),
            "password": "keep",
            "caller_number": "4155550105",
        },
    )
    assert "is that of" not in notice(await manager.get(changed.headers["location"]))
    made = await manager.post("/users/save", {**NEW, "extension": "206", "caller_number": "+14155550105"})
    assert "is that of 205 Front desk too" in notice(made)


async def test_list_is_searched_and_filtered(manager: Person, store: Store, user: User) -> None:
    store.users.add(User("300", "Lobby", "Door <b>", enabled=False))
    registered(store, CONTACT)
    assert rows(await manager.get("/users")) == [
        ["204", "Front desk", "Sales", "+14155550104", "Enabled", "1 registered"],
        ["300", "Door <b>", "Lobby", "", "Disabled", "none"],
    ]
    assert [row[0] for row in rows(await manager.get("/users?search=FRONT"))] == ["204"]
    assert [row[0] for row in rows(await manager.get("/users?group=Lobby"))] == ["300"]
    assert rows(await manager.get("/users?search=nobody")) == [["No user fits."]]
    assert (await manager.get("/users?page=0")).status_code == 400
    assert (await manager.get("/users?said=x")).status_code == 400


async def test_list_has_pages(manager: Person, store: Store) -> None:
    for number in range(150):
        store.users.add(User(str(1000 + number), "Sales"))
    first = await manager.get("/users?group=Sales")
    assert (len(rows(first)), "Page 1 of 2" in first.text) == (100, True)
    link = re.search(r'rel="next" href="([^"]*)"', first.text)
    assert link
    assert [row[0] for row in rows(await manager.get(unescape(link[1])))] == [
        str(1100 + n) for n in range(50)
    ]
    assert len(rows(await manager.get("/users?page=99"))) == 50


async def test_user_is_changed_and_keeps_the_password(manager: Person, store: Store, user: User) -> None:
    fields = {
        "old": "204",
        "version": await version_of(manager),
        "group": "Lobby",
        "password": "keep",
        "enabled": "",
    }
    answer = await manager.post("/users/save", {**fields, "name": "Moved", "caller_number": "(415) 555-0199"})
    assert answer.headers["location"] == "/users/edit?extension=204&said=changed"
    found = store.users.get("204")
    assert found is not None
    assert (found.group, found.name, found.caller_number, found.enabled) == (
        "Lobby",
        "Moved",
        "(415) 555-0199",
        False,
    )
    assert found.credentials == user.credentials
    assert "The user was changed." in notice(await manager.get(answer.headers["location"]))


async def test_second_editor_sees_the_change_of_the_first(manager: Person, store: Store, user: User) -> None:
    version = await version_of(manager)
    store.users.change(replace(user, name="By the first", group="Lobby"))
    fields = {"old": "204", "version": version, "group": "Sales", "name": "By the second", "password": "keep"}
    answer = await manager.post("/users/save", fields)
    assert answer.status_code == 409
    assert "By the first" in notice(answer)
    assert "Lobby" in notice(answer)
    assert 'value="By the second"' in answer.text
    found = store.users.get("204")
    assert found is not None
    assert found.name == "By the first"
    shown = re.search(r'name="version" value="(\d+)"', answer.text)
    assert shown
    again = await manager.post("/users/save", {**fields, "version": shown[1]})
    assert again.status_code == 303
    found = store.users.get("204")
    assert found is not None
    assert found.name == "By the second"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"extension": "20x"}, "1 to 20 digits"),
        ({"extension": ""}, "1 to 20 digits"),
        ({"extension": "911"}, "emergency number"),
        ({"group": "Nowhere"}, "does not exist"),
        ({"group": ""}, "group is missing"),
        ({"name": "x" * 129}, "128 printable"),
        ({"caller_number": "call me"}, "can't be read"),
        ({"caller_number": "112"}, "emergency number"),
        ({"digest_name": "a b"}, "digest name"),
        ({"password": "perhaps"}, "Choose what becomes"),
    ],
)
async def test_bad_users_are_refused_with_the_reason_and_kept_in_the_form(
    manager: Person, store: Store, fields: dict[str, str], said: str
) -> None:
    answer = await manager.post("/users/save", {**NEW, **fields})
    assert (answer.status_code, said in notice(answer)) == (422, True), notice(answer)
    assert store.users.all() == []


async def test_extension_that_is_taken(manager: Person, store: Store, user: User) -> None:
    answer = await manager.post("/users/save", NEW)
    assert (answer.status_code, "exists already" in notice(answer)) == (422, True)
    assert store.users.get("204") == user


async def test_other_sip_name_needs_another_password(manager: Person, user: User) -> None:
    fields = {"old": "204", "version": await version_of(manager), "group": "Sales", "digest_name": "desk"}
    answer = await manager.post("/users/save", {**fields, "password": "keep"})
    assert (answer.status_code, "part of the password" in notice(answer)) == (422, True)
    assert (await manager.post("/users/save", {**fields, "password": "make"})).status_code == 200


@pytest.mark.parametrize("version", ["", "x", "-1", "9" * 13, "²"])
async def test_version_that_is_none(manager: Person, user: User, version: str) -> None:
    answer = await manager.post("/users/save", {"old": "204", "version": version, "group": "Sales"})
    assert (answer.status_code, "version" in notice(answer)) == (422, True)


async def test_user_that_is_gone(manager: Person) -> None:
    assert (await manager.get("/users/edit?extension=204")).status_code == 404
    for path, fields in (
        ("/users/save", {"old": "204", "version": "1", "password": "keep"}),
        ("/users/delete", {"extension": "204", "sure": "yes"}),
        ("/users/deregister", {"extension": "204"}),
    ):
        answer = await manager.post(path, {**fields})
        assert (answer.status_code, "does not exist any more" in notice(answer)) == (404, True)


async def test_delete_asks_first(manager: Person, store: Store, user: User) -> None:
    asked = await manager.post("/users/delete", {"extension": "204"})
    assert "Delete user 204?" in asked.text
    assert "Delete user 204?" in (await manager.get("/users/edit?extension=204&delete=true")).text
    assert store.users.get("204") is not None
    answer = await manager.post("/users/delete", {"extension": "204", "sure": "yes"})
    assert answer.headers["location"] == "/users?said=deleted&extension=204"
    assert notice(await manager.get(answer.headers["location"])).endswith("The user was deleted.")
    assert store.users.get("204") is None


async def test_the_portal_accounts_of_a_user_who_is_deleted_see_no_calls_of_the_next(
    manager: Person,
    person: Callable[..., Person],
    account: Callable[..., PortalAccount],
    store: Store,
    user: User,
) -> None:
    account(Role.USER, extension="204", name="anna")
    account(Role.USER, extension="205", name="bert")
    anna = person()
    await anna.log_in("anna")
    assert (await anna.get("/usage")).status_code == 200
    asked = await manager.post("/users/delete", {"extension": "204"})
    assert "Front desk. Disabled with it: the portal account(s) anna." in asked.text
    answer = await manager.post("/users/delete", {"extension": "204", "sure": "yes"})
    said = notice(await manager.get(answer.headers["location"]))
    assert "Disabled with the user: the portal account(s) anna." in said
    assert (await anna.get("/usage")).status_code == 303, "its session has ended"
    assert (await anna.log_in("anna")).status_code == 401
    found = {one.name: one.disabled for one in store.accounts.all()}
    assert found == {"anna": True, "bert": False, "phone_manager": False}
    told = [(one.kind, one.action, one.name, one.who) for one in store.audit.page()][:2]
    assert told == [
        ("account", "change", "anna", "phone_manager"),
        ("user", "delete", "204", "phone_manager"),
    ]
    old = store.accounts.by_name("anna")
    assert old
    with pytest.raises(ConfigurationError, match="user 204 does not exist"):
        store.accounts.change(replace(old, disabled=False), version=old.version)
    store.users.add(User("204", "Sales", "Somebody else"))
    assert (await anna.log_in("anna")).status_code == 401
    store.accounts.change(replace(old, disabled=False), version=old.version)
    assert (await anna.log_in("anna")).status_code == 303, "whoever says so lets it in again"


async def test_user_who_owns_codes_is_not_deleted(manager: Person, store: Store, user: User) -> None:
    code = replace(new_code("4711", plan=NumberPlan()), owner=CodeOwner(OwnerKind.USER, "204"))
    store.codes.add(code)
    answer = await manager.post("/users/delete", {"extension": "204", "sure": "yes"})
    assert (answer.status_code, "1 account code(s) belong to it" in notice(answer)) == (409, True)
    assert store.users.get("204") is not None


async def test_phones_are_shown_and_deregistered(
    beside_gate: Person, gate: TalkingGate, store: Store, user: User
) -> None:
    registered(store, CONTACT)
    page = (await beside_gate.get("/users/edit?extension=204")).text
    assert "&lt;b&gt;Desk phone&lt;/b&gt;" in page
    assert "203.0.113.7:32000 (UDP, behind a NAT)" in page
    assert "2:05" in page
    answer = await beside_gate.post("/users/deregister", {"extension": "204", "contact": CONTACT})
    assert answer.headers["location"] == "/users/edit?extension=204&said=deregistered"
    assert gate.ended == [("204", CONTACT)]
    entry = store.audit.page(limit=1)[0]
    assert (entry.action, entry.kind, entry.name) == ("deregister", "user", "204")
    assert (entry.who, entry.before) == ("phone_manager", {"contact": CONTACT})


async def test_nothing_is_deregistered_without_a_gate(manager: Person, store: Store, user: User) -> None:
    registered(store, CONTACT)
    answer = await manager.post("/users/deregister", {"extension": "204", "contact": CONTACT})
    assert (answer.status_code, "still registered" in notice(answer)) == (409, True)

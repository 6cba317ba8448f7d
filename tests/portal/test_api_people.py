"""Groups and users over the API, and what it explains of their calls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.policy import CallClass, CodeCollection, Treatment, User, UserGroup
from proxy.portal.gate_link import GateLink
from proxy.portal.portal import Portal
from proxy.settings import ALL_PHONES
from proxy.store import Store, digest_credentials
from tests.portal.gate import TalkingGate
from tests.portal.test_api_codes import errors

Program = Callable[..., httpx.AsyncClient]


@pytest.fixture
def client(program: Program) -> httpx.AsyncClient:
    return program("groups:read", "groups:write", "users:read", "users:write", "explain")


async def test_a_group_is_added_read_changed_and_deleted(client: httpx.AsyncClient, store: Store) -> None:
    facts = {
        "name": "Sales/Übersee",
        "permissions": {"classes": ["internal", "local"], "restricted": ["+1900."], "permitted": []},
        "collection": "required",
        "unlock": {"classes": ["national"], "restricted": [], "permitted": ["+4930."]},
        "edited": {"premium": "block"},
        "tries": 5,
        "first_digit": 8.0,
        "inter_digit": 4.0,
        "whole_entry": 30.0,
        "min_length": 2,
        "max_length": 8,
        "fixed_length": 4,
        "prompts": "sales",
        "limits": {
            "caller_calls": 3,
            "code_calls": 5,
            "country_calls": 2,
            "hourly_calls": 60,
            "talk_seconds": 7200,
        },
    }
    added = await client.post("/groups", json=facts)
    assert added.status_code == 201
    matrix = added.json().pop("matrix")
    assert {name: added.json()[name] for name in facts} == facts
    assert (matrix["local"], matrix["national"], matrix["emergency"]) == ("allow", "required code", "allow")
    where = added.headers["location"].removeprefix("/api/v1")
    assert where == "/groups/Sales%2F%C3%9Cbersee"
    read = await client.get(where)
    assert (read.json(), read.headers["etag"]) == (added.json(), '"1"')
    assert (await client.get(where, headers={"if-none-match": '"1"'})).status_code == 304
    changed = await client.patch(where, json={"tries": 2}, headers={"if-match": '"1"'})
    assert (changed.json()["tries"], changed.json()["collection"], changed.headers["etag"]) == (
        2,
        "required",
        '"2"',
    )
    fewer = await client.patch(where, json={"limits": {"code_calls": 1}}, headers={"if-match": '"2"'})
    assert fewer.json()["limits"] == {**facts["limits"], "code_calls": 1}  # type: ignore[dict-item]
    assert [group["name"] for group in (await client.get("/groups")).json()["groups"]] == [facts["name"]]
    assert (await client.delete(where)).status_code == 204
    assert store.groups.all() == []


async def test_groups_have_versions_and_names_of_their_own(client: httpx.AsyncClient, store: Store) -> None:
    store.groups.add(UserGroup("sales"))
    assert (await client.patch("/groups/sales", json={"tries": 2})).status_code == 428
    stale = await client.patch("/groups/sales", json={"tries": 2}, headers={"if-match": '"9"'})
    assert (stale.status_code, stale.headers["etag"]) == (412, '"1"')
    twin = await client.post("/groups", json={"name": "sales"})
    assert (twin.status_code, list(errors(twin))) == (409, ["name"])
    store.users.add(User("204", "sales"))
    held = await client.delete("/groups/sales")
    assert (held.status_code, errors(held)) == (
        409,
        {"name": "group 'sales' can't be deleted: 1 user(s) belong to it"},
    )
    for answer in (
        await client.get("/groups/none"),
        await client.delete("/groups/none"),
        await client.patch("/groups/none", json={}, headers={"if-match": "*"}),
    ):
        assert answer.status_code == 404


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ({"tries": 0}, "tries"),
        ({"tries": "many"}, "tries"),
        ({"first_digit": 0.1}, "first_digit"),
        ({"whole_entry": 601}, "whole_entry"),
        ({"min_length": 9, "max_length": 8}, "min_length"),
        ({"fixed_length": 30}, "fixed_length"),
        ({"edited": {"emergency": "block"}}, "edited.emergency"),
        ({"edited": {"lunar": "block"}}, "edited.lunar.[key]"),
        ({"collection": "perhaps"}, "collection"),
        ({"prompts": "../x"}, "prompts"),
        ({"permissions": {"restricted": ["$"]}}, "permissions.restricted"),
        ({"unlock": {"classes": ["lunar"]}}, "unlock.classes[0]"),
        ({"matrix": {}}, "matrix"),
        ({"limits": {"caller_calls": -1}}, "limits.caller_calls"),
        ({"limits": {"lunar_calls": 1}}, "limits.lunar_calls"),
    ],
)
async def test_a_group_that_cannot_be_names_the_field(
    client: httpx.AsyncClient, store: Store, facts: dict[str, Any], field: str
) -> None:
    store.groups.add(UserGroup("sales"))
    refused = await client.patch("/groups/sales", json=facts, headers={"if-match": "*"})
    assert (refused.status_code, list(errors(refused))) == (422, [field])
    also = await client.post("/groups", json={"name": "new", **facts})
    assert list(errors(also)) == [field]
    assert store.groups.all() == [UserGroup("sales")]


async def test_a_group_without_a_good_name_is_refused(client: httpx.AsyncClient) -> None:
    for body in ({}, {"name": ""}, {"name": " x"}, {"name": "x" * 65}):
        assert list(errors(await client.post("/groups", json=body))) == ["name"]


async def test_a_user_gets_a_password_that_is_told_once(client: httpx.AsyncClient, store: Store) -> None:
    store.groups.add(UserGroup("sales"))
    added = await client.post(
        "/users", json={"extension": "204", "group": "sales", "caller_number": "+14155550104"}
    )
    assert added.status_code == 201
    password = added.json()["password"]
    assert len(password) == 16
    user = store.users.get("204")
    assert user is not None
    assert user.credentials == digest_credentials("204", "tollgate", password)
    where = added.headers["location"].removeprefix("/api/v1")
    read = await client.get(where)
    assert "password" not in read.json()
    assert read.json()["hashes"] == ["SHA-256", "MD5"]
    assert password not in repr(store.audit.page())
    own = await client.post(
        "/users", json={"extension": "205", "group": "sales", "password": "of my own", "md5": False}
    )
    assert (own.json()["password"], own.json()["hashes"]) == (None, ["SHA-256"])


async def test_a_user_is_changed_by_version_and_deleted(client: httpx.AsyncClient, store: Store) -> None:
    store.groups.add(UserGroup("sales"))
    store.groups.add(UserGroup("lobby"))
    store.users.add(User("204", "sales", credentials=digest_credentials("204", "tollgate", "password")))
    assert (await client.patch("/users/204", json={"name": "Ann"})).status_code == 428
    first = (await client.get("/users/204")).headers["etag"]
    changed = await client.patch(
        "/users/204", json={"name": "Ann", "group": "lobby"}, headers={"if-match": first}
    )
    assert (changed.json()["name"], changed.json()["group"]) == ("Ann", "lobby")
    assert changed.headers["etag"] != first
    stale = await client.patch("/users/204", json={"name": "Bob"}, headers={"if-match": first})
    assert stale.status_code == 412
    alone = await client.patch("/users/204", json={"digest_name": "ann"}, headers={"if-match": "*"})
    assert list(errors(alone)) == ["digest_name"]
    both = await client.patch(
        "/users/204", json={"digest_name": "ann", "password": "password 2"}, headers={"if-match": "*"}
    )
    assert both.json()["digest_name"] == "ann"
    user = store.users.get("204")
    assert user is not None
    assert user.credentials == digest_credentials("ann", "tollgate", "password 2")
    assert (
        await client.get("/users/204", headers={"if-none-match": both.headers["etag"]})
    ).status_code == 304
    assert (await client.delete("/users/204")).status_code == 204
    for answer in (
        await client.get("/users/204"),
        await client.delete("/users/204"),
        await client.patch("/users/204", json={}, headers={"if-match": "*"}),
    ):
        assert answer.status_code == 404


async def test_rfc9110_13_1_1_who_is_made_anew_is_not_who_was_read_before(
    client: httpx.AsyncClient, store: Store
) -> None:
    store.groups.add(UserGroup("sales"))
    for where, facts in (
        ("/groups/lobby", {"name": "lobby"}),
        ("/users/204", {"extension": "204", "group": "sales"}),
    ):
        seen = set[str]()
        for _ in range(3):
            made = await client.post(where.rpartition("/")[0], json=facts)
            assert made.status_code == 201
            seen.add(made.headers["etag"])
            for tries in (2, 3):
                named = {"tries": tries} if "name" in facts else {"name": f"Ann {tries}"}
                changed = await client.patch(where, json=named, headers={"if-match": "*"})
                seen.add(changed.headers["etag"])
            assert (await client.delete(where)).status_code == 204
        assert len(seen) == 9, "no version comes again, of none before"
        await client.post(where.rpartition("/")[0], json=facts)
        for tag in seen:
            stale = await client.patch(where, json={}, headers={"if-match": tag})
            assert stale.status_code == 412


@pytest.mark.parametrize(
    ("facts", "status", "field"),
    [
        ({"extension": "20x"}, 422, "extension"),
        ({"extension": "911"}, 422, "extension"),
        ({"extension": "203"}, 409, "extension"),
        ({"group": ""}, 422, "group"),
        ({"group": "none"}, 422, "group"),
        ({"name": "a\nb"}, 422, "name"),
        ({"caller_number": "what?"}, 422, "caller_number"),
        ({"caller_number": "911"}, 422, "caller_number"),
        ({"digest_name": "a b"}, 422, "digest_name"),
        ({"digest_name": "203"}, 409, "digest_name"),
        ({"password": "short"}, 422, "password"),
        ({"password": "with\nbreak"}, 422, "password"),
    ],
)
async def test_a_user_that_cannot_be_names_the_field(
    client: httpx.AsyncClient, store: Store, facts: dict[str, str], status: int, field: str
) -> None:
    store.groups.add(UserGroup("sales"))
    store.users.add(User("203", "sales"))
    refused = await client.post("/users", json={"extension": "204", "group": "sales", **facts})
    assert (refused.status_code, list(errors(refused))) == (status, [field])
    assert facts.get("password", "nothing") not in refused.text
    assert [user.extension for user in store.users.all()] == ["203"]


async def test_a_change_of_a_user_that_cannot_be_names_the_field(
    client: httpx.AsyncClient, store: Store
) -> None:
    store.groups.add(UserGroup("sales"))
    store.users.add(User("204", "sales"))
    refused = await client.patch("/users/204", json={"group": "none"}, headers={"if-match": "*"})
    assert (refused.status_code, list(errors(refused))) == (422, ["group"])


async def test_users_are_listed_by_group_and_page(client: httpx.AsyncClient, store: Store) -> None:
    for name in ("sales", "lobby"):
        store.groups.add(UserGroup(name))
    for number in range(5):
        store.users.add(User(str(200 + number), "sales" if number % 2 else "lobby"))
    page = (await client.get("/users", params={"limit": 3})).json()
    assert [user["extension"] for user in page["users"]] == ["200", "201", "202"]
    rest = (await client.get("/users", params={"limit": 3, "cursor": page["next"]})).json()
    assert ([user["extension"] for user in rest["users"]], rest["next"]) == (["203", "204"], None)
    sales = (await client.get("/users", params={"group": "sales"})).json()
    assert [user["extension"] for user in sales["users"]] == ["201", "203"]


async def test_explain_tells_the_decision_and_every_step_to_it(
    client: httpx.AsyncClient, store: Store
) -> None:
    store.groups.add(UserGroup("sales", collection=CodeCollection.REQUIRED))
    store.users.add(User("204", "sales"))
    asked = (await client.post("/explain", json={"number": "1 212 555 0123", "user": "204"})).json()
    assert (asked["treatment"], asked["call_class"], asked["user"], asked["group"]) == (
        Treatment.REQUIRED_CODE.value,
        CallClass.NATIONAL.value,
        "204",
        "sales",
    )
    assert asked["number"] == "+12125550123"
    assert "required" in asked["reason"]
    assert asked["steps"][0] == "caller: user 204, proved by authentication"
    assert asked["steps"][-1].startswith("decision:")
    emergency = (await client.post("/explain", json={"number": "911", "user": "204"})).json()
    assert emergency["treatment"] == "allow"
    unreadable = (await client.post("/explain", json={"number": "what?", "group": "sales"})).json()
    assert (unreadable["treatment"], unreadable["number"]) == ("block", None)


async def test_explain_knows_the_default_groups_of_peers(
    client: httpx.AsyncClient, store: Store, portal: Portal, tmp_path: Path
) -> None:
    store.groups.add(UserGroup("sales", collection=CodeCollection.REQUIRED))

    async def asked(**more: str) -> httpx.Response:
        return await client.post("/explain", json={"number": "12125550123", "caller": "+14155550199", **more})

    async def group(**more: str) -> object:
        return (await asked(**more)).json()["group"]

    # As the settings had them at the portal's start; phones say themselves who calls.
    peers: dict[str, str | None] = {"pbx": "sales", ALL_PHONES: "lobby"}
    object.__setattr__(portal, "default_groups", peers)
    assert await group() == "sales"
    peers |= {"standby": "sales"}
    assert await group() == "sales"
    peers |= {"branch": None}
    said = "needed, as the default groups of the peers differ: pbx (sales), standby (sales), branch (none)"
    assert errors(await asked()) == {"peer": said}
    assert (await group(peer="pbx"), await group(peer="branch")) == ("sales", None)
    assert await group(group="sales") == "sales"
    said = "no peer 'nosuch' in the settings; there are pbx, standby, branch"
    assert errors(await asked(peer="nosuch")) == {"peer": said}
    # As the gate has them now.
    with TalkingGate(tmp_path / "gate.sock") as gate:
        object.__setattr__(portal, "gate", GateLink(gate.path))
        gate.status = {"peers": [{"name": "new-pbx", "default_group": "sales"}]}
        assert await group() == "sales"


@pytest.mark.parametrize(
    ("question", "field"),
    [
        ({"number": "911"}, "user"),
        ({"number": "", "user": "204"}, "number"),
        ({"number": "1" * 257, "user": "204"}, "number"),
        ({"number": "911", "user": "none"}, "user"),
        ({"number": "911", "group": "none"}, "group"),
        ({"number": "911", "user": "204", "code": "1"}, "code"),
    ],
)
async def test_a_question_that_cannot_be_answered_names_the_field(
    client: httpx.AsyncClient, question: dict[str, str], field: str
) -> None:
    answer = await client.post("/explain", json=question)
    assert (answer.status_code, list(errors(answer))) == (422, [field])


async def test_a_caller_number_of_two_users_is_told_where_it_is_written(
    client: httpx.AsyncClient, store: Store
) -> None:
    store.groups.add(UserGroup("sales"))
    facts = {"group": "sales", "caller_number": "+14155550104"}
    first = await client.post("/users", json={"extension": "204", **facts})
    assert first.json()["number_shared_with"] == []
    second = await client.post("/users", json={"extension": "205", **facts, "caller_number": "4155550104"})
    assert (second.status_code, second.json()["number_shared_with"]) == (201, ["204"])
    changed = await client.patch(
        "/users/205", json={"name": "Anna"}, headers={"if-match": second.headers["etag"]}
    )
    assert changed.json()["number_shared_with"] == ["204"]
    changed = await client.patch(
        "/users/205", json={"caller_number": ""}, headers={"if-match": changed.headers["etag"]}
    )
    assert changed.json()["number_shared_with"] == []
    assert "number_shared_with" not in (await client.get("/users/205")).json(), "it would age in caches"

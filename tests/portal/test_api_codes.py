"""Account codes over the API: versions, bulk upserts, and what is wrong with a request said by its field."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from proxy.policy import NumberPlan, UserGroup, new_code
from proxy.portal.api import codes_bulk
from proxy.store import ImportPlan, Store, UpsertResult, carry_out
from proxy.store.codes import CodesRepository

Program = Callable[..., httpx.AsyncClient]
PLAN = NumberPlan()


@pytest.fixture
def client(program: Program) -> httpx.AsyncClient:
    return program("codes:read", "codes:write")


def errors(answer: httpx.Response) -> dict[str, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == answer.status_code
    return {error["field"]: error["detail"] for error in body.get("errors", [])}


async def test_a_code_is_added_read_changed_and_deleted(client: httpx.AsyncClient, store: Store) -> None:
    added = await client.post("/codes", json={"code": "ACME-12/7", "description": "Acme", "max_uses": 5})
    assert added.status_code == 201
    code = added.json()
    assert (code["code"], code["digits"], code["max_uses"]) == ("ACME-12/7", "2263127", 5)
    where = added.headers["location"].removeprefix("/api/v1")
    read = await client.get(where)
    assert (read.json(), read.headers["etag"]) == (code, '"1"')
    changed = await client.patch(where, json={"enabled": False}, headers={"if-match": read.headers["etag"]})
    assert changed.json() == {**code, "enabled": False, "version": 2}
    assert changed.headers["etag"] == '"2"'
    assert (await client.delete(where)).status_code == 204
    assert (await client.get(where)).status_code == 404
    assert (await client.delete(where)).status_code == 404
    entries = store.audit.page()
    assert [(entry.who, entry.role, entry.source, entry.action) for entry in entries[:3]] == [
        ("token:program 0", "token", "192.0.2.9", action) for action in ("delete", "change", "add")
    ]
    assert "2263127" not in repr(entries)


async def test_who_may_only_write_codes_learns_none(program: Program, store: Store) -> None:
    store.codes.add(new_code("ACME-12/7", "Acme", plan=PLAN))
    [code] = store.codes.after(0)
    writer = program("codes:write")
    for fields in ({}, {"enabled": False}):
        answer = await writer.patch(f"/codes/{code.id}", json=fields, headers={"if-match": "*"})
        assert (answer.json()["code"], answer.json()["digits"]) == ("*******/7", "*****27")
    added = (await writer.post("/codes", json={"code": "4711"})).json()
    assert (added["code"], added["digits"]) == ("****", "****")


@pytest.mark.parametrize("update", [True, False])
async def test_who_may_only_write_codes_guesses_none_by_the_thousand(
    program: Program, store: Store, update: bool
) -> None:
    store.codes.add(new_code("4711", plan=PLAN))
    writer = program("codes:write")
    guesses = {"codes": [{"code": str(digits)} for digits in range(4700, 4720)] + [{"code": "9*"}]}
    dry = (await writer.post("/codes/bulk", json={**guesses, "update": update, "dry_run": True})).json()
    assert dry["added"] == 19
    assert [(line["index"], line["verdict"]) for line in dry["lines"]] == [(20, "refused")]
    real = await writer.post("/codes/bulk", json={**guesses, "update": update})
    assert (real.status_code, list(errors(real))) == (422, ["codes[20].code"])
    assert real.json()["detail"].startswith("1 of 21" if update else "2 of 21")


async def test_every_fact_of_a_code_comes_back_as_it_was_given(
    client: httpx.AsyncClient, store: Store
) -> None:
    store.groups.add(UserGroup("sales"))
    facts = {
        "code": "77-?",
        "description": "Ähre",
        "enabled": False,
        "valid_from": "2026-01-01",
        "valid_until": "2026-12-31",
        "owner": {"kind": "group", "name": "sales"},
        "class_of_service": {"classes": ["national"], "restricted": ["+1900."], "permitted": ["+1415."]},
        "max_uses": 9,
    }
    added = (await client.post("/codes", json=facts)).json()
    assert {name: added[name] for name in facts} == facts
    where = f"/codes/{added['id']}"
    free = {"class_of_service": None, "owner": {"kind": "account"}, "max_uses": None, "valid_from": None}
    changed = await client.patch(where, json=free, headers={"if-match": "*"})
    assert {name: changed.json()[name] for name in ("class_of_service", "max_uses", "valid_from")} == {
        "class_of_service": None,
        "max_uses": None,
        "valid_from": None,
    }
    assert changed.json()["description"] == "Ähre", "what is not given stays"


async def test_rfc6585_3_a_change_names_the_version_that_it_is_made_of(client: httpx.AsyncClient) -> None:
    where = (await client.post("/codes", json={"code": "1234"})).headers["location"].removeprefix("/api/v1")
    blind = await client.patch(where, json={"description": "x"})
    assert blind.status_code == 428
    assert list(errors(blind)) == ["If-Match"]
    none = await client.patch(where, json={"description": "x"}, headers={"if-match": "1"})
    assert none.status_code == 400


@pytest.mark.parametrize("stale", ['"7"', 'W/"1"', '"x", "y"'])
async def test_rfc9110_13_1_1_the_second_of_two_editors_is_told(
    client: httpx.AsyncClient, store: Store, stale: str
) -> None:
    where = (await client.post("/codes", json={"code": "1234"})).headers["location"].removeprefix("/api/v1")
    for answer in (
        await client.patch(where, json={"description": "x"}, headers={"if-match": stale}),
        await client.delete(where, headers={"if-match": stale}),
    ):
        assert (answer.status_code, answer.headers["etag"]) == (412, '"1"')
    assert [code.description for code in store.codes.stream()] == [""]
    both = await client.patch(where, json={"description": "x"}, headers={"if-match": f'{stale}, "1"'})
    assert both.status_code == 200
    assert (await client.delete(where, headers={"if-match": '"2"'})).status_code == 204


async def test_rfc9110_13_1_2_what_the_program_has_already_is_not_sent(client: httpx.AsyncClient) -> None:
    where = (await client.post("/codes", json={"code": "1234"})).headers["location"].removeprefix("/api/v1")
    same = await client.get(where, headers={"if-none-match": 'W/"1"'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", '"1"')
    assert (await client.get(where, headers={"if-none-match": '"2"'})).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "code"),
        ({"code": ""}, "code"),
        ({"code": "12#4"}, "code"),
        ({"code": "911"}, "code"),
        ({"code": "1" * 21}, "code"),
        ({"code": "1" * 201}, "code"),
        ({"code": 12}, "code"),
        ({"code": "12\x00"}, "code"),
        ({"code": "1", "description": "a\nb"}, "description"),
        ({"code": "1", "description": "a" * 256}, "description"),
        ({"code": "1", "valid_from": "2026-13-01"}, "valid_from"),
        ({"code": "1", "valid_from": "2026-02-01", "valid_until": "2026-01-01"}, "valid_until"),
        ({"code": "1", "max_uses": 0}, "max_uses"),
        ({"code": "1", "max_uses": 10**30}, "max_uses"),
        ({"code": "1", "owner": {"kind": "group"}}, "owner.name"),
        ({"code": "1", "owner": {"kind": "user", "name": "204"}}, "owner.name"),
        ({"code": "1", "owner": {"kind": "everyone"}}, "owner.kind"),
        ({"code": "1", "class_of_service": {"classes": ["lunar"]}}, "class_of_service.classes[0]"),
        ({"code": "1", "class_of_service": {"restricted": ["+"]}}, "class_of_service.restricted"),
        ({"code": "1", "class_of_service": {"permitted": ["$1"]}}, "class_of_service.permitted"),
        ({"code": "1", "uses": 0}, "uses"),
        ([], "body"),
    ],
)
async def test_rfc9457_a_refusal_names_the_field(
    client: httpx.AsyncClient, store: Store, body: Any, field: str
) -> None:
    answer = await client.post("/codes", json=body)
    assert (answer.status_code, list(errors(answer))) == (422, [field])
    assert store.codes.count() == 0


@pytest.mark.parametrize("where", ["/codes", "/codes/bulk"])
@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff", b'{"code": "\\ud800"}'])
async def test_what_is_no_json_or_no_text_is_refused(
    client: httpx.AsyncClient, store: Store, where: str, body: bytes
) -> None:
    answer = await client.post(where, content=body, headers={"content-type": "application/json"})
    assert answer.status_code in {400, 422}
    assert answer.headers["content-type"] == "application/problem+json"
    assert store.codes.count() == 0


class Endless:
    """A body that is longer than all bounds, and how much of it was read."""

    def __init__(self) -> None:
        self.read = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self.read < 400:
            self.read += 1
            yield b"[" * 65_536


@pytest.mark.parametrize(("where", "most"), [("/codes", 256 * 1024), ("/codes/bulk", 20 * 1024 * 1024)])
async def test_a_body_that_is_too_large_is_refused_however_it_comes(
    client: httpx.AsyncClient, where: str, most: int
) -> None:
    for length in (str(most + 1), "9" * 5_000, "many"):
        answer = await client.post(where, headers={"content-length": length}, content=b"{}")
        assert (answer.status_code, errors(answer)) == (413, {})
    body = Endless()
    answer = await client.post(where, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
    assert body.read == most // 65_536 + 1, "what comes after the bound is not read"


@pytest.mark.parametrize("where", ["/codes", "/codes/bulk"])
async def test_rfc6750_3_no_body_is_read_of_who_has_no_token_for_it(program: Program, where: str) -> None:
    for stranger, status in ((program(), 401), (program("codes:read"), 403)):
        body = Endless()
        assert (await stranger.post(where, content=body)).status_code == status
        assert body.read == 0
        refused = await stranger.post(where, content=b"{", headers={"content-type": "application/json"})
        assert refused.status_code == status


async def test_two_codes_that_dial_the_same_are_refused_with_both_named(client: httpx.AsyncClient) -> None:
    await client.post("/codes", json={"code": "ACME"})
    answer = await client.post("/codes", json={"code": "2263"})
    assert answer.status_code == 409
    assert errors(answer) == {"code": "codes 2263 and ACME both dial 2263"}


async def test_the_list_is_read_page_by_page_and_searched(client: httpx.AsyncClient, store: Store) -> None:
    store.codes.upsert_many(
        [new_code(str(1000 + n), f"client {n % 2}", plan=PLAN) for n in range(25)], may_update=False
    )
    found: list[str] = []
    cursor = ""
    while True:
        page = (await client.get("/codes", params={"limit": 10, "cursor": cursor})).json()
        found += [code["digits"] for code in page["codes"]]
        if page["next"] is None:
            break
        cursor = page["next"]
    assert found == [str(1000 + n) for n in range(25)]
    assert len((await client.get("/codes", params={"search": "client 1"})).json()["codes"]) == 12


@pytest.mark.parametrize(
    ("name", "value"), [("limit", "0"), ("limit", "1001"), ("limit", "x"), ("cursor", "-1"), ("cursor", "²")]
)
async def test_parameters_outside_their_range_are_named(
    client: httpx.AsyncClient, name: str, value: str
) -> None:
    answer = await client.get("/codes", params={name: value})
    assert (answer.status_code, list(errors(answer))) == (422, [name])


@pytest.mark.parametrize("where", ["/codes/0", "/codes/x", f"/codes/{2**63}", "/codes/1e3"])
async def test_ids_that_no_code_has_are_refused(client: httpx.AsyncClient, where: str) -> None:
    assert (await client.get(where)).status_code in {404, 422}


# Many at once


async def test_a_dry_run_says_line_by_line_what_would_be_done(
    client: httpx.AsyncClient, store: Store
) -> None:
    store.codes.add(new_code("100", "old", plan=PLAN))
    store.codes.add(new_code("200", "same", plan=PLAN))
    wanted = [
        {"code": "100", "description": "new"},
        {"code": "200", "description": "same"},
        {"code": "300"},
        {"code": "3-0-0"},
        {"code": "9*"},
        {"code": "400", "owner": {"kind": "group", "name": "none"}},
    ]
    answer = await client.post("/codes/bulk", json={"codes": wanted, "dry_run": True})
    body = answer.json()
    assert [body[name] for name in ("added", "changed", "unchanged", "refused")] == [1, 1, 1, 3]
    assert [(line["verdict"], line["field"]) for line in body["lines"]] == [
        ("changed", ""),
        ("unchanged", ""),
        ("added", ""),
        ("refused", "code"),
        ("refused", "code"),
        ("refused", "owner.name"),
    ]
    assert body["lines"][3]["reason"] == "codes 3-0-0 and 300 both dial 300"
    assert store.codes.count() == 2
    real = await client.post("/codes/bulk", json={"codes": wanted})
    assert real.status_code == 422
    assert list(errors(real)) == ["codes[3].code", "codes[4].code", "codes[5].owner.name"]
    assert store.codes.count() == 2, "all or nothing"
    good = await client.post("/codes/bulk", json={"codes": wanted[:3]})
    assert good.json() == {
        "dry_run": False,
        "added": 1,
        "changed": 1,
        "unchanged": 1,
        "refused": 0,
        "lines": [],
    }
    assert [code.description for code in store.codes.stream()] == ["new", "same", ""]


async def test_what_a_bulk_change_leaves_out_stays(client: httpx.AsyncClient, store: Store) -> None:
    await client.post("/codes", json={"code": "10-0", "description": "old", "max_uses": 4})
    await client.post("/codes/bulk", json={"codes": [{"code": "100", "enabled": False}]})
    [code] = store.codes.stream()
    assert (code.form, code.description, code.max_uses, code.enabled) == ("100", "old", 4, False)


@pytest.mark.parametrize(("times", "status"), [(1, 200), (99, 409), (1, 412)])
async def test_a_bulk_change_undoes_nothing_that_somebody_does_meanwhile(
    client: httpx.AsyncClient,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    times: int,
    status: int,
) -> None:
    store.codes.add(new_code("100", "old", plan=PLAN))
    found = store.codes.find("100")
    assert found
    steps = iter(range(times))

    def overtaken(plan: ImportPlan, codes: CodesRepository) -> UpsertResult:
        if (step := next(steps, None)) is not None:
            store.codes.enable_many([found.id], enabled=bool(step % 2))
        return carry_out(plan, codes)

    wanted = {"codes": [{"code": "100", "description": "new"}]}
    told = (await client.post("/codes/bulk", json={**wanted, "dry_run": True})).headers["etag"]
    monkeypatch.setattr(codes_bulk, "carry_out", overtaken)
    given = {"if-match": told} if status == 412 else {}
    answer = await client.post("/codes/bulk", json=wanted, headers=given)
    assert answer.status_code == status
    [code] = store.codes.stream()
    assert (code.description, code.enabled) == ("new" if status == 200 else "old", False)


async def test_without_update_codes_that_exist_are_refused(client: httpx.AsyncClient, store: Store) -> None:
    store.codes.add(new_code("100", plan=PLAN))
    answer = await client.post("/codes/bulk", json={"codes": [{"code": "1-00"}], "update": False})
    assert errors(answer) == {"codes[0].code": "codes 1-00 and 100 both dial 100"}


async def test_if_match_lets_only_what_the_dry_run_said_be_done(
    client: httpx.AsyncClient, store: Store
) -> None:
    wanted = {"codes": [{"code": "100", "description": "new"}]}
    told = (await client.post("/codes/bulk", json={**wanted, "dry_run": True})).headers["etag"]
    store.codes.add(new_code("100", "somebody else's", plan=PLAN))
    late = await client.post("/codes/bulk", json=wanted, headers={"if-match": told})
    assert late.status_code == 412
    assert [code.description for code in store.codes.stream()] == ["somebody else's"]
    told = (await client.post("/codes/bulk", json={**wanted, "dry_run": True})).headers["etag"]
    assert told == late.headers["etag"]
    done = await client.post("/codes/bulk", json=wanted, headers={"if-match": told})
    assert done.json()["changed"] == 1


@pytest.mark.parametrize("codes", [[], [{"code": "1", "digits": "1"}], ["1"]])
async def test_bulk_requests_of_another_shape_are_refused(client: httpx.AsyncClient, codes: Any) -> None:
    answer = await client.post("/codes/bulk", json={"codes": codes})
    assert answer.status_code == 422
    assert all(field.startswith("codes") for field in errors(answer))


async def test_thousands_go_in_one_request(client: httpx.AsyncClient, store: Store) -> None:
    wanted = [{"code": str(100_000 + n), "description": f"client {n}"} for n in range(5_000)]
    answer = await client.post("/codes/bulk", json={"codes": wanted}, timeout=60)
    assert answer.json()["added"] == 5_000
    assert store.codes.count() == 5_000

"""Usage log, reports and live calls over the API."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from fastapi.routing import APIRoute

from proxy.cdr.record import CallRecord
from proxy.policy import NumberPlan, new_code
from proxy.portal.api.app import api_routes
from proxy.portal.api.scopes import Scope
from proxy.store import Store
from tests.portal.gate import TalkingGate
from tests.portal.test_api_codes import errors
from tests.store.calls import many_calls

Program = Callable[..., httpx.AsyncClient]
COUNT = 250


@pytest.fixture
def records(store: Store) -> list[CallRecord]:
    made = many_calls(COUNT)
    store.usage.insert_many(made)
    return made


@pytest.fixture
def client(program: Program) -> httpx.AsyncClient:
    return program("usage:read", "reports:read", "codes:read")


@pytest.fixture
def blind(program: Program) -> httpx.AsyncClient:
    """A program that may not see codes."""
    return program("usage:read", "reports:read")


async def pages(client: httpx.AsyncClient, **wanted: str) -> list[str]:
    found: list[str] = []
    cursor = ""
    while True:
        page = (await client.get("/usage", params={**wanted, "limit": "30", "cursor": cursor})).json()
        found += [record["record_id"] for record in page["records"]]
        cursor = page["next"]
        if cursor is None:
            return found


async def test_the_log_is_read_page_by_page_and_new_calls_shift_nothing(
    client: httpx.AsyncClient, store: Store, records: list[CallRecord]
) -> None:
    first = (await client.get("/usage", params={"limit": 100})).json()
    assert first["previous"] is None
    store.usage.insert_many([CallRecord("new", records[-1].start_time + 1)])
    second = (await client.get("/usage", params={"limit": 100, "cursor": first["next"]})).json()
    shown = [record["record_id"] for record in first["records"] + second["records"]]
    assert shown == [record.record_id for record in reversed(records)][:200]
    back = (await client.get("/usage", params={"limit": 100, "cursor": second["previous"]})).json()
    assert back["records"] == first["records"]


async def test_filters_are_those_of_the_log(client: httpx.AsyncClient, records: list[CallRecord]) -> None:
    middle = records[COUNT // 2].start_time
    moment = datetime.fromtimestamp(middle, UTC).isoformat()
    late = {record.record_id for record in records if record.start_time >= middle}
    assert set(await pages(client, since=moment)) == late
    assert set(await pages(client, until=moment)) == {item.record_id for item in records} - late
    cases: list[tuple[dict[str, str], Callable[[CallRecord], bool]]] = [
        ({"user": "203"}, lambda record: "203" in {record.user, record.destination_user}),
        ({"group": "Group 2"}, lambda record: record.group == "Group 2"),
        ({"class": "premium"}, lambda record: record.call_class == "premium"),
        ({"result": "busy"}, lambda record: record.disposition == "busy"),
        ({"direction": "inbound"}, lambda record: record.direction == "inbound"),
        ({"emergency": "true"}, lambda record: record.emergency),
        ({"code": "2-3"}, lambda record: record.code is not None and record.code.key == "23"),
    ]
    for wanted, fits in cases:
        expected = [record.record_id for record in reversed(records) if fits(record)]
        assert expected
        assert await pages(client, **wanted) == expected


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-01-01T00:00:00"}, "since"),
        ({"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "until"),
        ({"result": "fine"}, "result"),
        ({"class": "lunar"}, "class"),
        ({"order": "mood"}, "order"),
        ({"limit": "5000"}, "limit"),
        ({"cursor": "a0"}, "cursor"),
        ({"cursor": "a999999"}, "cursor"),
        ({"code": "#"}, "code"),
        ({"user": "2" * 65}, "user"),
        ({"number": "\x00" * 65}, "number"),
    ],
)
async def test_parameters_that_are_none_are_named(
    client: httpx.AsyncClient, parameters: dict[str, str], field: str
) -> None:
    for where in ("/usage", "/usage/export"):
        answer = await client.get(where, params=parameters)
        if where == "/usage" or field not in {"order", "limit", "cursor"}:
            assert (answer.status_code, list(errors(answer))) == (422, [field])


async def test_the_export_streams_json_lines(client: httpx.AsyncClient, records: list[CallRecord]) -> None:
    answer = await client.get("/usage/export", params={"result": "answered"})
    assert answer.headers["content-type"] == "application/jsonl"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    expected = [record.record_id for record in records if record.disposition == "answered"]
    assert [line["record_id"] for line in lines] == expected
    one = await client.get(f"/usage/{expected[0]}")
    assert one.json() == lines[0]
    empty = await client.get("/usage/export", params={"user": "none"})
    assert (empty.status_code, empty.text) == (200, "")


async def test_a_corrected_code_is_shown_and_said_to_be_one(
    client: httpx.AsyncClient, store: Store, records: list[CallRecord]
) -> None:
    store.codes.add(new_code("NEW-1", "New client", plan=NumberPlan()))
    store.corrections.correct(records[0].record_id, "NEW-1", "typing error")
    found = (await client.get(f"/usage/{records[0].record_id}")).json()
    assert (found["code"]["form"], found["corrected"]) == ("NEW-1", True)
    assert (await client.get("/usage/none")).status_code == 404


async def test_who_may_not_see_codes_sees_none_anywhere(
    blind: httpx.AsyncClient, store: Store, records: list[CallRecord]
) -> None:
    store.codes.add(new_code("C-3", "Client 3", plan=NumberPlan()))
    coded = next(record for record in records if record.code is not None and record.code.key == "23")
    one = (await blind.get(f"/usage/{coded.record_id}")).json()
    assert one["code"] == {"form": "***", "dialled": "***", "key": "***", "description": "Client 3"}
    assert '"C-3"' not in (await blind.get("/usage", params={"limit": 1000})).text
    assert '"C-3"' not in (await blind.get("/usage/export")).text
    for parameters, field in (({"code": "23"}, "code"), ({"order": "code"}, "order")):
        refused = await blind.get("/usage", params=parameters)
        assert (refused.status_code, list(errors(refused))) == (403, [field])
    days = {"by": "code", "first": "2026-01-01", "last": "2026-12-31"}
    report = await blind.get("/reports", params={**days, "order": "calls"})
    assert {line["key"].strip("*") for line in report.json()["lines"]} == {""}
    assert (await blind.get("/reports", params={**days, "order": "key"})).status_code == 403
    code_id = store.codes.after(0)[0].id
    statement = await blind.get(f"/reports/statements/{code_id}", params={"month": "2026-05"})
    assert (statement.json()["total"]["key"], statement.json()["total"]["name"]) == ("**", "***")


async def test_reports_add_up_what_the_log_holds(
    client: httpx.AsyncClient, store: Store, records: list[CallRecord]
) -> None:
    whole = {"first": "2000-01-01", "last": "2100-12-31"}
    for by in ("user", "group", "class", "result", "day"):
        report = (await client.get("/reports", params={**whole, "by": by, "limit": 1000})).json()
        assert report["calls"] == COUNT
        assert sum(line["calls"] for line in report["lines"]) == COUNT
    users = (await client.get("/reports", params={**whole, "by": "user", "order": "key", "limit": 2})).json()
    assert (len(users["lines"]), users["count"]) == (2, len({record.user for record in records}))
    store.codes.add(new_code("C-3", "Client 3", plan=NumberPlan()))
    code_id = store.codes.after(0)[0].id
    start = records[0].start.astimezone()
    statement = (
        await client.get(f"/reports/statements/{code_id}", params={"month": f"{start:%Y-%m}"})
    ).json()
    expected = [
        record
        for record in records
        if record.code is not None
        and record.code.key == "23"
        and f"{record.start.astimezone():%Y-%m}" == f"{start:%Y-%m}"
    ]
    assert (statement["total"]["calls"], statement["total"]["name"]) == (len(expected), "C-3")


@pytest.mark.parametrize(
    ("where", "parameters", "field"),
    [
        ("/reports", {"by": "mood", "first": "2026-01-01", "last": "2026-01-31"}, "by"),
        ("/reports", {"by": "day", "first": "2026-02-01", "last": "2026-01-31"}, "last"),
        ("/reports", {"by": "day", "first": "1066-02-01", "last": "2026-01-31"}, "first"),
        ("/reports", {"by": "day", "first": "2026-02-01"}, "last"),
        ("/reports", {"by": "day", "first": "2026-02-01", "last": "2026-02-31"}, "last"),
        ("/reports/statements/1", {"month": "2026-13"}, "month"),
        ("/reports/statements/1", {"month": "May"}, "month"),
    ],
)
async def test_reports_of_no_time_name_the_field(
    client: httpx.AsyncClient, store: Store, where: str, parameters: dict[str, str], field: str
) -> None:
    store.codes.add(new_code("1", plan=NumberPlan()))
    answer = await client.get(where, params=parameters)
    assert (answer.status_code, list(errors(answer))) == (422, [field])


async def test_a_statement_of_no_code_is_not_found(client: httpx.AsyncClient) -> None:
    assert (await client.get("/reports/statements/7", params={"month": "2026-05"})).status_code == 404


async def test_without_a_gate_live_calls_are_unavailable(program: Program) -> None:
    client = program("calls:read", "calls:hangup")
    down = await client.get("/calls")
    assert (down.status_code, down.headers["retry-after"]) == (503, "5")
    assert (await client.delete("/calls/abc")).status_code == 503


async def test_the_gate_is_asked_for_its_calls(program: Program, store: Store, tmp_path: Path) -> None:
    client = program("calls:read", "calls:hangup")
    with TalkingGate(tmp_path / "none.sock") as gate:
        gate.call("abc")
        gate.call("def", emergency=True, dialled="911")
        calls = (await client.get("/calls")).json()["calls"]
        assert [(call["call_id"], call["emergency"]) for call in calls] == [("abc", False), ("def", True)]
        assert calls[0]["started_at"].endswith("Z")
        assert (await client.delete("/calls/abc")).status_code == 204
        assert gate.ended == ["abc"]
        noted = store.audit.page(limit=1)[0]
        assert (noted.action, noted.kind, noted.name) == ("hang_up", "call", "abc")
        assert noted.who.startswith("token:")
        assert (await client.delete("/calls/abc")).status_code == 404
        refused = await client.delete("/calls/def")
        assert (refused.status_code, refused.json()["detail"]) == (
            409,
            "an emergency call is not ended by hand",
        )
        assert gate.ended == ["abc"]
        assert [call["call_id"] for call in (await client.get("/calls")).json()["calls"]] == ["def"]


async def test_a_misspelt_parameter_is_refused_by_name_and_lets_nothing_through(
    client: httpx.AsyncClient, records: list[CallRecord]
) -> None:
    for path in ("/usage", "/usage/export", "/reports"):
        answer = await client.get(path, params={"groop": "nope", "Limit": "1"})
        assert (answer.status_code, set(errors(answer))) == (422, {"groop", "Limit"})
        assert ("group" in errors(answer)["groop"]) is (path != "/reports")
    answer = await client.get("/usage", params={"x" * 500: "1"})
    assert (answer.status_code, list(errors(answer))) == (422, ["x" * 64])
    named = await client.get("/usage", params={"class": "local", "since": "2026-01-01T00:00:00Z"})
    assert named.status_code == 200


async def test_every_route_refuses_parameters_that_it_does_not_know(program: Program) -> None:
    everything = program(*(scope.value for scope in Scope if scope is not Scope.NONE))
    asked = 0
    for route in api_routes():
        assert isinstance(route, APIRoute)
        path = re.sub("{[^}]*}", "1", route.path)
        for method in route.methods or ():
            answer = await everything.request(method, path, params={"nobodys": "4711"})
            assert (answer.status_code, list(errors(answer))) == (422, ["nobodys"]), (method, path)
            assert "4711" not in answer.text
            asked += 1
    assert asked > 30
    nobody = await program().get("/usage", params={"nobodys": "1"})
    assert nobody.status_code == 401

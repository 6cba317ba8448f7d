"""What policy and store say is said in every language: no sentence of theirs is without its words."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.errors import ConfigurationError
from proxy.policy import (
    CallClass,
    CallRequest,
    ClassOfService,
    CodeCollection,
    NumberPlan,
    Snapshot,
    User,
    UserGroup,
    decide,
)
from proxy.policy.code_file import decode_csv, read_code_file
from proxy.portal.texts import texts_of
from proxy.store import PortalAccount, Role, Store
from tests.portal.person import Person, notice
from tests.portal.test_groups import form_of, read, verdict

ROOM = Path(__file__).parent.parent.parent / "proxy"
SOURCES = (
    *(f"store/{name}.py" for name in ("accounts", "codes", "people", "schedules", "sessions", "webhooks")),
    *(f"policy/{name}.py" for name in ("code_file", "codes", "dial_string", "groups", "patterns", "users")),
    "store/code_import.py",
    "cdr/ledes.py",
)
REFUSALS = {"ConfigurationError", "LineProblem", "RemoteProtocolError", "NumberRefused"}
NOT_IN_FORMS = ("digest ", "7 7: dialled")
"""Of password hashes, which no form has; and one whose first word is said in the catalogue twice."""


def refusals(source: str) -> Iterator[str]:
    """Give every sentence that a module refuses something with, with 7 for what stands in it."""
    for function in ast.walk(ast.parse((ROOM / source).read_text(encoding="utf-8"))):
        if not isinstance(function, ast.FunctionDef):
            continue
        named: dict[str, list[ast.expr]] = {}
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                named.setdefault(node.targets[0].id, []).append(node.value)
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in REFUSALS:
                for given in node.args:
                    for value in named.get(given.id, []) if isinstance(given, ast.Name) else [given]:
                        yield from sentence(value)


def sentence(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=parts):
            yield "".join(map(shown, parts))


def shown(part: ast.expr) -> str:
    if isinstance(part, ast.FormattedValue):
        return "'7'" if part.conversion == ord("r") else "7"
    return str(part.value) if isinstance(part, ast.Constant) else ""


@pytest.mark.parametrize("source", SOURCES)
def test_every_refusal_of_the_store_and_the_policy_is_in_the_catalogue(source: str) -> None:
    found = {one for one in refusals(source) if not one.startswith(NOT_IN_FORMS)}
    assert found
    for language in ("es", "de"):
        texts = texts_of(language)
        assert {one for one in found if texts.told(one) == one} == set()


def test_every_step_of_a_decision_is_said_in_every_language() -> None:
    plan = NumberPlan()
    free = ClassOfService(frozenset({CallClass.LOCAL, CallClass.TOLL_FREE, CallClass.INTERNAL}))
    every = ClassOfService(frozenset(CallClass))
    groups = [
        UserGroup("off", permissions=free),
        UserGroup("optional", permissions=free, unlock=every, collection=CodeCollection.OPTIONAL),
        UserGroup("required", permissions=free, unlock=every, collection=CodeCollection.REQUIRED),
    ]
    users = [User("204", "required"), User("205", "optional", enabled=False), User("206", "nowhere")]
    snapshot = Snapshot(plan, groups, users)
    ordinary = ("911", "204", "4155550123", "18005550123", "19005550123", "011442079460000")
    numbers = (
        *ordinary,
        "+4915123456789",
        "12125550199",
        "urn:service:sos",
        "sip:gate.example.com",
        "99#",
        "1",
        "411",
        "+99912345678",
    )
    said = set[str]()
    for number in numbers:
        for group in (*(group.name for group in groups), "none", None):
            said |= {*decide(CallRequest(number, default_group=group), snapshot).steps}
        for user in ("204", "205", "206", "unknown"):
            decision = decide(CallRequest(number, user=user), snapshot)
            said |= {decision.reason, *decision.steps}
    assert len(said) > 40
    for language in ("es", "de"):
        texts = texts_of(language)
        assert {one for one in said if texts.told(one) == one} == set()
        english = re.compile(r"\b(because|numbers|calls|account code|decision|emergency)\b")
        assert {told for one in said if english.search(told := texts.told(one))} == set()


def test_values_keep_their_place_and_parts_are_translated_too() -> None:
    german = texts_of("de").told
    assert german("group 'Sales' can't be deleted: 2 user(s) and 3 account code(s) belong to it") == (
        "die Gruppe 'Sales' lässt sich nicht löschen: zu ihr gehören 2 Benutzer und 3 Account-Code(s)"
    )
    assert german("matrix: premium is required code") == (
        f"Matrix: {texts_of('de')('class.premium')} ist {texts_of('de')('groups.treatment_required')}"
    )
    assert german("user 7 does not exist\nnobody has said this before") == (
        "den Benutzer 7 gibt es nicht\nnobody has said this before"
    )
    assert texts_of("en").told("user 7 does not exist") == "user 7 does not exist"


@pytest.mark.parametrize("hostile", ["{0}", "{name.__class__}", "user {0.x} does not exist", "a" * 100_000])
def test_what_people_type_is_no_template(hostile: str) -> None:
    for language in ("es", "de"):
        texts = texts_of(language)
        assert hostile in texts.told(hostile) or "{0.x}" in texts.told(hostile)
        assert hostile in texts.told(f"code {hostile} does not exist")
        nested = "number: " * 50 + hostile
        assert hostile in texts.told(nested)


def test_languages_name_the_same_values() -> None:
    for language in ("en", "es", "de"):
        for key, text in texts_of(language).words.items():
            if key.startswith("said."):
                names = {name for _, name, _, _ in string.Formatter().parse(key) if name}
                assert {name for _, name, _, _ in string.Formatter().parse(text) if name} == names, key


def test_what_is_wrong_with_a_file_of_codes_is_said_in_every_language() -> None:
    plan = NumberPlan()
    said = set[str]()
    for data in (
        *(start + b"..." for start in (b"PK\3\4", b"\xd0\xcf\x11\xe0", b"\x1f\x8b", b"%PDF", b"+/v")),
        *(b"\xff\xfe\0\xd8", b"\x81\x8d", b"Code,\0", b'"', b"Code", b"a,b\n", b"Code,Description,x\n"),
    ):
        with pytest.raises(ConfigurationError) as refused:
            read_code_file(decode_csv(data), plan)
        said.add(str(refused.value))
    lines = ("1", "1001,a", "1001,b", "10-01,c", "911,e", "+,f", '"x"y,z')
    problems = read_code_file("\n".join(("Code,Description", *lines)), plan).problems
    assert len(problems) == 6
    said |= {str(one) for one in problems} | {one.reason for one in problems}
    for language in ("es", "de"):
        texts = texts_of(language)
        assert {one for one in said if texts.told(one) == one} == set()
        told = {texts.told(one) for one in said}
        assert {one for one in told if re.search(r"\b(the|line|code|both|stands)\b", one)} == set()


async def test_forms_and_what_happens_when_speak_the_visitors_language(
    person: Callable[..., Person], account: Callable[..., PortalAccount], store: Store
) -> None:
    store.groups.add(UserGroup("Lobby"))
    account(Role.DECISION_MAKER)
    someone = person()
    await someone.log_in("decision_maker")
    someone.client.cookies.set("language", "de")
    answer = await someone.post("/codes", {"code": "12#"})
    assert "beim Eintippen beendet # den Code" in notice(answer)
    mine = await read(someone, "Lobby")
    tried = await someone.post("/groups/try", form_of(UserGroup("Lobby"), dialled="19005550123", **mine))
    assert "sie fragt nach keinen Account-Codes" in verdict(tried)
    assert "Entscheidung: " in tried.text
    assert "because" not in tried.text
    gone = await someone.post("/accounts/delete", {"id": "1", "sure": "yes"})
    assert "ist der letzte Decision Maker" in notice(gone)

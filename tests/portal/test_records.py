"""One call with all its facts, and the correction of its code."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape

import httpx
import pytest

from proxy.cdr.record import CallRecord, Direction, HungUpBy, LegMedia
from proxy.policy import NumberPlan, new_code
from proxy.store import AuditFilter, PortalAccount, Role, Store
from tests.cdr.samples import full_record
from tests.portal.person import Person, notice

New = Callable[..., Person]
Account = Callable[..., PortalAccount]
PATH = "/usage/r1"


def words(answer: httpx.Response) -> str:
    """What the page says, without its markup."""
    main = answer.text.partition("<main")[2]
    return unescape(" ".join(re.sub(r"<[^>]*>", " ", main).split()))


@pytest.fixture
def log(store: Store) -> Store:
    store.usage.insert_many([full_record("r0"), full_record("r1")])
    store.codes.add(new_code("ACME-12/7", "Acme, matter 12/7", plan=NumberPlan()))
    store.codes.add(new_code("47-11", "Other client", plan=NumberPlan()))
    return store


async def correct(
    someone: Person, code: str, reason: str = "wrong client", *, seen: str = "0"
) -> httpx.Response:
    return await someone.post(f"{PATH}/correct", {"code": code, "reason": reason, "seen": seen})


async def test_a_call_opens_to_all_its_facts(manager: Person, log: Store) -> None:
    answer = await manager.get(f"{PATH}?user=204")
    text = words(answer)
    for fact in (
        "Result Answered",
        "Duration 00:01:00",
        "Group Consultants",
        "Dialed Number 901144201234567",
        "Number in full +442012345678",
        "+3.5 Account code ACME-12/7 was accepted (wrong tries: 1).",
        "+6.0 The other side answered.",
        "+66.4 The call was ended by the caller: Answered.",
        "Treatment a code is required",
        "Decided the call goes on",
        "Reason outside the permissions of Consultants",
        "Wrong tries 1",
        "first 503 second 200",
        "the caller 3000 2990 -1 (0.0 %) 1.2 2",
        "the called side 2990 3000 4 (0.1 %) 0.5 0",
        "Call-ID of the caller a@192.0.2.1",
        "Codec PCMU",
        "SIP status 200",
    ):
        assert fact in text
    assert 'href="/usage/r0?user=204"' in answer.text
    assert 'href="/usage?user=204"' in answer.text


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (CallRecord("r1", 1.79e9), "The call ended: Failed."),
        (CallRecord("r1", 1.79e9, code_entered_after=9.0, wrong_tries=3), "No account code was accepted"),
        (CallRecord("r1", 1.79e9, hung_up_by=HungUpBy.GATE), "was ended by the gate"),
        (CallRecord("r1", 1.79e9, call_class="odd", treatment="unheard of"), "Treatment unheard of"),
        (CallRecord("r1", 1.79e9, emergency=True, direction=Direction.INBOUND), "Emergency call Yes"),
        (CallRecord("r1", 1.79e9, a_media=LegMedia()), "the caller 0 0 0 0.0 0"),
    ],
)
async def test_a_call_of_few_facts_is_shown_too(
    manager: Person, store: Store, record: CallRecord, says: str
) -> None:
    store.usage.insert_many([record])
    assert says in words(await manager.get(PATH))


@pytest.mark.parametrize("path", ["/usage/none", "/usage/" + "r" * 65, "/usage/%00", "/usage/%F0%9F%98%80"])
async def test_a_call_that_is_not_there(manager: Person, path: str) -> None:
    answer = await manager.get(path)
    assert (answer.status_code, notice(answer).rpartition("| ")[2]) == (404, "There is no such call.")
    assert (await manager.post(f"{path}/correct", {"seen": "0"})).status_code == 404


async def test_a_code_is_changed_and_who_when_and_why_are_kept(manager: Person, log: Store) -> None:
    answer = await correct(manager, "47-11", "client called in")
    assert answer.status_code == 303
    answer = await manager.get(answer.headers["location"])
    assert "The account code is corrected." in notice(answer)
    text = words(answer)
    assert "Counts now 47-11 Other client corrected" in text
    assert "As recorded ACME-12/7" in text
    assert "phone_manager ACME-12/7 Acme, matter 12/7 47-11 Other client client called in" in text
    assert log.usage.get("r1") == full_record("r1")
    assert "47-11 <span" in (await manager.get("/usage")).text
    [entry] = log.audit.page(AuditFilter(kind="record"))
    assert (entry.who, entry.source, entry.name) == ("phone_manager", "192.0.2.7", "r1")


async def test_a_code_is_taken_away_and_set_again(manager: Person, log: Store) -> None:
    await correct(manager, "")
    assert "Counts now none" in words(await manager.get(PATH))
    assert (await correct(manager, "acme 127", seen="1")).status_code == 303
    made = log.corrections.of("r1")
    assert [one.after and one.after.form for one in made] == [None, "ACME-12/7"]


async def test_what_counts_already_changes_nothing(manager: Person, log: Store) -> None:
    answer = await correct(manager, "2263127")
    assert answer.headers["location"].endswith("said=same")
    assert "Nothing was changed" in notice(await manager.get(answer.headers["location"]))
    assert log.corrections.of("r1") == []


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        (("999", "why", "0"), "code 999 does not exist"),
        (("4#7", "why", "0"), "#"),
        (("47-11", "", "0"), "reason: write 1 to 500"),
        (("47-11", "a\x07b", "0"), "reason: write 1 to 500"),
        (("47-11", "x" * 501, "0"), "reason: write 1 to 500"),
        (("47-11", "why", ""), "seen"),
        (("47-11", "why", "-1"), "seen"),
        (("47-11", "why", "9" * 7), "seen"),
    ],
)
async def test_bad_corrections_are_refused_where_they_were_typed(
    manager: Person, log: Store, fields: tuple[str, str, str], complaint: str
) -> None:
    code, reason, seen = fields
    answer = await correct(manager, code, reason, seen=seen)
    assert answer.status_code == 422
    assert complaint in notice(answer)
    if complaint != "seen":
        assert f'name="code" value="{code}"' in answer.text
    assert log.corrections.of("r1") == []


async def test_the_second_of_two_correctors_sees_the_first(
    manager: Person, person: New, account: Account, log: Store
) -> None:
    account(Role.DECISION_MAKER)
    other = person()
    await other.log_in("decision_maker")
    assert (await correct(other, "47-11", "first")).status_code == 303
    answer = await correct(manager, "", "second")
    assert answer.status_code == 409
    assert "Somebody else has corrected this call meanwhile" in notice(answer)
    assert "decision_maker ACME-12/7" in words(answer)
    assert 'name="seen" value="1"' in answer.text
    assert 'name="reason" value="second"' in answer.text
    assert len(log.corrections.of("r1")) == 1


async def test_those_who_may_not_correct_have_no_form(person: New, account: Account, log: Store) -> None:
    account(Role.BILLING_CONTACT)
    someone = person()
    await someone.log_in("billing_contact")
    answer = await someone.get(PATH)
    assert "/correct" not in answer.text
    assert "ACME" not in words(answer)
    assert (await correct(someone, "47-11")).status_code == 403


async def test_a_user_who_was_called_sees_the_call(person: New, account: Account, store: Store) -> None:
    store.usage.insert_many([replace(full_record("r1"), user="204", destination_user="2001")])
    account(Role.USER)
    someone = person()
    await someone.log_in("user")
    assert (await someone.get(PATH)).status_code == 200


async def test_messages_are_from_a_list(manager: Person, log: Store) -> None:
    assert (await manager.get(f"{PATH}?said=pwned")).status_code == 400

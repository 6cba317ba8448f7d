"""What peers may send and people may look for: no octet makes a record undeliverable, or a page fail."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from proxy.cdr.record import UsedCode
from proxy.errors import ConfigurationError
from proxy.policy import AccountCode, CallerLock, new_code
from proxy.policy.number_plan import NumberPlan
from proxy.store import Actor, ReportBy, Store, StoreUnavailable, UsageFilter
from proxy.store.texts import clean_json, clean_text
from tests.cdr.samples import full_record
from tests.store.test_bindings import stored

HOSTILE = ["a\0b", "\udcff\ud83d", "x" * 65_000, "é" * 65_000, "\U0001f4de", "%", "' OR 1=1 --", "{}", "\\"]
_GIVEN_BY_PEERS = {
    field.name
    for field in fields(full_record())
    if field.type == "str" and field.name not in {"record_id", "first_record_id", "code_means", "codec"}
}


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_record_comes_in_and_is_listed_whatever_a_peer_has_sent(store: Store, number: int) -> None:
    text = HOSTILE[number]
    store.codes.add(new_code("2263127", plan=NumberPlan()))
    hostile = replace(full_record("hostile"), **dict.fromkeys(_GIVEN_BY_PEERS, text))  # type: ignore[arg-type]
    assert store.usage.insert_many([full_record("plain"), hostile]) == 2
    assert store.usage.insert_many([hostile]) == 0
    kept = store.usage.get("hostile")
    assert kept is not None
    assert kept.caller_name == clean_text(text)
    assert [entry.shown.record_id for entry in store.usage.page().entries] == ["hostile", "plain"]
    assert len(list(store.usage.facts(corrections=True))) == 2
    whole = store.reports.statement("2263127", 2026, 1)
    assert whole.total.calls == 2
    assert store.reports.report(ReportBy.USER, whole.first, whole.last).calls == 2
    acting = store.acting(Actor("anna"))
    assert acting.corrections.correct("hostile", "", "not his") is not None
    assert [made.after for made in store.corrections.of("hostile")] == [None]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_looked_for_may_be_anything(store: Store, text: str, kind: str) -> None:
    store.usage.insert_many([full_record()])
    short = text[:100]
    if kind == "sqlite" and "\udcff" in text:
        # No page and no program can ask so; a shell can.
        with pytest.raises(StoreUnavailable, match="UnicodeEncodeError"):
            store.usage.count(UsageFilter(number=short))
        return
    for wanted in (
        UsageFilter(number=short),
        UsageFilter(number_prefix=short),
        UsageFilter(user=short, group=short, call_class=short),
        UsageFilter(code_key=short),
    ):
        assert store.usage.count(wanted) == 0
        assert store.usage.page(wanted).entries == []
    assert store.codes.page(short) == []
    assert store.groups.get(short) is None
    assert store.users.get(short) is None
    assert store.accounts.by_name(short) is None
    assert store.usage.get(short) is None


def test_what_phones_and_callers_are_called_is_kept(store: Store) -> None:
    strange = replace(stored(), contact="sip:204@192.0.2.1;x=\udcff\0", user_agent="\0\udcff" * 9)
    store.bindings.replace({strange.user: [strange]})
    assert store.bindings.all(now=0.0) == [strange]
    store.locks.add([CallerLock("peer pbx \0\udcff" + "9" * 500, 1.0, None, 5)])
    (lock,) = store.locks.all()
    assert lock.caller == ("peer pbx ?" + "9" * 500)[:128]
    store.locks.unlock([lock.caller])
    acting = store.acting(Actor("anna\0" * 90, "\udcff", "\0"))
    acting.audit.note("x" * 99, "y" * 99, "\0\udcff" * 400, after={"name": "\0\udcff"})
    assert store.audit.verify().whole
    assert store.sessions.find("\0\udcff", now=0.0, idle=1.0) is None


def test_numbers_that_no_row_has_find_nothing(store: Store) -> None:
    for number in (2**31, 2**53, 2**63 - 1):
        assert store.codes.by_id(number) is None
        assert store.audit.get(number) is None
        assert store.accounts.get(number) is None
        assert store.schedules.get(number) is None
        assert store.audit.page(before_id=number) == []
        assert store.webhooks.deliveries(number, before_id=number) == []
        with pytest.raises(ConfigurationError):
            store.codes.delete_ids([number])
    with pytest.raises(ConfigurationError, match="page"):
        store.usage.page(cursor="a999999999999999999"[:19])


def test_the_case_of_letters_says_nothing(store: Store) -> None:
    store.usage.insert_many([replace(full_record(), dialled_number="Anna.Roe", normalised_number="Anna.Roe")])
    store.codes.add(AccountCode("2263127", "ACME-12/7", "Acme, Matter 12/7"))
    for wanted in (UsageFilter(number="aNNA"), UsageFilter(number_prefix="anna"), UsageFilter(number=".rOE")):
        assert store.usage.count(wanted) == 1
    for search in ("acme", "ACME", "mATTER"):
        assert store.codes.count(search) == 1


def test_json_is_cleaned_only_where_it_must_be() -> None:
    for same in ('{"a":1.50}', '{"a":"\\\\u0001"}', '{"a":"\\u00e9"}'):
        assert clean_json(same) is same
    assert clean_json('{"a":["x\\u0000","\\udcff"],"b":null}') == '{"a":["x","?"],"b":null}'
    assert clean_json('{"a":"\\ud83d\\udcde"}') == '{"a":"\\ud83d\\udcde"}'


def test_a_form_of_a_code_that_is_as_long_as_may_be_is_kept(store: Store) -> None:
    digits = "1" * 20
    code = UsedCode("-".join(digits)[:64], digits, digits, "d" * 255)
    store.usage.insert_many([replace(full_record(), code=code)])
    (entry,) = store.usage.page().entries
    assert entry.code == code

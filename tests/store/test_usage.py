"""The usage log: each record once, each use counted once, found by filter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.cdr.journal import Journal, JournalSettings
from proxy.cdr.record import CallRecord, Direction, Disposition, RecordPhase, UsedCode
from proxy.cdr.sinks import RecordPump
from proxy.cdr.usage_log import facts_of
from proxy.policy import AccountCode
from proxy.store import Store, StoreUnavailable, UsageFilter, UsageSink
from proxy.store.changes import current_version
from tests.cdr.samples import START, full_record


def _many(count: int, *, first: int = 0) -> list[CallRecord]:
    return [
        replace(full_record(f"r{number:05d}"), start_time=START + number)
        for number in range(first, first + count)
    ]


def _uses(store: Store, typed: str = "2263127") -> int:
    code = store.codes.get(typed)
    assert code is not None
    return code.uses


def test_records_come_back_as_they_were(store: Store) -> None:
    record = full_record()
    assert store.usage.insert_many([record]) == 1
    assert store.usage.get("r1") == record
    assert store.usage.get("r2") is None
    assert list(store.usage.stream()) == [record]
    assert [entry.shown for entry in store.usage.page().entries] == [record]
    assert store.usage.insert_many([]) == 0


def test_a_record_that_is_there_stays_and_counts_once(store: Store) -> None:
    store.codes.add(AccountCode("2263127", "ACME-12/7"))
    assert store.usage.insert_many(_many(100)) == 100
    assert store.usage.insert_many(_many(150)) == 50
    assert store.usage.insert_many([*_many(1, first=900), *_many(1, first=900)]) == 1
    assert store.usage.insert_many(_many(150)) == 0
    assert store.usage.count() == 151
    assert _uses(store) == 151


def test_a_use_is_counted_when_b_answered_only(store: Store) -> None:
    store.codes.add(AccountCode("2263127"))
    unanswered = replace(full_record("a"), answered_after=None)
    other = replace(full_record("b"), code=UsedCode("1", "1", "1"))
    without = replace(full_record("c"), code=None)
    store.usage.insert_many([unanswered, other, without, full_record("d")])
    assert _uses(store) == 1


def test_a_code_that_only_stays_with_its_call_is_not_used_again(store: Store) -> None:
    store.codes.add(AccountCode("2263127"))
    reused = replace(full_record("r2"), code_means="reused")
    carried = replace(full_record("r3"), code_means="carried")
    store.usage.insert_many([full_record("r1"), reused, carried])
    assert _uses(store) == 2


def test_a_use_of_a_limited_code_is_a_change_of_the_policy(store: Store) -> None:
    def version() -> int:
        with store.database.read() as connection:
            return current_version(connection)

    store.codes.add(AccountCode("2263127"))
    before = version()
    store.usage.insert_many([full_record("a")])
    assert version() == before
    store.codes.save(AccountCode("2263127", max_uses=5))
    before = version()
    store.usage.insert_many([full_record("b")])
    assert version() == before + 1
    assert _uses(store) == 2


@pytest.mark.parametrize("text", ["a" * 500, "nul\0nul", "\ud800lone", "ü" * 100])
def test_text_of_any_kind_goes_in_and_its_record_comes_back(store: Store, text: str) -> None:
    def of(text: str) -> CallRecord:
        return replace(
            full_record(),
            caller_number=text,
            user=text,
            group=text,
            dialled_number=text,
            location=text,
            destination_user=text,
            code=UsedCode(text, text, "1"),
        )

    store.usage.insert_many([of(text)])
    assert store.usage.get("r1") == of(text.replace("\0", "").replace("\ud800", "?"))


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (UsageFilter(), "abc"),
        (UsageFilter(newest_first=True), "cba"),
        (UsageFilter(since=START + 1), "bc"),
        (UsageFilter(until=START + 1), "a"),
        (UsageFilter(user="201"), "b"),
        (UsageFilter(group="Consultants"), "abc"),
        (UsageFilter(code_key="2263127"), "ac"),
        (UsageFilter(call_class="local"), "c"),
        (UsageFilter(disposition=Disposition.BUSY), "c"),
        (UsageFilter(direction=Direction.INBOUND), "b"),
        (UsageFilter(number="4420"), "abc"),
        (UsageFilter(number="%"), ""),
    ],
)
def test_filters(store: Store, wanted: UsageFilter, ids: str) -> None:
    store.usage.insert_many(
        [
            full_record("a"),
            replace(
                full_record("b"), start_time=START + 1, user="201", direction=Direction.INBOUND, code=None
            ),
            replace(full_record("c"), start_time=START + 2, call_class="local", disposition=Disposition.BUSY),
        ]
    )
    page = store.usage.page(wanted, descending=wanted.newest_first)
    assert "".join(entry.record.record_id for entry in page.entries) == ids
    assert "".join(record.record_id for record in store.usage.stream(wanted)) == ids
    assert store.usage.count(wanted) == len(ids)


def test_a_long_log_is_streamed_in_order(store: Store) -> None:
    records = [replace(record, start_time=START) for record in _many(2500)]
    store.usage.insert_many(records)
    forward = [record.record_id for record in store.usage.stream()]
    assert forward == [record.record_id for record in records]
    backward = [record.record_id for record in store.usage.stream(UsageFilter(newest_first=True))]
    assert backward == forward[::-1]


def test_a_body_that_cannot_be_read_is_unavailable(store: Store) -> None:
    store.usage.insert_many([full_record()])
    with store.database.write() as connection:
        connection.exec_driver_sql("UPDATE call_records SET body = 'x'")
    with pytest.raises(StoreUnavailable, match="not JSON"):
        store.usage.get("r1")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    settings = JournalSettings(group_interval=0.0, lazy_interval=0.0, segment_bytes=16_384)
    opened = Journal(tmp_path / "journal", post=lambda call: call(), settings=settings)
    opened.start()
    yield opened
    opened.stop()


def test_from_journal_to_usage_log_exactly_once(store: Store, journal: Journal, tmp_path: Path) -> None:
    store.codes.add(AccountCode("2263127"))
    records = _many(200)
    for record in records:
        journal.append(replace(record, phase=RecordPhase.ANSWERED))
        journal.append(record)
    assert journal.stop()

    def pump() -> None:
        carrier = RecordPump("store", journal.tail, UsageSink(store.usage), directory=tmp_path, gather=0.0)
        carrier.start()
        assert carrier.stop()

    pump()
    assert list(store.usage.stream()) == records
    # A crash before the position was kept: everything is offered again.
    (tmp_path / "position-store.json").unlink()
    pump()
    assert store.usage.count() == _uses(store) == 200


def test_a_store_that_is_down_gets_its_records_later(store: Store, journal: Journal, tmp_path: Path) -> None:
    with store.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE call_records RENAME TO away")
    for record in _many(5):
        journal.append(record)
    assert journal.stop()
    carrier = RecordPump("store", journal.tail, UsageSink(store.usage), directory=tmp_path, gather=0.0)
    carrier.start()
    assert not carrier.stop()
    with store.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO call_records")
    carrier = RecordPump("store", journal.tail, UsageSink(store.usage), directory=tmp_path, gather=0.0)
    carrier.start()
    assert carrier.stop()
    assert store.usage.count() == 5


def test_facts_are_those_of_the_whole_records_in_any_direction(store: Store) -> None:
    calls = [*_many(1_500), replace(full_record("bare"), start_time=START + 9_999, code=None, caller_e164="")]
    store.usage.insert_many(calls)
    assert list(store.usage.facts()) == [facts_of(call) for call in calls]
    newest = store.usage.facts(UsageFilter(since=START + 1, newest_first=True))
    assert list(newest) == [facts_of(call) for call in calls[:0:-1]]
    assert list(store.usage.facts(UsageFilter(user="none"), corrections=True)) == []


def test_facts_tell_the_corrected_code_and_when_asked_the_recorded_one(store: Store) -> None:
    store.codes.add(AccountCode("47", "47-X"))
    store.usage.insert_many([full_record("r1"), full_record("r2"), replace(full_record("r3"), code=None)])
    store.corrections.correct("r1", "47", "another client")
    store.corrections.correct("r1", "", "none after all")
    store.corrections.correct("r3", "47", "forgotten")
    assert [fact.code for fact in store.usage.facts()] == ["", "ACME-12/7", "47-X"]
    assert {fact[12:] for fact in store.usage.facts()} == {("", "", None, "")}
    [first, second, third] = store.usage.facts(corrections=True)
    assert (first.code, first.recorded_code, first.corrected_by, first.reason) == (
        "",
        "ACME-12/7",
        "system",
        "none after all",
    )
    assert (second.code, second.recorded_code, second.corrected_at) == ("ACME-12/7", "", None)
    assert (third.code, third.recorded_code, third.reason) == ("47-X", "", "forgotten")
    entry = store.usage.entry("r1")
    assert entry
    assert entry.correction
    assert (entry.correction.reason, entry.code, entry.shown.code) == ("none after all", None, None)

"""Events on their way from the gate to the store's outbox."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.call.trunk_watch import DestinationStatus, TrunkState
from proxy.cdr.encoding import encode_record
from proxy.cdr.record import CallRecord, Disposition, RecordPhase, UsedCode
from proxy.cdr.segments import Position
from proxy.cdr.tail import JournalEntry
from proxy.events import EventSink, EventWriter, TrunkNews
from proxy.store import Store, WebhookEndpoint
from proxy.store.call_events import Site, final_events, of_call, of_trunk
from proxy.store.webhooks import EVENTS

SITE = Site("Main Street 1, 2nd floor", "+14155550100")
RECORD = CallRecord(
    "0190aa-77",
    1_790_000_000.0,
    answered_after=2.0,
    ended_after=62.5,
    caller_number="204",
    caller_e164="+14155550104",
    user="204",
    dialled_number="911",
    normalised_number="911",
    location="Springfield",
    disposition=Disposition.ANSWERED,
    code=UsedCode("ACME-12/7", "2263127", "2263127", "Acme"),
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path}/tollgate.db") as opened:
        yield opened


def want(store: Store, *events: str) -> None:
    store.webhooks.add(WebhookEndpoint("https://x.example/", frozenset(events)), now=1.0)


def entry(record: CallRecord) -> JournalEntry:
    return JournalEntry(record, encode_record(record), Position(1, 1))


def noted(store: Store) -> list[tuple[str, str]]:
    return [(item.event, item.event_id) for item in reversed(store.webhooks.deliveries(limit=10_000))]


def happens(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_event_tells_of_a_call_and_nothing_of_the_digits_of_its_code() -> None:
    event = of_call("call.ended", RECORD, SITE, at=RECORD.end_time)
    body = json.loads(event.body)
    assert (body["id"], body["type"], body["timestamp"]) == (
        "0190aa-77.call.ended",
        "call.ended",
        "2026-09-21T14:14:22.500+00:00",
    )
    call = body["data"]["call"]
    assert call["code"] == {"form": "*******/7", "description": "Acme"}
    assert (call["result"], call["talk_time"], call["answered_at"]) == (
        "answered",
        60.5,
        "2026-09-21T14:13:22.000+00:00",
    )
    assert "2263127" not in event.body
    assert "2263127" not in repr(event)
    live = json.loads(
        of_call("call.started", replace(RECORD, phase=RecordPhase.SETUP), SITE, at=RECORD.start_time).body
    )
    assert "result" not in live["data"]["call"]


@pytest.mark.parametrize(
    ("caller_e164", "site", "callback", "location"),
    [
        ("+14155550104", SITE, "+14155550104", "Springfield, Main Street 1, 2nd floor"),
        ("", SITE, "+14155550100", "Springfield, Main Street 1, 2nd floor"),
        ("", Site(), "204", "Springfield"),
    ],
)
def test_an_emergency_says_who_calls_from_where_and_how_to_call_back(
    caller_e164: str, site: Site, callback: str, location: str
) -> None:
    event = of_call("emergency.dialed", replace(RECORD, caller_e164=caller_e164), site, at=1.0)
    told = json.loads(event.body)["data"]["emergency"]
    assert (told["number"], told["caller"], told["callback"], told["location"]) == (
        "911",
        "204",
        callback,
        location,
    )


def test_ids_fit_and_tell_repetitions_from_others() -> None:
    record = replace(RECORD, record_id="f" * 12 + "-" + "f" * 16, emergency=True)
    first = of_call("code.rejected", replace(record, wrong_tries=1), SITE, at=1.0)
    second = of_call("code.rejected", replace(record, wrong_tries=20), SITE, at=1.0)
    assert first.id != second.id
    live = of_call("emergency.dialed", record, SITE, at=1.0)
    assert live.id in {event.id for event in final_events(record, SITE)}
    trunk = of_trunk("carrier" * 20, "udp:192.0.2.1:5060", "no answer", at=1_790_000_000.0)
    for event in (first, second, live, trunk, *final_events(record, SITE)):
        assert len(event.id) <= 64
        assert event.event in EVENTS
        assert json.loads(event.body)["id"] == event.id


def test_the_sink_tells_of_ended_calls_once_however_often_they_are_offered(store: Store) -> None:
    want(store, "call.ended", "emergency.dialed")
    sink = EventSink(store.webhooks, SITE)
    sink.resume("")
    batch = [entry(replace(RECORD, record_id=f"r{number}", emergency=number == 1)) for number in range(3)]
    assert sink.write(batch) == ""
    assert sink.write(batch) == ""
    assert sorted(noted(store)) == [
        ("call.ended", "r0.call.ended"),
        ("call.ended", "r1.call.ended"),
        ("call.ended", "r2.call.ended"),
        ("emergency.dialed", "r1.emergency.dialed"),
    ]


def test_the_sink_notes_nothing_that_nobody_wants(store: Store) -> None:
    want(store, "trunk.down")
    EventSink(store.webhooks, SITE).write([entry(RECORD)])
    assert noted(store) == []


@pytest.fixture
def writer(store: Store) -> Iterator[EventWriter]:
    made = EventWriter(store.webhooks, SITE, on_wanted=wanted.append)
    wanted.clear()
    yield made
    made.stop()


wanted: list[frozenset[str]] = []


def test_the_writer_notes_what_is_wanted_and_says_what_that_is(store: Store, writer: EventWriter) -> None:
    writer.start()
    want(store, "call.started", "trunk.down")
    happens(lambda: wanted == [{"call.started", "trunk.down"}])
    for number in range(1_000):
        writer.tell("call.started", replace(RECORD, record_id=f"r{number:04d}"))
    writer.tell("call.answered", RECORD)
    writer.tell_trunks([DestinationStatus("carrier", "udp:192.0.2.1:5060", TrunkState.DOWN, 1.0, "silence")])
    happens(lambda: len(noted(store)) == 1_001)
    found = noted(store)
    assert [event_id for event, event_id in found if event == "call.started"] == [
        f"r{number:04d}.call.started" for number in range(1_000)
    ]
    down = json.loads(store.webhooks.deliveries(limit=1)[0].body)["data"]["trunk"]
    assert down == {"name": "carrier", "address": "udp:192.0.2.1:5060", "reason": "silence"}


def test_what_waits_is_noted_before_the_end(store: Store, writer: EventWriter) -> None:
    want(store, "call.started")
    writer.start()
    happens(lambda: bool(wanted))
    writer.tell("call.started", RECORD)
    writer.stop()
    assert len(noted(store)) == 1


def test_a_store_that_is_down_gets_the_events_later_in_order(store: Store, writer: EventWriter) -> None:
    want(store, "call.started")
    writer.start()
    happens(lambda: bool(wanted))
    with store.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE webhook_deliveries RENAME TO away")
    for number in range(5):
        writer.tell("call.started", replace(RECORD, record_id=f"r{number}"))
    happens(lambda: writer.failing)
    with store.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO webhook_deliveries")
    happens(lambda: not writer.failing)
    happens(lambda: len(noted(store)) == 5)
    assert [event_id for _, event_id in noted(store)] == [f"r{number}.call.started" for number in range(5)]


def test_an_event_that_cannot_be_noted_keeps_no_emergency_back(
    store: Store, writer: EventWriter, caplog: pytest.LogCaptureFixture
) -> None:
    want(store, *EVENTS)
    writer.start()
    happens(lambda: bool(wanted))
    writer.tell("call.started", replace(RECORD, record_id="r1"))
    writer.tell("call.started", replace(RECORD, record_id="no time", start_time=float("nan")))
    writer.tell("call.started", replace(RECORD, record_id="no text \ud800"))
    writer.tell("emergency.dialed", replace(RECORD, record_id="r2"))
    happens(lambda: len(noted(store)) == 2)
    assert noted(store) == [("call.started", "r1.call.started"), ("emergency.dialed", "r2.emergency.dialed")]
    assert caplog.text.count("can't be noted and is left out") == 2
    writer.tell("emergency.dialed", replace(RECORD, record_id="r3"))
    happens(lambda: len(noted(store)) == 3)


def test_the_writer_survives_an_error_that_nobody_thought_of(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    heard = list[frozenset[str]]()

    def on_wanted(events: frozenset[str]) -> None:
        heard.append(events)
        if len(heard) == 1:
            raise KeyError("2263127")

    made = EventWriter(store.webhooks, SITE, on_wanted=on_wanted)
    want(store, "emergency.dialed")
    made.start()
    try:
        happens(lambda: len(heard) == 2)
        made.tell("emergency.dialed", RECORD)
        happens(lambda: len(noted(store)) == 1)
    finally:
        made.stop()
    assert "KeyError in on_wanted" in caplog.text
    assert "2263127" not in caplog.text


def test_a_trunk_is_news_once_each_time_it_goes_down() -> None:
    def seen(*states: TrunkState) -> list[DestinationStatus]:
        return [
            DestinationStatus("carrier", f"udp:192.0.2.{number}:5060", state, 0.0, "")
            for number, state in enumerate(states)
        ]

    up, down = TrunkState.UP, TrunkState.DOWN
    news = TrunkNews()
    assert news.look(seen(up, up)) == []
    assert [one.address for one in news.look(seen(up, down))] == ["udp:192.0.2.1:5060"]
    assert news.look(seen(up, down)) == []
    assert len(news.look(seen(down, down))) == 1
    assert news.look(seen(up, up)) == []
    assert len(news.look(seen(down, up))) == 1

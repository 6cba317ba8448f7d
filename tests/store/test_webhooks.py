"""The outbox of webhooks: once per event and endpoint, tried again, never by two at once."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from proxy.errors import ConfigurationError
from proxy.store import Actor, Store, StoreUnavailable, VersionConflict, WebhookEndpoint
from proxy.store.call_events import NewEvent
from proxy.store.webhooks import BACK_OFF, EVENTS, LEASE, NEWS, ReceiverOff

NOW = 1_800_000_000.0
ENDED = WebhookEndpoint("https://billing.example/hook", frozenset({"call.ended"}))


@pytest.fixture
def endpoint(store: Store) -> WebhookEndpoint:
    return store.webhooks.add(ENDED, now=NOW)


def test_an_endpoint_gets_a_secret_that_nothing_shows(store: Store, endpoint: WebhookEndpoint) -> None:
    assert len(endpoint.secret) > 30
    assert endpoint.secret not in repr(endpoint)
    assert store.webhooks.endpoints() == [endpoint]
    assert endpoint.secret not in repr(store.audit.page())
    given = store.webhooks.add(replace(ENDED, secret="given"), now=NOW)
    assert given.secret == "given"


def test_an_endpoint_is_changed_by_version(store: Store, endpoint: WebhookEndpoint) -> None:
    changed = store.webhooks.change(replace(endpoint, enabled=False), version=1, now=NOW)
    assert (changed.version, changed.secret) == (2, endpoint.secret)
    with pytest.raises(VersionConflict) as caught:
        store.webhooks.change(replace(endpoint, url="http://x/"), version=1, now=NOW)
    assert caught.value.current == changed
    assert store.webhooks.change(changed, version=2, now=NOW) == changed
    store.webhooks.delete(endpoint.id)
    with pytest.raises(ConfigurationError):
        store.webhooks.delete(endpoint.id)
    assert [entry.action for entry in store.audit.page()] == ["delete", "change", "add"]


@pytest.mark.parametrize(
    ("url", "events"),
    [
        ("ftp://x/", {"call.ended"}),
        ("javascript:alert(1)", {"call.ended"}),
        ("http://", {"call.ended"}),
        ("http://user:pw@x/", {"call.ended"}),
        ("http://x/#part", {"call.ended"}),
        ("http://x/a b", {"call.ended"}),
        ("http://x/\n", {"call.ended"}),
        ("http://ü/", {"call.ended"}),
        ("http://x/" + "y" * 500, {"call.ended"}),
        ("http://x/", set[str]()),
        ("http://x/", {"call.paused"}),
    ],
)
def test_what_is_no_endpoint_is_refused(url: str, events: set[str]) -> None:
    with pytest.raises(ConfigurationError, match="webhook"):
        WebhookEndpoint(url, frozenset(events))


def test_an_event_is_told_once_to_those_who_want_it(store: Store, endpoint: WebhookEndpoint) -> None:
    both = store.webhooks.add(
        replace(ENDED, url="http://x/", events=frozenset({"call.ended", "trunk.down"})), now=NOW
    )
    store.webhooks.add(replace(ENDED, url="http://off/", enabled=False), now=NOW)
    assert store.webhooks.enqueue([NewEvent("e1", "call.ended", "{}")], now=NOW) == 2
    assert store.webhooks.enqueue([NewEvent("e1", "call.ended", "{}")], now=NOW) == 0
    assert store.webhooks.enqueue([NewEvent("e2", "trunk.down", "{}")], now=NOW) == 1
    assert store.webhooks.enqueue([NewEvent("e3", "call.started", "{}")], now=NOW) == 0
    due = store.webhooks.take_due(now=NOW)
    assert [(found.id, item.event_id) for found, item in due] == [
        (endpoint.id, "e1"),
        (both.id, "e1"),
        (both.id, "e2"),
    ]


def test_a_delivery_under_way_is_nobody_elses_until_its_lease_ends(
    store: Store, endpoint: WebhookEndpoint
) -> None:
    store.webhooks.enqueue([NewEvent("e1", "call.ended", "{}")], now=NOW)
    assert len(store.webhooks.take_due(now=NOW)) == 1
    assert store.webhooks.take_due(now=NOW + LEASE - 1) == []
    (again,) = store.webhooks.take_due(now=NOW + LEASE)
    assert (again[1].event_id, again[1].attempts) == ("e1", 2)


def test_a_lease_is_renewed_by_who_has_it_as_long_as_it_holds(
    store: Store, endpoint: WebhookEndpoint
) -> None:
    store.webhooks.enqueue([NewEvent(f"e{n}", "call.ended", "{}") for n in range(3)], now=NOW)
    taken = [item for _, item in store.webhooks.take_due(now=NOW)]
    store.webhooks.delivered(taken[1].id, 204, now=NOW + 1)
    store.webhooks.failed(taken[2], 500, "", now=NOW + 1)
    renewed = store.webhooks.renew(taken, now=NOW + LEASE - 1)
    assert [item.id for item in renewed] == [taken[0].id], "what has ended has ended"
    assert renewed[0].next_try_at == NOW + 2 * LEASE - 1
    again = [item for _, item in store.webhooks.take_due(now=NOW + 2 * LEASE - 2)]
    assert [item.id for item in again] == [taken[2].id]
    late = [item for _, item in store.webhooks.take_due(now=NOW + 2 * LEASE)]
    assert [item.id for item in late] == [taken[0].id]
    assert store.webhooks.renew(renewed, now=NOW + 2 * LEASE) == [], "it is another's now"


def test_some_places_are_kept_for_emergencies(store: Store, endpoint: WebhookEndpoint) -> None:
    both = store.webhooks.change(replace(endpoint, events=frozenset(EVENTS)), version=1, now=NOW)
    ordinary = [NewEvent(f"r{number}", "call.ended", "{}") for number in range(9)]
    store.webhooks.enqueue(ordinary, now=NOW)

    def take(limit: int, busy: int) -> list[str]:
        due = store.webhooks.take_due(now=NOW, limit=limit, busy={both.id: busy}, most=5, kept=2)
        return [item.event_id for _, item in due]

    assert take(limit=2, busy=0) == []
    assert take(limit=3, busy=0) == ["r0"]
    assert take(limit=9, busy=3) == []
    assert take(limit=9, busy=1) == ["r1", "r2"]
    emergencies = [NewEvent(f"e{number}", "emergency.dialed", "{}") for number in range(6)]
    store.webhooks.enqueue(emergencies, now=NOW)
    assert take(limit=1, busy=4) == ["e0"]
    assert take(limit=9, busy=3) == ["e1", "e2"]
    assert take(limit=2, busy=0) == ["e3", "e4"]
    assert take(limit=9, busy=0) == ["e5", "r3", "r4"]
    assert take(limit=9, busy=5) == []


def test_tries_back_off_and_end(store: Store, endpoint: WebhookEndpoint) -> None:
    store.webhooks.enqueue([NewEvent("e1", "call.ended", '{"a":1}')], now=NOW)
    now, tries = NOW, 0
    while True:
        ((_, item),) = store.webhooks.take_due(now=now)
        tries += 1
        assert (item.event_id, item.body, item.attempts) == ("e1", '{"a":1}', tries)
        if not store.webhooks.failed(item, 503, "Service\x1b Unavailable" + "x" * 300, now=now):
            break
        wait = BACK_OFF[tries - 1]
        assert store.webhooks.take_due(now=now + wait - 0.1) == []
        now += wait
    assert tries == len(BACK_OFF) + 1
    (last,) = store.webhooks.deliveries(endpoint.id)
    assert (last.last_status, last.next_try_at, last.delivered_at) == (503, None, None)
    assert last.last_error.startswith("Service Unavailable")
    assert len(last.last_error) == 255
    store.webhooks.replay(last.id, now=now)
    ((_, item),) = store.webhooks.take_due(now=now)
    assert (item.event_id, item.attempts) == ("e1", 1)
    store.webhooks.delivered(item.id, 204, now=now)
    assert store.webhooks.take_due(now=now + 1e6) == []
    (done,) = store.webhooks.deliveries()
    assert (done.last_status, done.delivered_at, done.last_error) == (204, now, "")
    with pytest.raises(ConfigurationError):
        store.webhooks.replay(99, now=now)


def test_a_switched_off_endpoint_waits(store: Store, endpoint: WebhookEndpoint) -> None:
    store.webhooks.enqueue([NewEvent("e1", "call.ended", "{}")], now=NOW)
    off = store.webhooks.change(replace(endpoint, enabled=False), version=1, now=NOW)
    assert store.webhooks.take_due(now=NOW) == []
    store.webhooks.change(replace(off, enabled=True), version=2, now=NOW)
    assert len(store.webhooks.take_due(now=NOW)) == 1


def test_an_endpoint_that_is_switched_on_again_is_told_no_old_news(
    store: Store, endpoint: WebhookEndpoint
) -> None:
    both = store.webhooks.change(replace(endpoint, events=frozenset(EVENTS)), version=1, now=NOW)
    store.webhooks.enqueue([NewEvent("old", "emergency.dialed", "{}")], now=NOW)
    store.webhooks.enqueue([NewEvent("new", "call.ended", "{}")], now=NOW + 1)
    off = store.webhooks.change(replace(both, enabled=False), version=2, now=NOW + 2)
    for item in store.webhooks.deliveries():
        with pytest.raises(ReceiverOff):
            store.webhooks.replay(item.id, now=NOW + 2)
    later = NOW + NEWS + 0.5
    store.webhooks.change(replace(off, enabled=True), version=3, now=later)
    assert [item.event_id for _, item in store.webhooks.take_due(now=later)] == ["new"]
    new, old = store.webhooks.deliveries()
    assert (new.last_error, old.last_error) == ("", "too old when the receiver was switched on again")
    assert (old.next_try_at, old.delivered_at) == (None, None), "given up"
    assert store.audit.page()[0].after == {"enabled": True, "given_up": 1}
    store.webhooks.replay(old.id, now=later)
    assert [item.event_id for _, item in store.webhooks.take_due(now=later)] == ["old"], "by hand it goes"


def test_only_what_was_tried_and_failed_is_failing(store: Store, endpoint: WebhookEndpoint) -> None:
    for number in range(3):
        store.webhooks.enqueue([NewEvent(f"e{number}", "call.ended", "{}")], now=NOW + number)
    first, second, _ = (item for _, item in store.webhooks.take_due(now=NOW + 9))
    store.webhooks.failed(first, 503, "Service Unavailable", now=NOW + 9)
    (failing,) = store.webhooks.failing([endpoint.id]).values()
    assert (failing.event_id, failing.last_status) == ("e0", 503)
    store.webhooks.delivered(second.id, 200, now=NOW + 9)
    assert store.webhooks.failing([endpoint.id]) == {}
    store.webhooks.replay(second.id, now=NOW + 9)
    (failing,) = store.webhooks.failing([endpoint.id]).values()
    assert failing.event_id == "e0", "what is to go again was taken, and has not failed"
    store.webhooks.replay(first.id, now=NOW + 9)
    off = store.webhooks.change(replace(endpoint, enabled=False), version=1, now=NOW + 9)
    store.webhooks.change(replace(off, enabled=True), version=2, now=NOW + NEWS + 9)
    given_up = [item.event_id for item in store.webhooks.deliveries() if item.last_error]
    assert given_up == ["e2", "e1", "e0"]
    assert store.webhooks.failing([endpoint.id]) == {}, "too old, and not tried"


def test_what_is_done_is_forgotten_and_what_is_not_stays(store: Store, endpoint: WebhookEndpoint) -> None:
    for number in range(5):
        store.webhooks.enqueue([NewEvent(f"e{number}", "call.ended", "{}")], now=NOW + number)
    for _, item in store.webhooks.take_due(now=NOW + 10, limit=3):
        store.webhooks.delivered(item.id, 200, now=NOW + 10)
    assert [item.event_id for item in store.webhooks.deliveries(limit=2)] == ["e4", "e3"]
    assert [item.event_id for item in store.webhooks.deliveries(before_id=3)] == ["e1", "e0"]
    assert store.webhooks.forget(before=NOW + 2) == 2
    assert store.webhooks.forget(before=NOW + 1e6) == 1
    assert len(store.webhooks.deliveries()) == 2
    store.webhooks.delete(endpoint.id)
    assert store.webhooks.deliveries() == []


def test_two_deliverers_never_have_the_same(store: Store, endpoint: WebhookEndpoint, url: str) -> None:
    for number in range(60):
        store.webhooks.enqueue([NewEvent(f"e{number}", "call.ended", "{}")], now=NOW)
    taken: list[str] = []

    def work() -> None:
        with Store(url, actor=Actor("portal")) as other:
            while due := other.webhooks.take_due(now=NOW, limit=7):
                taken.extend(item.event_id for _, item in due)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 60


def test_an_endpoint_that_cannot_be_read_is_unavailable(store: Store, endpoint: WebhookEndpoint) -> None:
    with store.database.write() as connection:
        connection.exec_driver_sql("UPDATE webhook_endpoints SET events = '[1'")
    with pytest.raises(StoreUnavailable, match="webhook"):
        store.webhooks.endpoints()

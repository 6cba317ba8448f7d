"""The sender: everything in the outbox reaches its receiver, whatever receivers, store and machine do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_network

import pytest

from proxy.portal.webhook_mail import Mailer
from proxy.portal.webhook_post import Poster
from proxy.portal.webhook_sender import WebhookSender
from proxy.settings_notify import MailSettings
from proxy.store import Store, WebhookDelivery, WebhookEndpoint
from proxy.store.call_events import NewEvent
from proxy.store.webhooks import BACK_OFF, LEASE
from tests.portal.conftest import NOW, Clock
from tests.portal.receiver import Receiver, happens

Start = Callable[..., WebhookSender]
WANTED = frozenset({"call.ended", "emergency.dialed"})


@pytest.fixture
def sender(store: Store, clock: Clock) -> Iterator[Start]:
    """Start a sender."""
    running: list[WebhookSender] = []

    def start(patience: float = 60.0) -> WebhookSender:
        poster = Poster([ip_network("127.0.0.0/8")], patience=patience, deadline=60)
        made = WebhookSender(store, poster, Mailer(MailSettings()), clock=clock, every=0.02)
        made.start()
        running.append(made)
        return made

    yield start
    for one in running:
        one.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


def tell(store: Store, *ids: str, event: str = "call.ended") -> None:
    store.webhooks.enqueue([NewEvent(name, event, f'{{"id":"{name}"}}') for name in ids], now=NOW)


def add(store: Store, receiver: Receiver) -> WebhookEndpoint:
    return store.webhooks.add(WebhookEndpoint(receiver.url, WANTED), now=NOW)


def only(store: Store) -> WebhookDelivery:
    [found] = store.webhooks.deliveries()
    return found


def test_everything_is_delivered_once(store: Store, receiver: Receiver, sender: Start) -> None:
    add(store, receiver)
    ids = [f"r{number}.call.ended" for number in range(50)]
    tell(store, *ids)
    sender()
    happens(lambda: all(item.delivered_at for item in store.webhooks.deliveries()))
    assert sorted(taken.headers["webhook-id"] for taken in receiver.taken) == sorted(ids)
    assert {item.last_status for item in store.webhooks.deliveries()} == {204}


def test_a_failure_is_tried_again_later_under_the_same_id(
    store: Store, receiver: Receiver, sender: Start, clock: Clock
) -> None:
    receiver.answers[:] = [500, "close", 302, 204]
    add(store, receiver)
    tell(store, "r1")
    sender()
    for number, (status, says) in enumerate(((500, "Internal Server Error"), (0, ""), (302, "redirects"))):
        happens(lambda: only(store).next_try_at == clock.now + BACK_OFF[number])  # noqa: B023
        found = only(store)
        assert (found.attempts, found.last_status) == (number + 1, status)
        assert says in found.last_error
        clock.now += BACK_OFF[number]
    happens(lambda: only(store).delivered_at)
    assert [taken.headers["webhook-id"] for taken in receiver.taken] == ["r1"] * 4
    times = [int(taken.headers["webhook-timestamp"]) for taken in receiver.taken]
    assert times == sorted(set(times)), "each try is signed anew"


def test_a_receiver_that_hangs_keeps_no_other_waiting(
    store: Store, receiver: Receiver, sender: Start
) -> None:
    with Receiver(["hang"]) as slow:
        add(store, slow)
        add(store, receiver)
        tell(store, *(f"r{number}" for number in range(30)))
        sender()
        happens(lambda: len(receiver.taken) == 30)
        assert len(slow.taken) <= 4


def test_emergencies_go_first(store: Store, receiver: Receiver, sender: Start) -> None:
    # Which of those that are under way at once arrives first is the machine's business: none is answered.
    receiver.answers[:] = ["hang"]
    add(store, receiver)
    tell(store, *(f"r{number}" for number in range(40)))
    tell(store, "e1", event="emergency.dialed")
    sender()
    happens(lambda: any(taken.headers["webhook-id"] == "e1" for taken in receiver.taken))
    assert len(receiver.taken) <= 4


def test_slow_receivers_of_all_else_keep_no_emergency_waiting(
    store: Store, receiver: Receiver, sender: Start
) -> None:
    with Receiver(["hang"]) as slow, Receiver(["hang"]) as slower:
        add(store, slow)
        add(store, slower)
        tell(store, *(f"r{number}" for number in range(40)))
        sender()
        happens(lambda: len(slow.taken) + len(slower.taken) == 8)
        add(store, receiver)
        tell(store, "e1", event="emergency.dialed")
        happens(lambda: [taken.headers["webhook-id"] for taken in receiver.taken] == ["e1"])


def test_a_sender_that_died_is_followed_by_one_that_delivers(
    store: Store, receiver: Receiver, sender: Start, clock: Clock
) -> None:
    add(store, receiver)
    tell(store, "r1")
    assert len(store.webhooks.take_due(now=clock.now)) == 1  # and nothing more: it was killed
    sender()
    clock.now += LEASE
    happens(lambda: only(store).delivered_at)
    assert only(store).attempts == 2


def test_a_store_that_is_down_is_waited_for(
    store: Store, receiver: Receiver, sender: Start, caplog: pytest.LogCaptureFixture
) -> None:
    add(store, receiver)
    tell(store, "r1")
    with store.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE webhook_deliveries RENAME TO away")
    sender()
    happens(lambda: "webhooks wait" in caplog.text)
    with store.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO webhook_deliveries")
    happens(lambda: receiver.taken)


def test_mail_without_a_server_is_a_failure_that_is_told(store: Store, sender: Start) -> None:
    store.webhooks.add(WebhookEndpoint("mailto:security@example.com", WANTED), now=NOW)
    body = '{"id":"e1","type":"call.ended","timestamp":"2026","data":{"call":{"caller":"1","dialled":"2"}}}'
    store.webhooks.enqueue([NewEvent("e1", "call.ended", body)], now=NOW)
    sender()
    happens(lambda: only(store).last_error == "no mail server is set: notify.mail.server")


def test_an_event_that_nobody_can_write_is_given_back_to_its_lease(
    store: Store, sender: Start, caplog: pytest.LogCaptureFixture
) -> None:
    store.webhooks.add(WebhookEndpoint("mailto:security@example.com", WANTED), now=NOW)
    tell(store, "r1")  # its body has no data
    sender()
    happens(lambda: "in a way that nobody thought of" in caplog.text)
    assert only(store).next_try_at == NOW + LEASE


def test_what_takes_minutes_stays_its_senders_and_comes_to_another_within_a_minute_of_its_death(
    store: Store, sender: Start, clock: Clock
) -> None:
    with Receiver(["hang", 204]) as slow:
        add(store, slow)
        tell(store, "r1")
        running = sender()
        happens(lambda: slow.taken)
        for _ in range(20):
            clock.now += LEASE * 0.6
            happens(lambda: only(store).next_try_at == clock.now + LEASE)
            assert store.webhooks.take_due(now=clock.now) == []
        assert (len(slow.taken), only(store).attempts) == (1, 1)
        running._looking.stop()  # as a portal that is killed: nothing is renewed, and nothing noted
        clock.now += LEASE
        sender()
        happens(lambda: only(store).delivered_at)
        assert [taken.headers["webhook-id"] for taken in slow.taken] == ["r1", "r1"]


def test_what_was_done_long_ago_is_forgotten(
    store: Store, receiver: Receiver, sender: Start, clock: Clock
) -> None:
    add(store, receiver)
    tell(store, "r1")
    sender()
    happens(lambda: only(store).delivered_at)
    clock.now += 31 * 86_400
    happens(lambda: store.webhooks.deliveries() == [])


def test_the_end_waits_for_no_receiver(store: Store, sender: Start) -> None:
    with Receiver(["hang"]) as slow:
        add(store, slow)
        tell(store, "r1")
        running = sender()
        happens(lambda: slow.taken)
        running.stop()
        assert only(store).last_error == "the portal ended meanwhile"
    assert only(store).next_try_at == NOW + BACK_OFF[0]

"""Delivers what the outbox holds: looks every second, and has a few deliveries under way at a time.

It runs in threads of the portal's process, and never in the gate's: see docs/decisions. What it does not get
rid of stays in the store, and is tried again by it or by the one after it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from proxy.errors import TollgateError
from proxy.portal.repeating import Repeating
from proxy.portal.webhook_mail import Mailer, event_message
from proxy.portal.webhook_post import Outcome, Poster
from proxy.store import Store, WebhookDelivery, WebhookEndpoint
from proxy.store.webhooks import LEASE

__all__ = ["WebhookSender"]

logger = logging.getLogger(__name__)

_EVERY = 1.0
_AT_ONCE = 10
_AT_ONCE_EACH = 6
_FOR_EMERGENCIES = 2
"""Of both: receivers that are slow to take all else leave so many free."""
_KEPT = 30 * 86_400.0
"""So long the delivery log shows what was delivered or given up."""
_TIDIED_EVERY = 3_600.0


class WebhookSender:
    """Sends until it is stopped."""

    def __init__(
        self,
        store: Store,
        poster: Poster,
        mailer: Mailer,
        *,
        clock: Callable[[], float] = time.time,
        every: float = _EVERY,
    ) -> None:
        self._outbox = store.webhooks
        self._poster = poster
        self._mailer = mailer
        self._clock = clock
        self._under_way: dict[int, WebhookDelivery] = {}
        """By id, with the lease that holds."""
        self._lock = threading.Lock()
        self._tidied_at = float("-inf")
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="webhooks")
        self._looking = Repeating("webhooks", self._look, every=every)

    def start(self) -> None:
        """Begin."""
        self._looking.start()

    def stop(self) -> None:
        """Begin nothing new and break off what is under way."""
        self._looking.ending = True
        self._poster.close()
        self._mailer.close()
        self._looking.stop()
        self._pool.shutdown()

    def _look(self) -> bool:
        self._renew()
        begun = self._begin_due()
        self._tidy()
        return bool(begun)

    def _begin_due(self) -> int:
        with self._lock:
            busy = Counter(one.endpoint_id for one in self._under_way.values())
        free = _AT_ONCE - sum(busy.values())
        if not free:
            return 0
        due = self._outbox.take_due(
            now=self._clock(), limit=free, busy=busy, most=_AT_ONCE_EACH, kept=_FOR_EMERGENCIES
        )
        for endpoint, delivery in due:
            with self._lock:
                self._under_way[delivery.id] = delivery
            self._pool.submit(self._deliver, endpoint, delivery)
        return len(due)

    def _renew(self) -> None:
        """Keep what is under way from others: a mail server may think for minutes."""
        now = self._clock()
        with self._lock:
            ending = [one for one in self._under_way.values() if (one.next_try_at or now) - now < LEASE / 2]
        for one in self._outbox.renew(ending, now=now) if ending else ():
            with self._lock:
                if one.id in self._under_way:
                    self._under_way[one.id] = one

    def _deliver(self, endpoint: WebhookEndpoint, delivery: WebhookDelivery) -> None:
        try:
            self._note(delivery, self._try(endpoint, delivery))
        except TollgateError as error:
            # Its lease ends, and it is tried again under the same id.
            logger.error("what came of a webhook can't be noted: %s", error)
        except Exception:
            logger.exception("a webhook failed in a way that nobody thought of")
        finally:
            with self._lock:
                self._under_way.pop(delivery.id, None)
            self._looking.wake()

    def _try(self, endpoint: WebhookEndpoint, delivery: WebhookDelivery) -> Outcome:
        if endpoint.mail_to:
            return self._mailer.send(event_message(delivery, endpoint.mail_to))
        return self._poster.post(endpoint, delivery, now=self._clock())

    def _note(self, delivery: WebhookDelivery, outcome: Outcome) -> None:
        now = self._clock()
        if not outcome.error and 200 <= outcome.status < 300:
            self._outbox.delivered(delivery.id, outcome.status, now=now)
        elif not self._outbox.failed(delivery, outcome.status, outcome.error, now=now):
            logger.warning("%s %s was given up: %s", delivery.event, delivery.event_id, outcome.error)

    def _tidy(self) -> None:
        now = self._clock()
        if now - self._tidied_at >= _TIDIED_EVERY:
            self._tidied_at = now
            self._outbox.forget(before=now - _KEPT)

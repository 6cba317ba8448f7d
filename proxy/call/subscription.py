"""One subscription of a phone: its dialog, how long it lasts, and one NOTIFY after the other.

RFC 6665 §4.2 (the notifier). States::

    ACTIVE --change, refresh--> ACTIVE (NOTIFY)
    ACTIVE --time, Expires: 0, no resource any more--> ENDING --last NOTIFY is answered, or is not--> gone
    any --a NOTIFY is refused or unanswered, the connection is lost--> gone

One NOTIFY is under way at a time: what changes meanwhile goes out together in the next one. They follow each
other in bursts of a few, and no faster than the interval on average (RFC 4235 §3.10).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from proxy.errors import RemoteProtocolError
from proxy.sip.dialog import Dialog
from proxy.sip.endpoint import Endpoint
from proxy.sip.events import ClientTransaction, RequestReceived
from proxy.sip.inspection import Refusal
from proxy.sip.message import Response
from proxy.sip.seconds import retry_after
from proxy.sip.subscription import EventType, SubscriptionState, SubscriptionStatus
from proxy.sip.timers import NEVER, Timed

if TYPE_CHECKING:
    from proxy.call.subscriptions import Subscriptions

__all__ = ["Content", "Subscription"]

_log = logging.getLogger(__name__)

_BURST = 4
"""So many NOTIFYs may follow each other at once: a call's states from the first to the answer."""


class Content(Protocol):
    """What the NOTIFYs of one subscription say."""

    media_type: str

    def body(self) -> bytes:
        """Return the body of the next NOTIFY; b"" while nothing is known."""
        ...


class Subscription(Timed):
    """One subscription; the owner of its dialog."""

    __slots__ = (
        "_changed",
        "_content",
        "_endpoint",
        "_notify_at",
        "_paid_until",
        "_reason",
        "_table",
        "_told_end",
        "_transaction",
        "connection",
        "dialog",
        "event",
        "expires_at",
        "resource",
        "watcher",
    )

    def __init__(
        self,
        table: Subscriptions,
        endpoint: Endpoint,
        *,
        event: EventType,
        watcher: str,
        resource: str,
        content: Content,
        dialog: Dialog,
        expires_at: float,
    ) -> None:
        super().__init__()
        self._table = table
        self._endpoint = endpoint
        self._content = content
        self._transaction: ClientTransaction | None = None
        self._changed = False
        self._reason = ""  # why it ends
        self._told_end = False
        self._notify_at = NEVER
        self._paid_until = 0.0
        self.event = event
        self.watcher = watcher
        """Extension of the user who watches."""
        self.resource = resource
        """Extension of the user who is watched, or whose mailbox it is."""
        self.dialog = dialog
        self.connection = dialog.flow.connection
        self.expires_at = expires_at
        dialog.owner = self
        # A phone's Contact is its word only: back the way it came, through whatever NAT there is.
        dialog.symmetric = True

    # The subscriber -----------------------------------------------------------------------------------------

    def request(self, event: RequestReceived, now: float) -> None:
        """Answer a request within the dialog: a refresh, or the end of it (RFC 6665 §4.2.1.2)."""
        transaction, request = event.transaction, event.request
        if request.method == "OPTIONS":
            self._endpoint.respond(transaction, 200, headers=self._endpoint.capabilities, now=now)
            return
        if request.method != "SUBSCRIBE" or self._reason:
            self._endpoint.respond(transaction, 481, now=now)
            return
        try:
            refusal = self._refresh(event, now)
        except RemoteProtocolError as error:
            refusal = Refusal(error.status_hint)
        if refusal is not None:
            self._endpoint.respond(transaction, refusal.status, headers=refusal.headers, now=now)

    def _refresh(self, event: RequestReceived, now: float) -> Refusal | None:
        asked = EventType.of(event.request)
        if (asked.package, asked.id) != (self.event.package, self.event.id):
            # §4.5.2: a dialog holds one subscription.
            return Refusal(403)
        granted = self._table.config.interval.granted(event.request)
        if isinstance(granted, Refusal):
            return granted
        self._endpoint.respond(event.transaction, 200, headers=(("Expires", str(granted)),), now=now)
        self._table.moved(self)
        if not granted:
            self.end("timeout", now)
            return None
        self.expires_at = now + granted
        # §4.2.1.2: every refresh is answered with the state, too.
        self._changed = True
        if self._transaction is None:
            self.notify(now)
        return None

    def end(self, reason: str, now: float) -> None:
        """Tell the phone that it is over, and why (§4.1.3)."""
        if not self._reason:
            self._reason = reason
            self._table.timers.stop(self)
            if self._transaction is None:
                self.notify(now)

    def fire(self, now: float) -> None:
        """End the subscription, or send what had to wait."""
        if now >= self._notify_at:
            self.notify(now)
        else:
            self.end("timeout", now)

    # NOTIFY -------------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Note that there is news; it goes out when the table comes to it."""
        if not self._changed and not self._reason:
            self._changed = True
            if self._transaction is None and self._notify_at == NEVER:
                self._table.has_news(self)

    def tell_news(self, now: float) -> None:
        """Send what is new, or wait until a NOTIFY is due again."""
        if self._changed and self._transaction is None:
            due = self._paid_until - (_BURST - 1) * self._table.config.notify_interval
            if due <= now:
                self.notify(now)
            else:
                self._wait(due)

    def notify(self, now: float) -> None:
        """Send the state as it is now."""
        self._changed = False
        self._paid_until = max(self._paid_until, now) + self._table.config.notify_interval
        if self._reason:
            self._told_end = True
            state = SubscriptionState(SubscriptionStatus.TERMINATED, reason=self._reason)
        else:
            self._wait(NEVER)
            state = SubscriptionState(SubscriptionStatus.ACTIVE, round(self.expires_at - now))
        self._transaction = self._endpoint.request(
            self.dialog,
            "NOTIFY",
            headers=(("Event", str(self.event)), ("Subscription-State", str(state))),
            body=self._content.body(),
            content_type=self._content.media_type,
            now=now,
        )

    def responded(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """Take the final response to a NOTIFY (§4.2.2)."""
        if transaction is not self._transaction:
            return
        self._transaction = None
        if self._told_end:
            self.drop(now)
        elif response.status >= 300:
            self._refused(response, now)
        elif self._reason:
            self.notify(now)
        elif self._changed:
            self._table.has_news(self)

    def _refused(self, response: Response, now: float) -> None:
        """Take a refusal: it ends the subscription, unless it says when to try again.

        A challenge ends it too: the gate has no password of a phone, only what proves one.
        """
        wait = retry_after(response)
        if wait is not None and not self._reason and now + wait < self.expires_at:
            self._changed = True
            self._wait(now + wait)
        else:
            _log.info("%s no longer watches %s: %d to NOTIFY", self.watcher, self.resource, response.status)
            self.drop(now)

    def unanswered(self, transaction: object, now: float) -> None:
        """No response came to a NOTIFY, or there was no way to send it."""
        if transaction is self._transaction:
            _log.info("%s no longer watches %s: no answer to NOTIFY", self.watcher, self.resource)
            self.drop(now)

    def drop(self, now: float) -> None:
        """Be forgotten, without a word to the phone."""
        self._transaction = None
        self._changed = False
        self._table.forget(self, now)

    def _wait(self, notify_at: float) -> None:
        self._notify_at = notify_at
        self._table.timers.start(self, min(notify_at, self.expires_at))

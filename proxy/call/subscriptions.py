"""SUBSCRIBE at the gate: phones watch each other's lines (busy lamps) and their own mailboxes.

RFC 6665 §4.2 (the notifier), RFC 4235 (dialog), RFC 3842 (message-summary). Who asks is proved as for a call.
A change costs a call one note per watcher: the NOTIFYs go out in portions between other work, so that no
crowd of watchers can delay a call.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection
from dataclasses import replace
from typing import TypeVar

from proxy.call.config import GateConfig, SubscriptionConfig, Watching
from proxy.call.dialog_info import MEDIA_TYPE, DialogInfo, DialogStatus, document
from proxy.call.dialog_states import DialogStates
from proxy.call.identity import Authenticator, Challenge
from proxy.call.mailboxes import MESSAGE_SUMMARY, SUMMARY_TYPE, Address, Mailboxes
from proxy.call.registrations import Registrations
from proxy.call.subscription import Content, Subscription
from proxy.call.trunk_accounts import TrunkAccounts
from proxy.errors import RemoteProtocolError
from proxy.policy import Snapshot, User
from proxy.sip.endpoint import Endpoint
from proxy.sip.events import RequestReceived
from proxy.sip.inspection import Refusal
from proxy.sip.subscription import EventType, accepts
from proxy.sip.timers import NEVER, TimerHeap
from proxy.sip.uri import format_host

__all__ = ["Subscriptions"]

_log = logging.getLogger(__name__)

_Key = TypeVar("_Key", str, int, tuple[str, str])

DIALOG = "dialog"
_PORTION = 32
"""NOTIFYs that go out in one turn."""
_RETRY_AFTER = 60
_ONE_DIALOG = frozenset({"call-id", "to-tag", "from-tag"})
"""Parameters that ask about a single dialog (RFC 4235 §3.2): the gate tells no Call-ID to ask by."""


class Subscriptions:
    """The TU of SUBSCRIBE, and of NOTIFY to it."""

    __slots__ = (
        "_authenticator",
        "_by_resource",
        "_by_watcher",
        "_count",
        "_endpoint",
        "_news",
        "_on_connection",
        "_policy",
        "config",
        "lines",
        "mailboxes",
        "timers",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        authenticator: Authenticator,
        accounts: TrunkAccounts,
        registrations: Registrations | None,
    ) -> None:
        self._endpoint = endpoint
        self._authenticator = authenticator
        self._by_resource: dict[tuple[str, str], dict[Subscription, None]] = {}
        self._by_watcher: dict[str, dict[Subscription, None]] = {}
        self._on_connection: dict[int, dict[Subscription, None]] = {}
        self._news: deque[Subscription] = deque()
        self._count = 0
        self._policy: Snapshot | None = None  # one that subscriptions have to be held against
        self.config = SubscriptionConfig()
        self.timers = TimerHeap()
        self.lines = DialogStates(lambda user: self._changed(DIALOG, user))
        """Who is in a call."""
        self.mailboxes = Mailboxes(endpoint, accounts, registrations, self)

    def reconfigure(self, config: GateConfig) -> None:
        """Take other limits; subscriptions that are there stay until they end."""
        self.config = config.subscriptions
        self.lines.show_remote = config.subscriptions.show_remote
        self.mailboxes.reconfigure(config)

    def policy_changed(self, policy: Snapshot) -> None:
        """End what the new policy does not allow, in the next turn."""
        self._policy = policy

    # SUBSCRIBE ----------------------------------------------------------------------------------------------

    def request(self, event: RequestReceived, policy: Snapshot, now: float) -> None:
        """Answer a SUBSCRIBE outside any dialog (RFC 6665 §4.2.1)."""
        user = self._authenticator.authenticate(event.request, event.flow, policy, now)
        if isinstance(user, Challenge):
            self._endpoint.reject_stateless(event.transaction, user.status, headers=user.headers)
            return
        try:
            refusal = self._subscribe(event, user, policy, now)
        except RemoteProtocolError as error:
            refusal = Refusal(error.status_hint)
        if refusal is not None:
            _log.info("SUBSCRIBE of %s refused with %d", user.extension, refusal.status)
            self._endpoint.respond(event.transaction, refusal.status, headers=refusal.headers, now=now)

    def _subscribe(self, event: RequestReceived, user: User, policy: Snapshot, now: float) -> Refusal | None:
        request = event.request
        asked = EventType.of(request)
        if asked.package not in self.packages or asked.parameters & _ONE_DIALOG:
            return Refusal(489, (("Allow-Events", ", ".join(self.packages)),))
        if request.contact is None:
            return Refusal(400)
        if not accepts(request, self.packages[asked.package]):
            return Refusal(406)
        granted = self.config.interval.granted(request)
        if isinstance(granted, Refusal):
            return granted
        resource = policy.users.get(request.request_uri.user or "")
        if request.request_uri.user == user.digest_name:
            resource = user
        if resource is None or not self._may_watch(user, resource, asked.package):
            return Refusal(404)
        if len(self._by_watcher.get(user.extension, ())) >= self.config.max_per_user:
            return Refusal(403)
        if self._count >= self.config.max_subscriptions:
            return Refusal(503, (("Retry-After", str(_RETRY_AFTER)),))
        headers = (("Expires", str(granted)),)
        dialog = self._endpoint.respond(event.transaction, 200, headers=headers, now=now)
        assert dialog is not None  # noqa: S101  (a 2xx to a SUBSCRIBE makes one)
        point = self._endpoint.config.point(event.flow)
        host = request.request_uri.host or point.host
        subscription = Subscription(
            self,
            self._endpoint,
            event=asked,
            watcher=user.extension,
            resource=resource.extension,
            content=self._content(asked.package, resource.extension, host, now),
            dialog=dialog,
            expires_at=now + granted,
        )
        self._enter(subscription)
        if granted:
            subscription.notify(now)
        else:
            subscription.end("timeout", now)
        return None

    @property
    def packages(self) -> dict[str, str]:
        """Event packages that can be subscribed to, each with its media type."""
        packages = {DIALOG: MEDIA_TYPE}
        if self.mailboxes.available:
            packages[MESSAGE_SUMMARY] = SUMMARY_TYPE
        return packages

    def _may_watch(self, user: User, resource: User, package: str) -> bool:
        """Say whether a user may watch another one; what it may not watch does not exist for it."""
        if user.extension == resource.extension:
            return True
        if package != DIALOG or not resource.enabled:
            return False
        watching = self.config.watching
        return watching is Watching.ALL or (watching is Watching.GROUP and user.group == resource.group)

    def _content(self, package: str, user: str, host: str, now: float) -> Content:
        if package == MESSAGE_SUMMARY:
            return self.mailboxes.watch(user, now)
        return _Lines(self, user, f"sip:{user}@{format_host(host)}")

    # What subscriptions ask for -----------------------------------------------------------------------------

    def has_news(self, subscription: Subscription) -> None:
        """Let a subscription send its NOTIFY when its turn comes."""
        self._news.append(subscription)

    def moved(self, subscription: Subscription) -> None:
        """Note the connection that a phone's requests now come over."""
        connection = subscription.dialog.flow.connection
        if connection != subscription.connection:
            _remove(self._on_connection, subscription.connection, subscription)
            subscription.connection = connection
            self._on_connection.setdefault(connection, {})[subscription] = None

    def forget(self, subscription: Subscription, now: float) -> None:
        """Drop a subscription that has ended."""
        self.timers.stop(subscription)
        self._endpoint.terminate(subscription.dialog)
        key = (subscription.event.package, subscription.resource)
        _remove(self._by_resource, key, subscription)
        _remove(self._by_watcher, subscription.watcher, subscription)
        _remove(self._on_connection, subscription.connection, subscription)
        self._count -= 1
        if subscription.event.package == MESSAGE_SUMMARY and key not in self._by_resource:
            self.mailboxes.unwatch(subscription.resource, now)

    def _enter(self, subscription: Subscription) -> None:
        key = (subscription.event.package, subscription.resource)
        self._by_resource.setdefault(key, {})[subscription] = None
        self._by_watcher.setdefault(subscription.watcher, {})[subscription] = None
        self._on_connection.setdefault(subscription.connection, {})[subscription] = None
        self._count += 1
        _log.debug("%s watches %s: %s", subscription.watcher, subscription.resource, subscription.event)

    # What happens to resources ------------------------------------------------------------------------------

    def _changed(self, package: str, user: str) -> None:
        for subscription in self._by_resource.get((package, user), ()):
            subscription.changed()

    def mailbox_changed(self, user: str) -> None:
        """Tell the phones that watch a user's mailbox."""
        self._changed(MESSAGE_SUMMARY, user)

    def mailbox_gone(self, user: str, reason: str, now: float) -> None:
        """End the subscriptions to a mailbox."""
        for subscription in list(self._by_resource.get((MESSAGE_SUMMARY, user), ())):
            subscription.end(reason, now)

    def watching_mailbox(self, user: str) -> Collection[Address]:
        """Return where phones are that watch a user's mailbox."""
        flows = [item.dialog.flow for item in self._by_resource.get((MESSAGE_SUMMARY, user), ())]
        return {(flow.remote_host, flow.remote_port) for flow in flows}

    def connection_lost(self, connection: int, now: float) -> None:
        """Give up what was subscribed to over a connection that is gone: nobody is at its other end."""
        for subscription in list(self._on_connection.get(connection, ())):
            subscription.drop(now)

    # Time ---------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of subscriptions."""
        return self._count

    @property
    def idle(self) -> bool:
        """Nothing is subscribed to, and no user is in a call."""
        return not (self._count or len(self.lines) or len(self.timers)) and self.mailboxes.idle

    def next_timer(self) -> float:
        """Return when `handle_timer` is to be called next, `NEVER` for not at all."""
        if self._news or self._policy is not None:
            return 0.0
        dues = (self.timers.next_deadline(), self.mailboxes.next_timer())
        return min((due for due in dues if due is not None), default=NEVER)

    def handle_timer(self, now: float) -> None:
        """Run what is due, and send a portion of the news."""
        if self._policy is not None:
            policy, self._policy = self._policy, None
            self._hold_against(policy, now)
        self.timers.run(now)
        self.mailboxes.handle_timer(now)
        for _ in range(min(len(self._news), _PORTION)):
            self._news.popleft().tell_news(now)

    def _hold_against(self, policy: Snapshot, now: float) -> None:
        """End the subscriptions of users, and to users, that are no more or may no longer (§4.2.2)."""
        for watcher, subscriptions in list(self._by_watcher.items()):
            user = policy.users.get(watcher)
            for subscription in list(subscriptions):
                resource = policy.users.get(subscription.resource)
                if user is None or not user.enabled:
                    subscription.end("rejected", now)
                elif resource is None or not self._may_watch(user, resource, subscription.event.package):
                    subscription.end("noresource", now)


class _Lines:
    """The dialogs of a user as one watcher is told of them."""

    __slots__ = ("_entity", "_shown", "_table", "_user", "_version", "media_type")

    def __init__(self, table: Subscriptions, user: str, entity: str) -> None:
        self._table = table
        self._user = user
        self._entity = entity
        self._version = -1
        self._shown: dict[str, DialogInfo] = {}
        self.media_type = MEDIA_TYPE

    def body(self) -> bytes:
        """Return the next document: a dialog that has ended since the last one is told as that once."""
        table = self._table
        self._version += 1
        before, dialogs = self._shown, table.lines.of(self._user)[: table.config.max_dialogs]
        self._shown = {dialog.id: dialog for dialog in dialogs}
        ended = [
            replace(dialog, status=DialogStatus.TERMINATED)
            for dialog in before.values()
            if dialog.id not in self._shown
        ]
        return document(self._entity, self._version, (*ended, *dialogs))


def _remove(index: dict[_Key, dict[Subscription, None]], key: _Key, subscription: Subscription) -> None:
    found = index[key]
    del found[subscription]
    if not found:
        del index[key]

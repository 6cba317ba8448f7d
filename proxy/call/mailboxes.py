"""Message waiting: the gate watches a user's mailbox at the PBX or trunk that holds it, and tells the phones.

RFC 3842 (message-summary), RFC 6665 §4.1 (the subscriber). However many phones of a user watch, the holder
sees one subscription. States of a mailbox::

    SUBSCRIBING --first NOTIFY--> WATCHED --time--> SUBSCRIBING (refresh)
    SUBSCRIBING --refused, silence--> WAITING --time--> SUBSCRIBING;  WATCHED --ended over there--> the same
    SUBSCRIBING --refused for good--> GONE (the phones are told)
    any --nobody watches any more--> LEAVING --last NOTIFY, time--> GONE

A NOTIFY that nobody has subscribed to comes from the holder too, where it is set up to push: it goes on to
the user's phones.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

from proxy.call.config import GateConfig, Trunk
from proxy.call.identity import PeerTable
from proxy.call.registrations import Registrations
from proxy.call.routing import as_trunk
from proxy.call.trunk_accounts import TrunkAccounts
from proxy.errors import RemoteProtocolError
from proxy.sip.dialog import Dialog
from proxy.sip.digest_client import DigestAttempt
from proxy.sip.endpoint import Endpoint
from proxy.sip.events import ClientTransaction, RequestReceived
from proxy.sip.flow import Flow
from proxy.sip.message import Request, Response
from proxy.sip.seconds import delta_seconds, retry_after
from proxy.sip.subscription import EventType, SubscriptionState, SubscriptionStatus
from proxy.sip.timers import Timed, TimerHeap

if TYPE_CHECKING:
    from proxy.policy import Snapshot

__all__ = ["MESSAGE_SUMMARY", "SUMMARY_TYPE", "Mailbox", "MailboxState", "Mailboxes"]

_log = logging.getLogger(__name__)

MESSAGE_SUMMARY = "message-summary"
SUMMARY_TYPE = "application/simple-message-summary"

_EXPIRES = 3_600
_REFRESH_AT = 0.8
_SHORTEST = 5.0
"""Seconds between two refreshes at least, whatever the holder grants."""
_FIRST_WAIT, _LONGEST_WAIT = 30.0, 1_800.0
_MAX_SUMMARY = 4_096
"""Octets of a summary; RFC 3842's own examples have some two hundred."""
_FOR_GOOD = frozenset({403, 404, 405, 410, 416, 489, 501, 604})
"""The holder has no such mailbox, or shows it to nobody (RFC 6665 §4.1.2.3)."""
Address = tuple[str, int]

_ENDED_FOR_GOOD = frozenset({"invariant", "noresource", "rejected"})


class MailboxState(enum.Enum):
    """How the gate stands with the holder of a mailbox."""

    SUBSCRIBING = "subscribing"
    WATCHED = "watched"
    WAITING = "waiting"
    LEAVING = "leaving"
    GONE = "gone"


class Mailbox(Timed):
    """The mailbox of one user; the owner of the dialog with its holder. Also what the phones are told."""

    __slots__ = (
        "_attempt",
        "_call_id",
        "_cseq",
        "_dialog",
        "_failures",
        "_summary",
        "_table",
        "_tag",
        "_transaction",
        "holder",
        "state",
        "user",
    )

    media_type = SUMMARY_TYPE

    def __init__(self, table: Mailboxes, holder: Trunk, user: str) -> None:
        super().__init__()
        self._table = table
        self.holder = holder
        self._attempt: DigestAttempt | None = None
        self._transaction: ClientTransaction | None = None
        self._dialog: Dialog | None = None
        self._summary = b""
        self._failures = 0
        self._cseq = 0
        self._call_id = self._tag = ""
        self.user = user
        self.state = MailboxState.SUBSCRIBING

    def body(self) -> bytes:
        """Return the summary, b"" while the holder has not given one."""
        return self._summary

    # To the holder ------------------------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Subscribe, in a new dialog."""
        self._call_id, self._tag = self._table.endpoint.ids.call_id(), self._table.endpoint.ids.tag()
        self._cseq = 0
        self._subscribe(now)

    def _subscribe(self, now: float) -> None:
        flow = self._flow
        host = "" if flow is None else flow.remote_host
        self._attempt = self._table.accounts.attempt(self.holder, self._dialog, host=host)
        self.state = MailboxState.SUBSCRIBING
        self._send(_EXPIRES, now)

    @property
    def _flow(self) -> Flow | None:
        """The way to the holder for a new dialog, the next one after a failure; None: it has no address."""
        flows = self.holder.flows
        return flows[self._failures % len(flows)] if flows else None

    def _send(self, expires: int, now: float) -> None:
        """Send a SUBSCRIBE: to begin with, or within the dialog."""
        endpoint, dialog, host = self._table.endpoint, self._dialog, self.holder.host
        uri = f"sip:{self.user}@{host}"
        target = uri if dialog is None else dialog.request_uri
        credentials = () if self._attempt is None else self._attempt.headers("SUBSCRIBE", target)
        headers = (
            ("Event", MESSAGE_SUMMARY),
            ("Accept", SUMMARY_TYPE),
            ("Expires", str(expires)),
            *credentials,
        )
        if dialog is not None:
            self._transaction = endpoint.request(dialog, "SUBSCRIBE", headers=headers, now=now)
        elif (flow := self._flow) is None:
            self._failed("no address", now)
            return
        else:
            self._cseq += 1
            self._transaction = endpoint.send_request(
                "SUBSCRIBE",
                uri,
                from_=f"<{uri}>",
                headers=headers,
                flow=flow,
                owner=self,
                call_id=self._call_id,
                local_tag=self._tag,
                cseq=self._cseq,
                now=now,
            )
        # §4.1.2.4: without a NOTIFY by then there is no subscription, whatever the response was.
        self._table.timers.start(self, now + 64 * endpoint.config.t1 + 1.0)

    def leave(self, now: float) -> None:
        """Nobody watches any more."""
        if self._dialog is None:
            self._part()
            return
        self._attempt = self._table.accounts.attempt(self.holder, self._dialog)
        self.state = MailboxState.LEAVING
        self._send(0, now)

    def responded(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """Take the final response to a SUBSCRIBE (§4.1.2.1)."""
        if transaction is not self._transaction:
            return
        leaving = self.state is MailboxState.LEAVING
        if self._attempt is not None and self._attempt.may_repeat(response):
            self._send(0 if leaving else _EXPIRES, now)
            return
        status = response.status
        self._transaction = None
        if leaving:
            if status >= 300:
                self._part()
        elif status < 300:
            self._granted(response, now)
        elif status in _FOR_GOOD:
            self._lost(now)
        else:
            self._failed(f"{status} to SUBSCRIBE", now, retry_after(response) or 0)

    def _granted(self, response: Response, now: float) -> None:
        granted = delta_seconds(response.headers.get("Expires"))
        if self._dialog is not None:
            self._refresh_in(_EXPIRES if granted is None else granted, now)

    def _refresh_in(self, expires: float, now: float) -> None:
        self.state = MailboxState.WATCHED
        self._failures = 0
        self._table.timers.start(self, now + max(_SHORTEST, expires * _REFRESH_AT))

    def unanswered(self, transaction: object, now: float) -> None:
        """No response came to a SUBSCRIBE, or there was no way to send it."""
        if transaction is self._transaction:
            self._transaction = None
            if self.state is MailboxState.LEAVING:
                self._part()
            else:
                self._failed("no answer to SUBSCRIBE", now)

    def _failed(self, reason: str, now: float, wait: float = 0.0) -> None:
        """Try again later; the phones keep what they know."""
        if not self._failures:
            _log.warning("mailbox of %s: %s", self.user, reason)
        self._forget_dialog()
        self.state = MailboxState.WAITING
        backed_off = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(self._failures, 10))
        self._failures += 1
        self._table.timers.start(self, now + max(backed_off, min(wait, _LONGEST_WAIT)))

    def _lost(self, now: float) -> None:
        """The mailbox is not to be had."""
        _log.info("mailbox of %s: there is none to watch", self.user)
        self._part()
        self._table.watchers.mailbox_gone(self.user, "noresource", now)

    def _part(self) -> None:
        self._forget_dialog()
        self.state = MailboxState.GONE
        self._table.forget(self)

    def _forget_dialog(self) -> None:
        endpoint = self._table.endpoint
        self._transaction = None
        endpoint.await_no_notify(self._call_id, self._tag)
        if self._dialog is not None:
            endpoint.terminate(self._dialog)
            self._dialog = None

    def fire(self, now: float) -> None:
        """Refresh, try again, or give up waiting."""
        self._table.timers.start(self, now + _FIRST_WAIT)  # whatever goes wrong, it comes again
        if self.state is MailboxState.LEAVING:
            self._part()
        elif self.state is MailboxState.WATCHED:
            self._subscribe(now)
        elif self.state is MailboxState.WAITING:
            self.begin(now)
        else:
            self._failed("no NOTIFY", now)

    # From the holder ----------------------------------------------------------------------------------------

    def request(self, event: RequestReceived, now: float) -> None:
        """Answer a request within the dialog (§4.1.3)."""
        endpoint, request = self._table.endpoint, event.request
        if request.method != "NOTIFY":
            endpoint.respond(event.transaction, 481, now=now)
            return
        if self._dialog is None and event.dialog is not None:
            self._dialog = event.dialog
            self._dialog.reach = self._table.accounts.addresses_of(self.holder)
        try:
            if EventType.of(request).package != MESSAGE_SUMMARY:
                raise RemoteProtocolError("NOTIFY about something else", status_hint=489)
            state = SubscriptionState.of(request)
            summary = summary_of(request)
        except RemoteProtocolError as error:
            endpoint.respond(event.transaction, error.status_hint, now=now)
            return
        endpoint.respond(event.transaction, 200, now=now)
        if state.status is SubscriptionStatus.TERMINATED:
            self._ended(state, now)
        elif self.state is MailboxState.SUBSCRIBING:
            self._refresh_in(_EXPIRES if state.expires is None else state.expires, now)
        self.tell(summary)

    def _ended(self, state: SubscriptionState, now: float) -> None:
        """The holder has ended the subscription: begin anew, unless it says not to."""
        if self.state is MailboxState.LEAVING:
            self._part()
        elif state.reason in _ENDED_FOR_GOOD:
            self._lost(now)
        else:
            self._failed(f"its holder ended the subscription: {state.reason}", now, state.retry_after or 0)

    def tell(self, summary: bytes) -> None:
        """Note what the holder says of the mailbox; it says nothing with an empty body."""
        if summary and summary != self._summary:
            self._summary = summary
            self._table.watchers.mailbox_changed(self.user)


def summary_of(notify: Request) -> bytes:
    """Return the summary in a NOTIFY, b"" when it has none.

    Raises `RemoteProtocolError`: 415 for another type, 413 when it is too long to be one.
    """
    if not notify.body:
        return b""
    if notify.content_type != SUMMARY_TYPE:
        raise RemoteProtocolError("no message summary", status_hint=415)
    if len(notify.body) > _MAX_SUMMARY:
        raise RemoteProtocolError("message summary too long", status_hint=413)
    return notify.body


class Watchers(Protocol):
    """Who is told of mailboxes: the phones that have subscribed."""

    def mailbox_changed(self, user: str) -> None:
        """The mailbox of a user has news."""
        ...

    def mailbox_gone(self, user: str, reason: str, now: float) -> None:
        """The mailbox of a user is not to be had any more, and why (RFC 6665 §4.1.3)."""
        ...

    def watching_mailbox(self, user: str) -> Collection[Address]:
        """Return where phones are that watch the mailbox of a user."""
        ...


class Mailboxes:
    """Every mailbox that phones watch, and what the holder pushes by itself."""

    __slots__ = (
        "_all",
        "_by_user",
        "_holder",
        "_moved",
        "_peers",
        "_registrations",
        "accounts",
        "endpoint",
        "timers",
        "watchers",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        accounts: TrunkAccounts,
        registrations: Registrations | None,
        watchers: Watchers,
    ) -> None:
        self.endpoint = endpoint
        self.accounts = accounts
        self._registrations = registrations
        self._by_user: dict[str, Mailbox] = {}
        self._all: dict[Mailbox, None] = {}  # with those that are being left
        self._holder: Trunk | None = None
        self._moved: dict[str, Mailbox] = {}  # those of the holder before
        self._peers = PeerTable(GateConfig())
        self.timers = TimerHeap()
        self.watchers = watchers

    def reconfigure(self, config: GateConfig) -> None:
        """Take another holder of mailboxes; phones that watch have to ask again."""
        holder = _holder(config)
        if self._holder is not None and (holder is None or holder.name != self._holder.name):
            self._moved.update(self._by_user)
            self._by_user.clear()
        elif holder is not None:
            for mailbox in self._all:
                mailbox.holder = holder
        self._holder = holder
        self._peers = PeerTable(config)

    @property
    def available(self) -> bool:
        """Somebody holds mailboxes."""
        return self._holder is not None

    @property
    def idle(self) -> bool:
        """Nothing is watched, and nothing being left."""
        return not self._all

    def watch(self, user: str, now: float) -> Mailbox:
        """Return the mailbox of a user, watched from now on."""
        mailbox = self._by_user.get(user)
        if mailbox is None:
            assert self._holder is not None  # noqa: S101  (asked for only where `available`)
            mailbox = self._by_user[user] = Mailbox(self, self._holder, user)
            self._all[mailbox] = None
            mailbox.begin(now)
        return mailbox

    def unwatch(self, user: str, now: float) -> None:
        """Watch no longer: the last phone has gone."""
        mailbox = self._by_user.pop(user, None)
        if mailbox is not None:
            mailbox.leave(now)

    def forget(self, mailbox: Mailbox) -> None:
        """Drop a mailbox that is left."""
        self.timers.stop(mailbox)
        self._all.pop(mailbox, None)
        for index in (self._by_user, self._moved):
            if index.get(mailbox.user) is mailbox:
                del index[mailbox.user]

    def pushed(self, event: RequestReceived, policy: Snapshot, now: float) -> None:
        """Answer a NOTIFY outside any dialog: the holder may push, for others there is no subscription."""
        peer = self._peers.find(event.flow)
        if self._holder is None or peer is None or peer.name != self._holder.name:
            self.endpoint.reject_stateless(event.transaction, 481)
            return
        try:
            status = self._push(event.request, policy, now)
        except RemoteProtocolError as error:
            status = error.status_hint
        self.endpoint.respond(event.transaction, status, now=now)

    def _push(self, notify: Request, policy: Snapshot, now: float) -> int:
        if EventType.of(notify).package != MESSAGE_SUMMARY:
            return 489
        state = SubscriptionState.of(notify)
        summary = summary_of(notify)
        user = policy.users.get(notify.request_uri.user or "")
        if user is None or not user.enabled:
            return 404
        mailbox = self._by_user.get(user.extension)
        if mailbox is not None:
            mailbox.tell(summary)
        reached = mailbox is not None
        watching = self.watchers.watching_mailbox(user.extension)
        phones = () if self._registrations is None else self._registrations.registrar.bindings(user.extension)
        for phone in phones:
            if (phone.source.remote_host, phone.source.remote_port) in watching:
                continue
            reached = True
            self.endpoint.send_request(
                "NOTIFY",
                phone.contact,
                headers=(("Event", MESSAGE_SUMMARY), ("Subscription-State", str(state))),
                body=summary,
                content_type=SUMMARY_TYPE,
                flow=phone.flow,
                route=phone.path,
                now=now,
            )
        return 200 if reached else 480

    def next_timer(self) -> float | None:
        """Return when `handle_timer` is to be called next."""
        return 0.0 if self._moved else self.timers.next_deadline()

    def handle_timer(self, now: float) -> None:
        """Run what is due."""
        moved, self._moved = self._moved, {}
        for user, mailbox in moved.items():
            mailbox.leave(now)
            self.watchers.mailbox_gone(user, "deactivated", now)
        self.timers.run(now)


def _holder(config: GateConfig) -> Trunk | None:
    """Return the trunk or PBX that holds the mailboxes."""
    for trunk in config.trunks:
        if trunk.name == config.mailboxes:
            return trunk
    for peer in config.peers:
        if peer.name == config.mailboxes and peer.flow is not None:
            return as_trunk(peer)
    return None

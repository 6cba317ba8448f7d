"""What a transferor is told of the call that its REFER asked for: the implicit subscription, as its notifier.

RFC 3515 §2.4.4 to §2.4.7, RFC 6665 §4.2. States::

    TELLING --word, refresh--> TELLING (NOTIFY active)
    TELLING --final word, Expires: 0, its time--> ENDING --last NOTIFY is answered, or is not--> SILENT
    TELLING --a NOTIFY is refused or unanswered--> SILENT;  Refer-Sub: false --> SILENT from the beginning

One NOTIFY is under way at a time, so that none overtakes another: what comes meanwhile waits, and the latest
word replaces an earlier one that still waits. The BYE of the call changes nothing (RFC 5589 §6.1), but that
nothing overtakes it either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.call.referrals import REFER, Usage, granted_to
from proxy.errors import RemoteProtocolError
from proxy.sip.events import ClientTransaction, RequestReceived
from proxy.sip.message import Request, Response
from proxy.sip.refer import SIPFRAG, sipfrag
from proxy.sip.subscription import EventType, SubscriptionState, SubscriptionStatus

if TYPE_CHECKING:
    from proxy.call.call import Call
    from proxy.call.leg import Leg

__all__ = ["ReferNotifier"]


class ReferNotifier:
    """The NOTIFYs of one REFER; the owner of their transactions."""

    __slots__ = (
        "_dialog",
        "_done",
        "_event",
        "_final",
        "_interval",
        "_leg",
        "_news",
        "_reason",
        "_referrals",
        "_status",
        "_told_end",
        "_under_way",
        "_usage",
    )

    def __init__(
        self, leg: Leg, refer: Request, done: Callable[[float], None], now: float, *, wanted: bool
    ) -> None:
        """``done`` is called when the final word has been heard, or can't be; ``wanted``: not RFC 4488's
        ``Refer-Sub: false``."""
        core, number = leg.call.core, refer.cseq.number
        self._leg = leg
        self._done: Callable[[float], None] | None = done
        self._event = EventType(REFER, str(number) if leg.referrals else "")
        leg.referrals += 1
        self._interval = core.config.subscriptions.interval
        self._referrals = core.referrals
        self._usage: Usage | None = None
        """None: SILENT."""
        assert leg.dialog is not None  # noqa: S101  (the REFER came within it)
        self._dialog = leg.dialog
        if wanted:
            self._usage = Usage(self._dialog, "SUBSCRIBE", number, self)
            self._referrals.enter(self._usage)
            self._referrals.lasts(self._usage, now + leg.call.config.ring_timeout)
        self._status = 100
        self._news = False
        self._final = False
        self._reason = ""  # why the subscription ends
        self._told_end = False
        self._under_way = False

    @property
    def call(self) -> Call:
        """The call that the transferor is in, or was."""
        return self._leg.call

    def tell(self, status: int, now: float, *, final: bool = False) -> None:
        """Tell how far the call has come."""
        self._status, self._final, self._news = status, final, True
        if final:
            self._reason = "noresource"
        self._go_on(now)

    def _go_on(self, now: float) -> None:
        if self._usage is not None:
            if self._news and not self._waits:
                self._notify(self._usage, now)
        elif self._final and self._done is not None:
            done, self._done = self._done, None
            done(now)

    @property
    def _waits(self) -> bool:
        """Whether something is under way that no NOTIFY may overtake."""
        return self._under_way or self._dialog.ends_call

    def _notify(self, usage: Usage, now: float) -> None:
        self._news = False
        if self._reason:
            self._told_end = True
            state = SubscriptionState(SubscriptionStatus.TERMINATED, reason=self._reason)
        else:
            state = SubscriptionState(SubscriptionStatus.ACTIVE, round(usage.deadline - now))
        transaction = self._leg.endpoint.request(
            self._dialog,
            "NOTIFY",
            headers=(("Event", str(self._event)), ("Subscription-State", str(state))),
            body=sipfrag(self._status),
            content_type=SIPFRAG,
            now=now,
        )
        transaction.owner = self
        self._under_way = True

    def responded(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """Take the final response to a NOTIFY: a refusal ends the subscription (RFC 6665 §4.2.2), never the
        transfer."""
        del transaction
        self._answered(now, taken=response.status < 300)

    def unanswered(self, transaction: object, now: float) -> None:
        """There is no response to a NOTIFY."""
        del transaction
        self._answered(now, taken=False)

    def _answered(self, now: float, *, taken: bool) -> None:
        self._under_way = False
        if self._told_end or not taken:
            self._leave()
        self._go_on(now)

    def _leave(self) -> None:
        if self._usage is not None:
            self._referrals.leave(self._usage)
            self._usage = None

    # The transferor -----------------------------------------------------------------------------------------

    def request(self, event: RequestReceived, now: float) -> None:
        """Answer a SUBSCRIBE: the subscription goes on for longer, or ends (RFC 3515 §2.4.4)."""
        endpoint, transaction, usage = self._leg.endpoint, event.transaction, self._usage
        if usage is None or self._reason:
            endpoint.respond(transaction, 481, now=now)
            return
        try:
            granted = granted_to(event, self._interval, endpoint, now)
        except RemoteProtocolError as error:
            endpoint.respond(transaction, error.status_hint, now=now)
            return
        if granted is None:
            return
        endpoint.respond(transaction, 200, headers=(("Expires", str(granted)),), now=now)
        if granted:
            self._referrals.lasts(usage, now + granted)
        else:
            self._reason = "timeout"
        # RFC 6665 §4.2.1.2: either way the state follows.
        self._news = True
        self._go_on(now)

    def resume(self, now: float) -> None:
        """The call is over: nothing overtakes its BYE any more."""
        self._go_on(now)

    def expired(self, now: float) -> None:
        """The subscription was not refreshed in time; while something is under way nothing more is said."""
        if self._waits:
            self._leave()
        else:
            self._reason, self._news = "timeout", True
            self._go_on(now)

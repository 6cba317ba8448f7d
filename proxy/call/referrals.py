"""The subscriptions that a REFER makes within the dialog of a call (RFC 3515 §2.4.4, RFC 5057 §3.1).

They share the dialog with the call and outlive its BYE, so neither call nor leg keeps them. This table finds
them by their dialog and the id of their Event, and knows how long they last.
"""

from __future__ import annotations

from typing import Protocol

from proxy.errors import RemoteProtocolError
from proxy.sip.dialog import Dialog
from proxy.sip.endpoint import Endpoint
from proxy.sip.events import RequestReceived
from proxy.sip.inspection import Refusal
from proxy.sip.subscription import EventType, Interval
from proxy.sip.timers import NEVER, Timed, TimerHeap

__all__ = ["REFER", "Referrals", "Usage", "granted_to"]

REFER = "refer"
"""The event package (RFC 3515 §2.4.1)."""


class Party(Protocol):
    """Whose subscription it is."""

    def request(self, event: RequestReceived, now: float) -> None:
        """Answer a request of the subscription."""
        ...

    def expired(self, now: float) -> None:
        """Its time is over."""
        ...

    def resume(self, now: float) -> None:
        """Send what has waited for the end of the call."""
        ...


class Usage(Timed):
    """One subscription, as one usage of its dialog. Its ``deadline`` is when it expires."""

    __slots__ = ("dialog", "id", "method", "party")

    def __init__(self, dialog: Dialog, method: str, number: int, party: Party) -> None:
        super().__init__()
        self.dialog = dialog
        self.method = method
        """What comes for it: SUBSCRIBE where the gate notifies, NOTIFY where it is told."""
        self.id = str(number)
        """CSeq of the REFER; the first one in a dialog goes without as well (RFC 3515 §2.4.6)."""
        self.party = party

    def fire(self, now: float) -> None:
        """End with its time."""
        self.party.expired(now)


class Referrals:
    """All of them."""

    __slots__ = ("_by_dialog", "_endpoint", "_timers")

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._by_dialog: dict[Dialog, list[Usage]] = {}
        self._timers = TimerHeap()

    def of(self, dialog: Dialog) -> list[Usage]:
        """Return those of one dialog, the oldest first."""
        return self._by_dialog.get(dialog, [])

    def enter(self, usage: Usage) -> None:
        """Begin one: its dialog outlives the BYE from now on."""
        self._by_dialog.setdefault(usage.dialog, []).append(usage)
        self._endpoint.share(usage.dialog)

    def lasts(self, usage: Usage, expires_at: float) -> None:
        """Note when one expires now."""
        self._timers.start(usage, expires_at)

    def leave(self, usage: Usage) -> None:
        """End one."""
        self._timers.stop(usage)
        usages = self._by_dialog[usage.dialog]
        usages.remove(usage)
        if not usages:
            del self._by_dialog[usage.dialog]
        self._endpoint.part(usage.dialog)

    def request(self, event: RequestReceived, dialog: Dialog, now: float) -> None:
        """Take a SUBSCRIBE or NOTIFY within the dialog of a call.

        Nothing but a REFER makes a subscription there (RFC 6665 §4.5.2).
        """
        status, request = 481, event.request
        try:
            asked = EventType.of(request)
        except RemoteProtocolError as error:
            status = error.status_hint
        else:
            for usage in self.of(dialog):
                named = asked.id in {"", usage.id}
                if asked.package == REFER and named and usage.method == request.method:
                    usage.party.request(event, now)
                    return
        self._endpoint.respond(event.transaction, status, now=now)

    def call_ended(self, dialog: Dialog, now: float) -> None:
        """Go on after the call of a dialog."""
        for usage in self.of(dialog)[:]:
            usage.party.resume(now)

    def handle_timer(self, now: float) -> None:
        """End what has expired."""
        self._timers.run(now)

    def next_timer(self) -> float:
        """Return when `handle_timer` is to be called next."""
        at = self._timers.next_deadline() if self._by_dialog else None
        return NEVER if at is None else at

    @property
    def idle(self) -> bool:
        """None is left."""
        return not self._by_dialog


def granted_to(event: RequestReceived, interval: Interval, endpoint: Endpoint, now: float) -> int | None:
    """Return for how long a SUBSCRIBE gets its subscription, 0 to end it; None: it was refused.

    Raises `RemoteProtocolError` for an Expires that is no number.
    """
    granted = interval.granted(event.request)
    if isinstance(granted, Refusal):
        endpoint.respond(event.transaction, granted.status, headers=granted.headers, now=now)
        return None
    return granted

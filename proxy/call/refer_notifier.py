"""What a transferor is told of the call that its REFER asked for: the implicit subscription.

RFC 3515 §2.4.4 to §2.4.7, RFC 6665 §4.2. One NOTIFY is under way at a time, so that none overtakes another:
what comes meanwhile waits, and the latest word replaces an earlier one that still waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.sip.dialog import DialogState
from proxy.sip.events import ClientTransaction
from proxy.sip.message import Response
from proxy.sip.refer import SIPFRAG, sipfrag

if TYPE_CHECKING:
    from proxy.call.call import Call
    from proxy.call.leg import Leg

__all__ = ["ReferNotifier"]


class ReferNotifier:
    """The NOTIFYs of one REFER; the owner of their transactions."""

    __slots__ = ("_done", "_due", "_event", "_expires", "_final", "_leg", "_under_way", "_wanted")

    def __init__(
        self, leg: Leg, event: str, expires: int, done: Callable[[float], None], *, wanted: bool
    ) -> None:
        """``done`` is called when the final word has been heard, or can't be; ``wanted``: not RFC 4488's
        ``Refer-Sub: false``."""
        self._leg = leg
        self._event = event
        self._expires = expires
        self._done: Callable[[float], None] | None = done
        self._wanted = wanted
        self._due = 0
        """The status that is to be told next, or 0."""
        self._final = False
        self._under_way = False

    @property
    def call(self) -> Call:
        """The call that the transferor is in."""
        return self._leg.call

    def tell(self, status: int, now: float, *, final: bool = False) -> None:
        """Tell how far the call has come."""
        self._due, self._final = status, final
        if not self._under_way:
            self._send(now)

    def _send(self, now: float) -> None:
        leg, status = self._leg, self._due
        dialog = leg.dialog
        if not self._wanted or leg.over or dialog is None or dialog.state is not DialogState.CONFIRMED:
            self._finish(now)
            return
        self._due = 0
        state = "terminated;reason=noresource" if self._final else f"active;expires={self._expires}"
        headers = (("Event", self._event), ("Subscription-State", state))
        transaction = leg.endpoint.request(
            dialog, "NOTIFY", headers=headers, body=sipfrag(status), content_type=SIPFRAG, now=now
        )
        transaction.owner = self
        self._under_way = True

    def responded(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """Take the final response to a NOTIFY: a refusal ends the subscription (RFC 6665 §4.2.2), never the
        transfer."""
        del transaction
        if response.status >= 300:
            self._wanted = False
        self._go_on(now)

    def unanswered(self, transaction: object, now: float) -> None:
        """There is no response to a NOTIFY."""
        del transaction
        self._wanted = False
        self._go_on(now)

    def _go_on(self, now: float) -> None:
        self._under_way = False
        if self._due:
            self._send(now)
        elif self._final:
            self._finish(now)

    def _finish(self, now: float) -> None:
        done = self._done
        if self._final and done is not None:
            self._done = None
            done(now)

    def stop(self) -> None:
        """Nobody is there to be told any more."""
        self._wanted = False
        self._done = None
        self._due = 0

"""A 2xx to an INVITE that waits for its ACK: RFC 3261 §13.3.1.4.

The TU's side of the Accepted state: the 2xx is sent again after T1, doubling up to T2, over any transport,
since the hops behind the first may be unreliable. Without an ACK for 64*T1 the TU is told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.sip.timers import Timed

if TYPE_CHECKING:
    from proxy.sip.dialog import Dialog
    from proxy.sip.invite_server import InviteServerTransaction
    from proxy.sip.non_invite_client import NonInviteClientTransaction
    from proxy.sip.transactions import TransactionLayer

__all__ = ["AwaitedAck"]


class AwaitedAck(Timed):
    """The wait for one ACK."""

    __slots__ = (
        "_data",
        "_interval",
        "_layer",
        "_limit",
        "_on_timeout",
        "_transaction",
        "cseq",
        "dialog",
        "held_bye",
    )

    def __init__(
        self,
        layer: TransactionLayer,
        dialog: Dialog,
        transaction: InviteServerTransaction,
        data: bytes,
        on_timeout: Callable[[AwaitedAck, float], None],
    ) -> None:
        super().__init__()
        self._layer = layer
        self._transaction = transaction
        self._data = data
        self._on_timeout = on_timeout
        self._interval = layer.config.t1
        self._limit = 0.0
        self.dialog = dialog
        self.cseq = transaction.lines.cseq
        """CSeq number of the INVITE and of its ACK."""
        self.held_bye: tuple[NonInviteClientTransaction, bytes] | None = None
        """A BYE of ours that may not go before the ACK has come or the wait is over (§15)."""

    def start(self, now: float) -> None:
        """Begin to wait: the 2xx has just been sent."""
        self._limit = now + 64 * self._layer.config.t1
        self._layer.timers.start(self, now + self._interval)

    def fire(self, now: float) -> None:
        """Send the 2xx again, or give up."""
        layer = self._layer
        if now >= self._limit:
            self._on_timeout(self, now)
            return
        # Over the transaction's flow, which follows a lost connection to its replacement (§18.2.2).
        layer.send(self._data, self._transaction.flow)
        self._interval = min(2 * self._interval, layer.config.t2)
        layer.timers.start(self, min(now + self._interval, self._limit))

    def stop(self) -> None:
        """Wait no longer."""
        self._layer.timers.stop(self)

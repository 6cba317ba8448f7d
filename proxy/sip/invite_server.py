"""INVITE server transaction: RFC 3261 §17.2.1 as corrected by RFC 6026 §7.1 and §8.7.

::

    Proceeding --2xx from TU--> Accepted --Timer L--> Terminated
       |
       +--300-699 from TU--> Completed --ACK--> Confirmed --Timer I--> Terminated
                                 +--Timer H (no ACK)--> Terminated

Timer G (unreliable transports): T1, doubling up to T2; Timer H: 64*T1; Timer I: T4 (0 when reliable); Timer
L: 64*T1. The retransmission of a 2xx is not here but in `accepted` (RFC 3261 §13.3.1.4).
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from proxy.sip.flow import Flow
from proxy.sip.timers import Timed

if TYPE_CHECKING:
    from proxy.sip.dialog import Dialog
    from proxy.sip.transactions import MergeKey, ServerKey, TransactionLayer
    from proxy.sip.writer import ResponseLines

__all__ = ["InviteServerState", "InviteServerTransaction"]


class InviteServerState(enum.Enum):
    """States of RFC 3261 figure 7 and RFC 6026 §7.1."""

    PROCEEDING = "Proceeding"
    COMPLETED = "Completed"
    CONFIRMED = "Confirmed"
    ACCEPTED = "Accepted"
    TERMINATED = "Terminated"


class InviteServerTransaction(Timed):
    """One INVITE that we received."""

    __slots__ = (
        "_interval",
        "_last",
        "_layer",
        "_timer_h",
        "branch",
        "dialog",
        "flow",
        "internal",
        "key",
        "lines",
        "merge_key",
        "owner",
        "state",
    )

    method = "INVITE"

    def __init__(
        self,
        layer: TransactionLayer,
        *,
        key: ServerKey,
        merge_key: MergeKey | None,
        flow: Flow,
        lines: ResponseLines,
    ) -> None:
        super().__init__()
        self._layer = layer
        self._last = b""
        self._interval = layer.config.t1
        self._timer_h = 0.0
        self.key = key
        self.merge_key = merge_key
        self.branch = lines.branch
        self.flow = flow
        """The way responses take."""
        self.lines = lines
        """The headers that responses repeat."""
        self.owner: object = None
        """Belongs to the TU."""
        self.dialog: Dialog | None = None
        """The dialog the INVITE came in, or the one that a response of the TU made."""
        self.internal = False
        """The endpoint refuses it by itself: the TU hears nothing of it."""
        self.state = InviteServerState.PROCEEDING

    @property
    def answered(self) -> bool:
        """Whether the final response was sent, or none can be sent any more."""
        return self.state is not InviteServerState.PROCEEDING

    def start(self, now: float) -> None:
        """Enter the tables; 100 (Trying) is due unless the TU answers in time (§17.2.1)."""
        self._layer.add_server(self)
        self._layer.timers.start(self, now + self._layer.config.trying_after)

    def receive_invite(self) -> None:
        """Take a retransmission: it gets the latest provisional response, or the refusal, again (§17.2.1)."""
        # In Accepted and Confirmed it is absorbed (RFC 6026 §7.1): there is nothing kept to send.
        if self._last:
            self._layer.send(self._last, self.flow)

    def receive_ack(self, now: float) -> bool:
        """Take an ACK that matches this transaction; returns whether it is for the TU (it confirms a 2xx)."""
        if self.state is InviteServerState.COMPLETED:
            self.state = InviteServerState.CONFIRMED
            self._last = b""
            if self.flow.reliable:
                self._terminate()
            else:
                self._layer.timers.start(self, now + self._layer.config.t4)
        return self.state is InviteServerState.ACCEPTED

    def respond(self, status: int, data: bytes, now: float) -> None:
        """Send a response of the TU; Proceeding only."""
        layer = self._layer
        timers = layer.timers
        layer.send(data, self.flow)
        if status < 200:
            self._last = data
            timers.stop(self)
        elif status < 300:
            self.state = InviteServerState.ACCEPTED
            self._last = b""
            timers.start(self, now + 64 * layer.config.t1)
        else:
            self.state = InviteServerState.COMPLETED
            self._last = data
            self._timer_h = now + 64 * layer.config.t1
            timers.start(self, self._timer_h if self.flow.reliable else now + self._interval)

    def fire(self, now: float) -> None:
        """100 is due (Proceeding), Timer G or H (Completed), I (Confirmed) or L (Accepted)."""
        layer = self._layer
        state = self.state
        if state is InviteServerState.PROCEEDING:
            layer.server_user.send_trying(self, now)
        elif state is not InviteServerState.COMPLETED:
            self._terminate()
            # The TU hears nothing of this end: its owner would tie a ring of references.
            self.owner = None
        elif now < self._timer_h:
            layer.send(self._last, self.flow)
            self._interval = min(2 * self._interval, layer.config.t2)
            layer.timers.start(self, min(now + self._interval, self._timer_h))
        else:
            self._terminate()
            layer.server_user.server_failed(self, now)

    def transport_failed(self, now: float) -> None:
        """No response can be delivered any more (§17.2.4); in Accepted Timer L goes on (RFC 6026 §8.9)."""
        state = self.state
        if state is InviteServerState.PROCEEDING or state is InviteServerState.COMPLETED:
            self._terminate()
            self._layer.server_user.server_failed(self, now)

    def discard(self) -> None:
        """Forget the transaction at once: its refusal was stateless (§8.2.7)."""
        self._terminate()

    def _terminate(self) -> None:
        self.state = InviteServerState.TERMINATED
        self._last = b""
        self._layer.remove_server(self)

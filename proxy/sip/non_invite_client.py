"""Non-INVITE client transaction: RFC 3261 §17.1.2.

::

    Trying --1xx--> Proceeding --200-699--> Completed --Timer K--> Terminated
       |  \\--200-699------------------------^
       +--Timer F or transport error (also in Proceeding)--> Terminated

Timer E (unreliable transports): T1, doubling up to T2, in Proceeding T2; Timer F: 64*T1; Timer K: T4 (0
when reliable). Where a failure leaves another address to go to, it begins anew there (`proxy.sip.further`).
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from proxy.sip.flow import Flow, Transmit
from proxy.sip.further import PATIENCE
from proxy.sip.timers import Timed

if TYPE_CHECKING:
    from proxy.sip.dialog import Dialog
    from proxy.sip.further import Further
    from proxy.sip.large import Outgoing
    from proxy.sip.transactions import TransactionLayer

__all__ = ["NonInviteClientState", "NonInviteClientTransaction"]


class NonInviteClientState(enum.Enum):
    """States of RFC 3261 figure 6."""

    TRYING = "Trying"
    PROCEEDING = "Proceeding"
    COMPLETED = "Completed"
    TERMINATED = "Terminated"


class NonInviteClientTransaction(Timed):
    """One request other than INVITE and ACK that we sent."""

    __slots__ = (
        "_data",
        "_interval",
        "_layer",
        "_otherwise",
        "_timer_f",
        "branch",
        "call_id",
        "cseq",
        "dialog",
        "flow",
        "further",
        "internal",
        "local_tag",
        "method",
        "owner",
        "state",
        "until",
    )

    def __init__(
        self,
        layer: TransactionLayer,
        method: str,
        branch: str,
        flow: Flow,
        *,
        call_id: str,
        local_tag: str,
        cseq: int,
        owner: object = None,
        dialog: Dialog | None = None,
        internal: bool = False,
    ) -> None:
        super().__init__()
        self._layer = layer
        self._data = b""
        self._interval = layer.config.t1
        self._timer_f = 0.0
        self.until = 0.0
        """End of Timer F, whatever becomes of single addresses."""
        self._otherwise: Outgoing | None = None
        self.method = method
        self.branch = branch
        self.flow = flow
        self.call_id = call_id
        self.local_tag = local_tag
        self.cseq = cseq
        self.owner = owner
        """Belongs to the TU."""
        self.dialog = dialog
        """The dialog the request was sent in, if any."""
        self.internal = internal
        """The endpoint's own request (CANCEL): the TU hears nothing of it."""
        self.further: Further | None = None
        """Where it may go on, until the peer has said anything."""
        self.state = NonInviteClientState.TRYING

    @property
    def completed(self) -> bool:
        """Whether a final response came, or none will."""
        return self.state not in _PENDING

    def start(self, data: bytes, now: float, otherwise: Outgoing | None = None, trial: float = 0.0) -> None:
        """Send the request: Trying (§17.1.2.2); ``otherwise`` is what goes out if that does not work,
        or has brought nothing after ``trial``."""
        layer = self._layer
        layer.add_client(self)
        self._data = data
        self._otherwise = otherwise
        t1 = layer.config.t1
        self.until = self._timer_f = self.until or now + 64 * t1
        if self.further is not None:
            self._timer_f = min(now + PATIENCE * t1, self.until)
        layer.send(data, self.flow)
        if otherwise is not None:
            layer.timers.start(self, now + trial)
        else:
            layer.timers.start(self, self._timer_f if self.flow.reliable else now + self._interval)

    def go_on(
        self, branch: str, first: Outgoing, now: float, otherwise: Outgoing | None, trial: float
    ) -> None:
        """Begin anew at another address, after the failure at the one before (RFC 3263 §4.3)."""
        if self.flow.reliable:
            self._layer.withdrawn.append(Transmit(self._data, self.flow))
        self.branch, self.flow = branch, first.flow
        self.state = NonInviteClientState.TRYING
        self._interval = self._layer.config.t1
        self.start(first.data, now, otherwise, trial)

    def abandon(self) -> None:
        """End a transaction that was never started: its request is no longer needed."""
        self.state = NonInviteClientState.TERMINATED

    def receive(self, status: int, now: float) -> bool:
        """Take a response; returns whether it is for the TU."""
        if self.state is NonInviteClientState.COMPLETED:
            return False
        layer = self._layer
        if status < 200:
            self.state = NonInviteClientState.PROCEEDING
            if self._otherwise is not None or self.further is not None:
                self._otherwise = self.further = None
                self._timer_f = self.until
                if self.flow.reliable:
                    layer.timers.start(self, self._timer_f)
            return True
        self.state = NonInviteClientState.COMPLETED
        self._data = b""
        self._otherwise = self.further = None
        layer.client_answered(self)
        if self.flow.reliable:
            self._terminate()
        else:
            layer.timers.start(self, now + layer.config.t4)
        return True

    def fire(self, now: float) -> None:
        """Timer E or F (Trying, Proceeding) or K (Completed)."""
        layer = self._layer
        if self.state is NonInviteClientState.COMPLETED:
            self._terminate()
        elif now >= self._timer_f:
            self.state = NonInviteClientState.TERMINATED
            layer.remove_client(self)
            layer.client_user.client_timed_out(self, now)
        elif self._otherwise is not None:
            self._fall_back(self._otherwise, now)
        else:
            t2 = layer.config.t2
            layer.send(self._data, self.flow)
            if self.state is NonInviteClientState.PROCEEDING:
                self._interval = t2
            else:
                self._interval = min(2 * self._interval, t2)
            layer.timers.start(self, min(now + self._interval, self._timer_f))

    def transport_failed(self, now: float) -> None:
        """The transport gave the request up: Trying or Proceeding to Terminated (§17.1.4)."""
        if self._otherwise is not None:
            self._fall_back(self._otherwise, now)
            return
        self.state = NonInviteClientState.TERMINATED
        self._layer.remove_client(self)
        self._layer.client_user.client_failed(self, now)

    def _fall_back(self, otherwise: Outgoing, now: float) -> None:
        """Send the request by the transport that it was too large for (§18.1.1)."""
        layer = self._layer
        self._otherwise = None
        layer.client_falls_back(self, self._data, otherwise.flow, now)
        self._data = otherwise.data
        layer.send(self._data, self.flow)
        layer.timers.start(self, min(now + self._interval, self._timer_f))

    def _terminate(self) -> None:
        self.state = NonInviteClientState.TERMINATED
        self._layer.remove_client(self)


_PENDING = frozenset({NonInviteClientState.TRYING, NonInviteClientState.PROCEEDING})

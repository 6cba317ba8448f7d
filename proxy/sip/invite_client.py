"""INVITE client transaction: RFC 3261 §17.1.1 as corrected by RFC 6026 §7.2 and §8.4.

::

    Calling --1xx--> Proceeding --2xx--> Accepted --Timer M--> Terminated
       |  \\--2xx------------------------^
       |   \\--300-699 (ACK)--> Completed --Timer D--> Terminated
       +--Timer B or transport error--> Terminated

Timer A (unreliable transports): T1, doubling; Timer B: 64*T1; Timer D: at least 32 s (0 when reliable);
Timer M: 64*T1. An INVITE that went over TCP for its size only is on trial there (`proxy.sip.large`); a
re-INVITE whose address fails begins anew at another one, if there is any (`proxy.sip.further`).
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from proxy.sip.flow import Flow, Transmit
from proxy.sip.further import PATIENCE
from proxy.sip.large import LargeRequests
from proxy.sip.timers import Timed

if TYPE_CHECKING:
    from proxy.sip.dialog import Dialog
    from proxy.sip.further import Further
    from proxy.sip.large import Outgoing
    from proxy.sip.transactions import TransactionLayer
    from proxy.sip.writer import RequestLines

__all__ = ["InviteClientState", "InviteClientTransaction"]

_TIMER_D = 32.0
"""Seconds at least, whatever T1 is (RFC 3261 §17.1.1.2)."""


class InviteClientState(enum.Enum):
    """States of RFC 3261 figure 5 and RFC 6026 §7.2."""

    CALLING = "Calling"
    PROCEEDING = "Proceeding"
    COMPLETED = "Completed"
    ACCEPTED = "Accepted"
    TERMINATED = "Terminated"


class InviteClientTransaction(Timed):
    """One INVITE that we sent."""

    __slots__ = (
        "_ack",
        "_data",
        "_interval",
        "_layer",
        "_orphaned",
        "_otherwise",
        "_timer_b",
        "branch",
        "cancel_extra",
        "cancelled",
        "contact_user",
        "dialog",
        "dialog_flow",
        "dialogs",
        "flow",
        "further",
        "large",
        "lines",
        "owner",
        "reinvite",
        "state",
        "until",
    )

    method = "INVITE"

    def __init__(
        self, layer: TransactionLayer, lines: RequestLines, branch: str, flow: Flow, owner: object
    ) -> None:
        super().__init__()
        self._layer = layer
        self._data = b""
        self._ack = b""
        self._interval = layer.config.t1
        self._timer_b = 0.0
        self.until = 0.0
        """End of Timer B, whatever becomes of single addresses."""
        self._otherwise: Outgoing | None = None
        self.lines = lines
        """The headers that ACK and CANCEL repeat."""
        self.branch = branch
        self.flow = flow
        self.dialog_flow: Flow | None = None
        """Where requests of its dialogs go when `flow` was chosen for the size of the INVITE only."""
        self.large = LargeRequests.UDP
        """As in its `InviteSpec`."""
        self.contact_user = ""
        """As in its `InviteSpec`."""
        self.owner = owner
        """Belongs to the TU."""
        self.state = InviteClientState.CALLING
        self.dialog: Dialog | None = None
        """The dialog of a re-INVITE; for an initial INVITE the dialog of the first 2xx."""
        self.dialogs: list[Dialog] = []
        """Dialogs made by responses to an initial INVITE, one per To tag (RFC 3261 §12.1.2)."""
        self.cancelled = False
        """The TU asked for a CANCEL."""
        self.cancel_extra = ""
        """Header lines of the CANCEL, which may wait for the first provisional response (§9.1)."""
        self._orphaned = False
        self.further: Further | None = None
        """Where it may go on, until the peer has said anything."""
        self.reinvite = False
        """Whether the INVITE was sent within a dialog."""

    @property
    def call_id(self) -> str:
        """Call-ID of the INVITE."""
        return self.lines.call_id

    @property
    def local_tag(self) -> str:
        """From tag of the INVITE."""
        return self.lines.local_tag

    @property
    def cseq(self) -> int:
        """CSeq number of the INVITE."""
        return self.lines.cseq

    @property
    def completed(self) -> bool:
        """Whether a final response came, or none will."""
        return self.state not in _PENDING

    def start(self, data: bytes, now: float, otherwise: Outgoing | None = None, trial: float = 0.0) -> None:
        """Send the INVITE: Calling (§17.1.1.2); ``otherwise`` is what goes out if that does not work,
        or has brought nothing after ``trial``."""
        layer = self._layer
        layer.add_client(self)
        self._data = data
        self._otherwise = otherwise
        t1 = layer.config.t1
        self.until = self._timer_b = self.until or now + 64 * t1
        if self.further is not None:
            self._timer_b = min(now + PATIENCE * t1, self.until)
        layer.send(data, self.flow)
        if otherwise is not None:
            layer.timers.start(self, now + trial)
        else:
            layer.timers.start(self, self._timer_b if self.flow.reliable else now + self._interval)

    def go_on(
        self, branch: str, first: Outgoing, now: float, otherwise: Outgoing | None, trial: float
    ) -> None:
        """Begin anew at another address, after the failure at the one before (RFC 3263 §4.3)."""
        if self.flow.reliable:
            self._layer.withdrawn.append(Transmit(self._data, self.flow))
        self.branch, self.flow, self.lines = branch, first.flow, first.lines
        self.state = InviteClientState.CALLING
        self._interval = self._layer.config.t1
        self.start(first.data, now, otherwise, trial)

    def receive(self, status: int, to: str, now: float) -> bool:
        """Take a response with this To value; returns whether it is for the TU."""
        state = self.state
        if state is InviteClientState.CALLING or state is InviteClientState.PROCEEDING:
            return self._receive_pending(status, to, now)
        if state is InviteClientState.COMPLETED:
            if status >= 300:
                self._layer.send(self._ack, self.flow)
            return False
        # Accepted: every 2xx is the TU's, repeated and forked ones alike (RFC 6026 §8.4).
        return 200 <= status < 300

    def _receive_pending(self, status: int, to: str, now: float) -> bool:
        layer = self._layer
        self.further = None
        if status < 200:
            if self.state is InviteClientState.CALLING:
                self.state = InviteClientState.PROCEEDING
                self._data = b""
                self._otherwise = None
                layer.timers.stop(self)
                if self.cancelled:
                    layer.client_user.provisional_received(self, now)
                elif self._orphaned:
                    self.expect_end(now)
            return True
        layer.client_answered(self)
        self._data = b""
        self._otherwise = None
        if status < 300:
            self.state = InviteClientState.ACCEPTED
            layer.timers.start(self, now + 64 * layer.config.t1)
            return True
        self.state = InviteClientState.COMPLETED
        self._ack = self.lines.ack(to)
        layer.send(self._ack, self.flow)
        if self.flow.reliable:
            self._terminate()
        else:
            layer.timers.start(self, now + max(_TIMER_D, 64 * layer.config.t1))
        return True

    def dialog_ended(self, now: float) -> None:
        """The dialog of a re-INVITE has ended by BYE: a peer that forgets to answer (§15.1.2) is not awaited
        for ever."""
        self._orphaned = self.reinvite
        if self._orphaned and self.state is InviteClientState.PROCEEDING:
            self.expect_end(now)

    def expect_end(self, now: float) -> None:
        """Wait for the final response no longer than 64*T1: after a CANCEL (§9.1), or a BYE."""
        self._layer.timers.start(self, now + 64 * self._layer.config.t1)

    def fire(self, now: float) -> None:
        """Timer A or B (Calling), the wait after a CANCEL (Proceeding), D (Completed) or M (Accepted)."""
        layer = self._layer
        state = self.state
        if self._otherwise is not None:
            self._fall_back(self._otherwise, now)
        elif state is InviteClientState.CALLING and now < self._timer_b:
            layer.send(self._data, self.flow)
            self._interval *= 2
            layer.timers.start(self, min(now + self._interval, self._timer_b))
        elif state is InviteClientState.CALLING or state is InviteClientState.PROCEEDING:
            self.state = InviteClientState.TERMINATED
            layer.remove_client(self)
            layer.client_user.client_timed_out(self, now)
        else:
            self._terminate()
            if state is InviteClientState.ACCEPTED:
                layer.client_user.invite_settled(self)
            # The TU hears nothing of this end: its owner would tie a ring of references.
            self.owner = None

    def transport_failed(self, now: float) -> None:
        """The transport gave the request up: Calling or Proceeding to Terminated (§17.1.4)."""
        if self._otherwise is not None:
            self._fall_back(self._otherwise, now)
            return
        self.state = InviteClientState.TERMINATED
        self._layer.remove_client(self)
        self._layer.client_user.client_failed(self, now)

    def _fall_back(self, otherwise: Outgoing, now: float) -> None:
        """Send the INVITE by the transport that it was too large for (§18.1.1)."""
        layer = self._layer
        self._otherwise = None
        data = self._data
        self.lines, self._data, flow = otherwise
        layer.client_falls_back(self, data, flow, now)
        layer.send(self._data, flow)
        layer.timers.start(self, min(now + self._interval, self._timer_b))

    def _terminate(self) -> None:
        self.state = InviteClientState.TERMINATED
        self._layer.remove_client(self)


_PENDING = frozenset({InviteClientState.CALLING, InviteClientState.PROCEEDING})

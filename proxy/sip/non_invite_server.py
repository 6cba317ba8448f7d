"""Non-INVITE server transaction: RFC 3261 §17.2.2.

::

    Trying --1xx from TU--> Proceeding --200-699 from TU--> Completed --Timer J--> Terminated
       \\--200-699 from TU-----------------------------------^

Timer J: 64*T1 (0 when reliable).
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

__all__ = ["NonInviteServerState", "NonInviteServerTransaction"]


class NonInviteServerState(enum.Enum):
    """States of RFC 3261 figure 8."""

    TRYING = "Trying"
    PROCEEDING = "Proceeding"
    COMPLETED = "Completed"
    TERMINATED = "Terminated"


class NonInviteServerTransaction(Timed):
    """One request other than INVITE and ACK that we received."""

    __slots__ = (
        "_last",
        "_layer",
        "branch",
        "dialog",
        "flow",
        "internal",
        "key",
        "lines",
        "merge_key",
        "method",
        "owner",
        "state",
    )

    def __init__(
        self,
        layer: TransactionLayer,
        method: str,
        *,
        key: ServerKey,
        merge_key: MergeKey | None,
        flow: Flow,
        lines: ResponseLines,
    ) -> None:
        super().__init__()
        self._layer = layer
        self._last = b""
        self.method = method
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
        """The dialog the request came in, if any."""
        self.internal = False
        """The endpoint refuses it by itself: the TU hears nothing of it."""
        self.state = NonInviteServerState.TRYING

    @property
    def answered(self) -> bool:
        """Whether the final response was sent, or none can be sent any more."""
        return (
            self.state is not NonInviteServerState.TRYING
            and self.state is not NonInviteServerState.PROCEEDING
        )

    def start(self, now: float) -> None:
        """Enter the tables: Trying, which knows no timer."""
        del now
        self._layer.add_server(self)

    def receive_request(self) -> None:
        """Take a retransmission: absorbed in Trying, answered with the latest response later (§17.2.2)."""
        if self._last:
            self._layer.send(self._last, self.flow)

    def respond(self, status: int, data: bytes, now: float) -> None:
        """Send a response of the TU; Trying and Proceeding only."""
        layer = self._layer
        layer.send(data, self.flow)
        if status < 200:
            self.state = NonInviteServerState.PROCEEDING
            self._last = data
        elif self.flow.reliable:
            self._terminate()
        else:
            self.state = NonInviteServerState.COMPLETED
            self._last = data
            layer.timers.start(self, now + 64 * layer.config.t1)

    def fire(self, now: float) -> None:
        """Timer J (Completed)."""
        self._terminate()

    def transport_failed(self, now: float) -> None:
        """No response can be delivered any more (§17.2.4)."""
        self._terminate()
        self._layer.server_user.server_failed(self, now)

    def discard(self) -> None:
        """Forget the transaction at once: its refusal was stateless (§8.2.7)."""
        self._terminate()

    def _terminate(self) -> None:
        self.state = NonInviteServerState.TERMINATED
        self._last = b""
        self._layer.remove_server(self)

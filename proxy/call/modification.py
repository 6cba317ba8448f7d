"""A re-INVITE or UPDATE of the gate's own within a dialog, with its repetitions, until it has one outcome.

RFC 3261 §14.1 and §22.2, RFC 3311 §5.1. States::

    SENT --401, 407 (answered), 422--> SENT
    SENT --final response, silence--> done
    SENT --2xx with the peer's offer--> ACK DUE --ACK with the answer--> done     (re-INVITE without SDP)

Neither a 491 nor a refusal is tried again here: whoever wanted the change knows whether it still does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.sip.dialog import Dialog
from proxy.sip.events import ClientTransaction
from proxy.sip.invite_client import InviteClientTransaction
from proxy.sip.message import Response
from proxy.sip.timers import NEVER

if TYPE_CHECKING:
    from proxy.call.leg import Leg

__all__ = ["Modification", "Outcome"]

Outcome = Callable[[int, Response | None, float], None]
"""Called once with the final status (0: silence), its response and the time."""

_PATIENCE = 96
"""In units of T1: a re-INVITE that has but provisional responses by then is cancelled. Timer B knows of total
silence only, and whoever asked for the change waits."""


class Modification:
    """One request that refreshes or changes a session."""

    __slots__ = ("_ack_due", "_attempt", "_body", "_leg", "_outcome", "deadline", "method", "transaction")

    transaction: ClientTransaction
    """The latest one; its responses are this object's."""

    def __init__(self, leg: Leg, method: str, body: bytes, outcome: Outcome, now: float) -> None:
        """Send it. ``body`` is an offer; a re-INVITE without one asks the peer for its own."""
        self._leg = leg
        self._body = body
        self._outcome = outcome
        self._attempt = leg.attempt()
        self._ack_due: Dialog | None = None
        self.method = method
        self.deadline = NEVER
        """When `handle_timer` has something to do."""
        self._send(now)

    @property
    def offers(self) -> bool:
        """An offer is on its way, in one direction or the other (RFC 3264 §4)."""
        return self.method == "INVITE" or bool(self._body)

    def _send(self, now: float) -> None:
        leg = self._leg
        assert leg.dialog is not None  # noqa: S101  (only what is established is modified)
        headers = list(leg.session.request_headers())
        if self._attempt is not None:
            headers += self._attempt.headers(self.method, leg.dialog.request_uri)
        if self.method == "INVITE":
            self.deadline = now + _PATIENCE * leg.endpoint.config.t1
        self.transaction = leg.endpoint.request(
            leg.dialog, self.method, headers=headers, body=self._body, now=now
        )

    def responded(self, response: Response, dialog: Dialog | None, now: float) -> None:
        """Take a response."""
        status, leg = response.status, self._leg
        if status < 200:
            return
        if not leg.over and self._may_repeat(response):
            self._send(now)
        elif status >= 300:
            self._done(status, response, now)
        else:
            leg.heard(response)
            leg.session.accepted(response, now)
            if self.method == "INVITE":
                assert dialog is not None  # noqa: S101  (every 2xx to an INVITE comes with it)
                if not self._body:
                    self.deadline = NEVER
                    self._ack_due = dialog
                    self._outcome(status, response, now)
                    return
                leg.endpoint.ack(dialog, now=now)
            self._done(status, response, now)

    def _may_repeat(self, response: Response) -> bool:
        """Take a refusal that says how the same request would do (§22.2, RFC 4028 §7.3)."""
        if response.status == 422:
            return self._leg.session.too_small(response)
        return self._attempt is not None and self._attempt.may_repeat(response)

    def acknowledge(self, answer: bytes, now: float) -> None:
        """Send the ACK with the answer to the peer's offer (RFC 3261 §13.2.2.4)."""
        assert self._ack_due is not None  # noqa: S101  (the outcome told of the offer)
        self._leg.endpoint.ack(self._ack_due, body=answer, now=now)
        self._leg.modification = None

    def unanswered(self, status: int, now: float) -> None:
        """No final response will come: 0 for silence, or the status that stands for it (§8.1.3.1)."""
        self._done(status, None, now)

    def cancel(self, now: float) -> None:
        """Take a re-INVITE back as far as that is still possible (§9.1)."""
        if isinstance(self.transaction, InviteClientTransaction):
            self._leg.endpoint.cancel(self.transaction, now=now)

    def handle_timer(self, now: float) -> None:
        """Wait no longer for a re-INVITE that nobody decides about; its 487 or silence is the outcome."""
        self.deadline = NEVER
        self.cancel(now)

    def _done(self, status: int, response: Response | None, now: float) -> None:
        self.deadline = NEVER
        self._leg.modification = None
        self._outcome(status, response, now)

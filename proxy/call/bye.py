"""The BYE of one dialog (RFC 3261 §15.1.1), with its repetition where its peer asks who sends it (§22.2).

A dialog whose BYE stays refused goes on at a carrier, which counts it as a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.sip.dialog import Dialog
    from proxy.sip.digest_client import DigestAttempt
    from proxy.sip.endpoint import Endpoint
    from proxy.sip.message import Response

__all__ = ["Bye"]


class Bye:
    """One BYE; what it is refused with otherwise changes nothing."""

    __slots__ = ("_attempt", "_endpoint", "_headers", "dialog")

    def __init__(
        self,
        endpoint: Endpoint,
        dialog: Dialog,
        headers: tuple[tuple[str, str], ...],
        attempt: DigestAttempt | None,
        now: float,
    ) -> None:
        self._endpoint = endpoint
        self.dialog = dialog
        """The responses to a BYE within it are this object's. A transaction would lead to the leg that keeps
        this object: a ring."""
        self._headers = headers
        self._attempt = attempt
        self._send(now)

    def _send(self, now: float, *, again: bool = False) -> None:
        dialog, headers = self.dialog, self._headers
        if self._attempt is not None:
            headers += self._attempt.headers("BYE", dialog.request_uri)
        self._endpoint.request(dialog, "BYE", headers=headers, again=again, now=now)

    def responded(self, response: Response, now: float) -> None:
        """Take a response."""
        if self._attempt is not None and self._attempt.may_repeat(response):
            self._send(now, again=True)

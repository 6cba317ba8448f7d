"""Keys on their way to a peer that takes them as INFO (RFC 6086 §1: legacy usage, which has no package).

One at a time: INFO requests that overtake each other would change what was dialled. Each key is told once:
one that the peer refuses goes the usual way (telephone-event or tone), and so does every later one.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from proxy.call.state import CallState
from proxy.dtmf.info import DTMF_RELAY, build_info
from proxy.sip.events import ClientTransaction
from proxy.sip.timers import NEVER

if TYPE_CHECKING:
    from proxy.call.call import Call
    from proxy.call.leg import Leg
    from proxy.sip.digest_client import DigestAttempt
    from proxy.sip.message import Response

__all__ = ["InfoKeys", "convert_keys"]

_WAITING = 32
"""Keys that wait for those before them; nobody types more ahead."""


class InfoKeys:
    """The keys of one leg; ``leg`` is always that leg."""

    __slots__ = ("_attempt", "_keys", "refused", "transaction")

    def __init__(self) -> None:
        self._keys: deque[tuple[str, int]] = deque()
        """The first one is under way."""
        self._attempt: DigestAttempt | None = None
        self.transaction: ClientTransaction | None = None
        self.refused = False
        """The peer takes no keys this way."""

    def send(self, leg: Leg, digit: str, duration_ms: int, now: float) -> None:
        """Tell a key, now or after those that are under way."""
        if len(self._keys) < _WAITING:
            self._keys.append((digit, duration_ms))
            if self.transaction is None:
                self._attempt = leg.attempt()
                self._request(leg, now)

    def responded(self, leg: Leg, response: Response, now: float) -> None:
        """Take a response to the INFO that is under way."""
        status = response.status
        if status < 200:
            return
        if leg.over:
            self.unanswered()
            return
        if self._attempt is not None and self._attempt.may_repeat(response):
            self._request(leg, now)
            return
        if status >= 300:
            self.refused = True
            convert_keys(leg.call)
            while self._keys:
                leg.play_key(*self._keys.popleft())
        self._next(leg, now)

    def unanswered(self) -> None:
        """Forget all: whether the key arrived nobody knows, and what waited behind it is stale."""
        self._keys.clear()
        self.transaction = None

    def _next(self, leg: Leg, now: float) -> None:
        self.transaction = None
        if self._keys:
            self._keys.popleft()
        if self._keys:
            self._attempt = leg.attempt()
            self._request(leg, now)

    def _request(self, leg: Leg, now: float) -> None:
        assert leg.dialog is not None  # noqa: S101  (only who talks is told keys)
        dialog = leg.dialog
        body = build_info(*self._keys[0])
        headers = () if self._attempt is None else self._attempt.headers("INFO", dialog.request_uri)
        self.transaction = leg.endpoint.request(
            dialog, "INFO", headers=headers, body=body, content_type=DTMF_RELAY, now=now
        )


def convert_keys(call: Call) -> None:
    """In talk, hear the keys of whoever speaks with a peer that is told keys as INFO.

    Otherwise the engine relays them with the media, which keeps their time.
    """
    if call.state is not CallState.TALKING or call.b is None:
        return
    a, b = call.a, call.b
    for leg, other in ((a, b), (b, a)):
        if leg.media is None or not leg.media.bridged:
            continue
        if leg is a and call.leftovers_until < NEVER:
            continue  # it is listened to, so that they go nowhere
        if not other.takes_info:
            leg.media.listen_no_more()
        elif not leg.media.listening:
            leg.media.listen(inband=False)

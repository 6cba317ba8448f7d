"""More datagrams than one wake-up of the event loop takes: what goes first, and who is told at once that
there is no time for it.

What belongs to calls that were let in (ACKs, responses, BYEs ...) goes first. What begins something new has
the time that this leaves, of peers and registered phones before that of strangers. A crowd that comes and
goes within `STANDING` seconds is only late. One that stands is overload: from then on a new request that has
waited for `PATIENCE` seconds is declined, which costs a fraction of a call, until nobody has had to be for as
long. So the gate finds out its capacity by itself, and what it answers, it answers soon (as CoDel does with
packets, RFC 8289).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from proxy.sip.flow import Flow
from proxy.sip.uas import DECLINED

__all__ = ["MOST_WAITING", "Crowd", "Deliver"]

logger = logging.getLogger(__name__)

TURN = 0.02
"""Seconds that a turn of the event loop may take while there is overload."""
PATIENCE = 0.02
"""How long a new request waits then."""
STANDING = 1.0
"""Seconds after which a crowd is overload, and after which overload is over."""
FEW = 64
"""Datagrams of either kind that a turn takes in any case."""
MANY = 512
"""Requests declined in one turn."""
MOST_WAITING = 8_192
"""Datagrams kept here; what is more waits in the kernel, which drops when its buffer is full."""

_NEW = (b"INVITE ", b"REGISTER ", b"OPTIONS ", b"SUBSCRIBE ")
"""How a datagram begins that may begin something; a re-INVITE among them is only late."""

_OF_DECLINED = f";tag={DECLINED}".encode()

Deliver = Callable[[bytes, Flow], None]


class Crowd:
    """Datagrams of one socket that wait.

    ``decline(data, flow)`` answers a request with 503, or delivers it when it is nothing new or a call for
    help; returns whether it was declined. ``is_known`` says of a host whether peers or phones are there.
    """

    def __init__(
        self,
        deliver: Deliver,
        decline: Callable[[bytes, Flow], bool],
        is_known: Callable[[str], bool],
        clock: Callable[[], float],
    ) -> None:
        self.declined = 0
        self._deliver = deliver
        self._decline = decline
        self._is_known = is_known
        self._clock = clock
        self._others: deque[tuple[bytes, Flow]] = deque()
        self._known: deque[tuple[float, bytes, Flow]] = deque()
        self._strangers: deque[tuple[float, bytes, Flow]] = deque()
        self._since = 0.0
        """When the crowd has come."""
        self._left_at = 0.0
        """When the last turn ended."""
        self._overload_until = 0.0

    def __len__(self) -> int:
        return len(self._others) + len(self._known) + len(self._strangers)

    @property
    def calm(self) -> bool:
        """Nobody waits, and there is no overload: whatever comes may be taken as it comes."""
        return not self and not self._overload_until

    def add(self, data: bytes, flow: Flow) -> None:
        """Let a datagram wait for its turn. The ACK of what was declined has nobody waiting for it."""
        if data.startswith(b"ACK ") and _OF_DECLINED in data:
            return
        if data.startswith(_NEW):
            new = self._known if self._is_known(flow.remote_host) else self._strangers
            new.append((self._clock(), data, flow))
        else:
            self._others.append((data, flow))

    def turn(self) -> None:
        """Deliver and decline what this turn of the event loop has time for."""
        now = self._clock()
        if not self._left_at:
            self._since = now
        elif now - self._since >= STANDING and not self._overload_until:
            self._overload_until = now + STANDING
            logger.warning("overload: new requests get 503")
        # What the loop has done since the last turn belongs to calls that were let in: new ones get the rest.
        until = (self._left_at or now) + TURN
        self._deliver_others(now + TURN)
        self._deliver_new(until)
        if self._overload_until:
            self._decline_late()
        self._left_at = self._clock() if self else 0.0

    def _deliver_others(self, until: float) -> None:
        others, taken = self._others, 0
        while others and (taken < FEW or self._clock() < until):
            self._deliver(*others.popleft())
            taken += 1

    def _deliver_new(self, until: float) -> None:
        left = 0 if self._overload_until else FEW
        for new in (self._known, self._strangers):
            while new and (left > 0 or self._clock() < until):
                _, data, flow = new.popleft()
                self._deliver(data, flow)
                left -= 1

    def _decline_late(self) -> None:
        now = self._clock()
        late, left = now - PATIENCE, MANY
        for new in (self._known, self._strangers):
            while new and new[0][0] <= late and left:
                _, data, flow = new.popleft()
                left -= 1
                if self._decline(data, flow):
                    self.declined += 1
                    self._overload_until = now + STANDING
        if now >= self._overload_until:
            self._overload_until = 0.0
            logger.warning("the overload is over; %d requests were declined so far", self.declined)

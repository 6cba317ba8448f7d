"""More messages than one turn of the event loop takes: what goes first, and who is told at once that there is
no time for it.

What belongs to calls of peers and registered phones goes first: responses, ACKs, requests within dialogs.
Whatever else they send has the time that this leaves, and strangers what that leaves, whatever they send:
anybody can write a tag or a method. Strangers have half of the room at most, so that theirs is lost before
the others'. A crowd whose oldest message has waited for less than `LATE` seconds at some moment of each
`STANDING` ones is only late: so it is in any second in which the gate has little time to spare. One that is
never so near its end is overload: from then on a new request that has waited for `PATIENCE` seconds is
declined, which costs a fraction of a call, until nobody has had to be for as long. So the gate finds out its
capacity by itself, and what it answers, it answers soon (as CoDel does with packets, RFC 8289).
"""

from __future__ import annotations

import logging
import re
from collections import Counter, deque
from collections.abc import Callable

from proxy.sip.declining import DECLINED
from proxy.sip.flow import Flow

__all__ = ["MOST_WAITING", "Crowd", "Deliver"]

logger = logging.getLogger(__name__)

TURN = 0.015
"""Seconds that a turn of the event loop may take while there is overload; declining has as many again."""
AT_LEAST = TURN / 4
"""Seconds of each turn that new requests have then, whatever else the loop has to do: a machine that stands
still now and then takes fewer calls, not none."""
PATIENCE = 0.015
"""How long a new request waits then."""
LATE = 0.1
"""How long the oldest of a crowd has waited, all the while, when it is overload."""
STANDING = 1.0
"""Seconds after which a crowd is overload, and after which overload is over."""
FEW = 64
"""Messages of either kind that a turn takes in any case."""
MANY = 384
"""Requests declined in one turn."""
MOST_WAITING = 8_192
"""Messages kept here; datagrams beyond that wait in the kernel, which drops when its buffer is full."""
MOST_OCTETS = 32 * 1024 * 1024
"""Octets of them."""

_OF_CALLS = (b"SIP/2.0 ", b"ACK ")
_TO_TAG = re.compile(rb"\n(?:to|t)[ \t]*:[^\r\n]*;[ \t]*tag[ \t]*=", re.IGNORECASE)
_HEAD = 4_096
"""Octets in which a To is looked for; one behind that makes a request late, and nothing else."""
_OF_DECLINED = f";tag={DECLINED}".encode()

Deliver = Callable[[bytes, Flow], None]


class _Line:
    """Messages that wait, oldest first."""

    __slots__ = ("octets", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[tuple[float, bytes, Flow]] = deque()
        self.octets = 0

    def has_room(self, share: int) -> bool:
        """Say whether this line holds less than one part in ``share`` of what may wait."""
        return len(self.waiting) < MOST_WAITING // share and self.octets < MOST_OCTETS // share


class Crowd:
    """Messages of all sockets that wait.

    ``decline(data, flow)`` answers a request with 503, or delivers it when it is nothing new or a call for
    help; returns whether it was declined. ``is_known`` says of a host whether peers or phones are there,
    ``call_soon`` has something called in the next turn of the event loop.
    """

    def __init__(
        self,
        deliver: Deliver,
        decline: Callable[[bytes, Flow], bool],
        is_known: Callable[[str], bool],
        clock: Callable[[], float],
        call_soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self.declined = 0
        self.dropped = 0
        """Of strangers, whose room was full."""
        self.gatherers: list[Callable[[], bool]] = []
        """Called before each turn: who has something that waits adds of it what a turn can bear, and says
        whether there is more."""
        self.deliver = deliver
        self.is_known = is_known
        self.clock = clock
        self._decline = decline
        self._call_soon = call_soon
        self._others = _Line()
        self._known = _Line()
        self._strangers = _Line()
        self._of_connections: Counter[int] = Counter()
        self._is_due = False
        """A turn has been asked for."""
        self._late_since = 0.0
        """Since when the oldest has always waited for `LATE` seconds and more."""
        self._left_at = 0.0
        """When the last turn ended."""
        self._overload_until = 0.0

    def __len__(self) -> int:
        return len(self._others.waiting) + len(self._known.waiting) + len(self._strangers.waiting)

    @property
    def calm(self) -> bool:
        """Nobody waits, and there is no overload: whatever comes may be taken as it comes."""
        return not self and not self._overload_until

    def waits_for(self, connection: int) -> int:
        """Return how many messages wait that came over this connection."""
        return self._of_connections[connection]

    def has_room(self) -> bool:
        """Say whether those who are known may add to it."""
        return self._others.has_room(2) and self._known.has_room(2)

    def add(self, data: bytes, flow: Flow) -> None:
        """Let a message wait for its turn. The ACK of what was declined has nobody waiting for it."""
        if data[:1] in {b"\r", b"\n"}:
            data = data.lstrip(b"\r\n")  # RFC 3261 §7.5
        if data.startswith(b"ACK ") and _OF_DECLINED in data:
            return
        if not self.is_known(flow.remote_host):
            line = self._strangers
            if not line.has_room(2):
                self.dropped += 1
                return
        elif data.startswith(_OF_CALLS) or _TO_TAG.search(data, 0, _HEAD):
            line = self._others
        else:
            line = self._known
        line.waiting.append((self.clock(), data, flow))
        line.octets += len(data)
        if flow.connection:
            self._of_connections[flow.connection] += 1

    def hasten(self) -> None:
        """See to it that there is a turn soon: the loop has its own first (media, timers, sockets)."""
        if not self._is_due:
            self._is_due = True
            self._call_soon(self._take_turn)

    def clear(self) -> None:
        """Forget whoever waits."""
        self.gatherers.clear()
        for line in (self._others, self._known, self._strangers):
            line.waiting.clear()
            line.octets = 0
        self._of_connections.clear()

    def _take_turn(self) -> None:
        self._is_due, more = False, True
        try:
            more = sum(gather() for gather in self.gatherers) > 0
            self.turn()
        finally:  # whatever one message does to the gate, the others have their turn
            if self or more:
                self.hasten()

    def turn(self) -> None:
        """Deliver and decline what this turn of the event loop has time for."""
        now = self.clock()
        if not self._left_at or not self._is_late(now):
            self._late_since = now
        elif now - self._late_since >= STANDING and not self._overload_until:
            self._overload_until = now + STANDING
            logger.warning("overload: new requests get 503")
        self._deliver_others(now + TURN)
        # What the loop has done since the last turn belongs to calls that were let in: new ones get the rest.
        self._deliver_new(max((self._left_at or now) + TURN, self.clock() + AT_LEAST))
        if self._overload_until:
            self._decline_late()
        self._left_at = self.clock() if self else 0.0

    def _is_late(self, now: float) -> bool:
        lines = (self._others, self._known, self._strangers)
        return any(line.waiting and now - line.waiting[0][0] >= LATE for line in lines)

    def _next(self, line: _Line) -> tuple[bytes, Flow]:
        _, data, flow = line.waiting.popleft()
        line.octets -= len(data)
        if flow.connection:
            self._of_connections[flow.connection] -= 1
            if not self._of_connections[flow.connection]:
                del self._of_connections[flow.connection]
        return data, flow

    def _deliver_others(self, until: float) -> None:
        others, taken = self._others, 0
        while others.waiting and (taken < FEW or self.clock() < until):
            self.deliver(*self._next(others))
            taken += 1

    def _deliver_new(self, until: float) -> None:
        left = 0 if self._overload_until else FEW
        for new in (self._known, self._strangers):
            while new.waiting and (left > 0 or self.clock() < until):
                self.deliver(*self._next(new))
                left -= 1

    def _decline_late(self) -> None:
        now = self.clock()
        late, left, until = now - PATIENCE, MANY, now + TURN
        for new in (self._known, self._strangers):
            # By time as well: what can't be declined is delivered, at its full cost.
            while new.waiting and new.waiting[0][0] <= late and left and self.clock() < until:
                left -= 1
                if self._decline(*self._next(new)):
                    self.declined += 1
                    self._overload_until = now + STANDING
        if now >= self._overload_until:
            self._overload_until = 0.0
            logger.warning("the overload is over; %d requests were declined so far", self.declined)

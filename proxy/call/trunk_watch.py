"""Which trunks answer, and in which order they are tried.

RFC 3261 §11.1 (OPTIONS as a probe), §21.5.4 (503 with Retry-After). A destination of a trunk goes DOWN after
`DOWN_AFTER` failures in a row and UP again after `UP_AFTER` answers in a row, so that one lost packet, or one
answer between long silences, does not make it flap. Calls tell too: silence and refused connections count as
failures, any response as an answer. Where probing is off, a destination that is down gets its chance again
after `REST` seconds. A trunk that is down is not given up: it is tried after all the others. The servers of a
PBX are watched in the same way.

States of a destination::

    UP --failure x2--> DOWN --answer x2 (probing), answer to a call, REST over (no probing)--> UP

The order among trunks is that of their priorities. Trunks of one priority share the calls by weight, and so
do the servers of one trunk that have one priority in DNS (RFC 2782), in a fixed rhythm instead of by chance:
over any few calls the shares are right (smooth weighted round robin).
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias, TypeVar

from proxy.call.config import Trunk
from proxy.call.routing import Hop
from proxy.sip.endpoint import Endpoint
from proxy.sip.flow import Flow
from proxy.sip.timers import NEVER
from proxy.sip.uri import format_host

__all__ = ["DestinationStatus", "Probe", "TrunkState", "TrunkWatch"]

_log = logging.getLogger(__name__)

_Sharer: TypeAlias = str | tuple[str, Flow]
"""Who shares calls with others: a trunk, by its name, or one of its destinations."""
_SharerT = TypeVar("_SharerT", str, tuple[str, Flow])

DOWN_AFTER = 2
"""Failures in a row."""
UP_AFTER = 2
"""Answered probes in a row."""
REST = 30.0
"""Without probing, a destination that is down is tried again after so many seconds."""
MAX_RETRY_AFTER = 60.0
"""A trunk's 503 keeps calls away from it for as long as it asks, but no longer than so many seconds."""
PROBE_TIMEOUT = 4.0
"""A probe without any answer for so many seconds has failed; a later answer counts for the next."""


class TrunkState(enum.Enum):
    """Whether a destination answers."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class DestinationStatus:
    """One destination as `tollgate status` shows it."""

    trunk: str
    """Name of the trunk, or of the PBX."""
    address: str
    """``udp:192.0.2.1:5060``"""
    state: TrunkState
    since: float
    """When the state was entered, in seconds of the core's clock; 0: at the start."""
    reason: str
    """What the last failure was, or ""."""


class Probe:
    """The owner of an OPTIONS: tells which destination the outcome belongs to."""

    __slots__ = ("_destination", "over")

    def __init__(self, destination: _Destination) -> None:
        self._destination = destination
        self.over = False
        """It counts no more: its time was over before the answer came."""

    def answered(self, status: int, now: float) -> None:
        """Take the final response; whoever answers lives, unless it says that it can't serve."""
        if self.over:
            return
        self.over = True
        self._destination.probe_answered(status, now)

    def failed(self, now: float) -> None:
        """No answer, or no way to send."""
        if not self.over:
            self.over = True
            self._destination.failed("no answer to OPTIONS", now)


class _Destination:
    """One flow of one trunk, or of a PBX."""

    __slots__ = (
        "answers",
        "failures",
        "flow",
        "pbx",
        "probe",
        "probe_at",
        "reason",
        "rest_until",
        "since",
        "state",
        "trunk",
    )

    def __init__(self, trunk: Trunk, flow: Flow, *, pbx: bool) -> None:
        self.trunk = trunk
        self.flow = flow
        self.pbx = pbx
        self.state = TrunkState.UP
        self.since = 0.0
        self.reason = ""
        self.failures = 0
        self.answers = 0
        self.rest_until = 0.0
        """Calls go elsewhere until then."""
        self.probe_at = NEVER
        self.probe: Probe | None = None

    def serves(self, now: float) -> bool:
        """Say whether calls should go there before those of other trunks."""
        if self.state is TrunkState.DOWN and not self.trunk.probe_interval and now >= self.rest_until:
            return True
        return self.state is TrunkState.UP and now >= self.rest_until

    def probe_answered(self, status: int, now: float) -> None:
        if status == 503:
            self.failed("503 to OPTIONS", now)
            return
        self.failures = 0
        self.answers += 1
        if self.state is TrunkState.DOWN and self.answers >= UP_AFTER:
            self._enter(TrunkState.UP, now)

    def call_answered(self, now: float) -> None:
        """A call got a response: nothing proves better that the trunk lives."""
        self.failures = 0
        if self.state is TrunkState.DOWN:
            self._enter(TrunkState.UP, now)

    def failed(self, reason: str, now: float) -> None:
        self.answers = 0
        self.failures += 1
        self.reason = reason
        if self.state is TrunkState.UP and self.failures >= DOWN_AFTER:
            self._enter(TrunkState.DOWN, now)
        if self.state is TrunkState.DOWN and not self.trunk.probe_interval:
            self.rest_until = now + REST

    def _enter(self, state: TrunkState, now: float) -> None:
        self.state = state
        self.since = now
        self.answers = 0
        self.rest_until = 0.0
        if state is TrunkState.UP:
            self.reason = ""
        log = _log.warning if state is TrunkState.DOWN else _log.info
        kind, name = "peer" if self.pbx else "trunk", self.trunk.name
        log("%s %s at %s is %s%s", kind, name, _address(self.flow), state.value, _because(self.reason))


class TrunkWatch:
    """Every destination of every trunk and PBX."""

    __slots__ = ("_destinations", "_endpoint", "_shares", "_usable", "due")

    def __init__(
        self, endpoint: Endpoint, usable: Callable[[Trunk, float], bool] = lambda _trunk, _now: True
    ) -> None:
        """``usable``: whether a trunk has what it needs besides an answering address: a registration."""
        self._endpoint = endpoint
        self._usable = usable
        self._destinations: dict[tuple[str, Flow], _Destination] = {}
        self._shares: dict[_Sharer, float] = {}
        """Running sums of the weighted round robin."""
        self.due = NEVER
        """When `handle_timer` is to be called next."""

    def reconfigure(self, trunks: Collection[Trunk], pbxs: Collection[Trunk] = ()) -> None:
        """Watch these; a destination that stays keeps its state. No two of them have one name."""
        before, self._destinations = self._destinations, {}
        watched = (*trunks, *pbxs)
        for place, trunk in enumerate(watched):
            for flow in trunk.flows:
                key = (trunk.name, flow)
                destination = before.get(key) or _Destination(trunk, flow, pbx=place >= len(trunks))
                destination.trunk = trunk
                if not trunk.probe_interval:
                    destination.probe_at = NEVER
                elif destination.probe_at == NEVER:
                    destination.probe_at = 0.0
                self._destinations[key] = destination
        known = {trunk.name for trunk in watched} | self._destinations.keys()
        self._shares = {sharer: share for sharer, share in self._shares.items() if sharer in known}
        self._rearm()

    # Order --------------------------------------------------------------------------------------------------

    def arrange(self, trunks: Iterable[Trunk], now: float) -> list[Hop]:
        """Return every destination of these trunks in the order in which one call tries them."""
        hops = [
            Hop(trunk, flow)
            for trunk in self._by_priority(trunks)
            for flow in (self._by_weight(trunk) if trunk.shares else trunk.flows)
        ]
        # Those of trunks that a reload has taken away meanwhile have no state and keep their places.
        poor = [hop for hop in hops if not self._serves(hop, now)]
        return hops if not poor else [hop for hop in hops if hop not in poor] + poor

    def _serves(self, hop: Hop, now: float) -> bool:
        destination = self._destinations.get((hop.trunk.name, hop.flow))
        return destination is None or (destination.serves(now) and self._usable(hop.trunk, now))

    def _by_priority(self, trunks: Iterable[Trunk]) -> Iterator[Trunk]:
        groups: dict[int, list[Trunk]] = {}
        for trunk in trunks:
            groups.setdefault(trunk.priority, []).append(trunk)
        for priority in sorted(groups):
            group = groups[priority]
            yield from group if len(group) == 1 else self._shared(group)

    def _shared(self, trunks: list[Trunk]) -> list[Trunk]:
        """Order trunks of one priority."""
        named = {trunk.name: trunk for trunk in trunks}
        return [named[name] for name in self._in_turn({trunk.name: trunk.weight for trunk in trunks})]

    def _by_weight(self, trunk: Trunk) -> Iterator[Flow]:
        """Order the destinations of a trunk, some of which share its calls."""
        for group, beside in groupby(zip(trunk.flows, trunk.shares, strict=True), key=_group):
            flows = {flow: weight for flow, (_, weight) in beside}
            sharing = {(trunk.name, flow): weight for flow, weight in flows.items() if group and weight}
            for _, flow in self._in_turn(sharing) if sharing else ():
                del flows[flow]
                yield flow
            yield from flows

    def _in_turn(self, weights: dict[_SharerT, int]) -> list[_SharerT]:
        """Order who shares the calls: next in the rhythm first, then those that are nearest to it."""
        shares = self._shares
        for sharer, weight in weights.items():
            shares[sharer] = shares.get(sharer, 0.0) + weight
        ordered = sorted(weights, key=lambda sharer: -shares[sharer])
        shares[ordered[0]] -= sum(weights.values())
        return ordered

    # What calls tell ----------------------------------------------------------------------------------------

    def call_answered(self, hop: Hop, now: float) -> None:
        """The destination sent any response to an INVITE."""
        destination = self._destinations.get((hop.trunk.name, hop.flow))
        if destination is not None:
            destination.call_answered(now)

    def call_failed(self, hop: Hop, reason: str, now: float) -> None:
        """The destination was silent, or could not be reached."""
        destination = self._destinations.get((hop.trunk.name, hop.flow))
        if destination is not None:
            destination.failed(reason, now)

    def call_declined(self, hop: Hop, wait: int | None, now: float) -> None:
        """The destination said 503: with Retry-After it wants no more calls for so long (§21.5.4)."""
        destination = self._destinations.get((hop.trunk.name, hop.flow))
        if destination is not None and wait is not None:
            destination.rest_until = now + min(wait, MAX_RETRY_AFTER)

    # Probes -------------------------------------------------------------------------------------------------

    def handle_timer(self, now: float) -> None:
        """Send the probes that are due, and give up those without answer."""
        if now < self.due:
            return
        try:
            for destination in self._destinations.values():
                if destination.probe_at <= now:
                    self._turn(destination, now)
        finally:
            self._rearm()

    def _turn(self, destination: _Destination, now: float) -> None:
        interval = destination.trunk.probe_interval
        timeout = min(PROBE_TIMEOUT, interval / 2)
        if destination.probe is not None:
            # This turn was that of its time-out.
            destination.probe.failed(now)
            destination.probe = None
            destination.probe_at = now + interval - timeout
            return
        destination.probe = probe = Probe(destination)
        destination.probe_at = now + timeout  # first: whatever goes wrong, it is not due again at once
        host = format_host(destination.trunk.host)
        self._endpoint.send_request("OPTIONS", f"sip:{host}", flow=destination.flow, owner=probe, now=now)

    def _rearm(self) -> None:
        self.due = min((destination.probe_at for destination in self._destinations.values()), default=NEVER)

    # For the world ------------------------------------------------------------------------------------------

    def status(self, *, pbxs: bool = False) -> list[DestinationStatus]:
        """Return the state of every destination of the trunks, or of the PBXs, in the order of the
        settings."""
        return [
            DestinationStatus(one.trunk.name, _address(one.flow), one.state, one.since, one.reason)
            for one in self._destinations.values()
            if one.pbx is pbxs
        ]


def _group(destination: tuple[Flow, tuple[int, int]]) -> int:
    return destination[1][0]


def _address(flow: Flow) -> str:
    return f"{flow.transport.lower()}:{format_host(flow.remote_host)}:{flow.remote_port}"


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""

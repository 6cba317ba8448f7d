"""Bounds of what a stolen phone, code or PBX can cost: calls are counted while they are up (toll fraud).

A call has a place under each name that a bound of its group counts: its caller, the foreign country that it
goes to, its account code. A further segment of a call (a transfer, say) has the places of the one before,
so that nobody gets rid of them by sending calls on. Only groups with bounds are counted for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.call import security_log
from proxy.call.code_guard import caller_name
from proxy.call.ports import CallEvent
from proxy.call.security_log import SecurityEvent
from proxy.call.tally import Tally
from proxy.cdr.builder import RecordBuilder
from proxy.policy import CallClass, Decision
from proxy.policy.limits import NO_LIMITS, CallLimits

if TYPE_CHECKING:
    from proxy.call.core import CallCore

__all__ = ["CallCounts", "ReachedLimit"]

_HOUR = 3600.0
_MOST_AN_HOUR = 10_000
"""A higher bound of calls an hour counts as this one."""
_QUIET = 900.0
"""One alarm about one bound in so many seconds."""
_REMEMBERED = 20
"""Alarms."""
_FREE = frozenset({CallClass.EMERGENCY, CallClass.INTERNAL, CallClass.TOLL_FREE})


def limits_of(decision: Decision) -> CallLimits:
    """Return the bounds of a call: none for those that are free."""
    group = decision.group
    return NO_LIMITS if group is None or decision.call_class in _FREE else group.limits


@dataclass(frozen=True, slots=True)
class ReachedLimit:
    """One alarm: a bound that a call has met."""

    at: float
    caller: str
    """Its name (`caller_name`)."""
    limit: str
    """The bound, in words."""


class CallCounts:
    """The places of all calls."""

    __slots__ = ("_alarms", "_core", "_hour", "_live", "_places", "reached")

    def __init__(self, core: CallCore) -> None:
        self._core = core
        self._live: dict[str, int] = {}
        self._places: dict[str, list[str]] = {}
        """By record id."""
        self._hour = Tally(_HOUR, _MOST_AN_HOUR)
        self._alarms = Tally(_QUIET, 1)
        self.reached: deque[ReachedLimit] = deque(maxlen=_REMEMBERED)
        """The last alarms, the oldest first: for whoever looks on."""

    @property
    def idle(self) -> bool:
        """No call has a place."""
        return not (self._live or self._places)

    def admit(self, record: RecordBuilder, decision: Decision, now: float) -> bool:
        """Give a call its places; False: a bound is reached, which the record then says."""
        limits = limits_of(decision)
        if not limits.counted:
            return True
        caller = f"caller {caller_name(record)}"
        bounds = [(caller, limits.caller_calls, "calls of one caller at once")]
        country = self._country(decision)
        if country:
            name = f"country {record.group} {country}"
            bounds.append((name, limits.country_calls, f"calls to {country} at once"))
        for name, most, what in bounds:
            if most and self._live.get(name, 0) >= most:
                record.reason = f"the group allows {most} {what}"
                self._refuse(record, name, record.reason, now)
                return False
        hourly = min(limits.hourly_calls, _MOST_AN_HOUR)
        if hourly and self._hour.count(caller, now) >= hourly:
            record.reason = f"the group allows {hourly} calls of one caller an hour"
            self._refuse(record, f"hour {caller}", record.reason, now)
            return False
        if hourly:
            self._hour.note(caller, now)
        self._take(record.record_id, (name for name, most, _ in bounds if most))
        return True

    def take_code(self, record: RecordBuilder, decision: Decision, digits: str, now: float) -> bool:
        """Give a call a place with its code; False: the code is on too many calls."""
        most = limits_of(decision).code_calls
        if not most:
            return True
        name = f"code {digits}"
        if self._live.get(name, 0) >= most:
            self._refuse(record, name, f"the group allows {most} calls with one code at once", now)
            return False
        self._take(record.record_id, (name,))
        return True

    def share(self, before: str, segment: str) -> None:
        """Give a further segment the places of the one before; each gives them back when it is over."""
        if before in self._places:
            self._take(segment, self._places[before])

    def give_back(self, record_id: str) -> None:
        """A call is over."""
        for name in self._places.pop(record_id, ()):
            self._live[name] -= 1
            if not self._live[name]:
                del self._live[name]

    def _take(self, record_id: str, names: Iterable[str]) -> None:
        for name in names:
            self._places.setdefault(record_id, []).append(name)
            self._live[name] = self._live.get(name, 0) + 1

    def _country(self, decision: Decision) -> str:
        """Return the foreign country that a call goes to, or ""."""
        number, plan = decision.number, self._core.policy.plan
        if number is None or not number.number.startswith("+"):
            return ""
        home = number.region in {plan.country, *plan.home_regions}
        return "" if home else number.region or number.number[:4]

    def _refuse(self, record: RecordBuilder, name: str, reason: str, now: float) -> None:
        caller = caller_name(record)
        security_log.note(SecurityEvent.LIMIT_REACHED, record.source_address, caller=caller, limit=reason)
        if not self._alarms.count(name, now):
            self._alarms.note(name, now)
            self.reached.append(ReachedLimit(now, caller, reason))
            self._core.tell(CallEvent.LIMIT_REACHED, record, now)

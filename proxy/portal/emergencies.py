"""Emergency calls that people shall notice (Kari's Law, 47 CFR 9.16): those that are up, and for a while
those that have ended. A caller who hangs up after seconds may need help all the same.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from proxy.portal.gate_link import LiveCall
from proxy.store import Store, StoreUnavailable, UsageFilter
from proxy.store.call_events import Site

__all__ = ["SHOWN_FOR", "Emergencies", "Emergency"]

logger = logging.getLogger(__name__)

SHOWN_FOR = 15 * 60.0
"""Seconds after its end."""
_LONGEST = 6 * 3600.0
"""Calls that took longer are told while they are up only."""
_MOST = 20
_GOOD_FOR = 1.0


@dataclass(frozen=True, slots=True)
class Emergency:
    """What is told of one call."""

    call_id: str
    user: str
    caller: str
    dialled: str
    callback: str
    """Number that reaches the caller, or the site."""
    location: str
    started_at: float
    """UTC seconds since the epoch."""
    live: bool


class Emergencies:
    """Knows them, and who has noted which. Safe to use from several threads.

    What was noted is forgotten with the process: it concerns a quarter of an hour.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._recorded: tuple[float, tuple[tuple[Emergency, float], ...]] | None = None
        self._seen: dict[str, tuple[Emergency, float]] = {}
        """What was up, and until when at least: records may be late in the store."""
        self._noted: dict[tuple[int, str], float] = {}

    def to_notice(
        self, store: Store, site: Site, calls: Sequence[LiveCall] | None, *, account: int, now: float
    ) -> tuple[Emergency, ...]:
        """Return what this account is to notice, the newest first. Without a gate that tells its calls
        (None) those that were up count as up. Blocks.
        """
        recorded = {one.call_id: (one, end) for one, end in self._ended(store, site, now)}
        live = {call.call_id: _of_call(call, site) for call in calls or () if call.emergency}
        with self._lock:
            if calls is not None:
                self._seen = {key: (replace(one, live=False), at) for key, (one, at) in self._seen.items()}
            self._seen |= {call_id: (one, now) for call_id, one in live.items()}
            over = self._seen | recorded
            self._forget(now)
            lately = {
                call_id: one
                for call_id, (one, end) in over.items()
                if end > now - SHOWN_FOR and (account, call_id) not in self._noted
            }
        return tuple(sorted((lately | live).values(), key=lambda one: (-one.started_at, one.call_id)))

    def note(self, call_id: str, *, account: int, now: float) -> None:
        """Tell this account no more of a call once it is over."""
        with self._lock:
            recorded = () if self._recorded is None else self._recorded[1]
            if call_id in self._seen or any(one.call_id == call_id for one, _ in recorded):
                self._noted[account, call_id] = now

    def _ended(self, store: Store, site: Site, now: float) -> tuple[tuple[Emergency, float], ...]:
        known = self._recorded
        if known is None or not 0 <= now - known[0] < _GOOD_FOR:
            try:
                wanted = UsageFilter(since=now - SHOWN_FOR - _LONGEST, emergency=True)
                found = store.usage.page(wanted, limit=_MOST).entries
            except StoreUnavailable as error:
                # Those that are up are told all the same.
                logger.warning("portal: ended emergency calls are not known: %s", error)
                return ()
            records = [entry.record for entry in found]
            ended = [
                Emergency(
                    record.record_id,
                    record.user,
                    record.caller_number,
                    record.dialled_number,
                    site.callback_of(record.caller_number, record.caller_e164),
                    site.location_of(record.location),
                    record.start_time,
                    live=False,
                )
                for record in records
            ]
            ends = [record.end_time for record in records]
            known = self._recorded = now, tuple(zip(ended, ends, strict=True))
        return known[1]

    def _forget(self, now: float) -> None:
        # Notes outlast what they are about: an end is known before it can be noted.
        self._seen = {key: seen for key, seen in self._seen.items() if seen[1] > now - SHOWN_FOR}
        self._noted = {key: at for key, at in self._noted.items() if at > now - 2 * SHOWN_FOR - _LONGEST}


def _of_call(call: LiveCall, site: Site) -> Emergency:
    return Emergency(
        call.call_id,
        call.user,
        call.caller,
        call.dialled,
        site.callback_of(call.caller, call.caller_e164),
        site.location_of(call.location),
        call.started_at,
        live=True,
    )

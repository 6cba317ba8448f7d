"""Guessed codes: wrong ones are counted by caller and altogether, and what comes of too many is said here.

One caller is locked after a few wrong codes within a while; the lock is kept by the store, from where it
comes back with the policy, and where an administrator takes it away. Many wrong codes of many callers slow
every prompt down: then one caller is as good as another. Who has no number, or one that many share, is not
locked for a few that somebody else has typed: all those of one peer have a wider bound together, and the
peer a still wider one, since the names of its callers may be of their own choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.call.tally import Tally
from proxy.cdr.builder import RecordBuilder
from proxy.policy.locks import MAX_CALLER, CallerLock

__all__ = ["CodeGuard", "GuessingRules", "caller_name"]

_NOBODY = frozenset({"", "anonymous"})
"""What a peer calls those whom it does not name (RFC 3323 §4.1.1.3)."""

_MOST_FRESH = 10_000
"""Locks that the store has not got yet."""
_ALL = ""


@dataclass(frozen=True, slots=True)
class GuessingRules:
    """What counts as guessing. Times in seconds."""

    wrong_codes: int = 5
    """So many wrong codes of one caller within `window` lock it; 0: never."""
    window: float = 900.0
    lock: float = 3600.0
    """How long; 0: until somebody unlocks it."""
    many_wrong_codes: int = 50
    """So many of all callers within `window` are an attack, if they come from `many_callers`; 0: never."""
    many_callers: int = 10
    slow_prompt: float = 3.0
    """Every entry is answered so much later then."""
    shared_numbers: frozenset[str] = frozenset()
    """Numbers under which many call, as the main number of a PBX: those are locked like callers without a
    number, and each call counts as a caller of its own."""
    nameless_wrong_codes: int = 50
    """So many of those of one peer within `wider_window` lock them all; 0: never."""
    peer_wrong_codes: int = 300
    """So many of all callers of one peer within `wider_window` lock them all; 0: never."""
    wider_window: float = 5400.0
    """For how long these count, and are locked at least."""


def caller_name(record: RecordBuilder) -> str:
    """Return under which name a caller's wrong codes are counted: its user, else what its peer calls it."""
    if record.user:
        return f"user {record.user}"
    return f"peer {record.peer} {record.caller_e164 or record.caller_number}".strip()[:MAX_CALLER]


def _nameless(peer: str) -> str:
    return f"nameless callers of peer {peer}"[:MAX_CALLER]


def _everybody(peer: str) -> str:
    return f"all callers of peer {peer}"[:MAX_CALLER]


class CodeGuard:
    """The counts, and the locks that the policy does not hold yet.

    ``now`` is monotonic, ``at`` UTC seconds since the epoch.
    """

    __slots__ = ("_altogether", "_callers", "_fresh", "_quiet_until", "_wider", "_wrong", "rules")

    def __init__(self, rules: GuessingRules) -> None:
        self._fresh: dict[str, CallerLock] = {}
        self._quiet_until = float("-inf")
        self._take(rules)

    def _take(self, rules: GuessingRules) -> None:
        self.rules = rules
        self._wrong = Tally(rules.window, rules.wrong_codes)
        self._wider = Tally(rules.wider_window, max(rules.nameless_wrong_codes, rules.peer_wrong_codes))
        self._callers = Tally(rules.window, 1)
        self._altogether = Tally(rules.window, rules.many_wrong_codes)

    def reconfigure(self, rules: GuessingRules) -> None:
        """Take other rules; other ones count anew."""
        if rules != self.rules:
            self._take(rules)

    def name(self, record: RecordBuilder) -> str:
        """Return which caller is to be locked; "" for one who can't be told from others of its peer."""
        number, shared = record.caller_number, self.rules.shared_numbers
        many = number.lower() in _NOBODY or number in shared or record.caller_e164 in shared
        return "" if many and not record.user else caller_name(record)

    def is_locked(self, caller: str, locks: Mapping[str, CallerLock], at: float, *, peer: str = "") -> bool:
        """Tell whether a caller may enter no code, itself or with others of its peer."""
        names = [caller or _nameless(peer), _everybody(peer)] if peer else [caller]
        found = [held.get(name) for held in (self._fresh, locks) if held for name in names]
        return any(lock is not None and lock.holds(at) for lock in found)

    def wrong(
        self, caller: str, now: float, at: float, *, call: str = "", peer: str = ""
    ) -> list[CallerLock]:
        """Count a wrong code; returns the locks for which this one was too many. Who has no name is only the
        one who makes this ``call``; who is proved by itself has no ``peer``."""
        rules = self.rules
        self._altogether.note(_ALL, now)
        self._callers.note(caller or call, now)
        long, longer = rules.lock, max(rules.lock, rules.wider_window) if rules.lock else 0.0
        bounds = [(self._wrong, caller, rules.wrong_codes, long)] if caller else []
        if peer:
            if not caller:
                bounds.append((self._wider, _nameless(peer), rules.nameless_wrong_codes, longer))
            bounds.append((self._wider, _everybody(peer), rules.peer_wrong_codes, longer))
        return [
            self._lock(tally, name, most, at, seconds)
            for tally, name, most, seconds in bounds
            if tally.note(name, now) >= most > 0
        ]

    def _lock(self, tally: Tally, name: str, count: int, at: float, seconds: float) -> CallerLock:
        tally.forget(name)  # who is unlocked has all its tries again
        lock = CallerLock(name, at, at + seconds if seconds else None, count)
        self._fresh.pop(name, None)
        if len(self._fresh) >= _MOST_FRESH:
            del self._fresh[next(iter(self._fresh))]
        self._fresh[name] = lock
        return lock

    def attacked(self, now: float) -> bool:
        """Tell whether codes are guessed by many callers."""
        most = self.rules.many_wrong_codes
        if not most or self._altogether.count(_ALL, now) < most:
            return False
        return self._callers.keys(now) >= self.rules.many_callers

    def alarm(self, now: float) -> bool:
        """Tell once in a window whether codes are guessed by many callers."""
        if now < self._quiet_until or not self.attacked(now):
            return False
        self._quiet_until = now + self.rules.window
        return True

    def delay(self, now: float) -> float:
        """Return for how long an answer to an entry is kept back."""
        return self.rules.slow_prompt if self.attacked(now) else 0.0

    def counted(self, locks: Mapping[str, CallerLock]) -> None:
        """Drop what a new policy holds by itself."""
        for caller, lock in list(self._fresh.items()):
            kept = locks.get(caller)
            if kept is not None and kept.since >= lock.since:
                del self._fresh[caller]

"""From digits to one code entry: a state machine without a clock or a socket.

One `EntryCollector` lives for one entry (one try); how many tries there are is the gate's affair::

    PROMPTING --prompt ends--> WAITING --digit--> COLLECTING --#, length, time--> FINISHED
        |                         ^                   | ^
        +------digit (the prompt is interrupted)------+-+   * clears: COLLECTING -> WAITING

====================  ================================================================================
timer                 runs
====================  ================================================================================
first digit           in WAITING: from the end of the prompt, or from the key that cleared the entry
between digits        in COLLECTING: from the last digit
total                 from the start of the entry, prompt included, to its end
====================  ================================================================================

What a caller may rely on:

* Digits typed during the prompt count (type-ahead); the first key asks for the prompt to stop.
* ``#`` ends the entry, ``*`` clears it, A to D are not heard at all.
* An entry longer than allowed is wrong as a whole. It is neither cut to something that might be a code nor
  matched with a sliding window, and it ends with ``#`` or time, so that its rest does not spill into the
  next entry. With a fixed length the entry ends at that digit by itself, unless an emergency number begins
  with just these digits: then the caller may go on, and ``#`` or time ends it.
* After an entry that ended without ``#`` (by its length or by time), callers still press ``#`` out of habit.
  The next entry, given the last one as ``after``, swallows one ``#`` that comes first and within `GRACE_S`.
  Where no entry follows, `EntryFinished.leaves_keys` says that such keys may come.
* The first means by which a key arrives in an entry is the only one heard for that entry. A phone that sends
  each key twice, say as RFC 4733 and as INFO, may be late with the second: for its first `GRACE_S` seconds an
  entry does not hear other means than the entry before it heard.

The invariant of every core holds: feed, drain `poll_event`, re-arm from `next_deadline`.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field

from proxy.dtmf.digits import DigitMeans
from proxy.errors import ConfigurationError

__all__ = [
    "GRACE_S",
    "EntryCollector",
    "EntryEnd",
    "EntryEvent",
    "EntryFinished",
    "EntryKind",
    "EntryRules",
    "PromptInterrupted",
]

GRACE_S = 2.0
"""How long into an entry leftovers of the one before it are told apart, in seconds."""

MAX_LENGTH = 20
"""The longest account code, in digits."""


@dataclass(frozen=True, slots=True)
class EntryRules:
    """How codes of a user group are entered. Times in seconds, lengths in digits.

    Raises `ConfigurationError` when the numbers contradict each other.
    """

    first_digit_s: float = 10.0
    inter_digit_s: float = 5.0
    total_s: float = 60.0
    min_length: int = 1
    max_length: int = MAX_LENGTH
    fixed_length: int | None = None
    """Ends the entry by itself at this many digits, and replaces the other two lengths."""
    emergency_prefixes: frozenset[str] = field(default=frozenset(), repr=False)
    """Digits with which an emergency number begins, whole ones left out."""

    def __post_init__(self) -> None:
        for name in ("first_digit_s", "inter_digit_s", "total_s"):
            # "not > 0" refuses NaN as well
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} must be more than 0 seconds")
        if not 1 <= self.min_length <= self.max_length <= MAX_LENGTH:
            raise ConfigurationError(
                f"min_length and max_length must be 1 to {MAX_LENGTH} digits, the smaller first"
            )
        if self.fixed_length is not None and not 1 <= self.fixed_length <= MAX_LENGTH:
            raise ConfigurationError(f"fixed_length must be 1 to {MAX_LENGTH} digits")

    @property
    def shortest(self) -> int:
        """The fewest digits that a code has."""
        return self.fixed_length or self.min_length

    @property
    def longest(self) -> int:
        """The most digits that a code has."""
        return self.fixed_length or self.max_length


class EntryKind(enum.Enum):
    """What an entry came to."""

    COMPLETE = "complete"
    """Digits of an allowed length."""
    TOO_SHORT = "too_short"
    """Digits that are too few for a code. They may still be an emergency number."""
    TOO_LONG = "too_long"
    """More digits than any code has. They may still be an emergency number."""
    EMPTY = "empty"
    """``#`` alone: the caller has no code to give."""
    NO_INPUT = "no_input"
    """Time ran out without a digit."""


class EntryEnd(enum.Enum):
    """What ended an entry."""

    POUND = "pound"
    LENGTH = "length"
    TIME_OUT = "time_out"


@dataclass(frozen=True, slots=True)
class PromptInterrupted:
    """The caller pressed a key during the prompt: stop it. No call of `prompt_finished` need follow."""


@dataclass(frozen=True, slots=True)
class EntryFinished:
    """The entry is over; the collector hears nothing more."""

    kind: EntryKind
    digits: str = field(repr=False)
    """What was entered; "" when nothing was, or more than `MAX_LENGTH` digits."""
    means: DigitMeans | None
    """By which means the keys came; None when there was no key."""
    ended_by: EntryEnd

    @property
    def leaves_keys(self) -> bool:
        """More keys of it may come: it ended before its caller said so."""
        return self.ended_by is not EntryEnd.POUND and self.kind is not EntryKind.NO_INPUT


EntryEvent = PromptInterrupted | EntryFinished


class _State(enum.Enum):
    PROMPTING = "prompting"
    WAITING = "waiting"
    COLLECTING = "collecting"
    FINISHED = "finished"


class EntryCollector:
    """Collects one entry. ``now`` is monotonic seconds; ``after`` is how the caller's entry before ended."""

    __slots__ = (
        "_deadline",
        "_digits",
        "_events",
        "_grace_until",
        "_means",
        "_means_before",
        "_rules",
        "_state",
        "_swallow_pound",
        "_total_deadline",
    )

    def __init__(self, rules: EntryRules, now: float, *, after: EntryFinished | None = None) -> None:
        self._rules = rules
        self._state = _State.PROMPTING
        self._digits = ""
        self._means: DigitMeans | None = None
        self._events: deque[EntryEvent] = deque()
        self._total_deadline = now + rules.total_s
        self._deadline = self._total_deadline
        self._grace_until = now + GRACE_S
        self._means_before = None if after is None else after.means
        self._swallow_pound = after is not None and after.leaves_keys

    @property
    def finished(self) -> bool:
        """The entry is over."""
        return self._state is _State.FINISHED

    def poll_event(self) -> EntryEvent | None:
        """Return the next thing that happened, None when all has been told."""
        return self._events.popleft() if self._events else None

    def next_deadline(self) -> float | None:
        """Return when `handle_timer` wants to be called; None after the end."""
        return None if self._state is _State.FINISHED else min(self._deadline, self._total_deadline)

    def prompt_finished(self, now: float) -> None:
        """Take note that the prompt was played to its end: the first-digit timer starts."""
        if self._state is _State.PROMPTING:
            self._wait(now)

    def handle_timer(self, now: float) -> None:
        """End the entry when its time is up; a call before that changes nothing."""
        deadline = self.next_deadline()
        if deadline is not None and now >= deadline:
            self._finish(EntryEnd.TIME_OUT)

    def give_up(self) -> None:
        """End the entry before its time is up, with what is there."""
        if self._state is not _State.FINISHED:
            self._finish(EntryEnd.TIME_OUT)

    def digit(self, digit: str, means: DigitMeans, now: float) -> None:
        """Take one key. One that comes when the time is up is too late, even if no timer was handled yet."""
        self.handle_timer(now)
        if self._state is _State.FINISHED or len(digit) != 1 or digit not in "0123456789*#":
            return
        if self._is_leftover(digit, means, now):
            return
        if self._means is None:
            self._means = means
        elif means is not self._means:
            return
        if self._state is _State.PROMPTING:
            self._events.append(PromptInterrupted())
        if digit == "#":
            self._finish(EntryEnd.POUND)
        elif digit == "*":
            self._digits = ""
            self._wait(now)
        else:
            self._collect(digit, now)

    def _collect(self, digit: str, now: float) -> None:
        """Add a digit; one past the longest of all is kept to mark the entry as too long, further ones are
        not."""
        rules = self._rules
        self._state = _State.COLLECTING
        self._deadline = now + rules.inter_digit_s
        if len(self._digits) <= MAX_LENGTH:
            self._digits += digit
        if len(self._digits) == rules.fixed_length and self._digits not in rules.emergency_prefixes:
            self._finish(EntryEnd.LENGTH)

    def _wait(self, now: float) -> None:
        self._state = _State.WAITING
        self._deadline = now + self._rules.first_digit_s

    def _is_leftover(self, digit: str, means: DigitMeans, now: float) -> bool:
        """Say whether the key belongs to the entry before: a habitual ``#``, or a key told by other means."""
        if self._means is not None or self._means_before is None or now >= self._grace_until:
            return False
        if means is not self._means_before:
            return True
        swallowed = self._swallow_pound and digit == "#"
        self._swallow_pound = False  # once, and only ahead of everything else
        return swallowed

    def _finish(self, ended_by: EntryEnd) -> None:
        digits = self._digits
        if not digits:
            kind = EntryKind.EMPTY if ended_by is EntryEnd.POUND else EntryKind.NO_INPUT
        elif len(digits) < self._rules.shortest:
            kind = EntryKind.TOO_SHORT
        elif len(digits) > self._rules.longest:
            kind = EntryKind.TOO_LONG
            if len(digits) > MAX_LENGTH:
                digits = ""
        else:
            kind = EntryKind.COMPLETE
        self._digits = ""
        self._state = _State.FINISHED
        self._events.append(EntryFinished(kind, digits, self._means, ended_by))

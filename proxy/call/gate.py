"""The gate: asks the caller for an account code, try after try (DESIGN 1.6).

One try is one `proxy.dtmf.collector.EntryCollector`, whose timers and states live there. Here is what an
entry means: the code, a wrong try, the caller's wish to go without, or an emergency number::

    ASKING --code accepted--> PASSED            ASKING --emergency digits--> PASSED (as that call)
    ASKING --``#`` alone, optional--> PASSED    ASKING --wrong, tries left--> ASKING
    ASKING --wrong, last try--> REFUSED (required) or PASSED without a code (optional)

Digits that are no code are forgotten here: not logged, not recorded, only counted. While many callers guess
codes, an entry is judged at once and answered later (`proxy.call.code_guard`).
"""

from __future__ import annotations

import enum
import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from proxy.call.ports import CallEvent
from proxy.cdr.record import UsedCode
from proxy.dtmf.collector import EntryCollector, EntryFinished, EntryKind, EntryRules, PromptInterrupted
from proxy.dtmf.digits import DigitMeans
from proxy.policy import (
    CodeOutcome,
    CodeVerdict,
    DialledNumber,
    NumberPlan,
    Treatment,
    UserGroup,
)
from proxy.sip.timers import NEVER

if TYPE_CHECKING:
    from proxy.call.call import Call

__all__ = ["CodeGate", "GateEnd", "GateResult"]

_log = logging.getLogger(__name__)


class GateEnd(enum.Enum):
    """How the asking ended."""

    PASSED = "passed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class GateResult:
    """The last word of the gate."""

    end: GateEnd
    emergency: DialledNumber | None = None
    """The caller dialled this emergency number instead of a code: place it."""


_PASSED = GateResult(GateEnd.PASSED)
_REFUSED = GateResult(GateEnd.REFUSED)


@lru_cache(maxsize=256)
def _rules(  # noqa: PLR0917
    first_digit: float,
    inter_digit: float,
    total: float,
    shortest: int,
    longest: int,
    fixed: int | None,
    emergency_prefixes: frozenset[str],
) -> EntryRules:
    return EntryRules(first_digit, inter_digit, total, shortest, longest, fixed, emergency_prefixes)


def rules_of(group: UserGroup, plan: NumberPlan) -> EntryRules:
    """Return how codes of a user group are entered."""
    return _rules(
        group.first_digit,
        group.inter_digit,
        group.whole_entry,
        group.min_length,
        group.max_length,
        group.fixed_length,
        plan.emergency_prefixes,
    )


class CodeGate:
    """Asks on one A leg. Each input returns the result once there is one."""

    __slots__ = (
        "_call",
        "_collector",
        "_desk",
        "_group",
        "_held",
        "_inband",
        "_media",
        "_record",
        "_required",
        "_rules",
        "_tries_left",
        "deadline",
        "leaves_keys",
    )

    def __init__(self, call: Call) -> None:
        """``call``: one whose caller can be heard."""
        a, decision = call.a, call.route.decision
        group = decision.group
        assert group is not None and a.media is not None  # noqa: S101, PT018  (who is asked has both)
        self._call = call
        self._desk = call.core.desk
        self._group = group
        self._media = a.media
        self._record = call.record
        self._required = decision.treatment is Treatment.REQUIRED_CODE
        self._inband = a.chosen is None or a.chosen.event is None
        self._rules = rules_of(group, call.core.policy.plan)
        self._tries_left = group.tries
        self._collector: EntryCollector
        self._held: tuple[EntryFinished, CodeVerdict | None] | None = None
        """An entry that is judged, and whose caller does not know yet."""
        self.deadline = NEVER
        """When `handle_timer` is due."""
        self.leaves_keys = False
        """More keys of the last entry may come, although it is over."""

    def begin(self, now: float) -> None:
        """Play the first prompt and listen."""
        self._media.listen(inband=self._inband)
        self._next_try("enter_code" if self._required else "enter_code_or_pound", None, now)

    def digit(self, digit: str, means: DigitMeans, now: float) -> GateResult | None:
        """Take a digit of the caller."""
        self._collector.digit(digit, means, now)
        return self._drain(now)

    def prompts_finished(self, now: float) -> GateResult | None:
        """The prompt has been played to its end."""
        self._collector.prompt_finished(now)
        return self._drain(now)

    def handle_timer(self, now: float) -> GateResult | None:
        """Let the entry's timers run."""
        if self._held is not None:
            held, self._held = self._held, None
            return self._answer(*held, now)
        self._collector.handle_timer(now)
        return self._drain(now)

    def give_up(self, now: float) -> GateResult:
        """The time for asking is over, whatever the tries (early mode); what was typed until now counts."""
        result = None
        if self._held is not None:
            result = self._take(*self._held, now)
            if result is None:
                self._wrong(self._held[0], now)
        self._collector.give_up()
        while (event := self._collector.poll_event()) is not None:
            if isinstance(event, EntryFinished) and event.digits:
                self.leaves_keys = event.leaves_keys
                result = self._take(event, self._desk.judge(self._call, event.digits, now), now)
                if result is None:
                    self._wrong(event, now)
        return result or self._out_of_tries(now)

    def _next_try(self, prompt: str, after: EntryFinished | None, now: float) -> None:
        self._collector = EntryCollector(self._rules, now, after=after)
        self.deadline = self._collector.next_deadline() or NEVER
        self._media.play((prompt,), group=self._group.prompts)

    def _drain(self, now: float) -> GateResult | None:
        collector = self._collector
        while (event := collector.poll_event()) is not None:
            if isinstance(event, PromptInterrupted):
                self._media.stop()
            else:
                return self._judge(event, now)
        if self._held is None:
            self.deadline = collector.next_deadline() or NEVER
        return None

    def _judge(self, entry: EntryFinished, now: float) -> GateResult | None:
        self.leaves_keys = entry.leaves_keys
        if entry.kind is EntryKind.EMPTY and not self._required:
            return self._pass_without(now)
        verdict = self._desk.judge(self._call, entry.digits, now) if entry.digits else None
        wait = self._desk.guard.delay(now)
        if wait and (verdict is None or verdict.emergency is None):
            # Right or wrong: who hears nothing for a moment learns nothing from it.
            self._held = entry, verdict
            self.deadline = now + wait
            return None
        return self._answer(entry, verdict, now)

    def _answer(self, entry: EntryFinished, verdict: CodeVerdict | None, now: float) -> GateResult | None:
        """Let the caller know what an entry has come to."""
        result = self._take(entry, verdict, now)
        if result is not None:
            return result
        self._wrong(entry, now)
        self._tries_left -= 1
        _log.info(
            "wrong code entry, %d tries left",
            self._tries_left,
            extra={"call_id": self._record.record_id, "leg": "a"},
        )
        if not self._tries_left or self._desk.is_locked(self._record):
            return self._out_of_tries(now)
        self._next_try("not_valid_try_again", entry, now)
        return None

    def _wrong(self, entry: EntryFinished, now: float) -> None:
        self._record.code_wrong()
        if entry.digits:
            self._call.core.tell(CallEvent.CODE_REJECTED, self._record, now)

    def _take(self, entry: EntryFinished, verdict: CodeVerdict | None, now: float) -> GateResult | None:
        """Take an entry; None when it is neither a valid code nor an emergency number."""
        if verdict is None:
            return None
        if verdict.outcome is CodeOutcome.EMERGENCY:
            self._record.code_forgone(now=now)
            return GateResult(GateEnd.PASSED, verdict.emergency)
        if verdict.accepted and verdict.code is not None and entry.means is not None:
            code = verdict.code
            self._record.code_accepted(
                UsedCode(verdict.recorded_form, verdict.entry, code.digits, code.description),
                entry.means.value,
                now=now,
            )
            return _PASSED
        return None

    def _out_of_tries(self, now: float) -> GateResult:
        return _REFUSED if self._required else self._pass_without(now)

    def _pass_without(self, now: float) -> GateResult:
        self._record.code_forgone(now=now)
        return _PASSED

"""Judges what callers enter at the prompt, for all calls: is it a code, and is it somebody who guesses?

A lock is no secret to its caller but stops nothing that is free: where a code is optional the call goes
unprompted and without one, and digits that are an emergency number are that, locked or not.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from proxy.call import security_log
from proxy.call.code_guard import CodeGuard
from proxy.call.ports import CallEvent, LockCaller
from proxy.call.security_log import SecurityEvent
from proxy.cdr.builder import RecordBuilder
from proxy.policy import CodeOutcome, CodeVerdict, Decision, Snapshot, check_code

if TYPE_CHECKING:
    from proxy.call.call import Call
    from proxy.call.core import CallCore

__all__ = ["CodeDesk"]

_LOCKED = CodeVerdict(CodeOutcome.LOCKED, "the caller has entered too many wrong codes")
_BUSY = CodeVerdict(CodeOutcome.IN_USE, "the account code is on as many calls as it may be at once")


class CodeDesk:
    """Where entries are judged."""

    __slots__ = ("_core", "_wall_clock", "guard")

    def __init__(self, core: CallCore, wall_clock: Callable[[], datetime]) -> None:
        self._core = core
        self._wall_clock = wall_clock
        self.guard = CodeGuard(core.config.guessing)

    def policy_changed(self, policy: Snapshot) -> None:
        """Drop what a new policy holds by itself."""
        self._core.uses.counted(policy.codes)
        self.guard.counted(policy.locks)

    def is_locked(self, record: RecordBuilder) -> bool:
        """Tell whether the caller of a record may enter no code at the moment."""
        caller, at = self.guard.name(record), self._wall_clock().timestamp()
        return self.guard.is_locked(caller, self._core.policy.locks, at, peer=record.peer)

    def judge(self, call: Call, entry: str, now: float) -> CodeVerdict:
        """Judge an entry that has digits, and reserve the use of an accepted code.

        A wrong one counts for its caller, however many calls it is entered in at once.
        """
        core, clock = self._core, self._wall_clock()
        verdict = check_code(entry, call.route.decision, core.policy, clock, core.uses.reserved)
        if verdict.emergency is not None:
            return verdict
        if self.is_locked(call.record):
            return _LOCKED
        if verdict.accepted and verdict.code is not None:
            if not core.limits.take_code(call.record, call.route.decision, verdict.entry, now):
                return _BUSY
            core.uses.reserve(call.id, verdict.code)
        else:
            self._wrong(call, now, clock.timestamp())
        return verdict

    def _wrong(self, call: Call, now: float, at: float) -> None:
        record, guard = call.record, self.guard
        caller, peer = guard.name(record), record.peer
        for lock in guard.wrong(caller, now, at, call=record.record_id, peer=peer):
            self._core.emit(LockCaller(lock))
            self._core.tell(CallEvent.CALLER_LOCKED, record, now)
            security_log.note(
                SecurityEvent.CALLER_LOCKED, record.source_address, caller=lock.caller, wrong=lock.wrong
            )
        if guard.alarm(now):
            self._core.tell(CallEvent.CODES_GUESSED, record, now)
            security_log.note(SecurityEvent.CODES_GUESSED, "", wrong=guard.rules.many_wrong_codes)

    def reuse(self, first: str, record_id: str, decision: Decision, entry: str) -> bool:
        """Let the code of an earlier segment unlock a further one, if it does: one more use of it.

        What the earlier one has reserved and not paid for stands in nobody's way.
        """
        uses = self._core.uses
        reserved = partial(uses.reserved, but=first)
        verdict = check_code(entry, decision, self._core.policy, self._wall_clock(), reserved)
        if verdict.accepted and verdict.code is not None:
            uses.reserve(record_id, verdict.code)
        return verdict.accepted

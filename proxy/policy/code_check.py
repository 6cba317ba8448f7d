"""Whether a code entry is valid for one call."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime

from proxy.policy.codes import AccountCode, OwnerKind
from proxy.policy.decision import CallRequest, Decision, decide
from proxy.policy.number_plan import DialledNumber
from proxy.policy.snapshot import Snapshot

__all__ = ["CodeOutcome", "CodeVerdict", "check_code", "state_on"]


class CodeOutcome(enum.StrEnum):
    """What an entry came to. All but the first two are wrong tries."""

    ACCEPTED = "accepted"
    EMERGENCY = "emergency"
    """The digits are an emergency number: the call becomes that emergency call."""
    EMPTY = "empty"
    UNKNOWN = "unknown"
    DISABLED = "disabled"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    USED_UP = "used_up"
    NOT_YOURS = "not_yours"
    CLASS_NOT_UNLOCKED = "class_not_unlocked"
    IN_USE = "in_use"
    """A valid code that is on as many calls at once as the caller's group allows."""
    LOCKED = "locked"
    """Nobody has looked at the digits: this caller has entered too many wrong ones."""


@dataclass(frozen=True, slots=True)
class CodeVerdict:
    """The outcome of one entry. `reason` never holds the digits."""

    outcome: CodeOutcome
    reason: str
    code: AccountCode | None = field(default=None, repr=False)
    """The accepted code. Its key is `code.digits`; of a ``?`` code the dialled digits are recorded."""
    entry: str = field(default="", repr=False)
    """The dialled digits of an accepted code; "" otherwise, refused digits are kept nowhere."""
    emergency: DialledNumber | None = None

    @property
    def accepted(self) -> bool:
        """The call may go on with this code on its record."""
        return self.outcome is CodeOutcome.ACCEPTED

    @property
    def recorded_form(self) -> str:
        """What the record shows: the code as typed, or the digits that were dialled for a ``?`` code."""
        if self.code is None:
            return ""
        return self.entry if self.code.wildcard else self.code.form


def _none_reserved(_digits: str) -> int:
    return 0


def check_code(
    entry: str,
    decision: Decision,
    snapshot: Snapshot,
    at: datetime,
    reserved: Callable[[str], int] = _none_reserved,
) -> CodeVerdict:
    """Judge the digits that a caller entered for the call of `decision`.

    `at` is the site's local time (validity is by day). `reserved` tells for a code's dial form how many
    uses are taken that `AccountCode.uses` of this snapshot does not hold yet.
    """
    if snapshot.plan.emergency(entry) is not None:
        number = decide(CallRequest(entry), snapshot).number
        return CodeVerdict(
            CodeOutcome.EMERGENCY, "an emergency number was dialled as a code", emergency=number
        )
    if not entry:
        return CodeVerdict(CodeOutcome.EMPTY, "no digits were entered")
    group = decision.group
    if group is not None:
        low, high = (group.fixed_length or group.min_length), (group.fixed_length or group.max_length)
        if not low <= len(entry) <= high:
            return CodeVerdict(CodeOutcome.UNKNOWN, f"codes of group {group.name!r} have other lengths")
    code = snapshot.codes.match(entry)
    if code is None:
        return CodeVerdict(CodeOutcome.UNKNOWN, "no account code has these digits")
    outcome, reason = _judge(code, decision, at, reserved)
    if outcome is CodeOutcome.ACCEPTED:
        return CodeVerdict(outcome, reason, code, entry)
    return CodeVerdict(outcome, reason)


def state_on(day: date, code: AccountCode, reserved: int = 0) -> CodeOutcome:
    """Tell what keeps everybody from using a code on a day, or ACCEPTED.

    `reserved` are the uses that are taken beyond `AccountCode.uses`.
    """
    if not code.enabled:
        return CodeOutcome.DISABLED
    if code.valid_from is not None and day < code.valid_from:
        return CodeOutcome.NOT_YET_VALID
    if code.valid_until is not None and day > code.valid_until:
        return CodeOutcome.EXPIRED
    used_up = code.max_uses is not None and code.uses + reserved >= code.max_uses
    return CodeOutcome.USED_UP if used_up else CodeOutcome.ACCEPTED


_REASONS = {
    CodeOutcome.DISABLED: "the account code is disabled",
    CodeOutcome.NOT_YET_VALID: "the account code is valid from {code.valid_from}",
    CodeOutcome.EXPIRED: "the account code was valid until {code.valid_until}",
    CodeOutcome.NOT_YOURS: "the account code belongs to the {code.owner.kind} {code.owner.name!r}",
    CodeOutcome.CLASS_NOT_UNLOCKED: "the account code does not unlock {call_class} numbers",
    CodeOutcome.USED_UP: "the account code has had its {code.max_uses} uses",
    CodeOutcome.ACCEPTED: "the account code is valid",
}


def _judge(
    code: AccountCode, decision: Decision, at: datetime, reserved: Callable[[str], int]
) -> tuple[CodeOutcome, str]:
    outcome = state_on(at.date(), code, reserved(code.digits))
    if outcome in {CodeOutcome.ACCEPTED, CodeOutcome.USED_UP}:
        # Whose it is and what for is looked at before how often it was used.
        number = decision.number
        if not _owns(code, decision):
            outcome = CodeOutcome.NOT_YOURS
        elif code.class_of_service is not None and (
            number is None or not code.class_of_service.includes(number)
        ):
            outcome = CodeOutcome.CLASS_NOT_UNLOCKED
    return outcome, _REASONS[outcome].format(code=code, call_class=decision.call_class)


def _owns(code: AccountCode, decision: Decision) -> bool:
    owner = code.owner
    if owner.kind is OwnerKind.GROUP:
        return decision.group is not None and decision.group.name == owner.name
    if owner.kind is OwnerKind.USER:
        return decision.user is not None and decision.user.extension == owner.name
    return True

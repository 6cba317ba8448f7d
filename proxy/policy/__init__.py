"""Who may dial what: number plan, user groups, account codes and the decision.

Values and pure functions; nothing here does I/O or reads a clock.
"""

from __future__ import annotations

from proxy.policy.classes import CallClass, CodeCollection, Treatment
from proxy.policy.code_check import CodeOutcome, CodeVerdict, check_code, state_on
from proxy.policy.code_table import CodeTable
from proxy.policy.codes import (
    AccountCode,
    CodeOwner,
    OwnerKind,
    dial_form,
    new_code,
    refuse_duplicate,
    refuse_emergency_code,
)
from proxy.policy.decision import NO_DEFAULT_GROUP, CallRequest, Decision, decide, is_for_help
from proxy.policy.groups import ALL_CLASSES, MAX_CODE_LENGTH, ClassOfService, UserGroup
from proxy.policy.limits import CallLimits
from proxy.policy.locks import CallerLock
from proxy.policy.normalise import Normaliser
from proxy.policy.number_plan import ClassOverride, DialledNumber, NumberPlan, NumberRefused
from proxy.policy.patterns import NumberPattern, parse_patterns
from proxy.policy.peers import decide_through
from proxy.policy.snapshot import Snapshot
from proxy.policy.trunk_format import NumberStyle, TrunkNumberFormat, format_for_trunk
from proxy.policy.users import DigestCredential, User, refuse_emergency_user

__all__ = [
    "ALL_CLASSES",
    "MAX_CODE_LENGTH",
    "NO_DEFAULT_GROUP",
    "AccountCode",
    "CallClass",
    "CallLimits",
    "CallRequest",
    "CallerLock",
    "ClassOfService",
    "ClassOverride",
    "CodeCollection",
    "CodeOutcome",
    "CodeOwner",
    "CodeTable",
    "CodeVerdict",
    "Decision",
    "DialledNumber",
    "DigestCredential",
    "Normaliser",
    "NumberPattern",
    "NumberPlan",
    "NumberRefused",
    "NumberStyle",
    "OwnerKind",
    "Snapshot",
    "Treatment",
    "TrunkNumberFormat",
    "User",
    "UserGroup",
    "check_code",
    "decide",
    "decide_through",
    "dial_form",
    "format_for_trunk",
    "is_for_help",
    "new_code",
    "parse_patterns",
    "refuse_duplicate",
    "refuse_emergency_code",
    "refuse_emergency_user",
    "state_on",
]

"""Plans and snapshots that the policy tests share."""

from __future__ import annotations

from proxy.policy import (
    CallClass,
    ClassOfService,
    ClassOverride,
    CodeCollection,
    CodeTable,
    DialledNumber,
    Normaliser,
    NumberPattern,
    NumberPlan,
    Snapshot,
    User,
    UserGroup,
    parse_patterns,
)

US = NumberPlan("US", area_codes=("415", "628"), outside_prefix="9", extensions=parse_patterns(["2XX"]))
DE = NumberPlan("DE", area_codes=("30",))

INTERNAL = ClassOfService(frozenset({CallClass.INTERNAL}))


def override(pattern: str, call_class: CallClass) -> ClassOverride:
    return ClassOverride(NumberPattern(pattern), call_class)


def service(
    *classes: CallClass, restricted: tuple[str, ...] = (), permitted: tuple[str, ...] = ()
) -> ClassOfService:
    return ClassOfService(frozenset(classes), parse_patterns(restricted), parse_patterns(permitted))


def number(text: str, plan: NumberPlan = US) -> DialledNumber:
    found = Normaliser(plan)(text)
    assert isinstance(found, DialledNumber), found
    return found


def snapshot(*groups: UserGroup, users: tuple[User, ...] = (), codes: CodeTable | None = None) -> Snapshot:
    return Snapshot(US, groups or (UserGroup("staff", collection=CodeCollection.REQUIRED),), users, codes)

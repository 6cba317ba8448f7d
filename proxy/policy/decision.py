"""The decision: what happens to one call, and why (DESIGN section 1, Policy model)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from proxy.errors import RemoteProtocolError
from proxy.policy.classes import CallClass, Treatment, strictest
from proxy.policy.dial_string import SOS, emergency_readings, read_dial_string
from proxy.policy.groups import PatternVerdict, UserGroup
from proxy.policy.number_plan import UNIVERSAL_EMERGENCY, DialledNumber, NumberRefused
from proxy.policy.snapshot import Snapshot
from proxy.policy.users import User

__all__ = ["CallRequest", "Decision", "decide"]


@dataclass(frozen=True, slots=True)
class CallRequest:
    """What is known of a call when it arrives. Only authenticated facts: a phone's own From is none."""

    dialled: str
    """Request-URI, tel URI, service URN or bare dial string, as received."""
    user: str | None = None
    """Extension or digest name that the caller proved, or None."""
    caller: str = ""
    """The caller's number or URI as a trusted peer asserts it; "" when it asserts none."""
    default_group: str | None = None
    """The peer's group for callers that match no user."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate does with the call. `reason` is one sentence for people; `steps` is how it came about."""

    treatment: Treatment
    reason: str
    dialled: str
    """Digits as dialled, or the beginning of what could not be read."""
    number: DialledNumber | None = None
    """The number in normal form; None when it has none (then the treatment is BLOCK)."""
    user: User | None = field(default=None, repr=False)
    group: UserGroup | None = field(default=None, repr=False)
    steps: tuple[str, ...] = ()
    status_hint: int = 403
    """SIP status that refuses the call when the treatment is BLOCK."""

    @property
    def call_class(self) -> CallClass | None:
        """Class of the number, or None when it has no normal form."""
        return None if self.number is None else self.number.call_class

    @property
    def emergency(self) -> bool:
        """An emergency call: placed at once."""
        return self.number is not None and self.number.emergency

    @property
    def asks(self) -> bool:
        """The caller is asked for an account code."""
        return self.treatment.asks


NO_DEFAULT_GROUP = "caller: matches no user, and the peer has no default group"
"""The step of a decision that says so."""


def decide(request: CallRequest, snapshot: Snapshot) -> Decision:
    """Return the decision on a call. Whatever is broken: emergency calls go, others don't."""
    try:
        return _decide(request, snapshot)
    except Exception as error:  # noqa: BLE001 - a broken policy must not stop an emergency call
        return _without_policy(
            request, snapshot, f"the policy could not be evaluated ({type(error).__name__})"
        )


def is_for_help(dialled: str, snapshot: Snapshot) -> bool:
    """Say whether `decide` would find an emergency call, for a fraction of its cost, whatever is broken."""
    return any(_emergency_number(reading, snapshot) is not None for reading in emergency_readings(dialled))


def _decide(request: CallRequest, snapshot: Snapshot) -> Decision:
    number = snapshot.normalise(request.dialled)
    if isinstance(number, DialledNumber) and number.emergency:
        return _emergency(number, request, snapshot)
    user, group, steps = _identify(request, snapshot)
    if isinstance(number, NumberRefused):
        steps.append(f"number: {number.reason}")
        return Decision(
            Treatment.BLOCK,
            number.reason,
            number.dialled,
            user=user,
            group=group,
            steps=tuple(steps),
            status_hint=number.status_hint,
        )
    steps.extend(_how(number))
    steps.append(f"class: {number.call_class}")
    if user is not None and not user.enabled:
        treatment, reason = Treatment.BLOCK, f"user {user.extension} is disabled"
    elif group is None:
        treatment, reason = Treatment.BLOCK, "the caller belongs to no user group"
    else:
        treatment, reason = _treat(number, group, steps)
    steps.append(f"decision: {treatment}, because {reason}")
    return Decision(treatment, reason, number.dialled, number, user, group, tuple(steps))


def _emergency(number: DialledNumber, request: CallRequest, snapshot: Snapshot) -> Decision:
    """Allow; user and group are told if they can be found, for the record only."""
    try:
        user, group, _ = _identify(request, snapshot)
    except Exception:  # noqa: BLE001 - who called must not matter here
        user, group = None, None
    reason = "emergency calls are always placed at once"
    steps = (f"number: {number.how}", "class: emergency", f"decision: allow, because {reason}")
    return Decision(Treatment.ALLOW, reason, number.dialled, number, user, group, steps)


def _identify(request: CallRequest, snapshot: Snapshot) -> tuple[User | None, UserGroup | None, list[str]]:
    """Find user and group, and say how."""
    user: User | None = None
    name = request.default_group
    said = "caller: matches no user; the peer's default group counts"
    if request.user is not None:
        user = snapshot.user_by_digest_name(request.user) or snapshot.users.get(request.user)
        if user is None:
            return None, None, [f"caller: authenticated as {request.user!r}, whom the policy does not know"]
        said = f"caller: user {user.extension}, proved by authentication"
    elif request.caller:
        user = snapshot.user_by_caller(request.caller)
        if user is not None:
            said = f"caller: user {user.extension}, named by the peer"
    if user is not None:
        name = user.group
    elif name is None:
        return None, None, [NO_DEFAULT_GROUP]
    group = snapshot.groups.get(name)
    if group is None:
        return user, None, [said, f"group: {name!r} does not exist"]
    return user, group, [said, f"group: {group.name!r}"]


def _how(number: DialledNumber) -> Iterator[str]:
    """Say how a number was read; of several readings the first of each class."""
    said: set[CallClass] = set()
    for reading in number.readings or (number,):
        if reading.call_class not in said:
            said.add(reading.call_class)
            yield f"number: {reading.how}"


def _treat(number: DialledNumber, group: UserGroup, steps: list[str]) -> tuple[Treatment, str]:
    """Evaluate the matrix, and the pattern lists on both sides of it; of several classes the strictest."""
    verdict, pattern = group.permissions.pattern_verdict(number)
    if verdict is PatternVerdict.PERMITTED:
        steps.append(f"call permissions: the permission pattern {pattern} fits")
        return Treatment.ALLOW, f"the permission pattern {pattern} of group {group.name!r} fits"
    if verdict is PatternVerdict.RESTRICTED:
        _, treatment = strictest({one: group.outside(one) for one in number.classes})
        outside = f"the restriction pattern {pattern} of group {group.name!r} fits"
        steps.append(f"call permissions: the restriction pattern {pattern} fits, so the number lies outside")
    else:
        call_class, treatment = strictest({one: group.matrix[one] for one in number.classes})
        edited = " (edited by hand)" if call_class in group.edited else ""
        steps.append(f"matrix: {call_class} is {treatment!s}{edited}")
        if treatment is Treatment.ALLOW:
            return treatment, f"group {group.name!r} may dial {call_class} numbers freely"
        outside = f"{call_class} numbers lie outside the call permissions of group {group.name!r}"
    return _unlock(number, group, treatment, outside, steps)


def _unlock(
    number: DialledNumber, group: UserGroup, treatment: Treatment, outside: str, steps: list[str]
) -> tuple[Treatment, str]:
    """Bound a number outside the call permissions by what a code may unlock."""
    verdict, pattern = group.unlock.pattern_verdict(number)
    if verdict is PatternVerdict.RESTRICTED:
        steps.append(f"codes: the restriction pattern {pattern} fits, no code unlocks the number")
        return Treatment.BLOCK, f"{outside}, and its pattern {pattern} keeps codes from unlocking it"
    if verdict is PatternVerdict.PERMITTED and treatment is Treatment.BLOCK:
        treatment = group.collection.treatment
        steps.append(f"codes: the permission pattern {pattern} fits, a code may unlock the number")
    if treatment is Treatment.OPTIONAL_CODE:
        return treatment, f"{outside}; an account code is asked for and may be skipped"
    if treatment is Treatment.REQUIRED_CODE:
        return treatment, f"{outside}; an account code is required"
    if not group.collection.treatment.asks:
        return treatment, f"{outside}, and it collects no account codes"
    return treatment, f"{outside}, and no account code unlocks them"


def _without_policy(request: CallRequest, snapshot: Snapshot, reason: str) -> Decision:
    """Decide with nothing but the dial string and the emergency numbers: those go, the rest does not."""
    for reading in emergency_readings(request.dialled):
        send = _emergency_number(reading, snapshot)
        if send is not None:
            dialled = send if reading == SOS.digits else reading
            number = DialledNumber(
                dialled, send, CallClass.EMERGENCY, forms=(send,), how=f"{dialled} is an emergency number"
            )
            steps = (reason, "decision: allow, because emergency calls are always placed at once")
            return Decision(Treatment.ALLOW, steps[1], dialled, number, steps=steps)
    try:
        dialled = read_dial_string(request.dialled).digits
    except RemoteProtocolError:
        dialled = request.dialled[:64]
    return Decision(Treatment.BLOCK, reason, dialled, steps=(reason,), status_hint=500)


def _emergency_number(reading: str, snapshot: Snapshot) -> str | None:
    """Return the emergency number to send for these digits; without a plan, one that is known everywhere."""
    try:
        return snapshot.plan.emergency(reading)
    except Exception:  # noqa: BLE001 - a broken policy must not stop an emergency call
        if reading == SOS.digits:
            return "112"
        digits = reading.lstrip("+")
        return digits if digits in UNIVERSAL_EMERGENCY else None

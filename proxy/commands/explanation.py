"""What `tollgate explain` says about one call: how it is decided, and what stands in its way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from proxy.call.code_guard import CodeGuard, GuessingRules
from proxy.call.routing import did_of
from proxy.cdr.builder import RecordBuilder
from proxy.commands.common import shown_time
from proxy.policy import (
    NO_DEFAULT_GROUP,
    CallClass,
    CallerLock,
    CallRequest,
    Decision,
    Snapshot,
    Treatment,
    check_code,
    dial_form,
)
from proxy.settings import Settings

__all__ = ["Explanation"]

_REFUSED = "outcome: the call is refused (403)"


@dataclass(frozen=True, slots=True)
class Explanation:
    """One call that somebody asks about."""

    settings: Settings
    snapshot: Snapshot
    request: CallRequest
    decision: Decision
    peers: Sequence[str] = ()
    """The PBXs that it may come from; none for a phone's call."""
    code: str | None = None
    """The account code that is entered then."""

    def lines(self) -> Iterator[str]:
        """Say it line by line."""
        decision = self.decision
        for index, step in enumerate(decision.steps, 1):
            yield f"{index}. {self._named(step)}"
        if decision.number is not None:
            yield f"number for record and trunk: {decision.number.number} ({decision.call_class})"
        yield f"decision: {decision.treatment}"
        yield f"reason: {decision.reason}"
        stranded = self._strands(decision)
        if stranded:
            yield "trunk: none is in the settings (`trunks`): no call can leave"
        locked = False
        if decision.asks:
            locks = {peer: self._locks(decision, peer) for peer in self.peers or ("",)}
            locked = all(locks.values())
            for lock in dict.fromkeys(lock for found in locks.values() for lock in found):
                yield _lock_line(lock, certain=locked)
        if locked:
            yield from self._without_asking(decision, stranded=stranded)
        elif self.code is not None:
            yield from self._with_code(self.code, decision, stranded=stranded)
        elif stranded:
            yield "outcome: the call fails for want of a trunk"

    def _named(self, step: str) -> str:
        """Return a step; what it says of the peer's group only where there is a peer."""
        if step != NO_DEFAULT_GROUP or self.peers:
            return step
        return "caller: matches no user, and the settings have no peer"

    def _strands(self, decision: Decision) -> bool:
        """Say whether the call would go over a trunk, and there is none."""
        outside = decision.treatment is not Treatment.BLOCK and decision.call_class is not CallClass.INTERNAL
        return outside and not self.settings.trunks

    def _locks(self, decision: Decision, peer: str) -> list[CallerLock]:
        """Return the locks that keep this caller from entering a code, as the gate names callers."""
        now = datetime.now().astimezone().timestamp()
        record = RecordBuilder("", start_time=now, now=0.0)
        record.peer = peer
        record.caller_number = did_of(self.request.caller) or self.request.caller
        if decision.user is not None:
            record.user = decision.user.extension
        record.caller_e164 = self.snapshot.caller_e164(record.caller_number, decision.user)
        shared = frozenset(self.settings.guessing.shared_numbers)
        guard = CodeGuard(GuessingRules(shared_numbers=shared))
        name = guard.name(record)
        locks = self.snapshot.locks.values()
        return [lock for lock in locks if guard.is_locked(name, {lock.caller: lock}, now, peer=peer)]

    def _without_asking(self, decision: Decision, *, stranded: bool) -> Iterator[str]:
        if decision.treatment is Treatment.REQUIRED_CODE:
            yield f"{_REFUSED}: who is locked may enter no code"
        elif stranded:
            yield "outcome: no code is asked for, and the call fails for want of a trunk"
        else:
            yield "outcome: the call is placed without asking for the optional code"

    def _with_code(self, code: str, decision: Decision, *, stranded: bool) -> Iterator[str]:
        if not decision.asks:
            yield "code: none is asked for"
            if stranded:
                yield "outcome: the call fails for want of a trunk"
            return
        verdict = check_code(dial_form(code), decision, self.snapshot, datetime.now().astimezone())
        yield f"code: {verdict.outcome.value.replace('_', ' ')}, {verdict.reason}"
        if verdict.emergency is not None:
            ending = f"the emergency call to {verdict.emergency.number} is placed at once"
        elif verdict.code is not None:
            ending = f"the call is placed, with code {verdict.recorded_form} on its record"
        elif decision.treatment is Treatment.OPTIONAL_CODE:
            ending = "asked again; after the last try the call is placed without a code"
        else:
            yield "outcome: asked again; after the last try the call is refused"
            return
        yield f"outcome: {ending.replace('is placed', 'fails for want of a trunk') if stranded else ending}"


def _lock_line(lock: CallerLock, *, certain: bool) -> str:
    until = "until somebody unlocks it" if lock.until is None else f"until {shown_time(lock.until)}"
    line = f"lock: {lock.caller}: may enter no code {until}, after {lock.wrong} wrong ones; "
    line += f'`tollgate callers unlock "{lock.caller}"` lifts it'
    return line if certain else f"{line} (meant are calls through this PBX: --peer)"

"""Who is in a call: the dialogs of every user, as calls change their states.

One index of all calls, so that a new watcher is answered without a search and a change costs only those who
watch that user (RFC 4235 §3.7.1 for the states).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

from proxy.call.config import Side
from proxy.call.dialog_info import DialogInfo, DialogStatus
from proxy.call.state import CallState
from proxy.cdr.record import Direction

if TYPE_CHECKING:
    from proxy.call.call import Call

__all__ = ["DialogStates"]

_CALLER = {
    CallState.ASKING: DialogStatus.EARLY,
    CallState.DIALLING: DialogStatus.TRYING,
    CallState.RINGING: DialogStatus.EARLY,
    CallState.CONFIRMING: DialogStatus.EARLY,
    CallState.TALKING: DialogStatus.CONFIRMED,
    CallState.ANNOUNCING: DialogStatus.CONFIRMED,
}
"""The caller's dialog while nobody has answered for the callee. Absent states: there is none."""

_CALLEE = {
    CallState.DIALLING: DialogStatus.TRYING,
    CallState.RINGING: DialogStatus.EARLY,
    CallState.CONFIRMING: DialogStatus.CONFIRMED,
    CallState.TALKING: DialogStatus.CONFIRMED,
}


_TRANSFEROR = {CallState.TRANSFERRING: DialogStatus.CONFIRMED}
"""Who has referred the other party to somebody else is still there."""


def _caller(call: Call) -> str:
    """Return the extension of the user at the calling end.

    In a later segment of a call the record names who pays; who speaks is the leg's party.
    """
    if not call.record.first_record_id:
        return call.record.user
    party, policy = call.a.party, call.core.policy
    if party.peer.side is Side.TRUNK:
        return ""
    user = None if party.proved is None else policy.user_by_digest_name(party.proved)
    if user is None:
        user = policy.user_by_caller(party.asserted)
    return "" if user is None else user.extension


class DialogStates:
    """The dialogs of all users."""

    __slots__ = ("_by_user", "_changed", "_of_call", "_serial", "show_remote")

    def __init__(self, changed: Callable[[str], None], *, show_remote: bool = False) -> None:
        """``changed`` is told whose dialogs are others now; ``show_remote``: also with whom they are."""
        self._changed = changed
        self._by_user: dict[str, dict[str, DialogInfo]] = {}
        self._of_call: dict[str, tuple[int, dict[str, DialogInfo]]] = {}
        self._serial = count(1)
        self.show_remote = show_remote

    def __len__(self) -> int:
        """Return the number of calls that users have."""
        return len(self._of_call)

    def of(self, user: str) -> list[DialogInfo]:
        """Return the dialogs of a user, the oldest first."""
        return list(self._by_user.get(user, {}).values())

    def call_changed(self, call: Call) -> None:
        """Look at a call that has entered another state."""
        known = self._of_call.get(call.id)
        serial, before = known if known is not None else (next(self._serial), {})
        after = self._dialogs(call, serial)
        if after == before:
            return
        for user in {**before, **after}:
            was, now = before.get(user), after.get(user)
            if was != now:
                self._replace(user, was, now)
        if after:
            self._of_call[call.id] = (serial, after)
        else:
            del self._of_call[call.id]

    def _replace(self, user: str, was: DialogInfo | None, now: DialogInfo | None) -> None:
        dialogs = self._by_user.setdefault(user, {})
        if was is not None and (now is None or now.id != was.id):
            del dialogs[was.id]
        if now is not None:
            dialogs[now.id] = now
        if not dialogs:
            del self._by_user[user]
        self._changed(user)

    def _dialogs(self, call: Call, serial: int) -> dict[str, DialogInfo]:
        """Return the dialogs of a call by user. Who calls itself has one: that of the caller."""
        record, found = call.record, {}
        status = _CALLEE.get(call.state)
        if call.transfer is not None and call.transfer.transferor is not call.a:
            status = _TRANSFEROR.get(call.state, status)
        if record.destination_user and status is not None:
            remote, name = self._caller_of(call)
            found[record.destination_user] = DialogInfo(f"{serial}b", status, False, remote, name)
        status = _CALLER.get(call.state)
        if call.transfer is not None and call.transfer.transferor is call.a:
            status = _TRANSFEROR.get(call.state, status)
        user = "" if status is None else _caller(call)
        if user and status is not None:
            if call.answers_first:
                status = DialogStatus.CONFIRMED
            elif call.route.gated and status is DialogStatus.TRYING:
                status = DialogStatus.EARLY
            remote = self._uri(call, record.dialled_number) if self.show_remote else ""
            found[user] = DialogInfo(f"{serial}a", status, True, remote)
        return found

    def _caller_of(self, call: Call) -> tuple[str, str]:
        """Return who calls, unless that is not to be told: RFC 3323 §4.2 binds whoever passes it on."""
        privacy = ",".join(call.origin.invite.headers.get_all("Privacy")).strip().lower()
        if not self.show_remote or privacy not in {"", "none"}:
            return "", ""
        record = call.record
        # A call that has gone out may have been transferred to a user here.
        outside = record.direction is Direction.OUTBOUND
        return self._uri(call, record.dialled_number if outside else record.caller_number), record.caller_name

    @staticmethod
    def _uri(call: Call, number: str) -> str:
        domains = call.config.local_domains
        return f"sip:{number}@{domains[0] if domains else call.config.realm}" if number else ""

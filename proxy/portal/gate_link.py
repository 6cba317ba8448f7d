"""What the portal knows of the gate: asked through the control socket, and never waited for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from proxy.errors import ConfigurationError
from proxy.net.control import ask

__all__ = ["EmergencyGoesOn", "GateLink", "GateState", "LiveCall"]

_PATIENCE = 1.0
_ENCODING = 30.0
"""A long recording takes seconds to be encoded where a machine is busy."""
_GOOD_FOR = 3.0
"""Seconds for which an answer is told again: pages shall not all ask."""
_CALLS_GOOD_FOR = 0.8

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class GateState:
    """How the gate is."""

    up: bool
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LiveCall:
    """One call that is under way."""

    call_id: str
    caller: str
    user: str
    group: str
    dialled: str
    destination_user: str
    state: str
    code: str
    """Description of the account code, or ""."""
    emergency: bool
    location: str
    started_at: float
    """UTC seconds since the epoch."""
    caller_e164: str = ""

    def belongs_to(self, extension: str) -> bool:
        """Whether a user takes part in it."""
        return extension in {self.user, self.destination_user} - {""}


class EmergencyGoesOn(ConfigurationError):  # noqa: N818 - it says what is the case
    """The gate ends no emergency call by hand."""


class GateLink:
    """Asks one gate. Safe to use from several threads."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._state = _Remembered(self._ask_state, _GOOD_FOR)
        self._calls = _Remembered(self._ask_calls, _CALLS_GOOD_FOR)

    def state(self) -> GateState:
        """Tell how the gate is, or was a moment ago. Blocks for a second at most."""
        return self._state.value()

    def calls(self) -> tuple[LiveCall, ...] | None:
        """The calls that are under way, or were a moment ago, the oldest first; None with no gate."""
        return self._calls.value()

    def hang_up(self, call_id: str) -> None:
        """End a call. Raises `EmergencyGoesOn` for an emergency call, and `ConfigurationError` when there is
        none of this id, or no gate.
        """
        try:
            ask(self._socket, "hangup", call_id=call_id)
        except ConfigurationError as error:
            self._calls.forget()
            if any(call.emergency and call.call_id == call_id for call in self.calls() or ()):
                raise EmergencyGoesOn(str(error)) from None
            raise
        self._calls.forget()

    def deregister(self, user: str, contact: str = "") -> int:
        """End all registrations of a user, or that of one contact; returns how many there were.

        Raises `ConfigurationError` when no gate answers.
        """
        found = ask(self._socket, "deregister", user=user, contact=contact)
        ended = found.get("ended") if isinstance(found, dict) else 0
        return ended if isinstance(ended, int) else 0

    def take_up_recordings(self) -> bool:
        """Let the gate play the recordings that are there now; False without a gate, which reads them at its
        start. Raises `ConfigurationError` when the gate finds one of them bad.
        """
        self._state.forget()  # it may have been started this moment
        if not self.state().up:
            return False
        ask(self._socket, "recordings", timeout=_ENCODING)
        return True

    def _ask_state(self) -> GateState:
        try:
            found = ask(self._socket, "status", timeout=_PATIENCE)
        except ConfigurationError:
            return GateState(up=False)
        return GateState(up=True, facts=found if isinstance(found, dict) else {})

    def _ask_calls(self) -> tuple[LiveCall, ...] | None:
        try:
            found = ask(self._socket, "calls", timeout=_PATIENCE)
        except ConfigurationError:
            return None
        calls = (
            [_read_call(call) for call in found if isinstance(call, dict)] if isinstance(found, list) else []
        )
        return tuple(sorted(calls, key=lambda call: (call.started_at, call.call_id)))


class _Remembered(Generic[_Value]):
    """An answer that is told again for a while."""

    def __init__(self, ask_gate: Callable[[], _Value], good_for: float) -> None:
        self._ask = ask_gate
        self._good_for = good_for
        self._lock = threading.Lock()
        self._answer: tuple[float, _Value] | None = None

    def value(self) -> _Value:
        with self._lock:
            if self._answer is None or time.monotonic() - self._answer[0] >= self._good_for:
                # Noted after the answer: what took long to come is still good for a while.
                found = self._ask()
                self._answer = time.monotonic(), found
            return self._answer[1]

    def forget(self) -> None:
        with self._lock:
            self._answer = None


def _read_call(told: Mapping[str, object]) -> LiveCall:
    def text(name: str) -> str:
        return str(told.get(name, ""))

    started = told.get("started_at")
    return LiveCall(
        call_id=text("call_id"),
        caller=text("caller"),
        user=text("user"),
        group=text("group"),
        dialled=text("dialled"),
        destination_user=text("destination_user"),
        state=text("state"),
        code=text("code"),
        emergency=told.get("emergency") is True,
        location=text("location"),
        started_at=float(started) if isinstance(started, int | float) else 0.0,
        caller_e164=text("caller_e164"),
    )

"""What the portal knows of the gate: asked through the control socket, and never waited for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from proxy.errors import ConfigurationError
from proxy.net.control import ask

__all__ = ["GateLink", "GateState"]

_PATIENCE = 1.0
_GOOD_FOR = 3.0
"""Seconds for which an answer is told again: pages shall not all ask."""


@dataclass(frozen=True, slots=True)
class GateState:
    """How the gate is."""

    up: bool
    facts: Mapping[str, object] = field(default_factory=dict)


class GateLink:
    """Asks one gate. Safe to use from several threads."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._lock = threading.Lock()
        self._state = GateState(up=False)
        self._asked_at = float("-inf")

    def state(self) -> GateState:
        """Tell how the gate is, or was a moment ago. Blocks for a second at most."""
        with self._lock:
            if time.monotonic() - self._asked_at >= _GOOD_FOR:
                self._state = self._ask()
                self._asked_at = time.monotonic()
            return self._state

    def _ask(self) -> GateState:
        try:
            found = ask(self._socket, "status", timeout=_PATIENCE)
        except ConfigurationError:
            return GateState(up=False)
        return GateState(up=True, facts=found if isinstance(found, dict) else {})

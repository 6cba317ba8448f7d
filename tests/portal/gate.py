"""A control socket that answers as a gate would: what it is told to say, over the real socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from proxy.errors import ConfigurationError
from proxy.net.control import ControlServer, Handler

__all__ = ["TalkingGate"]


class TalkingGate:
    """A context manager: answers in a thread of its own, since portals ask from theirs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.calls: list[dict[str, object]] = []
        self.status: dict[str, object] = {"registered_users": 2, "trunks": []}
        self.answers: dict[str, object] = {}
        """What it tells instead, by command: a gate of another version, say."""
        self.ended: list[object] = []
        self.taken_up = 0
        """How often recordings were read again."""
        self.complaint = ""
        """What is wrong with them."""
        self._loop = asyncio.new_event_loop()
        handlers: dict[str, Handler] = {
            "calls": lambda _: self.answers.get("calls", self.calls),
            "status": lambda _: self.answers.get("status", self._status()),
            "hangup": self._hang_up,
            "deregister": self._deregister,
            "recordings": self._take_up,
        }
        self._server = ControlServer(path, handlers)
        self._thread = threading.Thread(target=self._loop.run_forever)

    def call(self, call_id: str, **more: object) -> None:
        """Let there be a call."""
        told: dict[str, object] = {
            "call_id": call_id,
            "caller": "+14155550104",
            "user": "2001",
            "group": "Sales",
            "dialled": "4155550123",
            "destination_user": "",
            "state": "talking",
            "code": "ACME, general",
            "emergency": False,
            "location": "",
            "started_at": 1_790_000_000.0 - 65,
        }
        self.calls.append({**told, **more})

    def _status(self) -> dict[str, object]:
        emergencies = sum(call["emergency"] is True for call in self.calls)
        return {**self.status, "emergency_calls": emergencies}

    def _hang_up(self, request: Mapping[str, object]) -> object:
        known = [call for call in self.calls if call["call_id"] == request["call_id"]]
        if not known:
            raise ConfigurationError("no live call")
        if known[0]["emergency"]:
            raise ConfigurationError("an emergency call is not ended by hand")
        self.calls.remove(known[0])
        self.ended.append(request["call_id"])
        return {"ended": request["call_id"]}

    def _deregister(self, request: Mapping[str, object]) -> object:
        self.ended.append((request["user"], request["contact"]))
        return {"ended": 1}

    def _take_up(self, _request: Mapping[str, object]) -> object:
        if self.complaint:
            raise ConfigurationError(self.complaint)
        self.taken_up += 1
        return {"changed": 1}

    def _run(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)  # type: ignore[arg-type]

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._server.start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

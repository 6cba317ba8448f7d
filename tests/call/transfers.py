"""Calls that are transferred: phones 204, 205 and 206 at the gate, and what a transferor is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from proxy.policy import Snapshot
from proxy.sip.dialog import Dialog
from proxy.sip.events import Event
from tests.call.phones import PhoneBench
from tests.support.ua import RING_AND_ANSWER, Headers, Step, Ua, UaCall

GATE_HOST = "gate.example.com"
FREE = "918005550123"
PREMIUM = "919005550123"
OUTSIDE = "914155550123"
EMERGENCY = "911"

RING = (Step(0.0, 180),)
SLOW = (Step(0.5, 180), Step(2.0, 200, with_sdp=True))
BUSY = (Step(0.5, 180), Step(1.0, 486))


class TransferBench(PhoneBench):
    """Phones 204 (the desk), 205 and 206, and the carrier."""

    def __init__(self, *, policy: Snapshot | None = None, pbx: bool = False, seed: int = 1) -> None:
        super().__init__(policy=policy, pbx=pbx, seed=seed)
        self.second = self.phone("192.0.2.25")
        self.third = self.phone("192.0.2.26")
        self.register(self.desk, "204")
        self.register(self.second, "205")
        self.register(self.third, "206")

    def talk(self, caller: Ua, number: str, *, user: str = "204") -> UaCall:
        """Let a phone call a number until both talk."""
        call = caller.call(number, caller=user)
        self.run(1.5)
        assert call.status == 200
        return call

    def talk_with_code(self, *, live: int = 0) -> UaCall:
        """Let the desk call outside, where a code is asked for; ``live`` calls are up already."""
        call = self.desk.call(OUTSIDE)
        self.run(0.5)
        self.press("1234#", call=live)
        self.run(1.0)
        return call

    def inbound(self, number: str = "+12125550204") -> UaCall:
        """Let the carrier call the desk until both talk."""
        call = self.carrier.call(number, caller="+13125550100")
        self.run(1.5)
        assert call.status == 200
        return call

    def hang_up(self) -> None:
        """End every call that is up, each from one of its ends."""
        for ua in self.uas:
            for call in ua.calls:
                if call.connected and not call.ended and ua not in self.vanished:
                    call.bye()
                    self.run(0.5)


@contextmanager
def desk_talks(target: Sequence[Step] = RING_AND_ANSWER) -> Iterator[tuple[TransferBench, UaCall]]:
    """Let the desk talk with 205; ``target`` is what 206 does when it is called. In the end all hang up."""
    with TransferBench() as bench:
        bench.third.script = target
        yield bench, bench.talk(bench.desk, "205")
        bench.hang_up()


@contextmanager
def faulty(bench: TransferBench, kind: type, method: str) -> Iterator[list[Event]]:
    """Let a method raise, and the core hear of it as from the driver; yields the events that it met."""
    failed: list[Event] = []
    handle = bench.core.handle_sip

    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    def guarded(event: Event, now: float) -> None:
        try:
            handle(event, now)
        except RuntimeError:
            failed.append(event)
            bench.core.abandon(event, now)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, method, broken)
        patch.setattr(bench.core, "handle_sip", guarded)
        yield failed


def outcome(bench: TransferBench, call: UaCall, target: str, seconds: float = 0.5) -> str:
    """Send a REFER within a call; returns what the transferor is told at last."""
    refer(call, target)
    bench.run(seconds)
    return told(call)[-1]


def refer(
    call: UaCall, target: str, *, replaces: Dialog | None = None, headers: Headers = (), options: str = ""
) -> None:
    """Send a REFER within a call; ``replaces`` is the consultation as the transferor knows it."""
    if replaces is not None:
        options = (
            f"?Replaces={replaces.call_id}%3Bto-tag%3D{replaces.remote_tag}%3Bfrom-tag%3D{replaces.local_tag}"
        )
    uri = target if ":" in target else f"sip:{target}@{GATE_HOST}"
    call.request("REFER", headers=[("Refer-To", f"<{uri}{options}>"), *headers])


@contextmanager
def listening(call: UaCall) -> Iterator[None]:
    """Let a phone keep what its REFER subscribes to beyond the BYE of the call."""
    dialog, endpoint = call.dialog, call.ua.endpoint
    assert dialog is not None
    endpoint.share(dialog)
    yield
    endpoint.part(dialog)


def told(call: UaCall) -> list[str]:
    """Return what the NOTIFYs of a call have said: status and state of the subscription."""
    words = []
    for request in call.requests:
        if request.method == "NOTIFY":
            status = request.body.decode().split()[1]
            state = (request.headers.get("Subscription-State") or "").partition(";")[0]
            words.append(f"{status} {state}")
    return words


def replies(call: UaCall) -> list[int]:
    """Return the statuses of the responses to what was sent within a call."""
    return [response.status for response in call.replies]

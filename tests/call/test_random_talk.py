"""Both sides of a talk change their sessions at random, at once and against each other; nothing is left."""

from __future__ import annotations

import random

import pytest

from proxy.sip.events import RequestReceived
from tests.support.gate import CARRIER, NUMBER, GateBench, default_config
from tests.support.ua import Step, Ua, UaCall, sdp

TOLL_FREE = "918005550123"
DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
CODECS = ("0 101", "8 101", "0 8 101", "8 0 101", "9 0", "18", "96")
REFUSALS = (302, 401, 408, 422, 481, 488, 491, 500, 500, 503, 603)


class Talk:
    """One seeded talk, and what its two sides do to it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        chance = self.random.choice
        self.bench = GateBench(
            config=default_config(session_expires=chance([0, 90, 1800])),
            script=(Step(0.0, 200, body=self.description(CARRIER[0])),),
            seed=seed,
            loss=chance([0.0, 0.0, 0.2]),
            duplication=chance([0.0, 0.2]),
            delay=(0.0, chance([0.0, 0.05, 0.6])),
        )
        for ua in (self.bench.pbx, self.bench.carrier):
            ua.within = self.within
            ua.auto_ack = self.random.random() < 0.95
        self.kept: list[tuple[Ua, RequestReceived]] = []

    def description(self, host: str) -> bytes:
        chance = self.random.choice
        body = sdp(
            chance([host, host, host, "0.0.0.0"]),
            chance([4000, 4000, 5000, 0]),
            codecs=chance(CODECS),
            direction=chance(DIRECTIONS),
            version=self.random.randint(1, 9),
        )
        return chance([body, body, body, body, b"", b"v=0\r\n"])

    def within(self, call: UaCall, event: RequestReceived) -> bool:
        """Answer a re-INVITE or UPDATE of the gate: well, badly, later or never."""
        if event.request.method not in {"INVITE", "UPDATE"}:
            return False
        event.transaction.owner, call.server = call, event.transaction
        if self.random.random() < 0.3:
            self.kept.append((call.ua, event))
        else:
            self.answer(call.ua, event)
        return True

    def answer(self, ua: Ua, event: RequestReceived) -> None:
        transaction, dialog = event.transaction, event.dialog
        if transaction.answered or dialog is None or dialog.state.value == "Terminated":
            return
        ua.ack_body = self.description(ua.host)
        if self.random.random() < 0.6:
            ua.endpoint.respond(transaction, 200, body=self.description(ua.host), now=ua.now())
        else:
            headers = self.random.choice([(), (("Retry-After", "2"),), (("Min-SE", "3600"),)])
            ua.endpoint.respond(transaction, self.random.choice(REFUSALS), headers=headers, now=ua.now())

    def sides(self) -> list[UaCall]:
        return [
            call
            for ua in (self.bench.pbx, self.bench.carrier)
            for call in ua.calls
            if call.dialog is not None and call.dialog.state.value == "Confirmed" and not call.ended
        ]

    def act(self) -> None:
        """Let one of the sides do something, and some time pass."""
        sides = self.sides()
        if sides:
            call = self.random.choice(sides)
            acts = (self.offer, self.offer, self.offer, self.update, self.cancel, self.late)
            self.random.choice((*acts, self.bye) if self.random.random() < 0.2 else acts)(call)
        self.bench.network.run_for(self.random.choice([0.0, 0.01, 0.1, 0.7, 3.0, 21.0, 50.0]))

    def offer(self, call: UaCall) -> None:
        assert call.dialog is not None
        if not call.dialog.invite_pending:
            call.request("INVITE", self.description(call.ua.host))

    def update(self, call: UaCall) -> None:
        call.request("UPDATE", self.description(call.ua.host))

    def cancel(self, call: UaCall) -> None:
        assert call.dialog is not None
        if call.dialog.invite_client is not None:
            call.ua.endpoint.cancel(call.dialog.invite_client, now=call.ua.now())

    def late(self, call: UaCall) -> None:
        if self.kept:
            self.answer(*self.kept.pop())

    def bye(self, call: UaCall) -> None:
        call.bye()


@pytest.mark.parametrize("seed", range(150))
def test_whatever_the_sides_want_nothing_raises_and_nothing_is_left(seed: int) -> None:
    talk = Talk(seed)
    with talk.bench as bench:
        bench.pbx.call(NUMBER if seed % 3 == 0 else TOLL_FREE)
        bench.run(1.0)
        if seed % 3 == 0:
            for digit in "1234#":
                if bench.core.calls:
                    bench.press(digit)
        for _ in range(25):
            talk.act()
        for call in list(bench.core.calls):
            bench.core.hang_up(call, bench.now)
        bench.run(1.0)
        # What these have left open they never close: theirs to clear up.
        bench.vanished.update((bench.pbx, bench.carrier))

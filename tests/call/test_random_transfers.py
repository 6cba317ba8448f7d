"""Anything may happen at any time while calls are forwarded, transferred and taken over (contract 5)."""

from __future__ import annotations

import random
from itertools import count

import pytest

from proxy.call.ports import DigitHeard, RecordDurable
from proxy.dtmf.digits import DigitMeans
from proxy.sip.events import RequestReceived
from tests.call.transfers import FREE, OUTSIDE, PREMIUM, TransferBench, refer
from tests.support.ua import Step, Ua, UaCall, sdp

TARGETS = ("204", "205", "206", "299", FREE, OUTSIDE, PREMIUM, "911", "mailto:x@y", "sip:@")
STATUSES = (180, 180, 183, 200, 200, 200, 302, 302, 305, 404, 486, 500, 603)


class Walk:
    """One seeded walk over the acts below."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.versions = count(2)
        self.bench = bench = TransferBench(seed=seed)
        bench.network.loss = self.random.choice([0.0, 0.0, 0.2])
        bench.network.duplication = self.random.choice([0.0, 0.2])
        bench.network.delay = (0.0, self.random.choice([0.0, 0.05, 0.6]))
        if self.random.random() < 0.5:
            bench.media.latency = lambda: self.random.uniform(0.0, 0.5)
        self.uas: tuple[Ua, ...] = (bench.desk, bench.second, bench.third, bench.carrier)
        for ua in self.uas:
            ua.script = self.steps
            ua.within = self.within

    def steps(self, _call: UaCall) -> list[Step]:
        return [
            Step(
                self.random.choice([0.0, 0.1, 3.0]),
                self.random.choice(STATUSES),
                with_sdp=self.random.random() < 0.8,
                headers=[
                    ("Contact", f"<sip:{self.random.choice(TARGETS[:8])}@gate>")
                    for _ in range(self.random.choice([1, 1, 3]))
                ],
            )
            for _ in range(self.random.randint(0, 3))
        ]

    def within(self, call: UaCall, event: RequestReceived) -> bool:
        """Refuse a request within a dialog now and then."""
        request, transaction = event.request, event.transaction
        if request.method == "BYE" or self.random.random() < 0.8:
            return False
        call.ua.endpoint.respond(transaction, self.random.choice([481, 488, 500]), now=call.ua.now())
        return True

    def act(self) -> None:
        """Do one thing, and let some time pass."""
        bench = self.bench
        often = (self.call, self.call, self.refer, self.refer, self.consult, self.replace)
        acts = (*often, self.bye, self.cancel, self.hold)
        self.random.choice((*acts, self.press, self.journal, self.hang_up))()
        bench.gate.settle(bench.now)
        bench.network.run_for(self.random.choice([0.0, 0.01, 0.3, 2.0, 11.0]))

    def in_dialog(self) -> UaCall | None:
        calls = [
            call
            for ua in self.uas
            for call in ua.calls
            if call.dialog is not None and call.dialog.state.value == "Confirmed" and not call.ended
        ]
        return self.random.choice(calls) if calls else None

    def call(self) -> None:
        if self.random.random() < 0.3:
            self.bench.carrier.call("+12125550204", caller="+13125550100")
            return
        index = self.random.randint(0, 2)
        body = self.random.choice([None, None, None, b""])
        self.uas[index].call(self.random.choice(TARGETS[:8]), caller=f"20{4 + index}", body=body)

    def refer(self) -> None:
        call = self.in_dialog()
        if call is not None:
            refer(call, self.random.choice(TARGETS))

    def consult(self) -> None:
        call, other = self.in_dialog(), self.in_dialog()
        if call is not None and other is not None:
            refer(call, "x", replaces=other.dialog)

    def replace(self) -> None:
        calls = [call for ua in self.uas for call in ua.calls if call.dialog is not None]
        if not calls:
            return
        dialog = self.random.choice(calls).dialog
        assert dialog is not None
        value = f"{dialog.call_id};to-tag={dialog.remote_tag};from-tag={dialog.local_tag}"
        index = self.random.randint(0, 2)
        self.uas[index].call("205", caller=f"20{4 + index}", headers=(("Replaces", value),))

    def hold(self) -> None:
        call = self.in_dialog()
        if call is not None:
            direction = self.random.choice(["sendrecv", "sendonly", "inactive"])
            call.request("UPDATE", sdp(call.ua.host, version=next(self.versions), direction=direction))

    def bye(self) -> None:
        call = self.in_dialog()
        if call is not None:
            call.bye()

    def cancel(self) -> None:
        calls = [call for ua in self.uas for call in ua.calls if call.client is not None]
        if calls:
            self.random.choice(calls).cancel()

    def press(self) -> None:
        bench = self.bench
        for leg in list(bench.media.legs.values()):
            if leg.listening:
                for digit in self.random.choice(["1234#", "99#", "#"]):
                    bench.core.handle_answer(DigitHeard(leg.id, digit, DigitMeans.RFC4733, 100), bench.now)
                    bench.gate.settle(bench.now)

    def journal(self) -> None:
        core = self.bench.core
        if core.calls:
            durable = self.random.random() < 0.7
            core.handle_answer(RecordDurable(self.random.choice(list(core.calls)), durable), self.bench.now)

    def hang_up(self) -> None:
        core = self.bench.core
        if core.calls and self.random.random() < 0.3:
            core.hang_up(self.random.choice(list(core.calls)), self.bench.now)


@pytest.mark.parametrize("block", range(10))
def test_random_transfers_never_raise_and_leave_nothing(block: int) -> None:
    for seed in range(block * 20, block * 20 + 20):
        walk = Walk(seed)
        bench = walk.bench
        for _ in range(40):
            walk.act()
        bench.network.loss = 0.0
        for _ in range(2):
            for record_id in list(bench.core.calls):
                bench.core.hang_up(record_id, bench.now)
            bench.gate.settle(bench.now)
            bench.network.run_for(400.0)
        bench.registrations.retain(())
        bench.assert_nothing_left()
        final = [record.record_id for record in bench.journal.final]
        assert len(final) == len(set(final)), f"seed {seed}"
        assert {record.record_id for record in bench.journal.records} == set(final), f"seed {seed}"
        for record in bench.journal.final:
            assert record.call_class != "premium" or record.disposition.value == "blocked", f"seed {seed}"

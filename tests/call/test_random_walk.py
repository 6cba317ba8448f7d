"""Anything may happen at any time: random acts of all sides never raise and leave nothing."""

from __future__ import annotations

import random

import pytest

from proxy.call.config import CodeMode, Trunk
from proxy.call.ports import (
    DigitHeard,
    LegId,
    LegStatistics,
    MediaLegClosed,
    MediaResumed,
    MediaTimedOut,
    RecordDurable,
)
from proxy.dtmf.digits import DigitMeans
from proxy.policy import CodeCollection
from proxy.sip.flow import Flow
from tests.support.gate import CARRIER, CARRIER_2, NUMBER, GateBench, default_config, default_policy
from tests.support.ua import Step, UaCall, sdp

NUMBERS = (NUMBER, "918005550123", "911", "205", "919005550123", "nonsense")
STATUSES = (100, 180, 183, 200, 200, 200, 302, 404, 408, 486, 500, 503, 603)
TRUNKS = (
    Trunk("first", (Flow("UDP", *CARRIER),), "one.example.com"),
    Trunk("second", (Flow("UDP", *CARRIER_2),), "two.example.com", trusted=False),
)


class Walk:
    """One seeded walk over the acts below."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        mode = self.random.choice(list(CodeMode))
        collection = self.random.choice([CodeCollection.OPTIONAL, CodeCollection.REQUIRED])
        self.bench = GateBench(
            config=default_config(code_mode=mode, trunks=TRUNKS),
            policy=default_policy(collection=collection),
            seed=seed,
            loss=self.random.choice([0.0, 0.0, 0.2]),
            duplication=self.random.choice([0.0, 0.2]),
            delay=(0.0, self.random.choice([0.0, 0.05, 0.6])),
        )
        if self.random.random() < 0.5:
            self.bench.media.latency = lambda: self.random.uniform(0.0, 0.5)
        self.bench.pbx.auto_ack = self.random.random() < 0.9
        self.bench.pbx.script = self.bench.carrier.script = self.bench.carrier_2.script = self.steps

    def steps(self, _call: UaCall) -> list[Step]:
        return [self.step(self.random.choice(STATUSES)) for _ in range(self.random.randint(0, 3))]

    def step(self, status: int) -> Step:
        return Step(
            self.random.choice([0.0, 0.1, 3.0]),
            status,
            with_sdp=self.random.random() < 0.7,
            reliable=100 < status < 200 and self.random.random() < 0.4,
        )

    def act(self) -> None:
        """Do one thing, and let some time pass."""
        bench = self.bench
        caller = (
            self.call,
            self.press,
            self.press,
            self.press,
            self.bye,
            self.cancel,
            self.reinvite,
            self.update,
            self.info,
        )
        self.random.choice((*caller, self.engine, self.journal, self.hang_up))()
        bench.gate.settle(bench.now)
        bench.network.run_for(self.random.choice([0.0, 0.01, 0.3, 2.0, 11.0]))

    def in_dialog(self) -> UaCall | None:
        bench = self.bench
        calls = [
            call
            for ua in (bench.pbx, bench.carrier, bench.carrier_2)
            for call in ua.calls
            if call.dialog is not None and call.dialog.state.value == "Confirmed" and not call.ended
        ]
        return self.random.choice(calls) if calls else None

    def call(self) -> None:
        body = self.random.choice([None, None, b"", sdp(events=False), b"v=0\r\n"])
        self.bench.pbx.auto_prack = self.random.random() < 0.8
        self.bench.pbx.prack_body = self.random.choice([b"", sdp(version=2), b"v=0\r\n"])
        headers = self.random.choice([(), (("Supported", "100rel"),), (("Require", "100rel"),)])
        self.bench.pbx.call(self.random.choice(NUMBERS), body=body, headers=headers)

    def update(self) -> None:
        """An UPDATE while it rings, or in talk."""
        calls = [
            call
            for ua in (self.bench.pbx, self.bench.carrier, self.bench.carrier_2)
            for call in ua.calls
            if call.dialog is not None and call.dialog.state.value != "Terminated" and not call.ended
        ]
        if calls:
            self.random.choice(calls).request("UPDATE", self.random.choice([b"", sdp(version=2), b"v=0\r\n"]))

    def press(self) -> None:
        bench = self.bench
        for digit in self.random.choice(["1234#", "#", "9#", "911#", "12", "*"]):
            for leg in list(bench.media.legs.values()):
                means = self.random.choice(list(DigitMeans))
                bench.core.handle_answer(DigitHeard(leg.id, digit, means, 100), bench.now)
                bench.gate.settle(bench.now)

    def bye(self) -> None:
        call = self.in_dialog()
        if call is not None:
            call.bye()

    def cancel(self) -> None:
        calls = [call for call in self.bench.pbx.calls if call.client is not None]
        if calls:
            self.random.choice(calls).cancel()

    def reinvite(self) -> None:
        call = self.in_dialog()
        if call is not None and call.dialog is not None and not call.dialog.invite_pending:
            call.request(
                "INVITE", self.random.choice([b"", sdp(version=2, direction="inactive"), b"v=0\r\n"])
            )

    def info(self) -> None:
        call = self.in_dialog()
        if call is not None:
            call.info(self.random.choice("123#"))

    def engine(self) -> None:
        media = self.bench.media
        media.refuse = {media.opened + 1} if self.random.random() < 0.2 else set()
        if media.legs:
            leg = self.random.choice(list(media.legs))
            answer = self.random.choice((MediaTimedOut, MediaResumed))
            self.bench.core.handle_answer(answer(leg), self.bench.now)
        self.bench.core.handle_answer(MediaLegClosed(LegId(999_999), LegStatistics()), self.bench.now)

    def journal(self) -> None:
        core = self.bench.core
        if core.calls:
            durable = self.random.choice([True, False])
            core.handle_answer(RecordDurable(self.random.choice(list(core.calls)), durable), self.bench.now)

    def hang_up(self) -> None:
        core = self.bench.core
        if core.calls and self.random.random() < 0.3:
            core.hang_up(self.random.choice(list(core.calls)), self.bench.now)


@pytest.mark.parametrize("block", range(10))
def test_random_walks_never_raise_and_leave_nothing(block: int) -> None:
    for seed in range(block * 30, block * 30 + 30):
        walk = Walk(seed)
        bench = walk.bench
        for _ in range(30):
            walk.act()
        for _ in range(2):  # the second time for calls whose INVITE was still on its way
            for record_id in list(bench.core.calls):
                bench.core.hang_up(record_id, bench.now)
            bench.gate.settle(bench.now)
            bench.network.run_for(400.0)
        bench.assert_nothing_left()
        final = [record.record_id for record in bench.journal.final]
        assert len(final) == len(set(final)), f"seed {seed}"
        begun = {record.record_id for record in bench.journal.records}
        assert begun == set(final), f"seed {seed}"

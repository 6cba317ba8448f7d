"""Contract 5: gated calls over a network that loses 30 %, duplicates and reorders. Nothing is lost,
nothing is left."""

from __future__ import annotations

import random
from collections import Counter

from proxy.call.code_guard import GuessingRules
from proxy.call.config import Trunk
from proxy.call.ports import DigitHeard
from proxy.cdr.record import Disposition
from proxy.dtmf.digits import DigitMeans
from proxy.policy import CodeCollection
from proxy.sip.flow import Flow
from tests.support.gate import CARRIER, CARRIER_2, NUMBER, GateBench, default_config, default_policy
from tests.support.ua import Step, UaCall

CALLS = 500
TRUNKS = (
    Trunk("first", (Flow("UDP", *CARRIER),), "one.example.com", response_timeout=3.0, progress_timeout=3.0),
    Trunk("second", (Flow("UDP", *CARRIER_2),), "two.example.com"),
)
MARK = "Call-Mark"
"""Unknown headers cross: this one tells which B legs belong to one call."""


def first_trunk(call: UaCall) -> tuple[Step, ...]:
    """Most calls ring and are answered; some are busy or fail, and some answers come when the gate has just
    given up and gone on to the second trunk."""
    turn = len(call.ua.calls) % 10
    if turn == 3:
        return (Step(0.5, 486),)
    if turn == 7:
        return (Step(0.2, 180), Step(1.0, 480))
    if turn in {1, 5, 9}:
        return (Step(2.8 + turn * 0.1, 200, with_sdp=True),)
    return (Step(0.2, 180), Step(1.5, 200, with_sdp=True))


def test_500_gated_calls_over_a_terrible_network() -> None:
    chance = random.Random(20)
    bench = GateBench(
        config=default_config(trunks=TRUNKS, guessing=GuessingRules(wrong_codes=0)),
        policy=default_policy(collection=CodeCollection.REQUIRED),
        seed=20,
        loss=0.3,
        duplication=0.15,
        delay=(0.005, 0.4),
    )
    bench.carrier.script = first_trunk
    bench.media.latency = lambda: chance.uniform(0.0, 0.5)
    bench.media.refuses = lambda: chance.random() < 0.04
    calls: list[UaCall] = []
    for turn in range(CALLS):
        call = bench.pbx.call(NUMBER, headers=[(MARK, str(turn))])
        calls.append(call)
        type_code(bench, "1234#" if turn % 5 else "99#1234#")
        bench.network.run_for(0.1)
        if turn % 7 == 6:
            hang_up(calls[turn - 5])
    for _ in range(80):
        type_code(bench, "1234#")
        bench.network.run_for(0.5)
    # late answers have had their time: no call is connected twice
    connected = Counter(mark(call) for call in b_legs(bench) if call.connected and not call.ended)
    assert max(connected.values()) == 1
    assert sum(connected.values()) > CALLS // 3
    for call in calls:
        hang_up(call)
    bench.network.run_for(300.0)
    for call in calls:  # whose answer was on its way
        hang_up(call)
    # every A leg that was ACKed too late, every BYE that was lost: time settles them
    bench.network.run_for(2000.0)
    # the carrier has hung up nothing: every one of its dialogs was ended by the gate
    assert [mark(call) for call in b_legs(bench) if call.connected and not call.ended] == []
    assert len(b_legs(bench)) > len({mark(call) for call in b_legs(bench)}), "no call tried both trunks"
    late = [call for call in b_legs(bench) if call.connected and call.was_cancelled()]
    answered_twice = Counter(mark(call) for call in b_legs(bench) if call.connected)
    assert late or max(answered_twice.values()) > 1, "no answer came too late"
    bench.assert_nothing_left()

    final = bench.journal.final
    assert len({record.record_id for record in final}) == len(final)
    by_call = Counter(record.a_call_id for record in final)
    invited = {call.client.call_id for call in calls if call.client is not None}
    # an INVITE all of whose copies were lost has not been a call of the gate
    assert set(by_call) <= invited
    assert len(by_call) >= CALLS - 2
    assert set(by_call.values()) == {1}
    dispositions = Counter(record.disposition for record in final)
    assert dispositions[Disposition.ANSWERED] > CALLS // 2
    assert dispositions[Disposition.OVERLOADED]
    assert sum(dispositions.values()) == len(final)
    answered = {record.record_id for record in bench.journal.records if not record.final}
    assert answered <= {record.record_id for record in final}


def b_legs(bench: GateBench) -> list[UaCall]:
    """Every INVITE that came to the carrier."""
    return bench.carrier.calls + bench.carrier_2.calls


def mark(call: UaCall) -> str | None:
    assert call.invite is not None
    return call.invite.headers.get(MARK)


def type_code(bench: GateBench, digits: str) -> None:
    """Every caller who is being listened to presses these keys."""
    for leg in list(bench.media.legs.values()):
        for digit in digits:
            if leg.listening and leg.id in bench.media.legs:
                bench.core.handle_answer(DigitHeard(leg.id, digit, DigitMeans.RFC4733, 100), bench.now)
                bench.gate.settle(bench.now)


def hang_up(call: UaCall) -> None:
    if (
        call.connected
        and not call.ended
        and call.dialog is not None
        and call.dialog.state.value != "Terminated"
    ):
        call.bye()
    elif call.outgoing and not call.statuses:
        call.cancel()

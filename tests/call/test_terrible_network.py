"""Contract 5: gated calls over a network that loses 30 %, duplicates and reorders. Nothing is lost,
nothing is left."""

from __future__ import annotations

from collections import Counter

from proxy.call.ports import DigitHeard
from proxy.cdr.record import Disposition
from proxy.dtmf.digits import DigitMeans
from proxy.policy import CodeCollection
from tests.support.gate import NUMBER, GateBench, default_policy
from tests.support.ua import Step, UaCall

CALLS = 500


def script(call: UaCall) -> tuple[Step, ...]:
    """Every carrier call rings; most are answered, some are busy or fail."""
    turn = len(call.ua.calls) % 10
    if turn == 3:
        return (Step(0.5, 486),)
    if turn == 7:
        return (Step(0.2, 180), Step(1.0, 480))
    return (Step(0.2, 180), Step(1.5, 200, with_sdp=True))


def test_500_gated_calls_over_a_terrible_network() -> None:
    bench = GateBench(
        policy=default_policy(collection=CodeCollection.REQUIRED),
        seed=20,
        loss=0.3,
        duplication=0.15,
        delay=(0.005, 0.4),
    )
    bench.carrier.script = script
    calls: list[UaCall] = []
    for turn in range(CALLS):
        call = bench.pbx.call(NUMBER)
        calls.append(call)
        type_code(bench, "1234#" if turn % 5 else "99#1234#")
        bench.network.run_for(0.1)
        if turn % 7 == 6:
            hang_up(calls[turn - 5])
    for _ in range(80):
        type_code(bench, "1234#")
        bench.network.run_for(0.5)
    for call in calls:
        hang_up(call)
    bench.network.run_for(300.0)
    for call in calls + bench.carrier.calls:
        hang_up(call)
    # every A leg that was ACKed too late, every BYE that was lost: time settles them
    bench.network.run_for(2000.0)
    vanished(bench)
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
    assert sum(dispositions.values()) == len(final)
    lived = {record.record_id for record in bench.journal.records if not record.final}
    assert lived <= {record.record_id for record in final}
    # at most one B leg of a call was ever connected
    assert len(bench.carrier.calls) <= len(final)


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


def vanished(bench: GateBench) -> None:
    """What the simulated peers keep of dialogs whose end was lost on the way to them is theirs."""
    bench.vanished.update(bench.uas)

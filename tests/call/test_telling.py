"""What is told of calls while they happen: to whoever wants to hear it, and of codes nothing."""

from __future__ import annotations

import pytest

from proxy.call.ports import CallEvent
from proxy.policy import CodeCollection
from tests.support.gate import NUMBER, GateBench, default_policy


def told(bench: GateBench) -> list[CallEvent]:
    return [command.event for command in bench.gate.told]


def test_nothing_is_told_when_nobody_wants_to_hear_it() -> None:
    with GateBench() as bench:
        bench.dial_with_code()
        bench.run(1.0)
        bench.carrier.calls[0].bye()
    assert told(bench) == []


def test_a_call_that_is_let_in_and_each_code_that_is_not_valid() -> None:
    with GateBench() as bench:
        bench.gate.core.telling = True
        bench.pbx.call(NUMBER)
        bench.press("99#")
        bench.press("98#")
        bench.press("97#")
        bench.run(30.0)
    assert told(bench) == [CallEvent.STARTED, *[CallEvent.CODE_REJECTED] * 3]
    assert [command.record.wrong_tries for command in bench.gate.told] == [0, 1, 2, 3]
    assert bench.record.record_id == bench.gate.told[0].record.record_id
    assert not bench.gate.told[0].record.final


def test_silence_is_no_rejected_code() -> None:
    with GateBench() as bench:
        bench.gate.core.telling = True
        bench.pbx.call(NUMBER)
        bench.run(120.0)
    assert bench.record.wrong_tries == 3
    assert told(bench) == [CallEvent.STARTED]


def test_an_accepted_code_is_not_told_as_rejected() -> None:
    with GateBench() as bench:
        bench.gate.core.telling = True
        bench.dial_with_code()
        bench.run(1.0)
        bench.carrier.calls[0].bye()
    assert told(bench) == [CallEvent.STARTED]


@pytest.mark.parametrize("number", ["911", "9911"])
def test_an_emergency_call_is_told_when_it_goes_out(number: str) -> None:
    with GateBench() as bench:
        bench.gate.core.telling = True
        bench.pbx.call(number)
        bench.run(0.5)
        assert told(bench) == [CallEvent.STARTED, CallEvent.EMERGENCY_DIALLED]
        bench.carrier.calls[0].bye()
    [started, dialled] = bench.gate.told
    assert dialled.record.emergency
    assert dialled.record.record_id == started.record.record_id == bench.record.record_id


def test_help_is_called_first_whatever_becomes_of_the_telling(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with GateBench(policy=default_policy(collection=CodeCollection.OPTIONAL)) as bench:
        core = bench.gate.core
        core.telling = True
        asked: list[int] = []

        def broken(*_: object) -> None:
            asked.append(core.load.calls_of("carrier"))
            raise RuntimeError("broken")

        monkeypatch.setattr("proxy.call.core.TellOfCall", broken)
        bench.pbx.call(NUMBER)
        bench.press("911")
        bench.run(5.0)
        assert asked == [0, 1], "told of as it comes in, and when the trunk has been asked"
        assert caplog.text.count("a call is not told of") == 2
        assert bench.carrier.calls[0].connected
        bench.carrier.calls[0].bye()


def test_an_emergency_number_that_is_typed_at_the_prompt_is_told_too() -> None:
    with GateBench(policy=default_policy(collection=CodeCollection.OPTIONAL)) as bench:
        bench.gate.core.telling = True
        bench.pbx.call(NUMBER)
        bench.press("911")
        bench.run(5.0)
        bench.carrier.calls[0].bye()
    assert told(bench) == [CallEvent.STARTED, CallEvent.EMERGENCY_DIALLED]
    assert bench.gate.told[-1].record.dialled_number == "911"

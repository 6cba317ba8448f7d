"""The line of the log that says how a call ended: result, status, trunk and reason, no digit of a code."""

from __future__ import annotations

import logging

import pytest

from proxy.policy import Snapshot
from tests.support.gate import NUMBER, GateBench, default_config
from tests.support.ua import Step

TOLL_FREE = "918005550123"


@pytest.fixture(autouse=True)
def _at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "proxy.call")


def ends(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if line.startswith(("call ended", "call refused"))]


def test_a_call_with_a_code(caplog: pytest.LogCaptureFixture) -> None:
    with GateBench() as bench:
        call = bench.dial_with_code()
        bench.run(5.0)
        call.bye()
    reason = bench.record.reason
    talk = bench.record.talk_time
    says = f"call ended: answered with 200 by a_leg, {talk:.1f} s of talk, trunks: carrier 200; {reason}"
    assert ends(caplog) == [says]
    assert "1234" not in caplog.text
    (ended,) = [one for one in caplog.records if one.getMessage() == says]
    assert vars(ended)["call_id"] == bench.record.record_id


def test_a_callee_who_is_busy(caplog: pytest.LogCaptureFixture) -> None:
    with GateBench(script=(Step(0.0, 486),)) as bench:
        bench.pbx.call(TOLL_FREE)
        bench.run(5.0)
    reason = bench.record.reason
    assert ends(caplog) == [f"call ended: busy with 486 by gate, trunks: carrier 486; {reason}"]


def test_a_caller_who_gives_up_at_the_prompt(caplog: pytest.LogCaptureFixture) -> None:
    with GateBench() as bench:
        call = bench.pbx.call(NUMBER)
        bench.run(0.5)
        call.bye()
    (line,) = ends(caplog)
    assert line.startswith("call ended: abandoned_at_prompt")
    assert ", no trunk tried; " in line


def test_a_refused_call_has_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    with GateBench(policy=Snapshot(), config=default_config()) as bench:
        bench.pbx.call(TOLL_FREE)
        bench.run(1.0)
    assert ends(caplog) == [f"call refused with 404: blocked; {bench.record.reason}"]
    assert bench.record.reason

"""What a call costs, where that can be counted instead of timed."""

from __future__ import annotations

from bench.instructions import count_python_calls

CALLS = 20
MOST_PYTHON_CALLS = 2_000
"""Per gated call, over driver and cores. It was 1,300 before holds, session timers and transfers, then grew
unnoticed; whoever has to raise this says what for."""


def test_signalling_of_a_gated_call_costs_no_more_than_it_is_known_to() -> None:
    rooms = count_python_calls(CALLS)
    assert set(rooms) == {"call", "cdr", "dtmf", "net", "policy", "sdp", "sip"}
    assert sum(rooms.values()) <= MOST_PYTHON_CALLS


def test_two_counts_are_the_same() -> None:
    count_python_calls(CALLS)  # whatever is remembered from call to call is remembered now
    assert count_python_calls(CALLS) == count_python_calls(CALLS)

"""The tables between SIP, Q.850 and the record (RFC 3398 §7.2.4.1, §8.2.6.1; RFC 3326)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.call.outcome import (
    announcement,
    cause_of_reason,
    cause_of_status,
    disposition_of_status,
    ending_in_words,
    may_fail_over,
    status_for_caller,
)
from proxy.cdr.record import CallRecord, Disposition, HungUpBy, TrunkTry, UsedCode


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (404, 1),
        (486, 17),
        (480, 18),
        (603, 21),
        (484, 28),
        (500, 41),
        (502, 38),
        (504, 102),
        (488, 65),
        (302, 19),
        (200, 16),
        (580, 41),
        (499, 127),
        (699, 127),
    ],
)
def test_rfc3398_8_2_6_1_cause_of_a_status(status: int, cause: int) -> None:
    assert cause_of_status(status) == cause


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        (["Q.850;cause=17"], 17),
        (["SIP ;cause=200;text=x", 'q.850 ; cause = 34 ; text="no circuit"'], 34),
        (["Q.850"], None),
        (["Q.850;cause=abc"], None),
        (["Q.850;cause=0"], None),
        (["Q.850;cause=128"], None),
        (["Q.850;cause=99999999"], None),
        (["SIP;cause=486"], None),
        ([], None),
    ],
)
def test_rfc3326_cause_of_a_reason(values: list[str], cause: int | None) -> None:
    assert cause_of_reason(values) == cause


@given(st.integers(300, 699))
def test_what_reaches_the_caller_is_always_a_failure_that_it_may_see(status: int) -> None:
    seen = status_for_caller(status)
    assert 400 <= seen <= 699
    assert seen not in {401, 407, 408, 422, 482, 503}
    assert announcement(seen)
    assert 1 <= cause_of_status(status) <= 127
    assert isinstance(disposition_of_status(status), Disposition)


def test_rfc3261_8_1_3_1_what_a_trunk_says_of_time_and_loops_is_not_said_of_the_callers_invite() -> None:
    assert status_for_caller(408) == 504  # as when the trunk says nothing at all
    assert status_for_caller(482) == 483
    assert not may_fail_over(status_for_caller(482))


def test_failover_on_408_and_5xx_only() -> None:
    assert [status for status in range(300, 700) if may_fail_over(status)] == [408, *range(500, 600)]


def test_an_emergency_call_fails_over_on_everything_but_a_callee_who_is_busy() -> None:
    found = [status for status in range(300, 700) if may_fail_over(status, emergency=True)]
    assert found == [status for status in range(300, 700) if status not in {486, 600}]


@given(st.lists(st.text()))
def test_any_reason_text_is_read_without_error(values: list[str]) -> None:
    cause = cause_of_reason(values)
    assert cause is None or 1 <= cause <= 127


def test_an_ending_is_told_as_far_as_it_is_known() -> None:
    assert ending_in_words(CallRecord("r", 0.0)) == "failed, no trunk tried"
    known = CallRecord(
        "r",
        0.0,
        answered_after=2.0,
        ended_after=14.25,
        reason="because",
        code=UsedCode("ACME-12/7", "2263127", "2263127"),
        trunks=(TrunkTry("first"), TrunkTry("second", 200)),
        disposition=Disposition.ANSWERED,
        sip_code=200,
        hung_up_by=HungUpBy.B_LEG,
    )
    says = "answered with 200 by b_leg, 12.2 s of talk, trunks: first no response, second 200; because"
    assert ending_in_words(known) == says

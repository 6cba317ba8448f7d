"""RFC 4733 §3.2: event codes and their digits."""

from __future__ import annotations

from proxy.dtmf.digits import DIGITS


def test_rfc4733_3_2_table_3_each_digit_is_at_its_event_code() -> None:
    codes = {"0": 0, "1": 1, "9": 9, "*": 10, "#": 11, "A": 12, "B": 13, "C": 14, "D": 15}
    assert {digit: DIGITS.index(digit) for digit in codes} == codes
    assert len(set(DIGITS)) == 16

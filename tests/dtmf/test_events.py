"""RFC 4733 §3.2: event codes and their digits."""

from __future__ import annotations

import pytest

from proxy.dtmf.events import DIGITS, digit_of_event, event_of_digit
from proxy.errors import LocalProtocolError


@pytest.mark.parametrize(
    ("code", "digit"),
    [(0, "0"), (1, "1"), (9, "9"), (10, "*"), (11, "#"), (12, "A"), (13, "B"), (14, "C"), (15, "D")],
)
def test_rfc4733_3_2_table_3(code: int, digit: str) -> None:
    assert digit_of_event(code) == digit
    assert event_of_digit(digit) == code


def test_rfc4733_3_2_sixteen_events_there_and_back() -> None:
    assert [event_of_digit(digit) for digit in DIGITS] == list(range(16))


@pytest.mark.parametrize("code", [-1, 16, 32, 36, 255])
def test_rfc4733_3_2_other_events_are_no_digits(code: int) -> None:
    assert digit_of_event(code) is None


@pytest.mark.parametrize("text", ["", "12", "a", "E", "x", "٣"])
def test_what_is_no_digit_has_no_event(text: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        event_of_digit(text)
    assert str(caught.value) == "not one of the sixteen DTMF digits"

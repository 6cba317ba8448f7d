"""One code entry: type-ahead, `*`, `#`, lengths, timers, means, and leftovers of the entry before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dtmf.collector import (
    EntryCollector,
    EntryEnd,
    EntryEvent,
    EntryFinished,
    EntryKind,
    EntryRules,
    PromptInterrupted,
)
from proxy.dtmf.digits import DigitMeans
from proxy.errors import ConfigurationError

RFC4733, INFO, INBAND = DigitMeans.RFC4733, DigitMeans.INFO, DigitMeans.INBAND
RULES = EntryRules()
FIXED_4 = EntryRules(fixed_length=4)


class Caller:
    """Presses keys at an entry whose prompt is over at 0 s, and collects what the entry says."""

    def __init__(
        self,
        rules: EntryRules = RULES,
        *,
        prompting: bool = False,
        after: EntryFinished | None = None,
        now: float = 0.0,
    ) -> None:
        self.entry = EntryCollector(rules, now, after=after)
        self.events: list[EntryEvent] = []
        if not prompting:
            self.entry.prompt_finished(now)

    def press(self, keys: str, at: float, means: DigitMeans = RFC4733) -> Caller:
        for key in keys:
            self.entry.digit(key, means, at)
        return self._drain()

    def wait_until(self, at: float) -> Caller:
        self.entry.handle_timer(at)
        return self._drain()

    def _drain(self) -> Caller:
        while (event := self.entry.poll_event()) is not None:
            self.events.append(event)
        return self

    @property
    def result(self) -> tuple[EntryKind, str, EntryEnd]:
        assert self.entry.finished
        finished = self.finished
        return finished.kind, finished.digits, finished.ended_by

    @property
    def finished(self) -> EntryFinished:
        [finished] = [event for event in self.events if isinstance(event, EntryFinished)]
        return finished


def test_pound_ends_the_entry() -> None:
    caller = Caller().press("1234#", 1.0)
    assert caller.events == [EntryFinished(EntryKind.COMPLETE, "1234", RFC4733, EntryEnd.POUND)]
    assert caller.entry.next_deadline() is None


def test_pound_alone_is_empty() -> None:
    assert Caller().press("#", 1.0).result == (EntryKind.EMPTY, "", EntryEnd.POUND)


def test_star_clears_what_was_typed() -> None:
    assert Caller().press("99*12#", 1.0).result == (EntryKind.COMPLETE, "12", EntryEnd.POUND)
    assert Caller().press("99*#", 1.0).result == (EntryKind.EMPTY, "", EntryEnd.POUND)


@pytest.mark.parametrize("key", ["A", "B", "C", "D", "a", "", "12", "x", "٣"])
def test_other_keys_are_not_heard_and_claim_no_means(key: str) -> None:
    caller = Caller(prompting=True)
    caller.entry.digit(key, INFO, 0.5)
    assert caller.wait_until(0.5).events == []
    assert caller.press("12#", 1.0).result == (EntryKind.COMPLETE, "12", EntryEnd.POUND)
    assert caller.finished.means is RFC4733


def test_nothing_is_heard_after_the_end() -> None:
    caller = Caller().press("12#", 1.0).press("34#", 1.1).wait_until(100.0)
    caller.entry.prompt_finished(2.0)
    assert len(caller.events) == 1
    assert caller.entry.next_deadline() is None


# Type-ahead


def test_the_first_key_interrupts_the_prompt_once() -> None:
    caller = Caller(prompting=True).press("1", 0.3)
    assert caller.events == [PromptInterrupted()]
    assert caller.press("23#", 0.5).events[1:] == [
        EntryFinished(EntryKind.COMPLETE, "123", RFC4733, EntryEnd.POUND)
    ]


@pytest.mark.parametrize(("key", "kinds"), [("#", [EntryKind.EMPTY]), ("*", [])])
def test_pound_and_star_interrupt_the_prompt_too(key: str, kinds: list[EntryKind]) -> None:
    caller = Caller(prompting=True).press(key, 0.3)
    assert caller.events[0] == PromptInterrupted()
    assert [event.kind for event in caller.events[1:] if isinstance(event, EntryFinished)] == kinds


def test_a_late_end_of_the_prompt_restarts_no_timer() -> None:
    caller = Caller(prompting=True).press("1", 1.0)
    caller.entry.prompt_finished(3.0)
    assert caller.entry.next_deadline() == 6.0


# Timers


def test_first_digit_timer_starts_when_the_prompt_ends() -> None:
    caller = Caller(prompting=True)
    assert caller.entry.next_deadline() == 60.0
    caller.entry.prompt_finished(4.0)
    assert caller.entry.next_deadline() == 14.0
    assert caller.wait_until(13.999).events == []
    assert caller.wait_until(14.0).result == (EntryKind.NO_INPUT, "", EntryEnd.TIME_OUT)
    assert caller.finished.means is None


def test_inter_digit_timer_runs_from_the_last_digit() -> None:
    caller = Caller().press("1", 1.0).press("2", 5.5)
    assert caller.entry.next_deadline() == 10.5
    assert caller.wait_until(10.499).events == []
    assert caller.wait_until(10.5).result == (EntryKind.COMPLETE, "12", EntryEnd.TIME_OUT)


def test_a_cleared_entry_waits_as_for_a_first_digit() -> None:
    caller = Caller().press("12*", 3.0)
    assert caller.entry.next_deadline() == 13.0
    assert caller.wait_until(13.0).result == (EntryKind.NO_INPUT, "", EntryEnd.TIME_OUT)


def test_total_timer_bounds_the_prompt() -> None:
    assert Caller(prompting=True).wait_until(60.0).result == (EntryKind.NO_INPUT, "", EntryEnd.TIME_OUT)


def test_total_timer_bounds_a_slow_caller() -> None:
    caller = Caller(EntryRules(total_s=12.0))
    for second in (4.0, 8.0, 11.9):
        caller.press("*", second)
    assert caller.entry.next_deadline() == 12.0
    assert caller.wait_until(12.0).result == (EntryKind.NO_INPUT, "", EntryEnd.TIME_OUT)


def test_total_timer_keeps_the_digits_typed_so_far() -> None:
    caller = Caller(EntryRules(total_s=4.0)).press("12", 1.0)
    assert caller.wait_until(4.0).result == (EntryKind.COMPLETE, "12", EntryEnd.TIME_OUT)


def test_a_key_at_the_deadline_is_too_late() -> None:
    assert Caller().press("12", 1.0).press("3", 6.0).result == (EntryKind.COMPLETE, "12", EntryEnd.TIME_OUT)


# Lengths


def test_fixed_length_ends_by_itself() -> None:
    caller = Caller(FIXED_4).press("12345", 1.0)
    assert caller.result == (EntryKind.COMPLETE, "1234", EntryEnd.LENGTH)


def test_fixed_length_may_exceed_the_default_bounds() -> None:
    caller = Caller(EntryRules(max_length=4, fixed_length=8)).press("12345678", 1.0)
    assert caller.result == (EntryKind.COMPLETE, "12345678", EntryEnd.LENGTH)


def test_too_few_digits_are_still_told_for_emergency_numbers() -> None:
    assert Caller(FIXED_4).press("911#", 1.0).result == (EntryKind.TOO_SHORT, "911", EntryEnd.POUND)
    rules = EntryRules(min_length=6)
    assert Caller(rules).press("112", 1.0).wait_until(6.0).result == (
        EntryKind.TOO_SHORT,
        "112",
        EntryEnd.TIME_OUT,
    )


def test_the_longest_entry_is_taken_whole() -> None:
    digits = "12345678901234567890"
    assert Caller().press(digits + "#", 1.0).result == (EntryKind.COMPLETE, digits, EntryEnd.POUND)


@pytest.mark.parametrize(("extra", "kept"), [("5", "12345"), ("5678", "12345678"), ("5" * 500, "")])
def test_an_entry_past_its_length_is_wrong_as_a_whole(extra: str, kept: str) -> None:
    caller = Caller(EntryRules(max_length=4)).press("1234" + extra, 1.0)
    assert (
        caller.events == []
    )  # it ends with "#" or time, so that the rest does not spill into the next entry
    assert caller.press("#", 1.1).result == (EntryKind.TOO_LONG, kept, EntryEnd.POUND)


@pytest.mark.parametrize("number", ["911", "9911", "112"])
@pytest.mark.parametrize("longest", [2, 3])
@pytest.mark.parametrize("fixed", [True, False])
def test_an_emergency_number_is_kept_whatever_lengths_codes_have(
    number: str, longest: int, fixed: bool
) -> None:
    rules = EntryRules(
        max_length=longest,
        fixed_length=longest if fixed else None,
        emergency_prefixes=frozenset({"9", "91", "99", "991", "1", "11"}),
    )
    caller = Caller(rules).press(number + "#", 1.0)
    assert caller.finished.digits == number


def test_a_fixed_length_does_not_end_an_emergency_number_but_time_does() -> None:
    rules = EntryRules(fixed_length=2, emergency_prefixes=frozenset({"9", "91"}))
    assert Caller(rules).press("12", 1.0).result == (EntryKind.COMPLETE, "12", EntryEnd.LENGTH)
    waiting = Caller(rules).press("91", 1.0)
    assert waiting.events == []
    assert waiting.wait_until(6.0).result == (EntryKind.COMPLETE, "91", EntryEnd.TIME_OUT)


def test_an_entry_can_be_ended_before_its_time() -> None:
    caller = Caller().press("12", 1.0)
    caller.entry.give_up()
    caller.entry.give_up()
    assert caller._drain().result == (EntryKind.COMPLETE, "12", EntryEnd.TIME_OUT)


def test_an_entry_past_its_length_can_be_cleared() -> None:
    caller = Caller(EntryRules(max_length=4)).press("12345678*1234#", 1.0)
    assert caller.result == (EntryKind.COMPLETE, "1234", EntryEnd.POUND)


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ({"first_digit_s": 0.0}, "first_digit_s"),
        ({"inter_digit_s": -1.0}, "inter_digit_s"),
        ({"total_s": float("nan")}, "total_s"),
        ({"min_length": 0}, "min_length"),
        ({"min_length": 5, "max_length": 4}, "max_length"),
        ({"max_length": 21}, "max_length"),
        ({"fixed_length": 0}, "fixed_length"),
        ({"fixed_length": 21}, "fixed_length"),
    ],
)
def test_contradicting_rules_are_refused_by_name(rules: dict[str, float], field: str) -> None:
    numbers = {name: int(value) if name.endswith("length") else value for name, value in rules.items()}
    with pytest.raises(ConfigurationError, match=field):
        EntryRules(**numbers)  # type: ignore[arg-type]  # one dict for floats and ints


# Means


@pytest.mark.parametrize("first", [RFC4733, INFO, INBAND])
def test_only_the_first_means_is_heard(first: DigitMeans) -> None:
    caller = Caller()
    for key in "12":
        for means in (first, *(other for other in DigitMeans if other is not first)):
            caller.press(key, 1.0, means)
    caller.press("#", 1.5, first)
    assert caller.result == (EntryKind.COMPLETE, "12", EntryEnd.POUND)
    assert caller.finished.means is first


def test_other_means_neither_end_nor_clear_nor_prolong() -> None:
    caller = Caller().press("12", 1.0).press("*#9", 2.0, INBAND)
    assert caller.entry.next_deadline() == 6.0
    assert caller.press("3#", 3.0).result == (EntryKind.COMPLETE, "123", EntryEnd.POUND)


def test_means_stay_when_the_entry_is_cleared() -> None:
    caller = Caller().press("12*", 1.0).press("9", 1.5, INFO).press("34#", 2.0)
    assert caller.result == (EntryKind.COMPLETE, "34", EntryEnd.POUND)


# Leftovers of the entry before

WRONG = EntryFinished(EntryKind.COMPLETE, "1234", RFC4733, EntryEnd.POUND)
BY_LENGTH = EntryFinished(EntryKind.COMPLETE, "1234", RFC4733, EntryEnd.LENGTH)
BY_TIME = EntryFinished(EntryKind.TOO_LONG, "", RFC4733, EntryEnd.TIME_OUT)
SILENT = EntryFinished(EntryKind.NO_INPUT, "", None, EntryEnd.TIME_OUT)
CLEARED = EntryFinished(EntryKind.NO_INPUT, "", RFC4733, EntryEnd.TIME_OUT)


@pytest.mark.parametrize("after", [BY_LENGTH, BY_TIME])
def test_one_habitual_pound_is_swallowed(after: EntryFinished) -> None:
    caller = Caller(prompting=True, after=after).press("#", 1.999)
    assert caller.events == []  # nor does it stop the prompt
    assert caller.press("#", 1.999).result == (EntryKind.EMPTY, "", EntryEnd.POUND)


@pytest.mark.parametrize("after", [None, WRONG, SILENT, CLEARED])
def test_a_pound_that_was_not_due_is_heard(after: EntryFinished | None) -> None:
    assert Caller(after=after).press("#", 0.1).result == (EntryKind.EMPTY, "", EntryEnd.POUND)


def test_a_late_pound_is_meant() -> None:
    assert Caller(after=BY_LENGTH).press("#", 2.0).result == (EntryKind.EMPTY, "", EntryEnd.POUND)


def test_a_pound_after_new_digits_is_meant() -> None:
    assert Caller(after=BY_LENGTH).press("56#", 0.5).result == (EntryKind.COMPLETE, "56", EntryEnd.POUND)


def test_a_late_echo_by_other_means_does_not_open_the_next_entry() -> None:
    caller = Caller(prompting=True, after=WRONG).press("4#", 0.2, INFO)
    assert caller.events == []
    assert caller.press("56#", 1.0).result == (EntryKind.COMPLETE, "56", EntryEnd.POUND)


def test_other_means_are_heard_after_the_grace() -> None:
    caller = Caller(after=WRONG).press("56#", 2.0, INFO)
    assert caller.result == (EntryKind.COMPLETE, "56", EntryEnd.POUND)
    assert caller.finished.means is INFO


def test_after_silence_any_means_is_heard_at_once() -> None:
    assert Caller(after=SILENT).press("5#", 0.1, INBAND).finished.means is INBAND


# Secrets and arbitrary input


def test_digits_are_in_no_repr() -> None:
    caller = Caller().press("8642#", 1.0)
    assert "8642" not in repr(caller.finished)
    assert "8642" not in repr(Caller().press("8642", 1.0).entry)


STEP = st.tuples(
    st.sampled_from(["digit", "timer", "prompt"]),
    st.sampled_from([*"0123456789*#AD", "", "x"]),
    st.sampled_from(list(DigitMeans)),
    st.floats(0, 4),
)


@given(
    st.lists(STEP, max_size=60),
    st.sampled_from([RULES, FIXED_4, EntryRules(min_length=3, max_length=6)]),
    st.sampled_from([None, WRONG, BY_LENGTH, BY_TIME, SILENT]),
)
def test_any_input_ends_once_within_the_total_time(
    steps: list[tuple[str, str, DigitMeans, float]], rules: EntryRules, after: EntryFinished | None
) -> None:
    now = 0.0
    entry = EntryCollector(rules, now, after=after)
    for action, key, means, pause in steps:
        now += pause
        if action == "digit":
            entry.digit(key, means, now)
        elif action == "timer":
            entry.handle_timer(now)
        else:
            entry.prompt_finished(now)
        deadline = entry.next_deadline()
        assert (deadline is None) is entry.finished
        assert deadline is None or deadline <= rules.total_s
    entry.handle_timer(60.0 + now)
    events = []
    while (event := entry.poll_event()) is not None:
        events.append(event)
    finished = events.pop()
    assert isinstance(finished, EntryFinished)
    assert events in ([], [PromptInterrupted()])
    if finished.kind is EntryKind.COMPLETE:
        assert rules.shortest <= len(finished.digits) <= rules.longest
    elif finished.kind is EntryKind.TOO_SHORT:
        assert 0 < len(finished.digits) < rules.shortest
    else:
        assert finished.digits == ""

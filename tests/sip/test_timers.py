"""The timer heap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.sip.timers import NEVER, Timed, TimerHeap


class Recorder(Timed):
    __slots__ = ("fired",)

    def __init__(self) -> None:
        super().__init__()
        self.fired: list[float] = []

    def fire(self, now: float) -> None:
        self.fired.append(now)


def test_deadlines_fire_in_order_and_with_their_own_time() -> None:
    heap = TimerHeap()
    first, second = Recorder(), Recorder()
    heap.start(second, 2.0)
    heap.start(first, 1.0)
    assert heap.next_deadline() == 1.0
    heap.run(0.999)
    assert first.fired == []
    heap.run(5.0)
    assert first.fired == [1.0]
    assert second.fired == [2.0]
    assert heap.next_deadline() is None
    assert len(heap) == 0


def test_a_deadline_moved_to_later_fires_once_at_the_later_time() -> None:
    heap = TimerHeap()
    timed = Recorder()
    heap.start(timed, 1.0)
    heap.start(timed, 3.0)
    assert heap.entries == 1
    heap.run(2.0)
    assert timed.fired == []
    assert heap.next_deadline() == 3.0
    heap.run(3.0)
    assert timed.fired == [3.0]


def test_a_deadline_moved_to_earlier_fires_once_at_the_earlier_time() -> None:
    heap = TimerHeap()
    timed = Recorder()
    heap.start(timed, 3.0)
    heap.start(timed, 1.0)
    heap.run(10.0)
    assert timed.fired == [1.0]
    assert heap.entries == 0


def test_a_stopped_deadline_never_fires_and_stopping_again_is_harmless() -> None:
    heap = TimerHeap()
    timed = Recorder()
    heap.start(timed, 1.0)
    heap.stop(timed)
    heap.stop(timed)
    assert len(heap) == 0
    assert heap.next_deadline() is None
    heap.run(10.0)
    assert timed.fired == []
    assert timed.deadline == NEVER


def test_stopped_and_started_again_it_uses_the_entry_that_is_there() -> None:
    heap = TimerHeap()
    timed = Recorder()
    heap.start(timed, 1.0)
    heap.stop(timed)
    heap.start(timed, 2.0)
    heap.run(10.0)
    assert timed.fired == [2.0]


def test_a_machine_may_set_its_next_deadline_while_it_fires() -> None:
    class Repeating(Recorder):
        __slots__ = ()

        def fire(self, now: float) -> None:
            super().fire(now)
            if len(self.fired) < 3:
                heap.start(self, now + 1.0)

    heap = TimerHeap()
    timed = Repeating()
    heap.start(timed, 1.0)
    heap.run(100.0)
    assert timed.fired == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("stopped_by", ["stop", "earlier"])
def test_dead_entries_stay_few_whatever_is_started_and_stopped(stopped_by: str) -> None:
    heap = TimerHeap()
    live = Recorder()
    heap.start(live, 1e9)
    moving = Recorder()
    for number in range(10_000):
        if stopped_by == "stop":
            timed = Recorder()
            heap.start(timed, 1000.0 + number)
            heap.stop(timed)
        else:
            heap.start(moving, 1e6 - number)
        assert heap.entries <= 2 * len(heap) + 65
    heap.run(1e8)
    assert heap.next_deadline() == 1e9
    assert len(heap) == 1
    assert moving.fired == ([] if stopped_by == "stop" else [1e6 - 9999])


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.one_of(st.none(), st.integers(0, 50))),
        max_size=200,
    )
)
def test_the_heap_agrees_with_a_plain_dictionary(steps: list[tuple[int, int | None]]) -> None:
    heap = TimerHeap()
    timed = [Recorder() for _ in range(10)]
    expected: dict[int, float] = {}
    for index, at in steps:
        if at is None:
            heap.stop(timed[index])
            expected.pop(index, None)
        else:
            heap.start(timed[index], float(at))
            expected[index] = float(at)
        assert len(heap) == len(expected)
    assert heap.next_deadline() == (min(expected.values()) if expected else None)
    heap.run(25.0)
    for index, recorder in enumerate(timed):
        due = index in expected and expected[index] <= 25.0
        assert recorder.fired == ([expected[index]] if due else [])

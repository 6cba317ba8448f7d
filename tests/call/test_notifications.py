"""NOTIFY of a user's line: refused, postponed, gathered, throttled (RFC 6665 §4.2.2, RFC 4235 §3.10)."""

from __future__ import annotations

import pytest

from proxy.call.config import SubscriptionConfig
from proxy.call.subscription import Subscription
from proxy.policy import Snapshot, User
from proxy.sip.flow import Flow
from tests.call.watching import WatchBench
from tests.support.ua import Step


def ring(bench: WatchBench, times: int = 1) -> None:
    """Let 206 call 204 and give up again."""
    bench.desk.script = (Step(0.0, 180),)
    for _ in range(times):
        call = bench.stranger.call("204", caller="206")
        bench.run(0.01)
        call.cancel()
        bench.run(0.01)


@pytest.mark.parametrize("answer", [481, 408, 401, 500, 302])
def test_rfc6665_4_2_2_a_refused_notify_ends_it(answer: int) -> None:
    with WatchBench() as bench:
        bench.watcher.answers = [(answer, ())]
        bench.watcher.subscribe("204", expires=600)
        bench.run(0.1)
        assert len(bench.subscriptions) == 0
        assert bench.subscriptions.idle


def test_rfc6665_4_2_2_an_unanswered_notify_ends_it() -> None:
    with WatchBench() as bench:
        bench.watcher.answers = [(0, ())]
        bench.watcher.subscribe("204", expires=600)
        bench.run(31.9)
        assert len(bench.subscriptions) == 1
        bench.run(0.2)
        assert len(bench.subscriptions) == 0
        bench.vanished.add(bench.watcher)


def test_rfc6665_4_2_2_retry_after_postpones() -> None:
    with WatchBench() as bench:
        bench.register(bench.desk, "204")
        watcher = bench.watch()
        watcher.answers = [(503, (("Retry-After", "20"),))]
        watcher.keeps_dialog = True
        ring(bench)
        bench.run(5.0)
        ring(bench)
        bench.run(14.0)
        assert watcher.lamps == [["recipient early"]], "nothing goes out meanwhile"
        bench.run(2.0)
        assert watcher.lamps[1:] == [["recipient terminated"]]


def test_rfc6665_4_2_2_retry_after_the_end_is_the_end() -> None:
    with WatchBench() as bench:
        bench.watcher.answers = [(503, (("Retry-After", "600"),))]
        bench.watcher.subscribe("204", expires=600)
        bench.run(0.1)
        assert len(bench.subscriptions) == 0


def test_rfc6665_4_2_2_one_notify_at_a_time_and_the_news_together() -> None:
    with WatchBench() as bench:
        bench.register(bench.desk, "204")
        watcher = bench.watch()
        sent: list[bytes] = []

        def drop(sender: tuple[str, int], receiver: tuple[str, int], data: bytes) -> bool:
            if not data.startswith(b"NOTIFY"):
                return False
            sent.append(data)
            return len(sent) <= 2

        bench.network.drop = drop
        ring(bench)
        watcher.refresh(500)
        bench.run(0.1)
        assert len(sent) == 1
        bench.run(3.0)
        assert len(set(sent)) == 2
        assert watcher.lamps == [["recipient early"], ["recipient terminated"]]
        assert watcher.states[1] == "active;expires=499"


def test_rfc6665_4_2_2_the_end_waits_for_the_notify_under_way() -> None:
    with WatchBench() as bench:
        bench.network.drop = lambda sender, receiver, data: data.startswith(b"NOTIFY")
        bench.watcher.subscribe("204", expires=600)
        bench.run(0.1)
        watcher_gone(bench)
        watcher_gone(bench)
        bench.network.drop = None
        bench.run(2.0)
        assert bench.watcher.states == ["active;expires=600", "terminated;reason=rejected"]


def test_rfc6665_4_2_2_a_refusal_with_retry_after_does_not_postpone_the_end() -> None:
    with WatchBench() as bench:
        watcher = bench.watcher
        lost: list[bytes] = []

        def drop(sender: tuple[str, int], receiver: tuple[str, int], data: bytes) -> bool:
            lost.append(data)
            return data.startswith(b"NOTIFY") and len(lost) < 10

        watcher.answers = [(503, (("Retry-After", "20"),))]
        bench.network.drop = drop
        watcher.subscribe("204", expires=600)
        bench.run(0.1)
        watcher_gone(bench)
        bench.network.drop = None
        bench.run(1.0)
        assert len(watcher.told) == 1
        assert len(bench.subscriptions) == 0


def watcher_gone(bench: WatchBench) -> None:
    """Delete 205 and 204."""
    plain = bench.core.policy
    bench.core.policy = Snapshot(plain.plan, plain.groups.values(), [User("206", "staff")], plain.codes)
    bench.run(0.1)


def test_rfc4235_3_10_notifications_are_throttled() -> None:
    with WatchBench() as bench:
        bench.register(bench.desk, "204")
        watcher = bench.watch()
        bench.run(10.0)
        ring(bench, times=20)
        assert len(watcher.told) == 4, "a burst of a few"
        bench.run(0.5)
        assert len(watcher.told) == 4
        bench.run(5.0)
        assert len(watcher.told) == 5, "and all the rest in one"
        assert all(lamp == "recipient terminated" for lamp in watcher.lamps[4])
        bench.run(10.0)
        ring(bench)
        assert len(watcher.told) == 7, "rested"


def test_a_crowd_of_watchers_is_told_in_portions() -> None:
    with WatchBench(config=SubscriptionConfig(max_per_user=1000)) as bench:
        bench.register(bench.desk, "204")
        for _ in range(100):
            bench.watcher.subscribe("204", expires=600)
        bench.run(1.0)
        bench.watcher.told.clear()
        call = bench.stranger.call("204", caller="206")
        for data, _ in bench.stranger.endpoint.transmits():
            bench.gate.endpoint.receive(data, Flow("UDP", *bench.stranger.address), bench.now)
        bench.gate.settle(bench.now)
        assert not any(data.startswith(b"NOTIFY") for data, _ in bench.gate.endpoint.transmits())
        portions = []
        while bench.core.next_timer() == 0.0:
            bench.core.handle_timer(bench.now)
            sent = bench.gate.endpoint.transmits()  # lost, and sent again half a second later
            portions.append(sum(data.startswith(b"NOTIFY") for data, _ in sent))
        assert portions == [32, 32, 32, 4]
        bench.run(5.0)
        assert len({told.request.call_id for told in bench.watcher.told}) == 100
        call.bye()


def test_a_fault_among_subscriptions_costs_no_call(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(subscription: Subscription, now: float) -> None:
        raise RuntimeError("broken")

    with WatchBench() as bench:
        bench.register(bench.desk, "204")
        watcher = bench.watch()
        monkeypatch.setattr(Subscription, "tell_news", broken)
        bench.desk.script = (Step(0.0, 200, with_sdp=True),)
        call = bench.stranger.call("204", caller="206")
        bench.run(1.0)
        assert call.status == 200
        assert watcher.told == []
        assert "a timer of Subscriptions failed" in caplog.text
        monkeypatch.undo()
        call.bye()
        bench.run(1.0)

"""Trunks up and down, probed by OPTIONS and by the calls themselves; their order; failover in time."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from proxy.call import trunk_watch
from proxy.call.config import Trunk
from proxy.call.routing import Hop
from proxy.call.trunk_accounts import TrunkAccounts
from proxy.call.trunk_watch import Probe, TrunkState, TrunkWatch
from proxy.cdr.record import Disposition
from proxy.sip.config import EndpointConfig
from proxy.sip.endpoint import Endpoint
from proxy.sip.events import RequestFailed, ResponseReceived
from proxy.sip.flow import Flow, ListenPoint
from proxy.sip.timers import NEVER
from tests.support.gate import CARRIER, CARRIER_2, GateBench, default_config
from tests.support.ids import CountingIds
from tests.support.ua import Step

TOLL_FREE = "918005550123"
A, B = Flow("UDP", "198.51.100.1", 5060, 0), Flow("UDP", "2001:db8::2", 5060, 0)
FIRST = Trunk("first", (A,), "one.example.com", probe_interval=10.0)
SECOND = Trunk("second", (B,), "2001:db8::2", probe_interval=10.0)


class Watch:
    """A watch over an endpoint without a network: what it sends is looked at and answered here."""

    def __init__(self, *trunks: Trunk) -> None:
        points = (ListenPoint("UDP", "192.0.2.1", 5060),)
        self.endpoint = Endpoint(EndpointConfig(points), CountingIds())
        self.watch = TrunkWatch(self.endpoint)
        self.watch.reconfigure(trunks)
        self.now = 100.0

    def probes(self, seconds: float = 0.0) -> list[str]:
        """Let time pass; return where OPTIONS went to, as ``Request-URI at address``."""
        end = self.now + seconds
        sent: list[str] = []
        while True:
            sent += self._sent()
            due = self.watch.due
            if due > end:
                break
            self.now = max(self.now, due)
            self.watch.handle_timer(self.now)
        self.now = end
        return sent

    def _sent(self) -> list[str]:
        sent = []
        for data, flow in self.endpoint.transmits():
            text = data.decode()
            assert text.startswith("OPTIONS ")
            sent.append(f"{text.split()[1]} at {flow.remote_host}")
            self.last = text
        return sent

    def answer(self, status: int) -> Probe:
        """Answer the OPTIONS that was sent last."""
        kept = ("Via", "From", "To", "Call-ID", "CSeq")
        lines = [line for line in self.last.split("\r\n") if line.partition(":")[0] in kept]
        head = "\r\n".join([f"SIP/2.0 {status} X", *lines, "Content-Length: 0", "", ""])
        self.endpoint.receive(head.replace("\r\nTo: ", "\r\nTo: ").encode(), A, self.now)
        (event,) = self.endpoint.events()
        assert isinstance(event, ResponseReceived)
        probe = event.transaction.owner
        assert isinstance(probe, Probe)
        probe.answered(status, self.now)
        return probe

    @property
    def states(self) -> list[TrunkState]:
        return [one.state for one in self.watch.status()]

    def order(self, *trunks: Trunk) -> list[str]:
        return [hop.trunk.name for hop in self.watch.arrange(trunks, self.now)]


def test_rfc3261_11_1_each_destination_gets_options_in_its_interval() -> None:
    watch = Watch(FIRST, SECOND)
    both = ["sip:one.example.com at 198.51.100.1", "sip:[2001:db8::2] at 2001:db8::2"]
    assert watch.probes() == both
    assert watch.probes(9.999) == []
    assert watch.probes(0.001) == both


def test_without_an_interval_nothing_is_sent() -> None:
    watch = Watch(replace(FIRST, probe_interval=0.0))
    assert watch.watch.due == NEVER
    watch.watch.handle_timer(watch.now)
    assert watch.probes(100.0) == []


def test_two_silent_probes_take_a_trunk_down_and_two_answers_bring_it_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    watch = Watch(FIRST)
    watch.probes(trunk_watch.PROBE_TIMEOUT)
    assert watch.states == [TrunkState.UP]
    watch.probes(10.0)
    (status,) = watch.watch.status()
    assert status.state is TrunkState.DOWN
    assert (status.trunk, status.address) == ("first", "udp:198.51.100.1:5060")
    assert status.since == 114.0
    assert status.reason == "no answer to OPTIONS"
    watch.probes(6.0)
    watch.answer(200)
    assert watch.states == [TrunkState.DOWN]
    watch.probes(10.0)
    watch.answer(404)
    assert watch.states == [TrunkState.UP]
    assert watch.watch.status()[0].reason == ""
    assert [record.message for record in caplog.records] == [
        "trunk first at udp:198.51.100.1:5060 is down: no answer to OPTIONS",
        "trunk first at udp:198.51.100.1:5060 is up",
    ]


def test_one_answer_between_failures_brings_no_change() -> None:
    watch = Watch(FIRST)
    for status in (503, 200, 503, 200, 503):
        watch.probes()
        watch.answer(status)
        assert watch.states == [TrunkState.UP]
        watch.probes(9.999)
        watch.now += 0.001
    watch.probes()
    watch.answer(503)
    assert watch.states == [TrunkState.DOWN]
    assert watch.watch.status()[0].reason == "503 to OPTIONS"
    for status in (200, 503, 200, 503):
        watch.probes(9.999)
        watch.now += 0.001
        watch.probes()
        watch.answer(status)
        assert watch.states == [TrunkState.DOWN]


def test_each_trunk_has_its_own_rhythm() -> None:
    watch = Watch(FIRST, replace(SECOND, probe_interval=7.0))
    sent = watch.probes(69.9)
    assert sent.count("sip:one.example.com at 198.51.100.1") == 7
    assert sent.count("sip:[2001:db8::2] at 2001:db8::2") == 10


def test_an_answer_after_its_time_counts_for_nothing() -> None:
    watch = Watch(FIRST)
    watch.probes(trunk_watch.PROBE_TIMEOUT)
    probe = watch.answer(200)
    assert probe.over
    probe.failed(watch.now)
    watch.probes(10.0)
    assert watch.states == [TrunkState.DOWN]


def test_a_probe_that_cannot_be_sent_has_failed() -> None:
    watch = Watch(FIRST)
    for _ in range(2):
        watch.probes()
        watch.endpoint.transport_failed(A, watch.now)
        (event,) = watch.endpoint.events()
        assert isinstance(event, RequestFailed)
        assert isinstance(event.transaction.owner, Probe)
        event.transaction.owner.failed(watch.now)
        watch.probes(10.0)
    assert watch.states == [TrunkState.DOWN]


def test_short_intervals_have_short_time_outs() -> None:
    watch = Watch(replace(FIRST, probe_interval=1.0))
    assert len(watch.probes(1.0)) == 2
    assert watch.states == [TrunkState.UP]
    watch.probes(0.5)
    assert watch.states == [TrunkState.DOWN]


def test_a_reload_keeps_the_state_of_what_stays() -> None:
    watch = Watch(FIRST, SECOND)
    for _ in range(2):
        watch.watch.call_failed(Hop(FIRST, A), "no answer", watch.now)
    watch.watch.reconfigure((replace(FIRST, weight=2),))
    assert watch.states == [TrunkState.DOWN]
    assert watch.probes() == ["sip:one.example.com at 198.51.100.1"]
    watch.watch.reconfigure((replace(FIRST, probe_interval=0.0),))
    assert watch.probes(100.0) == []
    watch.watch.reconfigure(())
    assert watch.states == []


# Order ------------------------------------------------------------------------------------------------------


def test_priorities_order_trunks() -> None:
    watch = Watch()
    low, high = replace(FIRST, priority=2), replace(SECOND, priority=1)
    assert watch.order(low, high) == ["second", "first"]
    assert watch.order(FIRST, SECOND) == ["first", "second"]


def test_weights_share_the_calls_of_one_priority() -> None:
    heavy, light = replace(FIRST, weight=3), replace(SECOND, weight=1)
    third = Trunk("third", (A,), "three.example.com", priority=1)
    watch = Watch(heavy, light, third)
    orders = [watch.order(heavy, light, third) for _ in range(8)]
    firsts = [order[0] for order in orders]
    assert firsts.count("first") == 6
    assert firsts.count("second") == 2
    assert firsts[:4].count("second") == 1
    assert all(order[2] == "third" and len(set(order)) == 3 for order in orders)


def test_rfc2782_destinations_of_one_srv_priority_share_the_calls_by_weight() -> None:
    heavy, light, spare, other, last = (
        Flow("UDP", host, 5060) for host in ("192.0.2.3", "192.0.2.1", "192.0.2.9", "192.0.2.2", "192.0.2.4")
    )
    trunk = Trunk(
        "one",
        (spare, light, heavy, other, last),
        "one.example.com",
        shares=((1, 0), (1, 1), (1, 3), (0, 0), (2, 0)),
    )
    watch = Watch(trunk)
    orders = [[hop.flow for hop in watch.watch.arrange((trunk,), watch.now)] for _ in range(8)]
    firsts = [order[0] for order in orders]
    assert (firsts.count(heavy), firsts.count(light)) == (6, 2)
    assert all({*order[:2]} == {heavy, light} and order[2:] == [spare, other, last] for order in orders)
    # Those that are gone from DNS leave nothing behind; the rhythm of the others goes on.
    fewer = replace(trunk, flows=(light, heavy), shares=((1, 1), (1, 3)))
    watch.watch.reconfigure((fewer,))
    firsts = [watch.watch.arrange((fewer,), watch.now)[0].flow for _ in range(4)]
    assert firsts.count(heavy) == 3


def test_a_trunk_that_is_down_is_tried_last_and_comes_back_with_a_call() -> None:
    watch = Watch(FIRST, SECOND)
    first = Hop(FIRST, A)
    watch.watch.call_failed(first, "no answer", watch.now)
    assert watch.order(FIRST, SECOND) == ["first", "second"]
    watch.watch.call_failed(first, "no answer", watch.now)
    assert watch.order(FIRST, SECOND) == ["second", "first"]
    watch.watch.call_answered(first, watch.now)
    assert watch.order(FIRST, SECOND) == ["first", "second"]


def test_without_probes_a_trunk_that_is_down_gets_its_chance_after_a_rest() -> None:
    first, second = replace(FIRST, probe_interval=0.0), replace(SECOND, probe_interval=0.0)
    watch = Watch(first, second)
    for _ in range(2):
        watch.watch.call_failed(Hop(first, A), "not reachable", watch.now)
    watch.now += trunk_watch.REST - 0.001
    assert watch.order(first, second) == ["second", "first"]
    watch.now += 0.001
    assert watch.order(first, second) == ["first", "second"]
    watch.watch.call_failed(Hop(first, A), "not reachable", watch.now)
    assert watch.order(first, second) == ["second", "first"]


@pytest.mark.parametrize(
    ("retry_after", "seconds"), [(5, 5.0), (60, 60.0), (120, 60.0), (2**32 - 1, 60.0), (0, 0.0), (None, 0.0)]
)
def test_rfc3261_21_5_4_retry_after_keeps_calls_away(retry_after: int | None, seconds: float) -> None:
    watch = Watch(FIRST, SECOND)
    watch.watch.call_declined(Hop(FIRST, A), retry_after, watch.now)
    assert watch.states[0] is TrunkState.UP
    if seconds:
        watch.now += seconds - 0.001
        assert watch.order(FIRST, SECOND) == ["second", "first"]
        watch.now += 0.001
    assert watch.order(FIRST, SECOND) == ["first", "second"]


def test_a_destination_that_is_not_watched_keeps_its_place() -> None:
    watch = Watch(FIRST)
    pbx = Hop(SECOND, B)
    watch.watch.call_failed(pbx, "no answer", watch.now)
    watch.watch.call_answered(pbx, watch.now)
    watch.watch.call_declined(pbx, 5, watch.now)
    assert watch.order(SECOND, FIRST) == ["second", "first"]


# With calls -------------------------------------------------------------------------------------------------

ONE = Trunk("first", (Flow("UDP", *CARRIER),), "one.example.com")
TWO = Trunk("second", (Flow("UDP", *CARRIER_2),), "two.example.com")
BOTH = default_config(trunks=(ONE, TWO))
PROBED = default_config(trunks=(replace(ONE, probe_interval=5.0), replace(TWO, probe_interval=5.0)))


def tried(bench: GateBench) -> list[str]:
    """Return the trunks of the call that ended last."""
    return [trunk.trunk for trunk in bench.journal.final[-1].trunks]


def states(bench: GateBench) -> list[TrunkState]:
    return [one.state for one in bench.core.watch.status()]


def test_calls_go_round_a_trunk_that_two_calls_found_silent() -> None:
    with GateBench(config=BOTH) as bench:
        bench.network.drop = lambda _sender, receiver, _data: receiver == CARRIER
        for wait in (4.0, 4.0, 0.0):
            call = bench.pbx.call(TOLL_FREE)
            if wait:
                bench.run(wait - 0.01)
                assert call.status in {0, 100}
            bench.run(0.2)
            assert call.status == 200
            call.bye()
            bench.run(1.0)
        assert tried(bench) == ["second"], "nobody waits for it any more"
        assert states(bench) == [TrunkState.DOWN, TrunkState.UP]
        bench.run(40.0)


def test_a_silent_trunk_that_is_the_only_one_is_still_tried() -> None:
    with GateBench(config=default_config(trunks=(ONE,))) as bench:
        bench.network.drop = lambda _sender, receiver, _data: receiver == CARRIER
        for _ in range(2):
            bench.pbx.call(TOLL_FREE)
            bench.run(40.0)
        assert states(bench) == [TrunkState.DOWN]
        bench.network.drop = lambda *_: False
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.5)
        assert call.status == 200
        assert states(bench) == [TrunkState.UP]
        call.bye()


def test_an_emergency_call_tries_every_trunk_within_a_second_each() -> None:
    with GateBench(config=BOTH) as bench:
        for hop in (Hop(ONE, ONE.flows[0]), Hop(TWO, TWO.flows[0])):
            for _ in range(2):
                bench.core.watch.call_failed(hop, "no answer", bench.now)
        bench.network.drop = lambda _sender, receiver, _data: receiver == CARRIER
        call = bench.pbx.call("911")
        bench.run(1.1)
        assert call.status == 200
        call.bye()
        bench.run(40.0)
        assert tried(bench) == ["first", "second"]


def test_a_trunk_that_refuses_is_left_at_once() -> None:
    with GateBench(config=BOTH) as bench:
        bench.network.drop = lambda _sender, receiver, _data: receiver == CARRIER
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.1)
        bench.gate.endpoint.transport_failed(ONE.flows[0], bench.now)
        bench.run(0.1)
        assert call.status == 200
        call.bye()
        bench.run(1.0)
        assert tried(bench) == ["first", "second"]


def test_503_with_retry_after_sends_the_next_calls_elsewhere() -> None:
    script = (Step(0.0, 503, headers=(("Retry-After", "30"),)),)
    with GateBench(config=BOTH, script=script) as bench:
        for expected in (["first", "second"], ["second"]):
            call = bench.pbx.call(TOLL_FREE)
            bench.run(0.5)
            assert call.status == 200
            call.bye()
            bench.run(0.5)
            assert tried(bench) == expected


def test_probes_take_a_trunk_down_before_any_call_waits_for_it() -> None:
    with GateBench(config=PROBED) as bench:
        bench.network.drop = lambda _sender, receiver, _data: receiver == CARRIER
        bench.run(15.0)
        assert states(bench) == [TrunkState.DOWN, TrunkState.UP]
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.1)
        assert call.status == 200
        call.bye()
        bench.network.drop = lambda *_: False
        bench.run(20.0)
        assert states(bench) == [TrunkState.UP, TrunkState.UP]
        bench.core.reconfigure(BOTH)
        bench.run(40.0)


def test_a_probe_that_the_network_refuses_counts() -> None:
    with GateBench(config=PROBED) as bench:
        bench.network.drop = lambda _sender, receiver, _data: receiver == CARRIER
        for _ in range(2):
            bench.run(0.01)
            bench.gate.endpoint.transport_failed(ONE.flows[0], bench.now)
            bench.run(5.0)
        assert states(bench)[0] is TrunkState.DOWN
        bench.core.reconfigure(BOTH)
        bench.run(40.0)


def test_a_full_trunk_is_passed_over_but_not_by_emergency_calls() -> None:
    config = default_config(trunks=(replace(ONE, max_calls=1), TWO))
    with GateBench(config=config) as bench:
        first, second, third = (bench.pbx.call(number) for number in (TOLL_FREE, TOLL_FREE, "911"))
        bench.run(0.5)
        assert bench.core.load.calls_of("first") == 2
        assert bench.core.load.calls_of("second") == 1
        for call in (first, second, third):
            call.bye()
        bench.run(1.0)
        assert bench.core.load.calls_of("first") == 0


@pytest.mark.parametrize("room", [TrunkAccounts, TrunkWatch])
def test_a_fault_among_trunks_costs_no_call(
    room: type, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_room: object, _now: float) -> None:
        raise RuntimeError("broken")

    with GateBench(config=default_config(ring_timeout=2.0), script=(Step(0.0, 180),)) as bench:
        monkeypatch.setattr(room, "handle_timer", broken)
        call = bench.pbx.call(TOLL_FREE)
        bench.run(2.5)
        assert call.status == 480, "the timers of calls run all the same"
        assert f"a timer of {room.__name__} failed" in caplog.text
        monkeypatch.undo()
    assert bench.record.disposition is Disposition.NO_ANSWER

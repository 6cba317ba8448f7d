"""Calls for help reach a live trunk within 2 s, whatever else is so (DESIGN 1.4)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.call.config import Trunk
from proxy.net.crowd import STANDING
from proxy.policy import CallerLock, CodeCollection, Snapshot
from proxy.sip.flow import Flow
from tests.net.test_crowd import HELP, Loop
from tests.support.gate import CARRIER, GateBench, default_config, default_policy

TRUNKS = (
    Trunk("dead", (Flow("UDP", "192.0.2.99", 5060),), "dead.example.com"),
    Trunk("live", (Flow("UDP", *CARRIER),), "live.example.com"),
)
LIMIT = 2.0


class _Broken(dict[str, object]):
    """A part of a policy that nothing can be asked."""

    def __missing__(self, key: str) -> object:
        raise ZeroDivisionError(key)

    def get(self, *_: object) -> object:
        raise ZeroDivisionError


def _drain(bench: GateBench) -> None:
    bench.core.draining = True


def _lose_the_disk(bench: GateBench) -> None:
    bench.core.recording = False
    bench.journal.durable = False


def _fill(bench: GateBench) -> None:
    object.__setattr__(bench.core.config, "max_calls", 0)


def _lose_the_store(bench: GateBench) -> None:
    bench.core.policy = Snapshot(bench.core.policy.plan)


def _break_the_policy(bench: GateBench) -> None:
    policy = default_policy()
    for part in ("groups", "users"):
        object.__setattr__(policy, part, _Broken())
    bench.core._policy = policy


def _lock_the_caller(bench: GateBench) -> None:
    locks = [CallerLock("user 204", 0.0, None, 5)]
    bench.core.policy = bench.core.policy.with_changes(version=1, locks=locks)


def _all_of_it(bench: GateBench) -> None:
    for trouble in (_lock_the_caller, _drain, _lose_the_disk, _fill, _break_the_policy):
        trouble(bench)


@pytest.mark.parametrize(
    "trouble",
    [_lock_the_caller, _drain, _lose_the_disk, _fill, _lose_the_store, _break_the_policy, _all_of_it],
)
def test_help_is_reached_within_2_s_with_a_dead_trunk_and_codes_asked_of_everybody(
    trouble: Callable[[GateBench], None],
) -> None:
    policy = default_policy(collection=CodeCollection.REQUIRED)
    with GateBench(config=default_config(trunks=TRUNKS), policy=policy) as bench:
        trouble(bench)
        call = bench.pbx.call("911")
        bench.run(LIMIT)
        assert len(bench.carrier.calls) == 1
        assert call.status == 200
        call.bye()
        bench.run(40.0)


def test_a_plain_call_is_not_spared() -> None:
    """The troubles above are troubles."""
    policy = default_policy(collection=CodeCollection.REQUIRED)
    for trouble in (_lock_the_caller, _drain, _lose_the_disk, _fill, _lose_the_store):
        with GateBench(config=default_config(trunks=TRUNKS), policy=policy) as bench:
            trouble(bench)
            call = bench.pbx.call("914155550123")
            bench.run(LIMIT)
            assert call.status >= 400
            bench.run(40.0)


def test_in_ten_times_the_load_help_waits_a_small_part_of_its_2_s() -> None:
    """What becomes of it then takes no longer than above. A thousand calls a second can be carried here."""
    loop = Loop(invite=0.001, declining=0.00003)
    loop.run(2 * STANDING, offered=10_000)
    for asked in range(1, 11):
        loop.add(HELP)
        came = loop.now
        while loop.taken.count(HELP) < asked:
            loop.run(0.02, offered=10_000)
        assert loop.now - came <= LIMIT / 4

"""Trunks that say nothing at first: a call for help comes back, and with each INVITE the wait begins anew.

DESIGN 1.4: the next trunk is tried soon, but no call for help is lost where a trunk is alive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from proxy.sip.digest_client import DigestAccount
from tests.call.test_trunks import FIRST, SECOND, TOLL_FREE, TWO, tried
from tests.support.gate import CARRIER, CARRIER_2, GateBench, default_config
from tests.support.ua import ANSWER, Step, UaCall


@pytest.mark.parametrize(("second", "connected_in"), [((Step(0.0, 503),), 3.0), ((), 6.0)])
def test_an_emergency_call_comes_back_to_a_trunk_that_was_silent(
    second: tuple[Step, ...], connected_in: float
) -> None:
    """The INVITE and its first repetition are lost; the other trunk refuses, or is dead."""
    with GateBench(config=TWO) as bench:
        bench.carrier_2.script = second
        lost_until = bench.now + 1.2
        bench.network.drop = lambda _sender, receiver, _data: (
            (receiver == CARRIER and bench.now < lost_until) or (receiver == CARRIER_2 and not second)
        )
        call = bench.pbx.call("911")
        bench.run(connected_in)
        assert call.status == 200
        # The first INVITE is repeated until a 1xx lets it be cancelled (RFC 3261 §9.1).
        assert [one.has_ended() for one in bench.carrier.calls] == [True, False]
        call.bye()
    refusal = second[0].status if second else 0
    assert tried(bench) == [("first", 0), ("second", refusal), ("first", 200)]


def test_an_emergency_call_over_a_long_way_is_waited_for_the_second_time() -> None:
    with GateBench(config=TWO, delay=(0.55, 0.55), script=ANSWER) as bench:
        bench.carrier_2.script = (Step(0.0, 404),)
        call = bench.pbx.call("911")
        bench.run(6.0)
        assert call.status == 200
        call.bye()
        bench.run(3.0)
    assert tried(bench) == [("first", 0), ("second", 404), ("first", 200)]


@pytest.mark.parametrize("word", [0.0, 2.0], ids=["100 at once", "100 after 2 s"])
def test_an_emergency_call_leaves_no_trunk_in_haste_for_one_that_has_said_nothing(word: float) -> None:
    with GateBench(config=TWO) as bench:
        bench.carrier_2.script = (Step(7.0, 200, with_sdp=True),)
        heard_from = bench.now + 1.0 + word
        bench.network.drop = lambda sender, receiver, _data: (
            receiver == CARRIER or (sender == CARRIER_2 and bench.now < heard_from)
        )
        call = bench.pbx.call("911")
        bench.run(9.0)
        assert call.status == 200
        call.bye()
    assert tried(bench) == [("first", 0), ("second", 200)]


def test_an_emergency_call_ends_when_every_trunk_was_silent_twice() -> None:
    with GateBench(config=TWO) as bench:
        bench.network.drop = lambda _sender, receiver, _data: receiver in {CARRIER, CARRIER_2}
        call = bench.pbx.call("911")
        bench.run(1.0 + 4.0 + 4.0 + 31.9)
        assert call.statuses == []
        bench.run(0.5)
        assert call.status == 504
    assert tried(bench) == [("first", 0), ("second", 0), ("first", 0), ("second", 0)]


@pytest.mark.parametrize(
    ("status", "header"),
    [
        (407, ("Proxy-Authenticate", 'Digest realm="carrier", nonce="n1", qop="auth"')),
        (401, ("WWW-Authenticate", 'Digest realm="carrier", nonce="n1", qop="auth"')),
        (422, ("Min-SE", "3600")),
    ],
)
@pytest.mark.parametrize(("number", "silence"), [("911", 0.6), (TOLL_FREE, 2.4)])
def test_rfc3261_22_2_the_wait_for_a_trunk_begins_anew_with_the_invite_that_it_asks_for(
    number: str, silence: float, status: int, header: tuple[str, str]
) -> None:
    """A trunk that has answered is not silent: there and back take longer twice than it may be silent."""

    def script(call: UaCall) -> Sequence[Step]:
        assert call.invite is not None
        again = call is not bench.carrier.calls[0]
        return (Step(0.0, 200, with_sdp=True),) if again else (Step(0.0, status, headers=[header]),)

    first = replace(FIRST, account=DigestAccount("gate-user", "gate-password", ("carrier",)))
    config = default_config(trunks=(first, SECOND))
    with GateBench(config=config, delay=(silence / 2, silence / 2)) as bench:
        bench.carrier.script = script
        call = bench.pbx.call(number)
        bench.run(5 * silence)
        assert call.status == 200
        assert not bench.carrier_2.calls
        call.bye()
        bench.run(3 * silence)
    assert tried(bench) == [("first", 200)]

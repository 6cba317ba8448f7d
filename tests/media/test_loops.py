"""Legs whose peers are each other: what comes in once would go round for ever, as fast as the machine can.

Call control refuses descriptions that name the gate; another gate, which says the same of this one, it cannot
know. The engine takes of each peer what voice or fax can be, and no more.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import replace

import pytest

from proxy.call.ports import (
    BridgeMedia,
    ConfigureMediaLeg,
    Latching,
    MediaLegOpened,
    MediaResumed,
    MediaTimedOut,
)
from tests.media.embedded_bench import CONFIG, SILENCE, Bench, remote_of
from tests.support.ports import rtp_range
from tests.support.rtp import RtpPeer

BURST = 1_000
"""Packets that a leg takes at once."""
SECONDS = 1.0
QUICK = replace(CONFIG, inactivity_timeout=SECONDS)


def bridged(bench: Bench) -> tuple[MediaLegOpened, MediaLegOpened]:
    first, second = bench.open(), bench.open()
    bench.engine.submit(BridgeMedia(first.leg, second.leg))
    return first, second


def lead(bench: Bench, leg: MediaLegOpened, to: MediaLegOpened, *, fax: bool) -> None:
    """Say that the peer of a leg is another leg."""
    with RtpPeer() as nobody:
        remote = replace(remote_of(nobody, latching=Latching.LEARNING), rtp_port=to.rtp_port, fax=fax)
    bench.engine.submit(ConfigureMediaLeg(leg.leg, replace(remote, rtcp_port=to.rtcp_port)))


@pytest.mark.parametrize("fax", [False, True])
@pytest.mark.parametrize("gates", [1, 2])
async def test_a_loop_ends_by_itself_and_its_silence_is_reported(gates: int, *, fax: bool) -> None:
    with ExitStack() as stack:
        configs = [QUICK, replace(QUICK, port_range=rtp_range(400))]
        benches = [stack.enter_context(Bench(config)) for config in configs[:gates]]
        pairs = [bridged(bench) for bench in benches]
        for number, (bench, (first, second)) in enumerate(zip(benches, pairs, strict=True)):
            after, before = pairs[(number + 1) % gates], pairs[number - 1]
            lead(bench, second, after[0], fax=fax)
            lead(bench, first, before[1], fax=fax)
        with RtpPeer() as injector:
            injector.target = ("127.0.0.1", pairs[0][0].rtp_port)
            # One, which is back before another could come: a leg learns where its packets are from.
            injector.send(SILENCE)
        legs = [(bench, leg) for bench, pair in zip(benches, pairs, strict=True) for leg in pair]
        for bench in benches:
            for _ in range(2):
                await bench.wait_for(MediaTimedOut)
        closed = [(await bench.close(leg.leg)).statistics for bench, leg in legs]
        # Each took its burst at most, and what it is given back in the time that the loop lives.
        assert sum(each.packets_received for each in closed) >= BURST
        assert max(each.packets_received for each in closed) < 2 * BURST
        assert max(each.packets_sent for each in closed) < 2 * BURST


async def test_what_a_network_held_up_for_two_seconds_is_relayed_whole() -> None:
    with Bench(CONFIG) as bench, RtpPeer() as caller, RtpPeer() as callee:
        bench.engine.submit(BridgeMedia(bench.configured(caller), bench.configured(callee)))
        for _ in range(5):  # a stall every few seconds of talk, of packets of 10 ms
            sent = []
            for _ in range(10):
                # The queue of a socket holds less than 2 s: what comes is read meanwhile.
                sent += [caller.send(SILENCE[:80], ticks=80).payload for _ in range(20)]
                received = [packet.payload for packet in await callee.receive_many(20)]
                assert received == sent[-20:]
        assert not [answer for answer in bench.answers if isinstance(answer, MediaResumed | MediaTimedOut)]


async def test_who_sends_far_too_much_is_not_heard_until_it_has_paused() -> None:
    with Bench(QUICK) as bench, RtpPeer() as caller, RtpPeer() as callee:
        leg = bench.configured(caller)
        bench.engine.submit(BridgeMedia(leg, bench.configured(callee)))
        heard = 0
        while MediaTimedOut(leg) not in bench.answers:
            for _ in range(20):
                caller.send(SILENCE)
            await asyncio.sleep(0.001)
            heard += len(callee.pending())
        assert BURST / 2 < heard < 2 * BURST
        while MediaResumed(leg) not in bench.answers:
            caller.send(SILENCE)
            await asyncio.sleep(0.02)
        assert callee.pending()

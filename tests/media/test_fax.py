"""UDPTL through the embedded engine, on real sockets: datagrams pass as they come (T.38, RFC 3362)."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import replace

from proxy.call.ports import (
    BridgeMedia,
    ConfigureMediaLeg,
    Latching,
    LegId,
    MediaLatched,
    MediaResumed,
    MediaTimedOut,
    PlayId,
    PlayPrompts,
    PromptsFinished,
    SendDigit,
)
from tests.media.embedded_bench import CONFIG, Bench, remote_of
from tests.support.rtp import PATIENCE, RtpPeer


def udptl(sequence: int, primary: bytes = b"\x06") -> bytes:
    """T.38 §9.1: sequence number, primary packet, no redundant ones."""
    return struct.pack(">HB", sequence & 0xFFFF, len(primary)) + primary + b"\x00\x00"


async def heard(peer: RtpPeer, count: int = 1) -> list[bytes]:
    """Wait for datagrams."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE):
        return [await loop.sock_recv(peer.socket, 2048) for _ in range(count)]


def nothing_heard(peer: RtpPeer) -> bool:
    try:
        peer.socket.recv(2048)
    except BlockingIOError:
        return True
    return False


def to_fax(bench: Bench, leg: LegId, peer: RtpPeer, *, latching: Latching = Latching.STRICT) -> None:
    remote = replace(
        remote_of(peer, latching=latching), rtcp_port=peer.port, event_payload_type=None, fax=True
    )
    bench.engine.submit(ConfigureMediaLeg(leg, remote))


def bridged(bench: Bench, one: RtpPeer, two: RtpPeer) -> tuple[LegId, LegId]:
    a, b = bench.configured(one), bench.configured(two)
    bench.engine.submit(BridgeMedia(a, b))
    return a, b


async def test_t38_datagrams_pass_unchanged_both_ways(bench: Bench) -> None:
    with RtpPeer() as one, RtpPeer() as two:
        a, b = bridged(bench, one, two)
        one.send(b"\xff" * 160)
        await heard(two)
        to_fax(bench, a, one)
        to_fax(bench, b, two)
        # What looks like RTP or RTCP is none: the first octets are a sequence number.
        sent = [udptl(0x8000 + number, bytes([number])) for number in range(3)]
        sent += [udptl(0x80C8, b"x" * 200), bytes(1400), udptl(0x0001, b"")]
        for datagram in sent:
            one.send_raw(datagram)
        assert await heard(two, len(sent)) == sent
        two.send_raw(udptl(7, b"back"))
        assert await heard(one) == [udptl(7, b"back")]
        statistics = (await bench.close(a)).statistics
        assert (statistics.packets_received, statistics.packets_sent) == (1 + len(sent), 1)
        assert nothing_heard(one), "no RTCP BYE among fax"


async def test_t38_while_only_one_side_has_changed_nothing_passes(bench: Bench) -> None:
    with RtpPeer() as one, RtpPeer() as two:
        a, b = bridged(bench, one, two)
        to_fax(bench, a, one)
        one.send_raw(udptl(1))
        two.send(b"\xff" * 160)
        await asyncio.sleep(0.1)
        assert nothing_heard(one)
        assert nothing_heard(two)
        to_fax(bench, b, two)
        one.send_raw(udptl(2))
        assert await heard(two) == [udptl(2)]


async def test_rfc3264_8_back_to_audio(bench: Bench) -> None:
    with RtpPeer() as one, RtpPeer() as two:
        a, b = bridged(bench, one, two)
        to_fax(bench, a, one)
        to_fax(bench, b, two)
        one.send_raw(udptl(1))
        await heard(two)
        for leg, peer in ((a, one), (b, two)):
            bench.engine.submit(ConfigureMediaLeg(leg, remote_of(peer)))
        one.send_raw(udptl(2))
        one.send(b"\x55" * 160)
        (packet,) = await heard(two)
        assert packet[12:] == b"\x55" * 160
        assert (await bench.close(a)).statistics.packets_discarded == 1


async def test_a_learning_leg_locks_on_three_datagrams_in_sequence(bench: Bench) -> None:
    with RtpPeer() as one, RtpPeer() as behind_nat, RtpPeer() as two:
        opened = bench.open()
        to_fax(bench, opened.leg, one, latching=Latching.LEARNING)
        b = bench.configured(two)
        to_fax(bench, b, two)
        bench.engine.submit(BridgeMedia(opened.leg, b))
        behind_nat.target = ("127.0.0.1", opened.rtp_port)
        for sequence in (65_534, 65_535, 0):
            behind_nat.send_raw(udptl(sequence))
        assert (await bench.wait_for(MediaLatched)).port == behind_nat.port
        two.send_raw(udptl(9))
        assert await heard(behind_nat) == [udptl(9)]
        one.target = behind_nat.target
        await heard(two, 3)
        one.send_raw(udptl(1))
        behind_nat.send_raw(udptl(2))
        assert await heard(two) == [udptl(2)], "a stranger is not heard"


async def test_what_is_too_short_for_udptl_is_dropped(bench: Bench) -> None:
    with RtpPeer() as one, RtpPeer() as two:
        a, b = bridged(bench, one, two)
        to_fax(bench, a, one)
        to_fax(bench, b, two)
        for datagram in (b"", b"\x00", b"\x00\x01", udptl(2)):
            one.send_raw(datagram)
        assert await heard(two) == [udptl(2)]
        assert (await bench.close(a)).statistics.packets_discarded == 3


async def test_silence_is_told_and_its_end() -> None:
    with Bench(replace(CONFIG, inactivity_timeout=0.05)) as bench, RtpPeer() as one:
        leg = bench.configured(one)
        to_fax(bench, leg, one)
        assert (await bench.wait_for(MediaTimedOut)).leg == leg
        one.send_raw(udptl(1))
        assert (await bench.wait_for(MediaResumed)).leg == leg


async def test_the_gate_says_nothing_into_fax(bench: Bench) -> None:
    bench.engine.register_prompt("busy", "PCMU", [b"\xff" * 80] * 2)
    with RtpPeer() as one:
        leg = bench.configured(one)
        to_fax(bench, leg, one)
        bench.engine.submit(SendDigit(leg, "5"))
        bench.engine.submit(PlayPrompts(leg, PlayId(1), ("busy",)))
        assert (await bench.wait_for(PromptsFinished)).play == 1
        await asyncio.sleep(0.1)
        assert nothing_heard(one)

"""Two legs of different codecs on real sockets: what each peer gets; the rest of the relay stays as it is."""

from __future__ import annotations

import array
import itertools
import math
from dataclasses import replace

import pytest

from proxy._native import encode_prompt
from proxy.call.ports import (
    AudioFormat,
    BridgeMedia,
    ConfigureMediaLeg,
    LegId,
    PlayId,
    PlayPrompts,
    SendDigit,
)
from tests.media.embedded_bench import Bench, remote_of
from tests.support.rtp import RtpPacket, RtpPeer, TelephoneEvent

FORMATS = {"PCMU": 0, "PCMA": 8, "G722": 9}


def audio(name: str, ptime_ms: int = 20) -> AudioFormat:
    return AudioFormat(name, FORMATS[name], 8000, ptime_ms)


def bridged(
    bench: Bench, phone: RtpPeer, trunk: RtpPeer, near: AudioFormat, far: AudioFormat
) -> tuple[LegId, LegId]:
    legs = bench.configured(phone, audio=near), bench.configured(trunk, audio=far)
    bench.engine.submit(BridgeMedia(*legs))
    return legs


def tone(codec: str, packets: int, ptime_ms: int = 20) -> list[bytes]:
    samples = array.array(
        "h", (round(math.sin(n * math.tau / 10) * 8000) for n in range(packets * ptime_ms * 8))
    )
    return encode_prompt(samples.tobytes(), 8000, codec, ptime_ms)


def linear(code: int, codec: str) -> int:
    """G.711 to linear, written down from the recommendation's segments."""
    if codec == "PCMU":
        code ^= 0xFF
        value = ((((code & 15) << 3) + 132) << (code >> 4 & 7)) - 132
        return -value if code & 0x80 else value
    code ^= 0x55
    segment, step = code >> 4 & 7, (code & 15) << 4
    value = step + 8 if segment == 0 else (step + 264) << (segment - 1)
    return value if code & 0x80 else -value


def steps(packets: list[RtpPacket]) -> tuple[set[int], set[int]]:
    pairs = list(itertools.pairwise(packets))
    return (
        {(after.sequence - before.sequence) % 2**16 for before, after in pairs},
        {(after.timestamp - before.timestamp) % 2**32 for before, after in pairs},
    )


@pytest.mark.parametrize(("near", "far"), list(itertools.permutations(FORMATS, 2)))
async def test_each_peer_gets_its_own_codec(bench: Bench, near: str, far: str) -> None:
    with RtpPeer() as phone, RtpPeer(ssrc=7) as trunk:
        legs = bridged(bench, phone, trunk, audio(near), audio(far))
        packets = []
        for payload in tone(near, 12):
            phone.send(payload, FORMATS[near])
            packets.append(await trunk.receive())
        assert {packet.payload_type for packet in packets} == {FORMATS[far]}
        assert {len(packet.payload) for packet in packets} == {160}
        assert steps(packets) == ({1}, {160})
        assert [packet.marker for packet in packets] == [True] + [False] * 11
        if far != "G722":
            samples = [linear(code, far) for packet in packets[6:] for code in packet.payload]
            level = math.sqrt(sum(sample * sample for sample in samples) / len(samples))
            assert level == pytest.approx(8000 / math.sqrt(2), rel=0.04)
        for leg, received, sent in ((legs[0], 12, 0), (legs[1], 0, 12)):
            figures = (await bench.close(leg)).statistics
            assert (figures.packets_received, figures.packets_sent, figures.packets_lost) == (
                received,
                sent,
                0,
            )


@pytest.mark.parametrize(("inward", "outward"), [(10, 60), (20, 30), (30, 20), (60, 10), (20, 40)])
async def test_rfc3551_4_2_packets_as_long_as_the_peer_wants_them(
    bench: Bench, inward: int, outward: int
) -> None:
    count = 12
    with RtpPeer() as phone, RtpPeer() as trunk:
        bridged(bench, phone, trunk, audio("PCMU", inward), audio("G722", outward))
        for payload in tone("PCMU", count, inward):
            phone.send(payload, ticks=inward * 8)
        packets = await trunk.receive_many(count * inward // outward)
    assert {len(packet.payload) for packet in packets} == {outward * 8}
    assert steps(packets) == ({1}, {outward * 8})


async def test_a_lost_packet_stays_visible_and_a_late_one_is_left_out(bench: Bench) -> None:
    with RtpPeer() as phone, RtpPeer() as trunk:
        bridged(bench, phone, trunk, audio("PCMU"), audio("PCMA"))
        phone.send(b"\x01" * 160)
        lost = phone.packet
        phone.packet = replace(
            lost, sequence=(lost.sequence + 1) % 2**16, timestamp=(lost.timestamp + 160) % 2**32
        )
        after = phone.send(b"\x02" * 160)
        phone.send_raw(replace(lost, payload=b"\x03" * 160).serialize())
        phone.send_raw(after.serialize())
        phone.send(b"\x04" * 160)
        packets = await trunk.receive_many(3)
        assert trunk.pending() == []
    base = packets[0]
    assert [(packet.sequence - base.sequence) % 2**16 for packet in packets] == [0, 2, 3]
    assert [(packet.timestamp - base.timestamp) % 2**32 for packet in packets] == [0, 320, 480]


async def test_digits_and_prompts_share_the_stream(bench: Bench) -> None:
    bench.engine.register_prompt("busy", "G722", tone("G722", 2))
    with RtpPeer() as phone, RtpPeer() as trunk:
        _, b_leg = bridged(bench, phone, trunk, audio("PCMU"), audio("G722"))
        frames = tone("PCMU", 4)
        phone.send(frames[0])
        phone.press("5", updates=1, ends=3)
        phone.send(frames[1])
        packets = await trunk.receive_many(6)
        assert [packet.payload_type for packet in packets] == [9, 101, 101, 101, 101, 9]
        assert {TelephoneEvent.parse(packet.payload).code for packet in packets[1:5]} == {5}
        bench.engine.submit(PlayPrompts(b_leg, PlayId(1), ("busy",)))
        packets += await trunk.receive_many(2)
        bench.engine.submit(SendDigit(b_leg, "1", 40))
        packets += await trunk.receive_many(4)
        assert [packet.payload_type for packet in packets[6:]] == [9, 9, 101, 101, 101, 101]
    assert steps(packets)[0] == {1}
    assert all(step < 2**31 for step in steps(packets)[1])


async def test_a_codec_changed_in_new_sdp_changes_what_is_sent(bench: Bench) -> None:
    with RtpPeer() as phone, RtpPeer() as trunk:
        _, b_leg = bridged(bench, phone, trunk, audio("PCMU"), audio("PCMU"))
        packets = []
        for far in ("PCMU", "G722", "PCMA", "PCMU"):
            bench.engine.submit(ConfigureMediaLeg(b_leg, remote_of(trunk, audio=audio(far))))
            phone.send(b"\xff" * 160)
            packets.append(await trunk.receive())
    assert [packet.payload_type for packet in packets] == [0, 9, 8, 0]
    assert packets[3].payload == b"\xff" * 160
    assert packets[2].payload == b"\xd5" * 160
    assert steps(packets) == ({1}, {160})

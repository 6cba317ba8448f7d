"""The relay on real sockets: whose packets are heard, and what of them goes on (RFC 3550, RFC 4961)."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

from proxy.call.ports import (
    AudioFormat,
    BridgeMedia,
    ConfigureMediaLeg,
    DigitHeard,
    Latching,
    ListenForDigits,
    MediaLatched,
    PlayId,
    PlayPrompts,
    PromptsFinished,
    SendDigit,
    StopPrompts,
    UnbridgeMedia,
)
from tests.media.embedded_bench import CONFIG, PCMU, SILENCE, Bench, remote_of
from tests.support.rtp import RtpPacket, RtpPeer, TelephoneEvent, is_rtcp

# Latching ---------------------------------------------------------------------------------------------------


async def test_rfc3264_6_1_a_peer_that_renumbered_events_may_send_either_number(bench: Bench) -> None:
    with RtpPeer() as phone:
        opened = bench.open()
        remote = replace(remote_of(phone, event_payload_type=97), heard_event_payload_type=101)
        bench.configure(opened, phone, remote)
        bench.engine.submit(ListenForDigits(opened.leg, listening=True))
        phone.press("5", 101)
        phone.press("6", 97)
        assert [(await bench.wait_for(DigitHeard)).digit for _ in range(2)] == ["5", "6"]
        bench.engine.submit(SendDigit(opened.leg, "7"))
        assert (await phone.receive()).payload_type == 97


async def test_strict_takes_nothing_from_another_address_nor_from_another_port_beside_the_signalled_one(
    bench: Bench,
) -> None:
    with RtpPeer() as phone, RtpPeer() as other_port, RtpPeer("127.0.0.2") as stranger:
        leg = bench.configured(phone, listening=True)
        for peer, digit in ((stranger, "7"), (phone, "5"), (other_port, "6"), (phone, "8")):
            peer.target = phone.target
            peer.press(digit)
        assert [(await bench.wait_for(DigitHeard)).digit for _ in range(2)] == ["5", "8"]
        await bench.close(leg)
    assert bench.answers == []  # nor is anything latched: the address was known


async def test_rfc4961_a_strict_peer_may_send_from_another_port_than_it_receives_on(bench: Bench) -> None:
    with RtpPeer() as signalled, RtpPeer() as sending:
        leg = bench.configured(signalled, listening=True)
        sending.target = signalled.target
        sending.press("5")
        assert (await bench.wait_for(DigitHeard)).digit == "5"
        bench.engine.submit(SendDigit(leg, "6", 20))
        assert TelephoneEvent.parse((await signalled.receive()).payload).code == 6
        assert sending.pending() == []


async def test_a_stranger_does_not_overtake_a_peer_that_is_sending(bench: Bench) -> None:
    with RtpPeer("127.0.0.3") as nat, RtpPeer("127.0.0.2", ssrc=2) as stranger:
        opened = bench.open()
        remote = remote_of(nat, latching=Latching.LEARNING, signalled_from="127.0.0.3")
        bench.configure(opened, nat, remote)
        bench.engine.submit(ListenForDigits(opened.leg, listening=True))
        stranger.target = nat.target = ("127.0.0.1", opened.rtp_port)
        nat.send(SILENCE)
        for _ in range(3):
            stranger.send(SILENCE)
        for _ in range(2):
            nat.send(SILENCE)
        assert await bench.wait_for(MediaLatched) == MediaLatched(opened.leg, "127.0.0.3", nat.port)


async def test_learning_locks_on_the_real_source_and_stays(bench: Bench) -> None:
    bench.engine.register_prompt("busy", "PCMU", [SILENCE] * 2)
    with RtpPeer() as signalled, RtpPeer("127.0.0.3") as nat, RtpPeer("127.0.0.2") as stranger:
        opened = bench.open()
        remote = remote_of(signalled, latching=Latching.LEARNING, signalled_from="127.0.0.3")
        bench.engine.submit(ConfigureMediaLeg(opened.leg, remote))
        bench.engine.submit(PlayPrompts(opened.leg, PlayId(1), ("busy",)))
        await signalled.receive_many(2)  # until the peer has shown itself, the signalled address
        stranger.target = nat.target = ("127.0.0.1", opened.rtp_port)
        bench.engine.submit(ListenForDigits(opened.leg, listening=True))
        stranger.press("6", updates=1, ends=1)  # two packets: not enough to lock, and not from the peer
        nat.press("5", updates=0, ends=1)
        assert (await bench.wait_for(DigitHeard)).digit == "5"
        nat.packet = replace(nat.packet, sequence=100)
        for _ in range(3):
            nat.send(SILENCE)
        assert await bench.wait_for(MediaLatched) == MediaLatched(opened.leg, "127.0.0.3", nat.port)
        stranger.press("7")
        nat.press("8")
        assert (await bench.wait_for(DigitHeard)).digit == "8"
        bench.engine.submit(PlayPrompts(opened.leg, PlayId(2), ("busy",)))
        await nat.receive_many(2)
        closed = await bench.close(opened.leg)
        assert closed.statistics.packets_discarded >= 2
    assert not any(isinstance(answer, DigitHeard) for answer in bench.answers)


async def test_new_sdp_opens_a_learning_latch_again(bench: Bench) -> None:
    with RtpPeer() as phone, RtpPeer(ssrc=2) as moved:
        leg = bench.configured(phone, latching=Latching.LEARNING, listening=True)
        moved.target = phone.target
        for expected in (phone, moved):
            latched = asyncio.ensure_future(bench.wait_for(MediaLatched))
            while not latched.done():  # what comes before the engine has read the new SDP is lost
                expected.send(SILENCE)
                await asyncio.sleep(0.01)
            assert (await latched).port == expected.port
            bench.engine.submit(ConfigureMediaLeg(leg, remote_of(moved, latching=Latching.LEARNING)))


async def test_a_peer_that_moves_in_sdp_is_followed(bench: Bench) -> None:
    with RtpPeer() as phone, RtpPeer(ssrc=2) as moved:
        leg = bench.configured(phone, listening=True)
        moved.target = phone.target
        phone.press("1")
        assert (await bench.wait_for(DigitHeard)).digit == "1"
        bench.engine.submit(ConfigureMediaLeg(leg, remote_of(moved)))
        bench.engine.submit(SendDigit(leg, "3", 20))
        await moved.receive()
        moved.press("2")
        assert (await bench.wait_for(DigitHeard)).digit == "2"


# Relay ------------------------------------------------------------------------------------------------------


async def test_prompt_then_relay_is_one_stream_and_both_ways_work(bench: Bench) -> None:
    bench.engine.register_prompt("busy", "PCMU", [SILENCE] * 3)
    with RtpPeer() as phone, RtpPeer(ssrc=77) as trunk:
        a_leg = bench.configured(phone)
        b_leg = bench.configured(trunk, audio=replace(PCMU, payload_type=96))
        bench.engine.submit(PlayPrompts(a_leg, PlayId(1), ("busy",)))
        prompt = await phone.receive_many(3)
        await bench.wait_for(PromptsFinished)
        bench.engine.submit(BridgeMedia(a_leg, b_leg))
        bench.engine.submit(ListenForDigits(a_leg, listening=False))
        relayed: list[RtpPacket] = []
        for n in range(4):
            trunk.send(bytes([n]) * 160, 96)
            relayed.append(await phone.receive())
            phone.send(bytes([100 + n]) * 160, 0)
            there = await trunk.receive()
            assert (there.payload, there.payload_type) == (bytes([100 + n]) * 160, 96)
            assert there.ssrc not in (phone.packet.ssrc, prompt[0].ssrc)
    assert [packet.payload[0] for packet in relayed] == [0, 1, 2, 3]
    assert {packet.payload_type for packet in relayed} == {0}
    assert {packet.ssrc for packet in relayed} == {prompt[0].ssrc}
    sequences = [packet.sequence for packet in prompt + relayed]
    assert [(number - sequences[0]) % 2**16 for number in sequences] == list(range(7))
    steps = [(b.timestamp - a.timestamp) % 2**32 for a, b in itertools.pairwise(relayed)]
    assert steps == [160, 160, 160]
    assert 0 < (relayed[0].timestamp - prompt[-1].timestamp) % 2**32 < 80_000


async def test_the_code_never_reaches_the_other_leg_but_later_digits_do(bench: Bench) -> None:
    with RtpPeer() as phone, RtpPeer() as trunk:
        a_leg = bench.configured(phone, listening=True)
        b_leg = bench.configured(trunk, event_payload_type=97)
        phone.press("#", ends=1)
        await bench.wait_for(DigitHeard)
        bench.engine.submit(ListenForDigits(a_leg, listening=False))
        bench.engine.submit(BridgeMedia(a_leg, b_leg))
        late = phone.packet
        phone.packet = replace(late, timestamp=(late.timestamp - 800) % 2**32)
        phone.repeat_end("#", ends=2)  # of the event heard above
        phone.packet = replace(phone.packet, timestamp=late.timestamp)
        phone.send(SILENCE)
        phone.press("1", updates=1, ends=3)
        packets = await trunk.receive_many(5)
    assert [packet.payload_type for packet in packets] == [0, 97, 97, 97, 97]
    assert [TelephoneEvent.parse(packet.payload).code for packet in packets[1:]] == [1, 1, 1, 1]
    assert {(packet.timestamp - packets[0].timestamp) % 2**32 for packet in packets[1:]} == {160}
    assert [(packet.sequence - packets[0].sequence) % 2**16 for packet in packets] == list(range(5))
    assert not any(isinstance(answer, DigitHeard) for answer in bench.answers)


async def test_rfc4733_events_change_their_clock_between_legs(bench: Bench) -> None:
    opus = AudioFormat("OPUS", 96, 48_000)
    with RtpPeer() as phone, RtpPeer() as trunk:
        a_leg = bench.configured(phone, audio=opus, event_clock_rate=8000)
        b_leg = bench.configured(trunk, audio=opus, event_clock_rate=48_000, event_payload_type=99)
        bench.engine.submit(BridgeMedia(a_leg, b_leg))
        phone.press("4", updates=2, ends=1)
        packets = await trunk.receive_many(3)
    events = [TelephoneEvent.parse(packet.payload) for packet in packets]
    assert [(event.code, event.duration) for event in events] == [(4, 960), (4, 1920), (4, 3840)]
    assert len({packet.timestamp for packet in packets}) == 1


async def test_directions_unknown_payload_types_and_other_codecs_stay_behind(bench: Bench) -> None:
    with RtpPeer() as phone, RtpPeer() as trunk:
        a_leg = bench.configured(phone)
        b_leg = bench.configured(trunk, peer_receives=False)
        bench.engine.submit(BridgeMedia(a_leg, b_leg))
        phone.send(SILENCE)
        trunk.send(SILENCE)
        await phone.receive()
        opus = AudioFormat("OPUS", 96, 48_000)
        bench.engine.submit(ConfigureMediaLeg(b_leg, remote_of(trunk, audio=opus)))
        phone.send(SILENCE)  # Opus is only relayed
        phone.send(SILENCE, 33)
        phone.send(b"\x40", 13)
        phone.press("1", updates=0, ends=1)
        events = await trunk.receive()
        assert events.payload_type == 101
        bench.engine.submit(UnbridgeMedia(a_leg))
        trunk.send(SILENCE)
        phone.send(SILENCE)
        statistics = (await bench.close(a_leg)).statistics
        assert (statistics.packets_received, statistics.packets_lost) == (6, 0)
        assert [data for data in trunk.pending() if not is_rtcp(data)] == []


async def test_a_prompt_on_a_bridged_leg_is_heard_instead_of_the_relay(bench: Bench) -> None:
    bench.engine.register_prompt("busy", "PCMU", [b"\x01" * 160])
    with RtpPeer() as phone, RtpPeer() as trunk:
        a_leg, b_leg = bench.configured(phone), bench.configured(trunk)
        bench.engine.submit(BridgeMedia(a_leg, b_leg))
        bench.engine.submit(PlayPrompts(a_leg, PlayId(1), ("busy",), repeat=True))
        await phone.receive()
        trunk.send(SILENCE)
        heard = await phone.receive_many(3)
        bench.engine.submit(StopPrompts(a_leg))
        trunk.send(SILENCE)
        while (packet := await phone.receive()).payload != SILENCE:
            continue  # frames that were sent before the stop
    assert {frame.payload[0] for frame in heard} == {1}
    assert 0 < (packet.sequence - heard[-1].sequence) % 2**16 < 100


async def test_legs_of_two_threads_come_together() -> None:
    with Bench(replace(CONFIG, threads=2)) as bench, RtpPeer() as phone, RtpPeer() as trunk:
        for _ in range(3):
            a_leg, b_leg = bench.configured(phone), bench.configured(trunk)
            bench.engine.submit(BridgeMedia(a_leg, b_leg))
            bench.engine.submit(ListenForDigits(b_leg, listening=True))
            trunk.press("1")
            await bench.wait_for(DigitHeard)  # both threads have done what they were told
            bench.engine.submit(ListenForDigits(b_leg, listening=False))
            phone.send(SILENCE)
            assert (await trunk.receive()).payload == SILENCE
            trunk.send(SILENCE)
            assert (await phone.receive()).payload == SILENCE
            await bench.close(b_leg)
            await bench.close(a_leg)
        assert bench.engine.port_pairs[0] == 0


async def test_rfc3550_5_3_1_extensions_and_csrcs_stay_with_their_leg(bench: Bench) -> None:
    with RtpPeer() as phone, RtpPeer() as trunk:
        a_leg, b_leg = bench.configured(phone), bench.configured(trunk)
        bench.engine.submit(BridgeMedia(a_leg, b_leg))
        plain = replace(phone.packet, payload=b"").serialize()
        extension = b"\xbe\xde\x00\x01\x10\x00\x00\x00"
        phone.send_raw(bytes([0x91]) + plain[1:] + b"\x00\x00\x00\x07" + extension + SILENCE)
        assert (await trunk.receive()).payload == SILENCE

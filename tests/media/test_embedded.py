"""The embedded media engine on real sockets: commands and answers, prompts, digits, relay."""

from __future__ import annotations

import array
import asyncio
import itertools
import math
import os
import random
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from proxy._native import encode_prompt
from proxy.call.ports import (
    AudioFormat,
    BridgeMedia,
    CloseMediaLeg,
    ConfigureMediaLeg,
    DigitHeard,
    Latching,
    LegId,
    ListenForDigits,
    MediaLatched,
    MediaLegClosed,
    MediaLegOpened,
    MediaLegRefused,
    MediaResumed,
    MediaTimedOut,
    OpenMediaLeg,
    PlayId,
    PlayPrompts,
    PromptsFinished,
    SendDigit,
    StopPrompts,
    UnbridgeMedia,
)
from proxy.dtmf.digits import DigitMeans
from proxy.errors import ConfigurationError
from proxy.media.embedded import EmbeddedConfig, EmbeddedEngine
from tests.media.embedded_bench import CONFIG, PCMU, Bench, remote_of
from tests.support.rtp import RtpPacket, RtpPeer, TelephoneEvent, is_rtcp

SILENCE = b"\xff" * 160


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    with Bench(CONFIG) as running:
        yield running


# Ports ------------------------------------------------------------------------------------------------------


async def test_rfc3550_11_rtp_port_is_even_rtcp_the_next(bench: Bench) -> None:
    opened = bench.open()
    assert opened.address == "127.0.0.1"
    assert opened.rtp_port % 2 == 0
    assert opened.rtcp_port == opened.rtp_port + 1
    assert bench.engine.port_pairs == (1, 200)


async def test_ports_are_free_when_the_leg_is_closed(bench: Bench) -> None:
    opened = bench.open()
    closed = await bench.close(opened.leg)
    assert closed.statistics.packets_received == 0
    assert bench.engine.open_legs == 0
    assert bench.engine.port_pairs[0] == 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", opened.rtp_port))


async def test_a_full_range_refuses_and_keeps_ports_for_emergencies() -> None:
    config = replace(CONFIG, port_range=(31_000, 31_011), emergency_ports=4)
    with Bench(config) as bench:
        for _ in range(4):
            bench.open()
        refused = bench.open_any()
        assert isinstance(refused, MediaLegRefused)
        assert "port" in refused.reason
        assert isinstance(bench.open_any(emergency=True), MediaLegOpened)
        assert isinstance(bench.open_any(emergency=True), MediaLegOpened)
        assert isinstance(bench.open_any(emergency=True), MediaLegRefused)


async def test_a_port_that_another_program_holds_is_passed_over() -> None:
    config = replace(CONFIG, port_range=(31_100, 31_103), emergency_ports=0)
    with Bench(config) as bench, RtpPeer(port=31_101):
        assert bench.open().rtp_port == 31_102
        assert isinstance(bench.open_any(), MediaLegRefused)


async def test_ipv6_leg_and_advertised_address() -> None:
    config = replace(CONFIG, address_ipv6="::1", advertised_address="203.0.113.9")
    with Bench(config) as bench, RtpPeer("::1") as phone:
        assert bench.open().address == "203.0.113.9"
        opened = bench.open(ipv6=True)
        assert opened.address == "::1"
        bench.configure(opened, phone)
        bench.engine.submit(ListenForDigits(opened.leg, listening=True))
        phone.press("5")
        assert (await bench.wait_for(DigitHeard)).digit == "5"


async def test_a_family_without_address_is_refused(bench: Bench) -> None:
    refused = bench.open_any(ipv6=True)
    assert isinstance(refused, MediaLegRefused)
    assert refused.no_such_family


async def test_a_bad_configuration_is_named() -> None:
    for config in (EmbeddedConfig("not-an-address"), EmbeddedConfig("127.0.0.1", port_range=(1, 70_000))):
        with pytest.raises(ConfigurationError, match="media"):
            EmbeddedEngine(config, lambda _answer: None)


async def test_an_address_that_is_not_of_this_machine_is_refused_per_leg() -> None:
    with Bench(replace(CONFIG, address="192.0.2.1")) as bench:
        refused = bench.open_any()
        assert isinstance(refused, MediaLegRefused)
        assert "192.0.2.1" in refused.reason
        assert not refused.no_such_family


# Prompts ----------------------------------------------------------------------------------------------------


async def test_rfc3550_5_1_a_prompt_is_one_even_stream(bench: Bench) -> None:
    bench.engine.register_prompt("enter_code", "PCMU", [bytes([n]) * 160 for n in range(5)])
    bench.engine.register_prompt("busy", "PCMU", [bytes([9]) * 80])
    with RtpPeer() as phone:
        leg = bench.configured(phone)
        bench.engine.submit(PlayPrompts(leg, PlayId(7), ("enter_code", "busy")))
        packets = await phone.receive_many(6)
        assert await bench.wait_for(PromptsFinished) == PromptsFinished(leg, PlayId(7))
    first = packets[0]
    assert [packet.payload[:1] for packet in packets] == [bytes([n]) for n in (0, 1, 2, 3, 4, 9)]
    assert [packet.marker for packet in packets] == [True] + [False] * 5
    for n, packet in enumerate(packets):
        assert packet.ssrc == first.ssrc
        assert packet.payload_type == 0
        assert packet.sequence == (first.sequence + n) % 2**16
        assert packet.timestamp == (first.timestamp + 160 * n) % 2**32


@pytest.mark.parametrize(
    ("codec", "clock", "ticks"), [("PCMA", 8000, 80), ("G722", 8000, 240), ("OPUS", 48000, 960)]
)
async def test_prompts_in_every_codec_and_packet_time(
    bench: Bench, codec: str, clock: int, ticks: int
) -> None:
    ptime_ms = {"PCMA": 10, "G722": 30, "OPUS": 20}[codec]
    bench.engine.register_prompt("tone", codec, encode_prompt(bytes(2 * 8000), 8000, codec))
    with RtpPeer() as phone:
        audio = AudioFormat(codec, 97, clock, ptime_ms)
        leg = bench.configured(phone, audio=audio)
        bench.engine.submit(PlayPrompts(leg, PlayId(1), ("tone",)))
        packets = await phone.receive_many(4)
    assert {packet.payload_type for packet in packets} == {97}
    steps = {(b.timestamp - a.timestamp) % 2**32 for a, b in itertools.pairwise(packets)}
    assert steps == {ticks}


async def test_the_groups_own_recording_wins(bench: Bench) -> None:
    bench.engine.register_prompt("busy", "PCMU", [b"\x01" * 160])
    bench.engine.register_prompt("busy@sales", "PCMU", [b"\x02" * 160])
    with RtpPeer() as phone:
        leg = bench.configured(phone)
        for group, expected in (("sales", 2), ("", 1), ("other", 1)):
            bench.engine.submit(PlayPrompts(leg, PlayId(1), ("busy",), group=group))
            assert (await phone.receive()).payload[0] == expected


async def test_a_repeated_prompt_plays_until_stopped_and_says_nothing(bench: Bench) -> None:
    bench.engine.register_prompt("ringback", "PCMU", [SILENCE])
    with RtpPeer() as phone:
        leg = bench.configured(phone)
        bench.engine.submit(PlayPrompts(leg, PlayId(1), ("ringback",), repeat=True))
        await phone.receive_many(5)
        bench.engine.submit(StopPrompts(leg))
        await bench.close(leg)
    assert not any(isinstance(answer, PromptsFinished) for answer in bench.answers)


async def test_what_cannot_be_played_is_finished_at_once(bench: Bench) -> None:
    nowhere = LegId(999)
    bench.engine.submit(PlayPrompts(nowhere, PlayId(1), ("busy",)))
    assert (await bench.wait_for(PromptsFinished)).play == PlayId(1)
    opened = bench.open()
    bench.engine.submit(PlayPrompts(opened.leg, PlayId(2), ("busy",)))
    assert (await bench.wait_for(PromptsFinished)).play == PlayId(2)
    with RtpPeer() as phone:
        bench.configure(opened, phone)
        bench.engine.submit(PlayPrompts(opened.leg, PlayId(3), ("unheard_of",)))
        assert (await bench.wait_for(PromptsFinished)).play == PlayId(3)


async def test_rfc3264_8_4_nothing_is_sent_to_a_peer_on_hold_but_time_goes_on(bench: Bench) -> None:
    bench.engine.register_prompt("busy", "PCMU", [SILENCE] * 3)
    with RtpPeer() as phone:
        leg = bench.configured(phone, peer_receives=False)
        bench.engine.submit(PlayPrompts(leg, PlayId(1), ("busy",)))
        await bench.wait_for(PromptsFinished)
        assert [data for data in phone.pending() if not is_rtcp(data)] == []
        assert (await bench.close(leg)).statistics.packets_sent == 0


async def test_a_peer_whose_host_refuses_packets_ends_nothing(bench: Bench) -> None:
    bench.engine.register_prompt("busy", "PCMU", [SILENCE] * 5)
    with RtpPeer() as phone:
        leg = bench.configured(phone)
        port = phone.port
    bench.engine.submit(PlayPrompts(leg, PlayId(1), ("busy",)))
    await bench.wait_for(PromptsFinished)
    with RtpPeer(port=port) as phone:
        bench.engine.submit(PlayPrompts(leg, PlayId(2), ("busy",)))
        await phone.receive()


# Digits -----------------------------------------------------------------------------------------------------


async def test_rfc4733_digits_are_heard_once_each(bench: Bench) -> None:
    with RtpPeer() as phone:
        leg = bench.configured(phone, listening=True)
        for digit in "0123456789*#ABCD":
            phone.press(digit)
            heard = await bench.wait_for(DigitHeard)
            assert heard == DigitHeard(leg, digit, DigitMeans.RFC4733, 80)
        phone.press("7", updates=0, ends=1)  # the end packet alone arrived
        assert (await bench.wait_for(DigitHeard)).digit == "7"
        phone.press("8", updates=2, ends=0)  # no end packet arrived
        assert (await bench.wait_for(DigitHeard)).digit == "8"
        await bench.close(leg)
    assert bench.answers == []


async def test_a_leg_that_does_not_listen_reports_no_digit(bench: Bench) -> None:
    with RtpPeer() as phone:
        leg = bench.configured(phone)
        phone.press("1")
        bench.engine.submit(ListenForDigits(leg, listening=True))
        bench.engine.submit(ListenForDigits(leg, listening=False))
        phone.press("2")
        assert (await bench.close(leg)).statistics.packets_received == 12
    assert bench.answers == []


async def test_a_digit_of_a_48_khz_clock_has_its_length_in_ms(bench: Bench) -> None:
    with RtpPeer() as phone:
        audio = AudioFormat("OPUS", 96, 48_000)
        bench.configured(phone, audio=audio, event_clock_rate=48_000, listening=True)
        event = TelephoneEvent(11, end=True, duration=4800)
        phone.send(event.serialize(), 101)
        assert (await bench.wait_for(DigitHeard)).duration_ms == 100


async def test_q24_inband_digits_when_asked_for(bench: Bench) -> None:
    def tone(n: int) -> int:
        return round(6000 * (math.sin(math.tau * 852 * n / 8000) + math.sin(math.tau * 1477 * n / 8000)))

    audible = 480  # samples: 60 ms of "9", then silence
    pcm = array.array("h", (tone(n) if n < audible else 0 for n in range(960)))
    with RtpPeer() as phone:
        leg = bench.configured(phone, event_payload_type=None)
        bench.engine.submit(ListenForDigits(leg, listening=True, inband=True))
        for payload in encode_prompt(pcm.tobytes(), 8000, "PCMU"):
            phone.send(payload)
        heard = await bench.wait_for(DigitHeard)
    assert (heard.digit, heard.means) == ("9", DigitMeans.INBAND)
    assert 40 <= heard.duration_ms <= 70


async def test_rfc4733_2_5_1_a_digit_is_sent_as_events(bench: Bench) -> None:
    with RtpPeer() as phone:
        leg = bench.configured(phone, event_payload_type=96)
        bench.engine.submit(SendDigit(leg, "#", 60))
        bench.engine.submit(SendDigit(leg, "?", 60))  # no digit
        bench.engine.submit(SendDigit(leg, "1", 40))
        packets = await phone.receive_many(9)
    events = [TelephoneEvent.parse(packet.payload) for packet in packets]
    assert [(event.code, event.end, event.duration) for event in events] == [
        (11, False, 160),
        (11, False, 320),
        (11, True, 480),
        (11, True, 480),
        (11, True, 480),
        (1, False, 160),
        (1, True, 320),
        (1, True, 320),
        (1, True, 320),
    ]
    assert {packet.payload_type for packet in packets} == {96}
    assert len({packet.timestamp for packet in packets}) == 2
    assert [packet.marker for packet in packets] == [True] + 4 * [False] + [True] + 3 * [False]
    assert [(packet.sequence - packets[0].sequence) % 2**16 for packet in packets] == list(range(9))


async def test_keys_in_talk_reach_a_peer_without_telephone_event_as_tones(bench: Bench) -> None:
    with RtpPeer() as phone, RtpPeer() as trunk:
        a_leg, b_leg = bench.configured(phone), bench.configured(trunk, event_payload_type=None)
        bench.engine.submit(BridgeMedia(a_leg, b_leg))
        phone.send(SILENCE)
        packets = [await trunk.receive()]
        phone.press("5")
        phone.press("#")
        packets += await trunk.receive_many(10)
        bench.engine.submit(SendDigit(b_leg, "1", 20))  # what came as SIP INFO
        packets += await trunk.receive_many(1)
        phone.send(SILENCE)
        packets += await trunk.receive_many(1)
    assert {packet.payload_type for packet in packets} == {0}
    assert [(packet.sequence - packets[0].sequence) % 2**16 for packet in packets] == list(range(13))
    assert [packet.payload == SILENCE for packet in packets] == [True] + 11 * [False] + [True]
    assert [n for n, packet in enumerate(packets[1:12]) if packet.marker] == [0, 5, 10]


async def test_keys_in_talk_that_are_reported_are_not_relayed_and_audio_is(bench: Bench) -> None:
    with RtpPeer() as phone, RtpPeer() as trunk:
        a_leg, b_leg = bench.configured(phone, listening=True), bench.configured(trunk)
        bench.engine.submit(BridgeMedia(a_leg, b_leg))
        phone.send(SILENCE)
        packets = [await trunk.receive()]
        phone.press("5")
        phone.press("5")
        phone.send(SILENCE)
        assert [(await bench.wait_for(DigitHeard)).digit for _ in range(2)] == ["5", "5"]
        packets.append(await trunk.receive())
        bench.engine.submit(ListenForDigits(a_leg, listening=False))
        phone.send(SILENCE)
        packets.append(await trunk.receive())
        assert all(packet.payload == SILENCE for packet in packets)
        phone.press("6")
        assert TelephoneEvent.parse((await trunk.receive()).payload).code == 6


async def test_nothing_is_relayed_of_a_leg_whose_tones_are_listened_for(bench: Bench) -> None:
    with RtpPeer() as phone, RtpPeer() as trunk:
        a_leg, b_leg = bench.configured(phone, event_payload_type=None), bench.configured(trunk)
        bench.engine.submit(ListenForDigits(a_leg, listening=True, inband=True))
        bench.engine.submit(BridgeMedia(a_leg, b_leg))
        bench.engine.submit(SendDigit(b_leg, "1", 20))  # sent when what was asked before is done
        await trunk.receive_many(3)
        phone.send(SILENCE)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(trunk.receive(), 0.1)


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


# RTCP, statistics, silence ----------------------------------------------------------------------------------


async def test_rfc3550_6_6_a_leg_says_goodbye_on_its_rtcp_port(bench: Bench) -> None:
    with RtpPeer() as phone, RtpPeer() as rtcp:
        opened = bench.open()
        remote = replace(remote_of(phone), rtcp_port=rtcp.port)
        bench.engine.submit(ConfigureMediaLeg(opened.leg, remote))
        bench.engine.submit(SendDigit(opened.leg, "1", 20))
        ssrc = (await phone.receive()).ssrc
        await bench.close(opened.leg)
        data = await rtcp.receive_raw()
    assert data[1] == 200  # a sender report leads
    assert data[4:8] == ssrc.to_bytes(4)
    assert data[-8:] == b"\x81\xcb\x00\x01" + ssrc.to_bytes(4)


async def test_rfc5761_with_mux_rtcp_shares_the_port(bench: Bench) -> None:
    with RtpPeer() as phone:
        leg = bench.configured(phone, rtcp_mux=True)
        phone.send_raw(b"\x80\xc9\x00\x01" + bytes(4))  # a report of the peer's is no RTP
        phone.send(SILENCE)
        statistics = (await bench.close(leg)).statistics
        assert is_rtcp(await phone.receive_raw())
    assert (statistics.packets_received, statistics.packets_discarded) == (1, 0)


async def test_statistics_of_a_leg(bench: Bench) -> None:
    with RtpPeer() as phone, RtpPeer() as trunk:
        a_leg, b_leg = bench.configured(phone), bench.configured(trunk)
        bench.engine.submit(BridgeMedia(a_leg, b_leg))
        phone.send(SILENCE)
        await trunk.receive()
        phone.packet = replace(phone.packet, sequence=(phone.packet.sequence + 3) & 0xFFFF)
        phone.send(SILENCE)
        phone.send_raw(b"no RTP at all")
        await trunk.receive()
        closed = await bench.close(a_leg)
        other = await bench.close(b_leg)
    assert (closed.statistics.packets_received, closed.statistics.packets_lost) == (2, 3)
    assert closed.statistics.packets_discarded == 1
    assert closed.statistics.jitter_ms >= 0.0
    assert other.statistics.packets_sent == 2


async def test_silence_is_reported_while_it_lasts_and_only_of_a_peer_that_sends() -> None:
    with Bench(replace(CONFIG, inactivity_timeout=0.05)) as bench, RtpPeer() as phone, RtpPeer() as held:
        silent = bench.configured(held, peer_sends=False)
        leg = bench.configured(phone)
        for _ in range(3):
            assert (await bench.wait_for(MediaTimedOut)).leg == leg
        phone.send(SILENCE)
        assert (await bench.wait_for(MediaResumed)).leg == leg
        assert (await bench.wait_for(MediaTimedOut)).leg == leg
        await bench.close(leg)
        await bench.close(silent)
    assert {answer.leg for answer in bench.answers if isinstance(answer, MediaTimedOut)} <= {leg}


# Hostile and late input -------------------------------------------------------------------------------------


async def test_commands_for_legs_that_are_not_there_do_no_harm(bench: Bench) -> None:
    gone = LegId(4711)
    with RtpPeer() as phone:
        leg = bench.configured(phone, listening=True)
        for command in (
            ConfigureMediaLeg(gone, remote_of(phone)),
            StopPrompts(gone),
            ListenForDigits(gone, listening=True),
            BridgeMedia(gone, leg),
            BridgeMedia(leg, gone),
            BridgeMedia(leg, leg),
            UnbridgeMedia(gone),
            SendDigit(gone, "1"),
            CloseMediaLeg(gone),
        ):
            bench.engine.submit(command)
        assert isinstance(await bench.wait_for(MediaLegClosed), MediaLegClosed)
        bench.engine.submit(OpenMediaLeg(leg, ipv6=False, emergency=False))
        assert (await bench.wait_for(MediaLegRefused)).leg == leg
        phone.press("1")
        assert (await bench.wait_for(DigitHeard)).digit == "1"


async def test_a_flood_of_nonsense_does_not_keep_a_digit_from_being_heard(bench: Bench) -> None:
    chance = random.Random(4733)

    async def hear(digit: str) -> None:
        while (await bench.wait_for(DigitHeard)).digit != digit:
            continue  # noise may look like a key

    with RtpPeer() as phone, RtpPeer() as trunk:
        a_leg, b_leg = bench.configured(phone, listening=True), bench.configured(trunk)
        bench.engine.submit(BridgeMedia(a_leg, b_leg))
        for digit in "0123456789*#ABCD":
            for n in range(100):
                data = bytearray(chance.randbytes(chance.randrange(0, 60)))
                if data and n % 2:
                    data[0] = 0x80 | chance.choice((0, 1, 0x10, 0x20, 0x3F))
                phone.send_raw(bytes(data))
                trunk.send_raw(bytes(data))
            heard = asyncio.ensure_future(hear(digit))
            while not heard.done():  # what a full socket sheds, the key's next press makes up for
                phone.press(digit)
                await asyncio.sleep(0.02)
            await heard


async def test_remote_addresses_that_cannot_be_sent_to(bench: Bench) -> None:
    with RtpPeer() as phone:
        for address in ("0.0.0.0", "host.invalid", "", "::1"):
            opened = bench.open()
            remote = replace(remote_of(phone), address=address)
            bench.engine.submit(ConfigureMediaLeg(opened.leg, remote))
            bench.engine.submit(SendDigit(opened.leg, "1", 20))
            assert (await bench.close(opened.leg)).statistics.packets_sent == 0


async def test_a_dead_media_thread_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class BrokenCore:
        def __init__(self, **_settings: object) -> None:
            self.read, self.write = os.pipe()

        def fileno(self) -> int:
            return self.read

        def drain_events(self) -> list[tuple[str, str]]:
            os.read(self.read, 1)
            return [("failed", "a media thread died")]

        def stop(self) -> None:
            os.close(self.read)
            os.close(self.write)

    monkeypatch.setattr("proxy.media.embedded.MediaCore", BrokenCore)
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    engine = EmbeddedEngine(CONFIG, lambda _answer: None, told.set_result)
    engine.start()
    os.write(vars(engine)["_core"].write, b"!")
    assert await told == "a media thread died"
    engine.stop()


async def test_stop_frees_all_and_may_be_repeated() -> None:
    with Bench(CONFIG) as bench:
        opened = bench.open()
        bench.engine.stop()
        bench.engine.stop()
        assert (bench.engine.open_legs, bench.engine.port_pairs[0]) == (0, 0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", opened.rtp_port))
        assert isinstance(bench.open_any(), MediaLegRefused)


@pytest.mark.parametrize("pcm", [b"", bytes(320), b"\x00\x80\xff\x7f" * 100])
def test_encode_prompt_takes_any_sound(pcm: bytes) -> None:
    for codec in ("PCMU", "PCMA", "G722", "OPUS"):
        frames = encode_prompt(pcm, 16_000, codec)
        assert len(frames) == -(-len(pcm) // 640)


def test_encode_prompt_names_what_is_wrong() -> None:
    for pcm, rate, codec, ptime_ms in (
        (b"\x00", 8000, "PCMU", 20),
        (b"", 8000, "GSM", 20),
        (b"", 10, "PCMU", 20),
        (b"", 8000, "OPUS", 10),
    ):
        with pytest.raises(ValueError, match=r"even|codec|rate|frames"):
            encode_prompt(pcm, rate, codec, ptime_ms)

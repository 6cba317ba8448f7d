"""Digits on real sockets: heard as events or tones, reported or relayed, sent (RFC 4733, Q.23, Q.24)."""

from __future__ import annotations

import array
import asyncio
import math
from dataclasses import replace

import pytest

from proxy._native import encode_prompt
from proxy.call.ports import (
    AudioFormat,
    BridgeMedia,
    DigitHeard,
    ListenForDigits,
    SendDigit,
)
from proxy.dtmf.digits import DigitMeans
from tests.media.embedded_bench import SILENCE, Bench
from tests.support.rtp import RtpPeer, TelephoneEvent


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


async def test_a_pound_is_heard_amid_much_audio_and_may_still_be_pressed_at_the_end(bench: Bench) -> None:
    with RtpPeer() as phone, RtpPeer() as talker:
        leg, talk = bench.configured(phone, listening=True), bench.configured(talker)
        for press in range(20):
            for _ in range(20):  # enough for the media thread to tick
                talker.send(SILENCE)
            phone.press("#", updates=1 + press % 3)
            assert (await bench.wait_for(DigitHeard)).digit == "#"
        phone.press("#", updates=2, ends=0)
        assert (await bench.close(leg)).statistics.packets_received == 20 * 3 + 39 + 2
        await bench.close(talk)
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


def nine(audible_ms: int, ms: int) -> list[bytes]:
    """Packets of 20 ms with the tones of "9", then silence."""

    def tone(n: int) -> int:
        return round(6000 * (math.sin(math.tau * 852 * n / 8000) + math.sin(math.tau * 1477 * n / 8000)))

    pcm = array.array("h", (tone(n) if n < audible_ms * 8 else 0 for n in range(ms * 8)))
    return list(encode_prompt(pcm.tobytes(), 8000, "PCMU"))


async def test_q24_inband_digits_when_asked_for(bench: Bench) -> None:
    with RtpPeer() as phone:
        leg = bench.configured(phone, event_payload_type=None)
        bench.engine.submit(ListenForDigits(leg, listening=True, inband=True))
        for payload in nine(60, 120):
            phone.send(payload)
        heard = await bench.wait_for(DigitHeard)
    assert (heard.digit, heard.means) == ("9", DigitMeans.INBAND)
    assert 40 <= heard.duration_ms <= 70


async def test_q24_packets_that_are_missing_in_a_tone_make_no_second_key_of_it(bench: Bench) -> None:
    with RtpPeer() as phone:
        leg = bench.configured(phone, event_payload_type=None)
        bench.engine.submit(ListenForDigits(leg, listening=True, inband=True))
        for place, payload in enumerate(nine(200, 300)):
            if place in {2, 4}:
                phone.packet = replace(phone.packet, sequence=(phone.packet.sequence + 1) & 0xFFFF)
            else:
                phone.send(payload)
        heard = await bench.wait_for(DigitHeard)
    assert (heard.digit, heard.means) == ("9", DigitMeans.INBAND)
    assert heard.duration_ms >= 130, "all that has arrived of 200 ms is of one key"


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

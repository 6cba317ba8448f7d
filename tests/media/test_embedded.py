"""The embedded media engine on real sockets: commands and answers, prompts, digits, relay."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import socket
from dataclasses import replace

import pytest

from proxy._native import encode_prompt
from proxy.call.ports import (
    AudioFormat,
    BridgeMedia,
    CloseMediaLeg,
    ConfigureMediaLeg,
    DigitHeard,
    LegId,
    ListenForDigits,
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
from proxy.errors import ConfigurationError
from proxy.media.embedded import EmbeddedConfig, EmbeddedEngine
from tests.media.embedded_bench import CONFIG, SILENCE, Bench, remote_of
from tests.support.ports import rtp_range
from tests.support.rtp import RtpPeer, is_rtcp

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
    config = replace(CONFIG, port_range=rtp_range(12), emergency_ports=4)
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
    low, high = rtp_range(4)
    config = replace(CONFIG, port_range=(low, high), emergency_ports=0)
    with Bench(config) as bench, RtpPeer(port=low + 1):
        assert bench.open().rtp_port == high - 1
        assert isinstance(bench.open_any(), MediaLegRefused)


async def test_ipv6_leg_and_advertised_address() -> None:
    config = replace(CONFIG, address_ipv6="::1", advertised_address="203.0.113.9")
    with Bench(config) as bench, RtpPeer("::1") as phone:
        both = bench.open()
        assert (both.address, both.own) == ("203.0.113.9", "127.0.0.1")
        opened = bench.open(ipv6=True)
        assert (opened.address, opened.own) == ("::1", "::1")
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

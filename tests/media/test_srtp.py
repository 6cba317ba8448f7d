"""SRTP in the media core: two engine legs are each other's SRTP peer, plain phones stand outside."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from proxy.call.ports import (
    BridgeMedia,
    ConfigureMediaLeg,
    DigitHeard,
    Latching,
    LegId,
    ListenForDigits,
    MediaLatched,
    MediaLegOpened,
    PlayId,
    PlayPrompts,
    RemoteMedia,
    SendDigit,
    SrtpKeys,
)
from tests.media.embedded_bench import PCMU, Bench
from tests.support.rtp import RtpPacket, RtpPeer, TelephoneEvent, is_rtcp

SUITES = {
    "AES_CM_128_HMAC_SHA1_80": (30, 10),
    "AES_CM_128_HMAC_SHA1_32": (30, 4),
    "AES_256_CM_HMAC_SHA1_80": (46, 10),
    "AES_256_CM_HMAC_SHA1_32": (46, 4),
    "AEAD_AES_128_GCM": (28, 16),
    "AEAD_AES_256_GCM": (44, 16),
}
"""Octets of key and salt together, and of a packet's tag."""
SUITE = "AES_CM_128_HMAC_SHA1_80"


def keys(suite: str = SUITE, local: int = 1, remote: int = 2, mki: bytes = b"") -> SrtpKeys:
    length = SUITES[suite][0]
    return SrtpKeys(suite, bytes([local]) * length, bytes([remote]) * length, mki)


def remote_at(
    port: int, srtp: SrtpKeys | None, *, mux: bool = False, latching: Latching = Latching.STRICT
) -> RemoteMedia:
    return RemoteMedia(
        address="127.0.0.1",
        rtp_port=port,
        rtcp_port=port if mux else port + 1,
        rtcp_mux=mux,
        audio=PCMU,
        event_payload_type=101,
        event_clock_rate=8000,
        peer_sends=True,
        peer_receives=True,
        latching=latching,
        signalled_from="127.0.0.1",
        srtp=srtp,
    )


@dataclass(slots=True)
class Chain:
    """phone - plain leg = SRTP leg ~~~ SRTP leg = plain leg - trunk."""

    bench: Bench
    phone: RtpPeer
    trunk: RtpPeer
    near: MediaLegOpened
    far: MediaLegOpened

    def key(self, near: SrtpKeys, far: SrtpKeys) -> None:
        self.bench.engine.submit(ConfigureMediaLeg(self.near.leg, remote_at(self.far.rtp_port, near)))
        self.bench.engine.submit(ConfigureMediaLeg(self.far.leg, remote_at(self.near.rtp_port, far)))

    async def passes(self, payload: bytes) -> RtpPacket:
        self.phone.send(payload)
        there = await self.trunk.receive()
        self.trunk.send(payload[::-1])
        back = await self.phone.receive()
        assert (there.payload, back.payload) == (payload, payload[::-1])
        return there


def chained(bench: Bench, phone: RtpPeer, trunk: RtpPeer) -> Chain:
    chain = Chain(bench, phone, trunk, bench.open(), bench.open())
    first, last = bench.configured(phone), bench.configured(trunk)
    bench.engine.submit(BridgeMedia(first, chain.near.leg))
    bench.engine.submit(BridgeMedia(chain.far.leg, last))
    return chain


@pytest.mark.parametrize("suite", SUITES)
async def test_rfc3711_rtp_on_one_side_and_srtp_on_the_other(bench: Bench, suite: str) -> None:
    with RtpPeer() as phone, RtpPeer(ssrc=7) as trunk:
        chain = chained(bench, phone, trunk)
        chain.key(keys(suite), keys(suite, 2, 1))
        for n in range(12):  # through the roll of the phone's sequence numbers
            await chain.passes(bytes(range(n, n + 160)))
        phone.press("5", updates=2)
        events = [TelephoneEvent.parse(packet.payload) for packet in await trunk.receive_many(5)]
        assert [event.end for event in events] == [False, False, True, True, True]


@pytest.mark.parametrize("suite", SUITES)
async def test_rfc3711_3_1_a_packet_on_the_wire_is_cipher_text_and_tag(bench: Bench, suite: str) -> None:
    bench.engine.register_prompt("busy", "PCMU", [b"\x55" * 160] * 3)
    with RtpPeer() as phone:
        opened = bench.open()
        bench.engine.submit(ConfigureMediaLeg(opened.leg, remote_at(phone.port, keys(suite))))
        bench.engine.submit(PlayPrompts(opened.leg, PlayId(1), ("busy",)))
        for packet in await phone.receive_many(3):
            assert packet.payload_type == 0
            assert len(packet.payload) == 160 + SUITES[suite][1]
            assert b"\x55" * 4 not in packet.payload
        bench.engine.submit(SendDigit(opened.leg, "4", 40))
        event = await phone.receive()
        assert event.payload_type == 101
        assert len(event.payload) == 4 + SUITES[suite][1]


async def test_a_plain_or_forged_packet_is_dropped_and_counted(bench: Bench) -> None:
    with RtpPeer() as phone, RtpPeer() as trunk:
        opened = bench.open()
        bench.configure(opened, phone, remote_at(phone.port, keys()))
        last = bench.configured(trunk)
        bench.engine.submit(BridgeMedia(opened.leg, last))
        bench.engine.submit(ListenForDigits(opened.leg, listening=True))
        phone.press("5")
        for length in (0, 1, 11, 12, 21, 22, 172, 1400):
            phone.send_raw(b"\x80\x00" + bytes(length))
        closed = await bench.close(opened.leg)
        assert trunk.pending() == []
    assert closed.statistics.packets_received == 0
    assert closed.statistics.packets_discarded == 14
    assert not any(isinstance(answer, DigitHeard) for answer in bench.answers)


async def test_a_forger_locks_no_learning_latch(bench: Bench) -> None:
    with RtpPeer() as stranger, RtpPeer() as trunk:
        near, far = bench.open(), bench.open()
        learning = remote_at(far.rtp_port, keys(), latching=Latching.LEARNING)
        bench.engine.submit(ConfigureMediaLeg(near.leg, learning))
        bench.engine.submit(ConfigureMediaLeg(far.leg, remote_at(near.rtp_port, keys(local=2, remote=1))))
        bench.engine.submit(BridgeMedia(far.leg, bench.configured(trunk)))
        stranger.target = ("127.0.0.1", near.rtp_port)
        for _ in range(6):
            stranger.send(bytes(170))
        for _ in range(3):
            trunk.send(bytes(160))
        latched = await bench.wait_for(MediaLatched)
        assert latched == MediaLatched(near.leg, "127.0.0.1", far.rtp_port)
        assert (await bench.close(near.leg)).statistics.packets_discarded == 6


async def test_rfc4568_7_1_4_new_keys_in_new_sdp(bench: Bench) -> None:
    with RtpPeer() as phone, RtpPeer(ssrc=7) as trunk:
        chain = chained(bench, phone, trunk)
        chain.key(keys(), keys(local=2, remote=1))
        before = await chain.passes(bytes(160))
        chain.key(keys(local=3, remote=4), keys(local=4, remote=3))
        after = await chain.passes(bytes(160))
        assert (after.ssrc, after.sequence) == (before.ssrc, (before.sequence + 1) % 2**16)
        # A refresh with the same keys keeps the counters.
        chain.key(keys(local=3, remote=4), keys(local=4, remote=3))
        await chain.passes(bytes(160))
        chain.key(keys("AEAD_AES_128_GCM", 5, 6), keys("AEAD_AES_128_GCM", 6, 5))
        await chain.passes(bytes(160))


async def test_new_sdp_without_keys_ends_srtp(bench: Bench) -> None:
    with RtpPeer() as phone, RtpPeer() as trunk:
        opened = bench.open()
        bench.configure(opened, phone, remote_at(phone.port, keys()))
        bench.engine.submit(BridgeMedia(opened.leg, bench.configured(trunk)))
        bench.configure(opened, phone, remote_at(phone.port, None))
        phone.send(b"\x11" * 160)
        assert (await trunk.receive()).payload == b"\x11" * 160


async def test_rfc3711_3_4_reports_are_srtcp(bench: Bench) -> None:
    with RtpPeer() as phone:
        opened = bench.open()
        bench.engine.submit(ConfigureMediaLeg(opened.leg, remote_at(phone.port, keys(), mux=True)))
        await bench.close(opened.leg)  # its goodbye
        report = await phone.receive_raw(is_rtcp)
    # RR of 8 octets in front; SDES and BYE are not to be seen, at the end are flag with index 1 and the tag.
    assert report[:4] == bytes([0x80, 201, 0, 1])
    assert report[-14:-10] == bytes([0x80, 0, 0, 1])
    assert bytes([0x81, 202]) not in report


async def test_digits_of_an_srtp_phone_are_heard(bench: Bench) -> None:
    with RtpPeer() as phone:
        near, far = bench.open(), bench.open()
        bench.engine.submit(ConfigureMediaLeg(near.leg, remote_at(far.rtp_port, keys())))
        bench.engine.submit(ConfigureMediaLeg(far.leg, remote_at(near.rtp_port, keys(local=2, remote=1))))
        bench.engine.submit(ListenForDigits(near.leg, listening=True))
        bench.engine.submit(BridgeMedia(far.leg, bench.configured(phone)))
        for digit in "1234#":
            phone.press(digit)
        assert [(await bench.wait_for(DigitHeard)).digit for _ in range(5)] == list("1234#")


@pytest.mark.parametrize(
    "wrong",
    [
        replace(keys(), suite="F8_128_HMAC_SHA1_80"),
        replace(keys(), local_key=bytes(29)),
        replace(keys(), remote_key=bytes(31)),
        replace(keys(), remote_mki=bytes(17)),
    ],
)
async def test_keys_that_do_not_fit_are_refused_without_being_shown(bench: Bench, wrong: SrtpKeys) -> None:
    opened = bench.open()
    with pytest.raises(ValueError, match=r"suite|octets|long") as caught:
        bench.engine.submit(ConfigureMediaLeg(opened.leg, remote_at(30_000, wrong)))
    assert "\\x01" not in str(caught.value)


def test_keys_are_never_printed() -> None:
    shown = repr(ConfigureMediaLeg(LegId(1), remote_at(4000, keys(mki=b"\x09"))))
    assert SUITE in shown
    assert "\\x" not in shown

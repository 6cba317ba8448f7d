"""RTP timelines written as pcap files, for SIPp's ``play_pcap_audio``.

SIPp's own ``play_dtmf`` never sets the end bit of RFC 4733 §2.3.3, so digits come from captures made here: a
caller that streams PCMU from the answer on and presses keys at given times.

    0 ms          start_ms                                        total_ms
    |--- PCMU ----|--event--|-PCMU-|--event--| ... |---- PCMU -----|
                   marker    3 end packets, same timestamp
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PTIME_MS = 20
PCMU_SILENCE = b"\xff"


@dataclass(frozen=True, slots=True)
class Voice:
    """What a caller streams: RTP payload type, ticks of its clock in a ms, and the 20 ms that it repeats."""

    payload_type: int
    ticks: int
    frame: bytes


PCMU = Voice(0, 8, PCMU_SILENCE * (8 * PTIME_MS))
OPUS = Voice(96, 48, b"\x78" + bytes(range(1, 40)))
"""One frame of 20 ms by its first byte (RFC 6716 §3.1); nobody decodes the rest."""
VOICES = {"pcmu": PCMU, "opus": OPUS}

EVENT_CODES = {digit: code for code, digit in enumerate("0123456789*#ABCD")}


@dataclass(frozen=True, slots=True)
class Keys:
    """What is pressed and when: ``tone_ms`` on, ``gap_ms`` off, starting ``start_ms`` after the answer."""

    digits: str
    start_ms: int = 300
    tone_ms: int = 60
    gap_ms: int = 40


def rtp(sequence: int, timestamp: int, payload_type: int, payload: bytes, *, marker: bool = False) -> bytes:
    """Return one RTP packet (RFC 3550 §5.1) of a fixed SSRC."""
    head = struct.pack(
        "!BBHII",
        0x80,
        payload_type | (0x80 if marker else 0),
        sequence & 0xFFFF,
        timestamp & 0xFFFFFFFF,
        0x70110A7E,
    )
    return head + payload


def caller_stream(
    keys: Iterable[Keys], *, total_ms: int, event_payload_type: int = 101, voice: Voice = PCMU
) -> list[tuple[float, bytes]]:
    """Return ``(seconds, packet)`` of a caller that streams for ``total_ms`` and presses ``keys``.

    The events have the clock of the voice (RFC 4733 §2.4.1).
    """
    presses: list[tuple[int, str, int]] = []
    for group in keys:
        at = group.start_ms
        for digit in group.digits:
            presses.append((at - at % PTIME_MS, digit, group.tone_ms))
            at += group.tone_ms + group.gap_ms
    packets: list[tuple[float, bytes]] = []
    sequence = 1
    now_ms = 0
    while now_ms < total_ms:
        press = next((p for p in presses if p[0] == now_ms), None)
        if press is None:
            packet = rtp(sequence, now_ms * voice.ticks, voice.payload_type, voice.frame, marker=now_ms == 0)
            packets.append((now_ms / 1000, packet))
            sequence += 1
            now_ms += PTIME_MS
            continue
        start_ms, digit, tone_ms = press
        for elapsed in range(PTIME_MS, tone_ms + 1, PTIME_MS):
            last = elapsed + PTIME_MS > tone_ms
            duration = elapsed * voice.ticks
            event = struct.pack("!BBH", EVENT_CODES[digit], 10 | (0x80 if last else 0), duration)
            for repeat in range(3 if last else 1):
                marker = elapsed == PTIME_MS and repeat == 0
                seconds = (start_ms + elapsed - PTIME_MS) / 1000
                timestamp = start_ms * voice.ticks
                packets.append((seconds, rtp(sequence, timestamp, event_payload_type, event, marker=marker)))
                sequence += 1
        now_ms = start_ms + tone_ms
    return packets


_LOW = {"1": 697, "2": 697, "3": 697, "A": 697, "4": 770, "5": 770, "6": 770, "B": 770}
_LOW |= {"7": 852, "8": 852, "9": 852, "C": 852, "*": 941, "0": 941, "#": 941, "D": 941}
_HIGH = {
    digit: hertz
    for digits, hertz in (("147*", 1209), ("2580", 1336), ("369#", 1477), ("ABCD", 1633))
    for digit in digits
}


def mu_law(sample: int) -> int:
    """Return one 16-bit sample as G.711 mu-law."""
    magnitude = min(abs(sample), 32_635) + 132
    exponent = magnitude.bit_length() - 8
    mantissa = magnitude >> (exponent + 3) & 0x0F
    return ~((0x80 if sample < 0 else 0) | exponent << 4 | mantissa) & 0xFF


def tone_stream(keys: Iterable[Keys], *, total_ms: int) -> list[tuple[float, bytes]]:
    """Return ``(seconds, packet)`` of a caller whose keys are DTMF tones in its PCMU (ITU-T Q.23)."""
    samples = bytearray(PCMU_SILENCE * (8 * total_ms))
    for group in keys:
        start_ms = group.start_ms
        for digit in group.digits:
            for at in range(8 * start_ms, 8 * (start_ms + group.tone_ms)):
                waves = (math.sin(2 * math.pi * hertz * at / 8000) for hertz in (_LOW[digit], _HIGH[digit]))
                samples[at] = mu_law(round(5000 * sum(waves)))
            start_ms += group.tone_ms + group.gap_ms
    size = 8 * PTIME_MS
    return [
        (index * PTIME_MS / 1000, rtp(index + 1, at, 0, bytes(samples[at : at + size]), marker=index == 0))
        for index, at in enumerate(range(0, len(samples) - size + 1, size))
    ]


def write_pcap(path: Path, packets: Iterable[tuple[float, bytes]]) -> Path:
    """Write RTP packets as an Ethernet/IPv4/UDP capture; SIPp, playing it, rewrites addresses and ports."""
    out = bytearray(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 0xFFFF, 1))
    for seconds, packet in packets:
        udp = struct.pack("!HHHH", 10000, 20000, 8 + len(packet), 0) + packet
        ip = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0x4000, 64, 17, 0, b"\x7f\0\0\x01", b"\x7f\0\0\x01"
        )
        frame = b"\0" * 12 + b"\x08\x00" + ip + udp
        whole, part = divmod(round(seconds * 1_000_000), 1_000_000)
        out += struct.pack("<IIII", whole, part, len(frame), len(frame)) + frame
    path.write_bytes(out)
    return path

"""A phone's RTP side on a real socket, as small as a test of the media engine needs it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

PATIENCE = 60.0
"""Seconds after which a packet that was waited for counts as missing."""


@dataclass(frozen=True, slots=True)
class RtpPacket:
    """One RTP packet (RFC 3550 §5.1) without CSRCs, extension and padding."""

    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    marker: bool = False

    @classmethod
    def parse(cls, data: bytes) -> RtpPacket:
        first, second, sequence, timestamp, ssrc = struct.unpack_from("!BBHII", data)
        assert first == 0x80, "the gate sends plain headers only"
        return cls(second & 0x7F, sequence, timestamp, ssrc, data[12:], bool(second & 0x80))

    def serialize(self) -> bytes:
        second = self.payload_type | (0x80 if self.marker else 0)
        header = struct.pack("!BBHII", 0x80, second, self.sequence, self.timestamp, self.ssrc)
        return header + self.payload


@dataclass(frozen=True, slots=True)
class TelephoneEvent:
    """The payload of a telephone-event packet (RFC 4733 §2.3)."""

    code: int
    end: bool
    duration: int

    @classmethod
    def parse(cls, payload: bytes) -> TelephoneEvent:
        code, flags, duration = struct.unpack("!BBH", payload)
        return cls(code, bool(flags & 0x80), duration)

    def serialize(self) -> bytes:
        return struct.pack("!BBH", self.code, (0x80 if self.end else 0) | 10, self.duration)


def is_rtcp(data: bytes) -> bool:
    """Whether a datagram is RTCP (RFC 5761 §4)."""
    return len(data) > 1 and 192 <= data[1] <= 223


class RtpPeer:
    """One socket that sends one RTP stream and hears what comes back."""

    def __init__(self, host: str = "127.0.0.1", *, ssrc: int = 0x1234_5678, port: int = 0) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind((host, port))
        self.host = host
        self.port: int = self.socket.getsockname()[1]
        self.packet = RtpPacket(0, 65_530, 4_294_967_000, ssrc, b"")
        """The next packet's numbers."""
        self.target: tuple[str, int] = (host, 0)
        """Where `send` sends to."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(
        self, payload: bytes, payload_type: int = 0, *, ticks: int = 160, marker: bool = False
    ) -> RtpPacket:
        """Send one packet and step sequence number and timestamp."""
        packet = replace(self.packet, payload=payload, payload_type=payload_type, marker=marker)
        self.send_raw(packet.serialize())
        self.packet = replace(
            packet,
            sequence=(packet.sequence + 1) & 0xFFFF,
            timestamp=(packet.timestamp + ticks) & 0xFFFF_FFFF,
        )
        return packet

    def send_raw(self, data: bytes) -> None:
        self.socket.sendto(data, self.target)

    def press(self, digit: str, payload_type: int = 101, *, updates: int = 3, ends: int = 3) -> None:
        """Send one key press as telephone-events, all at once."""
        code = "0123456789*#ABCD".index(digit)
        for n in range(updates):
            event = TelephoneEvent(code, end=False, duration=160 * (n + 1))
            self.send(event.serialize(), payload_type, ticks=0, marker=n == 0)
        self.repeat_end(digit, payload_type, ends)
        self.skip(160 * (updates + 2))

    def repeat_end(self, digit: str, payload_type: int = 101, ends: int = 1) -> None:
        """Send end packets of the event at the present timestamp."""
        event = TelephoneEvent("0123456789*#ABCD".index(digit), end=True, duration=640)
        for _ in range(ends):
            self.send(event.serialize(), payload_type, ticks=0)

    def skip(self, ticks: int) -> None:
        """Let the timestamp go on without a packet."""
        self.packet = replace(self.packet, timestamp=(self.packet.timestamp + ticks) & 0xFFFF_FFFF)

    async def receive_raw(self, wanted: Callable[[bytes], bool] = lambda _data: True) -> bytes:
        """Wait for the next datagram that is wanted; others are thrown away."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            while True:
                data = await loop.sock_recv(self.socket, 2048)
                if wanted(data):
                    return data

    async def receive(self) -> RtpPacket:
        """Wait for the next RTP packet."""
        return RtpPacket.parse(await self.receive_raw(lambda data: not is_rtcp(data)))

    async def receive_many(self, count: int) -> list[RtpPacket]:
        return [await self.receive() for _ in range(count)]

    def pending(self) -> list[bytes]:
        """Take what has arrived without waiting."""
        datagrams = []
        while True:
            try:
                datagrams.append(self.socket.recv(2048))
            except BlockingIOError:
                return datagrams

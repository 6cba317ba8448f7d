"""A stranger sprays the media ports of a gate before, during and after a call: RTP bleed and injection."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.cdr.record import Disposition
from tests.net.waiting import happens, until
from tests.server.house import CODE, House

STRANGER = "127.0.0.66"
LEARNING_LEAKS = 5
"""Packets that may go to a stranger before a learning leg has locked on its peer."""


class Sprayer:
    """One socket that sends RTP, keys, RTCP, STUN and rubbish to every port, and counts what comes back."""

    def __init__(self, ports: range) -> None:
        self.heard = 0
        self.sent = 0
        self._ports = ports
        self._sequence = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind((STRANGER, 0))

    async def spray(self) -> None:
        """Send without end."""
        while True:
            for place, packet in enumerate(self._packets()):
                for port in self._ports:
                    self._send(packet, port)
                if place % 2:
                    await asyncio.sleep(0.005)
            self.listen()

    def listen(self) -> None:
        """Count what has come."""
        try:
            while True:
                # An ICMP error is no packet of the gate's.
                self.heard += bool(self._socket.recv(2_048))
        except OSError:
            return

    def close(self) -> None:
        self._socket.close()

    def _send(self, packet: bytes, port: int) -> None:
        with contextlib.suppress(OSError):  # of an ICMP error that came for the packet before
            self._socket.sendto(packet, ("127.0.0.1", port))
        self.sent += 1

    def _packets(self) -> Iterator[bytes]:
        self._sequence += 1
        ssrc = 0x6666_6666
        yield (
            struct.pack("!BBHII", 0x80, 0, self._sequence & 0xFFFF, self._sequence * 160, ssrc)
            + b"\xff" * 160
        )
        for end in (0x00, 0x80):
            event = struct.pack("!BBH", 9, end | 10, 640)  # a 9, another each time
            yield (
                struct.pack("!BBHII", 0x80, 101, self._sequence & 0xFFFF, self._sequence * 160, ssrc) + event
            )
        yield struct.pack("!BBHI", 0x81, 203, 1, ssrc)  # an RTCP BYE
        yield struct.pack("!HHI", 1, 0, 0x2112_A442) + os.urandom(12)  # STUN
        yield os.urandom(172)


@pytest.mark.parametrize(("latching", "leaks"), [("strict", 0), ("learning", LEARNING_LEAKS)])
async def test_a_stranger_who_sprays_every_port_hears_nothing_and_types_nothing(
    tmp_path: Path, latching: str, leaks: int
) -> None:
    house = House(tmp_path)
    house.extra = f'phones.latching = "{latching}"'
    await house.open()
    low, _, high = str(house.gate.settings.media.ports).partition("-")
    sprayer = Sprayer(range(int(low), int(high) + 1))
    spraying = asyncio.create_task(sprayer.spray())
    call = house.dial()
    await happens(call.answered)
    call.rtp.press(CODE + "#")
    await until(lambda: house.carrier.streams and house.carrier.streams[-1].packets > 50)
    heard_by_the_phone = call.rtp.packets
    await until(lambda: call.rtp.packets > heard_by_the_phone + 50)
    house.phone.hang_up(call)
    (record,) = await house.records()
    await until(lambda: house.gate.core.idle and house.gate.engine.open_legs == 0)
    spraying.cancel()
    await asyncio.gather(spraying, return_exceptions=True)
    sprayer.listen()
    assert sprayer.sent > 1_000
    assert sprayer.heard <= leaks
    assert (record.disposition, record.wrong_tries) == (Disposition.ANSWERED, 0)
    assert record.code is not None
    assert record.code.key == CODE
    sprayer.close()
    await house.close()

"""A stranger's socket, in a process of its own, that sends rubbish to every media port of a gate.

`python -m reliability._sprayer FIRST LAST` says when it has begun, goes on until its standard input is closed
and prints one JSON object.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

__all__ = ["Sprayed"]

STRANGER = "127.0.0.66"
PAUSE = 0.005
"""Seconds between two packets to the same port."""


@dataclass
class Sprayed:
    """What went out and came back."""

    sent: int = 0
    heard: int = 0


class Sprayer:
    """Sends RTP, keys, RTCP, STUN and noise, and counts what comes back."""

    def __init__(self, ports: range) -> None:
        self.done = Sprayed()
        self._ports = ports
        self._sequence = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind((STRANGER, 0))

    def spray(self, end: int) -> Iterator[None]:
        """Send every packet to every port, then yield; returns when there is something to read at ``end``."""
        while True:
            for packet in self._packets():
                for port in self._ports:
                    with contextlib.suppress(OSError):  # of an ICMP error that came for the packet before
                        self._socket.sendto(packet, ("127.0.0.1", port))
                    self.done.sent += 1
                if select.select([end], [], [], PAUSE)[0]:
                    self._listen()
                    return
            self._listen()
            yield

    def _listen(self) -> None:
        """Count what has come; an ICMP error is no packet of the gate's."""
        with contextlib.suppress(OSError):
            while True:
                self.done.heard += bool(self._socket.recv(2_048))

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


def main() -> None:
    """Spray as the arguments say."""
    first, last = map(int, sys.argv[1:])
    sprayer = Sprayer(range(first, last + 1))
    for number, _ in enumerate(sprayer.spray(sys.stdin.fileno())):
        if not number:
            print("begun", flush=True)
    print(json.dumps(asdict(sprayer.done)))


if __name__ == "__main__":
    main()

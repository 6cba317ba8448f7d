"""Ports that no two gates and phones of a run are given, nor those of two runs at once but by chance.

All lie below the kernel's own range (32768 on), so that nobody else's short-lived socket sits on one of them
between two uses. A worker gives those of its share, and none again before all were given: late RTP of the
last call would come to it.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["phone_ports", "reserved_tcp_port", "rtp_ports", "rtp_range"]

_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
"""One that takes a crashed one's place has a higher number than there are workers."""


# Each has the three after it: SIPp takes them for RTCP and video.
_PHONES = range(10_000 + 4 * _WORKER, 20_000, 4 * _WORKERS)
phone_ports = itertools.cycle(random.sample(_PHONES, len(_PHONES)))
"""To be tried one after the other: each is free unless somebody else has it."""


class _Share:
    """The media ports of this worker, in ranges one after the other, over and over again."""

    def __init__(self, ports: range) -> None:
        self._ports = ports
        self._at = 2 * random.randrange(len(ports) // 2)

    def take(self, size: int) -> range:
        if self._at + size > len(self._ports):
            self._at = 0
        taken = self._ports[self._at :][:size]
        self._at += size
        return taken


_MEDIA = range(20_000, 32_000)
_share = _Share(_MEDIA[_WORKER * len(_MEDIA) // _WORKERS :][: len(_MEDIA) // _WORKERS])


def rtp_range(size: int = 200) -> tuple[int, int]:
    """Return the first and the last port of a range for the media of one gate."""
    taken = _share.take(size)
    return taken[0], taken[-1]


def rtp_ports(size: int = 200) -> str:
    """Return such a range as the settings want it."""
    low, high = rtp_range(size)
    return f"{low}-{high}"


@contextmanager
def reserved_tcp_port() -> Iterator[int]:
    """Give a port of 127.0.0.1 that a server with SO_REUSEADDR can listen on, and nobody else is given."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])

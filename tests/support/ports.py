"""Ports that two runs of the tests beside each other don't share."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

_FIRST, _RUNS, _SHARE = 20_000, 25, 400
"""Below the kernel's own range (32768 on), so that nothing else is given one of them."""


def rtp_ports(share: int = 0, size: int = 200) -> str:
    """Return a range of media ports as the settings want it; each ``share`` (0, 1) is another one."""
    low = _FIRST + os.getpid() % _RUNS * _SHARE + share * _SHARE // 2
    return f"{low}-{low + size - 1}"


@contextmanager
def reserved_tcp_port() -> Iterator[int]:
    """Give a port of 127.0.0.1 that a server with SO_REUSEADDR can listen on, and nobody else is given."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])

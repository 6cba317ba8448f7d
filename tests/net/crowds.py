"""A crowd on the running loop for sockets that are tested by themselves."""

from __future__ import annotations

import asyncio

from proxy.net.crowd import Crowd, Deliver

__all__ = ["KNOWN", "crowd"]

KNOWN = "127.0.0.5"
"""Where peers or phones are."""


def crowd(deliver: Deliver) -> Crowd:
    """Return one that declines nothing."""
    loop = asyncio.get_running_loop()
    return Crowd(deliver, lambda _data, _flow: False, lambda host: host == KNOWN, loop.time, loop.call_soon)

"""What a stranger sends to a gate, and how long its OPTIONS waits there."""

from __future__ import annotations

import asyncio
import socket
import time
from itertools import count

__all__ = ["HOST", "OPTIONS_WITHIN", "best_options_seconds", "options_seconds", "request"]

HOST = "127.0.0.1"
OPTIONS_WITHIN = 0.5
"""Seconds after which a gate has answered an OPTIONS, whatever it has been through."""
TRIES = 3
"""The best of so many counts: what else runs on the machine may take the first ones' time."""
_LOST = 5.0
"""Seconds after which no answer comes any more: the kernel dropped one of the two."""

_serial = count(1)


def request(
    method: str,
    extra: str = "",
    body: bytes = b"",
    *,
    transport: str = "UDP",
    length: str | None = None,
    to: str = "1",
    call_id: str = "",
) -> bytes:
    """Return a sound request of a stranger, but for what the test changes."""
    number = next(_serial)
    return (
        f"{method} sip:{to}@{HOST} SIP/2.0\r\n"
        f"Via: SIP/2.0/{transport} {HOST};rport;branch=z9hG4bKw{number}\r\nMax-Forwards: 70\r\n"
        f"From: <sip:mallory@{HOST}>;tag=f{number}\r\nTo: <sip:{to}@{HOST}>\r\n"
        f"Call-ID: {call_id or f'wire-{number}'}\r\nCSeq: 1 {method}\r\n{extra}"
        f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
    ).encode("utf-8", "surrogateescape") + body


async def options_seconds(gate: tuple[str, int], source: str = HOST) -> float:
    """Return how long an OPTIONS over UDP waits for its answer; infinity: none came."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as stranger:
        stranger.bind((source, 0))
        begun = time.monotonic()
        await loop.sock_sendto(stranger, request("OPTIONS"), gate)
        try:
            answer = await asyncio.wait_for(loop.sock_recv(stranger, 65_536), _LOST)
        except TimeoutError:
            return float("inf")
        took = time.monotonic() - begun
    assert answer.startswith(b"SIP/2.0 "), answer
    return took


async def best_options_seconds(gate: tuple[str, int], source: str = HOST) -> float:
    """Return the shortest wait; the first one that is short enough ends the tries."""
    best = float("inf")
    for _ in range(TRIES):
        best = min(best, await options_seconds(gate, source))
        if best <= OPTIONS_WITHIN:
            break
    return best

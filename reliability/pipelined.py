"""One stranger who sends request upon request over connections of its own: whom that keeps from the gate."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median

from reliability.wire import HOST, ExposedGate, request, sources
from tests.net.waiting import until

__all__ = ["Pressure", "answered_in_order", "pressed"]

AT_ONCE = 200
"""Requests written at once."""


@dataclass
class Pressure:
    """What went to and fro beside the requests of somebody else."""

    sent: int = 0
    received: int = 0
    options: list[float] = field(default_factory=list)
    """Seconds that each OPTIONS over UDP waited for its answer."""

    @property
    def usual(self) -> float:
        """The median: a machine that is busy with something else is late now and then."""
        return median(self.options)


async def pressed(
    exposed: ExposedGate, transport: str, method: str, *, connections: int, looks: int
) -> Pressure:
    """Send without end over so many connections of one address, and ask the gate meanwhile."""
    source = next(iter(sources(exposed.random)))
    pressure = Pressure()
    senders = [
        asyncio.create_task(_send(exposed, transport, method, source, pressure)) for _ in range(connections)
    ]
    # More than sockets hold: from now on it is the gate that decides how much of it is read.
    await until(lambda: pressure.received > 200_000 or any(sender.done() for sender in senders))
    for _ in range(looks):
        pressure.options.append(await exposed.options_seconds())
    assert not any(sender.done() for sender in senders), "the gate has closed a connection"
    for sender in senders:
        sender.cancel()
    await asyncio.gather(*senders, return_exceptions=True)
    return pressure


async def _send(exposed: ExposedGate, transport: str, method: str, source: str, pressure: Pressure) -> None:
    secure = transport == "TLS"
    reader, writer = await asyncio.open_connection(
        *exposed.addresses[transport],
        local_addr=(source, 0),
        ssl=exposed.tls if secure else None,
        server_hostname=HOST if secure else None,
    )
    reading = asyncio.create_task(_read(reader, pressure))
    try:
        while not reading.done():
            data = b"".join(request(method, transport=transport) for _ in range(AT_ONCE))
            writer.write(data)
            await writer.drain()
            pressure.sent += len(data)
    finally:
        reading.cancel()
        writer.transport.abort()
        with suppress(OSError, ssl.SSLError):
            await writer.wait_closed()


async def _read(reader: asyncio.StreamReader, pressure: Pressure) -> None:
    while data := await reader.read(65_536):
        pressure.received += len(data)


async def answered_in_order(exposed: ExposedGate, transport: str, *, count: int) -> bool:
    """Send requests all at once, and say whether each has been answered and in their order."""
    stream = await exposed.stream(transport, next(iter(sources(exposed.random))))
    names = [f"pipelined-{transport}-{number}" for number in range(count)]
    stream.send(b"".join(request("OPTIONS", transport=transport, call_id=name) for name in names))
    await until(lambda: stream.closed.is_set() or len(stream.answers) >= count)
    answered = [answer.headers.get("Call-ID") for answer in stream.answers]
    await stream.end()
    return answered == names

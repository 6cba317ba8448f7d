"""Connections that nobody uses, and messages that never end: whom they shut out of a running gate."""

from __future__ import annotations

import asyncio
import resource
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path

from reliability.figures import Figure
from reliability.traffic import Caller
from reliability.wire import ExposedGate, PhoneLine, Stream, exposed_gate, request, sources
from tests.net.waiting import PATIENCE, until

__all__ = ["Crowd", "crowded", "slow_senders", "too_many_of_one_source"]

NUMBER = "4155550123"
IDLE, HALF = 5_000, 1_000
PER_SOURCE = 45
"""Below the gate's bound: these strangers break no rule but by their number."""
BESIDE_A_PHONE = 450
"""The same, where a phone is registered."""
CLIENT_HELLO = bytes.fromhex("16030100f1010000ed0303")
"""The first octets of a TLS handshake that goes no further."""
OPENED_AT_ONCE = 100


@dataclass
class Crowd:
    """What became of phones and of a call in a crowd of connections."""

    idle: int = 0
    half: int = 0
    registered: dict[str, int] = field(default_factory=dict)
    """The last status of each phone's REGISTER; 0: its connection was closed."""
    seconds: dict[str, float] = field(default_factory=dict)
    call_status: int = 0
    options_seconds: float = 0.0
    open_afterwards: int = 0

    @property
    def wrong(self) -> list[str]:
        """Who was shut out."""
        phones = [f"{phone}: {status}" for phone, status in self.registered.items() if status != 200]
        return phones + ([] if self.call_status == 200 else [f"a call: {self.call_status}"])


async def crowded(exposed: ExposedGate, *, idle: int, half: int) -> Crowd:
    """Let so many connections do nothing; then phones register, new ones too, and a call is placed."""
    _need_descriptors(2 * (idle + half) + 500)
    hosts = iter(sources(exposed.random))
    crowd = Crowd(idle, half)
    own = {"TCP": next(hosts), "TLS": next(hosts)}
    phones = {
        f"registered over {transport}": PhoneLine(await exposed.stream(transport, host), transport)
        for transport, host in own.items()
    }
    for phone in phones.values():
        assert await phone.register() == 200
    crowds = [socket.socket() for _ in range(idle + half)]
    # The first ones stand behind the same NAT as a phone: it is not theirs that is in use.
    places = chain(repeat(own["TCP"], min(3 * idle // 4, BESIDE_A_PHONE)), _places(hosts))
    plain, secure = exposed.addresses["TCP"], exposed.addresses["TLS"]
    targets = [(plain, b"")] * idle + [(secure, CLIENT_HELLO)] * half
    for start in range(0, len(crowds), OPENED_AT_ONCE):
        batch = zip(crowds[start : start + OPENED_AT_ONCE], targets[start:], places, strict=False)
        await asyncio.gather(*(_stand_about(held, to, words, host) for held, (to, words), host in batch))
    for transport in ("TCP", "TLS"):
        begun = time.monotonic()
        phone = PhoneLine(await exposed.stream(transport, next(hosts)), transport)
        phones[f"new over {transport}"] = phone
        crowd.registered[f"new over {transport}"] = await phone.register()
        crowd.seconds[f"new over {transport}"] = time.monotonic() - begun
    for transport in ("TCP", "TLS"):
        name = f"registered over {transport}"
        crowd.registered[name] = await phones[name].register()
    crowd.call_status = await _call(exposed)
    crowd.options_seconds = await exposed.options_seconds()
    for phone in phones.values():
        await phone.stream.end()
    for held in crowds:
        held.close()
    await _until_fewer(exposed, lambda: 0)
    crowd.open_afterwards = await _connections(exposed)
    return crowd


async def _stand_about(held: socket.socket, to: tuple[str, int], words: bytes, host: str) -> None:
    held.setblocking(False)
    held.bind((host, 0))
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(held, to)
        await loop.sock_sendall(held, words)
    except ConnectionError:
        return  # its place went to somebody else already


async def _call(exposed: ExposedGate) -> int:
    caller = Caller(exposed.gate.port)
    await caller.start()
    call = caller.place(NUMBER, hold=0.1)
    await until(call.over.is_set)
    await caller.close()
    return call.status


async def slow_senders(exposed: ExposedGate, *, count: int = 20) -> float:
    """Begin messages and go on with an octet at a time; returns after how many seconds the last of these
    connections was closed.
    """
    hosts = iter(sources(exposed.random))
    data = request("OPTIONS", transport="TCP", body=b"x" * 60_000)
    begun = time.monotonic()
    streams = [
        await exposed.stream(transport, next(hosts))
        for transport in ("TCP", "TLS")
        for _ in range(count // 2)
    ]
    sent = 0
    while not all(stream.closed.is_set() for stream in streams):
        for stream in streams:
            if not stream.closed.is_set():
                stream.send(data[sent : sent + 1])
        sent += 1
        assert sent < len(data) - 1, "a message may take as long as it likes"
        await asyncio.sleep(0.05)
    took = time.monotonic() - begun
    for stream in streams:
        await stream.end()
    return took


async def too_many_of_one_source(exposed: ExposedGate, *, count: int = 70) -> int:
    """Connect so often from one address; returns how many of these connections stay open."""
    host = next(iter(sources(exposed.random)))
    before = await _connections(exposed)
    streams: list[Stream] = []
    for _ in range(count):
        try:
            streams.append(await exposed.stream("TCP", host))
        except ConnectionError:
            continue
    await _until_fewer(exposed, lambda: before + sum(not stream.closed.is_set() for stream in streams))
    kept = await _connections(exposed) - before
    for stream in streams:
        await stream.end()
    await _until_fewer(exposed, lambda: 0)
    return kept


async def _connections(exposed: ExposedGate) -> int:
    connections = (await exposed.gate.status())["connections"]
    assert isinstance(connections, int)
    return connections


async def _until_fewer(exposed: ExposedGate, most: Callable[[], int]) -> None:
    """Return when the gate holds no more connections than that."""
    async with asyncio.timeout(PATIENCE):
        while await _connections(exposed) > most():  # noqa: ASYNC110 - nothing here would set an event
            await asyncio.sleep(0.05)


def _places(hosts: Iterator[str]) -> Iterator[str]:
    """Return each address as often as one source may connect."""
    for host in hosts:
        yield from repeat(host, PER_SOURCE)


def _need_descriptors(number: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(number, hard), hard))


# The group --------------------------------------------------------------------------------------------------


async def _measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="tollgate-transport-") as folder:
        async with exposed_gate(Path(folder)) as exposed:
            crowd = await crowded(exposed, idle=IDLE, half=HALF)
            kept = await too_many_of_one_source(exposed)
            slow = await slow_senders(exposed)
            await exposed.nothing_left()
    among = f"among {IDLE} idle connections and {HALF} half TLS handshakes"
    slowest = max(crowd.seconds.values())
    options = crowd.options_seconds
    return [
        Figure(
            4, f"phones, registered and new, and a call {among}", "all pass",
            "; ".join(crowd.wrong) or "all pass", not crowd.wrong,
        ),
        Figure(4, f"a new phone registers {among}", "-", f"{slowest:.2f} s", kept=True),
        Figure(4, f"OPTIONS {among}", "500 ms", f"{1000 * options:.0f} ms", options <= 0.5),
        Figure(4, "connections of one source", "50", str(kept), kept <= 50),
        # The look at connections comes once a second.
        Figure(4, "a message that never ends is closed after", "10 s + 1 s", f"{slow:.1f} s", slow <= 11.5),
    ]  # fmt: skip


def run(seconds: float | None = None) -> list[Figure]:
    """Crowd the gate once."""
    del seconds
    return asyncio.run(_measure())

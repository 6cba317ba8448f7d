"""Trunks over TCP that are none in four ways: the call goes to the next one, and rings there once.

Those over UDP, and refused connections, are in tests/system/test_failover.py; what DNS says, in tests/net.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from reliability.gate import GateProcess
from reliability.traffic import Callee, Caller
from tests.net.waiting import until

HOST = "127.0.0.1"
NUMBER = "4155550123"


@asynccontextmanager
async def says_nothing() -> AsyncIterator[int]:
    """Take connections and read nothing: a peer that has vanished behind its kernel, or its NAT."""
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        listening.listen()
        yield listening.getsockname()[1]


@asynccontextmanager
async def takes_no_connection() -> AsyncIterator[int]:
    """Let SYNs go unanswered, as a black hole does: the queue of connections is full."""
    with socket.socket() as listening, ExitStack() as queue:
        listening.bind((HOST, 0))
        listening.listen(0)
        for _ in range(3):
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


def _answering(words: bytes) -> Callable[[], AbstractAsyncContextManager[int]]:
    @asynccontextmanager
    async def server() -> AsyncIterator[int]:
        writers: list[asyncio.StreamWriter] = []

        async def accepted(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            writer.write(words)
            if not words:
                writer.transport.abort()

        serving = await asyncio.start_server(accepted, HOST, 0)
        yield serving.sockets[0].getsockname()[1]
        serving.close()
        for writer in writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    return server


FAULTS: dict[str, Callable[[], AbstractAsyncContextManager[int]]] = {
    "silence": says_nothing,
    "black-hole": takes_no_connection,
    "reset": _answering(b""),
    "no-sip": _answering(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
}


async def test_a_call_comes_past_trunks_over_tcp_that_are_none_and_rings_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listen = json.dumps([f"udp:{HOST}:0", f"tcp:{HOST}:0"])
    monkeypatch.setenv("TOLLGATE_SIP__LISTEN", listen)
    async with AsyncExitStack() as stack:
        trunks = ""
        for name, fault in FAULTS.items():
            port = await stack.enter_async_context(fault())
            trunks += f'[[trunks]]\nname = "{name}"\naddresses = ["tcp:{HOST}:{port}"]\ninbound = false\n'
        callee = await stack.enter_async_context(Callee())
        gate = GateProcess(tmp_path, callee.port, extra=trunks)
        gate.environment["TOLLGATE_SIP__LISTEN"] = listen
        await stack.enter_async_context(gate)
        caller = await stack.enter_async_context(Caller(gate.port))
        call = caller.place(NUMBER, hold=0.1)
        await until(call.over.is_set)
        assert call.answered, (call.status, gate.log[-2000:])
        (record,) = await gate.settled()
    assert [trunk.trunk for trunk in record.trunks] == [*FAULTS, "carrier"]
    assert callee.numbers == ["1" + NUMBER]

"""Connections that say nothing, of one source or of strangers, close the portal for nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_network

import pytest
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.server import ServerState

from proxy.portal.connections import ConnectionBounds, RequestBounds, bounded_protocol

_Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_REQUEST = b"GET / HTTP/1.1\r\nHost: portal\r\n\r\n"
_LONG = 60
"""Seconds after which a test has failed."""


async def _hello(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


@asynccontextmanager
async def served(
    bounds: ConnectionBounds, app: ASGIApp = _hello, state: ServerState | None = None
) -> AsyncIterator[Callable[[], Coroutine[None, None, _Wire]]]:
    """A server within bounds; gives what connects to it."""
    config = uvicorn.Config(app, http=bounded_protocol(bounds), lifespan="off", log_config=None)
    config.timeout_keep_alive = 2 * _LONG
    config.load()
    state, protocol = state or ServerState(), bounded_protocol(bounds)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: protocol(config, state, {}), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    opened: list[asyncio.StreamWriter] = []

    async def connect() -> _Wire:
        reader, writer = await asyncio.open_connection(host, port)
        opened.append(writer)
        return reader, writer

    try:
        async with asyncio.timeout(_LONG):
            yield connect
    finally:
        server.close()
        for writer in opened:
            writer.close()


async def answered(wire: _Wire, request: bytes = _REQUEST) -> bytes:
    wire[1].write(request)
    return await wire[0].readuntil(b"hello")


async def is_answered(wire: _Wire) -> bool:
    with suppress(ConnectionError):
        wire[1].write(_REQUEST)
        return bool(await wire[0].read(1))
    return False


async def is_closed(wire: _Wire) -> bool:
    """Wait for the end; what is answered before does not count."""
    with suppress(ConnectionResetError):
        await wire[0].read()
    return True


@pytest.mark.parametrize("said", [b"", b"G", b"GET / HTTP/1.1\r\nHost: po"])
async def test_a_connection_without_a_whole_head_is_closed(said: bytes) -> None:
    bounds = ConnectionBounds(head_within=0.2)
    async with served(bounds) as connect:
        wire = await connect()
        wire[1].write(said)
        assert await is_closed(wire)
    assert not bounds._open


async def test_a_head_that_comes_byte_by_byte_gets_no_more_time_on_a_used_connection_either() -> None:
    bounds = ConnectionBounds()
    async with served(bounds) as connect:
        wire = await connect()
        assert await answered(wire)
        bounds.head_within = 0.3

        async def drip() -> None:
            while True:
                wire[1].write(b"x")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        assert await is_closed(wire)
        dripping.cancel()


async def test_an_answer_may_take_longer_than_a_head_and_a_connection_is_used_again() -> None:
    state, timed = ServerState(), []

    def is_timed() -> bool:
        [connection] = state.connections
        return getattr(connection, "_head_timer") is not None  # noqa: B009 - of uvicorn's own type

    async def answers(scope: Scope, receive: Receive, send: Send) -> None:
        timed.append(is_timed())
        await _hello(scope, receive, send)

    async with served(ConnectionBounds(), answers, state) as connect:
        wire = await connect()
        wire[1].write(_REQUEST[:9])
        assert await answered(wire, _REQUEST[9:])
        assert await answered(wire)
        assert not is_timed(), "the bound of an idle connection is uvicorn's own"
        assert timed == [False, False]


async def test_one_source_has_so_many_connections_and_gets_them_back() -> None:
    bounds = ConnectionBounds(most_of_source=2)
    async with served(bounds) as connect:
        first, second = await connect(), await connect()
        assert await answered(first)
        assert await answered(second)
        third = await connect()
        third[1].write(_REQUEST)
        assert await is_closed(third)
        first[1].close()
        while not await is_answered(await connect()):
            """The server has not seen the end of the first yet."""


def test_sources_are_bounded_each_and_all_together() -> None:
    bounds = ConnectionBounds(most=5, most_of_source=2)
    assert [bounds.enter("192.0.2.1") for _ in range(3)] == ["192.0.2.1", "192.0.2.1", None]
    net = "2001:db8::/64"
    assert [bounds.enter(f"2001:db8::{n}") for n in range(3)] == [net, net, None], "one line's addresses"
    assert bounds.enter("192.0.2.2") == "192.0.2.2"
    assert bounds.enter("192.0.2.3") is None
    bounds.leave(net)
    assert bounds.enter("::ffff:192.0.2.3") == "192.0.2.3"
    assert bounds.enter("") is None


def test_a_web_server_before_the_portal_bounds_its_own() -> None:
    bounds = ConnectionBounds([ip_network("10.0.0.0/24")], most=5, most_of_source=2)
    assert [bounds.enter("10.0.0.1") for _ in range(6)] == ["10.0.0.1"] * 5 + [None]


def test_without_a_certificate_nobody_else_speaks_plain_http() -> None:
    bounds = ConnectionBounds([ip_network("10.0.0.1")], only_trusted=True)
    taken = [bounds.enter(host) for host in ("10.0.0.1", "::ffff:10.0.0.1", "127.0.0.1", "::1")]
    assert None not in taken
    assert [bounds.enter(host) for host in ("10.0.0.2", "192.0.2.1", "2001:db8::1")] == [None] * 3


async def test_so_many_requests_at_once_and_the_next_is_told_to_come_back() -> None:
    go, begun = asyncio.Event(), asyncio.Event()

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await go.wait()
        await _hello(scope, receive, send)

    app = RequestBounds(waits, most=1)
    async with served(ConnectionBounds(), app) as connect:
        first, second = await connect(), await connect()
        first[1].write(_REQUEST)
        await begun.wait()
        second[1].write(_REQUEST)
        refused = await second[0].read()
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 5" in refused.lower()
        go.set()
        await first[0].readuntil(b"hello")
        assert await answered(await connect())


async def test_a_body_that_does_not_come_holds_no_place_but_a_stream_may_wait() -> None:
    got: list[str] = []
    heard, ended = asyncio.Event(), asyncio.Event()

    async def reads(scope: Scope, receive: Receive, send: Send) -> None:
        message: Message = {"more_body": True}
        while message.get("more_body"):
            message = await receive()
            got.append(message["type"])
        if message["type"] == "http.request":
            heard.set()
            got.append((await receive())["type"])
            ended.set()
        await _hello(scope, receive, send)

    app = RequestBounds(reads, most=1, piece_within=0.2)
    async with served(ConnectionBounds(), app) as connect:
        wire = await connect()
        wire[1].write(b"POST / HTTP/1.1\r\nHost: portal\r\nContent-Length: 9\r\n\r\n123")
        await wire[0].readuntil(b"hello")
        assert got == ["http.request", "http.disconnect"]
        got.clear()
        listening = await connect()
        listening[1].write(_REQUEST)
        await heard.wait()
        await asyncio.sleep(0.4)  # longer than a piece may take
        assert got == ["http.request"]
        listening[1].close()
        await ended.wait()
        assert got == ["http.request", "http.disconnect"]

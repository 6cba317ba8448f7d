"""Answers of any length, made in other threads while they are sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from proxy.portal.usage_exports import ExportState
from proxy.portal.visit import Refused, Visit

__all__ = ["Made", "in_chunks", "in_place", "stream"]

Made = Generator[bytes, None, None]
"""The pieces of a file, made one by one in threads."""

_CHUNK = 64 * 1024
_PATIENCE = 60.0


async def stream(made: Made, name: str, media_type: str, *, patience: float = _PATIENCE) -> StreamingResponse:
    """Answer with a file. However that ends, what makes it is closed; so it is when a piece has waited for
    its reader for so many seconds.

    What fails before the first piece fails as any page does; later the connection breaks, and the browser
    says that the file is not whole.
    """
    try:
        first = await _next(made) or b""
    except BaseException:
        await _close(made)
        raise
    return _Streamed(first, made, name, media_type, patience)


class _Streamed(StreamingResponse):
    def __init__(self, first: bytes, made: Made, name: str, media_type: str, patience: float) -> None:
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        super().__init__(_pieces(first, made), media_type=media_type, headers=headers)
        self._made = made
        self._patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""

        async def in_time(message: Message) -> None:
            with anyio.fail_after(self._patience):
                await send(message)

        try:
            await super().__call__(scope, receive, in_time)
        finally:
            await _close(self._made)


async def _pieces(first: bytes, made: Made) -> AsyncIterator[bytes]:
    yield first
    while (piece := await _next(made)) is not None:
        yield piece


async def _next(made: Made) -> bytes | None:
    try:
        return await run_in_threadpool(next, made, None)
    except OSError as error:
        # As it is it would be taken for a reader who has gone.
        raise Refused(507, "usage.disk", reason=error.strerror or "") from error


async def _close(made: Made) -> None:
    """Give back what it holds, a file or a place, whoever has gone away."""
    with anyio.CancelScope(shield=True):
        await run_in_threadpool(made.close)


def in_place(visit: Visit, make: Callable[[ExportState], Made], *, ticket: str = "") -> Made:
    """Make a file in one of the places that there are for exports. Raises `Refused` when all are taken."""
    # Begun here and not before: a generator that never began has nothing to give back.
    exports = visit.portal.exports
    state = exports.begin(visit.who.id, ticket)
    if state is None:
        raise Refused(503, "usage.busy")
    failed = True
    try:
        yield from make(state)
        failed = False
    finally:
        exports.end(state, failed=failed)


def in_chunks(lines: Iterator[str]) -> Made:
    """Join lines: each piece costs a change of threads."""
    waiting: list[str] = []
    size = 0
    for line in lines:
        waiting.append(line)
        size += len(line)
        if size >= _CHUNK:
            yield "".join(waiting).encode("utf-8", "replace")
            waiting, size = [], 0
    yield "".join(waiting).encode("utf-8", "replace")

"""The control socket: how commands and the portal speak with a running gate (DESIGN contract 4).

A Unix socket with mode 0600. One JSON object per line, ``{"command": NAME, ...}``; one line back for each,
``{"ok": true, "result": ...}`` or ``{"ok": false, "error": TEXT}``. Nothing that comes in can do more than
the handlers it is given; a bad line gets an error, an endless one ends the connection.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from proxy.errors import ConfigurationError, TollgateError

__all__ = ["ControlServer", "Handler", "ask"]

logger = logging.getLogger(__name__)

MAX_LINE = 64 * 1024
MAX_CLIENTS = 32
IDLE_TIMEOUT = 300.0
"""Seconds that a client may stay without a question."""

Handler = Callable[[Mapping[str, object]], Awaitable[object] | object]
"""Gets the whole request; what it returns becomes ``result``. A `TollgateError` becomes ``error``."""


class ControlServer:
    """Answers questions on one Unix socket."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._handlers = dict(handlers)
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Bind the socket. Raises ConfigurationError when another gate has it or the folder can't be used."""
        try:
            if _is_answered(self._path):
                raise ConfigurationError(f"control socket {self._path}: another gate is running there")
            self._path.unlink(missing_ok=True)
            listening = _bind(self._path)
        except OSError as error:
            raise ConfigurationError(f"control socket {self._path}: {error.strerror or error}") from None
        self._server = await asyncio.start_unix_server(self._accepted, sock=listening, limit=MAX_LINE)

    async def close(self) -> None:
        """Stop answering and remove the socket."""
        if self._server is None:
            return
        self._server.close()
        for task in list(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        self._path.unlink(missing_ok=True)
        self._server = None

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._clients) >= MAX_CLIENTS or not _is_allowed(writer):
            writer.close()
            return
        self._clients.add(task)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            logger.debug("control connection ended")
        finally:
            self._clients.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                async with asyncio.timeout(IDLE_TIMEOUT):
                    line = await reader.readline()
            except ValueError:
                writer.write(_encode({"ok": False, "error": f"a line has at most {MAX_LINE} bytes"}))
                return
            if not line:
                return
            writer.write(_encode(await self._answer(line)))
            await writer.drain()

    async def _answer(self, line: bytes) -> dict[str, object]:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return {"ok": False, "error": "not JSON"}
        if not isinstance(request, dict):
            return {"ok": False, "error": "not a JSON object"}
        name = request.get("command")
        handler = self._handlers.get(name) if isinstance(name, str) else None
        if handler is None:
            return {"ok": False, "error": f"no such command; there are {', '.join(sorted(self._handlers))}"}
        try:
            result = handler(request)
            if isinstance(result, Awaitable):
                result = await result
        except TollgateError as error:
            return {"ok": False, "error": str(error)}
        except Exception:
            logger.exception("control command %s failed", name)
            return {"ok": False, "error": "the gate could not do that; see its log"}
        return {"ok": True, "result": result}


def ask(path: Path, command: str, *, timeout: float = 5.0, **arguments: object) -> object:
    """Ask a running gate one question and return its result (for commands; blocks).

    Raises ConfigurationError when no gate answers at ``path`` or it refuses.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(timeout)
            client.connect(str(path))
            client.sendall(_encode({"command": command, **arguments}))
            with client.makefile("rb") as lines:
                line = lines.readline()
    except TimeoutError:
        raise ConfigurationError(f"the gate at {path} does not answer") from None
    except PermissionError:
        message = f"not allowed to ask a gate at {path}: run it as the gate's user, or as root"
        raise ConfigurationError(message) from None
    except OSError as error:
        raise ConfigurationError(f"no gate is running at {path} ({error.strerror or error})") from None
    try:
        answer = json.loads(line)
    except ValueError:
        raise ConfigurationError(f"the gate at {path} ended the connection") from None
    if not answer["ok"]:
        raise ConfigurationError(str(answer["error"]))
    result: object = answer["result"]
    return result


def _encode(value: dict[str, object]) -> bytes:
    return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace") + b"\n"


def _bind(path: Path) -> socket.socket:
    """Bind with mode 0600 from the first moment on; the umask is the process's, so only at start."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    before = os.umask(0o177)
    try:
        listening.bind(str(path))
    except OSError:
        listening.close()
        raise
    finally:
        os.umask(before)
    return listening


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True


def _is_allowed(writer: asyncio.StreamWriter) -> bool:
    """Whether the client runs as the gate's own user or as root (unix(7), SO_PEERCRED)."""
    client = writer.get_extra_info("socket")
    if client is None:
        return False
    _, uid, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return uid in {0, os.geteuid()}

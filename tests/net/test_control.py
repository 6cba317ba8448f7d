"""The control socket, over a real Unix socket."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from proxy.errors import ConfigurationError
from proxy.net import control
from proxy.net.control import ControlServer, ask
from tests.net.waiting import PATIENCE


async def _echo(request: Mapping[str, object]) -> object:
    await asyncio.sleep(0)
    return dict(request)


def _refuse(_request: Mapping[str, object]) -> object:
    raise ConfigurationError("trunks[0].host: wrong")


def _break(_request: Mapping[str, object]) -> object:
    raise ZeroDivisionError


HANDLERS = {"echo": _echo, "refuse": _refuse, "break": _break}


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    path = tmp_path / "gate.sock"
    server = ControlServer(path, HANDLERS)
    await server.start()
    yield path
    await server.close()
    assert not path.exists()


async def test_a_question_gets_its_answer(path: Path) -> None:
    answer = await asyncio.to_thread(ask, path, "echo", call="é\n")
    assert answer == {"command": "echo", "call": "é\n"}


async def test_only_the_owner_may_open_it(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600  # noqa: ASYNC240


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("refuse", r"trunks\[0\]\.host: wrong"),
        ("break", "could not do that"),
        ("nothing", "there are break, echo, refuse"),
    ],
)
async def test_a_refusal_is_an_error_with_its_text(path: Path, command: str, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        await asyncio.to_thread(ask, path, command)


async def _raw(path: Path, data: bytes) -> dict[str, object]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(data)
        answer = json.loads(await asyncio.wait_for(reader.readline(), PATIENCE))
        assert isinstance(answer, dict)
        return answer
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    "line", [b"hello\n", b"\xff\xfe\n", b"[" * 50_000 + b"\n", b"[1]\n", b'{"command": 1}\n']
)
async def test_a_bad_line_gets_an_error(path: Path, line: bytes) -> None:
    assert (await _raw(path, line))["ok"] is False


async def test_an_endless_line_ends_the_connection(path: Path) -> None:
    answer = await _raw(path, b"x" * (2 * control.MAX_LINE))
    assert "at most" in str(answer["error"])
    assert await asyncio.to_thread(ask, path, "echo") == {"command": "echo"}


async def test_several_questions_share_a_connection(path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b'{"command": "echo", "n": 1}\n{"command": "echo", "n": 2}\n')
    assert b'"n": 1' in await reader.readline()
    assert b'"n": 2' in await reader.readline()
    writer.close()
    await writer.wait_closed()


async def test_clients_beyond_the_limit_are_turned_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MAX_CLIENTS", 0)
    with pytest.raises(ConfigurationError, match=r"ended the connection|no gate"):
        await asyncio.to_thread(ask, path, "echo")


async def test_a_silent_client_is_let_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "IDLE_TIMEOUT", 0.05)
    reader, writer = await asyncio.open_unix_connection(str(path))
    assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    writer.close()
    await writer.wait_closed()


async def test_two_gates_cannot_share_a_socket(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="another gate is running"):
        await ControlServer(path, HANDLERS).start()


async def test_a_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "left.sock"
    first = ControlServer(path, HANDLERS)
    await first.start()
    os.link(path, tmp_path / "kept.sock")
    await first.close()
    (tmp_path / "kept.sock").rename(path)
    second = ControlServer(path, HANDLERS)
    await second.start()
    assert await asyncio.to_thread(ask, path, "echo") == {"command": "echo"}
    await second.close()


async def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        await ControlServer(tmp_path / "none" / "gate.sock", HANDLERS).start()


def test_no_gate_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no gate is running"):
        ask(tmp_path / "gate.sock", "calls")


async def test_closing_twice_does_no_harm(tmp_path: Path) -> None:
    server = ControlServer(tmp_path / "gate.sock", HANDLERS)
    await server.start()
    await server.close()
    await server.close()

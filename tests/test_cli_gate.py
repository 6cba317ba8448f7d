"""The commands that ask a running gate, and those that run one."""

from __future__ import annotations

import errno
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from proxy.cli import run
from proxy.errors import ConfigurationError
from proxy.net import control
from proxy.settings import Settings
from proxy.store import Store
from tests.portal.gate import TalkingGate
from tests.support.commands import lines_of

ROOT = Path(__file__).parent.parent


pytestmark = pytest.mark.usefixtures("own_store")


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[object], list[dict[str, object]]]]:
    """A gate's control socket that gives one answer; returns what it was asked."""
    asked: list[dict[str, object]] = []

    def give(result: object) -> list[dict[str, object]]:
        def ask(path: Path, command: str, **arguments: object) -> object:
            asked.append({"path": str(path), "command": command, **arguments})
            return result

        monkeypatch.setattr(control, "ask", ask)
        return asked

    before = threading.active_count()
    yield give
    assert threading.active_count() <= before  # one of an earlier test may have ended meanwhile


def test_calls_shows_the_live_calls(
    answering: Callable[[object], list[dict[str, object]]], capsys: pytest.CaptureFixture[str]
) -> None:
    call = {"call_id": "c1", "caller": "204", "dialled": "911", "state": "talking", "seconds": 75.2}
    asked = answering([{**call, "emergency": True, "direction": "outbound", "code": "a\x1b[31m"}])
    assert run(["calls"]) == 0
    assert asked == [{"path": "cli.sock", "command": "calls"}]
    assert lines_of(capsys)[1].split("\t") == [
        "c1",
        "1:15",
        "talking (emergency)",
        "outbound",
        "204",
        "",
        "911",
        "a?[31m",
    ]


def test_status_reload_and_hangup(
    answering: Callable[[object], list[dict[str, object]]], capsys: pytest.CaptureFixture[str]
) -> None:
    answering(
        {
            "calls": 2,
            "listening": ["127.0.0.1:5060", "127.0.0.1:5060"],
            "draining": False,
            "journal_durable": True,
            "store_trouble": "",
            "certificate_expires": None,
            "limits_reached": [{"caller": "user 204", "limit": "the group allows 2 calls", "seconds": 61.2}],
            "peers": [
                {
                    "name": "pbx",
                    "calls": 2,
                    "destinations": [
                        {
                            "address": "udp:192.0.2.1:5060",
                            "state": "down",
                            "seconds": 9.6,
                            "reason": "no answer",
                        },
                        {"address": "udp:192.0.2.2:5060", "state": "up", "seconds": None, "reason": ""},
                    ],
                },
                {"name": "door", "calls": 0, "destinations": []},
            ],
        }
    )
    assert run(["status"]) == 0
    assert lines_of(capsys) == [
        "calls: 2",
        "listening: 127.0.0.1:5060",
        "draining: no",
        "journal durable: yes",
        "store trouble: none",
        "certificate expires: none",
        "peer pbx: 2 calls; udp:192.0.2.1:5060 down for 10 s (no answer), udp:192.0.2.2:5060 up",
        "peer door: 0 calls; no address",
        "limit reached by user 204, 61 s ago: the group allows 2 calls",
    ]
    answering({"after_restart": ["sip.listen"]})
    assert run(["reload"]) == 0
    assert lines_of(capsys) == ["settings reloaded; only a restart changes sip.listen"]
    answering({"after_restart": []})
    assert run(["reload"]) == 0
    assert lines_of(capsys) == ["settings reloaded"]


def test_hangup_ends_the_call_and_the_audit_log_tells_who_did(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOLLGATE_CONTROL__SOCKET", "cli.sock")
    Path("cli.db").touch()
    with TalkingGate(Path("cli.sock")) as gate:
        gate.call("c1")
        gate.call("c2", emergency=True)
        assert run(["hangup", "c1"]) == 0
        assert lines_of(capsys)[0] == "call c1 ended"
        assert run(["hangup", "c2"]) == 1
        assert "an emergency call is not ended by hand" in capsys.readouterr().err
        assert gate.ended == ["c1"]
        with Store("sqlite:///cli.db") as store:
            [entry] = store.audit.page()
        assert entry.who.startswith("cli:")
        assert (entry.action, entry.kind, entry.name) == ("hang_up", "call", "c1")
        assert isinstance(entry.before, dict)
        assert entry.before["dialled"] == "4155550123"
        # A store that is broken keeps no call up.
        Path("cli.db").write_bytes(b"no database" * 99)
        gate.call("c3")
        assert run(["hangup", "c3"]) == 0
        told = capsys.readouterr()
        assert told.out == "call c3 ended\n"
        assert "warning: the audit log does not tell of it: store.url: cli.db" in told.err.replace(
            "sqlite:///", ""
        )
        assert gate.ended == ["c1", "c3"]


@pytest.mark.parametrize("arguments", [["status"], ["calls"], ["reload"], ["hangup", "c1"]], ids=" ".join)
def test_who_may_not_ask_a_gate_is_not_told_that_there_is_none(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class OfAnotherUser(socket.socket):
        def connect(self, address: object, /) -> None:
            refused()

    monkeypatch.setattr("proxy.net.control.socket.socket", OfAnotherUser)
    assert run(arguments) == 1
    says = "tollgate: not allowed to ask a gate at cli.sock: run it as the gate's user, or as root\n"
    assert capsys.readouterr().err == says


@pytest.mark.parametrize("command", ["calls", "status"])
def test_answer_of_another_version_is_refused(
    command: str,
    answering: Callable[[object], list[dict[str, object]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    answering("surprise")
    assert run([command]) == 1
    assert "not understood" in capsys.readouterr().err


def test_serve_hands_the_settings_over_and_can_read_them_again(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("gate.toml").write_text("[limits]\nmax_calls = 7\n")
    seen: list[tuple[int, int, bool, list[str]]] = []

    def serve(
        settings: Settings, *, load: Callable[[], Settings], example_data: bool, portal_command: Sequence[str]
    ) -> None:
        limits = (settings.limits.max_calls, load().limits.max_calls)
        seen.append((*limits, example_data, list(portal_command)))

    monkeypatch.setattr("proxy.serve.serve", serve)
    assert run(["serve", "--config", "gate.toml", "--example-data"]) == 0
    monkeypatch.setenv("TOLLGATE_PORTAL__ENABLED", "true")
    assert run(["--config", "gate.toml", "serve"]) == 0
    portal = [sys.executable, "-m", "proxy", "portal", "--with-gate", "--config", "gate.toml"]
    assert seen == [(7, 7, True, []), (7, 7, False, portal)]


def test_serve_says_that_there_was_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOLLGATE_STORE__URL", "sqlite:///typo/cli.db")
    monkeypatch.setattr("proxy.serve.serve", lambda _settings, **_arguments: None)
    warning = f"tollgate: warning: there was no store at {tmp_path / 'typo/cli.db'}; an empty one is made\n"
    assert run(["serve"]) == 0
    assert capsys.readouterr().err == warning
    (tmp_path / "typo").mkdir()
    (tmp_path / "typo/cli.db").touch()
    assert run(["serve"]) == 0
    assert capsys.readouterr().err == ""
    # A folder that can't be searched keeps no gate from starting.
    monkeypatch.setattr(Path, "stat", refused)
    assert run(["serve"]) == 0
    assert capsys.readouterr().err == ""


def refused(*_arguments: object, **_options: object) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(98, "Address already in use"), "tollgate: the gate can't start: Address already in use"),
        (ConfigurationError("sip.listen: taken"), "tollgate: sip.listen: taken"),
    ],
)
def test_gate_that_cannot_start_says_why(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def serve(_settings: Settings, **_arguments: object) -> None:
        raise error

    monkeypatch.setattr("proxy.serve.serve", serve)
    assert run(["serve"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == line


@pytest.mark.parametrize("status", [0, 1])
def test_demo_ends_with_its_own_status(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.demo.run", lambda: status)
    assert run(["demo"]) == status

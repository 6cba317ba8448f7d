"""The command line: help, errors in one line, explain, check-config, and the running gate's commands."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from proxy import cli
from proxy.cli import run
from proxy.commands.advice import with_advice
from proxy.errors import ConfigurationError
from proxy.net import control
from proxy.settings import Settings
from proxy.store import Store
from tests.portal.gate import TalkingGate

ROOT = Path(__file__).parent.parent
COMMANDS = (
    ("serve",),
    ("check-config",),
    ("demo",),
    ("calls",),
    ("status",),
    ("reload",),
    ("hangup",),
    ("explain",),
    *(("codes", name) for name in ("add", "set", "list", "import", "export", "delete")),
    *(("groups", name) for name in ("add", "set", "list", "delete")),
    *(("users", name) for name in ("add", "set", "list", "delete")),
    *(("usage", name) for name in ("list", "export")),
    *(("accounts", name) for name in ("add", "set", "list", "delete")),
    *(("callers", name) for name in ("list", "unlock")),
    *(("tokens", name) for name in ("add", "list", "revoke")),
    *(("audit", name) for name in ("list", "verify")),
)


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOLLGATE_STORE__URL", "sqlite:///cli.db")


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"tollgate {' '.join(command)}" in out.partition("Example")[2]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_but_check_config_takes_the_settings_file(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    run([*command, "--help"])
    out = capsys.readouterr().out
    assert ("--config FILE" in out) is (command[0] not in {"check-config", "demo"})


def test_help_of_the_whole_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    assert {command[0] for command in COMMANDS} <= set(out.split())


@pytest.mark.parametrize("command", ["", *sorted({one for one, *more in COMMANDS if more})])
def test_no_summary_is_cut_on_a_terminal_of_80_columns(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run([*command.split(), "--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:")[2].partition("Example")[0]
    assert listed
    assert [line for line in listed.splitlines() if line.endswith("...")] == []


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("tollgate ")


def test_help_is_quick_because_no_room_is_imported() -> None:
    code = (
        "import sys; from proxy.cli import run; run(['codes', 'add', '--help']); "
        "heavy = {'sqlalchemy', 'pydantic_settings', 'phonenumbers', 'uvloop', 'asyncio', 'rich'}; "
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "status", "error"),
    [
        (["nonsense"], 2, "tollgate: No such command 'nonsense'. (see tollgate --help)"),
        (["codes", "add"], 2, "tollgate: Missing argument 'code'. (see tollgate codes add --help)"),
        (["codes", "list", "--limit", "0"], 2, "Invalid value for '--limit'"),
        (["codes", "list", "--nonsense"], 2, "No such option: --nonsense"),
        (["--config", "missing.toml", "codes", "list"], 1, "tollgate: missing.toml: cannot be read"),
        (["codes", "list", "--config", "missing.toml"], 1, "tollgate: missing.toml: cannot be read"),
        (["check-config", "missing.toml"], 1, "tollgate: missing.toml: cannot be read"),
        (["calls"], 1, "; give the gate's --config or TOLLGATE_STORE__URL"),
        (["status"], 1, "tollgate: no gate is running at cli.sock"),
        (["reload"], 1, "tollgate: no gate is running at cli.sock"),
        (["hangup", "1"], 1, "tollgate: no gate is running at cli.sock"),
        (["explain", "--number", "204"], 1, "tollgate: who calls?"),
        (["explain", "--number", "204", "--user", "204"], 1, "tollgate: user 204 does not exist"),
        (["explain", "--number", "204", "--group", "none"], 1, "tollgate: group 'none' does not exist"),
    ],
)
def test_bad_input_is_one_clear_line_and_a_status(
    arguments: list[str], status: int, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("cli.db").touch()
    assert run(arguments) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert error in captured.err
    assert len(captured.err.splitlines()) == 1


def test_command_group_without_command_shows_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["codes"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "import" in captured.err


def test_interrupt_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_config: Path | None) -> Settings:
        raise KeyboardInterrupt

    monkeypatch.setattr("proxy.commands.gate.read_settings", interrupted)
    assert run(["calls"]) == 130
    assert capsys.readouterr().err == "tollgate: interrupted\n"


def test_reader_that_has_gone_is_no_traceback() -> None:
    run(["groups", "add", "sales"])
    code = "import sys; from proxy.cli import run; sys.exit(run(['groups', 'list']))"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize(
    ("redirection", "complaint"),
    [
        (">/dev/full", b"tollgate: the output: No space left on device\n"),
        (">&-", b"tollgate: standard output is closed\n"),
    ],
)
def test_output_that_goes_nowhere_is_one_line(redirection: str, complaint: bytes) -> None:
    run(["codes", "add", "4711"])
    program = f"exec {sys.executable} -m proxy codes export - {redirection}"
    done = subprocess.run(
        ["/bin/sh", "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, complaint)


def test_a_url_that_is_none_is_one_line_without_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOLLGATE_STORE__URL", "postgresql://gate:hunter2@host:port/x")
    monkeypatch.setenv("TOLLGATE_JOURNAL__FOLDER", "journal")
    monkeypatch.setenv("TOLLGATE_CONTROL__SOCKET", "sock")
    assert run(["codes", "list"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("tollgate: store.url: write a database URL")
    assert len(error.splitlines()) == 1
    assert "hunter2" not in error


def test_main_ends_the_process_with_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["tollgate", "nonsense"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2


def test_module_is_the_command_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.partition(" ")[0]) == (0, "tollgate")


# Settings


@pytest.mark.parametrize("behind", [False, True])
def test_a_file_that_is_named_wins_over_the_environments(
    behind: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("gate.toml").write_text('[number_plan]\ncountry = "DE"\n')
    Path("other.toml").write_text('[number_plan]\ncountry = "US"\n')
    run(["groups", "add", "staff"])
    monkeypatch.setenv("TOLLGATE_CONFIG", "other.toml")
    named, command = ["--config", "gate.toml"], ["explain", "--group", "staff", "--number", "110"]
    capsys.readouterr()
    assert run([*command, *named] if behind else [*named, *command]) == 0
    assert "decision: allow" in lines_of(capsys)  # an emergency number in Germany only


def test_settings_come_from_the_file_before_or_behind_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    Path("gate.toml").write_text('[number_plan]\ncountry = "DE"\n')
    run(["groups", "add", "staff"])
    for arguments in (["--config", "gate.toml", "explain"], ["explain", "--config", "gate.toml"]):
        capsys.readouterr()
        assert run([*arguments, "--group", "staff", "--number", "110"]) == 0
        assert "decision: allow" in lines_of(capsys)


def test_settings_file_can_be_named_by_environment_and_changed_by_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("gate.toml").write_text('[number_plan]\ncountry = "DE"\n')
    run(["groups", "add", "staff"])
    monkeypatch.setenv("TOLLGATE_CONFIG", "gate.toml")
    assert run(["explain", "--group", "staff", "--number", "110"]) == 0
    assert "decision: allow" in lines_of(capsys)
    monkeypatch.setenv("TOLLGATE_NUMBER_PLAN__COUNTRY", "US")
    assert run(["explain", "--group", "staff", "--number", "110"]) == 0
    assert "decision: block" in lines_of(capsys)


@pytest.mark.parametrize("in_store", [False, True])
def test_check_config_warns_of_default_groups_that_are_nowhere(
    in_store: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("gate.toml").write_text(
        'phones.default_group = "nosuch"\n[[groups]]\nname = "callers"\n'
        '[[peers]]\nname = "pbx"\nnetworks = ["192.0.2.1"]\ndefault_group = "callers"\n'
    )
    if in_store:
        run(["groups", "add", "nosuch"])
    capsys.readouterr()
    assert run(["check-config", "gate.toml"]) == 0
    error = capsys.readouterr().err
    assert ("warning: phones.default_group: there is no group 'nosuch'" in error) is not in_store
    assert "'callers'" not in error
    assert Path("cli.db").exists() is in_store


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("", True),
        ('local_networks = ["192.0.2.0/24"]\n', False),
        ("[phones]\nenabled = false\n", False),
    ],
)
def test_check_config_warns_of_phones_without_emergency_calls(
    text: str, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("gate.toml").write_text(text)
    assert run(["check-config", "gate.toml"]) == 0
    assert ("warning: local_networks is empty" in capsys.readouterr().err) is warned


@pytest.mark.parametrize("example", sorted((ROOT / "config").glob("*.toml")), ids=lambda path: path.name)
def test_check_config_has_nothing_against_the_examples(
    example: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check-config", str(example)]) == 0
    assert capsys.readouterr().err == ""


def test_check_config_names_every_problem(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.toml").write_text('[number_plan]\ncountri = "DE"\n[limits]\nmax_calls = 0\n')
    assert run(["check-config", "bad.toml"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert all(line.startswith("tollgate: bad.toml: ") for line in errors)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[number_plan]\ncountry = "XX"\n', "bad.toml: number_plan.country: 'XX': use an ISO"),
        ('[number_plan]\nextensions = ["abc"]\n', "number_plan.extensions"),
        ('[prompts]\nfolder = "prompts"\n', "enter_code.wav"),
        ('[prompts]\nfolder = "nowhere"\n', "bad.toml: prompts.folder: nowhere: can't be read"),
    ],
)
def test_check_config_looks_behind_the_syntax(
    text: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("prompts").mkdir()
    Path("prompts/enter_code.wav").write_bytes(b"no WAV")
    Path("bad.toml").write_text(text)
    assert run(["check-config", "bad.toml"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("tollgate: bad.toml: ")
    assert complaint in error


def test_a_store_that_was_not_there_is_said_with_its_whole_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warning = f"tollgate: warning: there was no store at {tmp_path / 'cli.db'}; an empty one is made\n"
    for code, expected in (("1001", warning), ("1002", "")):
        assert run(["codes", "add", code]) == 0
        assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    "arguments",
    [
        ["codes", "list"],
        ["codes", "set", "1001", "--disable"],
        ["codes", "export", "-"],
        ["codes", "delete", "1001", "--yes"],
        ["groups", "list"],
        ["groups", "set", "staff", "--tries", "2"],
        ["users", "list"],
        ["users", "set", "204", "--disable"],
        ["callers", "list"],
        ["callers", "unlock", "--all"],
        ["accounts", "list"],
        ["tokens", "list"],
        ["usage", "list"],
        ["usage", "export"],
        ["audit", "list"],
        ["audit", "verify"],
        ["explain", "--number", "204", "--user", "204"],
        ["backup", "gate.backup"],
        ["portal", "--new-password", "admin"],
    ],
    ids=" ".join,
)
def test_a_command_that_adds_nothing_makes_no_store(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOLLGATE_STORE__URL", "sqlite:///var/cli.db")
    assert run(arguments) == 1
    where = tmp_path / "var" / "cli.db"
    says = f"tollgate: there is no store at {where}: give --config or TOLLGATE_STORE__URL\n"
    assert capsys.readouterr() == ("", says)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("refusal", "advised"),
    [
        ("user 204 exists already", "; `tollgate users set` changes it"),
        ("group 'my sales' exists already", "; `tollgate groups set` changes it"),
        ("code 2263 exists already", "; `tollgate codes set` changes it"),
        ("codes 22-63 and ACME both dial 2263", "; `tollgate codes set` changes it"),
        ("user 204 does not exist", "; `tollgate users list` shows them"),
        ("c.csv: line 2: code 2263 exists already", ""),
        ("the call does not exist", ""),
        ("no gate is running at x.sock (No such file)", "; give the gate's --config or TOLLGATE_STORE__URL"),
        (
            "journal directory x is in use by another process (a gate on this store?)",
            "; stop it, or give another store.url",
        ),
        (
            "journal directory x is in use by another process (a gate on this store?); stop gate first",
            "",
        ),
        (
            "portal.listen: ::1 port 80: Address already in use",
            "; `ss -lntup` shows by whom; stop that, or set another",
        ),
        (
            "sip.listen: Address already in use (udp://127.0.0.1:5060)",
            "; `ss -lntup` shows by whom; stop that, or set another",
        ),
        ("portal.listen: ::1 port 80: Permission denied", ""),
    ],
)
def test_a_refusal_says_what_can_be_done(refusal: str, advised: str) -> None:
    assert with_advice(refusal) == refusal + advised


def test_an_owner_that_is_unknown_is_named_as_the_option() -> None:
    says = "--group: group 'nogroup' does not exist; `tollgate groups list` shows them"
    assert with_advice("code owner: group 'nogroup' does not exist") == says


def test_check_config_of_good_settings(capsys: pytest.CaptureFixture[str]) -> None:
    Path("good.toml").write_text('[[groups]]\nname = "staff"\n')
    assert run(["check-config", "good.toml"]) == 0
    assert lines_of(capsys) == ["good.toml: good; trunks: none; peers: 0; groups: 1"]


# The running gate


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
    assert threading.active_count() == before


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

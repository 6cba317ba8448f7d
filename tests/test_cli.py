"""The command line: help, errors in one line, check-config."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxy import cli
from proxy.cli import run
from proxy.commands.advice import with_advice
from proxy.settings import Settings
from tests.support.commands import lines_of

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


pytestmark = pytest.mark.usefixtures("own_store")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"tollgate {' '.join(command)}" in out.partition("Example")[2]


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_the_help_of_script_server_sets_nothing_up(option: str, tmp_path: Path) -> None:
    environment = {**os.environ, "VENV": str(tmp_path / "venv")}
    done = subprocess.run(
        [ROOT / "script" / "server", option], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("Sets up what is missing and starts the gate")
    assert "script/server --config FILE" in done.stdout
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


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
    # They listen at an address that is another machine's.
    said = capsys.readouterr().err.splitlines()
    assert [one for one in said if "192.0.2.20: Cannot assign requested address" not in one] == []


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

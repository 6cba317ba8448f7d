"""The documents say what is so: every test, file and setting that they name exists, every command runs."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from proxy.cli import run
from proxy.settings import Settings, load_settings

ROOT = Path(__file__).parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
STATUS = ROOT / "docs" / "rfc_status.md"

_TEST = re.compile(r"`([\w/]+\.(?:py|rs))::([\w:]+)`")
_SITUATION = re.compile(r"`(?:tests/)?system/situations/([a-z]\w+)`")
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[\w-]*)?\)")
_PATH = re.compile(
    r"`((?:proxy|native|config|script|tests|docs|bench|reliability|fuzz)/[\w./-]+"
    r"|Dockerfile|(?:CHANGELOG|SECURITY)\.md|pyproject\.toml)`"
)
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SETTING = re.compile(r"`((?:" + "|".join(Settings.model_fields) + r")\.(?!py`)\w+)`")

# What a command of the documents needs that a test can't give it: a running gate, or traffic.
_NEEDS_A_GATE = frozenset({"serve", "demo", "calls", "status", "reload", "hangup"})


def blocks(language: str, document: Path) -> list[str]:
    return [text for found, text in _BLOCK.findall(document.read_text()) if found == language]


def named_tests() -> list[tuple[str, str]]:
    return sorted({match for document in DOCUMENTS for match in _TEST.findall(document.read_text())})


@pytest.mark.parametrize(("file", "name"), named_tests(), ids="::".join)
def test_every_test_that_is_named_exists(file: str, name: str) -> None:
    path = ROOT / file if file.endswith(".rs") else ROOT / "tests" / file
    source = path.read_text()
    *classes, function = name.split("::")
    assert re.search(rf"^\s*(?:async def|def|fn) {function}\(", source, re.MULTILINE)
    for cls in classes:
        assert re.search(rf"^class {cls}\b", source, re.MULTILINE)


def test_every_line_of_the_status_has_a_status_and_done_ones_a_test() -> None:
    for line in STATUS.read_text().splitlines():
        if not line.startswith("|") or line.startswith(("|---", "| RFC |", "| § |")):
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert len(cells) == 5, line
        assert cells[2] in {"done", "partly", "not"}, line
        shown = _TEST.search(cells[4]) or _SITUATION.search(cells[4])
        assert cells[2] == "not" or shown, f"without a test: {line}"
        assert cells[2] == "done" or cells[3], f"without a reason: {line}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_and_setting_that_is_named_exists(document: Path) -> None:
    text = document.read_text()
    for target in _LINK.findall(text):
        assert "://" in target or (document.parent / target).exists(), target
    for name in _SITUATION.findall(text):
        assert (ROOT / "tests" / "system" / "situations" / name).is_dir(), name
    for path in _PATH.findall(text):
        assert (ROOT / path).exists() or "situations/NAME" in path, path
    for setting in _SETTING.findall(text):
        section, _, name = setting.partition(".")
        default = getattr(Settings.model_construct(), section)
        if not isinstance(default, tuple):
            assert name in type(default).model_fields, setting


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with no settings in the environment."""
    for name in list(os.environ):
        if name.upper().startswith("TOLLGATE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_settings_that_are_printed_load(document: Path, empty_folder: Path) -> None:
    for text in blocks("toml", document):
        tomllib.loads(text)
        (empty_folder / "gate.toml").write_text(text)
        load_settings(empty_folder / "gate.toml")


def test_commands_of_the_readme_run_in_order(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The `console` blocks are one session; those whose first line has a ``$`` also show what comes out."""
    monkeypatch.setenv("TOLLGATE_TRUNKS", '[{"name": "carrier", "addresses": ["udp:192.0.2.9:5060"]}]')
    (empty_folder / "clients.csv").write_text("Code,Description\nACME-12/8,Acme matter 8\n5550,Fair\n")
    ran = 0
    for text in blocks("console", ROOT / "README.md"):
        for step in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, shown = step.partition("\n")
            program, *arguments = shlex.split(command, comments=True)
            assert program == "tollgate", command
            if arguments[0] in _NEEDS_A_GATE:
                continue
            assert run(arguments) == 0, capsys.readouterr().err
            printed = capsys.readouterr().out
            for line in shown.splitlines():
                assert line in printed.splitlines(), f"{command} does not print {line!r} but {printed}"
            ran += 1
    assert ran > 10

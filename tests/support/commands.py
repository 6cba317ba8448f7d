"""Run commands as a shell does, and see what they say."""

from __future__ import annotations

import io
import sys

import pytest

from proxy.cli import run

__all__ = ["answer", "bad", "good", "lines_of"]


def good(*arguments: str) -> None:
    """Run a command that does what it is asked."""
    assert run(arguments) == 0


def bad(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that refuses; returns why."""
    capsys.readouterr()
    assert run(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Type this where a command asks."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what has been printed since it was last asked for."""
    return capsys.readouterr().out.splitlines()

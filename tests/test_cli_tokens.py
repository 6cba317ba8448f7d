"""``tollgate tokens``, on a real SQLite file."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import pytest

from proxy.cli import run
from proxy.portal.api.scopes import GRANTABLE
from proxy.store.store import Store

URL = "sqlite:///cli.db"


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOLLGATE_STORE__URL", URL)


def test_a_token_is_made_listed_and_revoked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ["tokens", "add", "billing", "--scope", "usage:read", "--scope", "codes:read", "--days", "30"]
    assert run(made) == 0
    secret = capsys.readouterr().out.strip()
    with Store(URL) as store:
        found = store.tokens.find(secret, now=time.time())
        assert found is not None
        assert found.scopes == {"usage:read", "codes:read"}
        assert found.expires_at is not None
        assert abs(found.expires_at - time.time() - 30 * 86_400) < 3_600
        assert found.created_by.startswith("cli:")
        assert secret not in repr(store.audit.page())
    assert run(["tokens", "list"]) == 0
    header, line = capsys.readouterr().out.splitlines()
    assert header.startswith("Name\tScopes\tMade by")
    assert line.startswith("billing\tcodes:read, usage:read\tcli:")
    assert secret not in line
    monkeypatch.setattr(sys, "stdin", io.StringIO("no\n"))
    assert run(["tokens", "revoke", "billing"]) == 1
    assert run(["tokens", "revoke", "billing", "--yes"]) == 0
    with Store(URL) as store:
        assert store.tokens.find(secret, now=time.time()) is None


def test_a_token_may_be_for_everything_and_for_ever(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tokens", "add", "root", "--scope", "all", "--days", "0"]) == 0
    with Store(URL) as store:
        [token] = store.tokens.all()
        assert (token.scopes, token.expires_at) == (frozenset(GRANTABLE), None)
        store.tokens.add("old", ["explain"], now=1.0, expires_at=2.0)
    capsys.readouterr()
    assert run(["tokens", "list"]) == 0
    _, old, root = capsys.readouterr().out.splitlines()
    assert old.split("\t")[4].endswith("(over)")
    assert root.split("\t")[4] == "for ever"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["add", "x", "--scope", "everything"], "--scope: there is no 'everything'; there are codes:read"),
        (["add", "x", "--scope", "none"], "--scope: there is no 'none'"),
        (["add", "", "--scope", "explain"], "token name: write 1 to 64 printable characters"),
        (["revoke", "nobody", "--yes"], "token 'nobody' does not exist"),
    ],
)
def test_what_cannot_be_is_one_clear_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    Path("cli.db").touch()
    assert run(["tokens", *arguments]) == 1
    assert says in capsys.readouterr().err.splitlines()[-1]
    assert run(["tokens", "add", "twice", "--scope", "explain"]) == 0
    assert run(["tokens", "add", "twice", "--scope", "explain"]) == 1

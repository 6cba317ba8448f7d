"""``tollgate accounts``, on a real SQLite file."""

from __future__ import annotations

import io
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.cli import run
from proxy.policy import User, UserGroup
from proxy.portal.passwords import Passwords
from proxy.store import PortalAccount, Role, Store

URL = "sqlite:///cli.db"


Told = Callable[[], list[str]]


@pytest.fixture(scope="module")
def filled_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store's file with one Decision Maker and one user: its migrations take longer than these tests."""
    file = tmp_path_factory.mktemp("store") / "cli.db"
    with Store(f"sqlite:///{file}") as store:
        store.groups.add(UserGroup("Sales"))
        store.users.add(User("204", "Sales"))
        chief = PortalAccount("chief", Role.DECISION_MAKER, "$argon2id$chief")
        store.accounts.add(chief, now=time.time())
    return file


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, filled_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(filled_store, tmp_path / "cli.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOLLGATE_STORE__URL", URL)


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    def lines() -> list[str]:
        return capsys.readouterr().out.splitlines()

    return lines


def account(name: str) -> PortalAccount:
    with Store(URL) as store:
        found = store.accounts.by_name(name)
    assert found is not None
    return found


async def opens(name: str, password: str) -> bool:
    passwords = Passwords()
    try:
        return await passwords.verify(account(name).password_hash, password)
    finally:
        passwords.close()


async def test_an_account_is_added_with_a_password_that_is_shown_once_and_stored_nowhere(told: Told) -> None:
    assert run(["accounts", "add", "Anna", "--role", "phone-manager", "--groups-write"]) == 0
    (line,) = told()
    name, _, rest = line.partition(": ")
    password, _, hint = rest.partition(" ")
    assert (name, hint) == ("Anna", "(good for one log-in)")
    found = account("anna")
    assert (found.role, found.groups_write, found.must_change) == (Role.PHONE_MANAGER, True, True)
    assert await opens("anna", password)
    with Store(URL) as store:
        entry = store.audit.page()[0]
        assert (entry.action, entry.kind, entry.name) == ("add", "account", "Anna")
        assert entry.who.startswith("cli:")
        assert password not in repr(store.audit.page())
    assert run(["accounts", "list"]) == 0
    assert told() == [
        "Name\tRole\tExtension\tGranted\tState",
        "Anna\tphone-manager\t\tgroups-write\tone-time password",
        "chief\tdecision-maker\t\t\tenabled",
    ]


def test_role_extension_and_grants_go_together(told: Told) -> None:
    assert run(["accounts", "add", "anna", "--role", "billing_contact", "--see-codes"]) == 0
    assert run(["accounts", "set", "anna", "--role", "user", "--extension", "204"]) == 0
    found = account("anna")
    assert (found.role, found.extension, found.see_codes) == (Role.USER, "204", False)
    assert run(["accounts", "set", "anna", "--role", "phone-manager", "--groups-write"]) == 0
    found = account("anna")
    assert (found.role, found.extension, found.groups_write) == (Role.PHONE_MANAGER, "", True)
    assert run(["accounts", "set", "anna", "--no-groups-write"]) == 0
    assert not account("anna").groups_write
    told()
    assert run(["accounts", "set", "anna", "--new-name", "Anne", "--disable"]) == 0
    assert told() == ["account 'Anne' changed"]
    assert account("anne").disabled
    assert run(["accounts", "set", "anne", "--enable"]) == 0
    assert not account("anne").disabled


@pytest.mark.parametrize(
    "change",
    [["--disable"], ["--role", "billing-contact"], ["--no-groups-write"], ["--new-password"]],
    ids=" ".join,
)
async def test_sessions_end_with_what_takes_rights_away(told: Told, change: list[str]) -> None:
    assert run(["accounts", "add", "anna", "--role", "phone-manager", "--groups-write"]) == 0
    now = time.time()
    with Store(URL) as store:
        session = store.sessions.open(account("anna").id, source="192.0.2.1", now=now, lifetime=3600)
    told()
    assert run(["accounts", "set", "anna", *change]) == 0
    with Store(URL) as store:
        assert store.sessions.find(session, now=now, idle=600) is None
    if change == ["--new-password"]:
        (line,) = told()
        assert await opens("anna", line.split()[1])
        assert account("anna").must_change


def test_rfc6238_who_has_lost_the_secret_is_let_in_without(told: Told) -> None:
    with Store(URL) as store:
        store.accounts.set_totp(account("chief").id, "GEZDGNBVGY3TQOJQ")
    assert run(["accounts", "set", "chief", "--no-second-factor"]) == 0
    assert told() == ["account 'chief' has no second factor any more"]
    assert account("chief").totp_secret == ""
    assert run(["accounts", "set", "chief", "--no-second-factor"]) == 1


def test_deleting_asks_and_the_last_decision_maker_stays(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments in (
        ["delete", "chief", "--yes"],
        ["set", "chief", "--disable"],
        ["set", "chief", "--role", "phone-manager"],
    ):
        assert run(["accounts", *arguments]) == 1
        assert "'chief' is the last Decision Maker" in capsys.readouterr().err
    assert run(["accounts", "add", "anna", "--role", "decision-maker"]) == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO("no\n"))
    assert run(["accounts", "delete", "CHIEF"]) == 1
    assert account("chief")
    assert run(["accounts", "delete", "CHIEF", "--yes"]) == 0
    with Store(URL) as store:
        assert [one.name for one in store.accounts.all()] == ["anna"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["add", "anna", "--role", "boss"], "--role: there is no 'boss'; write decision-maker,"),
        (["add", "CHIEF", "--role", "decision-maker"], "account 'chief' exists already"),
        (["add", " ", "--role", "decision-maker"], "account name: write 1 to 64 printable characters"),
        (["add", "anna", "--role", "user"], "role user, and no other, needs an extension"),
        (["add", "anna", "--role", "user", "--extension", "999"], "user 999 does not exist"),
        (["add", "a", "--role", "phone-manager", "--extension", "204"], "role user, and no other, needs"),
        (
            ["add", "a", "--role", "user", "--extension", "204", "--see-codes"],
            "is for the role billing-contact",
        ),
        (["set", "chief", "--groups-write"], "--groups-write is for the role phone-manager"),
        (["set", "chief"], "nothing to change"),
        (["set", "nobody", "--disable"], "account 'nobody' does not exist"),
        (["delete", "nobody", "--yes"], "account 'nobody' does not exist"),
    ],
)
def test_what_cannot_be_is_one_clear_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    with Store(URL) as store:
        before = store.accounts.all()
    assert run(["accounts", *arguments]) == 1
    assert says in capsys.readouterr().err.splitlines()[-1]
    with Store(URL) as store:
        assert store.accounts.all() == before

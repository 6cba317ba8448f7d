"""The commands for groups, users and locked callers, on a real SQLite file."""

from __future__ import annotations

import hashlib
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.policy import (
    CallClass,
    CallerLock,
    CallLimits,
    CodeCollection,
    Treatment,
)
from proxy.sip.bindings import StoredBinding
from proxy.store import PortalAccount, Role
from proxy.store.store import Store
from tests.support.commands import answer, bad, good

pytestmark = pytest.mark.usefixtures("own_store")


# Groups


def test_add_group_set_and_list(capsys: pytest.CaptureFixture[str]) -> None:
    good(
        *("groups", "add", "sales", "--permissions", "internal,toll-free", "--collection", "Required"),
        *("--unlock", "all", "--restrict", "5550199", "--permit", "+4420.", "--unlock-restrict", "1900."),
        *("--unlock-permit", "411", "--cell", "premium=block", "--cell", "national=optional code"),
        *("--tries", "5", "--first-digit", "8", "--inter-digit", "4", "--whole-entry", "30"),
        *("--min-length", "4", "--max-length", "8", "--fixed-length", "6", "--prompts", "sales"),
    )
    with Store("sqlite:///cli.db") as store:
        group = store.groups.get("sales")
    assert group is not None
    assert group.permissions.classes == {CallClass.INTERNAL, CallClass.TOLL_FREE}
    assert group.collection is CodeCollection.REQUIRED
    assert dict(group.edited) == {
        CallClass.PREMIUM: Treatment.BLOCK,
        CallClass.NATIONAL: Treatment.OPTIONAL_CODE,
    }
    assert (group.tries, group.first_digit, group.inter_digit, group.whole_entry) == (5, 8.0, 4.0, 30.0)
    assert (group.min_length, group.max_length, group.fixed_length, group.prompts) == (4, 8, 6, "sales")
    good("groups", "set", "sales", "--collection", "off", "--cell", "premium=", "--fixed-length", "0")
    good("groups", "set", "sales", "--restrict", "", "--unlock", "none")
    with Store("sqlite:///cli.db") as store:
        group = store.groups.get("sales")
    assert group is not None
    assert (group.collection, group.fixed_length, group.tries) == (CodeCollection.OFF, None, 5)
    assert dict(group.edited) == {CallClass.NATIONAL: Treatment.OPTIONAL_CODE}
    assert (group.permissions.restricted, group.unlock.classes) == ((), frozenset())
    assert [str(pattern) for pattern in group.permissions.permitted] == ["+4420."]
    capsys.readouterr()
    good("groups", "list")
    assert capsys.readouterr().out.splitlines()[1].split("\t") == [
        "sales",
        "off",
        "emergency internal toll_free",
        "national*",
        "",
        "local mobile international premium special",
        "permit +4420.; unlock-restrict 1900.; unlock-permit 411",
    ]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["add", "sales"], "group 'sales' exists already"),
        (["add", "x", "--collection", "maybe"], "--collection: 'maybe' is not known"),
        (["add", "x", "--permissions", "lunar"], "--permissions: there is no call class 'lunar'"),
        (["add", "x", "--cell", "premium"], "--cell: 'premium' is no cell"),
        (["add", "x", "--cell", "premium=maybe"], "--cell: 'premium=maybe' is no cell"),
        (["add", "x", "--cell", "all=block"], "--cell: 'all=block' is no cell"),
        (["add", "x", "--cell", "emergency=block"], "emergency calls are always allowed"),
        (["add", "x", "--restrict", "abc"], "number pattern 'abc'"),
        (["add", "x", "--permit", "+"], "number pattern '+' fits no number"),
        (["add", "x", "--tries", "0"], "tries must be 1 to 20"),
        (["add", " "], "group name"),
        (["set", "nobody", "--tries", "2"], "group 'nobody' does not exist"),
        (["set", "sales"], "nothing to change"),
        (["set", "sales", "--tries", "3"], "nothing to change"),
        (["delete", "nobody", "--yes"], "group 'nobody' does not exist"),
    ],
)
def test_bad_group_is_refused(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    good("groups", "add", "sales")
    assert complaint in bad(capsys, "groups", *arguments)


def test_a_pattern_with_the_outside_prefix_gets_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOLLGATE_NUMBER_PLAN__OUTSIDE_PREFIX", "9")
    Path("cli.db").touch()
    good("groups", "add", "sales", "--restrict", "9011.", "--permit", "411")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tollgate: warning: pattern 9011.: numbers are compared without")
    assert line.endswith("write 011. if that was meant")


def test_a_terminal_shows_what_the_mark_of_edited_cells_means(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good("groups", "add", "plain")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    capsys.readouterr()
    good("groups", "list")
    assert "*" not in capsys.readouterr().out
    good("groups", "set", "plain", "--cell", "premium=block")
    good("groups", "list")
    assert capsys.readouterr().out.splitlines()[-1] == "* edited by hand (--cell)"


def test_delete_group_only_when_nobody_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    good("groups", "add", "sales")
    good("users", "add", "204", "--group", "sales")
    assert "1 user(s) belong to it" in bad(capsys, "groups", "delete", "sales", "--yes")
    good("users", "delete", "204", "--yes")
    good("groups", "delete", "sales", "--yes")
    assert "group 'sales' does not exist" in bad(capsys, "groups", "set", "sales")


def test_delete_group_only_when_it_is_nobodys_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good("groups", "add", "sales")
    config = Path("gate.toml")
    config.write_text(
        'phones.default_group = "sales"\n'
        '[[peers]]\nname = "pbx"\nnetworks = ["192.0.2.1"]\ndefault_group = "sales"\n'
    )
    delete = ("groups", "delete", "sales", "--yes", "--config", "gate.toml")
    assert "group 'sales' can't be deleted: it is the default_group of [phones], pbx" in bad(capsys, *delete)
    config.write_text("")
    good(*delete)


# Users


def test_add_user_shows_a_made_password_once_and_stores_its_hashes_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    good("groups", "add", "sales")
    capsys.readouterr()
    good("users", "add", "204", "--group", "sales", "--name", "Desk", "--caller-number", "+1 415 555 0104")
    out = capsys.readouterr().out
    password = out.partition("password ")[2].partition(" ")[0]
    assert len(password) >= 16
    with Store("sqlite:///cli.db") as store:
        user = store.users.get("204")
    assert user is not None
    secret = f"204:tollgate:{password}".encode()
    assert {credential.algorithm: credential.ha1 for credential in user.credentials} == {
        "SHA-256": hashlib.sha256(secret).hexdigest(),
        "MD5": hashlib.md5(secret, usedforsecurity=False).hexdigest(),
    }
    assert not any(password.encode() in path.read_bytes() for path in Path().iterdir())
    good("users", "list", "--group", "sales")
    assert capsys.readouterr().out.splitlines()[1].split("\t") == [
        "204",
        "Desk",
        "sales",
        "+1 415 555 0104",
        "204",
        "enabled",
        "SHA-256, MD5",
        "",
    ]


def test_md5_is_a_setting_of_each_user(capsys: pytest.CaptureFixture[str]) -> None:
    def algorithms(extension: str) -> list[str]:
        with Store("sqlite:///cli.db") as store:
            user = store.users.get(extension)
        assert user is not None
        return [credential.algorithm for credential in user.credentials]

    good("groups", "add", "sales")
    good("users", "add", "204", "--group", "sales", "--no-md5")
    good("users", "add", "205", "--group", "sales")
    assert (algorithms("204"), algorithms("205")) == (["SHA-256"], ["SHA-256", "MD5"])
    good("users", "set", "204", "--new-password")
    good("users", "set", "205", "--new-password")
    assert (algorithms("204"), algorithms("205")) == (["SHA-256"], ["SHA-256", "MD5"])
    assert "--md5 needs the password" in bad(capsys, "users", "set", "204", "--md5")
    good("users", "set", "204", "--md5", "--new-password")
    good("users", "set", "205", "--no-md5")
    assert (algorithms("204"), algorithms("205")) == (["SHA-256", "MD5"], ["SHA-256"])


def test_list_shows_where_the_phones_of_a_user_are(capsys: pytest.CaptureFixture[str]) -> None:
    def binding(contact: str, flow: tuple[str, int], **changes: object) -> StoredBinding:
        until = time.time() + 60
        plain = StoredBinding("204", contact, "", 1.0, until, "c", 1, "UDP", flow, flow, False, (), "", 0, "")
        return replace(plain, **changes)  # type: ignore[arg-type]

    good("groups", "add", "sales")
    good("users", "add", "204", "--group", "sales")
    with Store("sqlite:///cli.db") as store:
        store.bindings.replace(
            {
                "204": [
                    binding("sip:204@192.0.2.20", ("192.0.2.20", 5060)),
                    binding("sip:204@[2001:db8::20]:5070", ("2001:db8::20", 5070), transport="TCP"),
                    binding("sip:204@10.0.0.5:5060", ("203.0.113.7", 32000), behind_nat=True),
                    binding("sip:204@192.0.2.21", ("192.0.2.21", 5060), expires_at=time.time() - 1),
                ]
            }
        )
    capsys.readouterr()
    good("users", "list")
    assert capsys.readouterr().out.splitlines()[1].split("\t")[-1] == (
        "192.0.2.20 (udp), [2001:db8::20]:5070 (tcp), 10.0.0.5:5060 via 203.0.113.7:32000 (udp)"
    )


def test_password_can_be_given_or_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good("groups", "add", "sales")
    good("users", "add", "204", "--group", "sales", "--password", "correct horse")
    monkeypatch.setattr("typer.prompt", lambda *_arguments, **_options: "battery staple")
    good("users", "add", "205", "--group", "sales", "--ask-password", "--digest-name", "desk", "--disabled")
    out = capsys.readouterr().out
    assert "correct horse" not in out
    assert "battery staple" not in out
    with Store("sqlite:///cli.db") as store:
        user = store.users.get("205")
    assert user is not None
    expected = hashlib.sha256(b"desk:tollgate:battery staple").hexdigest()
    assert (user.credentials[0].ha1, user.enabled) == (expected, False)


def test_set_user(capsys: pytest.CaptureFixture[str]) -> None:
    good("groups", "add", "sales")
    good("groups", "add", "managers")
    good("users", "add", "204", "--group", "sales")
    good(
        "users",
        "set",
        "204",
        "--group",
        "managers",
        "--disable",
        "--name",
        "Desk",
        "--caller-number",
        "5550104",
    )
    with Store("sqlite:///cli.db") as store:
        before = store.users.get("204")
    assert before is not None
    assert (before.group, before.enabled, before.name, before.caller_number) == (
        "managers",
        False,
        "Desk",
        "5550104",
    )
    capsys.readouterr()
    good("users", "set", "204", "--enable", "--digest-name", "desk", "--new-password")
    assert "SIP user name desk, realm tollgate, password" in capsys.readouterr().out
    good("users", "set", "204", "--caller-number", "")
    with Store("sqlite:///cli.db") as store:
        after = store.users.get("204")
    assert after is not None
    assert (after.enabled, after.digest_name, after.caller_number) == (True, "desk", "")
    assert after.credentials != before.credentials


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["add", "204", "--group", "sales"], "user 204 exists already"),
        (["add", "20a", "--group", "sales"], "extension '20a'"),
        (["add", "205", "--group", "nobody"], "group 'nobody' does not exist"),
        (["add", "205", "--group", "sales", "--password", "short"], "at least 8"),
        (
            ["add", "205", "--group", "sales", "--password", "long enough", "--ask-password"],
            "give one of them",
        ),
        (["add", "205", "--group", "sales", "--digest-name", "204"], "digest name '204' is that of user 204"),
        (["add", "205", "--group", "sales", "--caller-number", "abc"], "--caller-number"),
        (["add", "911", "--group", "sales"], "extension 911: dialled, it is an emergency number"),
        (["add", "205", "--group", "sales", "--caller-number", "9-1-1"], "caller number 9-1-1"),
        (["set", "204", "--caller-number", "112"], "caller number 112"),
        (["set", "299", "--disable"], "user 299 does not exist"),
        (["set", "204"], "nothing to change"),
        (["set", "204", "--digest-name", "desk"], "part of the password's hash"),
        (["delete", "204", "299", "--yes"], "user 299 does not exist"),
    ],
)
def test_bad_user_is_refused(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    good("groups", "add", "sales")
    good("users", "add", "204", "--group", "sales")
    assert complaint in bad(capsys, "users", *arguments)


def test_delete_users_asks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    good("groups", "add", "sales")
    good("users", "add", "204", "--group", "sales")
    answer(monkeypatch, "no\n")
    assert "nothing was deleted" in bad(capsys, "users", "delete", "204")
    answer(monkeypatch, "y\n")
    good("users", "delete", "204")
    assert "1 user(s) deleted" in capsys.readouterr().out


def test_a_shared_caller_number_gets_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    good("groups", "add", "sales")
    good("users", "add", "204", "--group", "sales", "--caller-number", "+1 415 555 0104")
    good("users", "add", "205", "--group", "sales")
    capsys.readouterr()
    says = "tollgate: warning: the caller number of {} is that of {} too: behind a PBX it names none of them"
    good("users", "add", "206", "--group", "sales", "--caller-number", "+14155550104")
    assert capsys.readouterr().err.startswith(says.format("206", "204"))
    good("users", "set", "205", "--caller-number", "415-555-0104")
    assert capsys.readouterr().err.startswith(says.format("205", "204, 206"))
    good("users", "set", "205", "--caller-number", "+14155550105")
    assert capsys.readouterr().err == ""


def test_the_portal_accounts_that_go_with_a_user_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    good("groups", "add", "sales")
    for extension in ("204", "205"):
        good("users", "add", extension, "--group", "sales")
    with Store("sqlite:///cli.db") as store:
        for name, disabled in (("anna", False), ("bert", True)):
            account = PortalAccount(name, Role.USER, "hash", "204", disabled=disabled)
            store.accounts.add(account, now=time.time())
    capsys.readouterr()
    good("users", "delete", "204", "--yes")
    assert capsys.readouterr().out.splitlines() == [
        "1 user(s) deleted",
        "disabled with them: the portal account(s) anna",
    ]
    good("users", "delete", "205", "--yes")
    assert capsys.readouterr().out == "1 user(s) deleted\n"


class TestLockedCallers:
    def lock(self, *callers: str, until: float | None = None) -> None:
        with Store("sqlite:///cli.db") as store:
            store.locks.add([CallerLock(caller, time.time(), until, 5) for caller in callers])

    def test_are_listed_and_unlocked(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("cli.db").touch()
        good("callers", "list")
        assert capsys.readouterr().out.splitlines() == ["Caller\tLocked\tUntil\tWrong codes"]
        self.lock("user 204", "peer pbx +13125550188")
        self.lock("user 205", until=time.time() + 3600)
        good("callers", "list")
        shown = capsys.readouterr().out
        assert all(text in shown for text in ("user 204", "user 205", "+13125550188", "unlocked by hand"))
        good("callers", "unlock", "user 204", "user 204")
        assert "user 204 may enter codes again" in capsys.readouterr().out
        good("callers", "unlock", "--all")
        assert capsys.readouterr().out.count("may enter codes again") == 2
        good("callers", "unlock", "--all")
        assert "nobody is locked" in capsys.readouterr().out

    def test_have_to_be_named_rightly(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("cli.db").touch()
        assert "'user 204' is not locked" in bad(capsys, "callers", "unlock", "user 204")
        assert "name the callers, or give --all" in bad(capsys, "callers", "unlock")
        assert "name the callers, or give --all" in bad(capsys, "callers", "unlock", "x", "--all")


def test_a_groups_limits_are_set_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    good("groups", "add", "sales", "--caller-calls", "3", "--talk-seconds", "7200")
    good("groups", "set", "sales", "--country-calls", "2", "--code-calls", "1", "--hourly-calls", "60")
    with Store("sqlite:///cli.db") as store:
        group = store.groups.get("sales")
        assert group is not None
        assert group.limits == CallLimits(3, 1, 2, 60, 7200)
    good("groups", "set", "sales", "--caller-calls", "0")
    assert "caller_calls must be 0" in bad(capsys, "groups", "set", "sales", "--caller-calls", "-1")


def test_recordings_that_are_not_seen_are_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(*options: str) -> str:
        capsys.readouterr()
        good("groups", "set", "desk", *options)
        return capsys.readouterr().err

    def warning(why: str) -> str:
        ending = "a gate without these recordings plays the common sounds"
        return f"tollgate: warning: --prompts desk: {why}; {ending}\n"

    good("groups", "add", "desk")
    assert told("--prompts", "desk") == warning("prompts.folder is not set")
    monkeypatch.setenv("TOLLGATE_PROMPTS__FOLDER", "own")
    unseen = "own/groups/desk can't be looked at on this machine: {}"
    assert told("--tries", "4") == warning(unseen.format("No such file or directory"))
    own = Path("own/groups/desk")
    own.mkdir(parents=True)
    useless = "own/groups/desk holds no recording with the name of a sound (enter_code.wav and so on)"
    assert told("--tries", "5") == warning(useless)
    (own / "hello.wav").touch()
    (own / "enter_code.mp3").touch()
    assert told("--tries", "6") == warning(useless)
    (own / "enter_code.WAV").touch()
    assert told("--tries", "7") == ""


def test_a_group_is_changed_where_its_recordings_can_not_be_looked_at(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLGATE_PROMPTS__FOLDER", "x" * 300)
    good("groups", "add", "desk", "--prompts", "desk")
    good("groups", "set", "desk", "--tries", "4")
    assert "can't be looked at on this machine: File name too long" in capsys.readouterr().err
    with Store("sqlite:///cli.db") as store:
        group = store.groups.get("desk")
    assert group is not None
    assert group.tries == 4

"""The commands that change the policy, on a real SQLite file."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import sys
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from proxy.cli import run
from proxy.commands import codes as codes_command
from proxy.policy import (
    AccountCode,
    CallClass,
    CallerLock,
    CallLimits,
    CodeCollection,
    CodeOwner,
    OwnerKind,
    Treatment,
)
from proxy.sip.bindings import StoredBinding
from proxy.store.store import Store


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOLLGATE_STORE__URL", "sqlite:///cli.db")


def good(*arguments: str) -> None:
    assert run(arguments) == 0


def bad(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert run(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def stored(digits: str) -> AccountCode | None:
    with Store("sqlite:///cli.db") as store:
        return store.codes.get(digits)


# Codes


def test_add_code_with_all_it_can_have(capsys: pytest.CaptureFixture[str]) -> None:
    good("groups", "add", "sales")
    good(
        *(
            "codes",
            "add",
            "ACME-12/7",
            "--description",
            "Acme, lease 7",
            "--group",
            "sales",
            "--max-uses",
            "5",
        ),
        *("--from", "2026-01-01", "--until", "2026-12-31", "--classes", "national,mobile", "--disabled"),
    )
    assert "code ACME-12/7, dialled 2263127, is in the store" in capsys.readouterr().out
    code = stored("2263127")
    assert code is not None
    assert (code.form, code.description, code.enabled, code.max_uses) == (
        "ACME-12/7",
        "Acme, lease 7",
        False,
        5,
    )
    assert code.owner == CodeOwner(OwnerKind.GROUP, "sales")
    assert code.class_of_service is not None
    assert code.class_of_service.classes == {CallClass.NATIONAL, CallClass.MOBILE}
    assert (str(code.valid_from), str(code.valid_until)) == ("2026-01-01", "2026-12-31")


@pytest.fixture
def bounded() -> AccountCode:
    """A code of a user that has everything a code can have, and is disabled."""
    good("groups", "add", "sales")
    good("users", "add", "204", "--group", "sales")
    good(
        *("codes", "add", "5151", "--description", "old", "--user", "204", "--max-uses", "7"),
        *("--from", "2026-01-01", "--until", "2026-12-31", "--classes", "national", "--disabled"),
    )
    code = stored("5151")
    assert code is not None
    return code


@pytest.mark.parametrize("command", [("add", "5151", "--update"), ("set", "5151"), ("set", "51-51")])
@pytest.mark.parametrize(
    ("options", "change"),
    [
        (("--description", "renamed"), {"description": "renamed"}),
        (("--group", "sales"), {"owner": CodeOwner(OwnerKind.GROUP, "sales")}),
        (("--max-uses", "9"), {"max_uses": 9}),
        (("--until", "2027-12-31"), {"valid_until": date(2027, 12, 31)}),
        (("--description", ""), {"description": ""}),
        (("--user", ""), {"owner": CodeOwner()}),
        (("--max-uses", "0", "--from", ""), {"max_uses": None, "valid_from": None}),
        (("--classes", "", "--until", ""), {"class_of_service": None, "valid_until": None}),
    ],
)
def test_what_is_not_given_of_a_code_stays(
    bounded: AccountCode, command: tuple[str, ...], options: tuple[str, ...], change: dict[str, object]
) -> None:
    good("codes", *command, *options)
    assert stored("5151") == replace(bounded, **change)  # type: ignore[arg-type]  # by the names of its fields


@pytest.mark.parametrize(
    "enable", [("add", "5151", "--update", "--enabled"), ("set", "5151", "--enable")], ids=" ".join
)
def test_a_disabled_code_is_enabled_only_when_it_is_said(
    bounded: AccountCode, enable: tuple[str, ...]
) -> None:
    good("codes", "add", "5151", "--update")
    assert stored("5151") == bounded
    good("codes", *enable)
    assert stored("5151") == replace(bounded, enabled=True)
    good("codes", "set", "5151", "--disable")
    assert stored("5151") == bounded


def test_an_update_writes_a_code_as_it_is_typed_and_set_leaves_that(
    bounded: AccountCode, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "codes 51-51 and 5151 both dial 5151" in bad(capsys, "codes", "add", "51-51")
    good("codes", "add", "51-51", "--update")
    assert stored("5151") == replace(bounded, typed="51-51")
    good("codes", "set", "5151", "--description", "renamed")
    assert "code 51-51 changed" in capsys.readouterr().out
    assert stored("5151") == replace(bounded, typed="51-51", description="renamed")


def test_an_update_adds_a_code_that_is_not_there() -> None:
    good("codes", "add", "4711", "--update")
    assert stored("4711") == AccountCode("4711")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["5152", "--disable"], "code 5152 does not exist; `tollgate codes list` shows them"),
        (["5151"], "nothing to change"),
        (["5151", "--disable"], "nothing to change"),
        (["5151", "--group", "nobody"], "--group: group 'nobody' does not exist"),
        (["5151", "--group", "", "--user", "204"], "a code has one owner"),
        (["5151", "--until", "2025-12-31"], "the first day lies after the last"),
    ],
)
def test_a_change_of_a_code_that_is_refused(
    arguments: list[str], complaint: str, bounded: AccountCode, capsys: pytest.CaptureFixture[str]
) -> None:
    assert complaint in bad(capsys, "codes", "set", *arguments)
    assert stored("5151") == bounded


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["911"], "an emergency number"),
        (["12#"], "# ends it"),
        (["12", "--group", "a", "--user", "b"], "a code has one owner"),
        (
            ["12", "--group", "nobody"],
            "tollgate: --group: group 'nobody' does not exist; `tollgate groups list`",
        ),
        (["12", "--until", "31.12.2026"], "--until: '31.12.2026' is no date"),
        (["12", "--classes", "lunar"], "there is no call class 'lunar'"),
        (["12", "--classes", ","], "name call classes"),
        (["12", "--max-uses", "0"], "must be 1 to"),
        (["12", "--max-uses", "99999999999999999999999"], "must be 1 to"),
        (["12", "--until", "9999-12-31"], "too far away"),
    ],
)
def test_bad_code_is_refused(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert complaint in bad(capsys, "codes", "add", *arguments)


def test_list_codes(capsys: pytest.CaptureFixture[str]) -> None:
    good("codes", "add", "AB-1", "--description", "Client A", "--max-uses", "3")
    good("codes", "add", "5555", "--disabled")
    capsys.readouterr()
    good("codes", "list")
    assert [line.split("\t") for line in capsys.readouterr().out.splitlines()] == [
        ["Code", "Dialled", "Description", "State", "Owner", "From", "Until", "Uses"],
        ["AB-1", "221", "Client A", "enabled", "account", "", "", "0/3"],
        ["5555", "5555", "", "disabled", "account", "", "", "0"],
    ]
    good("codes", "list", "--search", "client", "--limit", "1")
    assert len(capsys.readouterr().out.splitlines()) == 2
    good("codes", "list", "--limit", "1")
    assert capsys.readouterr().err == "1 more; give --limit\n"


def test_list_on_a_terminal_is_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("cli.db").touch()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    good("codes", "list")
    assert capsys.readouterr().out == "no account codes\n"
    good("codes", "add", "5555", "--description", "[red]x")
    good("codes", "list")
    assert "[red]x" in capsys.readouterr().out


def test_delete_codes_asks_yes_or_no(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good("codes", "add", "AB-1")
    good("codes", "add", "5555")
    assert "code 9 does not exist" in bad(capsys, "codes", "delete", "5555", "9", "--yes")
    for text in ("No\n", "\n", "", "whatever\n"):
        answer(monkeypatch, text)
        assert "nothing was deleted" in bad(capsys, "codes", "delete", "5555")
    assert stored("5555") is not None
    answer(monkeypatch, "Yes\n")
    good("codes", "delete", "ab1", "5555")
    assert (stored("221"), stored("5555")) == (None, None)


# Import and export


def test_import_adds_all_and_says_how_many(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.csv").write_bytes("\ufeffDESCRIPTION,code\r\nMüller,10-01\r\n'=1+1,1002\r\n".encode())
    good("codes", "import", "c.csv", "--dry-run")
    told = capsys.readouterr()
    assert "would be 2 added, 0 changed, 0 unchanged; nothing was written" in told.out
    assert "held against an empty one" in told.err
    assert not list(Path().glob("*.db*")), "not even a store"
    good("codes", "import", "c.csv")
    assert "2 added, 0 changed, 0 unchanged" in capsys.readouterr().out
    assert [(code.form, code.description) for code in (stored("1001"), stored("1002")) if code] == [
        ("10-01", "Müller"),
        ("1002", "=1+1"),
    ]


def test_import_of_bad_lines_names_each_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    good("codes", "add", "1001")
    Path("c.csv").write_text("Code,Description\n1000,ok\n1#,x\n10-01,y\n911,z\n1000,again\n")
    assert bad(capsys, "codes", "import", "c.csv").splitlines() == [
        "tollgate: c.csv: line 3: code holds '#': while a code is entered, # ends it and * clears it",
        "tollgate: c.csv: line 4: codes 10-01 and 1001 both dial 1001; --update changes its description",
        (
            "tollgate: c.csv: line 5: code dials 911, an emergency number: "
            "at the prompt that places the emergency call"
        ),
        "tollgate: c.csv: line 6: code 1000 stands on line 2 already",
        "tollgate: c.csv: 4 bad line(s); nothing was imported",
    ]
    assert stored("1000") is None


def test_update_changes_descriptions_and_keeps_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    good("codes", "add", "1001", "--description", "old", "--disabled", "--max-uses", "7")
    good("codes", "add", "1003", "--description", "same")
    Path("c.csv").write_text("Code,Description\n10-01,new\n1002,added\n1003,same\n")
    capsys.readouterr()
    good("codes", "import", "c.csv", "--update")
    assert "1 added, 1 changed, 1 unchanged" in capsys.readouterr().out
    code = stored("1001")
    assert code is not None
    assert (code.form, code.description, code.enabled, code.max_uses) == ("10-01", "new", False, 7)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"Code;Text\n", "line 1: the header row must be Code and Description"),
        (b"Code,Description\n1,\x81\n", "line 2: the file is not UTF-8"),
        (b"Code,Description\n1,\0\n", "NUL"),
    ],
)
def test_import_of_something_else_is_refused(
    data: bytes, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("c.csv").write_bytes(data)
    assert f"tollgate: c.csv: {complaint}" in bad(capsys, "codes", "import", "c.csv") or complaint == "NUL"


def test_import_file_that_cannot_be_read_or_is_too_large(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no.csv: can't be read: No such file" in bad(capsys, "codes", "import", "no.csv")
    assert "can't be read: Is a directory" in bad(capsys, "codes", "import", ".")
    monkeypatch.setattr(codes_command, "MAX_FILE", 10)
    Path("c.csv").write_text("Code,Description\n")
    assert "c.csv: larger than" in bad(capsys, "codes", "import", "c.csv")


def test_import_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Code,Description\n77,x\n")))
    good("codes", "import", "-")
    assert stored("77") is not None


def test_export_comes_back_in_as_it_went_out(capsys: pytest.CaptureFixture[str]) -> None:
    for typed, description in (
        ("ACME-12/7", 'a "quoted", b'),
        ("-12", "=cmd"),
        ("12??", "'tis"),
        ("001", "@x"),
    ):
        good("codes", "add", "--description", description, "--", typed)
    good("codes", "export", "out.csv")
    assert "out.csv: 4 codes" in capsys.readouterr().out
    assert stat.S_IMODE(os.stat("out.csv").st_mode) == 0o600
    before = Path("out.csv").read_bytes().decode()
    assert "'=cmd" in before
    good("codes", "delete", "--yes", "ACME-12/7", "12", "12??", "001")
    good("codes", "import", "out.csv")
    capsys.readouterr()
    good("codes", "export", "-")
    assert capsys.readouterr().out == before


def test_export_that_cannot_be_written_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("cli.db").touch()
    assert "can't be written: No such file" in bad(capsys, "codes", "export", "no/out.csv")
    Path("taken").mkdir()
    assert "can't be written" in bad(capsys, "codes", "export", "taken")
    assert [name for name in os.listdir() if name.startswith(".taken")] == []


def test_a_long_import_shows_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (f"C-{n:06d},Client {n}\n" for n in range(5_000))
    Path("c.csv").write_text("Code,Description\n" + "".join(lines))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    good("codes", "import", "c.csv")
    captured = capsys.readouterr()
    assert "5000 added" in captured.out
    assert "importing" in captured.err


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

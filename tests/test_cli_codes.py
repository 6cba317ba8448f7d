"""``tollgate codes``, on a real SQLite file."""

from __future__ import annotations

import io
import os
import socket
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy

from proxy.commands import codes as codes_command
from proxy.policy import (
    AccountCode,
    CallClass,
    ClassOfService,
    CodeOwner,
    OwnerKind,
    code_file,
    parse_patterns,
)
from proxy.store.store import Store
from tests.support.commands import answer, bad, good

pytestmark = pytest.mark.usefixtures("own_store")


def stored(digits: str) -> AccountCode | None:
    with Store("sqlite:///cli.db") as store:
        return store.codes.get(digits)


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


def test_other_classes_leave_the_numbers_that_a_code_is_good_for() -> None:
    good("codes", "add", "5151", "--classes", "national")
    with Store("sqlite:///cli.db") as store:
        old = store.codes.find("5151")
        assert old is not None
        service = ClassOfService(
            frozenset({CallClass.NATIONAL}), parse_patterns(["5550199"]), parse_patterns(["+4420."])
        )
        store.codes.change(old.id, replace(old.value, class_of_service=service), version=old.version)
    for command in (("set", "5151"), ("add", "5151", "--update")):
        for call_class in (CallClass.MOBILE, CallClass.NATIONAL):
            good("codes", *command, "--classes", call_class.value)
            code = stored("5151")
            assert code is not None
            assert code.class_of_service == replace(service, classes=frozenset({call_class}))


@pytest.mark.parametrize("update", [(), ("--update",)])
@pytest.mark.parametrize(
    "impossible", [("12#",), ("911",), ("12", "--classes", "lunar"), ("12", "--until", "x")]
)
def test_what_can_be_no_code_makes_no_store(
    impossible: tuple[str, ...], update: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "store" not in bad(capsys, "codes", "add", *impossible, *update)
    assert not list(Path().iterdir())


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


def test_a_code_out_of_its_days_is_warned_of_and_listed_so(capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime.now().astimezone().date()
    before, after = str(now - timedelta(days=1)), str(now + timedelta(days=1))
    warning = f"tollgate: warning: --until {before}: this day is past: nobody can use the code\n"
    for arguments, said in (
        (("add", "1001", "--until", before), warning),
        (("add", "1002", "--until", str(now), "--from", str(now)), ""),
        (("add", "1003", "--from", after), ""),
        (("add", "1004", "--until", before, "--disabled"), warning),
        (("add", "1005"), ""),
        (("set", "1005", "--until", before), warning),
        (("set", "1005", "--description", "x"), ""),
        (("set", "1004", "--until", ""), ""),
        (("add", "1003", "--update", "--until", after), ""),
    ):
        capsys.readouterr()
        good("codes", *arguments)
        # The first one makes the store, and says so.
        assert capsys.readouterr().err.partition("is made\n")[2 if arguments[1] == "1001" else 0] == said
    good("codes", "list")
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]]
    states = {row[0]: row[3] for row in rows}
    assert states == {
        "1001": "expired",
        "1002": "enabled",
        "1003": "not yet valid",
        "1004": "disabled",
        "1005": "expired",
    }


def test_a_code_that_has_had_its_uses_is_listed_so(capsys: pytest.CaptureFixture[str]) -> None:
    good("codes", "add", "1001", "--max-uses", "2")
    for uses, state in ((1, "enabled"), (2, "used up"), (3, "used up")):
        with Store("sqlite:///cli.db") as store, store.database.write() as connection:
            connection.execute(sqlalchemy.text("UPDATE account_codes SET uses = :uses"), {"uses": uses})
        capsys.readouterr()
        good("codes", "list")
        row = capsys.readouterr().out.splitlines()[1].split("\t")
        assert (row[3], row[7]) == (state, f"{uses}/2")


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


def test_export_leaves_a_file_that_is_there_unless_it_may_be_replaced(
    capsys: pytest.CaptureFixture[str],
) -> None:
    good("codes", "add", "1001")
    Path("mine.txt").write_text("kept")
    says = "tollgate: there is a file at mine.txt already; --replace overwrites it\n"
    assert bad(capsys, "codes", "export", "mine.txt") == says
    assert Path("mine.txt").read_text() == "kept"
    good("codes", "export", "mine.txt", "--replace")
    assert "1001" in Path("mine.txt").read_text()


def test_export_leaves_a_file_that_is_made_while_it_is_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good("codes", "add", "1001")
    lines = code_file.write_code_file

    def slowly(codes: Iterable[AccountCode]) -> Iterator[str]:
        yield from lines(codes)
        Path("new.csv").write_text("somebody else's")

    monkeypatch.setattr(code_file, "write_code_file", slowly)
    assert "there is a file at new.csv already" in bad(capsys, "codes", "export", "new.csv")
    assert Path("new.csv").read_text() == "somebody else's"
    assert not list(Path().glob(".new.csv*"))
    good("codes", "export", "new.csv", "--replace")
    assert "1001" in Path("new.csv").read_text()


@pytest.mark.parametrize("name", ["cli.db", "cli.db-wal", "folder/cli.db", "link.db"])
def test_export_never_replaces_the_store(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    good("codes", "add", "1001")
    Path("folder").symlink_to(".")
    Path("link.db").symlink_to("cli.db")
    for option in ((), ("--replace",)):
        said = bad(capsys, "codes", "export", name, *option)
        assert said == f"tollgate: {name}: is the store itself; name another file\n"
    assert stored("1001") is not None


def test_export_writes_into_no_file_that_takes_the_place_of_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good("codes", "add", "1001")
    path, opens = Path("pipe"), os.open
    os.mkfifo(path)

    def late(name: str | Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if name == path:
            path.unlink()
            path.write_text("kept")
        return opens(name, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", late)
    assert bad(capsys, "codes", "export", "pipe").endswith("can't be written: Device or resource busy\n")
    assert path.read_text() == "kept"


def test_export_replaces_no_link_and_no_socket(capsys: pytest.CaptureFixture[str]) -> None:
    good("codes", "add", "1001")
    Path("target.csv").write_text("kept")
    Path("link.csv").symlink_to("target.csv")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("gate.sock")
        for name in ("link.csv", "gate.sock"):
            for more in ([], ["--replace"]):
                said = bad(capsys, "codes", "export", name, *more)
                assert said == f"tollgate: {name}: is a link or a device; name another file\n"
    assert Path("link.csv").is_symlink()
    assert Path("target.csv").read_text() == "kept"


@pytest.mark.parametrize("options", [(), ("--replace",)])
def test_export_writes_into_pipes_and_devices(
    options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    good("codes", "add", "1001")
    os.mkfifo("pipe")
    Path("null").symlink_to("/dev/null")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        good("codes", "export", "pipe", *options)
        assert b"1001" in os.read(reader, 4096)
    finally:
        os.close(reader)
    good("codes", "export", "null", *options)
    assert stat.S_ISFIFO(os.stat("pipe").st_mode)
    assert stat.S_ISCHR(os.stat("null").st_mode)
    assert "null: 1 codes" in capsys.readouterr().out


def test_export_that_cannot_be_written_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("cli.db").touch()
    assert "can't be written: No such file" in bad(capsys, "codes", "export", "no/out.csv")
    Path("taken").mkdir()
    assert "taken: can't be written: Is a directory" in bad(capsys, "codes", "export", "taken")
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

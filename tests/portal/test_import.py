"""The dialog *Import into Codes*: dry run, Yes, and everything that a file can be."""

from __future__ import annotations

import re
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from proxy.policy import NumberPlan, new_code
from proxy.portal import import_pages
from proxy.portal.portal import Portal
from proxy.portal.uploads import Upload, Uploads
from proxy.store import ImportPlan, PortalAccount, Role, Store, UpsertResult, carry_out
from proxy.store.codes import CodesRepository
from tests.portal.conftest import Clock
from tests.portal.person import Person, notice

PLAN = NumberPlan()
GOOD = b"Code,Description\r\n1001,One\r\nACME-7,Acme\r\n"
New = Callable[..., Person]


async def say_yes(person: Person, shown: httpx.Response) -> httpx.Response:
    """Press the button of a dry run, where there is one."""
    found = re.search(r'name="number" value="(\w+)"', shown.text)
    return await person.post("/codes/import/apply", {"number": found[1]} if found else {})


async def test_dry_run_then_import_then_close(manager: Person, store: Store) -> None:
    dialog = await manager.get("/codes/import")
    assert "Import into Codes" in dialog.text
    assert 'type="file"' in dialog.text
    shown = await manager.upload(GOOD)
    assert shown.status_code == 200
    assert "codes.csv: 2 to be added, 0 to be changed, 0 as they are, 0 refused." in shown.text
    assert store.codes.count() == 0
    answer = await say_yes(manager, shown)
    assert "Imported: 2 added, 0 changed" in notice(answer)
    assert "data-close>Close</a>" in answer.text
    assert [code.form for code in store.codes.page()] == ["1001", "ACME-7"]
    answer = await say_yes(manager, shown)
    assert answer.status_code == 409, "pressed twice"
    assert "not here any more" in notice(answer)


async def test_every_line_is_judged(manager: Person, store: Store) -> None:
    store.codes.add(new_code("1001", "One", plan=PLAN))
    file = b"Code,Description\n1001,Uno\n911,x\n12#,x\nACME,a\n2263,b\n1002,good\na,b,c\n"
    answer = await manager.upload(file)
    assert answer.status_code == 422
    assert "1 to be added" not in answer.text.partition("import-title")[0]
    assert "can't be imported as it is" in notice(answer)
    assert "Codes that exist are taken when" in notice(answer)
    reasons = ("code 1001 exists already", "emergency number", "# ends it", "both dial 2263", "3 cell(s)")
    for reason in reasons:
        assert reason in answer.text
    assert (await say_yes(manager, answer)).status_code == 409
    assert store.codes.count() == 1


async def test_with_update_descriptions_change_and_nothing_else(manager: Person, store: Store) -> None:
    store.codes.add(replace(new_code("10-01", "One", plan=PLAN), enabled=False, max_uses=3))
    store.codes.add(new_code("1002", "Two", plan=PLAN))
    answer = await manager.upload(b"Code,Description\n1001,Uno\n1002,Two\n", update="yes")
    assert "0 to be added, 1 to be changed, 1 as they are, 0 refused" in answer.text
    answer = await say_yes(manager, answer)
    assert "Imported: 0 added, 1 changed, 1 as they were." in notice(answer)
    code = store.codes.get("1001")
    assert code
    assert (code.description, code.enabled, code.max_uses) == ("Uno", False, 3)


async def test_nothing_to_do_is_said(manager: Person, store: Store) -> None:
    store.codes.add(new_code("1001", "One", plan=PLAN))
    answer = await manager.upload(b"Code,Description\n1001,One\n", update="yes")
    assert "nothing to import" in notice(answer)
    answer = await manager.upload(b"Code,Description\n")
    assert "nothing to import" in notice(answer)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
async def test_encodings_and_separators_are_recognised(
    manager: Person, store: Store, encoding: str, separator: str
) -> None:
    shown = await manager.upload(f"Code{separator}Description\n1{separator}Müller\n".encode(encoding))
    await say_yes(manager, shown)
    assert [code.description for code in store.codes.page()] == ["Müller"]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ("Code,Description\n1,x\n".encode("utf-32"), "the file is UTF-32"),
        (b"PK\x03\x04junk", "a workbook or an archive (.xlsx"),
        (b"Code,Description\n1,\x81\n", "line 2: the file is not UTF-8, UTF-16 or Windows-1252"),
        (b"Code,Description\n1,a\0b\n", "line 2: the file holds NUL characters"),
        (b"1001,One\n", "line 1: the header row must be Code and Description"),
        (b"Code,Code,Description\n", "header row"),
        (b"", "header row"),
        (b"Code|Description\n1|x\n", "header row"),
        (b"Code,Description\nCode,Description\n", "only digits"),
    ],
)
async def test_files_of_another_kind_are_refused_by_name(
    manager: Person, store: Store, data: bytes, complaint: str
) -> None:
    answer = await manager.upload(data)
    assert answer.status_code in {200, 422}
    assert complaint in answer.text.replace("&#39;", "'") or complaint == "only digits"
    assert store.codes.count() == 0


async def test_formulas_are_text(manager: Person, store: Store) -> None:
    shown = await manager.upload(b"Code,Description\n1,\"=cmd|'/C calc'!A0\"\n")
    await say_yes(manager, shown)
    assert "\"'=cmd" in (await manager.get("/codes/export")).text


async def test_no_file(manager: Person) -> None:
    answer = await manager.post("/codes/import", {"file": "text instead"})
    assert (answer.status_code, notice(answer).startswith("Choose a file first.")) == (422, True)
    answer = await manager.upload(b"", name="")
    assert answer.status_code == 422


async def test_hostile_file_names_are_shown_as_text(manager: Person) -> None:
    answer = await manager.upload(b"", name="../../<script>x</script>" + "y" * 300)
    assert "<script>x" not in answer.text


async def test_codes_that_came_meanwhile_stop_it(manager: Person, store: Store) -> None:
    shown = await manager.upload(GOOD)
    store.codes.add(new_code("1001", "somebody else's", plan=PLAN))
    answer = await say_yes(manager, shown)
    assert (answer.status_code, "have changed meanwhile" in notice(answer)) == (409, True)
    assert store.codes.count() == 1


async def test_what_somebody_changes_while_it_is_carried_out_is_not_undone(
    manager: Person, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.codes.add(new_code("1001", "One", plan=PLAN))
    found = store.codes.find("1001")
    assert found
    shown = await manager.upload(b"Code,Description\n1001,Uno\n", update="yes")

    def overtaken(plan: ImportPlan, codes: CodesRepository) -> UpsertResult:
        store.codes.enable_many([found.id], enabled=False)
        return carry_out(plan, codes)

    monkeypatch.setattr(import_pages, "carry_out", overtaken)
    answer = await say_yes(manager, shown)
    assert (answer.status_code, "have changed meanwhile" in notice(answer)) == (409, True)
    assert [(code.description, code.enabled) for code in store.codes.page()] == [("One", False)]


async def test_another_window_of_the_session_gets_its_own_yes(manager: Person, store: Store) -> None:
    first = await manager.upload(b"Code,Description\n1001,One\n")
    second = await manager.upload(b"Code,Description\n2002,Two\n")
    answer = await say_yes(manager, first)
    assert (answer.status_code, "not here any more" in notice(answer)) == (409, True)
    assert (await manager.post("/codes/import/apply")).status_code == 409
    assert store.codes.count() == 0
    assert (await say_yes(manager, second)).status_code == 200
    assert [code.form for code in store.codes.page()] == ["2002"]


@pytest.mark.parametrize("meanwhile", ["somebody else's", "One"])
async def test_what_was_shown_to_be_added_changes_nothing(
    manager: Person, store: Store, meanwhile: str
) -> None:
    shown = await manager.upload(b"Code,Description\n1001,One\n1002,Two\n", update="yes")
    assert "2 to be added, 0 to be changed" in shown.text
    store.codes.add(new_code("1001", meanwhile, plan=PLAN))
    answer = await say_yes(manager, shown)
    assert (answer.status_code, "have changed meanwhile" in notice(answer)) == (409, True)
    assert [code.description for code in store.codes.page()] == [meanwhile]


async def test_file_waits_for_its_own_session_and_not_for_ever(
    manager: Person, person: New, account: Callable[..., PortalAccount], store: Store, clock: Clock
) -> None:
    account(Role.DECISION_MAKER)
    other = person()
    await other.log_in("decision_maker")
    shown = await manager.upload(GOOD)
    assert (await say_yes(other, shown)).status_code == 409
    clock.now += 900
    assert (await manager.get("/codes")).status_code == 200
    clock.now += 901
    assert (await say_yes(manager, shown)).status_code == 409
    assert store.codes.count() == 0


async def test_full_disk_is_told(manager: Person, portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    answer = await manager.upload(GOOD)
    assert answer.status_code == 507
    assert "No space left on device" in notice(answer)


@contextmanager
def full_disk(most: int) -> Iterator[None]:
    """No file of this process grows beyond ``most`` bytes: writing fails as it does when a disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_store_on_a_full_disk_holds_nothing_half_written(manager: Person, store: Store) -> None:
    file = "Code,Description\n" + "".join(f"{n:07d},Client {n}\n" for n in range(5_000))
    shown = await manager.upload(file.encode())
    with full_disk(1 << 20):
        answer = await say_yes(manager, shown)
    assert (answer.status_code, "a full disk). Nothing was changed." in notice(answer)) == (503, True)
    assert store.codes.count() == 0
    assert store.audit.verify().whole
    answer = await say_yes(manager, await manager.upload(file.encode()))
    assert "Imported: 5000 added" in notice(answer), "there is space again"
    assert store.codes.count() == 5_000
    assert store.audit.verify().whole


async def test_a_file_of_a_million_lines_is_refused_at_once(manager: Person, store: Store) -> None:
    file = b"Code,Description\n" + b"".join(b"%07d,x\n" % number for number in range(1_000_000))
    begun = time.process_time()
    answer = await manager.upload(file)
    assert time.process_time() - begun < 10
    assert answer.status_code == 422
    assert "codes.csv: the file has 1000001 lines: at most 200000 at once; divide it" in notice(answer)
    assert store.codes.count() == 0


def test_uploads_are_private_few_and_forgotten() -> None:
    uploads = Uploads()
    folder = Path(uploads._folder.name)
    assert folder.stat().st_mode & 0o077 == 0
    numbers = [
        uploads.keep(f"session {number}", Upload("a.csv", b"x", update=False), now=1000.0 + number)
        for number in range(40)
    ]
    assert len(list(folder.iterdir())) == 16
    assert uploads.take("session 0", numbers[0], now=1040.0) is None
    assert uploads.take("session 39", numbers[38], now=1040.0) is None
    assert uploads.take("session 39", numbers[39], now=1040.0) == Upload("a.csv", b"x", update=False)
    uploads.keep("late", Upload("b.csv", b"y", update=True), now=9000.0)
    assert len(list(folder.iterdir())) == 1
    uploads.close()
    assert not folder.exists()


async def test_100_000_codes_are_imported_listed_searched_and_exported_swiftly(
    manager: Person, store: Store
) -> None:
    lines = "".join(f"{200_000 + n},client {n}\n" for n in range(100_000))
    begun = time.process_time()
    answer = await manager.upload(f"Code,Description\n{lines}".encode())
    assert "100000 to be added" in answer.text
    assert "and 99800 more lines" in answer.text
    answer = await say_yes(manager, answer)
    assert "100000 added" in notice(answer)
    assert time.process_time() - begun < 10
    assert store.codes.count() == 100_000
    paths = ("/codes", "/codes?page=1000", "/codes?search=client+99", "/codes?order=description&page=500")
    for path in paths:
        begun = time.process_time()
        assert (await manager.get(path)).status_code == 200
        assert time.process_time() - begun < 1, path
    begun = time.process_time()
    answer = await manager.get("/codes/export")
    assert answer.text.count("\n") == 100_001
    assert time.process_time() - begun < 5

"""Files of the gate: what root makes beside a gate of another user that user can open, not turn to harm."""

from __future__ import annotations

import errno
import logging
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.cdr.journal import Journal, JournalSettings
from proxy.errors import ConfigurationError, JournalUnavailable
from proxy.private_files import give_like, make_folder, open_private
from proxy.store import Store
from proxy.store.audit import Actor
from proxy.store.backup import restore_backup, write_backup
from tests.cdr.samples import full_record

USER = 65_534
VICTIM = b"somebody else's"

by_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files that another user can't open")


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    return given(tmp_path / "theirs")


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    file = tmp_path / "victim"
    file.write_bytes(VICTIM)
    return file


def given(folder: Path) -> Path:
    """Make a folder of the gate's user."""
    folder.mkdir(mode=0o700)
    os.chown(folder, USER, USER)
    return folder


def strangers(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.lstat().st_uid != USER]


def journal_in(folder: Path) -> Journal:
    small = JournalSettings(segment_bytes=16_384, group_interval=0.0, lazy_interval=0.0)
    return Journal(folder, post=lambda deliver: deliver(), settings=small)


def run_once(folder: Path) -> None:
    """Let a journal write a record, and end."""
    journal = journal_in(folder)
    journal.start()
    journal.append(full_record("r1"))
    assert journal.stop()


# To whom it belongs -----------------------------------------------------------------------------------------


@by_root
def test_a_file_belongs_to_whom_its_folder_belongs_to(theirs: Path) -> None:
    for _ in range(2):
        os.close(open_private(theirs / "file", os.O_RDWR))
    assert stat.S_IMODE((theirs / "file").stat().st_mode) == 0o600
    make_folder(theirs / "folder")
    make_folder(theirs / "folder")
    assert stat.S_IMODE((theirs / "folder").stat().st_mode) == 0o700
    assert strangers(theirs) == []


@by_root
def test_of_folders_that_are_missing_all_belong_to_whom_the_first_belongs_to(theirs: Path) -> None:
    make_folder(theirs / "one" / "two" / "three")
    assert strangers(theirs) == []
    modes = {stat.S_IMODE(path.stat().st_mode) for path in theirs.rglob("*")}
    assert modes == {0o700}


@by_root
def test_a_store_a_journal_and_a_restored_store_can_be_opened_by_the_gates_user(theirs: Path) -> None:
    url = f"sqlite:///{theirs}/made/inner/tollgate.db"
    with Store(url) as store:
        assert store.codes.count() == 0
        backup = theirs / "b.backup"
        write_backup(store.database, backup)
        os.chown(backup, USER, USER)
        assert strangers(theirs) == []
    run_once(theirs / "journal")
    for replace in (False, True):
        restore_backup(backup, theirs / "restored.db", actor=Actor("cli:root"), replace=replace)
    assert strangers(theirs) == []


@by_root
def test_what_root_left_there_earlier_is_given_when_root_opens_it_again(theirs: Path) -> None:
    (theirs / "tollgate.db").touch()
    (theirs / "lock").touch()
    with Store(f"sqlite:///{theirs}/tollgate.db") as store:
        backup = theirs.parent / "b.backup"
        write_backup(store.database, backup)
        os.close(open_private(theirs / "lock", os.O_RDWR))
        assert strangers(theirs) == []
    os.chown(theirs / "tollgate.db", 0, 0)
    restore_backup(backup, theirs / "tollgate.db", actor=Actor("cli:root"), replace=True)
    assert (theirs / "tollgate.db").stat().st_uid == USER


@by_root
def test_a_restored_store_belongs_to_whom_the_one_before_belonged_to(tmp_path: Path) -> None:
    # In a folder of root's that the gate's user may write to, too.
    target = tmp_path / "tollgate.db"
    with Store(f"sqlite:///{target}") as store:
        write_backup(store.database, tmp_path / "b.backup")
    os.chown(target, USER, USER)
    restore_backup(tmp_path / "b.backup", target, actor=Actor("cli:root"), replace=True)
    assert target.stat().st_uid == USER


@by_root
def test_a_file_of_a_third_user_or_with_a_further_name_is_given_to_nobody(theirs: Path, victim: Path) -> None:
    (theirs / "third").touch()
    os.chown(theirs / "third", USER - 1, USER - 1)
    (theirs / "further").hardlink_to(victim)
    for name in ("third", "further"):
        os.close(open_private(theirs / name, os.O_RDWR))
    assert (theirs / "third").stat().st_uid == USER - 1
    assert victim.stat().st_uid == 0


@by_root
def test_where_root_may_give_nothing_away_all_goes_on_and_the_log_says_so_once(
    theirs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_descriptor: int, _user: int, _group: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "fchown", refuse)
    held = len(os.listdir("/proc/self/fd"))
    with caplog.at_level(logging.WARNING):
        for name in "abc":
            os.close(open_private(theirs / name, os.O_RDWR))
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"what root makes can't be given to the owner of {theirs}, who may be shut out: ")
    assert said.endswith("Operation not permitted")
    run_once(theirs / "journal")
    with Store(f"sqlite:///{theirs}/tollgate.db") as store:
        assert store.codes.count() == 0
    assert len(os.listdir("/proc/self/fd")) == held


PROGRAM = """
import sys
from pathlib import Path
from proxy.store import Store
from tests.test_private_files import run_once
folder = Path(sys.argv[1])
with Store(f"sqlite:///{folder}/made/inner/tollgate.db") as store:
    assert store.codes.count() == 0
run_once(folder / "made" / "journal")
"""


def run_as(*limits: str, folder: Path) -> str:
    """Have a store and a journal in a process that may less; returns what it says."""
    if subprocess.run(
        ["setpriv", *limits, sys.executable, "-c", "import proxy.store"], check=False
    ).returncode:
        pytest.skip("setpriv can't take that from root here, or the program is read by root only")
    command = ["setpriv", *limits, sys.executable, "-c", PROGRAM, str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stderr


@by_root
def test_root_without_the_right_to_give_has_a_store_and_a_journal(theirs: Path) -> None:
    says = run_as("--bounding-set=-chown", "--inh-caps=-chown", folder=theirs)
    assert says.count("Operation not permitted") == 1
    # No further segment for each try.
    names = {path.name for path in (theirs / "made" / "journal").iterdir()}
    assert names == {"journal-00000001.log", "lock", "reserve"}


@by_root
def test_the_gates_user_goes_on_where_root_has_been() -> None:
    # Not in pytest's own folder, which root alone can enter.
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, USER, USER)
        with Store(f"sqlite:///{folder}/made/inner/tollgate.db") as store:
            assert store.codes.count() == 0
        run_once(Path(folder, "made", "journal"))
        says = run_as(f"--reuid={USER}", f"--regid={USER}", "--clear-groups", folder=Path(folder))
        assert says == ""
        assert strangers(Path(folder)) == []


# What another user does with names meanwhile ----------------------------------------------------------------


def _once_after(monkeypatch: pytest.MonkeyPatch, name: str, made: str, do: Callable[[], object]) -> None:
    """Do this right after an ``os`` function has made the file or folder of that name."""
    real = getattr(os, name)

    def call(path: str | Path, *arguments: object, **more: object) -> object:
        result = real(path, *arguments, **more)
        if Path(path).name == made:
            monkeypatch.setattr(os, name, real)
            do()
        return result

    monkeypatch.setattr(os, name, call)


@by_root
def test_a_folder_that_is_exchanged_meanwhile_has_no_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots, away = tmp_path / "folder", tmp_path / "away"
    for function, made in (("open", "file"), ("mkdir", "inner")):
        roots.mkdir(mode=0o700)

        def exchange() -> None:
            roots.rename(away)
            given(roots)
            (roots / "inner").mkdir()

        _once_after(monkeypatch, function, made, exchange)
        if function == "open":
            os.close(open_private(roots / made, os.O_RDWR))
        else:
            make_folder(roots / made)
        assert (away / made).stat().st_uid == 0
        assert (roots / "inner").stat().st_uid == 0
        away.rename(tmp_path / f"away-{function}")
        roots.rename(tmp_path / f"theirs-{function}")


@by_root
def test_root_follows_no_link_to_a_folder_but_roots_own(theirs: Path, tmp_path: Path) -> None:
    roots = tmp_path / "roots"
    roots.mkdir()
    link = theirs / "journal"
    link.symlink_to(roots)
    os.lchown(link, USER, USER)
    with pytest.raises(OSError, match="its folder is a link of another user"):
        open_private(link / "lock", os.O_RDWR)
    with pytest.raises(JournalUnavailable, match="its folder is a link of another user"):
        journal_in(link).start()
    assert list(roots.iterdir()) == []
    os.lchown(link, 0, 0)
    run_once(link)
    assert len(list(roots.iterdir())) == 3


@by_root
def test_a_store_that_is_a_link_is_used_and_stays_whose_it_is(theirs: Path, victim: Path) -> None:
    victim.write_bytes(b"")
    (theirs / "tollgate.db").symlink_to(victim)
    with Store(f"sqlite:///{theirs}/tollgate.db") as store:
        assert store.codes.count() == 0
    assert victim.stat().st_uid == 0


def test_a_store_that_is_a_link_to_nothing_makes_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "tollgate.db").symlink_to(tmp_path / "elsewhere.conf")
    with pytest.raises(ConfigurationError, match="can't be opened: No such file or directory"):
        Store(f"sqlite:///{tmp_path}/tollgate.db")
    assert not (tmp_path / "elsewhere.conf").exists()


@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_WRONLY | os.O_APPEND])
def test_a_link_is_no_file_of_the_gate(tmp_path: Path, victim: Path, flags: int) -> None:
    (tmp_path / "file").symlink_to(victim)
    with pytest.raises(OSError, match="file is a link"):
        open_private(tmp_path / "file", flags)


@pytest.mark.parametrize("other_name", [os.symlink, os.link])
def test_a_file_that_is_made_anew_is_never_written_into_the_one_before(
    tmp_path: Path, victim: Path, other_name: Callable[[Path, Path], None]
) -> None:
    other_name(victim, tmp_path / "file")
    descriptor = open_private(tmp_path / "file", os.O_WRONLY | os.O_TRUNC)
    os.write(descriptor, b"new")
    os.close(descriptor)
    assert (tmp_path / "file").read_bytes() == b"new"
    assert victim.read_bytes() == VICTIM


@pytest.mark.parametrize("name", ["reserve.new", "reserve", "journal-00000001.log", "journal-00000007.log"])
def test_a_journal_writes_through_no_link(tmp_path: Path, victim: Path, name: str) -> None:
    folder = tmp_path / "journal"
    folder.mkdir()
    (folder / name).symlink_to(victim)
    for _ in range(2):
        run_once(folder)
    assert victim.read_bytes() == VICTIM
    assert not (folder / "reserve").is_symlink()


def test_a_journal_takes_no_link_for_its_lock(tmp_path: Path, victim: Path) -> None:
    folder = tmp_path / "journal"
    folder.mkdir()
    (folder / "lock").symlink_to(victim)
    with pytest.raises(JournalUnavailable, match="can't be used: lock is a link"):
        journal_in(folder).start()


def test_a_file_of_that_name_is_no_folder(tmp_path: Path, victim: Path) -> None:
    with pytest.raises(FileExistsError):
        make_folder(victim / "inner")
    with pytest.raises(NotADirectoryError):
        open_private(victim / "file", os.O_RDWR)
    (tmp_path / "folder").mkdir()
    give_like(victim, tmp_path / "folder")
    assert victim.stat().st_uid == os.geteuid()

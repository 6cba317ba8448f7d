"""What root makes beside a gate that runs as another user: that user has to open it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from proxy.cdr.journal import Journal
from proxy.private_files import give_like, make_folder, open_private
from proxy.store import Store
from proxy.store.audit import Actor
from proxy.store.backup import restore_backup, write_backup

USER = 65_534

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root makes files that another user can't open"
)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o700)
    os.chown(folder, USER, USER)
    return folder


def strangers(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.lstat().st_uid != USER]


def test_a_file_belongs_to_whom_its_folder_belongs_to(theirs: Path) -> None:
    for _ in range(2):
        os.close(open_private(theirs / "file", os.O_RDWR))
    assert stat.S_IMODE((theirs / "file").stat().st_mode) == 0o600
    make_folder(theirs / "folder")
    make_folder(theirs / "folder")
    assert stat.S_IMODE((theirs / "folder").stat().st_mode) == 0o700
    assert strangers(theirs) == []


def test_a_link_that_its_user_has_put_there_gives_that_user_nothing(theirs: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root's")
    (theirs / "file").symlink_to(secret)
    os.close(open_private(theirs / "file", os.O_RDWR))
    give_like(theirs / "file", theirs)
    assert secret.stat().st_uid == 0


def test_a_store_a_journal_and_a_restored_store_can_be_opened_by_the_gates_user(theirs: Path) -> None:
    url = f"sqlite:///{theirs}/made/tollgate.db"
    with Store(url) as store:
        assert store.codes.count() == 0
        backup = theirs / "b.backup"
        write_backup(store.database, backup)
        os.chown(backup, USER, USER)
        assert strangers(theirs) == []
    journal = Journal(theirs / "journal", post=lambda deliver: deliver())
    journal.start()
    journal.stop()
    for replace in (False, True):
        restore_backup(backup, theirs / "restored.db", actor=Actor("cli:root"), replace=replace)
    assert strangers(theirs) == []

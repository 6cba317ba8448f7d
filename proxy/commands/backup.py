"""``tollgate backup`` and ``tollgate restore``: the whole store in one file, and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.commands.common import (
    ConfigOption,
    ReplaceOption,
    actor,
    example,
    open_store,
    progress_bar,
    read_settings,
    say,
)
from proxy.errors import ConfigurationError

if TYPE_CHECKING:
    from proxy.settings import Settings
    from proxy.store.backup import BackupSummary

EPILOGS = {
    "backup": example("tollgate backup tollgate-2026-11-23.backup"),
    "restore": example("tollgate restore tollgate-2026-11-23.backup --replace"),
}


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")],
    *,
    replace: ReplaceOption = False,
    config: ConfigOption = None,
) -> None:
    """Write the store into one file; the gate may run.

    It is proved that the file can be restored. All of the store is in there: groups, users with their
    passwords' hashes, account codes, the usage log, the portal's accounts, the audit log. Keep it as you keep
    keys. Settings and own prompts are other files.
    """
    from proxy.store.backup import check_backup_name, write_backup

    with open_store(read_settings(config)) as store, progress_bar("backup") as progress:
        try:
            # Before the audit log, and so the backup itself, says that there is one.
            check_backup_name(store.database, file, replace=replace)
            store.audit.note("backed up", "store", file.name)
            summary = write_backup(store.database, file, progress, replace=replace)
        except OSError as error:
            # Its own name is that of the temporary file.
            message = f"{file}: can't be written: {error.strerror or error}"
            raise ConfigurationError(message) from error
    _tell(f"{file}: written, restored into an empty store and compared", summary)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `tollgate backup` has written.")],
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put the store that is there aside (.before-restore).")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Make the store of a backup; gate and portal must be stopped.

    Nothing that the file says is run. Records that the journal still holds come to the restored store at the
    gate's next start.
    """
    from proxy.cdr.sinks import forget_position
    from proxy.store.backup import look_at_backup, restore_backup

    settings = read_settings(config)
    target = settings.store.sqlite_path
    if target is None:
        raise ConfigurationError(
            "store.url: only an SQLite file is restored; a server has its own tools, as pg_restore"
        )
    # A wrong name is told at once, not after somebody has stopped his gate for it.
    look_at_backup(file)
    with _journal(settings), progress_bar("restore") as progress:
        summary = restore_backup(file, target, actor=actor(), replace=replace, progress=progress)
        forget_position(settings.journal_folder, "store")
    _tell(f"{target}: restored from {file} of {summary.made_at}, and compared", summary)
    if summary.put_aside is not None:
        say(f"the store that was there is kept as {summary.put_aside}")


@contextmanager
def _journal(settings: Settings) -> Iterator[None]:
    """Hold the journal, if there is one, so that no gate can start meanwhile. Raises `ConfigurationError`."""
    from proxy.cdr.segments import SegmentDirectory

    if not settings.journal_folder.exists():
        yield
        return
    try:
        held = SegmentDirectory(settings.journal_folder, segment_bytes=0)
    except ConfigurationError as error:
        message = f"{error}; stop gate and portal first"
        raise ConfigurationError(message) from error
    try:
        yield
    finally:
        held.release_lock()


def _tell(what: str, summary: BackupSummary) -> None:
    say(what)
    named = ("groups", "users", "account_codes", "call_records", "portal_accounts", "audit_log")
    say(", ".join(f"{summary.rows.get(name, 0):,} {name.replace('_', ' ')}" for name in named))

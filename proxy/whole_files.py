"""Files that somebody asks for: whole or not at all, and in another file's place only when told so."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from proxy.errors import ConfigurationError

__all__ = ["check_name", "store_files", "whole_file"]

_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})


@contextlib.contextmanager
def whole_file(path: Path, *, replace: bool, store: Path | None) -> Iterator[tuple[IO[bytes], Path]]:
    """Give an empty file (mode 0600), open, and its name, which becomes this one when the block has ended
    without an error. Who writes by the name may write into what another has put there.

    A file that is there stays as it is unless ``replace``, the ``store`` always. Raises ConfigurationError
    for a name that can't be had, OSError.
    """
    check_name(path, replace=replace, store=store)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with open(descriptor, "wb") as file:
            yield file, temporary
        if replace:
            os.replace(temporary, path)
        else:
            _name(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_name(path: Path, *, replace: bool, store: Path | None) -> None:
    """Raise ConfigurationError if no file can be had by this name, before anybody waits for one; OSError if
    it can't be looked at.
    """
    if store is not None and any(_is_same(path, file) for file in store_files(store.resolve())):
        message = f"{path}: is the store itself; name another file"
        raise ConfigurationError(message)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if os.path.lexists(path):
        if path.is_symlink() or not path.is_file():
            message = f"{path}: is a link or a device; name another file"
            raise ConfigurationError(message)
        if not replace:
            raise _taken(path)


def store_files(store: Path) -> list[Path]:
    """Return the names of all files that an SQLite store has, at one time or another; its own comes first."""
    return [store.with_name(store.name + suffix) for suffix in ("", "-wal", "-shm", "-journal")]


def _is_same(path: Path, file: Path) -> bool:
    try:
        return path.samefile(file)
    except FileNotFoundError:
        return path.resolve() == file


def _name(temporary: Path, path: Path) -> None:
    """Give a file its name, unless somebody has given that to another file meanwhile."""
    try:
        try:
            os.link(temporary, path)
            temporary.unlink()
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # Some file systems know one name per file: there the name is taken first.
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            os.replace(temporary, path)
    except FileExistsError as error:
        raise _taken(path) from error


def _taken(path: Path) -> ConfigurationError:
    return ConfigurationError(f"there is a file at {path} already; --replace overwrites it")

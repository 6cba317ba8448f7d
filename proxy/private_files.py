"""Files of the gate: nobody else reads them, and what root makes of them the gate's own user can open.

A command that an administrator runs as root would shut out a gate that runs as another user. What is root's
is therefore given to the owner of its folder, if that is another. As that owner may change all in there
meanwhile, each step holds on to what the one before has opened: no name is looked up twice, and no link of
that owner's is followed.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

__all__ = ["give_like", "make_folder", "open_private"]

_log = logging.getLogger(__name__)


def open_private(path: Path, flags: int, *, may_be_link: bool = False) -> int:
    """Open a file, made with mode 0600 if there is none, and return the descriptor. Raises OSError.

    A link is refused, unless it ``may_be_link`` and leads to a file that is there. With ``O_TRUNC`` the file
    is made anew: nothing is written into the one that has its name.
    """
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW
    with _held(path.parent) as folder:
        if flags & os.O_TRUNC:
            flags |= os.O_EXCL
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path.name, dir_fd=folder)
        try:
            descriptor = os.open(path.name, flags | os.O_CREAT, 0o600, dir_fd=folder)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            if not may_be_link:
                raise OSError(errno.ELOOP, f"{path.name} is a link", str(path)) from None
            return os.open(path.name, flags & ~os.O_NOFOLLOW, dir_fd=folder)
        _give(descriptor, os.fstat(folder), path.parent)
    return descriptor


def make_folder(path: Path) -> None:
    """Make a folder with mode 0700 if there is none, and those above it. Raises OSError."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with _held(path.parent) as parent:
        try:
            os.mkdir(path.name, 0o700, dir_fd=parent)
        except FileExistsError:
            if not path.is_dir():
                raise
            return  # somebody was faster
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        made = os.open(path.name, flags, dir_fd=parent)
        try:
            _give(made, os.fstat(parent), path.parent)
        finally:
            os.close(made)


def give_like(path: Path, other: Path) -> None:
    """Give a file that is root's to the owner of another file or folder. Raises OSError."""
    descriptor = open_private(path, os.O_RDONLY)
    try:
        _give(descriptor, other.stat(), other)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[int]:
    """Hold a folder, whatever is done with its name meanwhile. Root follows no link to it but root's own; the
    folders above are taken as they are.
    """
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        descriptor = os.open(folder, flags | os.O_NOFOLLOW)
    except NotADirectoryError:
        link = folder.lstat()
        if not stat.S_ISLNK(link.st_mode):
            raise
        if os.geteuid() == 0 != link.st_uid:
            raise OSError(errno.ELOOP, "its folder is a link of another user", str(folder)) from None
        descriptor = os.open(folder, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _give(descriptor: int, owner: os.stat_result, like: Path) -> None:
    """Give what is open and root's to the owner of what it is ``like``, where root may (not everywhere)."""
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    found = os.fstat(descriptor)
    # A file with a further name may be one that root keeps elsewhere.
    alone = stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink == 1)
    if found.st_uid == 0 and alone:
        try:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        except OSError as error:
            _say_once(like, error.strerror)


@functools.cache
def _say_once(like: Path, why: str) -> None:
    _log.warning("what root makes can't be given to the owner of %s, who may be shut out: %s", like, why)

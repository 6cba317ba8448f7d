"""Files of the gate: nobody else reads them, and what root makes of them the gate's own user can open.

A command that an administrator runs as root would shut out a gate that runs as another user.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["give_like", "make_folder", "open_private"]


def open_private(path: Path, flags: int) -> int:
    """Open a file, made with mode 0600 if there is none, and return the descriptor. Raises OSError.

    One that root makes belongs to whom its folder belongs to.
    """
    flags |= os.O_CREAT | os.O_CLOEXEC
    try:
        # Exclusive: what somebody has put there instead, a link say, is given to nobody.
        descriptor = os.open(path, flags | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, flags, 0o600)
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


def make_folder(path: Path) -> None:
    """Make a folder with mode 0700 if there is none, of which the same holds. Raises OSError."""
    if not path.is_dir():
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        give_like(path, path.parent)


def give_like(path: Path, other: Path) -> None:
    """Give what root has made to the owner of another file or folder. Raises OSError."""
    if os.geteuid() == 0:
        owner = other.stat()
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)

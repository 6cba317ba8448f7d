"""The journal's files: numbered segments, one pre-allocated reserve for the day the disk is full, and a lock.

All files are 0600 in a directory that is 0700 when it is made here; a link is none of them. A segment is
allocated whole before its first frame, so that running calls keep their records when something else fills the
disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from proxy.errors import ConfigurationError, JournalUnavailable
from proxy.private_files import make_folder, open_private

__all__ = ["Position", "SegmentDirectory"]

_PREFIX = "journal-"
_SUFFIX = ".log"


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place between two frames: everything before it has been dealt with."""

    segment: int
    offset: int


class SegmentDirectory:
    """The directory of one journal. All methods but the constructor raise OSError as the system does."""

    def __init__(self, path: Path, segment_bytes: int) -> None:
        """Take the directory for this process.

        Raises `JournalUnavailable` when it can't be used, `ConfigurationError` when another process has it.
        """
        self.path = path
        self.segment_bytes = segment_bytes
        try:
            make_folder(path)
            self._lock = open_private(path / "lock", os.O_RDWR)
        except OSError as error:
            raise JournalUnavailable(f"journal directory {path} can't be used: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            message = f"journal directory {path} is in use by another process (a gate on this store?)"
            raise ConfigurationError(message) from error

    def release_lock(self) -> None:
        """Let another process have the directory."""
        os.close(self._lock)

    def numbers(self) -> list[int]:
        """Numbers of the segments that exist, oldest first."""
        found = []
        with os.scandir(self.path) as entries:
            for entry in entries:
                name = entry.name
                digits = name[len(_PREFIX) : -len(_SUFFIX)]
                named = name.startswith(_PREFIX) and name.endswith(_SUFFIX) and digits.isdecimal()
                if named and not entry.is_symlink():
                    found.append(int(digits))
        return sorted(found)

    def file(self, number: int) -> Path:
        """Path of one segment."""
        return self.path / f"{_PREFIX}{number:08d}{_SUFFIX}"

    def read(self, number: int) -> bytes:
        """A whole segment."""
        return self.file(number).read_bytes()

    def read_from(self, position: Position, size: int) -> bytes:
        """At most ``size`` bytes from a position on."""
        with self.file(position.segment).open("rb") as file:
            file.seek(position.offset)
            return file.read(size)

    @property
    def has_reserve(self) -> bool:
        """The next segment is allocated already."""
        return self._reserve.exists() and not self._reserve.is_symlink()

    def make_reserve(self) -> None:
        """Allocate the next segment ahead of its need; nothing is left behind when the disk refuses."""
        if self.has_reserve:
            return
        fresh = self.path / "reserve.new"
        descriptor = self._allocate(fresh)
        os.close(descriptor)
        os.replace(fresh, self._reserve)

    def open_new(self, number: int) -> int:
        """Descriptor of a new, allocated segment, made from the reserve when there is one."""
        target = self.file(number)
        if self.has_reserve:
            os.replace(self._reserve, target)
            descriptor = open_private(target, os.O_RDWR)
        else:
            descriptor = self._allocate(target)
        self._sync_directory()
        return descriptor

    def delete(self, number: int) -> None:
        """Forget a segment whose records every sink has."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.file(number))

    @property
    def _reserve(self) -> Path:
        return self.path / "reserve"

    def _allocate(self, path: Path) -> int:
        descriptor = open_private(path, os.O_RDWR | os.O_TRUNC)
        try:
            os.posix_fallocate(descriptor, 0, self.segment_bytes)
            os.fsync(descriptor)
        except OSError:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise
        return descriptor

    def _sync_directory(self) -> None:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

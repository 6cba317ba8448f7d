"""Files that were uploaded and wait for a Yes: one per session, for a while, readable by nobody else."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

__all__ = ["Upload", "Uploads"]

_KEPT_FOR = 1_800.0
_MOST = 16


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that waits."""

    name: str
    """As the browser named it."""
    data: bytes
    update: bool
    """Codes that exist may be changed."""
    shown: str = ""
    """What tells that which was shown of it from anything else that it could do."""


class _Kept(NamedTuple):
    at: float
    upload: Upload
    """Without its data."""
    path: Path


class Uploads:
    """All files that wait, on disk: they may be large. Safe to use from several threads."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="tollgate-portal-")  # mode 0700
        self._lock = threading.Lock()
        self._waiting: dict[str, _Kept] = {}
        self._count = 0

    def keep(self, session: str, upload: Upload, *, now: float) -> str:
        """Keep a file instead of the session's last one; returns its number. Raises OSError when the disk is
        full.
        """
        with self._lock:
            self._forget(session)
            for other in [key for key, kept in self._waiting.items() if kept.at < now - _KEPT_FOR]:
                self._forget(other)
            if len(self._waiting) >= _MOST:
                self._forget(min(self._waiting, key=lambda key: self._waiting[key].at))
            self._count += 1
            path = Path(self._folder.name, str(self._count))
            try:
                path.write_bytes(upload.data)
            except OSError:
                path.unlink(missing_ok=True)
                raise
            self._waiting[session] = _Kept(now, replace(upload, data=b""), path)
            return path.name

    def take(self, session: str, number: str, *, now: float) -> Upload | None:
        """Give the session's file of a number out and forget it; None when it is not there any more. Another
        one, of another window, stays.
        """
        with self._lock:
            kept = self._waiting.get(session)
            if kept is None or kept.path.name != number:
                return None
            try:
                return (
                    None if kept.at < now - _KEPT_FOR else replace(kept.upload, data=kept.path.read_bytes())
                )
            finally:
                self._forget(session)

    def close(self) -> None:
        """Forget all."""
        with self._lock:
            self._waiting.clear()
            self._folder.cleanup()

    def _forget(self, session: str) -> None:
        if (kept := self._waiting.pop(session, None)) is not None:
            with contextlib.suppress(OSError):
                kept.path.unlink()

"""Files that were uploaded and wait for a Yes: one per session, for a while, readable by nobody else."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

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


class Uploads:
    """All files that wait, on disk: they may be large. Safe to use from several threads."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="tollgate-portal-")  # mode 0700
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[float, str, bool, Path]] = {}
        self._count = 0

    def keep(self, session: str, upload: Upload, *, now: float) -> None:
        """Keep a file instead of the session's last one. Raises OSError when the disk is full."""
        with self._lock:
            self._forget(session)
            for other in [key for key, kept in self._waiting.items() if kept[0] < now - _KEPT_FOR]:
                self._forget(other)
            if len(self._waiting) >= _MOST:
                self._forget(min(self._waiting, key=lambda key: self._waiting[key][0]))
            self._count += 1
            path = Path(self._folder.name, str(self._count))
            try:
                path.write_bytes(upload.data)
            except OSError:
                path.unlink(missing_ok=True)
                raise
            self._waiting[session] = (now, upload.name, upload.update, path)

    def take(self, session: str, *, now: float) -> Upload | None:
        """Give the session's file out and forget it; None when there is none any more."""
        with self._lock:
            kept = self._waiting.get(session)
            try:
                if kept is None or kept[0] < now - _KEPT_FOR:
                    return None
                return Upload(kept[1], kept[3].read_bytes(), kept[2])
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
                kept[3].unlink()

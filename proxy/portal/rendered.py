"""Parts of pages that many people are shown at once, made once for all of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["Rendered"]

_KEPT = 256
"""Parts: one of each kind per rights and language, and those of single users."""


class Rendered:
    """The newest of such parts. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: OrderedDict[object, tuple[object, float, str]] = OrderedDict()

    def get(self, who: object, seen: object, make: Callable[[], str], *, now: float, good_for: float) -> str:
        """Return what such people are shown of something; timers in it stand for a moment only."""
        with self._lock:
            kept = self._parts.get(who)
            if kept is not None and 0 <= now - kept[1] < good_for and kept[0] == seen:
                return kept[2]
            html = make()
            self._parts[who] = seen, now, html
            self._parts.move_to_end(who)
            if len(self._parts) > _KEPT:
                self._parts.popitem(last=False)
            return html

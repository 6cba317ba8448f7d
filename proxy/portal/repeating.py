"""Work that is looked for again and again in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from proxy.errors import TollgateError

__all__ = ["Repeating"]

logger = logging.getLogger(__name__)


class Repeating:
    """Calls ``step`` at once again while it finds something to do, and after ``every`` seconds when not.

    A step that fails because of the store waits as one that finds nothing; that is told once.
    """

    def __init__(self, name: str, step: Callable[[], bool], *, every: float) -> None:
        self._name = name
        self._step = step
        self._every = every
        self._woken = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self.ending = False

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Look now: there may be more to do."""
        self._woken.set()

    def stop(self) -> None:
        """Begin nothing new, and return when the step that is under way is done."""
        self.ending = True
        self.wake()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        while not self.ending:
            try:
                found = self._step()
            except TollgateError as error:
                if not self._failing:
                    logger.error("%s wait: %s", self._name, error)
                self._failing, found = True, False
            else:
                self._failing = False
            if not found:
                self._woken.wait(self._every)
                self._woken.clear()

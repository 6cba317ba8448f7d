"""Identifiers that are the same in every run."""

from __future__ import annotations

from itertools import count

from proxy.sip.via import MAGIC_COOKIE


class CountingIds:
    """An `IdSource` that counts: readable in a failing test, different for each ``name``."""

    def __init__(self, name: str = "ua") -> None:
        self.name = name
        self._numbers = count(1)
        self.retry_after_s = 3

    def branch(self) -> str:
        return f"{MAGIC_COOKIE}-{self.name}-{next(self._numbers)}"

    def tag(self) -> str:
        return f"tag-{self.name}-{next(self._numbers)}"

    def call_id(self) -> str:
        return f"call-{self.name}-{next(self._numbers)}"

    def derived_tag(self, material: str) -> str:
        return f"derived-{self.name}-{abs(hash_of(material))}"

    def retry_after(self) -> int:
        return self.retry_after_s

    def glare_wait(self, *, owns_call_id: bool) -> float:
        return 3.0 if owns_call_id else 1.0

    def rseq(self) -> int:
        return 7000


def hash_of(text: str) -> int:
    """A hash that is the same in every process, unlike `hash`."""
    value = 0
    for octet in text.encode("utf-8", "surrogateescape"):
        value = (value * 31 + octet) % 2**32
    return value

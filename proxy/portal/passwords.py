"""Passwords of the portal: what is accepted, and argon2id (RFC 9106) off the event loop."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

__all__ = ["LEAST", "MOST", "Passwords", "TooBusy", "one_time_password", "weakness"]

LEAST = 12
MOST = 256
"""Characters."""
_WORKERS = 2
_MOST_WAITING = 16
"""More at once are an attack or a mistake: they are told to come back, and hold nobody else up."""
_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # nothing that is mistaken for something else

_Result = TypeVar("_Result")


class TooBusy(Exception):  # noqa: N818 - it says what is the case
    """Too many passwords wait to be checked."""


class Passwords:
    """Hashes and checks passwords in threads of their own."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        # The library's own parameters: RFC 9106 §4, second recommendation (64 MiB).
        self._hasher = hasher or PasswordHasher()
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="argon2")
        self._waiting = 0
        self._nobodys = self._hasher.hash(secrets.token_urlsafe())

    def hash_now(self, password: str) -> str:
        """Hash a password here and now: for commands."""
        return self._hasher.hash(password)

    async def hash(self, password: str) -> str:
        """Return the hash of a password. Raises `TooBusy`."""
        return await self._work(lambda: self._hasher.hash(password))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether a password is the one of a hash. None (no such account) takes as long as a wrong one.

        Raises `TooBusy`.
        """

        def check() -> bool:
            try:
                self._hasher.verify(password_hash or self._nobodys, password)
            except (VerificationError, InvalidHashError):
                return False
            return password_hash is not None

        if len(password) > MOST:
            password_hash, password = None, ""
        return await self._work(check)

    def close(self) -> None:
        """End the threads."""
        self._workers.shutdown(cancel_futures=True)

    async def _work(self, do: Callable[[], _Result]) -> _Result:
        if self._waiting >= _MOST_WAITING:
            raise TooBusy
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._workers, do)
        finally:
            self._waiting -= 1


def weakness(password: str, name: str) -> str:
    """Say by the key of a text why a password is not taken; "" when it is.

    Length is what counts, not kinds of characters (NIST SP 800-63B §5.1.1.2).
    """
    if len(password) < LEAST:
        return "password.too_short"
    if len(password) > MOST:
        return "password.too_long"
    if len(set(password)) < 5:
        return "password.too_simple"
    if password.casefold() in {name.casefold(), name.casefold() * 2, "tollgate" * 2}:
        return "password.too_simple"
    return ""


def one_time_password() -> str:
    """A password of 100 random bits, in groups that can be read out."""
    letters = [secrets.choice(_LETTERS) for _ in range(20)]
    return "-".join("".join(letters[start : start + 5]) for start in range(0, 20, 5))

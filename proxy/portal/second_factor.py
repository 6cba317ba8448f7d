"""The second factor of a log-in: one-time passwords of a time step (RFC 6238), and who has to enter one."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import pyotp

__all__ = ["HalfLogin", "SecondFactors", "Waiting", "new_secret", "otpauth", "step_of"]

_STEP = 30
_DIGITS = 6
_ISSUER = "Tollgate"
_LIFETIME = 300.0
"""Seconds to find the telephone in."""
_MOST = 10_000

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class HalfLogin:
    """A log-in whose password was right."""

    account_id: int
    version: int
    """Of the account: once anything of it was changed, the password has to be entered again."""
    name: str
    """As it was entered: under it failures are counted."""
    following: str
    sign_on: str = ""
    """Who has come from a provider of single sign-on, and gets the account by it."""


class Waiting(Generic[_Value]):
    """What is kept for some minutes, and of too much the newest."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[float, _Value]] = {}

    def put(self, key: str, value: _Value, *, now: float) -> None:
        """Keep it from now on."""
        self._kept.pop(key, None)
        while self._kept and (len(self._kept) >= _MOST or next(iter(self._kept.values()))[0] <= now):
            del self._kept[next(iter(self._kept))]
        self._kept[key] = (now + _LIFETIME, value)

    def get(self, key: str, *, now: float) -> _Value | None:
        """What is kept under a key; None when it is not there any more."""
        found = self._kept.get(key)
        return None if found is None or found[0] <= now else found[1]

    def drop(self, key: str) -> None:
        """Keep it no longer."""
        self._kept.pop(key, None)


@dataclass(frozen=True, slots=True)
class SecondFactors:
    """What waits for a one-time password. Kept in memory: after a restart people begin again."""

    logins: Waiting[HalfLogin] = field(default_factory=Waiting)
    """By what their browser's cookie holds."""
    offered: Waiting[str] = field(default_factory=Waiting)
    """Secrets that were shown and not confirmed yet, by session."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Of who enters one."""

    def begin(self, login: HalfLogin, *, now: float) -> str:
        """Keep a log-in until its second step; returns what its browser has to show then."""
        token = secrets.token_urlsafe(32)
        self.logins.put(token, login, now=now)
        return token

    def offer(self, session: str, *, now: float, make: Callable[[], str]) -> str:
        """Return the secret that a session was offered, or make one."""
        secret = self.offered.get(session, now=now) or make()
        self.offered.put(session, secret, now=now)
        return secret


def new_secret() -> str:
    """Make a secret of 160 bits in base32 (RFC 4226 §4 R6)."""
    return pyotp.random_base32(32)


def otpauth(secret: str, name: str) -> str:
    """Return the address by which programs for one-time passwords take a secret over."""
    return pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name=_ISSUER)


def step_of(secret: str, entered: str, *, now: float) -> int | None:
    """Return the time step that an entered one-time password is of; None when it is wrong.

    One step before and after is taken: clocks differ, and people type slowly (RFC 6238 §5.2).
    """
    digits = "".join(entered[:20].split())
    if not (len(digits) == _DIGITS and digits.isascii() and digits.isdigit()):
        return None
    totp, current = pyotp.TOTP(secret, digits=_DIGITS, interval=_STEP), int(now) // _STEP
    found = None
    for step in (current - 1, current, current + 1):
        if hmac.compare_digest(totp.generate_otp(step), digits):
            found = step
    return found

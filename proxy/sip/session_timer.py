"""Session timers of one dialog (RFC 4028): how long a session lasts without a refresh, and who refreshes it.

A value without I/O: it is told of requests and responses, gives the headers of its own, and says when the
session has to be refreshed (`refresh_at`) and when it has expired (`expires_at`). Every re-INVITE and UPDATE
is a session refresh request, whoever sends it (§3), so the roles may change with each of them.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from proxy.sip.headers import Headers
from proxy.sip.message import Request, Response
from proxy.sip.timers import NEVER

__all__ = ["LEAST_MIN_SE", "Refresher", "SessionExpires", "SessionTimer", "min_se", "refused_interval"]

LEAST_MIN_SE = 90
"""Seconds: no Min-SE is lower, and none means this (§5)."""
_LONGEST = 2**31 - 1
_WAIT = 32.0
"""The BYE goes this long before the session expires, or a third of the interval if that is less (§10)."""


class Refresher(enum.Enum):
    """Who of the two refreshes, as a transaction's roles say it (§4)."""

    UAC = "uac"
    UAS = "uas"


class SessionExpires(NamedTuple):
    """A Session-Expires value (§4)."""

    seconds: int
    refresher: Refresher | None = None

    @classmethod
    def read(cls, headers: Headers) -> SessionExpires | None:
        """Return what a message says; None when it says nothing usable."""
        value = headers.get("Session-Expires")
        if value is None:
            return None
        number, *params = value.split(";")
        seconds = _delta_seconds(number)
        if seconds is None:
            return None
        refresher = None
        for param in params:
            name, _, role = param.partition("=")
            if name.strip().lower() == "refresher":
                refresher = next((one for one in Refresher if one.value == role.strip().lower()), None)
        return cls(seconds, refresher)

    def __str__(self) -> str:
        refresher = "" if self.refresher is None else f";refresher={self.refresher.value}"
        return f"{self.seconds}{refresher}"


def min_se(headers: Headers) -> int:
    """Return the Min-SE of a message, the default where there is none (§5)."""
    value = headers.get("Min-SE")
    seconds = None if value is None else _delta_seconds(value.partition(";")[0])
    return LEAST_MIN_SE if seconds is None else max(LEAST_MIN_SE, seconds)


def supports_timer(headers: Headers) -> bool:
    """Say whether the sender of a message knows session timers (§7.1)."""
    return any(
        tag.strip().lower() == "timer"
        for name in ("Supported", "Require")
        for line in headers.get_all(name)
        for tag in line.split(",")
    )


def refused_interval(request: Request, least: int) -> bool:
    """Say whether a request asks for a shorter interval than is taken: 422 (§9).

    A peer that does not know the extension could do nothing with a 422; what a proxy put into its request is
    then taken as it is.
    """
    asked = SessionExpires.read(request.headers)
    return asked is not None and asked.seconds < least and supports_timer(request.headers)


class SessionTimer:
    """The session timer of one dialog; ``interval`` 0: the gate asks for none, but keeps the peer's."""

    __slots__ = ("_expected", "_least", "_refreshes", "_running", "_wanted", "expires_at", "refresh_at")

    def __init__(self, interval: int, least: int) -> None:
        self._wanted = interval
        self._least = least
        self._expected = False
        """The peer, or a proxy on the way, counts too: without a refresh its session is over."""
        self._running = 0
        self._refreshes = True
        self.refresh_at = NEVER
        """When the gate has to refresh the session."""
        self.expires_at = NEVER
        """When the session is over for want of a refresh."""

    # As UAC -------------------------------------------------------------------------------------------------

    def request_headers(self) -> tuple[tuple[str, str], ...]:
        """Return what an INVITE, re-INVITE or UPDATE of the gate says (§7.1, §7.4)."""
        if not (self._wanted or self._running):
            return ()
        seconds, refresher = self._wanted, None
        if self._running:
            # §7.4: a refresh keeps interval and roles, said from this transaction's side.
            seconds = max(self._running, self._least)
            refresher = Refresher.UAC if self._refreshes else Refresher.UAS
        headers = [("Session-Expires", str(SessionExpires(seconds, refresher)))]
        if self._least > LEAST_MIN_SE:
            headers.append(("Min-SE", str(self._least)))
        return tuple(headers)

    def accepted(self, response: Response, now: float) -> None:
        """Take the 2xx to such a request (§7.2)."""
        granted = SessionExpires.read(response.headers)
        self._expected = granted is not None
        if granted is not None:
            self._run(granted.seconds, refreshes=granted.refresher is not Refresher.UAS, now=now)
        elif self._wanted:
            # The peer's session has no expiration: the gate may refresh all the same, and so learns whether
            # it lives.
            self._run(self._running or self._wanted, refreshes=True, now=now)
        else:
            # Nor does the gate want one.
            self.stop()

    def refused(self, now: float) -> bool:
        """Take a final response to a refresh that neither accepts it nor ends the session (§10).

        Where the 2xx has granted no interval the session has no expiration (§7.2), and an answer of the peer
        says that it lives: the gate asks again after half an interval. False: a refresh is still expected.
        """
        if not self._expected and self._running:
            self._run(self._running, refreshes=True, now=now)
        return not self._expected

    def too_small(self, response: Response) -> bool:
        """Take the Min-SE of a 422 (§7.3); False when it asks for nothing that was not offered."""
        least = min_se(response.headers)
        asked = max(self._wanted, self._running)
        if not asked or least <= asked or least > _LONGEST:
            return False
        self._least = max(self._least, least)
        self._wanted = self._wanted and max(self._wanted, least)
        self._running = self._running and least
        return True

    # As UAS -------------------------------------------------------------------------------------------------

    def answered(self, request: Request, now: float) -> tuple[tuple[str, str], ...]:
        """Return what the 2xx to a request says, and begin to count (§9, table 2)."""
        headers = request.headers
        supported = supports_timer(headers)
        asked = SessionExpires.read(headers)
        self._expected = supported or asked is not None
        if asked is None and not self._wanted:
            self.stop()
            return ()
        seconds = self._running or self._wanted if asked is None else asked.seconds
        if asked is not None and self._wanted:
            # It may be shortened, but not below what the proxies on the way take.
            seconds = min(seconds, max(self._wanted, min_se(headers)))
        seconds = max(seconds, LEAST_MIN_SE)
        if not supported:
            refresher = Refresher.UAS
        elif asked is not None and asked.refresher is not None:
            refresher = asked.refresher
        else:
            refresher = Refresher.UAC
        self._run(seconds, refreshes=refresher is Refresher.UAS, now=now)
        answer = ("Session-Expires", str(SessionExpires(seconds, refresher)))
        return (answer, ("Require", "timer")) if refresher is Refresher.UAC else (answer,)

    # Time ---------------------------------------------------------------------------------------------------

    def _run(self, seconds: int, *, refreshes: bool, now: float) -> None:
        seconds = max(seconds, LEAST_MIN_SE)  # less would be a flood of requests that the peer asks for
        self._running = seconds
        self._refreshes = refreshes
        self.refresh_at = now + seconds / 2 if refreshes else NEVER
        self.expires_at = now + seconds - min(_WAIT, seconds / 3)

    @property
    def deadline(self) -> float:
        """When one of the two is due."""
        return min(self.refresh_at, self.expires_at)

    def refresh_later(self, at: float) -> None:
        """Put a refresh off that can't be sent now, or was refused for the moment."""
        self.refresh_at = at

    def stop(self) -> None:
        """Count no longer: the dialog has ended, or neither side asks for it any more."""
        self._running = 0
        self.refresh_at = self.expires_at = NEVER


def _delta_seconds(text: str) -> int | None:
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 10):
        return None
    return min(int(digits), _LONGEST)

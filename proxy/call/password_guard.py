"""Guessed SIP passwords: wrong ones are counted by source and user, and looked at no more when too many.

Never by user alone: a stranger could lock the user's own phone. Nor by a source that may be forged: a nonce
that was given to this address proves that who guesses gets what is sent there. Wrong credentials with any
other nonce are counted apart; once there are too many of them, such credentials are worth a fresh challenge
and nothing else, which hinders no phone.

A source is an address, and behind it may be many. The one who is known there by more is the user's own phone:
what comes over the flow of a live binding is judged by what was wrong over this flow, and by no other's ban.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from proxy.call import security_log
from proxy.call.security_log import SecurityEvent
from proxy.call.tally import Tally
from proxy.sip.flow import Flow
from proxy.sip.source import WIDER, counted_as

__all__ = ["BanRules", "Heed", "PasswordGuard"]

_MOST_BANS = 10_000


@dataclass(frozen=True, slots=True)
class BanRules:
    """What counts as guessing. Times in seconds."""

    tries: int = 10
    """0: nobody is banned."""
    window: float = 60.0
    ban: float = 300.0
    spared: int = 10
    """So many credentials that call for help are looked at all the same while a ban lasts."""


class Heed(enum.Enum):
    """What credentials are worth before they are looked at."""

    VERIFY = "verify"
    CHALLENGE = "challenge"
    """Nothing: the nonce was not given to this source, and too many such have been wrong."""
    REFUSE = "refuse"
    """Less than nothing: this source has guessed."""


class _Ban:
    """One ban."""

    __slots__ = ("spared", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.spared = 0


class PasswordGuard:
    """The counts and the bans."""

    __slots__ = ("_bans", "_bounds", "_rules", "_wrong")

    def __init__(self, rules: BanRules) -> None:
        self._rules = rules
        self._bounds = (rules.tries, WIDER * rules.tries)
        # Apart: whoever forges sources has as many as he likes, and pushes no genuine one out.
        self._wrong = {genuine: Tally(rules.window, WIDER * rules.tries) for genuine in (True, False)}
        self._bans: dict[bool, dict[str, _Ban]] = {True: {}, False: {}}

    def heed(self, flow: Flow, user: str, *, genuine: bool, own: bool = False, now: float) -> Heed:
        """Say whether credentials are to be verified; ``genuine``: their nonce was given to this source,
        ``own``: a phone of the user is registered over this very flow.
        """
        if genuine:
            keys = _keys(flow, user, own=own)
            return Heed.REFUSE if self._banned(keys, now, genuine=True) else Heed.VERIFY
        # Who is banned learns nothing by an old nonce of another address either.
        banned = any(self._banned(_keys(flow, user), now, genuine=kind) for kind in (True, False))
        return Heed.CHALLENGE if banned else Heed.VERIFY

    def spares(self, flow: Flow, user: str, *, own: bool = False, now: float) -> bool:
        """Say whether one more of those that are refused is to be looked at, since it calls for help."""
        bans = self._banned(_keys(flow, user, own=own), now, genuine=True)
        for ban in bans:
            ban.spared += 1
        return all(ban.spared <= self._rules.spared for ban in bans)

    def wrong(
        self, flow: Flow, user: str, method: str, *, genuine: bool, own: bool = False, now: float
    ) -> None:
        """Count credentials that were no proof; those that a ban has spared make it no longer."""
        if not self._rules.tries:
            return
        over = self._count(_keys(flow, user), now, genuine=genuine)
        if genuine and own:
            over = self._count(_keys(flow, user, own=True), now, genuine=True) or over
        if genuine:
            event = SecurityEvent.SOURCE_BANNED if over else SecurityEvent.AUTH_FAILED
            security_log.note(event, flow.source, transport=flow.transport, method=method, user=user)

    def _count(self, keys: tuple[str, ...], now: float, *, genuine: bool) -> bool:
        """Count one more for each; returns whether that was one too many."""
        over = False
        if not self._banned(keys, now, genuine=genuine):
            for key, tries in zip(keys, self._bounds, strict=False):
                if self._wrong[genuine].note(key, now) >= tries:
                    over = True
                    self._wrong[genuine].forget(key)
                    self._ban(self._bans[genuine], key, now)
        return over

    def _banned(self, keys: tuple[str, ...], now: float, *, genuine: bool) -> list[_Ban]:
        bans = self._bans[genuine]
        return [ban for key in keys if (ban := bans.get(key)) is not None and ban.until > now]

    def _ban(self, bans: dict[str, _Ban], key: str, now: float) -> None:
        bans.pop(key, None)
        if len(bans) >= _MOST_BANS:
            del bans[next(iter(bans))]
        bans[key] = _Ban(now + self._rules.ban)


def _keys(flow: Flow, user: str, *, own: bool = False) -> tuple[str, ...]:
    """Return under which names tries are counted; ``own``: those over the flow of the user's own phone."""
    names = (f"{flow.transport} {flow.source}",) if own else counted_as(flow.remote_host)
    return tuple(f"{name} {user[:64]}" for name in names)

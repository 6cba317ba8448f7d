"""Guessed SIP passwords: wrong ones are counted by source and user, and looked at no more when too many.

Never by user alone: a stranger could lock the user's own phone. Nor by a source that may be forged: a nonce
that was given to this address proves that who guesses gets what is sent there. Wrong credentials with any
other nonce are counted apart; once there are too many of them, such credentials are worth a fresh challenge
and nothing else, which hinders no phone.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from ipaddress import IPv6Address

from proxy.call import security_log
from proxy.call.security_log import SecurityEvent
from proxy.call.tally import Tally
from proxy.sip.flow import Flow

__all__ = ["BanRules", "Heed", "PasswordGuard"]

_MOST_BANS = 10_000
_WIDER = 10
"""Who has a whole network of IPv6 addresses has so many times the tries, and not 2**64 times."""


@dataclass(frozen=True, slots=True)
class BanRules:
    """What counts as guessing. Times in seconds."""

    tries: int = 10
    """0: nobody is banned."""
    window: float = 60.0
    ban: float = 300.0


class Heed(enum.Enum):
    """What credentials are worth before they are looked at."""

    VERIFY = "verify"
    CHALLENGE = "challenge"
    """Nothing: the nonce was not given to this source, and too many such have been wrong."""
    REFUSE = "refuse"
    """Less than nothing: this source has guessed."""


class PasswordGuard:
    """The counts and the bans."""

    __slots__ = ("_bans", "_bounds", "_rules", "_wrong")

    def __init__(self, rules: BanRules) -> None:
        self._rules = rules
        self._bounds = (rules.tries, _WIDER * rules.tries)
        self._wrong = Tally(rules.window, _WIDER * rules.tries)
        self._bans: dict[str, float] = {}

    def heed(self, flow: Flow, user: str, *, genuine: bool, now: float) -> Heed:
        """Say whether credentials are to be verified; ``genuine``: their nonce was given to this source."""
        if all(self._bans.get(key, now) <= now for key in _keys(flow, user, genuine)):
            return Heed.VERIFY
        return Heed.REFUSE if genuine else Heed.CHALLENGE

    def wrong(self, flow: Flow, user: str, method: str, *, genuine: bool, now: float) -> None:
        """Count credentials that were no proof."""
        if not self._rules.tries:
            return
        over = False
        for key, tries in zip(_keys(flow, user, genuine), self._bounds, strict=False):
            if self._wrong.note(key, now) >= tries:
                over = True
                self._ban(key, now)
        if genuine:
            event = SecurityEvent.SOURCE_BANNED if over else SecurityEvent.AUTH_FAILED
            security_log.note(event, flow.source, transport=flow.transport, method=method, user=user)

    def _ban(self, key: str, now: float) -> None:
        self._wrong.forget(key)
        self._bans.pop(key, None)
        if len(self._bans) >= _MOST_BANS:
            del self._bans[next(iter(self._bans))]
        self._bans[key] = now + self._rules.ban


def _keys(flow: Flow, user: str, genuine: bool) -> tuple[str, ...]:
    """Return under which names tries are counted: the address, and in IPv6 the network that its owner has."""
    what, host = f"{genuine:d} {user[:64]}", flow.remote_host
    address = IPv6Address(host.partition("%")[0]) if ":" in host else None
    if address is None or address.ipv4_mapped is not None:
        return (f"{host} {what}",)
    return f"{host} {what}", f"{int(address) >> 64:x}/64 {what}"

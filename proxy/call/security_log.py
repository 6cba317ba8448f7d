"""Lines of the log that other programs act on: one form for all of them, whatever a stranger sends.

``security event=auth_failed source=203.0.113.66 port=5060 transport=UDP method=REGISTER user=204``

The keys come in this order and the source is the socket's, never what a message says. Values hold letters,
digits and ``-._~+:@`` only, everything else is percent-encoded, so that no line can be made to look like
another. ``config/fail2ban`` reads them.
"""

from __future__ import annotations

import enum
import logging
from urllib.parse import quote

__all__ = ["SecurityEvent", "note"]

_log = logging.getLogger(__name__)

_LONGEST = 64


class SecurityEvent(enum.StrEnum):
    """What is told."""

    AUTH_FAILED = "auth_failed"
    """Credentials that were no proof, by somebody who has got a challenge at this address."""
    SOURCE_BANNED = "source_banned"
    """Too many of them: those of this source for this user are looked at no more for a while."""
    CALLER_LOCKED = "caller_locked"
    """Too many wrong codes of one caller."""
    CODES_GUESSED = "codes_guessed"
    """Many wrong codes of many callers."""
    LIMIT_REACHED = "limit_reached"
    """A call was refused because of a bound of its group."""


def note(event: SecurityEvent, source: str, **facts: str | int) -> None:
    """Write one line; ``source`` is ``address:port`` of the socket, or "" where there is none."""
    host, _, port = source.rpartition(":")
    told = {"source": host.strip("[]"), "port": port, **facts}
    _log.warning("security event=%s %s", event.value, " ".join(f"{k}={_clean(v)}" for k, v in told.items()))


def _clean(value: str | int) -> str:
    return quote(str(value)[:_LONGEST], safe="+:@", errors="replace") or "-"

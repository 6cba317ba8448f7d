"""Which headers and bodies cross from one leg to the other.

A B2BUA is a user agent on both sides (RFC 7092 §3): what belongs to a hop, a dialog, a transaction, a
capability or a credential of one leg never crosses. Trust headers (RFC 3325 and its relatives) cross
only from a trusted side to a trusted side, headers that begin with ``X-`` if they are allowed by name. All
others, unknown headers first of all, cross unchanged. Where an emergency call comes from always crosses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from proxy.sip.headers import Headers, canonical_name

__all__ = [
    "Crossing",
    "XHeaders",
    "is_unknown_privacy_critical",
    "privacy_tokens",
    "quote_display_name",
    "wants_anonymity",
]

_NEVER_NAMES = """
    Via Record-Route Route Contact Max-Forwards From To Call-ID CSeq Path Service-Route RSeq RAck
    Timestamp Expires Min-Expires Retry-After Max-Breadth Flow-Timer
    Content-Length Content-Type Content-Encoding Content-Disposition Content-Language Content-ID MIME-Version
    Authorization Proxy-Authorization WWW-Authenticate Proxy-Authenticate Authentication-Info
    Proxy-Authentication-Info Security-Client Security-Server Security-Verify
    Require Proxy-Require Supported Unsupported Allow Allow-Events Accept Accept-Encoding User-Agent
    Server Session-Expires Min-SE Accept-Contact Reject-Contact Request-Disposition Recv-Info
    Event Subscription-State Replaces Join Target-Dialog Refer-To Refer-Sub Referred-By
    P-Preferred-Identity P-Preferred-Service X-Tollgate-Loop
"""
_NEVER = frozenset(map(canonical_name, _NEVER_NAMES.split()))
"""By line: hop, dialog and transaction (RFC 3261 §20); the body's, which is written anew; credentials; each
leg's own capabilities; other dialogs; wishes about identity, which the gate's own statement answers; the mark
of a call that has been here (`proxy.call.loops`), which each gate renews."""

_LOCATION = frozenset({"Geolocation", "Geolocation-Routing"})
_EMERGENCY = _LOCATION | {"Call-Info", "Priority", "Resource-Priority"}
"""What a caller in need has to say (RFC 6442, RFC 7852 §3, RFC 3261 §20.26, RFC 4412): nothing drops it."""

_TRUST_NAMES = """
    Remote-Party-ID Diversion History-Info Identity Identity-Info Charge-Info Relayed-Charge
    Origination-Id Attestation-Info Cellular-Network-Info Additional-Identity Answer-Mode Priv-Answer-Mode
    Resource-Priority
"""
_TRUST = frozenset(map(canonical_name, _TRUST_NAMES.split())) | _LOCATION
"""What only a trusted side may say, and only a trusted side may hear: who calls and where from, who pays,
what goes before others' calls (RFC 4412), and that a phone is to answer by itself (RFC 5373 §6), which would
let an outsider listen. So is every header that begins with ``P-``, known here or not: they are meant for
those who trust each other (RFC 3427 §4.1), and there will be more."""

_ALERTING = frozenset(map(canonical_name, ("Alert-Info", "P-Auto-Answer", "P-Alerting-Mode")))
"""How the callee's phone rings: from an address of the caller's choice, or not at all, as most phones answer
by themselves if it says so (RFC 3261 §20.4 warns of it)."""
_ANSWERS = re.compile("answer|intercom", re.IGNORECASE)
"""Of Call-Info what makes phones answer by themselves (``;answer-after=0``, ``;info=alert-autoanswer``)."""

_LOCATION_BODY = "application/pidf+xml"
_EMERGENCY_BODIES = "application/emergencycalldata."
_TRUST_BODIES = frozenset(
    {_LOCATION_BODY, "application/isup", "application/qsig", "application/rs-metadata+xml"}
)
"""Parts of bodies to which the same applies: location, and the caller's number as the telephone network has
it."""

_KNOWN_PRIVACY = frozenset({"header", "session", "user", "none", "critical", "id", "history", "full"})
"""RFC 3323 §4.2, RFC 3325 §9.3, RFC 7044 §5; "full" is of a draft that phones still speak."""

_INFORMATIONAL = frozenset(
    map(canonical_name, ("Subject", "Call-Info", "Organization", "Reply-To", "In-Reply-To"))
)
"""What user-level privacy removes beside From (RFC 3323 §5.3); User-Agent never crosses."""


@dataclass(frozen=True, slots=True)
class XHeaders:
    """Which headers that begin with ``X-`` cross: whole names and beginnings, all in lower case."""

    names: frozenset[str] = frozenset()
    beginnings: tuple[str, ...] = ()

    @staticmethod
    def of(patterns: Iterable[str]) -> XHeaders:
        """Read patterns: a name, or the beginning of names with ``*`` behind it."""
        lower = [pattern.lower() for pattern in patterns]
        return XHeaders(
            frozenset(pattern for pattern in lower if not pattern.endswith("*")),
            tuple(pattern[:-1] for pattern in lower if pattern.endswith("*")),
        )

    def allow(self, name: str) -> bool:
        """Say whether a header of this name crosses."""
        lower = name.lower()
        return lower in self.names or lower.startswith(self.beginnings)


@dataclass(frozen=True, slots=True)
class Crossing:
    """What passes between the two sides of one call, in both directions."""

    trusted: bool
    """Both sides are trusted."""
    dropped: frozenset[str] = frozenset()
    """Canonical names that one of them does not want."""
    x_headers: XHeaders = field(default_factory=XHeaders)
    emergency: bool = False
    alerts: bool = True
    """The caller may say how the callee's phone rings, and that it answers by itself."""

    def headers(self, headers: Headers, *, without: str = "") -> list[tuple[str, str]]:
        """Return what crosses, in order; ``without`` names one more header (canonical name) to leave out."""
        hidden = self._hidden(headers)
        crossing: list[tuple[str, str]] = []
        for name, value, line in headers.entries():
            if name in _NEVER or name == without or not self._passes(name, hidden):
                continue
            if not self.alerts and (name in _ALERTING or (name == "Call-Info" and _ANSWERS.search(value))):
                continue
            # The name as it was written: an unknown header passes unchanged.
            crossing.append((line.partition(":")[0].rstrip(), value))
        return crossing

    def _hidden(self, headers: Headers) -> frozenset[str]:
        """Return what else the caller asks to hide."""
        if "Privacy" not in headers or "user" not in privacy_tokens(headers.get_all("Privacy")):
            return frozenset()
        return _INFORMATIONAL

    def _passes(self, name: str, hidden: frozenset[str]) -> bool:
        if self.emergency and name in _EMERGENCY:
            return True
        if name in self.dropped or name in hidden:
            return False
        if not self.trusted and (name in _TRUST or (name[:2] == "P-" and name not in _ALERTING)):
            return False
        return name[:2] != "X-" or self.x_headers.allow(name)

    def parts(self, media_type: str, required: bool) -> bool:
        """Say whether a body part of this type (lower case) crosses, the session description aside.

        ``required``: who does not understand it has to refuse the request (RFC 5621 §8.1). Of an emergency
        call that can't be had but for what helps to find the caller (RFC 6442, RFC 7852). A multipart crosses
        as it is where everything in it does.
        """
        if media_type.startswith("multipart/"):
            return self.trusted and not self.emergency and "Geolocation" not in self.dropped
        if self.emergency:
            helps = media_type == _LOCATION_BODY or media_type.startswith(_EMERGENCY_BODIES)
            return helps or not required
        if media_type == _LOCATION_BODY and "Geolocation" in self.dropped:
            return False
        return self.trusted or media_type not in _TRUST_BODIES


def privacy_tokens(privacy: Iterable[str]) -> set[str]:
    """Return the priv-values of Privacy headers in lower case (RFC 3323 §4.2)."""
    found = {token.strip().lower() for value in privacy for token in value.replace(",", ";").split(";")}
    found.discard("")
    return found


def is_unknown_privacy_critical(privacy: Iterable[str]) -> bool:
    """Tell whether Privacy asks for more than is known here and calls that critical (RFC 3323 §5).

    What is known is given: a B2BUA that relays media hides addresses by itself (header, session), and From
    and identities go by `Crossing` and the trunk's settings.
    """
    tokens = privacy_tokens(privacy)
    return "critical" in tokens and not tokens <= _KNOWN_PRIVACY


def wants_anonymity(privacy: Iterable[str]) -> bool:
    """Tell whether Privacy values ask to hide who calls (RFC 3323 §4.2, RFC 3325 §9.3)."""
    return not privacy_tokens(privacy).isdisjoint({"id", "user", "full", "header"})


def quote_display_name(name: str) -> str:
    """Return a display name as a quoted-string, safe in any header (RFC 3261 §25.1)."""
    clean = "".join(char for char in name if char >= " " and char != "\x7f")
    return '"' + clean.replace("\\", "\\\\").replace('"', '\\"') + '"'

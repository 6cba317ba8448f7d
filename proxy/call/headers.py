"""Which headers cross from one leg to the other, and what the B leg says about the caller.

A B2BUA is a user agent on both sides (RFC 7092 §3): what belongs to a hop, a dialog, a transaction, a
capability or a credential of one leg never crosses. Trust headers (RFC 3325 and its relatives) cross
only from a trusted side to a trusted side. Everything else, unknown headers first of all, crosses
unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable

from proxy.sip.headers import Headers, canonical_name

__all__ = ["crossing_headers", "quote_display_name", "wants_anonymity"]

_NEVER_NAMES = """
    Via Record-Route Route Contact Max-Forwards From To Call-ID CSeq Path Service-Route RSeq RAck
    Timestamp Expires Min-Expires Retry-After Max-Breadth Flow-Timer
    Content-Length Content-Type Content-Encoding Content-Disposition Content-Language MIME-Version
    Authorization Proxy-Authorization WWW-Authenticate Proxy-Authenticate Authentication-Info
    Proxy-Authentication-Info Security-Client Security-Server Security-Verify
    Require Proxy-Require Supported Unsupported Allow Allow-Events Accept Accept-Encoding User-Agent
    Server Session-Expires Min-SE Accept-Contact Reject-Contact Request-Disposition Recv-Info
    Event Subscription-State Replaces Join Target-Dialog Refer-To Refer-Sub Referred-By
    P-Preferred-Identity P-Preferred-Service
"""
_NEVER = frozenset(map(canonical_name, _NEVER_NAMES.split()))
"""By line: hop, dialog and transaction (RFC 3261 §20); the body's, which is written anew; credentials; each
leg's own capabilities; other dialogs; wishes about identity, which the gate's own statement answers."""

_TRUST_NAMES = """
    P-Asserted-Identity P-Asserted-Service Remote-Party-ID Diversion History-Info Identity Identity-Info
    P-Charging-Vector P-Charging-Function-Addresses P-Access-Network-Info P-Visited-Network-ID
    P-Served-User P-Profile-Key P-Called-Party-ID P-Associated-URI P-User-Database P-Early-Media
    P-Private-Network-Indication P-DCS-Billing-Info P-DCS-LAES P-DCS-OSPS P-DCS-Redirect
    P-DCS-Trace-Party-ID Origination-Id Attestation-Info Cellular-Network-Info Additional-Identity
"""
_TRUST = frozenset(map(canonical_name, _TRUST_NAMES.split()))
"""What only a trusted side may say, and only a trusted side may hear."""


def crossing_headers(headers: Headers, *, trusted: bool, without: str = "") -> list[tuple[str, str]]:
    """Return what crosses to the other leg, in order; ``trusted``: both sides are trusted.

    ``without`` names one more header (canonical name) to leave out.
    """
    crossing: list[tuple[str, str]] = []
    for name, value, line in headers.entries():
        if name in _NEVER or name == without or (not trusted and name in _TRUST):
            continue
        # The name as it was written: an unknown header passes unchanged.
        crossing.append((line.partition(":")[0].rstrip(), value))
    return crossing


def wants_anonymity(privacy: Iterable[str]) -> bool:
    """Tell whether Privacy values ask to hide who calls (RFC 3323 §4.2, RFC 3325 §9.3)."""
    for value in privacy:
        for token in value.replace(",", ";").split(";"):
            if token.strip().lower() in {"id", "user", "full", "header"}:
                return True
    return False


def quote_display_name(name: str) -> str:
    """Return a display name as a quoted-string, safe in any header (RFC 3261 §25.1)."""
    clean = "".join(char for char in name if char >= " " and char != "\x7f")
    return '"' + clean.replace("\\", "\\\\").replace('"', '\\"') + '"'

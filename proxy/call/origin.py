"""Where a call comes from, as far as the INVITE of its B leg shows it besides the route."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from proxy.call.config import Trunk
from proxy.sip.message import Request
from proxy.sip.spec import InviteSpec

__all__ = ["Diversion", "Origin"]

_REASONS = frozenset(
    {
        "away",
        "deflection",
        "do-not-disturb",
        "follow-me",
        "no-answer",
        "out-of-service",
        "time-of-day",
        "unavailable",
        "unconditional",
        "user-busy",
    }
)


class Diversion(NamedTuple):
    """One forwarding on the way of a call (RFC 5806 §4)."""

    by: str
    """The user who forwarded: extension or number."""
    reason: str

    def header(self, host: str) -> tuple[str, str]:
        """Return the header for a trunk whose URIs have this host."""
        reason = self.reason if self.reason in _REASONS else "unknown"
        return "Diversion", f"<sip:{self.by}@{host}>;reason={reason};counter=1"


@dataclass(frozen=True, slots=True)
class Origin:
    """What crosses from the caller's side, and what the gate adds."""

    invite: Request
    """Headers and bodies cross from it."""
    added: tuple[tuple[str, str], ...] = ()
    """Further headers for everybody."""
    diversions: tuple[Diversion, ...] = ()
    """Who has forwarded the call, the latest first; a trusted trunk is told."""
    referred_by: str = ""
    """Number of who has transferred the caller; a trusted trunk is told (RFC 3892)."""
    forwards: int = 0
    """How often it was forwarded or transferred within the gate."""

    def dress(self, spec: InviteSpec, trunk: Trunk) -> InviteSpec:
        """Add to an INVITE what the gate says of itself; its own diversions stand above those that cross."""
        said: list[tuple[str, str]] = []
        if trunk.trusted:
            host = trunk.from_host or trunk.host
            said += [diversion.header(host) for diversion in self.diversions]
            if self.referred_by:
                said.append(("Referred-By", f"<sip:{self.referred_by}@{host}>"))
        said = [header for header in said if header[0] not in trunk.drop_headers]
        return replace(spec, headers=(*said, *spec.headers, *self.added))

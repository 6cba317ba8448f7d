"""Where a call comes from, as far as the INVITE of its B leg shows it besides the route."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from proxy.call.config import Trunk
from proxy.sip.headers import canonical_name
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


_CAUSES = {"user-busy": 486, "no-answer": 408, "deflection": 480, "unavailable": 503, "out-of-service": 503}
"""What History-Info says in place of these reasons (RFC 4458 §2); 302 for all others."""
_DEFLECTED_ALERTING = 487
"""Of a deflection while the phone rang; the other one is immediate."""

_HISTORY = "History-Info"
_INDEX = re.compile(r";[ \t]*index[ \t]*=[ \t]*([0-9]{1,5}(?:\.[0-9]{1,5}){0,20})(?![0-9.])", re.IGNORECASE)


class Diversion(NamedTuple):
    """One forwarding on the way of a call (RFC 5806 §4)."""

    by: str
    """The user who forwarded: extension or number."""
    reason: str
    rang: bool = False
    """The phone rang before."""

    def header(self, host: str) -> tuple[str, str]:
        """Return the header for a trunk whose URIs have this host."""
        reason = self.reason if self.reason in _REASONS else "unknown"
        return "Diversion", f"<sip:{self.by}@{host}>;reason={reason};counter=1"

    @property
    def cause(self) -> int:
        """The reason in the words of History-Info."""
        if self.rang and self.reason == "deflection":
            return _DEFLECTED_ALERTING
        return _CAUSES.get(self.reason, 302)


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
        history = self._history(spec, trunk)
        return spec._replace(headers=(*said, *spec.headers, *history, *self.added))

    def _history(self, spec: InviteSpec, trunk: Trunk) -> list[tuple[str, str]]:
        """Return the entries of who has forwarded, and of the target (RFC 7044 §10)."""
        if not self.diversions or not trunk.trusted or _HISTORY in trunk.drop_headers:
            return []
        before = [value for name, value in spec.headers if canonical_name(name) == _HISTORY]
        index = _last_index(before)
        host, forwards = trunk.from_host or trunk.host, self.diversions[::-1]
        targets = [*(f"sip:{diversion.by}@{host}" for diversion in forwards), spec.uri]
        entries: list[tuple[str, str]] = []
        for target, cause in zip(targets, (0, *(diversion.cause for diversion in forwards)), strict=True):
            parent, index = index, f"{index}.1" if index else "1"
            entry = (
                f"<{target};cause={cause}>;index={index};mp={parent}"
                if cause
                else f"<{target}>;index={index}"
            )
            entries.append((_HISTORY, entry))
        return entries


def _last_index(entries: list[str]) -> str:
    """Return the index of the last entry that has crossed, or "" where there is none that can be read."""
    found = _INDEX.findall(entries[-1]) if entries else []
    return found[-1] if found else ""

"""What all pages of one portal share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from proxy.policy import NumberPlan
from proxy.portal.api.limits import RateLimits
from proxy.portal.emergencies import Emergencies
from proxy.portal.gate_link import GateLink
from proxy.portal.passwords import Passwords
from proxy.portal.rendered import Rendered
from proxy.portal.second_factor import SecondFactors
from proxy.portal.single_sign_on import SingleSignOn
from proxy.portal.turns import Turns
from proxy.portal.uploads import Uploads
from proxy.portal.usage_exports import Exports
from proxy.portal.webhook_doubts import WebhookDoubts
from proxy.settings_portal import PortalSettings
from proxy.store import Store
from proxy.store.call_events import Site

__all__ = ["Feed", "Portal"]


@dataclass(frozen=True, slots=True)
class Feed:
    """How open pages are told of changes. Seconds."""

    every: float = 1.0
    lasts: float = 30.0
    """One answer; the browser then asks again, and has to be logged in still."""
    quiet: float = 15.0
    """After so long a line is sent that says nothing: web servers between end a connection that is silent."""


@dataclass(frozen=True, slots=True)
class Portal:
    """The portal as its pages see it."""

    settings: PortalSettings
    store: Store
    plan: NumberPlan
    gate: GateLink
    passwords: Passwords
    second_factors: SecondFactors = field(default_factory=SecondFactors)
    sign_on: SingleSignOn | None = None
    """The provider that people log in at; None without one."""
    mails: bool = False
    """A mail server is set."""
    uploads: Uploads = field(default_factory=Uploads)
    exports: Exports = field(default_factory=Exports)
    feed: Feed = Feed()
    site: Site = field(default_factory=Site)
    emergencies: Emergencies = field(default_factory=Emergencies)
    rendered: Rendered = field(default_factory=Rendered)
    verifying: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    """Held while the chain of the audit log is read."""
    reports: Turns = field(default_factory=Turns)
    """At adding calls up."""
    clock: Callable[[], float] = time.time
    """UTC seconds since the epoch."""
    realm: str = "tollgate"
    """Of the passwords of users."""
    prompts: Path | None = None
    """Folder of own recordings, where the gate looks for them."""
    default_groups: Mapping[str, str | None] = field(default_factory=dict)
    """By peer of the settings (and `ALL_PHONES`), the group of its callers that match no user."""
    webhook_doubts: WebhookDoubts | None = None
    """Why receivers of events can't be told; None: nobody asks."""
    limits: RateLimits = field(default_factory=RateLimits)
    """How often programs may ask."""

    def close(self) -> None:
        """End its threads and forget what was uploaded."""
        self.passwords.close()
        self.uploads.close()

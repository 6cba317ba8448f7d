"""What all pages of one portal share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.policy import NumberPlan
from proxy.portal.gate_link import GateLink
from proxy.portal.passwords import Passwords
from proxy.portal.uploads import Uploads
from proxy.settings_portal import PortalSettings
from proxy.store import Store

__all__ = ["Portal"]


@dataclass(frozen=True, slots=True)
class Portal:
    """The portal as its pages see it."""

    settings: PortalSettings
    store: Store
    plan: NumberPlan
    gate: GateLink
    passwords: Passwords
    uploads: Uploads = field(default_factory=Uploads)
    clock: Callable[[], float] = time.time
    """UTC seconds since the epoch."""

    def close(self) -> None:
        """End its threads and forget what was uploaded."""
        self.passwords.close()
        self.uploads.close()

"""Where else a request within a dialog may go, should its address fail (RFC 3263 §4.3).

The way of such a request is that of a name, in the peer's Contact or in a route, and the name may have more
addresses than one. What fails at one of them, or finds nothing but silence there for `PATIENCE`, goes to the
next: to the network as a new transaction with a branch of its own, to the TU as the one that it began. All
of them together last no longer than one would, 64*T1, so that nothing outlives its Timer B or F.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from proxy.sip.large import Outgoing
from proxy.sip.routing import Target

__all__ = ["PATIENCE", "Further"]

PATIENCE: Final = 8
"""In T1: four datagrams have gone out by then. The next trunk is tried after as long."""


class Further(NamedTuple):
    """The request as it goes out by its usual transport, and the addresses that are left for it, in order."""

    usual: Outgoing
    targets: tuple[Target, ...]

"""INVITEs that end in every state before anybody talks, and the ports that they leave."""

from __future__ import annotations

import json
import math

from reliability.figures import Figure
from reliability.mixed_calls import UNFINISHED_KINDS
from reliability.soak import Load, soak_here
from tests.support.ports import rtp_ports

__all__ = ["unfinished"]

INVITES = 10_000
RATE = 30.0
_EARLY = {"name": "pbx", "networks": ["127.0.0.1"], "default_group": "Open", "code_mode": "early"}


def unfinished(invites: float, rate: float, *, seconds: float = math.inf) -> Load:
    """Return a load of such INVITEs on a gate whose timers are short and whose ports are few.

    It asks for codes in early media, so that a caller can cancel at the prompt, too.
    """
    return Load(
        seconds,
        invites,
        rate,
        UNFINISHED_KINDS,
        timers="timers.t1 = 0.05\ntimers.t2 = 0.2\ntimers.t4 = 0.2\ntimers.ring_timeout = 1\n",
        media_ports=rtp_ports(size=398),
        environment={"TOLLGATE_PEERS": json.dumps([_EARLY])},
    )


def run(seconds: float | None = None) -> list[Figure]:
    """Place 10,000, or as many as there is time for."""
    return soak_here(unfinished(INVITES, RATE, seconds=seconds or math.inf)).figures(17)

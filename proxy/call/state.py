"""The states of a call; what moves between them is in `proxy.call.call`, and nowhere else."""

from __future__ import annotations

import enum

__all__ = ["CallState"]


class CallState(enum.Enum):
    """How far a call has come."""

    OPENING = "opening"
    """Waiting for the caller's ports, or for the ACK of a late offer."""
    ASKING = "asking"
    """The gate asks for the code."""
    DIALLING = "dialling"
    RINGING = "ringing"
    CONFIRMING = "confirming"
    """B has answered; the record of that is on its way to the disk."""
    TALKING = "talking"
    TRANSFERRING = "transferring"
    """One party has referred the other to somebody else: only the transferor is left in this call."""
    ANNOUNCING = "announcing"
    """The call has failed, and an answered caller is told why."""
    ENDED = "ended"
    """Both legs are released; ports are given back before the final record is written."""

"""Dialogs: the peer-to-peer relation between two UAs (RFC 3261 §12)."""

from __future__ import annotations

import enum

from proxy.sip.flow import Flow

__all__ = ["Dialog", "DialogState"]


class DialogState(enum.Enum):
    """States of a dialog (RFC 3261 §12)."""

    EARLY = "Early"
    CONFIRMED = "Confirmed"
    TERMINATED = "Terminated"


class Dialog:
    """State of one dialog. The endpoint alone changes it; ``owner`` belongs to the TU."""

    __slots__ = (
        "call_id",
        "flow",
        "invite_pending",
        "local_cseq",
        "local_tag",
        "owner",
        "remote_cseq",
        "remote_tag",
        "remote_target",
        "route_set",
        "state",
        "uac",
    )

    def __init__(self) -> None:
        self.state = DialogState.EARLY
        self.owner: object = None
        """Whoever the TU put here: events find their leg by it."""
        self.call_id = ""
        self.local_tag = ""
        self.remote_tag = ""
        self.remote_target = ""
        """URI of the peer's Contact: Request-URI of our requests."""
        self.route_set: tuple[str, ...] = ()
        self.local_cseq = 0
        self.remote_cseq = 0
        self.uac = False
        """Whether our INVITE made it."""
        self.flow: Flow
        """The way the peer's last message came."""
        self.invite_pending = False
        """Whether an INVITE of either side has no final response yet (RFC 3261 §14.1)."""

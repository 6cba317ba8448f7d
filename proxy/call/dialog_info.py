"""What a busy lamp shows: the dialogs of one user as a document of RFC 4235.

Documents are always full: each says all there is, so that one that was lost does no harm (§3.3 lets the
notifier choose). Call-ID and tags are left out, as is the SDP: who knows them could take the call over.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

__all__ = ["MEDIA_TYPE", "DialogInfo", "DialogStatus", "document"]

MEDIA_TYPE = "application/dialog-info+xml"

_NAMESPACE = "urn:ietf:params:xml:ns:dialog-info"


class DialogStatus(enum.Enum):
    """States of a dialog as others see it (RFC 4235 §3.7.1); "proceeding" is "trying" here."""

    TRYING = "trying"
    EARLY = "early"
    CONFIRMED = "confirmed"
    TERMINATED = "terminated"


@dataclass(frozen=True, slots=True)
class DialogInfo:
    """One dialog of a user."""

    id: str
    """Names it among the user's dialogs as long as it lasts."""
    status: DialogStatus
    initiator: bool
    """The user places the call; otherwise it is called."""
    remote: str = ""
    """URI of the other party; "" when it is not told."""
    remote_name: str = ""


def document(entity: str, version: int, dialogs: Iterable[DialogInfo]) -> bytes:
    """Print the document about ``entity``, a URI; ``version`` rises by one within a subscription (§4.1)."""
    entity = quoteattr(_clean(entity))
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<dialog-info xmlns="{_NAMESPACE}" version="{version}" state="full" entity={entity}>',
    ]
    for dialog in dialogs:
        direction = "initiator" if dialog.initiator else "recipient"
        lines += [
            f'<dialog id={quoteattr(dialog.id)} direction="{direction}">',
            f"<state>{dialog.status.value}</state>",
            *_remote(dialog),
            "</dialog>",
        ]
    lines += ["</dialog-info>", ""]
    return "\n".join(lines).encode()


def _remote(dialog: DialogInfo) -> Iterable[str]:
    if dialog.remote:
        name = f" display={quoteattr(_clean(dialog.remote_name))}" if dialog.remote_name else ""
        yield f"<remote><identity{name}>{escape(_clean(dialog.remote))}</identity></remote>"


def _clean(text: str) -> str:
    """Drop what XML can't hold: names come from peers, control characters and broken UTF-8 with them."""
    return "".join(character for character in text if character.isprintable())

"""Errors of every room, in one place.

TollgateError
├── LocalProtocolError       our own code asked for something the protocol forbids: a bug here
├── RemoteProtocolError      a peer sent something it may not; carries the SIP status to answer with
├── JournalUnavailable       the disk gives no journal at the moment; it is tried again
└── ConfigurationError       a setting, file or command argument is wrong; names the field and the fix
"""

from __future__ import annotations

__all__ = [
    "ConfigurationError",
    "JournalUnavailable",
    "LocalProtocolError",
    "RemoteProtocolError",
    "TollgateError",
]


class TollgateError(Exception):
    """Base of all errors that this project raises on purpose."""


class LocalProtocolError(TollgateError):
    """The local user of a core asked for something that its state does not allow."""


class RemoteProtocolError(TollgateError):
    """A peer broke its protocol.

    ``status_hint`` is the SIP status (400-699) that answers it when an answer is due at all.
    """

    def __init__(self, message: str, *, status_hint: int = 400) -> None:
        super().__init__(message)
        self.status_hint = status_hint


class JournalUnavailable(TollgateError):  # noqa: N818 - it says what is the case
    """Call records can't be made durable at the moment: no directory, no room, a disk that fails."""


class ConfigurationError(TollgateError):
    """A setting or an input of an administrator is wrong; the text names the field and the fix."""

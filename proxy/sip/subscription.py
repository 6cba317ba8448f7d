"""What SUBSCRIBE and NOTIFY say: event packages, the state of a subscription, how long it lasts.

RFC 6665 §4, §8.2 (Event, Subscription-State, Allow-Events), §4.2.1.1 (intervals); RFC 3261 §20.1 (Accept).
Values and pure functions; the machines that use them are the TU's.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from proxy.errors import RemoteProtocolError
from proxy.sip.grammar import is_token, parse_params, unquote
from proxy.sip.inspection import Refusal
from proxy.sip.message import Message, Request
from proxy.sip.seconds import delta_seconds

__all__ = [
    "EventType",
    "Interval",
    "SubscriptionState",
    "SubscriptionStatus",
    "accepts",
]

_HOUR = 3_600
_MAX_ID = 128


@dataclass(frozen=True, slots=True)
class EventType:
    """The value of an Event header (§8.2.1)."""

    package: str
    """Name of the event package and its templates, such as ``dialog``; compared byte for byte."""
    id: str = ""
    """Tells several subscriptions of one dialog apart; it comes back in every NOTIFY."""
    parameters: frozenset[str] = frozenset()
    """Names of the other parameters, in lower case."""

    @staticmethod
    def of(message: Message) -> EventType:
        """Read the one Event header of a SUBSCRIBE or NOTIFY.

        Raises `RemoteProtocolError`: 489 without one (§7.2.1: it names what the request is about), 400 when
        it is malformed.
        """
        values = message.headers.get_all("Event")
        if not values:
            raise RemoteProtocolError("Event is missing", status_hint=489)
        if len(values) > 1:
            raise RemoteProtocolError("Event given twice")
        package, semicolon, rest = values[0].partition(";")
        package = package.strip()
        params = parse_params(rest) if semicolon else {}
        if not all(map(is_token, package.split("."))):
            raise RemoteProtocolError("malformed Event")
        identifier = params.get("id") or ""
        if len(identifier) > _MAX_ID:
            raise RemoteProtocolError("Event id too long")
        return EventType(package, identifier, frozenset(params) - {"id"})

    def __str__(self) -> str:
        return f"{self.package};id={self.id}" if self.id else self.package


class SubscriptionStatus(enum.Enum):
    """How a subscription stands (§4.1.3)."""

    ACTIVE = "active"
    PENDING = "pending"
    TERMINATED = "terminated"


@dataclass(frozen=True, slots=True)
class SubscriptionState:
    """The value of a Subscription-State header (§8.2.3)."""

    status: SubscriptionStatus
    expires: int | None = None
    """Seconds that are left."""
    reason: str = ""
    """Why it has ended (``timeout``, ``noresource`` ...), in lower case."""
    retry_after: int | None = None

    @staticmethod
    def of(notify: Request) -> SubscriptionState:
        """Read the header of a NOTIFY. Raises `RemoteProtocolError` (400) without one or when malformed.

        A state that the RFC does not know counts as active (§4.1.3: "treat as if active").
        """
        value = notify.headers.get("Subscription-State")
        if not value:
            raise RemoteProtocolError("Subscription-State is missing")
        name, semicolon, rest = value.partition(";")
        name = name.strip().lower()
        if not is_token(name):
            raise RemoteProtocolError("malformed Subscription-State")
        params = parse_params(rest) if semicolon else {}
        return SubscriptionState(
            _STATUSES.get(name, SubscriptionStatus.ACTIVE),
            delta_seconds(params.get("expires")),
            unquote(params.get("reason") or "").lower(),
            delta_seconds(params.get("retry-after")),
        )

    def __str__(self) -> str:
        text = self.status.value
        if self.reason:
            text += f";reason={self.reason}"
        if self.expires is not None:
            text += f";expires={self.expires}"
        if self.retry_after is not None:
            text += f";retry-after={self.retry_after}"
        return text


_STATUSES = {status.value: status for status in SubscriptionStatus}


@dataclass(frozen=True, slots=True)
class Interval:
    """How long subscriptions may last, in seconds."""

    default: int = _HOUR
    shortest: int = 60
    """Less is answered with 423."""
    longest: int = 2 * _HOUR
    """More is shortened to this."""

    def granted(self, subscribe: Request) -> int | Refusal:
        """Return the interval that a SUBSCRIBE gets, 0 to end the subscription, or the 423 (§4.2.1.1).

        Raises `RemoteProtocolError` for an Expires that is no number.
        """
        text = subscribe.headers.get("Expires")
        if text is None:
            return self.default
        seconds = delta_seconds(text)
        if seconds is None:
            raise RemoteProtocolError("malformed Expires")
        if 0 < seconds < min(self.shortest, _HOUR):
            # An hour or more is never too brief (§4.2.1.1).
            return Refusal(423, (("Min-Expires", str(self.shortest)),))
        return min(seconds, self.longest)


def accepts(request: Request, media_type: str) -> bool:
    """Say whether the sender takes bodies of this type.

    Without an Accept header it takes the package's own type (RFC 6665 §4.1.2.1, §5.4.4).
    """
    values = request.headers.get_all("Accept")
    if not values:
        return True
    kind = media_type.partition("/")[0]
    return any(
        entry.partition(";")[0].strip().lower() in {media_type, f"{kind}/*", "*/*"}
        for value in values
        for entry in value.split(",")
    )

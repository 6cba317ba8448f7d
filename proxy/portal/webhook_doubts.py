"""What stands in the way of telling a receiver, as far as it can be known when it is entered."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from proxy.portal.webhook_mail import NO_SERVER
from proxy.portal.webhook_post import Networks, refusal_of
from proxy.store import WebhookEndpoint

__all__ = ["WebhookDoubts"]


def _addresses(host: str) -> Sequence[str]:
    """Look a name up. Blocks; raises `OSError` for one that has no address."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


@dataclass(frozen=True, slots=True)
class WebhookDoubts:
    """What the settings allow."""

    mails: bool = False
    """A mail server is set."""
    private_networks: Networks = ()
    addresses: Callable[[str], Sequence[str]] = _addresses

    def of(self, endpoint: WebhookEndpoint) -> str:
        """Return why it can't be told as things are; "" when nothing is known against it. Blocks."""
        if endpoint.mail_to:
            return "" if self.mails else NO_SERVER
        try:
            parts = urlsplit(endpoint.url)
            found = self.addresses(parts.hostname or "")
        except (OSError, ValueError) as error:
            return getattr(error, "strerror", None) or str(error)
        secure = parts.scheme == "https"
        refusals = [refusal_of(address, self.private_networks, secure=secure) for address in found]
        return refusals[-1] if refusals and all(refusals) else ""

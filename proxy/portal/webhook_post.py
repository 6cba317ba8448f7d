"""One webhook: an HTTP request to an address that may be told, signed (Standard Webhooks).

Who may enter receivers could otherwise make this machine ask others of its network. So: names are looked up
once and the connection goes to an address that was looked at; private, loopback, link-local and other special
addresses are refused unless a setting names their network; plain ``http:`` goes to such a network alone;
redirects are failures; of the answer only the status is read; certificates are verified.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import socket
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

from proxy.store import WebhookDelivery, WebhookEndpoint

__all__ = ["Networks", "Outcome", "Poster", "is_public", "refusal_of", "signature"]

_Address = IPv4Address | IPv6Address
Networks = Sequence[IPv4Network | IPv6Network]

_PRIVATE = "its address is private, and in none of notify.private_networks"
_PLAIN = "http: goes to notify.private_networks only; use https:"
_TRANSLATED = ip_network("64:ff9b::/96")
"""IPv4 addresses behind a translator (RFC 6052 §2.1)."""
_DOCUMENTATION = ip_network("3fff::/20")
"""Nobody's (RFC 9637), which Python does not know yet."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a try: a status (0: no answer), and what was wrong or ""."""

    status: int
    error: str = ""


class Poster:
    """Posts deliveries. Safe to use from several threads."""

    def __init__(
        self,
        private_networks: Networks = (),
        *,
        tls: ssl.SSLContext | None = None,
        patience: float = 10.0,
        deadline: float = 30.0,
    ) -> None:
        """``patience`` is for each step, ``deadline`` for the whole: a receiver may send its answer byte by
        byte.
        """
        self._private_networks = private_networks
        self._tls = tls or ssl.create_default_context()
        self._patience = patience
        self._deadline = deadline
        self._open: set[_Connection] = set()
        self._closed = False

    def close(self) -> None:
        """Break off what is under way: it is tried again after the next start."""
        self._closed = True
        for connection in tuple(self._open):
            connection.abort()

    def post(self, endpoint: WebhookEndpoint, delivery: WebhookDelivery, *, now: float) -> Outcome:
        """Try once; never raises because of the receiver."""
        try:
            status = self._post(endpoint, delivery, now)
        except ssl.SSLCertVerificationError as error:
            return Outcome(0, f"certificate: {error.verify_message}")
        except _Refused as refused:
            return Outcome(0, str(refused))
        except TimeoutError:
            return Outcome(0, "the portal ended meanwhile" if self._closed else "no answer in time")
        except (OSError, http.client.HTTPException, ValueError) as error:
            return Outcome(0, getattr(error, "strerror", None) or str(error) or type(error).__name__)
        if 200 <= status < 300:
            return Outcome(status)
        if 300 <= status < 400:
            return Outcome(status, "redirects are not followed: enter the other address")
        return Outcome(status, http.client.responses.get(status, ""))

    def _post(self, endpoint: WebhookEndpoint, delivery: WebhookDelivery, now: float) -> int:
        parts = urlsplit(endpoint.url)
        secure = parts.scheme == "https"
        host, port = parts.hostname or "", parts.port or (443 if secure else 80)
        connection = _Connection(host, port, timeout=self._patience)
        self._open.add(connection)
        if self._closed:
            connection.abort()
        body, sent_at = delivery.body.encode(), int(now)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "tollgate",
            "Connection": "close",
            "Webhook-Id": delivery.event_id,
            "Webhook-Timestamp": str(sent_at),
            "Webhook-Signature": signature(endpoint.secret, delivery.event_id, sent_at, body),
        }
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        timer = threading.Timer(self._deadline, connection.abort)
        timer.daemon = True
        timer.start()
        try:
            self._connect(connection, host, port, secure=secure)
            if secure:
                connection.secure(self._tls, host)
            connection.request("POST", target, body, headers)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            if connection.aborted:
                raise TimeoutError from None
            raise
        finally:
            timer.cancel()
            self._open.discard(connection)
            connection.close()

    def _connect(self, connection: _Connection, host: str, port: int, *, secure: bool) -> None:
        """Connect to the first address of a host that may be told and answers."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        reason: Exception = _Refused(_PRIVATE)
        for family, kind, protocol, _, address in found:
            if refusal := refusal_of(str(address[0]), self._private_networks, secure=secure):
                # Of a name that has addresses of both kinds the public one says more.
                reason = reason if refusal == _PRIVATE else _Refused(refusal)
                continue
            client = socket.socket(family, kind, protocol)
            try:
                client.settimeout(self._patience)
                connection.open(client, address)
            except OSError as error:
                client.close()
                if connection.aborted:
                    raise  # and try no other: a host may have many
                reason = error
            else:
                return
        raise reason


def refusal_of(address: str, private_networks: Networks, *, secure: bool) -> str:
    """Return why nothing is sent to an address, or ""."""
    where = ip_address(address.partition("%")[0])
    if any(where.version == network.version and where in network for network in private_networks):
        return ""
    if not is_public(where):
        return _PRIVATE
    return "" if secure else _PLAIN


def is_public(address: _Address) -> bool:
    """Whether an address is somebody's on the Internet; what embeds another is judged by that one."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _TRANSLATED:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.is_site_local or address in _DOCUMENTATION:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def signature(secret: str, event_id: str, sent_at: int, body: bytes) -> str:
    """Return ``v1,`` and the HMAC-SHA256 over id, time and body."""
    signed = f"{event_id}.{sent_at}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode()


def _key(secret: str) -> bytes:
    if secret.startswith("whsec_"):
        try:
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            pass
    return secret.encode()


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """The receiver may not be told."""


class _Connection(http.client.HTTPConnection):
    """A connection to an address that was looked at, and that can be ended from another thread."""

    def __init__(self, host: str, port: int, *, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout)
        self.aborted = False

    def open(self, client: socket.socket, address: tuple[Any, ...]) -> None:
        """Connect by a socket."""
        self.sock = client
        self._go_on()
        client.connect(address)
        self._go_on()

    def secure(self, context: ssl.SSLContext, host: str) -> None:
        """Speak TLS from here on."""
        self.sock = context.wrap_socket(self.sock, server_hostname=host)
        self._go_on()
        self.default_port = http.client.HTTPS_PORT

    def _go_on(self) -> None:
        """Whoever ended it may have found a socket that could not be ended yet, or not any more."""
        if self.aborted:
            raise TimeoutError

    def connect(self) -> None:
        """Never by itself: it would look the name up again."""
        raise http.client.NotConnected

    def abort(self) -> None:
        """End it: whatever is waited for fails."""
        self.aborted = True
        client = self.sock
        if client is not None:
            try:
                client.shutdown(socket.SHUT_RDWR)
            except OSError:
                client.close()

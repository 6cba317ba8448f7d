"""The gate's accounts at carriers: credentials for calls, and registrations kept up.

RFC 3261 §10.2 (REGISTER as a UAC), §22; RFC 5626 §4.5 (how long to wait after failures). States of one
registration::

    WAITING --time--> REGISTERING --200--> REGISTERED --time--> REGISTERING
                      REGISTERING --refused, silence--> REGISTERING (next address) or WAITING
    any --leave--> GONE (Expires: 0 is sent if there is a binding)

All REGISTERs of one trunk have one Call-ID and a rising CSeq (§10.2). Credentials go to the addresses of
the trunk only: a request is repeated where it was sent, never where a response points.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from operator import attrgetter

from proxy.call.config import Peer, Trunk
from proxy.sip.dialog import Dialog
from proxy.sip.digest_client import DigestAttempt, DigestClient
from proxy.sip.endpoint import Endpoint
from proxy.sip.events import ClientTransaction
from proxy.sip.flow import DEFAULT_PORTS
from proxy.sip.message import Response
from proxy.sip.reachability import is_within, networks_of
from proxy.sip.seconds import delta_seconds, retry_after
from proxy.sip.timers import NEVER
from proxy.sip.uri import Uri, format_host

__all__ = ["RegistrationState", "RegistrationStatus", "TrunkAccounts", "TrunkRegistration"]

_log = logging.getLogger(__name__)

FIRST_WAIT, LONGEST_WAIT = 30.0, 1_800.0
"""After failures at every address: doubled each time, shortened by up to half by chance (RFC 5626 §4.5)."""
REFRESH_AT = 0.8
"""Part of the expiry after which a binding is renewed."""
SHORTEST = 10.0
"""Seconds between two refreshes at least, whatever a registrar grants."""


class RegistrationState(enum.Enum):
    """How far the registration of a trunk has come."""

    WAITING = "waiting"
    REGISTERING = "registering"
    REGISTERED = "registered"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class RegistrationStatus:
    """One registration as `tollgate status` shows it."""

    state: RegistrationState
    reason: str
    """Why it failed last, or ""."""


class TrunkRegistration:
    """Keeps one trunk registered; the owner of its REGISTER transactions."""

    __slots__ = (
        "_attempt",
        "_bound_until",
        "_call_id",
        "_client",
        "_cseq",
        "_endpoint",
        "_expires",
        "_failures",
        "_flow_index",
        "_tag",
        "_transaction",
        "due",
        "reason",
        "state",
        "trunk",
    )

    def __init__(self, endpoint: Endpoint, trunk: Trunk, client: DigestClient) -> None:
        self._endpoint = endpoint
        self._client = client
        self._attempt: DigestAttempt = client.attempt()
        self._transaction: ClientTransaction | None = None
        self._call_id = endpoint.ids.call_id()
        self._tag = endpoint.ids.tag()
        self._cseq = 0
        self._expires = trunk.register_expires
        self._failures = 0
        self._flow_index = 0
        self._bound_until = 0.0
        self.trunk = trunk
        self.state = RegistrationState.WAITING
        self.reason = ""
        self.due = 0.0
        """When `handle_timer` has something to do."""

    def bound(self, now: float) -> bool:
        """Say whether the carrier knows where the gate is."""
        return now < self._bound_until

    def handle_timer(self, now: float) -> None:
        """Begin, renew or try again."""
        if now < self.due:
            return
        self.due = now + FIRST_WAIT / 2  # whatever goes wrong, it is not due again at once
        if not self.trunk.flows:
            self._wait("no address", now)
            return
        self._attempt = self._client.attempt()
        self._send(now)

    def leave(self, now: float) -> None:
        """Give the binding up: the gate ends, or the trunk is gone from the settings."""
        had_binding = self.bound(now)
        self.state = RegistrationState.GONE
        self._bound_until = 0.0
        self.due = NEVER
        if had_binding and self.trunk.flows:
            self._attempt = self._client.attempt()
            self._expires = 0
            self._send(now)

    def responded(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """Take the final response to a REGISTER."""
        if transaction is not self._transaction:
            return
        status = response.status
        if self._attempt.may_repeat(response):
            self._send(now)
        elif self.state is RegistrationState.GONE:
            self._transaction = None
        elif status < 300:
            self._granted(response, now)
        elif status == 423 and self._lengthen(response):
            self._send(now)
        else:
            self._failed(f"{status} to REGISTER", now, retry_after(response))

    def unanswered(self, transaction: object, now: float) -> None:
        """Time-out, or no way to send."""
        if transaction is self._transaction and self.state is not RegistrationState.GONE:
            self._failed("no answer to REGISTER", now)

    def _send(self, now: float) -> None:
        trunk = self.trunk
        flow = trunk.flows[self._flow_index % len(trunk.flows)]
        host = format_host(trunk.host)
        point = self._endpoint.config.point(flow)
        user = self._client.account.user
        uri = f"sip:{host}"
        self._cseq += 1
        if self.state is RegistrationState.WAITING:
            self.state = RegistrationState.REGISTERING
        self._transaction = self._endpoint.send_request(
            "REGISTER",
            uri,
            from_=f"<sip:{user}@{host}>",
            to=f"<sip:{user}@{host}>",
            headers=(
                ("Contact", f"<sip:{user}@{point.sent_by}{point.uri_parameters}>"),
                ("Expires", str(self._expires)),
                *self._attempt.headers("REGISTER", uri),
            ),
            flow=flow,
            owner=self,
            call_id=self._call_id,
            local_tag=self._tag,
            cseq=self._cseq,
            now=now,
        )
        self.due = NEVER

    def _granted(self, response: Response, now: float) -> None:
        expires = self._expiry_granted(response)
        self._transaction = None
        if expires <= 0:
            self._failed("the registrar keeps no binding", now)
            return
        self._failures = 0
        self._bound_until = now + expires
        self.due = now + max(SHORTEST, expires * REFRESH_AT)
        if self.state is not RegistrationState.REGISTERED or self.reason:
            _log.info("trunk %s is registered for %d s", self.trunk.name, expires)
        self.state = RegistrationState.REGISTERED
        self.reason = ""

    def _expiry_granted(self, response: Response) -> int:
        """Return for how long the registrar keeps our Contact (§10.2.4).

        A registrar may write it otherwise, without the port or with the address that it sees (of a NAT): the
        only one there is, is ours.
        """
        default = delta_seconds(response.headers.get("Expires"))
        contacts = response.contacts
        for contact in contacts:
            if len(contacts) == 1 or self._is_ours(contact.uri):
                expires = delta_seconds(contact.params.get("expires"))
                default = default if expires is None else expires
                break
        return self._expires if default is None else default

    def _is_ours(self, uri: Uri) -> bool:
        """Say whether a Contact among several is the gate's; no port is the default one (§19.1.2)."""
        return uri.user == self._client.account.user and any(
            point.is_at(uri.host) and (uri.port or DEFAULT_PORTS[point.transport]) == point.port
            for point in self._endpoint.config.listen_points
        )

    def _lengthen(self, response: Response) -> bool:
        """Take the Min-Expires of a 423 (§10.2.8); False when it asks for nothing that we did not offer."""
        minimum = delta_seconds(response.headers.get("Min-Expires"))
        if minimum is None or not self._expires < minimum <= 86_400:
            return False
        self._expires = minimum
        return True

    def _failed(self, reason: str, now: float, retry_after: int | None = None) -> None:
        """Try the next address at once; wait when all have failed."""
        self._transaction = None
        self._flow_index += 1
        if self._flow_index % len(self.trunk.flows) and retry_after is None:
            self.reason = reason
            self.due = now
        else:
            self._wait(reason, now, retry_after or 0)

    def _wait(self, reason: str, now: float, retry_after: int = 0) -> None:
        self._failures += 1
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(self._failures - 1, 10))
        chance = self._endpoint.ids.retry_after() / 10
        wait = max(wait * (1 - chance / 2), min(float(retry_after), LONGEST_WAIT))
        self.due = now + wait
        if self.reason != reason or self.state is RegistrationState.REGISTERED:
            _log.warning("trunk %s is not registered: %s; next try in %d s", self.trunk.name, reason, wait)
        self.reason = reason
        self.state = RegistrationState.WAITING


class TrunkAccounts:
    """The accounts of all trunks that have one."""

    __slots__ = ("_clients", "_endpoint", "_leaving", "_networks", "_registrations")

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._clients: dict[str, DigestClient] = {}
        self._registrations: dict[str, TrunkRegistration] = {}
        self._leaving: list[TrunkRegistration] = []
        self._networks: dict[str, tuple[IPv4Network | IPv6Network, ...]] = {}

    def reconfigure(self, trunks: Collection[Trunk], peers: Iterable[Peer] = ()) -> None:
        """Keep what stays as it was; what is gone or has another account leaves.

        ``peers``: which further addresses are a trunk's own.
        """
        self._networks = {peer.name: peer.networks for peer in peers}
        clients, registrations = self._clients, self._registrations
        self._clients, self._registrations = {}, {}
        for trunk in trunks:
            if trunk.account is None:
                continue
            client = clients.get(trunk.name)
            if client is None or client.account != trunk.account:
                client = DigestClient(trunk.account, self._endpoint.ids.tag)
            self._clients[trunk.name] = client
            if not trunk.register:
                continue
            kept = registrations.get(trunk.name)
            if kept is not None and client is clients.get(trunk.name) and kept.trunk.host == trunk.host:
                kept.trunk = trunk
                self._registrations[trunk.name] = registrations.pop(trunk.name)
            else:
                self._registrations[trunk.name] = TrunkRegistration(self._endpoint, trunk, client)
        self._leaving += registrations.values()

    def attempt(
        self, trunk: Trunk, dialog: Dialog | None = None, *, host: str = "", urgent: bool = False
    ) -> DigestAttempt | None:
        """Begin a request to a trunk, within ``dialog`` if there is one already; ``host`` is the trunk's
        address that the first request went to, if that was the gate's.

        None for trunks without an account, and where the way that the dialog's peer has named (Contact,
        Record-Route) leads to an address that is not the trunk's: nobody else gets its credentials.
        ``urgent``: for an emergency call.
        """
        client = self._clients.get(trunk.name)
        if client is None:
            return None
        if dialog is not None:
            config = self._endpoint.config
            reached = dialog.next_hop(config.listen_points, config.lookup).remote_host
            if not is_within(reached, self.addresses_of(trunk)):
                return None
            host = host or reached
        return client.attempt(host, urgent=urgent)

    def addresses_of(self, trunk: Trunk) -> tuple[IPv4Network | IPv6Network, ...]:
        """Return the addresses that are a trunk's own."""
        return (*self._networks.get(trunk.name, ()), *networks_of(trunk.flows))

    def usable(self, trunk: Trunk, now: float) -> bool:
        """Say whether calls over a trunk have a chance: it needs no registration, or has one."""
        registration = self._registrations.get(trunk.name)
        return registration is None or registration.bound(now)

    def status(self, trunk: str) -> RegistrationStatus | None:
        """Return how the registration of a trunk is; None where there is none."""
        registration = self._registrations.get(trunk)
        return None if registration is None else RegistrationStatus(registration.state, registration.reason)

    def leave(self, now: float) -> None:
        """Give up every binding: the gate ends."""
        for registration in self._registrations.values():
            registration.leave(now)

    def next_timer(self) -> float:
        """Return when `handle_timer` is to be called next, `NEVER` for not at all."""
        if self._leaving:
            return 0.0
        return min(map(attrgetter("due"), self._registrations.values()), default=NEVER)

    def handle_timer(self, now: float) -> None:
        """Run what is due."""
        while self._leaving:
            self._leaving.pop().leave(now)
        for registration in self._registrations.values():
            registration.handle_timer(now)

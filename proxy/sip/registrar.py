"""The registrar: REGISTER requests of authenticated users to bindings, without any I/O.

RFC 3261 §10.3; RFC 3327 §5.3 (Path); RFC 5626 §6 (Outbound); RFC 5627 §5 (GRUU). Authentication (step 3) is
done before; what a stranger sends never comes here. Every request changes all that it asks for or nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from proxy.errors import RemoteProtocolError
from proxy.sip.address import NameAddr
from proxy.sip.bindings import Binding, Bindings, BindingTable, StoredBinding
from proxy.sip.flow import DEFAULT_PORTS, Flow, is_address
from proxy.sip.gruu import Gruu, Gruus
from proxy.sip.message import Request
from proxy.sip.reachability import Surroundings
from proxy.sip.registration import (
    Identity,
    Outcome,
    RegistrarConfig,
    Registration,
    RegistrationRefused,
    check_target,
)
from proxy.sip.routing import Lookup
from proxy.sip.uri import Uri

__all__ = ["Outcome", "Registrar", "RegistrarConfig"]

_log = logging.getLogger(__name__)


class Registrar:
    """Every binding of the gate. ``now`` is seconds of the monotonic clock throughout."""

    __slots__ = ("_config", "_gate", "_gruus", "_table")

    def __init__(self, config: RegistrarConfig, gate: Surroundings, gruus: Gruus | None = None) -> None:
        """``gruus`` None: phones get no GRUU."""
        self._config = config
        self._gruus = gruus
        self._gate = gate
        self._table = BindingTable()

    def reconfigure(self, config: RegistrarConfig, gate: Surroundings) -> None:
        """Take other limits; bindings that are there keep their expiry."""
        self._config = config
        self._gate = gate

    # REGISTER -----------------------------------------------------------------------------------------------

    def register(
        self, request: Request, source: Flow, *, user: str, names: Collection[str], now: float
    ) -> Outcome:
        """Take the REGISTER of an authenticated user; ``names`` are the user parts its To may have.

        ``user`` (its extension) is the address-of-record.
        """
        try:
            check_target(request, names, self._gate)
            if request.has_star_contact:
                self._remove_all(request, user)
                return Outcome(200)
            registration = Registration(
                request, source, user=user, config=self._config, gate=self._gate, now=now
            )
            if contacts := request.contacts:
                return self._update(registration, contacts)
            return Outcome(200, self._listed(self._table.get(user), registration))
        except RegistrationRefused as refusal:
            _log.info("REGISTER of %s refused with %d: %s", user, refusal.outcome.status, refusal)
            return refusal.outcome
        except RemoteProtocolError as error:
            _log.info("REGISTER of %s refused with %d: %s", user, error.status_hint, error)
            return Outcome(error.status_hint)

    def _remove_all(self, request: Request, user: str) -> None:
        """Carry out ``Contact: *`` (§10.3 step 6)."""
        if (request.headers.get("Expires") or "").strip() != "0":
            raise RegistrationRefused(400, "Contact * without Expires 0")
        call_id, cseq = request.call_id, request.cseq.number
        bindings = self._table.get(user)
        for binding in bindings:
            _check_order(binding, call_id, cseq)
        self._table.replace(user, ())
        _log.info("%s has unregistered %d contacts", user, len(bindings))

    def _update(self, registration: Registration, contacts: Sequence[NameAddr]) -> Outcome:
        """Work out the bindings as they will be, and only then put them in force (§10.3 step 7)."""
        config, user = self._config, registration.user
        if len(contacts) > config.max_contacts:
            raise RegistrationRefused(403, "too many contacts in one request")
        before = self._table.get(user)
        after, made = _changed(before, registration, contacts)
        more = len(after) - len(before)
        if more > 0:
            if len(after) > config.max_contacts:
                raise RegistrationRefused(403, "too many contacts")
            if len(self._table) + more > config.max_bindings:
                raise RegistrationRefused(503, "too many bindings")
        self._table.replace(user, tuple(after))
        if more:
            _log.info("%s has %d contacts now", user, len(after))
        headers = self._listed(after, registration)
        if made and registration.path_supported:
            # RFC 3327 §5.3: the phone learns by which way it will be reached.
            headers += tuple(("Path", value) for value in made[0].path)
        if any(binding.reg_id for binding in made):
            headers += (("Require", "outbound"),)
            if registration.over_connection and config.flow_timer:
                # RFC 5626 §4.4: the phone sends something as often, and so learns when its flow is dead.
                headers += (("Flow-Timer", str(config.flow_timer)),)
        return Outcome(200, headers)

    def _listed(self, bindings: Iterable[Binding], registration: Registration) -> tuple[tuple[str, str], ...]:
        """Return the Contacts of the 200: every binding with what is left of it (§10.3 step 8), and with its
        GRUUs for a phone that knows them (RFC 5627 §5.3)."""
        gruus = self._gruus if registration.gruu_supported else None
        listed: list[tuple[str, str]] = []
        for binding in bindings:
            ways = "" if gruus is None else gruus.parameters(binding, registration.domain)
            left = round(binding.expires_at - registration.now)
            listed.append(("Contact", f"<{binding.contact}>{binding.params}{ways};expires={left}"))
        return tuple(listed)

    # What others ask ----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of bindings."""
        return len(self._table)

    @property
    def users(self) -> int:
        """How many users have a binding."""
        return self._table.users

    def bindings(self, user: str) -> Bindings:
        """Return every binding of a user."""
        return self._table.get(user)

    def all(self) -> Iterable[Binding]:
        """Return every binding of every user."""
        return self._table.all()

    def targets(self, user: str) -> list[Bindings]:
        """Return where a call to a user goes: groups to ring one after the other, each in parallel.

        Highest q first (RFC 3261 §16.6), the freshest first within a group. Of several flows to one
        instance only the freshest is in its group; the others follow as groups of their own (RFC 5626 §7).
        A binding whose address has become that of a trunk since is none of them.
        """
        known = [binding for binding in self._table.get(user) if not self._is_led_to_peer(binding)]
        found = sorted(known, key=lambda binding: (-binding.q, -binding.expires_at))
        groups: list[Bindings] = []
        seen: set[str] = set()
        for _, same in groupby(found, key=lambda binding: binding.q):
            group: list[Binding] = []
            others: list[Bindings] = []
            for binding in same:
                if binding.reg_id and binding.instance in seen:
                    others.append((binding,))
                    continue
                if binding.reg_id:
                    seen.add(binding.instance)
                group.append(binding)
            if group:
                groups.append(tuple(group))
            groups += others
        return groups

    def located(self, binding: Binding, lookup: Lookup) -> Flow:
        """Return the way to a binding; where its Contact or first Path entry is a name, to the first of the
        addresses that DNS gives for it (RFC 3263 §4), as far as they are known.

        Over TLS the name itself is kept: the certificate must name it.
        """
        flow = binding.flow
        if flow.connection or flow.transport == "TLS" or is_address(flow.remote_host):
            return flow
        uri = NameAddr.parse(binding.path[0]).uri if binding.path else Uri.parse(binding.contact)
        said = (uri.params.get("transport") or "").upper()
        for transport, host, port, *_ in lookup(uri.host, uri.port, said, flow.transport):
            listener = self._gate.listener(transport, host, flow.listener)
            allowed = self._gate.may_be_sent_to(host, port) and not self._gate.is_peer(host)
            if listener is not None and allowed and transport != "TLS":
                return Flow(transport, host, port, listener)
        return flow

    def _is_led_to_peer(self, binding: Binding) -> bool:
        return self._gate.is_led_to_peer(binding.flow.remote_host, binding.source.remote_host)

    def gruu(self, uri: Uri) -> Gruu | None:
        """Return what a GRUU of this gate's names, or None for any other URI: a PBX has GRUUs of its own."""
        domains = self._gate.domains
        if self._gruus is None or (domains and uri.host.lower() not in domains):
            return None
        return self._gruus.read(uri)

    def bound_from(self, host: str) -> bool:
        """Say whether a live binding was registered from this IP address (DESIGN 1.4)."""
        return self._table.has_host(host)

    def bound_over(self, connection: int) -> bool:
        """Say whether a live binding is reached, or was registered by a proxy, over this connection."""
        return bool(self._table.on_connection(connection))

    def registered_from(self, host: str) -> Bindings:
        """Return the live bindings that were registered from this IP address."""
        return self._table.from_host(host)

    # Time, connections, policy ------------------------------------------------------------------------------

    def next_expiry(self) -> float | None:
        """Return when `expire` is to be called next."""
        return self._table.next_expiry()

    def expire(self, now: float) -> None:
        """Drop the bindings that have ended."""
        self._table.expire(now)

    def connection_lost(self, connection: int) -> None:
        """Give up what was reached over a connection that is gone.

        A flow of Outbound ends with it (RFC 5626 §5.3), as does the way through a NAT. A phone that can be
        reached at its Contact stays: the next request opens a connection.
        """
        for user in self._table.on_connection(connection):
            before = self._table.get(user)
            kept: list[Binding] = []
            for binding in before:
                if binding.flow.connection != connection:
                    kept.append(binding)
                elif not binding.reg_id and not binding.behind_nat:
                    kept.append(_reached_anew(binding))
            if tuple(kept) != before:
                self._table.replace(user, tuple(kept))

    def flow_failed(self, binding: Binding) -> None:
        """Drop a binding, unless another one has replaced it in the meantime."""
        bindings = self._table.get(binding.user)
        kept = tuple(known for known in bindings if known is not binding)
        if len(kept) < len(bindings):
            self._table.replace(binding.user, kept)

    def retain(self, users: Collection[str]) -> None:
        """Drop the bindings of all users but these: the others were deleted or disabled."""
        for user in self._table.registered():
            if user not in users:
                self._table.replace(user, ())

    def forget(self, user: str, contact: str = "") -> int:
        """Drop the bindings of a user, or only those of one Contact; returns how many there were.

        An administrator's doing (RFC 3261 §10.2.2 leaves it to policy): a phone that still has its password
        is back with its next REGISTER.
        """
        bindings = self._table.get(user)
        kept = tuple(known for known in bindings if contact and known.contact != contact)
        if len(kept) < len(bindings):
            self._table.replace(user, kept)
            _log.info("%d contacts of %s were ended by an administrator", len(bindings) - len(kept), user)
        return len(bindings) - len(kept)

    # The store ----------------------------------------------------------------------------------------------

    def take_changes(self) -> Mapping[str, Bindings]:
        """Take the users whose bindings have changed since the last time, each with all it has now."""
        return self._table.take_changes()

    def restore(self, stored: Iterable[StoredBinding], *, epoch: float, now: float) -> int:
        """Take over the bindings of an earlier run; returns how many are still good.

        ``epoch`` is the wall clock's time at zero of the monotonic clock. A user that has registered anew
        in the meantime keeps what it has.
        """
        by_user: dict[str, list[Binding]] = {}
        for item in stored:
            listener = self._gate.listener(item.transport, item.flow[0], len(self._gate.listen_points))
            if listener is None or item.expires_at - epoch <= now or self._table.get(item.user):
                continue
            binding = item.revive(epoch, listener)
            if binding.flow.reliable and not binding.behind_nat and not binding.path:
                binding = _reached_anew(binding)
            by_user.setdefault(item.user, []).append(binding)
        for user, bindings in by_user.items():
            self._table.replace(user, tuple(bindings), noted=False)
        return sum(map(len, by_user.values()))


def _changed(
    before: Bindings, registration: Registration, contacts: Sequence[NameAddr]
) -> tuple[list[Binding], list[Binding]]:
    """Return a user's bindings as a REGISTER wants them, and those of them that it made.

    What it removes goes first: a phone gives its old address up beside the new one of the same flow.
    """
    after = list(before)
    made: list[Binding] = []
    wanted = sorted(((contact, registration.expiry(contact)) for contact in contacts), key=_is_kept)
    alone = sum(map(_is_kept, wanted)) <= 1
    for contact, seconds in wanted:
        identity = registration.identity(contact, alone=alone)
        at = _find(after, contact, identity)
        if at is None and seconds and len(contacts) == 1:
            at = _find_moved(after, contact, identity, registration.call_id)
        if at is not None:
            if any(after[at] is binding for binding in made):
                raise RegistrationRefused(400, "Contact given twice")
            _check_order(after[at], registration.call_id, registration.cseq)
        if seconds:
            binding = registration.bind(contact, seconds, identity)
            made.append(binding)
            if at is None:
                after.append(binding)
            else:
                after[at] = binding
        elif at is not None:
            del after[at]
    return after, made


def _is_kept(wanted: tuple[NameAddr, int]) -> bool:
    return wanted[1] > 0


def _find_moved(
    bindings: Sequence[Binding], contact: NameAddr, identity: Identity, call_id: str
) -> int | None:
    """Find the binding that the same instance has made by the same Call-ID for another host or port: a NAT or
    DHCP has given it a new one. Left there, dead bindings would fill what the user may have."""
    if identity.reg_id or not identity.instance:
        return None
    wanted = _way(contact.uri)
    for at, known in enumerate(bindings):
        its_own = not known.reg_id and (known.instance, known.call_id) == (identity.instance, call_id)
        if its_own and _way(Uri.parse(known.contact)) == wanted:
            return at
    return None


def _way(uri: Uri) -> tuple[str, str | None, str | None]:
    """Return what a phone's Contact keeps when only its address changes."""
    return uri.scheme, uri.user, uri.params.get("transport")


def _reached_anew(binding: Binding) -> Binding:
    """Return the binding with the way to its Contact in place of a lost connection to the same host."""
    flow = binding.flow
    port = Uri.parse(binding.contact).port or DEFAULT_PORTS[flow.transport]
    return replace(binding, flow=flow._replace(remote_port=port, connection=0))


def _check_order(binding: Binding, call_id: str, cseq: int) -> None:
    """Refuse a request that is not newer than the one that made the binding (§10.3 steps 6 and 7)."""
    if binding.call_id == call_id and cseq <= binding.cseq:
        raise RegistrationRefused(500, "CSeq is not above that of the binding")


def _find(bindings: Sequence[Binding], contact: NameAddr, identity: Identity) -> int | None:
    """Find the binding that a contact means: by instance and reg-id, or by the URI (RFC 5626 §6)."""
    text, uri = contact.uri_text, contact.uri
    for at, known in enumerate(bindings):
        if identity.reg_id:
            if known.reg_id == identity.reg_id and known.instance == identity.instance:
                return at
        elif not known.reg_id and (known.contact == text or uri.equivalent_to(Uri.parse(known.contact))):
            return at
    return None

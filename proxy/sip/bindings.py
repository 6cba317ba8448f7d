"""Bindings of addresses-of-record to contacts: the values, and the table that the registrar keeps them in.

RFC 3261 §10 (bindings), RFC 5626 §6 (one flow of one instance), RFC 3327 (Path). The bindings of one user are
one tuple that is replaced whole, so that a REGISTER changes all of them or none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from proxy.sip.flow import Flow
from proxy.sip.timers import Timed, TimerHeap

__all__ = ["Binding", "BindingTable", "Bindings", "StoredBinding"]


@dataclass(frozen=True, slots=True)
class Binding:
    """One contact of a user. Never changes: a refresh replaces it."""

    user: str
    """Extension of the user: the address-of-record."""
    contact: str
    """The Contact URI as the phone wrote it: Request-URI of what is sent to it."""
    params: str
    """Parameters of the Contact as received, each with its ";", without expires."""
    q: float
    """Preference from 0 to 1 (RFC 3261 §20.10)."""
    expires_at: float
    """End of the binding in seconds of the monotonic clock."""
    call_id: str
    cseq: int
    flow: Flow
    """Where requests to this contact go first."""
    source: Flow
    """Where its REGISTER came from."""
    behind_nat: bool
    """`flow` leads through a NAT that must be kept open."""
    path: tuple[str, ...] = ()
    """Path values in order: the Route of requests to this contact (RFC 3327 §5.3)."""
    instance: str = ""
    """+sip.instance as received, quotes included, or "" (RFC 5626 §4.1)."""
    reg_id: int = 0
    """reg-id of an Outbound registration; 0: none, the contact URI alone names the binding."""
    user_agent: str = ""

    @property
    def key(self) -> str:
        """What names this binding among those of its user (RFC 5626 §6)."""
        return f"{self.reg_id} {self.instance}" if self.reg_id else self.contact


Bindings = tuple[Binding, ...]
"""All bindings of one user."""


@dataclass(frozen=True, slots=True)
class StoredBinding:
    """A binding as it outlives the process: wall clock instead of monotonic, no connection."""

    user: str
    contact: str
    params: str
    q: float
    expires_at: float
    """Seconds since the epoch."""
    call_id: str
    cseq: int
    transport: str
    flow: tuple[str, int]
    """Host and port that requests go to."""
    source: tuple[str, int]
    behind_nat: bool
    path: tuple[str, ...]
    instance: str
    reg_id: int
    user_agent: str

    @staticmethod
    def of(binding: Binding, epoch: float) -> StoredBinding:
        """Make one; ``epoch`` is the wall clock's time at zero of the monotonic clock."""
        flow, source = binding.flow, binding.source
        return StoredBinding(
            binding.user,
            binding.contact,
            binding.params,
            binding.q,
            binding.expires_at + epoch,
            binding.call_id,
            binding.cseq,
            flow.transport,
            (flow.remote_host, flow.remote_port),
            (source.remote_host, source.remote_port),
            binding.behind_nat,
            binding.path,
            binding.instance,
            binding.reg_id,
            binding.user_agent,
        )

    def revive(self, epoch: float, listener: int) -> Binding:
        """Return the binding for this run of the process, over the given listen point."""
        flow = Flow(self.transport, *self.flow, listener, 0)
        return Binding(
            self.user,
            self.contact,
            self.params,
            self.q,
            self.expires_at - epoch,
            self.call_id,
            self.cseq,
            flow,
            flow if self.source == self.flow else Flow(self.transport, *self.source, listener, 0),
            self.behind_nat,
            self.path,
            self.instance,
            self.reg_id,
            self.user_agent,
        )


class _Record(Timed):
    """The bindings of one user, and the moment the first of them ends."""

    __slots__ = ("_table", "bindings", "user")

    def __init__(self, table: BindingTable, user: str, bindings: Bindings) -> None:
        super().__init__()
        self._table = table
        self.user = user
        self.bindings = bindings

    def fire(self, now: float) -> None:
        """Drop what has ended."""
        self._table.replace(
            self.user, tuple(binding for binding in self.bindings if binding.expires_at > now)
        )


class BindingTable:
    """Every binding, by user, with one deadline for all.

    What has changed since the last `take_changes` is noted by user, for whoever writes it down.
    """

    __slots__ = ("_changed", "_connections", "_count", "_hosts", "_records", "_timers")

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}
        self._timers: Final = TimerHeap()
        self._changed: dict[str, Bindings] = {}
        self._hosts: dict[str, dict[str, int]] = {}
        self._connections: dict[int, dict[str, int]] = {}
        self._count = 0

    def __len__(self) -> int:
        """Return the number of bindings."""
        return self._count

    @property
    def users(self) -> int:
        """How many users are registered."""
        return len(self._records)

    def get(self, user: str) -> Bindings:
        """Return the bindings of a user in the order in which they were made."""
        record = self._records.get(user)
        return () if record is None else record.bindings

    def all(self) -> Iterable[Binding]:
        """Every binding."""
        return (binding for record in self._records.values() for binding in record.bindings)

    def registered(self) -> list[str]:
        """Return the users who have a binding."""
        return list(self._records)

    def has_host(self, host: str) -> bool:
        """Say whether a live binding was registered from this IP address."""
        return host in self._hosts

    def from_host(self, host: str) -> Bindings:
        """Return the live bindings that were registered from this IP address."""
        users = self._hosts.get(host, ())
        return tuple(one for user in users for one in self.get(user) if one.source.remote_host == host)

    def on_connection(self, connection: int) -> list[str]:
        """Return the users with a binding that is reached or was registered over this connection."""
        return list(self._connections.get(connection, ()))

    def replace(self, user: str, bindings: Bindings, *, noted: bool = True) -> None:
        """Give a user other bindings; ``noted``: whoever writes bindings down is to hear of it."""
        record = self._records.get(user)
        if record is None:
            if not bindings:
                return
            record = self._records[user] = _Record(self, user, ())
        for binding in record.bindings:
            self._count_out(binding)
        for binding in bindings:
            self._count_in(binding)
        record.bindings = bindings
        if bindings:
            self._timers.start(record, min(binding.expires_at for binding in bindings))
        else:
            self._timers.stop(record)
            del self._records[user]
        if noted:
            self._changed[user] = bindings

    def _count_in(self, binding: Binding) -> None:
        self._count += 1
        _increment(self._hosts, binding.source.remote_host, binding.user)
        for connection in _connections(binding):
            _increment(self._connections, connection, binding.user)

    def _count_out(self, binding: Binding) -> None:
        self._count -= 1
        _decrement(self._hosts, binding.source.remote_host, binding.user)
        for connection in _connections(binding):
            _decrement(self._connections, connection, binding.user)

    def take_changes(self) -> Mapping[str, Bindings]:
        """Take the users whose bindings have changed, each with all it has now."""
        changed, self._changed = self._changed, {}
        return changed

    def next_expiry(self) -> float | None:
        """Return when `expire` is to be called next."""
        return self._timers.next_deadline()

    def expire(self, now: float) -> None:
        """Drop every binding that has ended."""
        self._timers.run(now)


_Key = TypeVar("_Key")


def _connections(binding: Binding) -> set[int]:
    """Return the connections that it needs: what leads to the phone, and what its edge proxy came over."""
    return {binding.flow.connection, binding.source.connection} - {0}


def _increment(counts: dict[_Key, dict[str, int]], key: _Key, user: str) -> None:
    """Count a binding of a user at this place."""
    users = counts.setdefault(key, {})
    users[user] = users.get(user, 0) + 1


def _decrement(counts: dict[_Key, dict[str, int]], key: _Key, user: str) -> None:
    """Count it no more; who has none there any more is forgotten."""
    users = counts[key]
    users[user] -= 1
    if not users[user]:
        del users[user]
        if not users:
            del counts[key]

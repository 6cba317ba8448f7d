"""Names of trunks and peers to addresses, off the call path.

A call is never placed by asking DNS first: the names in the configuration are looked up at load and again
when their TTL is over, and what `NameTable` holds is what calls use. A name that stops resolving keeps its
last good answer (a carrier's broken DNS must not take its trunk down), and a changed answer is announced
once.

A name with a port is looked up as AAAA and A; a name without one as SRV first (RFC 3263 §4.2; priorities,
and weights by expected share), then as AAAA and A with the default port. NAPTR and per-call fail-over over
all of them is not done here. Names that DNS does not know are tried with the system's own resolver, which
reads ``/etc/hosts``.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA
from dns.rdtypes.IN.SRV import SRV

from proxy.sip.flow import DEFAULT_PORTS

__all__ = ["HostName", "NameTable", "Resolved", "Resolver", "is_literal"]

logger = logging.getLogger(__name__)

LOOKUP_TIMEOUT = 4.0
"""Seconds for one look-up, its retries included."""
MIN_TTL, MAX_TTL = 15.0, 3600.0
"""A record's TTL is taken within these bounds, in seconds."""
RETRY_AFTER = 15.0
"""After a failed look-up the next one comes so many seconds later."""
SYSTEM_TTL = 60.0
"""How long an answer of the system's resolver holds: it tells no TTL."""
_SRV_LABELS = {"UDP": "_sip._udp", "TCP": "_sip._tcp", "TLS": "_sips._tcp"}


@dataclass(frozen=True, slots=True)
class HostName:
    """What is to be looked up: a name, its port if the configuration gives one, and the transport (UDP,
    TCP).
    """

    host: str
    port: int | None
    transport: str = "UDP"


@dataclass(frozen=True, slots=True)
class Resolved:
    """Addresses in the order in which they are to be tried, and for how many seconds the answer holds."""

    addresses: tuple[tuple[str, int], ...]
    ttl: float


def is_literal(host: str) -> bool:
    """Whether ``host`` is an IP address already."""
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


class Resolver:
    """Asynchronous look-ups with dnspython."""

    def __init__(self, resolver: dns.asyncresolver.Resolver | None = None) -> None:
        if resolver is None:
            try:
                resolver = dns.asyncresolver.Resolver()
            except dns.resolver.NoResolverConfiguration:
                resolver = None
        self._resolver = resolver

    async def resolve(self, name: HostName) -> Resolved | None:
        """Look ``name`` up; None when nothing is found or nobody answers."""
        if is_literal(name.host):
            return Resolved(((name.host, name.port or DEFAULT_PORTS[name.transport]),), MAX_TTL)
        if name.port is None:
            found = await self._by_srv(name)
            if found is not None:
                return found
        return await self._addresses(name.host, name.port or DEFAULT_PORTS[name.transport])

    async def _by_srv(self, name: HostName) -> Resolved | None:
        answer = await self._query(f"{_SRV_LABELS[name.transport]}.{name.host}", dns.rdatatype.SRV)
        if answer is None:
            return None
        records = [record for record in answer if isinstance(record, SRV) and record.target != dns.name.root]
        # Within one priority the heavier target first: every gate would otherwise need the same die (RFC
        # 2782).
        records.sort(key=lambda record: (record.priority, -record.weight))
        addresses: list[tuple[str, int]] = []
        ttl = _ttl(answer)
        for record in records:
            found = await self._addresses(record.target.to_text(omit_final_dot=True), record.port)
            if found is not None:
                addresses += found.addresses
                ttl = min(ttl, found.ttl)
        return Resolved(tuple(addresses), ttl) if addresses else None

    async def _addresses(self, host: str, port: int) -> Resolved | None:
        v4, v6 = await asyncio.gather(
            self._query(host, dns.rdatatype.A), self._query(host, dns.rdatatype.AAAA)
        )
        addresses: list[tuple[str, int]] = []
        ttl = MAX_TTL
        for answer in (v4, v6):
            if answer is not None:
                addresses += [(record.address, port) for record in answer if isinstance(record, A | AAAA)]
                ttl = min(ttl, _ttl(answer))
        if addresses:
            return Resolved(tuple(addresses), ttl)
        return await _ask_system(host, port)

    async def _query(self, name: str, kind: dns.rdatatype.RdataType) -> dns.resolver.Answer | None:
        if self._resolver is None:
            return None
        try:
            return await self._resolver.resolve(name, kind, lifetime=LOOKUP_TIMEOUT)
        except (dns.exception.DNSException, OSError) as error:
            logger.debug("no answer for %s %s: %s", name, kind.name, error)
            return None


def _ttl(answer: dns.resolver.Answer) -> float:
    seconds = answer.rrset.ttl if answer.rrset is not None else MIN_TTL
    return max(MIN_TTL, min(MAX_TTL, float(seconds)))


async def _ask_system(host: str, port: int) -> Resolved | None:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(LOOKUP_TIMEOUT):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError, TimeoutError):
        return None
    addresses = [(str(entry[4][0]), port) for entry in found]
    return Resolved(tuple(dict.fromkeys(addresses)), SYSTEM_TTL)


class NameTable:
    """The last good answer for each name in use, refreshed in the background.

    ``on_change`` is called (in the event loop) after an answer became another one.
    """

    def __init__(self, resolver: Resolver, on_change: Callable[[], None]) -> None:
        self._resolver = resolver
        self._on_change = on_change
        self._answers: dict[HostName, tuple[tuple[str, int], ...]] = {}
        self._tasks: dict[HostName, asyncio.Task[None]] = {}

    def get(self, name: HostName) -> tuple[tuple[str, int], ...]:
        """Addresses to try in order; empty when the name has never resolved."""
        return self._answers.get(name, ())

    async def watch(self, names: Iterable[HostName]) -> None:
        """Follow exactly these names; returns when each was looked up once (bounded by the look-up time-
        outs).
        """
        wanted = set(names)
        for name in self._tasks.keys() - wanted:
            self._tasks.pop(name).cancel()
        new = wanted - self._tasks.keys()
        await asyncio.gather(*(self._first(name) for name in new))

    async def close(self) -> None:
        """End the refreshing."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _first(self, name: HostName) -> None:
        delay = await self._refresh(name)
        self._tasks[name] = asyncio.create_task(self._follow(name, delay), name=f"resolve {name.host}")

    async def _follow(self, name: HostName, delay: float) -> None:
        while True:
            await asyncio.sleep(delay)
            before = self.get(name)
            delay = await self._refresh(name)
            if self.get(name) != before:
                logger.info("%s is now at %s", name.host, self.get(name))
                self._on_change()

    async def _refresh(self, name: HostName) -> float:
        """Look the name up once; return after how many seconds to do so again."""
        found = await self._resolver.resolve(name)
        if found is None:
            kept = "keeping the last answer" if self.get(name) else "it has no address yet"
            logger.warning("cannot resolve %s: %s", name.host, kept)
            return RETRY_AFTER
        # The order of equal records rotates from answer to answer; only other addresses are news.
        if set(found.addresses) != set(self.get(name)):
            self._answers[name] = found.addresses
        return found.ttl

"""Names of trunks and peers to addresses, off the call path.

A call is never placed by asking DNS first: the names in the configuration are looked up at load and again
when their TTL is over, and what `NameTable` holds is what calls use. The procedure is that of RFC 3263
(`proxy.sip.routing`); here its questions are asked, and the answers kept: for their TTL within bounds, and
beyond it as long as DNS gives no other (a carrier's broken DNS must not take its trunk down). Names that
DNS does not know are tried with the system's own resolver, which reads ``/etc/hosts``.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import NamedTuple

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import dns.resolver
from dns.nameserver import Do53Nameserver
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA
from dns.rdtypes.IN.NAPTR import NAPTR
from dns.rdtypes.IN.SRV import SRV

from proxy.sip.flow import DEFAULT_PORTS
from proxy.sip.routing import Answer, Destination, Location, Naptr, Question, Record, Srv, Target

__all__ = ["HostName", "NameTable", "PeerNames", "Resolved", "Resolver", "client_of", "is_literal"]

logger = logging.getLogger(__name__)

DNS_PORT = 53
LOOKUP_TIMEOUT = 4.0
"""Seconds for one question, its repetitions included."""
MIN_TTL, MAX_TTL = 15.0, 3600.0
"""A record's TTL is taken within these bounds, in seconds."""
NEGATIVE_TTL = 60.0
"""That a name or a record does not exist is believed for so many seconds."""
RETRY_AFTER = 15.0
"""After a question without answer the next one comes so many seconds later."""
STALE = 7 * 86_400.0
"""For so long after its TTL an answer stands in when DNS gives none."""
SYSTEM_TTL = 60.0
"""How long an answer of the system's resolver holds: it tells no TTL."""
MAX_ASKING = 100
"""Names of peers that are looked up at the same time; the others wait for their next use."""
MAX_CACHED = 10_000
"""Questions whose answers are kept; names that peers send must not fill the memory."""


@dataclass(frozen=True, slots=True)
class HostName:
    """What is to be looked up: a name, its port if the configuration gives one, and the transport: UDP,
    TCP, TLS, or SIP and SIPS where DNS is to choose it (RFC 3263 §4.1).
    """

    host: str
    port: int | None
    transport: str = "UDP"
    preferred: str = ""
    """With SIP: the transport to take where DNS names none; "": UDP."""

    @property
    def destination(self) -> Destination:
        """The same in the words of the procedure."""
        secure = self.transport == "SIPS"
        transport = "" if self.transport in {"SIP", "SIPS"} else self.transport
        return Destination(self.host, self.port, transport, secure, self.preferred)


@dataclass(frozen=True, slots=True)
class Resolved:
    """Targets in the order in which they are to be tried, and for how many seconds the answer holds."""

    targets: tuple[Target, ...]
    ttl: float


class _Kept(NamedTuple):
    """A cached answer: ``answer`` None while DNS gave none yet."""

    answer: Answer | None
    until: float


def is_literal(host: str) -> bool:
    """Whether ``host`` is an IP address already."""
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def client_of(servers: Iterable[tuple[str, int]]) -> dns.asyncresolver.Resolver | None:
    """Return who asks these DNS servers, by address and port, and no others; None: those of the system."""
    nameservers = [Do53Nameserver(host, port) for host, port in servers]
    if not nameservers:
        return None
    client = dns.asyncresolver.Resolver(configure=False)
    client.nameservers = nameservers
    return client


class Resolver:
    """Asynchronous look-ups with dnspython, cached.

    ``supported`` are the transports of the gate, the preferred one first; ``choose`` weighs SRV records.
    """

    def __init__(
        self,
        resolver: dns.asyncresolver.Resolver | None = None,
        *,
        supported: Sequence[str] = ("UDP", "TCP"),
        choose: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if resolver is None:
            try:
                resolver = dns.asyncresolver.Resolver()
            except dns.resolver.NoResolverConfiguration:
                resolver = None
        self._resolver = resolver
        self._supported = tuple(supported)
        self._choose = choose
        self._clock = clock
        self._kept: dict[Question, _Kept] = {}
        self._asking: dict[Question, asyncio.Task[_Kept]] = {}

    async def resolve(self, name: HostName) -> Resolved | None:
        """Look ``name`` up; None when nothing is found or nobody answers."""
        location = Location(name.destination, supported=self._supported, choose=self._choose)
        while location.open_questions:
            questions = list(location.open_questions)
            found = await asyncio.gather(*(self._ask(question) for question in questions))
            now = self._clock()
            for question, kept in zip(questions, found, strict=True):
                answer = kept.answer
                location.answer(question, answer and answer._replace(ttl=max(1.0, kept.until - now)))
        if location.targets:
            return Resolved(location.targets, RETRY_AFTER if location.failed else min(location.ttl, MAX_TTL))
        transport = name.transport if name.transport in DEFAULT_PORTS else name.preferred or "UDP"
        if name.transport == "SIPS":
            transport = "TLS"
        port = DEFAULT_PORTS[transport] if name.port is None else name.port
        return await _ask_system(transport, name.host, port)

    async def _ask(self, question: Question) -> _Kept:
        """Answer from what is kept, or ask DNS: once, however many want to know."""
        kept = self._kept.get(question)
        if kept is not None and self._clock() < kept.until:
            return kept
        task = self._asking.get(question)
        if task is None:
            task = asyncio.create_task(self._ask_dns(question, kept), name=f"ask {question.name}")
            self._asking[question] = task
            task.add_done_callback(lambda _task: self._asking.pop(question, None))
        # Who asked first may be cancelled; the others still want the answer.
        return await asyncio.shield(task)

    async def _ask_dns(self, question: Question, before: _Kept | None) -> _Kept:
        answer = await self._query(question)
        now = self._clock()
        if answer is not None:
            kept = _Kept(answer, now + answer.ttl)
        elif before is not None and before.answer is not None and now < before.until + STALE:
            # `until` moves on with each failure; a week is only a bound for what nobody refreshes.
            kept = _Kept(before.answer, now + RETRY_AFTER)
        else:
            kept = _Kept(None, now + RETRY_AFTER)
        if len(self._kept) >= MAX_CACHED:
            self._kept.clear()
        self._kept[question] = kept
        return kept

    async def _query(self, question: Question) -> Answer | None:
        """Ask DNS; None when it gives no answer: silence, SERVFAIL, a loop of CNAMEs, no server at all."""
        if self._resolver is None:
            return None
        kind = dns.rdatatype.from_text(question.kind.value)
        try:
            answer = await self._resolver.resolve(
                question.name, kind, lifetime=LOOKUP_TIMEOUT, search=False, raise_on_no_answer=False
            )
        except dns.resolver.NXDOMAIN:
            return Answer((), NEGATIVE_TTL)
        except (dns.exception.DNSException, OSError, ValueError) as error:
            logger.debug("no answer for %s %s: %s", question.name, question.kind.value, error)
            return None
        if answer.rrset is None:
            return Answer((), NEGATIVE_TTL)
        records = tuple(record for data in answer.rrset if (record := _record(data)) is not None)
        return Answer(records, max(MIN_TTL, min(MAX_TTL, float(answer.rrset.ttl))))


def _record(data: object) -> Record | None:
    if isinstance(data, A | AAAA):
        return str(data.address)
    if isinstance(data, SRV):
        return Srv(
            data.priority, data.weight, data.port, data.target.to_text(omit_final_dot=True).rstrip(".")
        )
    if isinstance(data, NAPTR):
        return Naptr(
            data.order,
            data.preference,
            data.flags.decode("ascii", "replace"),
            data.service.decode("ascii", "replace"),
            data.replacement.to_text(omit_final_dot=True).rstrip("."),
        )
    return None


async def _ask_system(transport: str, host: str, port: int) -> Resolved | None:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(LOOKUP_TIMEOUT):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError, TimeoutError):
        return None
    targets = [Target(transport, str(entry[4][0]), port) for entry in found]
    return Resolved(tuple(dict.fromkeys(targets)), SYSTEM_TTL)


class PeerNames:
    """Names that peers give in Contact and Record-Route, looked up on the side (RFC 3263 §4).

    No message waits for DNS: `get` says what is known, and begins to ask where that is nothing or old.
    """

    def __init__(self, resolver: Resolver, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._resolver = resolver
        self._clock = clock
        self._known: dict[HostName, tuple[tuple[Target, ...], float]] = {}
        self._asking: dict[HostName, asyncio.Task[None]] = {}

    def get(self, host: str, port: int | None, transport: str, preferred: str = "") -> tuple[Target, ...]:
        """Return the targets of a name, as far as they are known (a `proxy.sip.routing.Lookup`)."""
        name = HostName(host.lower(), port, transport or "SIP", preferred)
        targets, until = self._known.get(name, ((), 0.0))
        if self._clock() >= until and name not in self._asking and len(self._asking) < MAX_ASKING:
            task = asyncio.get_running_loop().create_task(self._ask(name), name=f"resolve {name.host}")
            self._asking[name] = task
            task.add_done_callback(lambda _task: self._asking.pop(name, None))
        return targets

    @property
    def looks_up(self) -> int:
        """How many names are being looked up."""
        return len(self._asking)

    def __len__(self) -> int:
        """Return how many names are kept."""
        return len(self._known)

    async def _ask(self, name: HostName) -> None:
        found = await self._resolver.resolve(name)
        if found is None:
            kept = self._known.get(name, ((), 0.0))[0], self._clock() + RETRY_AFTER
        else:
            kept = found.targets, self._clock() + found.ttl
        if len(self._known) >= MAX_CACHED:
            self._known.clear()
        self._known[name] = kept

    async def close(self) -> None:
        """Ask no further."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class NameTable:
    """The last good answer for each name in use, refreshed in the background.

    ``on_change`` is called (in the event loop) after an answer became another one.
    """

    def __init__(self, resolver: Resolver, on_change: Callable[[], None]) -> None:
        self._resolver = resolver
        self._on_change = on_change
        self._answers: dict[HostName, tuple[Target, ...]] = {}
        self._tasks: dict[HostName, asyncio.Task[None]] = {}

    def get(self, name: HostName) -> tuple[Target, ...]:
        """Targets to try in order; empty when the name has never resolved."""
        return self._answers.get(name, ())

    async def watch(self, names: Iterable[HostName], *, patience: float | None = None) -> None:
        """Follow exactly these names; returns when each was looked up once (bounded by the look-up time-
        outs), or after ``patience`` seconds: what comes later is a change.
        """
        wanted = set(names)
        for name in self._tasks.keys() - wanted:
            self._tasks.pop(name).cancel()
        firsts: list[asyncio.Future[None]] = []
        for name in wanted - self._tasks.keys():
            firsts.append(asyncio.get_running_loop().create_future())
            following = self._follow(name, firsts[-1])
            self._tasks[name] = asyncio.create_task(following, name=f"resolve {name.host}")
        if firsts:
            try:
                await asyncio.wait(firsts, timeout=patience)
            finally:
                for first in firsts:
                    first.cancel()

    async def close(self) -> None:
        """End the refreshing."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, name: HostName, first: asyncio.Future[None]) -> None:
        while True:
            before = self.get(name)
            try:
                delay = await self._refresh(name)
            except BaseException:
                first.cancel()
                raise
            if not first.done():
                first.set_result(None)  # whoever waits for it will look
            elif self.get(name) != before:
                addresses = ", ".join(f"{target.host}:{target.port}" for target in self.get(name))
                logger.info("%s is now at %s", name.host, addresses)
                self._on_change()
            await asyncio.sleep(delay)

    async def _refresh(self, name: HostName) -> float:
        """Look the name up once; return after how many seconds to do so again."""
        found = await self._resolver.resolve(name)
        if found is None:
            kept = "keeping the last answer" if self.get(name) else "it has no address yet"
            logger.warning("cannot resolve %s: %s", name.host, kept)
            return RETRY_AFTER
        # A, AAAA and SRV of one weight come in another order each time; only other targets are news.
        if set(found.targets) != set(self.get(name)):
            self._answers[name] = found.targets
        return found.ttl

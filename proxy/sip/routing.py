"""Locating SIP servers: a destination to an ordered list of transport, address and port.

RFC 3263 §4 (NAPTR, SRV, A and AAAA), RFC 2782 (priorities and weights). Nothing here asks DNS: a `Location`
says which questions are open, takes their answers in any order, and in the end has its targets. Randomness
(the weights) comes in as a function. What a zone may cause is bounded: it belongs to somebody else.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, count, groupby
from operator import attrgetter
from typing import Final, NamedTuple, TypeAlias

from proxy.sip.flow import DEFAULT_PORTS, is_address

__all__ = [
    "Answer",
    "Destination",
    "Location",
    "Lookup",
    "Naptr",
    "Question",
    "RecordKind",
    "Srv",
    "Target",
    "nothing_known",
    "order_by_weight",
]

MAX_NAPTR: Final = 8
MAX_SRV: Final = 16
MAX_ADDRESSES: Final = 16
"""Records of one answer that are looked at."""
FOREVER: Final = 86_400.0
"""Seconds that an answer holds which needed no DNS."""

_SERVICES: Final = {"SIP+D2U": "UDP", "SIP+D2T": "TCP", "SIPS+D2T": "TLS"}
_SRV_LABELS: Final = {"UDP": "_sip._udp", "TCP": "_sip._tcp", "TLS": "_sips._tcp"}


class RecordKind(enum.Enum):
    """Kinds of DNS records that are asked for."""

    NAPTR = "NAPTR"
    SRV = "SRV"
    A = "A"
    AAAA = "AAAA"


class Question(NamedTuple):
    """One question to DNS; the name is in lower case and without a dot at its end."""

    kind: RecordKind
    name: str


class Naptr(NamedTuple):
    """RFC 3403 §4.1; without the regular expression, which is empty for SIP."""

    order: int
    preference: int
    flags: str
    service: str
    replacement: str


class Srv(NamedTuple):
    """RFC 2782. The target "" is the root: the service is decidedly not available."""

    priority: int
    weight: int
    port: int
    target: str


Record: TypeAlias = Naptr | Srv | str
"""An address record is its address."""


class Answer(NamedTuple):
    """What DNS said: no records where the name or the kind does not exist."""

    records: tuple[Record, ...]
    ttl: float
    """Seconds."""


class Target(NamedTuple):
    """One server to try: transport as in a Via, IP address without brackets, port."""

    transport: str
    host: str
    port: int
    group: int = 0
    """Servers of one group share the requests by weight, and stand beside each other; 0: it shares none."""
    weight: int = 0
    """Its share within the group; 0: it comes after those that have one."""


Lookup: TypeAlias = Callable[[str, int | None, str, str], Sequence[Target]]
"""What is known of a name that a peer gave, with port and transport ("" if it is for DNS to say) and the
transport to take where DNS says nothing: its targets in order, none while it is unknown. It never waits."""


def nothing_known(host: str, port: int | None, transport: str, preferred: str) -> Sequence[Target]:
    """Know no name: a `Lookup` for who asks no DNS."""
    del host, port, transport, preferred
    return ()


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a request is to go."""

    host: str
    """A name, or an address without brackets."""
    port: int | None = None
    transport: str = ""
    """As in a Via; "" if it is for DNS to say (RFC 3263 §4.1)."""
    secure: bool = False
    """A sips URI: nothing but TLS."""
    preferred: str = ""
    """Transport to take where neither this nor DNS names one; "": the usual one."""


class Location:
    """The procedure for one destination.

    Ask what is in `open_questions`, tell each outcome to `answer`, until none is left; then read `targets`.
    ``supported`` are the transports of the gate, the preferred one first.
    """

    def __init__(
        self, destination: Destination, *, supported: Sequence[str], choose: Callable[[], float]
    ) -> None:
        self.destination = destination
        self.targets: tuple[Target, ...] = ()
        """In the order in which they are to be tried; empty while questions are open."""
        self.ttl = FOREVER
        """Seconds for which the targets hold: the least of all the answers."""
        self.failed = False
        """DNS did not answer some question: there may be more targets than were found."""
        self.open_questions: frozenset[Question] = frozenset()
        self._supported = tuple(name for name in supported if name == "TLS" or not destination.secure)
        self._choose = choose
        self._answers: dict[Question, Answer | None] = {}
        self._missing: set[Question] = set()
        self._evaluate()

    def answer(self, question: Question, answer: Answer | None) -> None:
        """Take the outcome of a question: an answer, or None when nobody gave one."""
        if question in self.open_questions:
            self._answers[question] = answer
            if answer is None:
                self.failed = True
            else:
                self.ttl = min(self.ttl, answer.ttl)
            self.open_questions -= {question}
            if not self.open_questions:
                self._evaluate()

    def _evaluate(self) -> None:
        """Go through the procedure with what is known; it either ends, or names what is missing."""
        self._missing.clear()
        found = self._find()
        self.open_questions = frozenset(self._missing)
        if not self.open_questions:
            unlike: dict[tuple[str, str, int], Target] = {}
            for target in found:
                unlike.setdefault(target[:3], target)
            self.targets = tuple(unlike.values())

    def _ask(self, kind: RecordKind, name: str, limit: int) -> tuple[Record, ...] | None:
        """Return the records of a name, or None while they are not known."""
        question = Question(kind, name.lower().rstrip("."))
        if question not in self._answers:
            self._missing.add(question)
            return None
        answer = self._answers[question]
        return () if answer is None else answer.records[:limit]

    # The procedure ------------------------------------------------------------------------------------------

    def _find(self) -> list[Target]:
        wanted = self.destination
        transport = "TLS" if wanted.secure and wanted.transport in {"", "TCP"} else wanted.transport
        if wanted.secure and transport not in {"TLS", "WSS"}:
            return []
        default = "TLS" if wanted.secure else wanted.preferred or "UDP"
        if is_address(wanted.host):
            transport = transport or default
            return [Target(transport, wanted.host, self._port(transport))]
        if wanted.port is not None or (transport and transport not in _SRV_LABELS):
            transport = transport or default
            return self._by_address(transport, wanted.host, self._port(transport))
        if transport:
            return self._by_srv([(transport, f"{_SRV_LABELS[transport]}.{wanted.host}")], transport)
        services = self._by_naptr()
        if services is None:
            return []
        # §4.1: without NAPTR records SRV is asked for each transport that is supported, the best one first.
        services = services or [
            (name, f"{_SRV_LABELS[name]}.{wanted.host}")
            for name in sorted(self._supported, key=lambda name: name != wanted.preferred)
            if name in _SRV_LABELS
        ]
        return self._by_srv(services, default)

    def _port(self, transport: str) -> int:
        port = self.destination.port
        return DEFAULT_PORTS[transport] if port is None else port

    def _by_naptr(self) -> list[tuple[str, str]] | None:
        """Return transports and SRV names in the order of the NAPTR records; None while they are open."""
        records = self._ask(RecordKind.NAPTR, self.destination.host, MAX_NAPTR)
        if records is None:
            return None
        found = sorted(record for record in records if isinstance(record, Naptr))
        services: list[tuple[str, str]] = []
        for record in found:
            transport = _SERVICES.get(record.service.upper(), "")
            if transport in self._supported and record.flags.lower() == "s" and record.replacement:
                services.append((transport, record.replacement))
        return services

    def _by_srv(self, services: Iterable[tuple[str, str]], default: str) -> list[Target]:
        """Return the servers of each SRV name in turn; those of A and AAAA if none has a record (§4.2)."""
        targets: list[Target] = []
        exists = False
        groups = count(1)
        for transport, name in services:
            records = self._ask(RecordKind.SRV, name, MAX_SRV)
            servers = [record for record in records or () if isinstance(record, Srv)]
            exists = exists or bool(servers)
            # A target of the root says that the service is decidedly not there (RFC 2782).
            there = [server for server in servers if server.target and server.port]
            ordered = order_by_weight(there, self._choose)
            for _, alike in groupby(ordered, key=attrgetter("priority")):
                targets += self._sharing(transport, list(alike), next(groups))
        if exists or self._missing:
            return targets
        return self._by_address(default, self.destination.host, DEFAULT_PORTS[default])

    def _sharing(self, transport: str, servers: list[Srv], group: int) -> list[Target]:
        """Return the addresses of servers of one priority, the first of each with what it has of the
        requests."""
        targets: list[Target] = []
        weighted = any(server.weight for server in servers)
        for server in servers:
            found = self._by_address(transport, server.target, server.port)
            if len(servers) > 1:
                weight = server.weight if weighted else 1
                found = [
                    target._replace(group=group, weight=0 if number else weight)
                    for number, target in enumerate(found)
                ]
            targets += found
        return targets

    def _by_address(self, transport: str, host: str, port: int) -> list[Target]:
        found: list[Target] = []
        for kind in (RecordKind.A, RecordKind.AAAA):
            records = self._ask(kind, host, MAX_ADDRESSES) or ()
            found += [Target(transport, record, port) for record in records if isinstance(record, str)]
        return found


def order_by_weight(servers: Iterable[Srv], choose: Callable[[], float]) -> list[Srv]:
    """Order SRV records: by priority, and by weighted chance within one (RFC 2782).

    ``choose`` returns a random number of at least 0 and less than 1.
    """
    ordered: list[Srv] = []
    by_priority: dict[int, list[Srv]] = {}
    for server in servers:
        by_priority.setdefault(server.priority, []).append(server)
    for priority in sorted(by_priority):
        # Those of weight 0 first, so that they are chosen only with the chance that the sum leaves them.
        left = sorted(by_priority[priority], key=lambda server: server.weight > 0)
        while left:
            mark = int(choose() * (sum(server.weight for server in left) + 1))
            totals = accumulate(server.weight for server in left)
            ordered.append(left.pop(next(index for index, total in enumerate(totals) if total >= mark)))
    return ordered

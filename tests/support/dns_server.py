"""A real, tiny DNS server on a loopback socket."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import dns.asyncresolver
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset


class DnsServer(asyncio.DatagramProtocol):
    """Answers from `zone`: (name, kind) to TTL and values. A name that is not in it does not exist.

    ``broken``: SERVFAIL to everything; ``silent``: no answer at all; ``garble`` makes of each answer what
    goes out. CNAMEs are followed as a recursive server does, and given up in a loop.
    """

    def __init__(self) -> None:
        self.zone: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self.broken = False
        self.silent = False
        self.garble: Callable[[bytes], list[bytes]] = lambda answer: [answer]
        self.asked: Counter[tuple[str, str]] = Counter()
        self._transport: asyncio.DatagramTransport | None = None

    @property
    def port(self) -> int:
        """Port at 127.0.0.1."""
        assert self._transport is not None
        return int(self._transport.get_extra_info("sockname")[1])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self._transport is not None
        query = dns.message.from_wire(data)
        question = query.question[0]
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked[_text(question.name), kind] += 1
        if self.silent:
            return
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        if self.broken:
            answer.set_rcode(dns.rcode.SERVFAIL)
        else:
            self._answer(answer, question.name, kind)
        for wire in self.garble(answer.to_wire()):
            self._transport.sendto(wire, addr)

    def _answer(self, answer: dns.message.Message, name: dns.name.Name, kind: str) -> None:
        for _ in range(20):
            if (_text(name), kind) in self.zone:
                ttl, values = self.zone[_text(name), kind]
                answer.answer.append(dns.rrset.from_text_list(name, ttl, "IN", kind, values))
                return
            if (_text(name), "CNAME") not in self.zone:
                break
            ttl, (alias,) = self.zone[_text(name), "CNAME"]
            answer.answer.append(dns.rrset.from_text_list(name, ttl, "IN", "CNAME", [alias]))
            name = dns.name.from_text(alias)
        if not any(known == _text(name) for known, _ in self.zone):
            answer.set_rcode(dns.rcode.NXDOMAIN)


@asynccontextmanager
async def running_dns_server() -> AsyncIterator[tuple[DnsServer, dns.asyncresolver.Resolver]]:
    """Run a server; with it comes a client that asks nobody else."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(DnsServer, local_addr=("127.0.0.1", 0))
    client = dns.asyncresolver.Resolver(configure=False)
    client.nameservers = ["127.0.0.1"]
    client.port = server.port
    try:
        yield server, client
    finally:
        transport.close()
        await asyncio.sleep(0)


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()

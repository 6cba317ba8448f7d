"""Look-ups against a real (tiny) DNS server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from proxy.net import resolver as module
from proxy.net.resolver import HostName, NameTable, Resolver, is_literal


class DnsServer(asyncio.DatagramProtocol):
    """Answers from `zone`; a name that is not in it does not exist; a broken server answers SERVFAIL."""

    def __init__(self) -> None:
        self.zone: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self.broken = False
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self.transport is not None
        query = dns.message.from_wire(data)
        question = query.question[0]
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        name = question.name.to_text(omit_final_dot=True)
        kind = dns.rdatatype.to_text(question.rdtype)
        if self.broken:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif (name, kind) in self.zone:
            ttl, values = self.zone[name, kind]
            answer.answer.append(dns.rrset.from_text_list(question.name, ttl, "IN", kind, values))
        elif not any(known == name for known, _ in self.zone):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(answer.to_wire(), addr)


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(DnsServer, local_addr=("127.0.0.1", 0))
    yield protocol
    transport.close()
    await asyncio.sleep(0)


@pytest.fixture
def resolver(server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> Resolver:
    assert server.transport is not None
    client = dns.asyncresolver.Resolver(configure=False)
    client.nameservers = ["127.0.0.1"]
    client.port = server.transport.get_extra_info("sockname")[1]
    monkeypatch.setattr(module, "LOOKUP_TIMEOUT", 1.0)
    return Resolver(client)


async def test_an_address_is_its_own_answer(resolver: Resolver) -> None:
    found = await resolver.resolve(HostName("192.0.2.1", None))
    assert found is not None
    assert found.addresses == (("192.0.2.1", 5060),)


async def test_a_name_with_a_port_gives_a_and_aaaa(server: DnsServer, resolver: Resolver) -> None:
    server.zone["sip.example.com", "A"] = (120, ["192.0.2.7"])
    server.zone["sip.example.com", "AAAA"] = (60, ["2001:db8::7"])
    found = await resolver.resolve(HostName("sip.example.com", 5070))
    assert found is not None
    assert found.addresses == (("192.0.2.7", 5070), ("2001:db8::7", 5070))
    assert found.ttl == 60


async def test_rfc3263_4_2_a_name_without_port_is_looked_up_by_srv(
    server: DnsServer, resolver: Resolver
) -> None:
    server.zone["_sip._udp.example.com", "SRV"] = (
        300,
        ["20 0 5080 backup.example.com.", "10 10 5062 b.example.com.", "10 90 5061 a.example.com."],
    )
    server.zone["a.example.com", "A"] = (600, ["192.0.2.1"])
    server.zone["b.example.com", "A"] = (600, ["192.0.2.2"])
    server.zone["backup.example.com", "A"] = (600, ["192.0.2.3"])
    found = await resolver.resolve(HostName("example.com", None))
    assert found is not None
    assert found.addresses == (("192.0.2.1", 5061), ("192.0.2.2", 5062), ("192.0.2.3", 5080))
    assert found.ttl == 300


async def test_rfc2782_a_target_of_root_means_no_such_service(server: DnsServer, resolver: Resolver) -> None:
    server.zone["_sip._tcp.example.com", "SRV"] = (300, ["0 0 0 ."])
    server.zone["example.com", "A"] = (300, ["192.0.2.9"])
    found = await resolver.resolve(HostName("example.com", None, "TCP"))
    assert found is not None
    assert found.addresses == (("192.0.2.9", 5060),)


async def test_what_dns_does_not_know_the_system_may(resolver: Resolver) -> None:
    found = await resolver.resolve(HostName("localhost", 5060))
    assert found is not None
    assert ("127.0.0.1", 5060) in found.addresses


async def test_a_host_without_any_dns_uses_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def _none() -> dns.asyncresolver.Resolver:
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr(dns.asyncresolver, "Resolver", _none)
    found = await Resolver().resolve(HostName("localhost", 5060))
    assert found is not None


async def test_an_unknown_name_is_none(resolver: Resolver) -> None:
    assert await resolver.resolve(HostName("nowhere.invalid", 5060)) is None


async def test_a_ttl_is_kept_within_bounds(server: DnsServer, resolver: Resolver) -> None:
    server.zone["sip.example.com", "A"] = (0, ["192.0.2.7"])
    found = await resolver.resolve(HostName("sip.example.com", 1))
    assert found is not None
    assert found.ttl == module.MIN_TTL


NAME = HostName("sip.example.com", 5060)


async def test_the_table_keeps_the_last_good_answer(
    server: DnsServer, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MIN_TTL", 0.02)
    monkeypatch.setattr(module, "MAX_TTL", 0.02)
    monkeypatch.setattr(module, "RETRY_AFTER", 0.02)
    changes: list[int] = []
    changed = asyncio.Event()

    def on_change() -> None:
        changes.append(1)
        changed.set()

    server.zone["sip.example.com", "A"] = (1, ["192.0.2.7"])
    table = NameTable(resolver, on_change)
    assert table.get(NAME) == ()
    await table.watch([NAME])
    assert table.get(NAME) == (("192.0.2.7", 5060),)
    server.broken = True
    await asyncio.sleep(0.15)
    assert table.get(NAME) == (("192.0.2.7", 5060),)
    assert not changes
    server.broken = False
    server.zone["sip.example.com", "A"] = (1, ["192.0.2.8"])
    await asyncio.wait_for(changed.wait(), 5)
    assert table.get(NAME) == (("192.0.2.8", 5060),)
    await table.watch([])
    await table.close()


async def test_the_order_of_equal_addresses_is_no_change(
    server: DnsServer, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MIN_TTL", 0.01)
    monkeypatch.setattr(module, "MAX_TTL", 0.01)
    changes: list[int] = []
    server.zone["sip.example.com", "A"] = (1, ["192.0.2.7", "192.0.2.8"])
    table = NameTable(resolver, lambda: changes.append(1))
    await table.watch([NAME])
    server.zone["sip.example.com", "A"] = (1, ["192.0.2.8", "192.0.2.7"])
    await asyncio.sleep(0.1)
    assert not changes
    await table.close()


@pytest.mark.parametrize(
    ("host", "expected"),
    [("192.0.2.1", True), ("2001:db8::1", True), ("fe80::1%eth0", True), ("example.com", False), ("", False)],
)
def test_is_literal(host: str, expected: bool) -> None:
    assert is_literal(host) is expected

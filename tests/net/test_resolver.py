"""Look-ups against a real (tiny) DNS server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import dns.asyncresolver
import dns.resolver
import pytest

from proxy.net import resolver as module
from proxy.net.resolver import HostName, NameTable, PeerNames, Resolver, is_literal
from proxy.sip.routing import Target
from tests.net.waiting import PATIENCE
from tests.support.dns_server import DnsServer, running_dns_server


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def dns_pair(
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[tuple[DnsServer, dns.asyncresolver.Resolver]]:
    monkeypatch.setattr(module, "LOOKUP_TIMEOUT", 30.0)
    async with running_dns_server() as pair:
        yield pair


@pytest.fixture
def server(dns_pair: tuple[DnsServer, dns.asyncresolver.Resolver]) -> DnsServer:
    return dns_pair[0]


@pytest.fixture
def resolver(dns_pair: tuple[DnsServer, dns.asyncresolver.Resolver], clock: Clock) -> Resolver:
    return Resolver(dns_pair[1], supported=("TLS", "TCP", "UDP"), choose=lambda: 0.999, clock=clock)


@pytest.fixture
def live(dns_pair: tuple[DnsServer, dns.asyncresolver.Resolver]) -> Resolver:
    """A resolver whose time passes."""
    return Resolver(dns_pair[1])


async def addresses(resolver: Resolver, name: HostName) -> list[tuple[str, int]]:
    found = await resolver.resolve(name)
    return [] if found is None else [(target.host, target.port) for target in found.targets]


async def test_an_address_is_its_own_answer(resolver: Resolver) -> None:
    assert await addresses(resolver, HostName("192.0.2.1", None)) == [("192.0.2.1", 5060)]
    assert await addresses(resolver, HostName("192.0.2.1", None, "TLS")) == [("192.0.2.1", 5061)]


async def test_a_name_with_a_port_gives_a_and_aaaa(server: DnsServer, resolver: Resolver) -> None:
    server.zone["sip.example.com", "A"] = (120, ["192.0.2.7"])
    server.zone["sip.example.com", "AAAA"] = (60, ["2001:db8::7"])
    found = await resolver.resolve(HostName("sip.example.com", 5070))
    assert found is not None
    assert found.targets == (Target("UDP", "192.0.2.7", 5070), Target("UDP", "2001:db8::7", 5070))
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
    assert {target.port for target in found.targets[:2]} == {5061, 5062}
    assert found.targets[2] == Target("UDP", "192.0.2.3", 5080)
    assert found.ttl == module.NEGATIVE_TTL, "the AAAA records that are not there hold for less"


async def test_rfc3263_4_1_naptr_chooses_the_transport(server: DnsServer, resolver: Resolver) -> None:
    server.zone["example.com", "NAPTR"] = (
        300,
        [
            '20 50 "s" "SIP+D2U" "" _sip._udp.example.com.',
            '10 50 "s" "SIPS+D2T" "" _sips._tcp.example.com.',
        ],
    )
    server.zone["_sips._tcp.example.com", "SRV"] = (300, ["0 0 5061 a.example.com."])
    server.zone["_sip._udp.example.com", "SRV"] = (300, ["0 0 5060 a.example.com."])
    server.zone["a.example.com", "A"] = (600, ["192.0.2.1"])
    tls, udp = Target("TLS", "192.0.2.1", 5061), Target("UDP", "192.0.2.1", 5060)
    found = await resolver.resolve(HostName("example.com", None, "SIP"))
    assert found is not None
    assert found.targets == (tls, udp)
    found = await resolver.resolve(HostName("example.com", None, "SIPS"))
    assert found is not None
    assert found.targets == (tls,)


async def test_rfc2782_a_target_of_root_means_no_such_service(server: DnsServer, resolver: Resolver) -> None:
    server.zone["_sip._tcp.example.com", "SRV"] = (300, ["0 0 0 ."])
    server.zone["example.com", "A"] = (300, ["192.0.2.9"])
    assert await resolver.resolve(HostName("example.com", None, "TCP")) is None


async def test_an_alias_is_followed(server: DnsServer, resolver: Resolver) -> None:
    server.zone["sip.example.com", "CNAME"] = (300, ["real.example.net."])
    server.zone["real.example.net", "A"] = (300, ["192.0.2.4"])
    assert await addresses(resolver, HostName("sip.example.com", 5060)) == [("192.0.2.4", 5060)]


async def test_aliases_in_a_loop_give_nothing(server: DnsServer, resolver: Resolver) -> None:
    server.zone["a.invalid", "CNAME"] = (300, ["b.invalid."])
    server.zone["b.invalid", "CNAME"] = (300, ["a.invalid."])
    assert await resolver.resolve(HostName("a.invalid", 5060)) is None


async def test_rfc2308_what_is_kept_is_not_asked_again(
    server: DnsServer, resolver: Resolver, clock: Clock
) -> None:
    server.zone["sip.example.com", "A"] = (100, ["192.0.2.7"])
    name = HostName("sip.example.com", 5060)
    first = await asyncio.gather(*(resolver.resolve(name) for _ in range(5)))
    assert len({id(found) for found in first}) == 5
    assert server.asked == {("sip.example.com", "A"): 1, ("sip.example.com", "AAAA"): 1}
    clock.now += module.NEGATIVE_TTL - 1
    found = await resolver.resolve(name)
    assert found is not None
    assert found.ttl == 1.0, "what is left of the shortest"
    clock.now += 2
    await resolver.resolve(name)
    assert server.asked == {("sip.example.com", "A"): 1, ("sip.example.com", "AAAA"): 2}
    clock.now += 60
    await resolver.resolve(name)
    assert server.asked["sip.example.com", "A"] == 2


@pytest.mark.parametrize("fault", ["broken", "silent"])
async def test_the_last_good_answer_stands_in_when_dns_fails(
    fault: str, server: DnsServer, resolver: Resolver, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.zone["sip.example.com", "A"] = (20, ["192.0.2.7"])
    name = HostName("sip.example.com", 5060)
    assert await addresses(resolver, name) == [("192.0.2.7", 5060)]
    setattr(server, fault, True)
    monkeypatch.setattr(module, "LOOKUP_TIMEOUT", 0.2)
    clock.now += 100
    found = await resolver.resolve(name)
    assert found is not None
    assert found.targets == (Target("UDP", "192.0.2.7", 5060),)
    assert found.ttl <= module.RETRY_AFTER
    asked = server.asked["sip.example.com", "A"]
    await resolver.resolve(name)
    assert server.asked["sip.example.com", "A"] == asked, "a server in trouble is not asked at every turn"
    setattr(server, fault, False)
    monkeypatch.setattr(module, "LOOKUP_TIMEOUT", 30.0)
    server.zone["sip.example.com", "A"] = (20, ["192.0.2.8"])
    clock.now += module.RETRY_AFTER
    assert await addresses(resolver, name) == [("192.0.2.8", 5060)]


async def test_a_stale_answer_does_not_stand_in_for_ever(
    server: DnsServer, resolver: Resolver, clock: Clock
) -> None:
    server.zone["sip.invalid", "A"] = (20, ["192.0.2.7"])
    name = HostName("sip.invalid", 5060)
    assert await addresses(resolver, name) == [("192.0.2.7", 5060)]
    server.broken = True
    clock.now += module.STALE + 100
    assert await resolver.resolve(name) is None


async def test_one_broken_answer_of_two_shortens_the_time(server: DnsServer, resolver: Resolver) -> None:
    server.broken = True
    assert await resolver.resolve(HostName("sip.invalid", 5060)) is None
    server.broken = False
    server.zone["sip.invalid", "A"] = (300, ["192.0.2.7"])
    assert await resolver.resolve(HostName("sip.invalid", 5060)) is None, "asked again later only"


async def test_the_answers_kept_are_bounded(
    server: DnsServer, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CACHED", 2)
    server.zone["sip.example.com", "A"] = (100, ["192.0.2.7"])
    for name in ("sip.example.com", "a.invalid", "sip.example.com"):
        await resolver.resolve(HostName(name, 5060))
    assert server.asked["sip.example.com", "A"] == 2


async def test_a_name_that_dns_cannot_hold_is_none(resolver: Resolver) -> None:
    assert await resolver.resolve(HostName("x" * 70 + ".invalid", 5060)) is None
    assert await resolver.resolve(HostName("a..invalid", 5060)) is None


async def test_what_dns_does_not_know_the_system_may(resolver: Resolver) -> None:
    found = await resolver.resolve(HostName("localhost", 5060))
    assert found is not None
    assert Target("UDP", "127.0.0.1", 5060) in found.targets
    assert ("127.0.0.1", 5061) in await addresses(resolver, HostName("localhost", None, "SIPS"))


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
    server: DnsServer, live: Resolver, monkeypatch: pytest.MonkeyPatch
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
    table = NameTable(live, on_change)
    assert table.get(NAME) == ()
    await table.watch([NAME])
    assert table.get(NAME) == (Target("UDP", "192.0.2.7", 5060),)
    server.broken = True
    await asyncio.sleep(0.15)
    assert table.get(NAME) == (Target("UDP", "192.0.2.7", 5060),)
    assert not changes
    server.broken = False
    server.zone["sip.example.com", "A"] = (1, ["192.0.2.8"])
    await asyncio.wait_for(changed.wait(), PATIENCE)
    assert table.get(NAME) == (Target("UDP", "192.0.2.8", 5060),)
    await table.watch([])
    await table.close()


async def test_who_waits_for_a_silent_dns_waits_so_long_and_the_answer_is_a_change(
    server: DnsServer, dns_pair: tuple[DnsServer, dns.asyncresolver.Resolver]
) -> None:
    client = dns_pair[1]
    client.timeout = 0.05
    changed = asyncio.Event()
    server.zone["sip.example.com", "A"] = (60, ["192.0.2.7"])
    server.silent = True
    table = NameTable(Resolver(client), changed.set)
    await table.watch([NAME], patience=0.1)
    assert table.get(NAME) == ()
    server.silent = False
    await asyncio.wait_for(changed.wait(), PATIENCE)
    assert table.get(NAME) == (Target("UDP", "192.0.2.7", 5060),)
    await table.close()


async def test_a_look_up_that_breaks_keeps_nobody_waiting(
    live: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_name: HostName) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(live, "resolve", broken)
    table = NameTable(live, lambda: None)
    await asyncio.wait_for(table.watch([NAME]), PATIENCE)
    assert table.get(NAME) == ()
    await table.close()


async def test_the_order_of_equal_addresses_is_no_change(
    server: DnsServer, live: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MIN_TTL", 0.01)
    monkeypatch.setattr(module, "MAX_TTL", 0.01)
    changes: list[int] = []
    server.zone["sip.example.com", "A"] = (1, ["192.0.2.7", "192.0.2.8"])
    table = NameTable(live, lambda: changes.append(1))
    await table.watch([NAME])
    server.zone["sip.example.com", "A"] = (1, ["192.0.2.8", "192.0.2.7"])
    await asyncio.sleep(0.1)
    assert not changes
    await table.close()


async def known(names: PeerNames, host: str, port: int | None = 5060) -> tuple[Target, ...]:
    """What is known once the look-up that `get` may have begun is over."""
    names.get(host, port, "UDP")
    asking = [task for task in asyncio.all_tasks() if task.get_name() == f"resolve {host}"]
    await asyncio.gather(*asking)
    await asyncio.sleep(0)  # what they leave to be done after them
    return names.get(host, port, "UDP")


async def test_rfc3263_4_a_peers_name_is_known_the_second_time(
    server: DnsServer, resolver: Resolver, clock: Clock
) -> None:
    server.zone["gw.example.com", "A"] = (60, ["192.0.2.7"])
    names = PeerNames(resolver, clock=clock)
    assert names.get("GW.example.com", 5060, "UDP") == ()
    assert await known(names, "gw.example.com") == (Target("UDP", "192.0.2.7", 5060),)
    server.zone["gw.example.com", "A"] = (60, ["192.0.2.8"])
    clock.now += 59.0
    assert await known(names, "gw.example.com") == (Target("UDP", "192.0.2.7", 5060),)
    clock.now += 2.0
    assert names.get("gw.example.com", 5060, "UDP") == (Target("UDP", "192.0.2.7", 5060),)
    assert await known(names, "gw.example.com") == (Target("UDP", "192.0.2.8", 5060),)
    await names.close()


async def test_a_peers_name_that_dns_does_not_know_is_asked_again_later(
    server: DnsServer, resolver: Resolver, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nobody(*_name: object) -> None:
        return None

    monkeypatch.setattr(module, "_ask_system", nobody)
    names = PeerNames(resolver, clock=clock)
    assert await known(names, "none.example.com") == ()
    asked = server.asked.total()
    assert await known(names, "none.example.com") == ()
    assert server.asked.total() == asked
    server.zone["none.example.com", "A"] = (60, ["192.0.2.7"])
    clock.now += module.NEGATIVE_TTL + 1.0
    assert await known(names, "none.example.com") == (Target("UDP", "192.0.2.7", 5060),)
    server.broken = True
    clock.now += 61.0
    assert await known(names, "none.example.com") == (Target("UDP", "192.0.2.7", 5060),)
    await names.close()


async def test_names_of_peers_fill_neither_memory_nor_the_network(
    resolver: Resolver, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ASKING", 3)
    monkeypatch.setattr(module, "MAX_CACHED", 5)
    names = PeerNames(resolver, clock=clock)
    for number in range(20):
        names.get(f"192.0.2.{number}", 5060, "UDP")
    assert names.looks_up == 3
    for number in range(20):
        await known(names, f"192.0.2.{number}")
    assert len(names) <= 5
    names.get("192.0.2.99", 5060, "UDP")
    await names.close()
    assert names.looks_up == 0


@pytest.mark.parametrize(
    ("host", "expected"),
    [("192.0.2.1", True), ("2001:db8::1", True), ("fe80::1%eth0", True), ("example.com", False), ("", False)],
)
def test_is_literal(host: str, expected: bool) -> None:
    assert is_literal(host) is expected

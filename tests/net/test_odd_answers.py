"""DNS answers of no server in its senses: what was known before stands, and nobody is led astray."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from random import Random

import dns.asyncresolver
import pytest

from proxy.net import resolver as module
from proxy.net.resolver import HostName, Resolver
from tests.net.test_resolver import Clock
from tests.support.dns_server import DnsServer, running_dns_server

NAME = HostName("carrier.test", None)
GOOD = [("192.0.2.5", 5080)]
OTHER = b"\xc6\x33\x64\x42"  # 198.51.100.66


def _other_question(answer: bytes) -> bytes:
    return answer.replace(b"\x07carrier", b"\x07another")


def _flags(answer: bytes, first: int, second: int) -> bytes:
    return answer[:2] + bytes([first, second]) + answer[4:]


def _pointer_to_itself(answer: bytes) -> bytes:
    # The question's name becomes a pointer to its own place (RFC 1035 §4.1.4).
    return answer[:12] + b"\xc0\x0c" + answer[14:]


def _noise(answer: bytes) -> list[bytes]:
    random = Random(26)
    return [random.randbytes(random.randint(0, 1_200)) for _ in range(50)] + [b"", answer[:12]]


ODD: dict[str, Callable[[bytes], list[bytes]]] = {
    "noise": _noise,
    "half of it": lambda answer: [answer[: len(answer) // 2]],
    "the number of another question": lambda answer: [bytes([answer[0] ^ 1]) + answer[1:]],
    "an answer to another question": lambda answer: [_other_question(answer)],
    "a question for an answer": lambda answer: [_flags(answer, 0x01, 0x00)],
    "SERVFAIL": lambda answer: [_flags(answer, 0x81, 0x82)],
    "REFUSED": lambda answer: [_flags(answer, 0x81, 0x85)],
    "an unknown rcode": lambda answer: [_flags(answer, 0x81, 0x8F)],
    "counts of what is not there": lambda answer: [answer[:6] + b"\xff\xff\xff\xff\xff\xff" + answer[12:]],
    "a name that points to itself": lambda answer: [_pointer_to_itself(answer)],
    "cut off, and nobody at TCP": lambda answer: [_flags(answer, 0x83, 0x80)],
    "nothing": lambda _answer: [],
}


@pytest.fixture
async def dns_pair() -> AsyncIterator[tuple[DnsServer, dns.asyncresolver.Resolver]]:
    async with running_dns_server() as pair:
        server = pair[0]
        server.zone["_sip._udp.carrier.test", "SRV"] = (60, ["1 1 5080 a.carrier.test."])
        server.zone["a.carrier.test", "A"] = (60, ["192.0.2.5"])
        yield pair


async def targets(resolver: Resolver) -> list[tuple[str, int]]:
    found = await resolver.resolve(NAME)
    return [] if found is None else [(target.host, target.port) for target in found.targets]


@pytest.mark.parametrize("kind", ODD)
async def test_what_was_known_stands_whatever_dns_says(
    kind: str, dns_pair: tuple[DnsServer, dns.asyncresolver.Resolver], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = dns_pair
    clock = Clock()
    monkeypatch.setattr(module, "LOOKUP_TIMEOUT", 30.0)
    resolver = Resolver(client, supported=("UDP",), clock=clock)
    assert await targets(resolver) == GOOD
    clock.now += module.MAX_TTL
    server.garble = ODD[kind]
    monkeypatch.setattr(module, "LOOKUP_TIMEOUT", 0.1)
    asked = server.asked.total()
    assert await targets(resolver) == GOOD
    assert server.asked.total() > asked
    server.garble = lambda answer: [answer]
    monkeypatch.setattr(module, "LOOKUP_TIMEOUT", 30.0)
    server.zone["a.carrier.test", "A"] = (60, ["192.0.2.6"])
    clock.now += module.MAX_TTL
    assert await targets(resolver) == [("192.0.2.6", 5080)], "DNS is believed again"


async def test_a_forged_answer_before_the_true_one_is_not_believed(
    dns_pair: tuple[DnsServer, dns.asyncresolver.Resolver], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = dns_pair
    monkeypatch.setattr(module, "LOOKUP_TIMEOUT", 30.0)
    address = bytes([192, 0, 2, 5])

    def forged_first(answer: bytes) -> list[bytes]:
        forged = answer.replace(address, OTHER)
        return [bytes([answer[0] ^ 1]) + forged[1:], _other_question(forged), *_noise(answer)[:3], answer]

    server.garble = forged_first
    assert await targets(Resolver(client, supported=("UDP",))) == GOOD

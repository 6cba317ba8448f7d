"""Locating SIP servers (RFC 3263, RFC 2782), with DNS as a table."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.sip.routing import (
    FOREVER,
    MAX_ADDRESSES,
    Answer,
    Destination,
    Location,
    Naptr,
    Question,
    Record,
    RecordKind,
    Srv,
    Target,
    order_by_weight,
)

Zone = dict[tuple[str, str], list[Record]]
ALL = ("TLS", "TCP", "UDP")


def locate(
    destination: Destination, zone: Zone, supported: tuple[str, ...] = ALL, seed: int = 1
) -> tuple[Location, list[str]]:
    """Run the procedure; returns it, and what it asked."""
    location = Location(destination, supported=supported, choose=Random(seed).random)
    asked: list[str] = []
    while location.open_questions:
        assert not location.targets
        for question in sorted(location.open_questions, key=str):
            asked.append(f"{question.kind.value} {question.name}")
            records = zone.get((question.kind.value, question.name), [])
            location.answer(question, Answer(tuple(records), 60.0))
    assert len(asked) == len(set(asked)), "nothing is asked twice"
    return location, asked


def found(destination: Destination, zone: Zone, supported: tuple[str, ...] = ALL) -> list[Target]:
    return list(locate(destination, zone, supported)[0].targets)


EXAMPLE: Zone = {
    ("NAPTR", "example.com"): [
        Naptr(90, 50, "s", "SIP+D2T", "_sip._tcp.example.com"),
        Naptr(50, 50, "s", "SIPS+D2T", "_sips._tcp.example.com"),
        Naptr(100, 50, "S", "sip+d2u", "_sip._udp.example.com"),
    ],
    ("SRV", "_sips._tcp.example.com"): [Srv(0, 1, 5061, "a.example.com")],
    ("SRV", "_sip._tcp.example.com"): [Srv(0, 1, 5060, "a.example.com")],
    ("SRV", "_sip._udp.example.com"): [Srv(2, 1, 5070, "b.example.com"), Srv(1, 1, 5060, "a.example.com")],
    ("A", "a.example.com"): ["192.0.2.1"],
    ("AAAA", "a.example.com"): ["2001:db8::1"],
    ("A", "b.example.com"): ["192.0.2.2"],
    ("A", "example.com"): ["192.0.2.9"],
}
TLS = [Target("TLS", "192.0.2.1", 5061), Target("TLS", "2001:db8::1", 5061)]
TCP = [Target("TCP", "192.0.2.1", 5060), Target("TCP", "2001:db8::1", 5060)]
UDP = [
    Target("UDP", "192.0.2.1", 5060),
    Target("UDP", "2001:db8::1", 5060),
    Target("UDP", "192.0.2.2", 5070),
]


@pytest.mark.parametrize(
    ("destination", "target"),
    [
        (Destination("192.0.2.1"), Target("UDP", "192.0.2.1", 5060)),
        (Destination("2001:db8::1", 5070), Target("UDP", "2001:db8::1", 5070)),
        (Destination("192.0.2.1", secure=True), Target("TLS", "192.0.2.1", 5061)),
        (Destination("192.0.2.1", None, "TCP", secure=True), Target("TLS", "192.0.2.1", 5061)),
        (Destination("192.0.2.1", None, "TCP"), Target("TCP", "192.0.2.1", 5060)),
        (Destination("fe80::1%eth0", None, "WSS", secure=True), Target("WSS", "fe80::1%eth0", 443)),
    ],
)
def test_rfc3263_4_1_an_address_needs_no_dns(destination: Destination, target: Target) -> None:
    location, asked = locate(destination, {})
    assert location.targets == (target,)
    assert asked == []
    assert location.ttl == FOREVER


def test_rfc3263_4_1_secure_never_goes_over_udp() -> None:
    assert found(Destination("192.0.2.1", None, "UDP", secure=True), {}) == []


def test_rfc3263_4_1_a_port_means_no_naptr_and_no_srv() -> None:
    assert found(Destination("example.com", 5080), EXAMPLE) == [Target("UDP", "192.0.2.9", 5080)]
    assert found(Destination("example.com", 5080, "TCP"), EXAMPLE) == [Target("TCP", "192.0.2.9", 5080)]
    assert found(Destination("example.com", 5080, secure=True), EXAMPLE) == [Target("TLS", "192.0.2.9", 5080)]


def test_a_transport_without_srv_label_is_looked_up_by_address() -> None:
    assert found(Destination("example.com", None, "WS"), EXAMPLE) == [Target("WS", "192.0.2.9", 80)]


def test_rfc3263_4_1_naptr_orders_the_transports() -> None:
    location, asked = locate(Destination("Example.COM."), EXAMPLE)
    assert list(location.targets) == TLS + TCP + UDP
    assert asked[0] == "NAPTR example.com"
    assert location.ttl == 60.0
    assert not location.failed


def test_rfc3263_4_1_transports_that_are_not_supported_are_passed_over() -> None:
    assert found(Destination("example.com"), EXAMPLE, ("UDP",)) == UDP


def test_rfc3263_4_1_secure_takes_tls_only() -> None:
    assert found(Destination("example.com", secure=True), EXAMPLE) == TLS


@pytest.mark.parametrize(
    "useless",
    [
        Naptr(1, 1, "u", "E2U+sip", "x.example.com"),
        Naptr(1, 1, "a", "SIP+D2U", "x.example.com"),
        Naptr(1, 1, "s", "SIP+D2U", ""),
        Naptr(1, 1, "s", "SIP+D2S", "x.example.com"),
    ],
)
def test_rfc3263_4_1_without_a_usable_naptr_srv_is_asked_for_each_transport(useless: Naptr) -> None:
    zone = EXAMPLE | {("NAPTR", "example.com"): [useless, "192.0.2.66"]}
    assert found(Destination("example.com"), zone) == TLS + TCP + UDP


def test_rfc3263_4_2_a_given_transport_asks_its_own_srv_only() -> None:
    location, asked = locate(Destination("example.com", None, "UDP"), EXAMPLE)
    assert list(location.targets) == UDP
    assert asked[0] == "SRV _sip._udp.example.com"
    assert "NAPTR example.com" not in asked


@pytest.mark.parametrize(
    ("destination", "target"),
    [
        (Destination("plain.example"), Target("UDP", "192.0.2.5", 5060)),
        (Destination("plain.example", secure=True), Target("TLS", "192.0.2.5", 5061)),
        (Destination("plain.example", None, "TCP"), Target("TCP", "192.0.2.5", 5060)),
    ],
)
def test_rfc3263_4_2_without_srv_the_name_itself_is_a_host(destination: Destination, target: Target) -> None:
    assert found(destination, {("A", "plain.example"): ["192.0.2.5"]}) == [target]


def test_rfc3263_4_1_where_dns_says_nothing_the_preferred_transport_is_taken() -> None:
    both: Zone = {
        ("SRV", "_sip._udp.example.com"): [Srv(0, 0, 5062, "a.example.com")],
        ("SRV", "_sip._tcp.example.com"): [Srv(0, 0, 5061, "a.example.com")],
        ("A", "a.example.com"): ["192.0.2.1"],
    }
    udp = found(Destination("example.com", preferred="UDP"), both)
    assert [target.transport for target in udp] == ["UDP", "TCP"]
    plain: Zone = {("A", "plain.example"): ["192.0.2.5"]}
    tcp = Destination("plain.example", preferred="TCP")
    assert found(tcp, plain) == [Target("TCP", "192.0.2.5", 5060)]
    assert found(replace(tcp, port=5070), plain) == [Target("TCP", "192.0.2.5", 5070)]
    assert found(replace(tcp, transport="UDP"), plain) == [Target("UDP", "192.0.2.5", 5060)]


def test_rfc2782_a_target_of_root_means_decidedly_not_there() -> None:
    zone: Zone = {("SRV", "_sip._tcp.example.com"): [Srv(0, 0, 0, "")], ("A", "example.com"): ["192.0.2.9"]}
    assert found(Destination("example.com", None, "TCP"), zone) == []


def test_a_server_with_port_zero_is_passed_over() -> None:
    zone: Zone = {("SRV", "_sip._tcp.example.com"): [Srv(0, 0, 0, "example.com")]}
    assert found(Destination("example.com", None, "TCP"), zone) == []


def test_the_same_target_is_tried_once() -> None:
    zone: Zone = {
        ("SRV", "_sip._udp.example.com"): [Srv(0, 1, 5060, "a.example"), Srv(1, 1, 5060, "b.example")],
        ("A", "a.example"): ["192.0.2.1"],
        ("A", "b.example"): ["192.0.2.1"],
    }
    assert found(Destination("example.com", None, "UDP"), zone) == [Target("UDP", "192.0.2.1", 5060)]


def test_rfc2782_servers_of_one_priority_share_by_weight_and_their_further_addresses_come_last() -> None:
    zone: Zone = {
        ("SRV", "_sip._udp.example.com"): [
            Srv(0, 0, 5060, "none.example"),
            Srv(0, 30, 5060, "a.example"),
            Srv(1, 0, 5061, "a.example"),
            Srv(1, 0, 5061, "none.example"),
            Srv(2, 7, 5062, "a.example"),
            Srv(3, 1, 0, "a.example"),
        ],
        ("A", "a.example"): ["192.0.2.1"],
        ("AAAA", "a.example"): ["2001:db8::1"],
        ("A", "none.example"): ["192.0.2.2"],
    }
    targets = found(Destination("example.com", None, "UDP"), zone)
    assert {target.host: target[3:] for target in targets if target.port == 5060} == {
        "192.0.2.1": (1, 30),
        "2001:db8::1": (1, 0),
        "192.0.2.2": (1, 0),
    }
    # Without any weight they share alike.
    assert {target.host: target[3:] for target in targets if target.port == 5061} == {
        "192.0.2.1": (2, 1),
        "2001:db8::1": (2, 0),
        "192.0.2.2": (2, 1),
    }
    assert targets[6:] == [Target("UDP", "192.0.2.1", 5062), Target("UDP", "2001:db8::1", 5062)]


def test_a_zone_full_of_records_costs_a_bounded_amount() -> None:
    zone: Zone = {
        ("A", "many.example"): [f"192.0.2.{n}" for n in range(200)],
        ("SRV", "_sip._udp.many.example"): [Srv(0, 1, 5060, f"h{n}.example") for n in range(1000)],
    }
    assert len(found(Destination("many.example", 5060), zone)) == MAX_ADDRESSES
    assert len(locate(Destination("many.example", None, "UDP"), zone)[1]) < 50


def test_records_of_another_kind_are_ignored() -> None:
    zone: Zone = {("A", "odd.example"): [Srv(0, 0, 1, "x")], ("SRV", "_sip._udp.odd.example"): ["192.0.2.1"]}
    assert found(Destination("odd.example", None, "UDP"), zone) == []


def test_rfc3263_4_3_a_question_without_answer_is_told_from_no_records() -> None:
    location = Location(Destination("example.com", 5060), supported=ALL, choose=lambda: 0.0)
    v4, v6 = Question(RecordKind.A, "example.com"), Question(RecordKind.AAAA, "example.com")
    location.answer(Question(RecordKind.A, "another.example"), None)
    location.answer(v4, Answer(("192.0.2.1",), 30.0))
    location.answer(v4, Answer(("192.0.2.66",), 1.0))
    assert location.open_questions == {v6}
    location.answer(v6, None)
    assert location.targets == (Target("UDP", "192.0.2.1", 5060),)
    assert location.failed
    assert location.ttl == 30.0


def test_rfc2782_lower_priorities_come_first_and_weights_share() -> None:
    servers = [Srv(1, 0, 1, "spare"), Srv(0, 30, 1, "light"), Srv(0, 70, 1, "heavy"), Srv(0, 0, 1, "none")]
    random = Random(7)
    firsts = Counter(order_by_weight(servers, random.random)[0].target for _ in range(5_000))
    assert firsts["spare"] == 0
    assert 3_300 < firsts["heavy"] < 3_700
    assert 1_300 < firsts["light"] < 1_650
    assert 0 < firsts["none"] < 150


@given(
    st.lists(st.builds(Srv, st.integers(0, 3), st.integers(0, 65_535), st.just(1), st.text())),
    st.randoms(use_true_random=False),
)
def test_rfc2782_ordering_loses_and_invents_nothing(servers: list[Srv], random: Random) -> None:
    ordered = order_by_weight(servers, random.random)
    assert sorted(ordered) == sorted(servers)
    assert [server.priority for server in ordered] == sorted(server.priority for server in servers)


_NAMES = st.sampled_from(["example.com", "a.example.com", "_sip._udp.example.com", "", "."])
_RECORDS = st.one_of(
    st.builds(Naptr, st.integers(), st.integers(), st.text(), st.sampled_from(["SIP+D2U", "", "x"]), _NAMES),
    st.builds(Srv, st.integers(), st.integers(0, 9), st.integers(0, 9), _NAMES),
    st.sampled_from(["192.0.2.1", "2001:db8::1"]),
)


@given(
    st.builds(
        Destination,
        st.one_of(_NAMES, st.text()),
        st.one_of(st.none(), st.integers(0, 65_535)),
        st.sampled_from(["", *ALL]),
        st.booleans(),
    ),
    st.data(),
)
def test_any_zone_comes_to_an_end(destination: Destination, data: st.DataObject) -> None:
    location = Location(destination, supported=ALL, choose=lambda: 0.5)
    for _ in range(200):
        if not location.open_questions:
            break
        for question in sorted(location.open_questions, key=str):
            records = data.draw(st.lists(_RECORDS, max_size=4))
            location.answer(question, data.draw(st.sampled_from([None, Answer(tuple(records), 1.0)])))
    assert not location.open_questions

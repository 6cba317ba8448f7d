"""Where Contacts lead: NAT, listen points and what is refused (RFC 3261 §10.2.1, RFC 3581, RFC 5626)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import RemoteProtocolError
from proxy.sip.flow import Flow, ListenPoint
from proxy.sip.reachability import NextHop, Surroundings, contact_problem, hop_to, is_within, networks_of
from proxy.sip.uri import Uri
from proxy.sip.via import Via
from tests.sip.registering import GATE, PHONE

PUBLIC = Flow("UDP", "203.0.113.7", 32000)
OWN_VIA = Via.parse("SIP/2.0/UDP 192.0.2.20:5060;branch=z9hG4bK-1")
INSIDE_VIA = Via.parse("SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bK-1;rport")


def hop(uri: str, source: Flow = PHONE, via: Via = OWN_VIA, *, direct: bool = True) -> NextHop | None:
    return hop_to(Uri.parse(uri), source, via, direct=direct, gate=GATE)


def test_a_phone_without_nat_is_reached_at_its_contact() -> None:
    assert hop("sip:204@192.0.2.20:5060") == NextHop(PHONE, False)
    assert hop("sip:204@192.0.2.20") == NextHop(PHONE, False)
    assert hop("sip:204@192.0.2.20:5080") == NextHop(replace_port(PHONE, 5080), False)
    assert hop("sip:204@198.51.100.9:5080") == NextHop(Flow("UDP", "198.51.100.9", 5080), False)


def replace_port(flow: Flow, port: int) -> Flow:
    return flow._replace(remote_port=port)


def test_rfc3581_a_phone_behind_nat_is_reached_where_its_request_came_from() -> None:
    assert hop("sip:204@10.0.0.5:5060", PUBLIC, INSIDE_VIA) == NextHop(PUBLIC, True)
    # It learned its public address by STUN; the mapping towards the gate is another one.
    assert hop("sip:204@203.0.113.7:4711", PUBLIC, INSIDE_VIA) == NextHop(PUBLIC, True)
    # A NAT that rewrites Via but no Contact.
    own = Via.parse("SIP/2.0/UDP 203.0.113.7:32000;branch=z9hG4bK-1")
    assert hop("sip:204@100.64.3.4:5060", PUBLIC, own) == NextHop(PUBLIC, True)
    assert hop("sip:204@desk.invalid", PUBLIC, own) == NextHop(PUBLIC, True)
    # A phone that has learned what the gate sees (RFC 3581 §4), and has put it into its Contact alone.
    assert hop("sip:204@203.0.113.7:32000", PUBLIC, INSIDE_VIA) == NextHop(PUBLIC, True)
    assert hop("sip:204@203.0.113.7:32000", PUBLIC, own) == NextHop(PUBLIC, False)


@pytest.mark.parametrize("host", ["203.0.113.9", "192.0.2.1", "198.51.100.3", "[::ffff:192.0.2.1]"])
def test_the_addresses_of_the_socket_behind_the_advertised_one_are_the_gate_too(host: str) -> None:
    point = ListenPoint("UDP", "203.0.113.9", 5060, bound=("192.0.2.1", "198.51.100.3"))
    gate = Surroundings((point,))
    assert contact_problem(Uri.parse(f"sip:204@{host}"), PHONE, gate) == "address of the gate itself"
    assert contact_problem(Uri.parse(f"sip:204@{host}:5070"), PHONE, gate) == ""
    assert not gate.may_be_sent_to(host.strip("[]"), 5060)


def test_within_one_private_network_there_is_no_nat() -> None:
    source = Flow("UDP", "10.0.0.5", 5060)
    via = Via.parse("SIP/2.0/UDP 10.0.0.5;branch=z9hG4bK-1")
    assert hop("sip:204@10.0.0.6:5060", source, via) == NextHop(Flow("UDP", "10.0.0.6", 5060), False)


def test_rfc5626_5_3_a_connection_is_used_again() -> None:
    source = Flow("TCP", "203.0.113.7", 41000, 1, 5)
    assert hop("sip:204@10.0.0.5;transport=tcp", source, INSIDE_VIA) == NextHop(source, True)
    assert hop("sip:204@203.0.113.7:5060;transport=tcp", source, INSIDE_VIA) == NextHop(source, False)


def test_another_transport_in_the_contact_is_taken_at_its_word() -> None:
    assert hop("sip:204@192.0.2.20;transport=TCP") == NextHop(Flow("TCP", "192.0.2.20", 5060, 1), False)
    assert hop("sip:204@192.0.2.20;transport=sctp") == NextHop(PHONE, False)


@pytest.mark.parametrize(
    "uri",
    [
        "sips:204@192.0.2.20",
        "sips:204@192.0.2.20;transport=tcp",
        "sips:204@192.0.2.20;transport=wss",
        "sip:204@192.0.2.20;transport=ws",
        "sip:204@[2001:db8::20];transport=tcp",
    ],
)
def test_without_a_listen_point_there_is_no_way(uri: str) -> None:
    assert hop(uri) is None


def test_the_family_of_the_address_chooses_the_listen_point() -> None:
    via = Via.parse("SIP/2.0/UDP [2001:db8::20];branch=z9hG4bK-1")
    source = Flow("UDP", "2001:db8::20", 5060, 2)
    assert hop("sip:204@[2001:db8::20]", source, via) == NextHop(source, False)
    assert hop("sip:204@192.0.2.20", source, via, direct=False) == NextHop(PHONE, False)
    assert GATE.listener("UDP", "192.0.2.9", 99) == 0


def test_rfc3261_16_6_behind_a_proxy_the_contact_counts() -> None:
    assert hop("sip:204@10.0.0.5", PUBLIC, INSIDE_VIA, direct=False) == NextHop(
        Flow("UDP", "10.0.0.5", 5060), False
    )
    tcp = Flow("TCP", "192.0.2.30", 41000, 1, 5)
    assert hop("sip:204@desk.example.net", tcp, direct=False) == NextHop(
        Flow("UDP", "desk.example.net", 5060), False
    )


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("tel:204", "Contact of scheme tel"),
        ("sip:204@192.0.2.20?a=b", "Contact with headers"),
        ("sip:204@192.0.2.20;maddr=192.0.2.21", "Contact with maddr"),
        ("sip:204@192.0.2.1", "address of the gate itself"),
        ("sip:204@EXAMPLE.com", "address of the gate itself"),
        ("sip:204@[2001:db8::1]", "address of the gate itself"),
        ("sip:204@[2001:DB8:0:0:0::1]:5060", "address of the gate itself"),
        ("sip:204@[::ffff:192.0.2.1]", "address of the gate itself"),
        ("sip:204@[::FFFF:c000:201]:5060", "address of the gate itself"),
        ("sips:204@example.com", "address of the gate itself"),
        ("sip:204@example.com.", "address of the gate itself"),
        ("sip:204@239.255.0.1", "multicast address"),
        ("sip:204@[::ffff:239.255.0.1]", "multicast address"),
        ("sip:204@[ff05::1]", "multicast address"),
        ("sip:204@[::ffff:255.255.255.255]", "unspecified or broadcast address"),
        ("sip:204@[::]", "unspecified or broadcast address"),
        ("sip:204@[::ffff:127.0.0.1]", "loopback address from another host"),
        ("sip:204@[::1]", "loopback address from another host"),
        ("sip:204@LOCALHOST", "name of the local host"),
        ("sip:204@localhost.", "name of the local host"),
        ("sip:204@127.1", "malformed IP address"),
        ("sip:204@0x7f.1", "malformed IP address"),
        ("sip:204@0177.0.0.1", "malformed IP address"),
        ("sip:204@3221225985", "malformed IP address"),
        ("sip:204@0xc0000201", "malformed IP address"),
        ("sip:204@192.0.513", "malformed IP address"),
        ("sip:204@0.0.0.0", "unspecified or broadcast address"),
        ("sip:204@255.255.255.255", "unspecified or broadcast address"),
        ("sip:204@127.0.0.2", "loopback address from another host"),
        ("sip:204@a.localhost", "name of the local host"),
        ("sip:204@2130706433", "malformed IP address"),
        ("sip:204@0x7f000001", "malformed IP address"),
        ("sip:204@192.0.2.9.", "malformed IP address"),
        ("sip:204@192.0.2.20", ""),
        ("sip:204@192.0.2.1:5070", ""),
        ("sip:204@desk.example.net", ""),
        ("sip:204@[::ffff:192.0.2.20]", ""),
    ],
)
def test_contacts_that_are_refused(uri: str, problem: str) -> None:
    assert contact_problem(Uri.parse(uri), PHONE, GATE) == problem


def test_a_phone_on_the_gates_own_host_may_name_the_loopback() -> None:
    source = Flow("UDP", "127.0.0.1", 5070)
    gate = Surroundings((ListenPoint("UDP", "127.0.0.1", 5060),), frozenset({"127.0.0.1"}))
    assert contact_problem(Uri.parse("sip:204@127.0.0.1:5070"), source, gate) == ""
    assert contact_problem(Uri.parse("sip:204@127.0.0.1"), source, gate) == "address of the gate itself"
    assert contact_problem(Uri.parse("sip:204@[::1]"), source._replace(remote_host="gate"), gate) == (
        "loopback address from another host"
    )


def test_a_source_without_a_readable_address_is_on_no_private_network() -> None:
    source = Flow("UDP", "unix", 5060)
    via = Via.parse("SIP/2.0/UDP unix;branch=z9hG4bK-1")
    assert hop("sip:204@10.0.0.5", source, via) == NextHop(source, True)


@given(
    st.from_regex(r"sips?:(2@)?[0-9a-z.:\[\]-]{1,20}(;transport=(udp|tcp|tls|ws))?", fullmatch=True),
    st.booleans(),
)
def test_any_uri_leads_somewhere_or_nowhere_but_never_to_the_gate(text: str, direct: bool) -> None:
    try:
        uri = Uri.parse(text)
    except RemoteProtocolError:
        return
    gate = replace(GATE, domains=frozenset())
    if contact_problem(uri, PUBLIC, gate):
        return
    found = hop_to(uri, PUBLIC, INSIDE_VIA, direct=direct, gate=gate)
    assert found is None or (found.flow.remote_host, found.flow.remote_port) not in {
        ("192.0.2.1", 5060),
        ("2001:db8::1", 5060),
    }


@pytest.mark.parametrize(
    ("host", "port", "may"),
    [
        ("192.0.2.20", 5060, True),
        ("2001:db8::20", 5060, True),
        ("192.0.2.1", 5070, True),
        ("192.0.2.1", 5060, False),
        ("::ffff:192.0.2.1", 5060, False),
        ("2001:db8:0::1", 5060, False),
        ("127.0.0.1", 5060, False),
        ("127.8.9.1", 80, False),
        ("::1", 5060, False),
        ("::ffff:127.0.0.1", 5060, False),
        ("0.0.0.0", 5060, False),
        ("::", 5060, False),
        ("224.0.1.75", 5060, False),
        ("::ffff:224.0.1.75", 5060, False),
        ("255.255.255.255", 5060, False),
    ],
)
def test_the_address_behind_a_name_is_judged_too(host: str, port: int, may: bool) -> None:
    assert GATE.may_be_sent_to(host, port) is may


def test_a_gate_on_loopback_reaches_phones_there() -> None:
    gate = Surroundings((ListenPoint("UDP", "127.0.0.1", 5060),))
    assert gate.may_be_sent_to("127.0.0.1", 5070)
    assert not gate.may_be_sent_to("127.0.0.1", 5060)


def test_the_addresses_that_flows_lead_to_are_networks() -> None:
    networks = networks_of([Flow("UDP", "192.0.2.9", 5060), Flow("TLS", "fe80::1%eth0", 5061)])
    assert [str(network) for network in networks] == ["192.0.2.9/32", "fe80::1/128"]
    assert is_within("192.0.2.9", networks)
    assert not is_within("192.0.2.10", networks)

"""The registrar by section: Path and Outbound (RFC 3327 §5.3, RFC 5626 §6 and §7)."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network

import pytest

from proxy.sip.flow import Flow, ListenPoint
from proxy.sip.reachability import Surroundings
from proxy.sip.registration import RegistrarConfig
from proxy.sip.routing import Target
from tests.sip.registering import (
    CONTACT,
    GATE,
    INSTANCE,
    OTHER,
    OUTBOUND,
    PATH,
    PHONE,
    PROXIED,
    TCP,
    Bench,
    flow_contact,
    header,
    listed,
    target_hosts,
)

# Path (RFC 3327) --------------------------------------------------------------------------------------------


def test_rfc3327_5_3_path_is_kept_and_returned() -> None:
    bench = Bench()
    outcome = bench.register(CONTACT, headers=PATH, via=PROXIED)
    values = ["<sip:192.0.2.30:5070;lr>", "<sip:edge.example.net;lr;ob>"]
    assert header(outcome, "Path") == values
    (binding,) = bench.registrar.bindings("204")
    assert list(binding.path) == values
    assert binding.flow == Flow("UDP", "192.0.2.30", 5070)
    assert not binding.behind_nat


def test_an_edge_proxys_connection_is_in_use_and_its_end_is_not_the_phones() -> None:
    bench = Bench()
    via = "SIP/2.0/TCP 192.0.2.30:5070;branch=z9hG4bK-r"
    edge = Flow("TCP", "192.0.2.30", 41_000, 1, 9)
    bench.register(CONTACT, headers=PATH, source=edge, via=f"{via}, SIP/2.0/UDP 10.0.0.5;branch=z9hG4bK-p")
    (binding,) = bench.registrar.bindings("204")
    assert binding.flow.connection == 0
    assert bench.registrar.bound_over(9)
    bench.registrar.connection_lost(9)
    assert bench.registrar.bindings("204") == (binding,)
    bench.registrar.expire(binding.expires_at)
    assert not bench.registrar.bound_over(9)


EDGE = ("Supported: path", "Path: <sip:edge.example.net;lr>")
SERVER = Target("UDP", "198.51.100.9", 5070)


def located(bench: Bench, *targets: Target) -> tuple[Flow, list[tuple[str, int | None, str, str]]]:
    """Return the way to the one binding, and what was asked of DNS for it."""
    asked: list[tuple[str, int | None, str, str]] = []

    def lookup(host: str, port: int | None, transport: str, preferred: str) -> Sequence[Target]:
        asked.append((host, port, transport, preferred))
        return targets

    (binding,) = bench.registrar.bindings("204")
    return bench.registrar.located(binding, lookup), asked


@pytest.mark.parametrize(
    ("targets", "way"),
    [
        ((SERVER, Target("UDP", "198.51.100.10", 5060)), Flow("UDP", "198.51.100.9", 5070)),
        ((SERVER._replace(transport="TCP"),), Flow("TCP", "198.51.100.9", 5070, 1)),
        ((Target("UDP", "192.0.2.1", 5060), SERVER), Flow("UDP", "198.51.100.9", 5070)),
        ((Target("UDP", "127.0.0.1", 5060), SERVER), Flow("UDP", "198.51.100.9", 5070)),
        ((Target("UDP", "203.0.113.5", 5060), SERVER), Flow("UDP", "198.51.100.9", 5070)),
        ((Target("TLS", "198.51.100.9", 5061), SERVER), Flow("UDP", "198.51.100.9", 5070)),
        ((Target("SCTP", "198.51.100.9", 5060),), Flow("UDP", "edge.example.net", 5060)),
        ((), Flow("UDP", "edge.example.net", 5060)),
    ],
    ids=["first", "other transport", "gate", "loopback", "trunk", "tls", "no way", "unknown"],
)
def test_rfc3263_4_a_path_by_name_leads_where_dns_says(targets: Sequence[Target], way: Flow) -> None:
    points = (*GATE.listen_points, ListenPoint("TLS", "192.0.2.1", 5061))
    bench = Bench(gate=Surroundings(points, GATE.domains, (ip_network("203.0.113.0/24"),)))
    bench.register(CONTACT, headers=EDGE, via=PROXIED)
    assert located(bench, *targets) == (way, [("edge.example.net", None, "", "UDP")])


def test_rfc3263_4_1_what_a_contact_by_name_says_of_port_and_transport_counts() -> None:
    bench = Bench()
    bench.register("<sip:204@desk.example.net:5099;transport=tcp>", via=PROXIED)
    assert located(bench)[1] == [("desk.example.net", 5099, "TCP", "TCP")]


@pytest.mark.parametrize(
    ("contact", "source"),
    [(CONTACT, PHONE), ("<sip:204@desk.example.net>", TCP), ("<sip:204@desk.example.net>", PHONE)],
    ids=["address", "connection", "behind NAT"],
)
def test_dns_is_not_asked_where_no_name_is_the_way(contact: str, source: Flow) -> None:
    bench = Bench()
    bench.register(contact, source=source)
    (binding,) = bench.registrar.bindings("204")
    assert located(bench, SERVER) == (binding.flow, [])


def test_rfc5922_4_over_tls_the_name_is_kept_for_the_certificate() -> None:
    gate = Surroundings((*GATE.listen_points, ListenPoint("TLS", "192.0.2.1", 5061)), GATE.domains)
    bench = Bench(gate=gate)
    bench.register("<sips:204@desk.example.net>", via=PROXIED)
    assert located(bench, SERVER) == (Flow("TLS", "desk.example.net", 5061, 3), [])


def test_rfc3327_5_3_path_without_support_gets_420() -> None:
    outcome = Bench().register(CONTACT, headers=PATH[1:])
    assert (outcome.status, header(outcome, "Unsupported")) == (420, ["path"])


def test_rfc3327_5_3_path_without_support_may_be_kept_untold() -> None:
    bench = Bench(RegistrarConfig(path_needs_support=False))
    outcome = bench.register(CONTACT, headers=PATH[1:])
    assert (outcome.status, header(outcome, "Path")) == (200, [])
    assert len(bench.registrar.bindings("204")[0].path) == 2


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("<sip:192.0.2.30>", 400),
        ("<tel:204;lr>", 400),
        ("", 400),
        ("<sip:192.0.2.1;lr>", 403),
        ("<sip:224.0.0.1;lr>", 403),
        ("<sip:192.0.2.30;lr;transport=wss>", 403),
        (", ".join(["<sip:192.0.2.30;lr>"] * 9), 403),
        (f"<sip:192.0.2.30;lr;x={'y' * 512}>", 403),
        ("<sip:192.0.2.30;lr", 400),
    ],
)
def test_rfc3327_5_3_unusable_path(path: str, status: int) -> None:
    assert Bench().register(CONTACT, headers=["Supported: path", f"Path: {path}"]).status == status


# Outbound (RFC 5626) ----------------------------------------------------------------------------------------


def test_rfc5626_6_instance_and_reg_id_name_the_binding() -> None:
    bench = Bench()
    outcome = bench.register(flow_contact(1), headers=OUTBOUND)
    assert header(outcome, "Require") == ["outbound"]
    bench.register(flow_contact(2), headers=OUTBOUND)
    assert len(bench.registrar) == 2, "the same Contact URI over another flow"
    outcome = bench.register(flow_contact(1, host=77), headers=OUTBOUND, call_id="restarted", cseq=1)
    assert bench.contacts() == ["sip:204@192.0.2.77:5060", "sip:204@192.0.2.20:5060"]
    assert f";{INSTANCE};reg-id=1;" in listed(outcome)[0]
    assert bench.register(f"{flow_contact(2)};expires=0", headers=OUTBOUND).status == 200
    assert bench.contacts() == ["sip:204@192.0.2.77:5060"]


def test_rfc5626_6_older_cseq_is_refused_for_flows_too() -> None:
    bench = Bench()
    bench.register(flow_contact(1), headers=OUTBOUND, cseq=9)
    assert bench.register(flow_contact(1, host=77), headers=OUTBOUND, cseq=9).status == 500


def test_rfc5626_6_flows_and_plain_contacts_live_side_by_side() -> None:
    bench = Bench()
    bench.register(flow_contact(1), headers=OUTBOUND)
    outcome = bench.register(CONTACT)
    assert (len(bench.registrar), header(outcome, "Require")) == (2, [])


@pytest.mark.parametrize(
    ("contact", "headers"),
    [
        (flow_contact(1), ()),
        (f"{CONTACT};reg-id=1", OUTBOUND),
        (f"{CONTACT};{INSTANCE}", OUTBOUND),
    ],
)
def test_rfc5626_6_without_support_instance_or_reg_id_the_uri_counts(
    contact: str, headers: tuple[str, ...]
) -> None:
    bench = Bench()
    assert header(bench.register(contact, headers=headers), "Require") == []
    assert bench.registrar.bindings("204")[0].reg_id == 0


@pytest.mark.parametrize("reg_id", ["0", "x", "-1", "2147483648", "99999999999"])
def test_rfc5626_4_2_malformed_reg_id(reg_id: str) -> None:
    assert Bench().register(f"{CONTACT};{INSTANCE};reg-id={reg_id}", headers=OUTBOUND).status == 400


def test_rfc5626_6_reg_id_beside_another_contact_is_refused() -> None:
    bench = Bench()
    assert bench.register(flow_contact(1), OTHER, headers=OUTBOUND).status == 400
    bench.register(flow_contact(1), headers=OUTBOUND)
    assert bench.register(f"{flow_contact(1)};expires=0", OTHER, headers=OUTBOUND).status == 200
    bench.register(flow_contact(1), headers=OUTBOUND)
    third = "<sip:204@192.0.2.22:5060>"
    assert bench.register(f"{flow_contact(1)};expires=0", OTHER, third, headers=OUTBOUND).status == 400


@pytest.mark.parametrize(
    "old", [f"{flow_contact(1)};expires=0", "<sip:204@192.0.2.20:5060>;expires=0", f"{CONTACT};q=1;expires=0"]
)
@pytest.mark.parametrize("new_first", [True, False])
def test_rfc5626_6_a_contact_that_is_removed_does_not_count(old: str, new_first: bool) -> None:
    bench = Bench()
    bench.register(flow_contact(1), headers=OUTBOUND)
    new = flow_contact(1, host=77)
    both = (new, old) if new_first else (old, new)
    outcome = bench.register(*both, headers=OUTBOUND)
    assert header(outcome, "Require") == ["outbound"]
    assert bench.contacts() == ["sip:204@192.0.2.77:5060"]
    (binding,) = bench.registrar.bindings("204")
    assert binding.reg_id == 1


def test_a_phone_that_begins_with_outbound_gives_up_its_plain_contact() -> None:
    bench = Bench()
    bench.register(CONTACT)
    assert bench.register(flow_contact(1), f"{CONTACT};expires=0", headers=OUTBOUND).status == 200
    (binding,) = bench.registrar.bindings("204")
    assert binding.reg_id == 1


def test_rfc5626_6_a_first_hop_without_outbound_gets_439() -> None:
    bench = Bench()
    assert bench.register(flow_contact(1), headers=OUTBOUND, via=PROXIED).status == 439
    path = "Path: <sip:192.0.2.30;lr;ob>, <sip:192.0.2.31;lr>"
    assert bench.register(flow_contact(1), headers=(*OUTBOUND, path), via=PROXIED).status == 439
    assert bench.register(flow_contact(1), headers=(*OUTBOUND, PATH[1]), via=PROXIED).status == 200


def test_rfc5626_5_3_a_lost_connection_ends_its_flows() -> None:
    bench = Bench()
    via = "SIP/2.0/TCP 192.0.2.20:5060;branch=z9hG4bK-r"
    bench.register(flow_contact(1), headers=OUTBOUND, source=TCP, via=via)
    bench.register("<sip:204@10.0.0.5:5060>", source=TCP, via=via)
    bench.register("<sip:204@192.0.2.20:5060;transport=tcp>", source=TCP, via=via)
    bench.register(OTHER)
    assert [binding.flow.connection for binding in bench.registrar.bindings("204")] == [7, 7, 7, 0]
    assert [bench.registrar.bound_over(number) for number in (0, 7, 8)] == [False, True, False]
    bench.registrar.connection_lost(8)
    assert len(bench.registrar) == 4
    bench.registrar.connection_lost(7)
    kept = bench.registrar.bindings("204")
    assert [binding.flow for binding in kept] == [
        Flow("TCP", "192.0.2.20", 5060, 1, 0),
        Flow("UDP", "192.0.2.21", 5060),
    ]


def test_rfc5626_7_a_failed_flow_is_given_up_unless_it_was_renewed() -> None:
    bench = Bench()
    bench.register(CONTACT)
    (before,) = bench.registrar.bindings("204")
    bench.register(CONTACT)
    bench.registrar.flow_failed(before)
    assert bench.contacts() == ["sip:204@192.0.2.20:5060"]
    bench.registrar.take_changes()
    (renewed,) = bench.registrar.bindings("204")
    bench.registrar.flow_failed(renewed)
    assert bench.contacts() == []
    assert bench.registrar.take_changes() == {"204": ()}
    bench.registrar.flow_failed(renewed)


def test_rfc5626_7_one_flow_of_an_instance_at_a_time() -> None:
    bench = Bench()
    for reg_id in (1, 2, 3):
        bench.register(flow_contact(reg_id, host=40 + reg_id), headers=OUTBOUND)
        bench.now += 1
    bench.register(f"<sip:204@192.0.2.50>;q=0.1;{INSTANCE}")
    assert target_hosts(bench.registrar) == [
        ["192.0.2.43:5060"],
        ["192.0.2.42:5060"],
        ["192.0.2.41:5060"],
        ["192.0.2.50"],
    ]


def test_rfc5626_7_a_lower_q_may_hold_nothing_but_further_flows() -> None:
    bench = Bench()
    bench.register(flow_contact(1, host=41), headers=OUTBOUND)
    bench.register(f"{flow_contact(2, host=42)};q=0.5", headers=OUTBOUND)
    assert target_hosts(bench.registrar) == [["192.0.2.41:5060"], ["192.0.2.42:5060"]]

"""Where the requests of a dialog go: RFC 3261 §12.2.1.1, §8.1.2, §18.1.1."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from proxy.sip.dialog import Dialog, DialogTable, route
from proxy.sip.flow import Flow, ListenPoint
from proxy.sip.routing import Target, nothing_known
from tests.sip.harness import LISTEN_POINTS, TCP, UDP, state

TARGET = "sip:204@192.0.2.2:5066"


def dialog(target: str = TARGET, *route_set: str, flow: Flow = UDP) -> Dialog:
    return Dialog(
        call_id="c1", local="<sip:a@example.com>;tag=l", local_tag="l", remote="<sip:b@example.com>;tag=r",
        remote_tag="r", remote_target=target, route_set=route_set, flow=flow,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("route_set", "uri", "routes"),
    [
        ((), TARGET, []),
        (("<sip:p1;lr>", "<sip:p2;lr>"), TARGET, ["<sip:p1;lr>", "<sip:p2;lr>"]),
        (("<sip:p1;lr=on>",), TARGET, ["<sip:p1;lr=on>"]),
        # A strict router first: it is the Request-URI, the target ends the route.
        (("<sip:p1>", "<sip:p2;lr>"), "sip:p1", ["<sip:p2;lr>", f"<{TARGET}>"]),
        (('"P" <sip:p1:5070;transport=tcp?Subject=x>;x=y',), "sip:p1:5070;transport=tcp", [f"<{TARGET}>"]),
        # A strict router later on is the business of the one before it.
        (("<sip:p1;lr>", "<sip:p2>"), TARGET, ["<sip:p1;lr>", "<sip:p2>"]),
        # What can't be understood is sent on as it came.
        (("<sip:p1",), TARGET, ["<sip:p1"]),
    ],
)
def test_rfc3261_12_2_1_1_loose_and_strict_routing(
    route_set: tuple[str, ...], uri: str, routes: list[str]
) -> None:
    assert route(TARGET, route_set) == (uri, "".join(f"Route: {value}\r\n" for value in routes))


@pytest.mark.parametrize(
    ("target", "route_set", "flow", "expected"),
    [
        # The target itself, at its own port.
        (TARGET, (), UDP, Flow("UDP", "192.0.2.2", 5066)),
        ("sip:204@192.0.2.2", (), UDP, UDP),
        ("sip:204@[2001:db8::2]", (), UDP, Flow("UDP", "2001:db8::2", 5060, 2)),
        ("sip:204@192.0.2.2;transport=TCP", (), UDP, Flow("TCP", "192.0.2.2", 5060, 1)),
        # The first route, strict or loose.
        (TARGET, ("<sip:192.0.2.3;lr>",), UDP, Flow("UDP", "192.0.2.3", 5060)),
        (TARGET, ("<sip:192.0.2.3:5070>",), UDP, Flow("UDP", "192.0.2.3", 5070)),
        # The way the peer came, where nothing better is known.
        ("sip:204@phone.example.com", (), UDP, UDP),
        ("tel:+15551230001", (), UDP, UDP),
        ("sip:204@192.0.2.9;transport=sctp", (), UDP, UDP),
        ("sips:204@192.0.2.9", (), UDP, UDP),
        # RFC 5627 §4.4: its GRUU, which names this gate.
        ("sip:204@192.0.2.1;gr=urn:uuid:1", (), UDP, UDP),
        ("sip:204@[2001:db8::1];gr", (), UDP, UDP),
        ("sip:204@192.0.2.1:5999;gr=urn:uuid:1", (), UDP, UDP),
        # An open connection, unless there is a route elsewhere.
        ("sip:204@10.1.1.1;transport=tcp", (), TCP, TCP),
        ("sip:204@10.1.1.1", (), TCP, TCP),
        ("sip:204@10.1.1.1", ("<sip:192.0.2.2;transport=tcp;lr>",), TCP, TCP),
        ("sip:204@10.1.1.1", ("<sip:192.0.2.3;lr>",), TCP, Flow("TCP", "192.0.2.3", 5060, 1)),
        ("sip:204@10.1.1.1", ("<sip:192.0.2.3;lr;transport=udp>",), TCP, Flow("UDP", "192.0.2.3", 5060, 0)),
    ],
)
def test_the_next_hop(target: str, route_set: tuple[str, ...], flow: Flow, expected: Flow) -> None:
    assert dialog(target, *route_set, flow=flow).next_hop(LISTEN_POINTS) == expected


@pytest.mark.parametrize("target", ["sip:204@192.0.2.20:5060", "sip:204@192.0.2.20;gr=urn:uuid:1"])
def test_the_address_of_the_socket_is_no_way_to_the_peer_either(target: str) -> None:
    points = (ListenPoint("UDP", "203.0.113.7", 5060, bound=("192.0.2.20",)),)
    assert dialog(target).next_hop(points) == UDP


def test_over_another_transport_the_peer_is_reached_from_the_address_that_it_came_to() -> None:
    beyond, beside = "198.51.100.20", "192.0.2.20"
    points = tuple(
        ListenPoint(transport, host, 5060, own=host)
        for host in (beyond, beside)
        for transport in ("UDP", "TCP")
    )
    came_to = UDP._replace(listener=2)
    by_tcp = dialog("sip:204@192.0.2.2;transport=tcp", flow=came_to)
    assert by_tcp.next_hop(points) == Flow("TCP", "192.0.2.2", 5060, 3)
    assert dialog("sip:204@192.0.2.2;transport=tcp", flow=came_to).next_hop(points[:3]).listener == 1


@pytest.mark.parametrize(
    ("target", "route_set", "reach", "expected"),
    [
        ("sip:204@198.51.100.1", (), (), UDP),
        ("sip:204@198.51.100.1", (), ("198.51.100.0/24",), Flow("UDP", "198.51.100.1", 5060)),
        (TARGET, ("<sip:198.51.100.1;lr>",), ("203.0.113.0/24",), UDP),
        ("sip:204@192.0.2.2:5066", (), (), Flow("UDP", "192.0.2.2", 5066)),
        # A name is as good as the first of its addresses that may be.
        ("sip:204@far.example.com", (), ("203.0.113.0/24",), Flow("UDP", "203.0.113.7", 5062)),
        ("sip:204@far.example.com", (), ("192.0.2.0/24",), UDP),
        ("sip:204@far.example.com", (), None, Flow("UDP", "198.51.100.1", 5060)),
        ("sip:204@far.example.com", (), (), UDP),
        ("sip:204@far.example.com;transport=sctp", (), None, UDP),
        (TARGET, ("<sip:far.example.com;lr>",), ("203.0.113.0/24",), Flow("UDP", "203.0.113.7", 5062)),
        ("sip:204@own.example.com", (), None, UDP),
        ("sip:204@here.example.com", (), None, UDP),
    ],
)
def test_rfc3263_4_a_peer_names_no_third_party_by_address_or_name(
    target: str, route_set: tuple[str, ...], reach: tuple[str, ...] | None, expected: Flow
) -> None:
    known = {
        ("far.example.com", None, "", "UDP"): (
            Target("UDP", "198.51.100.1", 5060),
            Target("UDP", "203.0.113.7", 5062),
        ),
        ("own.example.com", None, "", "UDP"): (Target("UDP", "192.0.2.1", 5060),),
        ("here.example.com", None, "", "UDP"): (Target("UDP", *UDP[1:3]),),
    }
    one = dialog(target, *route_set, flow=UDP)
    one.reach = None if reach is None else tuple(ip_network(text) for text in reach)
    assert one.next_hop(LISTEN_POINTS, lambda *name: known[name]) == expected


def test_rfc3263_4_a_name_that_is_not_known_yet_is_asked_for_again() -> None:
    found = [Target("UDP", "198.51.100.1", 5060)]
    one = dialog("sip:204@far.example.com", flow=UDP)
    assert one.next_hop(LISTEN_POINTS, nothing_known) == UDP
    assert one.next_hop(LISTEN_POINTS, lambda *_name: found) == Flow("UDP", "198.51.100.1", 5060)
    assert one.next_hop(LISTEN_POINTS, lambda *_name: ()) == Flow("UDP", "198.51.100.1", 5060)


def test_rfc3263_4_1_dns_says_the_transport_of_a_name_and_the_peers_own_goes_first() -> None:
    tcp, udp = Target("TCP", "198.51.100.1", 5060), Target("UDP", "198.51.100.2", 5060)
    one = dialog("sip:204@far.example.com", flow=UDP)
    assert one.next_hop(LISTEN_POINTS, lambda *_name: (tcp,)) == Flow("TCP", "198.51.100.1", 5060, 1)
    other = dialog("sip:204@far.example.com", flow=UDP)
    assert other.next_hop(LISTEN_POINTS, lambda *_name: (tcp, udp)) == Flow("UDP", "198.51.100.2", 5060)
    said = dialog("sip:204@far.example.com;transport=tcp", flow=UDP)
    asked: list[tuple[str, int | None, str, str]] = []

    def lookup(host: str, port: int | None, transport: str, preferred: str) -> tuple[Target, ...]:
        asked.append((host, port, transport, preferred))
        return (tcp,)

    assert said.next_hop(LISTEN_POINTS, lookup) == Flow("TCP", "198.51.100.1", 5060, 1)
    assert asked == [("far.example.com", None, "TCP", "UDP")]


def test_rfc3263_4_3_requests_keep_to_one_address_of_a_name_until_it_fails_or_is_gone() -> None:
    first, second, third = (Target("UDP", f"198.51.100.{host}", 5060) for host in (1, 2, 3))
    one = dialog("sip:204@far.example.com", flow=UDP)

    def hop(*targets: Target) -> str:
        return one.next_hop(LISTEN_POINTS, lambda *_name: targets).remote_host

    assert hop(first, second) == first.host
    assert hop(second, first) == first.host
    one.not_reached(Flow("UDP", "203.0.113.9", 5060))
    assert hop(second, first) == first.host
    one.not_reached(Flow("UDP", first.host, 5060))
    assert hop(first, second) == second.host
    assert hop(first, second) == second.host
    assert hop(first) == first.host, "who has failed is better than nobody"
    assert hop(third) == third.host
    one.reach = ()
    assert hop(third) == UDP.remote_host


def test_rfc3263_4_who_speaks_goes_before_other_servers_of_its_name() -> None:
    first, second = Target("UDP", "198.51.100.1", 5060), Target("UDP", UDP.remote_host, UDP.remote_port)
    one = dialog("sip:204@far.example.com", flow=UDP)
    assert one.next_hop(LISTEN_POINTS, lambda *_name: (first, second)) == UDP
    assert one.further == (first,)
    one.not_reached(UDP)
    assert one.next_hop(LISTEN_POINTS, lambda *_name: (first, second)).remote_host == first.host


def test_a_failure_where_no_name_has_led_changes_nothing() -> None:
    one = dialog(flow=UDP)
    before = one.next_hop(LISTEN_POINTS)
    one.not_reached(before)
    assert one.next_hop(LISTEN_POINTS) == before


def test_rfc3261_18_1_1_the_name_of_who_is_connected_is_known_when_the_connection_is_lost() -> None:
    asked: list[tuple[str, int | None, str, str]] = []

    def lookup(host: str, port: int | None, transport: str, preferred: str) -> list[Target]:
        asked.append((host, port, transport, preferred))
        return [Target("TCP", "198.51.100.1", 5062)] if len(asked) > 1 else []

    table = DialogTable()
    one = dialog("sip:204@far.example.com", flow=TCP)
    table.add(one)
    assert one.next_hop(LISTEN_POINTS, lookup) == TCP
    assert asked == [("far.example.com", None, "", "TCP")]
    table.connection_lost(TCP.connection)
    assert one.next_hop(LISTEN_POINTS, lookup) == Flow("TCP", "198.51.100.1", 5062, 1)


def test_a_refresh_changes_the_target_and_keeps_the_route() -> None:
    one = dialog(TARGET, "<sip:p1;lr>")
    one.refresh_target("sip:new@192.0.2.8")
    one.refresh_target("sip:new@192.0.2.8")
    assert (one.request_uri, one.route_set) == ("sip:new@192.0.2.8", ("<sip:p1;lr>",))


def test_where_a_peer_may_not_lead_is_kept_for_the_administrator() -> None:
    one = dialog("sip:204@198.51.100.1")
    one.reach = ()
    assert one.next_hop(LISTEN_POINTS) == UDP
    assert one.out_of_reach == "198.51.100.1"
    near = dialog()
    near.reach = ()
    near.next_hop(LISTEN_POINTS)
    assert near.out_of_reach == ""


def test_the_table_finds_a_dialog_until_it_is_removed() -> None:
    table = DialogTable()
    one = dialog()
    table.add(one)
    assert table.get(("c1", "l", "r")) is one
    assert table.get(("c1", "r", "l")) is None
    assert table.remove(one)
    assert not table.remove(one)
    assert state(one) == "Terminated"
    assert len(table) == 0


def test_the_table_knows_whose_connection_is_lost() -> None:
    table = DialogTable()
    first, second, other = dialog(flow=TCP), dialog(flow=TCP), dialog(flow=TCP._replace(connection=18))
    second.remote_tag = "r2"
    other.remote_tag = "r3"
    assert not table.uses(TCP.connection)
    for one in (first, second, other):
        table.add(one)
    table.remove(first)
    assert table.uses(TCP.connection)
    table.connection_lost(TCP.connection)
    table.connection_lost(TCP.connection)
    assert second.flow.connection == 0
    assert other.flow.connection == 18
    table.moved(second, TCP)
    table.moved(second, TCP)
    table.remove(second)
    table.remove(other)
    assert len(table) == 0

"""Who is told the gate's own addresses: peers that no NAT parts from it, in every message that says one."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from proxy.sip.config import EndpointConfig
from proxy.sip.events import RequestReceived
from proxy.sip.flow import Flow, ListenPoint
from proxy.sip.inside import Inside
from proxy.sip.large import LargeRequests
from tests.sip.harness import Harness, answer, request, spec

LAN = (ip_network("192.0.2.0/24"), ip_network("2001:db8:1::/48"))
ADVERTISED = "203.0.113.7"
OWN = "192.0.2.20"
BESIDE = Flow("UDP", "192.0.2.10", 5060)
BEYOND = Flow("UDP", "198.51.100.1", 5060)


def source(peer: str) -> str:
    """What the kernel of the tests routes from."""
    return {"192.0.2.10": OWN, "2001:db8:1::10": "2001:db8:1::20"}.get(peer, "")


INSIDE = Inside(LAN, source)


@pytest.mark.parametrize(
    ("peer", "bound", "told"),
    [
        ("192.0.2.10", OWN, OWN),
        ("198.51.100.1", OWN, ""),
        ("pbx.example.com", OWN, ""),
        ("", OWN, ""),
        ("192.0.2.10", "", ""),
        ("192.0.2.10", "0.0.0.0", OWN),
        ("192.0.2.11", "0.0.0.0", ""),  # no way there
        ("192.0.2.10", "::", ""),  # IPv6 media, signalled over IPv4
        ("2001:db8:1::10", "::", "2001:db8:1::20"),
        ("2001:db8:1::10", "2001:db8:1::21", "2001:db8:1::21"),
    ],
)
def test_the_address_of_the_socket_is_told_inside(peer: str, bound: str, told: str) -> None:
    assert INSIDE.own_address(peer, bound) == told


def test_without_networks_nobody_is_inside_and_no_route_is_asked_for() -> None:
    assert Inside((), source).own_address("192.0.2.10", "0.0.0.0") == ""
    assert Inside(LAN).own_address("192.0.2.10", "0.0.0.0") == "", "nor where nothing is known of routes"


def harness(bound: str = OWN) -> Harness:
    points = tuple(
        ListenPoint(transport, ADVERTISED, 5060, bound=(OWN,), own=bound) for transport in ("UDP", "TCP")
    )
    return Harness(EndpointConfig(points, inside=INSIDE))


@pytest.mark.parametrize("bound", [OWN, "0.0.0.0"])
@pytest.mark.parametrize(("flow", "host"), [(BESIDE, OWN), (BEYOND, ADVERTISED)])
class TestEveryMessageSaysWhatItsPeerReaches:
    """RFC 3261 §8.1.1.7, §8.1.1.8, §12.1.1: Via and Contact, of both legs."""

    def test_requests_that_begin_something(self, flow: Flow, host: str, bound: str) -> None:
        gate = harness(bound)
        gate.endpoint.invite(spec(flow), None, gate.now)
        gate.endpoint.invite(spec(flow)._replace(contact_user="204"), None, gate.now)
        gate.endpoint.send_request("OPTIONS", "sip:x", flow=flow, now=gate.now)
        gate.endpoint.ping("sip:x", flow)
        gate.drain()
        for sent in gate.sent:
            assert f"UDP {host}:5060;" in str(sent.request.headers.get("Via"))
        first, with_user, options, ping = (sent.request for sent in gate.sent)
        assert first.headers.get("Contact") == f"<sip:tollgate@{host}:5060>"
        assert with_user.headers.get("Contact") == f"<sip:204@{host}:5060>"
        assert options.headers.get("Contact") == f"<sip:tollgate@{host}:5060>"
        for one in (options, ping):
            assert f"<sip:tollgate@{host}:5060>" in str(one.headers.get("From"))

    def test_responses_and_requests_within_the_dialog(self, flow: Flow, host: str, bound: str) -> None:
        gate = harness(bound)
        gate.receive(request("INVITE", contact=f"<sip:204@{flow.remote_host}>"), flow)
        transaction = gate.take(RequestReceived).transaction
        dialog = gate.endpoint.respond(transaction, 200, now=gate.now)
        gate.drain()
        assert gate.sent[-1].response.headers.get("Contact") == f"<sip:tollgate@{host}:5060>"
        assert dialog is not None
        gate.endpoint.request(dialog, "UPDATE", now=gate.now)
        gate.drain()
        update = gate.sent[-1].request
        assert f"UDP {host}:5060;" in str(update.headers.get("Via"))
        assert update.headers.get("Contact") == f"<sip:tollgate@{host}:5060>"

    def test_18_1_2_the_answer_to_either_is_the_gates(self, flow: Flow, host: str, bound: str) -> None:
        gate = harness(bound)
        gate.endpoint.invite(spec(flow), None, gate.now)
        gate.drain()
        gate.receive(answer(gate.sent[-1].request, 486), flow)
        assert gate.sent[-1].what == "ACK"
        assert f"UDP {host}:5060;" in str(gate.sent[-1].request.headers.get("Via"))


def test_18_1_1_a_large_request_says_over_tcp_what_it_says_over_udp() -> None:
    gate = harness()
    for flow in (BESIDE, BEYOND):
        large = spec(flow)._replace(body=b"v=0\r\n" + b"a=x\r\n" * 400, large=LargeRequests.TCP)
        gate.endpoint.invite(large, None, gate.now)
    gate.drain()
    beside, beyond = (str(sent.request.headers.get("Via")) for sent in gate.sent)
    assert f"TCP {OWN}:5060;" in beside
    assert f"TCP {ADVERTISED}:5060;" in beyond

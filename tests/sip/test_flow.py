"""Flows, listen points, and where nothing is sent."""

from __future__ import annotations

import pytest

from proxy.sip.flow import Flow, ListenPoint, is_sendable


@pytest.mark.parametrize("transport", ["TCP", "TLS", "WS", "WSS"])
def test_every_transport_but_udp_is_reliable(transport: str) -> None:
    assert Flow(transport, "192.0.2.1", 5060).reliable
    assert not Flow("UDP", "192.0.2.1", 5060).reliable


def test_rfc3986_3_2_2_the_source_of_a_message_is_one_text() -> None:
    assert Flow("UDP", "192.0.2.1", 5060).source == "192.0.2.1:5060"
    assert Flow("UDP", "2001:db8::1", 5060).source == "[2001:db8::1]:5060"


def test_a_listen_point_prints_as_via_and_contact_want_it() -> None:
    assert ListenPoint("UDP", "192.0.2.1", 5060).sent_by == "192.0.2.1:5060"
    assert ListenPoint("UDP", "2001:db8::1", 5060).sent_by == "[2001:db8::1]:5060"
    assert ListenPoint("UDP", "192.0.2.1", 5060).uri_parameters == ""
    assert ListenPoint("TCP", "192.0.2.1", 5060).uri_parameters == ";transport=tcp"


def test_a_listen_point_is_at_what_it_advertises_and_where_its_socket_is() -> None:
    point = ListenPoint("UDP", "2001:DB8::7", 5060, bound=("192.0.2.20",), own="192.0.2.20")
    assert point.is_at("2001:db8::7")
    assert point.is_at("192.0.2.20")
    assert not point.is_at("192.0.2.21")
    inside = point.told_as("192.0.2.20")
    assert inside.sent_by == "192.0.2.20:5060"
    assert inside.is_at("2001:db8::7"), "still"
    assert point.told_as("192.0.2.20") is inside


@pytest.mark.parametrize(
    ("host", "sendable"),
    [
        ("192.0.2.1", True), ("127.0.0.1", True), ("2001:db8::1", True), ("phone.example.com", True),
        ("224.0.1.75", False), ("239.1.1.1", False), ("255.255.255.255", False), ("0.0.0.0", False),
        ("ff02::1", False), ("::", False), ("", False), ("::ffff:224.0.1.75", False),
        ("::ffff:255.255.255.255", False), ("::ffff:192.0.2.1", True),
    ],
)  # fmt: skip
def test_multicast_broadcast_and_nowhere_are_never_sent_to(host: str, sendable: bool) -> None:
    assert is_sendable(host) is sendable

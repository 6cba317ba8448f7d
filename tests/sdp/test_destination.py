"""Addresses that a description must not lead the gate's media to: RFC 8866 §5.7."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from proxy.errors import RemoteProtocolError
from proxy.sdp import AudioDescription, Direction, FaxDescription, OwnSockets, parse_sdp, read_audio, read_fax

GATE = OwnSockets(
    tuple((ip_network(own), 5060) for own in ("192.0.2.1", "203.0.113.7", "2001:db8::1", "127.0.0.0/8"))
)
PHONE = "198.51.100.24"


def audio(address: str, port: int) -> AudioDescription:
    kind = "IP6" if ":" in address else "IP4"
    text = f"v=0\r\no=- 1 1 IN IP4 x\r\ns=-\r\nc=IN {kind} {address}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"
    return read_audio(parse_sdp(text.encode()))


def fax(address: str, port: int) -> FaxDescription:
    text = f"v=0\r\no=- 1 1 IN IP4 x\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\nm=image {port} udptl t38\r\n"
    read = read_fax(parse_sdp(text.encode()))
    assert read is not None
    return read


@pytest.mark.parametrize(
    ("address", "port", "source"),
    [
        ("192.0.2.1", 5060, PHONE),
        ("192.0.2.1", 5060, "192.0.2.1"),  # a PBX on the gate's machine has another port
        ("203.0.113.7", 5060, PHONE),  # what the gate says of itself
        ("2001:db8::1", 5060, "2001:db8::24"),
        ("2001:DB8:0::0:1", 5060, "2001:db8::24"),
        ("::ffff:192.0.2.1", 5060, PHONE),
        ("127.0.0.1", 5060, "127.0.0.1"),
        ("127.255.1.2", 5060, "127.0.0.1"),
        ("127.0.0.1", 4000, PHONE),
        ("127.9.9.9", 4000, "169.254.7.7"),
        ("::1", 4000, "2001:db8::24"),
        ("127.0.0.1", 4000, "phones.example.com"),
        ("169.254.169.254", 80, PHONE),
        ("169.254.7.8", 4000, "127.0.0.1"),
        ("169.254.7.8", 4000, "phones.example.com"),
        ("fe80::7", 4000, "2001:db8::24"),
    ],
)
def test_nothing_is_sent_to_the_gates_sip_nor_to_what_a_stranger_cannot_reach(
    address: str, port: int, source: str
) -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        GATE.judge(audio(address, port), source, emergency=False)
    assert refused.value.status_hint == 488
    if ":" not in address:
        with pytest.raises(RemoteProtocolError):
            GATE.judge(fax(address, port), source, emergency=False)


@pytest.mark.parametrize(
    ("address", "port", "source"),
    [
        ("192.0.2.1", 20_000, "192.0.2.1"),
        ("192.0.2.1", 10_000, PHONE),  # a call that a proxy sends back bears the gate's own description
        ("192.0.2.1", 5061, PHONE),
        ("192.0.2.2", 5060, PHONE),
        ("127.0.0.5", 4000, "127.0.0.1"),
        ("127.0.0.1", 4000, "::ffff:127.0.0.1"),
        ("::1", 4000, "::1"),
        ("10.1.1.1", 4000, PHONE),  # a phone behind NAT
        ("0.0.0.0", 10_000, PHONE),
        ("169.254.7.7", 4000, "169.254.9.9"),
        ("fe80::7", 4000, "fe80::24%eth0"),
        ("media.example.com", 10_000, PHONE),
        ("media.example.com", 10_000, "phones.example.com"),
    ],
)
def test_whatever_else_a_peer_names_is_taken_as_it_is(address: str, port: int, source: str) -> None:
    assert GATE.problem(address, port, source) == ""
    assert GATE.judge(audio(address, port), source, emergency=False) == audio(address, port)


def test_rfc3264_5_1_hold_by_an_address_of_zeros_stays_hold() -> None:
    held = GATE.judge(audio("0.0.0.0", 10_000), PHONE, emergency=False)
    assert held.direction is Direction.SENDONLY


def test_a_name_is_where_the_signalling_comes_from_be_that_the_gates_own_port() -> None:
    with pytest.raises(RemoteProtocolError):
        GATE.judge(audio("localhost", 5060), "192.0.2.1", emergency=False)
    assert GATE.judge(audio("localhost", 9_998), "192.0.2.1", emergency=False).address == "localhost"


@pytest.mark.parametrize(
    ("address", "source", "instead"),
    [
        ("192.0.2.1", PHONE, PHONE),
        ("127.0.0.1", PHONE, PHONE),
        ("169.254.169.254", PHONE, PHONE),
        ("192.0.2.1", "192.0.2.1", "0.0.0.0"),
        ("192.0.2.1", "phones.example.com", "phones.example.com"),
        ("localhost", "192.0.2.1", "0.0.0.0"),
        (PHONE, "192.0.2.1", PHONE),
    ],
)
def test_in_an_emergency_media_goes_where_the_signalling_comes_from_or_nowhere(
    address: str, source: str, instead: str
) -> None:
    wanted = audio(address, 5060)
    assert GATE.judge(wanted, source, emergency=True) == replace(wanted, address=instead)
    assert GATE.judge(fax(address, 5060), source, emergency=True).address == instead


def test_a_gate_that_knows_no_sockets_of_its_own_still_keeps_to_the_rest() -> None:
    anywhere = OwnSockets()
    assert anywhere.problem("192.0.2.1", 10_000, PHONE) == ""
    assert anywhere.problem("127.0.0.1", 10_000, PHONE)

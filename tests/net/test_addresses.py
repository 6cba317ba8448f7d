"""Which addresses the machine has."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from proxy.net import addresses
from proxy.net.addresses import addresses_of_machine, source_address, why_not_own


def test_they_are_those_that_a_socket_can_have() -> None:
    found = addresses_of_machine()
    assert "127.0.0.1" in found
    for address in found:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        if not address.startswith("fe80"):
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.bind((address, 0))


def test_networks_and_broadcast_addresses_are_none(tmp_path: Path) -> None:
    (tmp_path / "fib_trie").write_text(
        "Main:\n  |-- 192.0.2.0\n     /24 link UNICAST\n  |-- 192.0.2.2\n     /32 host LOCAL\n"
        "Local:\n  |-- 192.0.2.2\n     /32 host LOCAL\n  |-- 192.0.2.255\n     /32 link BROADCAST\n"
    )
    (tmp_path / "if_inet6").write_text("20010db8000000000000000000000001 04 40 00 82     eth0\n")
    assert addresses_of_machine(tmp_path) == ("192.0.2.2", "2001:db8::1")


def test_where_the_system_does_not_say_there_are_none(tmp_path: Path) -> None:
    assert addresses_of_machine(tmp_path) == ()


def test_the_kernel_says_which_of_them_is_sent_from() -> None:
    assert source_address("127.0.0.9") == "127.0.0.1"
    assert source_address("::1") == "::1"


def test_where_there_is_no_way_there_is_no_source() -> None:
    assert source_address("255.255.255.255") == "", "a broadcast needs a permission"


def test_a_route_is_asked_for_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = addresses._source_address.cache_info
    monkeypatch.setattr("proxy.net.addresses.time.monotonic", lambda: 600.0)
    source_address("127.0.0.8")
    before = asked().misses
    source_address("127.0.0.8")
    assert asked().misses == before
    monkeypatch.setattr("proxy.net.addresses.time.monotonic", lambda: 600.0 + addresses.SOURCES_KEPT)
    source_address("127.0.0.8")
    assert asked().misses == before + 1


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("127.0.0.1", ""),
        ("0.0.0.0", ""),
        ("::1", ""),
        ("198.51.100.1", "Cannot assign requested address"),
        ("2001:db8::1", "Cannot assign requested address"),
        # With its zone, or the kernel would find the address invalid wherever it is.
        ("fe80::1%lo", "Cannot assign requested address"),
        ("fe80::1%nosuch", "Name or service not known"),
    ],
)
def test_why_a_socket_can_not_have_an_address(host: str, why: str) -> None:
    assert why_not_own(host) == why

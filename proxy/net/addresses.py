"""The addresses that this machine has: a socket that listens at all of them does so at each, and the kernel
chooses one of them to send from."""

from __future__ import annotations

import re
import socket
import time
from functools import lru_cache
from ipaddress import IPv6Address
from pathlib import Path

__all__ = ["addresses_of_machine", "source_address", "why_not_own"]

SOURCES_KEPT = 60
"""Seconds for which a route is taken to be the same: a tunnel may come up later than the gate."""

_LOCAL = re.compile(r"\|-- (\S+)\n\s+/32 host LOCAL")


def addresses_of_machine(proc: Path = Path("/proc/net")) -> tuple[str, ...]:
    """Return them as Linux lists them now; nothing where it does not."""
    found = dict.fromkeys(_LOCAL.findall(_read(proc / "fib_trie")))
    for line in _read(proc / "if_inet6").splitlines():
        found[str(IPv6Address(bytes.fromhex(line.partition(" ")[0])))] = None
    return tuple(found)


def source_address(host: str) -> str:
    """Return the address that this machine sends from to a host; "" where there is no way to it."""
    try:
        return _source_address(host, int(time.monotonic()) // SOURCES_KEPT)
    except OSError:
        return ""


def why_not_own(host: str) -> str:
    """Say why no socket of this machine can have an address, which may be IPv6 with its zone; or ""."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, 0, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
        )[0]
        with socket.socket(family, kind) as probe:
            probe.bind(address)
    except OSError as error:
        return error.strerror or str(error)
    return ""


@lru_cache(maxsize=4096)
def _source_address(host: str, _period: int) -> str:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect((host, 9))  # nothing is sent
        address: str = sock.getsockname()[0]
    return address.partition("%")[0]


def _read(file: Path) -> str:
    try:
        return file.read_text("ascii")
    except OSError:
        return ""

"""What tests of trunks start: SIPp as carriers at any address, and as callers behind the gate."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.dns_server import DnsServer
from tests.system import sipp
from tests.system.gate import GATE_ADDRESS, PBX_ADDRESS, Gate, free_port
from tests.system.media import PATIENCE

SCENARIOS = tuple(Path(__file__).parent / name for name in ("trunks", "proxied", "session_timers"))
TOLL_FREE = "8005550123"
"""Needs no code."""


def carrier(
    scenario: str,
    folder: Path,
    *,
    address: str,
    port: int,
    name: str = "",
    transport: str = "udp",
    calls: int = 1,
    seconds: int = 30,
    keys: Mapping[str, str] | None = None,
) -> sipp.Sipp:
    """Start somebody who is called; returns when it can be."""
    process = sipp.start(
        _file(scenario),
        folder,
        name=name or f"carrier_{port}",
        address=address,
        port=port,
        media_port=free_port(address),
        transport=transport,
        calls=calls,
        seconds=seconds,
        keys={"rtp_address": address, "rtp_port": "9", "user": "+13125550199"} | dict(keys or {}),
    )
    # Else the kernel may tell the gate that nobody is there: a busy machine starts it late.
    where = f"{socket.inet_aton(address)[::-1].hex().upper()}:{port:04X} 00000000:0000 "
    until = time.monotonic() + PATIENCE
    while where not in Path(f"/proc/net/{transport}").read_text():
        assert time.monotonic() < until, f"{process.name} does not listen"
        time.sleep(0.02)
    return process


def caller(
    gate: Gate,
    folder: Path,
    *,
    dial: str = TOLL_FREE,
    scenario: str = "caller",
    name: str = "caller",
    address: str = PBX_ADDRESS,
    port: int = 0,
    remote: str = "",
    user: str = "201",
    calls: int = 1,
    seconds: int = 30,
    keys: Mapping[str, str] | None = None,
) -> sipp.Sipp:
    """Start somebody who calls the gate, or somebody else (``remote``)."""
    return sipp.start(
        _file(scenario),
        folder,
        name=name,
        address=address,
        port=port or free_port(address),
        media_port=free_port(address),
        remote=remote or f"{GATE_ADDRESS}:{gate.port}",
        service=dial,
        calls=calls,
        seconds=seconds,
        keys={"user": user} | dict(keys or {}),
    )


def _file(scenario: str) -> Path:
    return next(path for folder in SCENARIOS if (path := folder / f"{scenario}.xml").exists())


@contextmanager
def playing(*processes: sipp.Sipp) -> Iterator[None]:
    """Let these play meanwhile. Then their calls must end as they are written; none of them stays."""
    try:
        yield
        for process in processes:
            process.wait()
    finally:
        for process in processes:
            process.stop()


@contextmanager
def running_dns_server() -> Iterator[DnsServer]:
    """Run a DNS server beside the test, for a gate in a process of its own."""
    loop = asyncio.new_event_loop()
    transport, server = loop.run_until_complete(
        loop.create_datagram_endpoint(DnsServer, local_addr=("127.0.0.1", 0))
    )
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        transport.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def said_by_gate(process: sipp.Sipp, start: str) -> str:
    """Return the last message of the gate's to a SIPp that begins so, as soon as it is there."""
    until = time.monotonic() + PATIENCE
    pattern = re.compile(
        rf"received \[\d+\] bytes :\s+({start}.*?)(?=^-{{10,}}|\Z)", re.MULTILINE | re.DOTALL
    )
    while not (found := pattern.findall(process.messages())) or "m=audio" not in found[-1]:
        assert time.monotonic() < until, process.messages()
        time.sleep(0.05)
    return str(found[-1])


def contacts(process: sipp.Sipp) -> set[str]:
    """Return every Contact that a SIPp which was called has got from the gate."""
    received = re.findall(
        r"received \[\d+\] bytes :\s+(.*?)(?=^-{10,}|\Z)", process.messages(), re.MULTILINE | re.DOTALL
    )
    return {one for message in received for one in re.findall(r"^Contact: (.*?)\r?$", message, re.MULTILINE)}


def tell_to_go_on(process: sipp.Sipp, port: int) -> None:
    """Send a SIPp the MESSAGE that its scenario waits for. Its next request goes to where that is to: to who
    has answered its call."""
    to = re.search(r"^To: .*$", said_by_gate(process, "SIP/2.0 200"), re.MULTILINE)
    assert to is not None
    text = (
        f"MESSAGE sip:go@{process.address}:{port} SIP/2.0\r\n"
        "Via: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKgo\r\n"
        f"From: <sip:test@127.0.0.1>;tag=go\r\n{to[0].strip()}\r\n"
        f"Call-ID: {process.call_id}\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n"
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
        sending.sendto(text.encode(), (process.address, port))

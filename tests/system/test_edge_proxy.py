"""A phone registers by way of an edge proxy, whose connection to the gate is no stranger's then.

RFC 3327, RFC 5626. The phone is a baresip, the proxy a Kamailio; from one to the other, and from there to the
gate, all goes over TCP.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from proxy.cdr.record import Direction, Disposition
from proxy.policy import User
from proxy.store import digest_credentials
from tests.system.baresip import Phone, running_phone
from tests.system.gate import (
    CARRIER_ADDRESSES,
    GATE_ADDRESS,
    STRANGER_ADDRESS,
    Gate,
    free_port,
    running_gate,
)
from tests.system.kamailio import Kamailio, edge_routes, needs_kamailio, running_kamailio
from tests.system.media import PATIENCE
from tests.system.test_baresip import MD5_ONLY, PASSWORD
from tests.system.test_registration import wait_for_phones
from tests.system.trunk_traffic import TOLL_FREE, caller, carrier, playing

EDGE_ADDRESS = "127.0.0.30"
PHONE_ADDRESS = "127.0.0.20"
CONNECTIONS = 4
LIMITS = f"[sip.tcp]\nconnections = {CONNECTIONS}\nidle_timeout = 3\n[registrar]\nflow_timer = 0\n"

pytestmark = needs_kamailio


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    extra = MD5_ONLY + LIMITS
    with running_gate(tmp_path_factory.mktemp("gate"), latching="learning", extra=extra) as running:
        credentials = digest_credentials("202", "tollgate", PASSWORD)
        running.store.users.add(User("202", "required", credentials=credentials))
        running.wait_for_policy()
        yield running


@pytest.fixture(scope="module")
def edge(gate: Gate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kamailio]:
    folder = tmp_path_factory.mktemp("edge") / "kamailio"
    routes = edge_routes(address=EDGE_ADDRESS, gate=(GATE_ADDRESS, gate.port))
    port = free_port(EDGE_ADDRESS)
    with running_kamailio(folder, address=EDGE_ADDRESS, port=port, routes=routes) as running:
        yield running


@contextmanager
def registered_phone(gate: Gate, edge: Kamailio, folder: Path) -> Iterator[Phone]:
    """Start a phone that answers by itself; returns when it has registered by way of the proxy."""
    way = f'outbound="sip:{EDGE_ADDRESS}:{edge.port};transport=tcp";sipnat=outbound'
    with running_phone(
        folder / "phone",
        address=PHONE_ADDRESS,
        proxy=f"{GATE_ADDRESS}:{gate.port}",
        user="202",
        password=PASSWORD,
        parameters=f";{way};answermode=auto;audio_codecs=PCMU/8000/1",
        regint=600,
        modules=("uuid",),
    ) as running:
        wait_for_phones(gate, "202")
        yield running


def wait_until(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, f"never came about: {what}"
        time.sleep(0.05)


def connected(gate: Gate, address: str) -> set[int]:
    """Return the ports at an address from which connections to the gate are open (proc(5))."""

    def spelled(host: str) -> str:
        return socket.inet_aton(host)[::-1].hex().upper()

    here, there, established = f"{spelled(GATE_ADDRESS)}:{gate.port:04X}", spelled(address), "01"
    rows = [line.split()[1:4] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    peers = [peer.split(":") for local, peer, state in rows if (local, state) == (here, established)]
    return {int(port, 16) for host, port in peers if host == there}


def connect(gate: Gate) -> socket.socket:
    """Connect to the gate as somebody whom it doesn't know."""
    return socket.create_connection(
        (GATE_ADDRESS, gate.port), timeout=PATIENCE, source_address=(STRANGER_ADDRESS, 0)
    )


def test_the_proxys_idle_connection_stays_while_a_phone_is_registered_over_it(
    gate: Gate, edge: Kamailio, tmp_path: Path
) -> None:
    with registered_phone(gate, edge, tmp_path) as phone:
        (binding,) = gate.store.bindings.all(now=time.time())
        assert binding.path[0].startswith(f"<sip:edge@{EDGE_ADDRESS}:{edge.port};transport=tcp;lr;")
        assert binding.reg_id == 1
        before = connected(gate, EDGE_ADDRESS)
        assert len(before) == 1
        with connect(gate) as stranger:
            assert stranger.recv(1) == b"", "a stranger's, as idle, is closed"
        assert connected(gate, EDGE_ADDRESS) == before
        process = caller(gate, tmp_path, dial="202")
        process.wait()
        phone.wait_for("CALL_CLOSED")
        assert connected(gate, EDGE_ADDRESS) == before
    record = gate.wait_for_record_of(process.call_id)
    assert (record.direction, record.disposition) == (Direction.INTERNAL, Disposition.ANSWERED)
    assert edge.said("[routed BYE from ") == 1
    assert edge.said("[unrouted") == 0
    # The phone has left: now the connection is one of nobody's.
    wait_until(lambda: not connected(gate, EDGE_ADDRESS), "the proxy's connection is closed")


def test_strangers_who_take_all_places_do_not_displace_it(gate: Gate, edge: Kamailio, tmp_path: Path) -> None:
    with registered_phone(gate, edge, tmp_path) as phone, ExitStack() as opened:
        before = connected(gate, EDGE_ADDRESS)
        assert len(before) == 1
        for _ in range(2 * CONNECTIONS):
            opened.enter_context(connect(gate))
        wait_until(lambda: len(connected(gate, STRANGER_ADDRESS)) < CONNECTIONS, "strangers give way")
        gate.wait_for_log("connection closed: its place was wanted")
        assert connected(gate, EDGE_ADDRESS) == before
        called = carrier("called_at_once", tmp_path, address=CARRIER_ADDRESSES[0], port=gate.carrier_ports[0])
        with playing(called):
            phone.command("dial", f"sip:{TOLL_FREE}@{GATE_ADDRESS}:{gate.port}")
            phone.wait_for("CALL_ESTABLISHED")
            phone.command("hangup")
        assert connected(gate, EDGE_ADDRESS) == before, "the phone has called over it"

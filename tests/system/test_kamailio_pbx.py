"""Kamailio as the PBX behind the gate: it asks its phones who they are, stays on the route, and forks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.cdr.record import CallRecord, Direction, Disposition, HungUpBy
from tests.support.pcap import Keys, caller_stream, write_pcap
from tests.system import sipp
from tests.system.gate import CARRIER_ADDRESSES, GATE_ADDRESS, PBX_ADDRESS, Gate, free_port, running_gate
from tests.system.kamailio import Kamailio, needs_kamailio, pbx_routes, running_kamailio
from tests.system.media import RtpListener
from tests.system.trunk_traffic import caller, carrier, playing

PHONES = ("127.0.0.24", "127.0.0.25")
CODE = "4321"

pytestmark = needs_kamailio


@dataclass(frozen=True, slots=True)
class Network:
    """A gate with a Kamailio in front of it, and where the phones of that listen."""

    gate: Gate
    kamailio: Kamailio
    phone_ports: tuple[int, int]

    def phones(self, folder: Path, *scenarios: str) -> list[sipp.Sipp]:
        """Start the two phones that the PBX rings."""
        places = zip(scenarios, PHONES, self.phone_ports, strict=True)
        return [carrier(name, folder, address=address, port=port) for name, address, port in places]

    def called(self, folder: Path) -> CallRecord:
        """Let the carrier call the PBX's number; returns the record of that call."""
        known = {record.record_id for record in self.gate.records()}
        caller(self.gate, folder, address=CARRIER_ADDRESSES[0], dial="+12025550123").wait()
        record = self.gate.wait_for_record(known)
        assert record.disposition is Disposition.ANSWERED
        assert record.direction is Direction.INBOUND
        return record


@contextmanager
def running_network(folder: Path) -> Iterator[Network]:
    ports = (free_port(PHONES[0]), free_port(PHONES[1]))
    with running_gate(folder) as gate:
        gate.tollgate("users", "add", "201", "--group", "required")
        gate.tollgate("codes", "add", CODE, "--description", "Office")
        gate.wait_for_policy()
        routes = pbx_routes(
            gate=(GATE_ADDRESS, gate.port),
            password="a-sip-password",
            phones=tuple(f"{host}:{port}" for host, port in zip(PHONES, ports, strict=True)),
        )
        with running_kamailio(
            folder / "kamailio", address=PBX_ADDRESS, port=gate.pbx_port, routes=routes
        ) as kamailio:
            yield Network(gate, kamailio, ports)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with running_network(tmp_path_factory.mktemp("network")) as running:
        yield running


def test_a_phone_that_the_pbx_has_asked_is_asked_for_its_code(network: Network, tmp_path: Path) -> None:
    gate, kamailio = network.gate, network.kamailio
    write_pcap(tmp_path / "keys.pcap", caller_stream([Keys(f"{CODE}#", start_ms=300)], total_ms=2500))
    with RtpListener(CARRIER_ADDRESSES[0]) as media:
        called = carrier(
            "called_at_once",
            tmp_path,
            address=CARRIER_ADDRESSES[0],
            port=gate.carrier_ports[0],
            keys={"rtp_port": str(media.port)},
        )
        with playing(called):
            caller(
                gate,
                tmp_path,
                scenario="phone_of_a_pbx",
                address=PHONES[0],
                remote=f"{PBX_ADDRESS}:{gate.pbx_port}",
                dial="2025550123",
            ).wait()
        assert media.audio_packets > 20
    record = gate.wait_for_record(set())
    assert record.disposition is Disposition.ANSWERED
    assert (record.peer, record.user, record.hung_up_by) == ("pbx", "201", HungUpBy.A_LEG)
    assert record.code is not None
    assert record.code.form == CODE
    kamailio.wait_for(f"[routed BYE from {PHONES[0]} ")
    assert kamailio.said("[unrouted") == 0
    assert "uthorization" not in called.messages(), "what the phone proved is the PBX's"


def test_of_two_phones_that_ring_one_answers(network: Network, tmp_path: Path) -> None:
    phones = network.phones(tmp_path, "called_in_vain", "called")
    with playing(*phones):
        record = network.called(tmp_path)
    ringing = f"Response(180, call_id='{record.b_call_id}')"
    assert network.gate.log.read_text().count(ringing) == 2


def test_rfc3261_13_2_2_4_of_two_phones_that_answer_one_is_hung_up_on(
    network: Network, tmp_path: Path
) -> None:
    before = network.kamailio.said(f"[routed BYE from {GATE_ADDRESS} ")
    phones = network.phones(tmp_path, "called_at_once", "called_at_once")
    with playing(*phones):
        network.called(tmp_path)
    assert network.kamailio.said(f"[routed BYE from {GATE_ADDRESS} ") == before + 2

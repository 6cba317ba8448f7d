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
from tests.system.test_kamailio import SCENARIOS as PROXIED
from tests.system.trunk_traffic import SCENARIOS

PHONES = ("127.0.0.24", "127.0.0.25")
CODE = "4321"

pytestmark = [pytest.mark.system, needs_kamailio]


@dataclass(frozen=True, slots=True)
class Network:
    """A gate with a Kamailio in front of it, and where the phones of that listen."""

    gate: Gate
    kamailio: Kamailio
    phone_ports: tuple[int, int]

    def start(
        self, scenario: Path, folder: Path, address: str, *, port: int = 0, **options: str
    ) -> sipp.Sipp:
        """Start a phone or a carrier."""
        media = options.pop("rtp_port", "9")
        return sipp.start(
            scenario,
            folder,
            name=f"{scenario.stem}_{address}",
            address=address,
            port=port or free_port(address),
            media_port=free_port(address),
            keys={"rtp_address": address, "rtp_port": media, "user": "201"},
            remote=options.get("remote", ""),
            service=options.get("dial", ""),
        )

    def phones(self, folder: Path, *scenarios: str) -> list[sipp.Sipp]:
        """Start the two phones that the PBX rings."""
        places = zip(scenarios, PHONES, self.phone_ports, strict=True)
        return [self.start(PROXIED / f"{name}.xml", folder, host, port=port) for name, host, port in places]

    def called(self, folder: Path) -> CallRecord:
        """Let the carrier call the PBX's number; returns the record of that call."""
        known = {record.record_id for record in self.gate.records()}
        self.start(
            PROXIED / "caller.xml",
            folder,
            CARRIER_ADDRESSES[0],
            remote=f"{GATE_ADDRESS}:{self.gate.port}",
            dial="+12025550123",
        ).wait()
        record = self.gate.wait_for_record(known)
        assert record.disposition is Disposition.ANSWERED
        assert record.direction is Direction.INBOUND
        return record


@contextmanager
def running_network(folder: Path) -> Iterator[Network]:
    ports = (free_port(PHONES[0]), free_port(PHONES[1]))
    with running_gate(folder, media="28000-28999") as gate:
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
        carrier = network.start(
            PROXIED / "called_at_once.xml",
            tmp_path,
            CARRIER_ADDRESSES[0],
            port=gate.carrier_ports[0],
            rtp_port=str(media.port),
        )
        phone = network.start(
            SCENARIOS / "phone_of_a_pbx.xml",
            tmp_path,
            PHONES[0],
            remote=f"{PBX_ADDRESS}:{gate.pbx_port}",
            dial="2025550123",
        )
        phone.wait()
        carrier.wait()
        assert media.audio_packets > 20
    record = gate.wait_for_record(set())
    assert record.disposition is Disposition.ANSWERED
    assert (record.peer, record.user, record.hung_up_by) == ("pbx", "201", HungUpBy.A_LEG)
    assert record.code is not None
    assert record.code.form == CODE
    kamailio.wait_for(f"[routed BYE from {PHONES[0]} ")
    assert kamailio.said("[unrouted") == 0
    assert "uthorization" not in carrier.messages(), "what the phone proved is the PBX's"


def test_of_two_phones_that_ring_one_answers(network: Network, tmp_path: Path) -> None:
    phones = network.phones(tmp_path, "called_in_vain", "called")
    record = network.called(tmp_path)
    for phone in phones:
        phone.wait()
    ringing = f"Response(180, call_id='{record.b_call_id}')"
    assert network.gate.log.read_text().count(ringing) == 2


def test_rfc3261_13_2_2_4_of_two_phones_that_answer_one_is_hung_up_on(
    network: Network, tmp_path: Path
) -> None:
    before = network.kamailio.said(f"[routed BYE from {GATE_ADDRESS} ")
    phones = network.phones(tmp_path, "called_at_once", "called_at_once")
    network.called(tmp_path)
    for phone in phones:
        phone.wait()
    assert network.kamailio.said(f"[routed BYE from {GATE_ADDRESS} ") == before + 2

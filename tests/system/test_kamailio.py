"""Kamailio between gate and carriers: challenges, registration, Record-Route, forks; over UDP and TCP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.cdr.record import CallRecord, Direction, Disposition, HungUpBy
from proxy.policy import User
from proxy.store import digest_credentials
from tests.support.pcap import Keys, caller_stream, write_pcap
from tests.system import sipp
from tests.system.gate import (
    CARRIER_ADDRESSES,
    EARLY_PBX_ADDRESS,
    GATE_ADDRESS,
    PBX_ADDRESS,
    STRANGER_ADDRESS,
    Gate,
    free_port,
    running_gate,
)
from tests.system.kamailio import REALM, Kamailio, carrier_routes, needs_kamailio, running_kamailio
from tests.system.media import RtpListener
from tests.system.trunk_traffic import contacts

SCENARIOS = Path(__file__).parent / "proxied"
BEHIND = ("127.0.0.12", "127.0.0.13")
"""Carriers behind Kamailio."""
PASSWORD = "a-trunk-password"
CODE = "4321"

pytestmark = needs_kamailio


@dataclass(frozen=True, slots=True)
class Network:
    """A gate whose first trunk is a Kamailio, and where the two carriers behind that listen."""

    gate: Gate
    kamailio: Kamailio
    carrier_ports: tuple[int, int]

    def carrier(
        self,
        number: int,
        scenario: str,
        folder: Path,
        media: RtpListener,
        *,
        remote: str = "",
        dial: str = "",
    ) -> sipp.Sipp:
        """Start one of the carriers behind Kamailio."""
        return sipp.start(
            SCENARIOS / f"{scenario}.xml",
            folder,
            name=f"carrier_{number}",
            address=BEHIND[number],
            port=self.carrier_ports[number],
            media_port=free_port(BEHIND[number]),
            remote=remote,
            service=dial,
            keys={"rtp_address": media.address, "rtp_port": str(media.port), "user": "+13125550199"},
        )

    def caller(self, scenario: str, folder: Path, *, address: str, dial: str) -> sipp.Sipp:
        """Start a caller behind the gate."""
        stream = caller_stream([Keys(f"{CODE}#", start_ms=300)], total_ms=2500)
        write_pcap(folder / "keys.pcap", stream)
        return sipp.start(
            SCENARIOS / f"{scenario}.xml",
            folder,
            name="caller",
            address=address,
            port=free_port(address),
            media_port=free_port(address),
            remote=f"{GATE_ADDRESS}:{self.gate.port}",
            service=dial,
            keys={"user": "201"},
        )


@contextmanager
def running_network(folder: Path, transport: str) -> Iterator[Network]:
    """Start Kamailio, and a gate that registers there."""
    address = CARRIER_ADDRESSES[0]
    port = free_port(address)
    behind = (free_port(BEHIND[0]), free_port(BEHIND[1]))
    account = f'account = {{ username = "gate@{REALM}", password = "{PASSWORD}", realm = "{REALM}" }}'
    proxy = running_kamailio(
        folder / "kamailio",
        address=address,
        port=port,
        routes=carrier_routes(
            gate_address=GATE_ADDRESS,
            user="gate",
            password=PASSWORD,
            carriers=tuple(f"{host}:{at}" for host, at in zip(BEHIND, behind, strict=True)),
        ),
    )
    with (
        proxy as kamailio,
        running_gate(
            folder,
            trunk_transport=transport,
            first_trunk_port=port,
            first_trunk=f"{account}\nregister = true",
            extra='[auth]\nalgorithms = ["MD5"]  # all that SIPp can\n',
        ) as gate,
    ):
        credentials = digest_credentials("201", "tollgate", "a-sip-password")
        gate.store.users.add(User("201", "required", credentials=credentials))
        gate.tollgate("codes", "add", CODE, "--description", "Office")
        gate.wait_for_policy()
        yield Network(gate, kamailio, behind)


@pytest.fixture(scope="module", params=["udp", "tcp"])
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with running_network(tmp_path_factory.mktemp("network"), request.param) as running:
        yield running


@pytest.fixture
def media() -> Iterator[RtpListener]:
    """The carriers' RTP port."""
    with RtpListener(BEHIND[0]) as listener:
        yield listener


def the_record(gate: Gate, known: set[str]) -> CallRecord:
    record = gate.wait_for_record(known)
    assert record.disposition is Disposition.ANSWERED
    return record


def ids(gate: Gate) -> set[str]:
    return {record.record_id for record in gate.records()}


def test_gated_call_is_challenged_and_follows_the_route(
    network: Network, media: RtpListener, tmp_path: Path
) -> None:
    known = ids(network.gate)
    carriers = [
        network.carrier(0, "called", tmp_path, media),
        network.carrier(1, "called_in_vain", tmp_path, media),
    ]
    byes = network.kamailio.said("[routed BYE from 127.0.0.1 ")
    network.caller("gated_caller", tmp_path, address=PBX_ADDRESS, dial="2025550123").wait()
    for carrier in carriers:
        carrier.wait()
    record = the_record(network.gate, known)
    assert record.code is not None
    assert record.code.form == CODE
    assert record.hung_up_by is HungUpBy.A_LEG
    assert record.b_media is not None
    assert media.audio_packets > 20
    network.kamailio.wait_for("[routed ACK from 127.0.0.1 ")
    assert network.kamailio.said("[routed BYE from 127.0.0.1 ") == byes + 1
    assert network.kamailio.said("[unrouted") == 0


def test_rfc3665_3_3_both_on_the_way_ask_who_calls(
    network: Network, media: RtpListener, tmp_path: Path
) -> None:
    known = ids(network.gate)
    carriers = [
        network.carrier(0, "called", tmp_path, media),
        network.carrier(1, "called_in_vain", tmp_path, media),
    ]
    caller = network.caller("phone", tmp_path, address=STRANGER_ADDRESS, dial="8005550123")
    caller.wait()
    for carrier in carriers:
        carrier.wait()
    assert the_record(network.gate, known).user == "201"
    assert caller.messages().count("SIP/2.0 401") == 1
    for carrier in carriers:
        assert 'username="201"' not in carrier.messages(), "the phone's credentials are for the gate"


def test_both_forks_ring_and_one_answers(network: Network, media: RtpListener, tmp_path: Path) -> None:
    known = ids(network.gate)
    carriers = [
        network.carrier(0, "called_in_vain", tmp_path, media),
        network.carrier(1, "called", tmp_path, media),
    ]
    network.caller("caller", tmp_path, address=EARLY_PBX_ADDRESS, dial="8005550123").wait()
    for carrier in carriers:
        carrier.wait()
    record = the_record(network.gate, known)
    ringing = f"Response(180, call_id='{record.b_call_id}')"
    assert network.gate.log.read_text().count(ringing) == 2


def test_rfc3261_13_2_2_4_of_two_forks_that_answer_one_is_hung_up_on(
    network: Network, media: RtpListener, tmp_path: Path
) -> None:
    known = ids(network.gate)
    byes = network.kamailio.said("[routed BYE from 127.0.0.1 ")
    carriers = [network.carrier(number, "called_at_once", tmp_path, media) for number in (0, 1)]
    network.caller("caller", tmp_path, address=EARLY_PBX_ADDRESS, dial="8005550123").wait()
    for carrier in carriers:
        carrier.wait()
    the_record(network.gate, known)
    assert network.kamailio.said("[routed BYE from 127.0.0.1 ") == byes + 2


def test_offers_of_either_side_follow_the_route(network: Network, media: RtpListener, tmp_path: Path) -> None:
    known = ids(network.gate)
    offers = [f"[routed INVITE from {address} over" for address in (GATE_ADDRESS, BEHIND[0])]
    before = [network.kamailio.said(offer) for offer in offers]
    carriers = [
        network.carrier(0, "called_holds", tmp_path, media),
        network.carrier(1, "called_in_vain", tmp_path, media),
    ]
    network.caller("caller_holds", tmp_path, address=EARLY_PBX_ADDRESS, dial="8005550123").wait()
    for carrier in carriers:
        carrier.wait()
    the_record(network.gate, known)
    assert [network.kamailio.said(offer) for offer in offers] == [count + 2 for count in before]
    # RFC 3261 §12.2.1.1: the dialog keeps the Contact that it was begun with, which is the registered one.
    (contact,) = contacts(carriers[0])
    assert contact.startswith(f"<sip:gate@{GATE_ADDRESS}:{network.gate.port}")


def test_call_to_the_registered_gate_reaches_the_pbx(
    network: Network, media: RtpListener, tmp_path: Path
) -> None:
    gate = network.gate
    known = ids(gate)
    pbx = sipp.start(
        SCENARIOS / "called_hangs_up.xml",
        tmp_path,
        name="pbx",
        address=PBX_ADDRESS,
        port=gate.pbx_port,
        media_port=free_port(PBX_ADDRESS),
        keys={"rtp_address": media.address, "rtp_port": str(media.port)},
    )
    remote = f"{CARRIER_ADDRESSES[0]}:{network.kamailio.port}"
    caller = network.carrier(0, "caller_of_did", tmp_path, media, remote=remote, dial="+12025550123")
    caller.wait()
    pbx.wait()
    record = the_record(gate, known)
    assert record.direction is Direction.INBOUND
    assert record.dialled_number == "+12025550123", "the number is in To, the Request-URI is the account"
    assert record.hung_up_by is HungUpBy.B_LEG
    assert network.kamailio.said("[unrouted") == 0

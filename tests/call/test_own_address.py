"""Descriptions that lead the gate's media to its SIP, or to what its peer cannot reach (RFC 8866 §5.7)."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from proxy import composition
from proxy.call.config import GateConfig, Trunk
from proxy.call.ports import LegId
from proxy.cdr.record import Disposition
from proxy.sdp import OwnSockets
from proxy.settings import load_settings
from proxy.sip.flow import Flow
from tests.call.offers import TOLL_FREE, asked, callee, talk, told
from tests.call.test_fax import faxes, image
from tests.support.gate import CARRIER, CARRIER_2, GATE, PBX, GateBench, default_config
from tests.support.ua import Step, UaCall, sdp

SIP = 5060
GATE_SIP = (ip_network(GATE[0]), SIP)
A_LEG = 10_002
"""Port of the first call's first leg, as the bench's engine gives it."""
FOREIGN = [
    (GATE[0], SIP),
    ("127.0.0.1", 4000),
    ("169.254.169.254", 80),
]


def config(*trunks: Trunk) -> GateConfig:
    return default_config(trunks=trunks or None, own_sockets=OwnSockets((GATE_SIP,)))


def sent_to(bench: GateBench) -> set[tuple[str, int]]:
    """Where the engine was told to send media."""
    legs = bench.media.all.values()
    return {(each.remote.address, each.remote.rtp_port) for leg in legs for each in leg.configured}


def place(bench: GateBench, number: str = TOLL_FREE, body: bytes | None = None) -> UaCall:
    call = bench.pbx.call(number, body=body)
    bench.run(1.0)
    return call


@pytest.mark.parametrize(("host", "port"), FOREIGN)
def test_a_caller_who_names_it_is_refused(host: str, port: int) -> None:
    with GateBench(config=config()) as bench:
        assert place(bench, body=sdp(host, port)).statuses == [488]
        assert not bench.media.all
        assert not bench.carrier.calls
    assert (bench.record.disposition, bench.record.sip_code) == (Disposition.NOT_ACCEPTABLE, 488)


@pytest.mark.parametrize(("host", "port"), FOREIGN)
def test_a_callee_who_names_it_is_hung_up_on(host: str, port: int) -> None:
    with GateBench(config=config(), script=(Step(0.0, 200, body=sdp(host, port)),)) as bench:
        assert place(bench).statuses == [488]
        assert callee(bench).ended
        assert sent_to(bench) == {(PBX[0], 4000)}
    assert bench.record.disposition is Disposition.NOT_ACCEPTABLE


def test_early_media_that_names_it_is_not_taken_and_the_answer_decides() -> None:
    script = (Step(0.0, 183, body=sdp(GATE[0], SIP)), Step(0.5, 200, with_sdp=True))
    with GateBench(config=config(), script=script) as bench:
        call = place(bench)
        assert call.status == 200
        assert sent_to(bench) == {(PBX[0], 4000), (CARRIER[0], 4000)}
        call.bye()


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
@pytest.mark.parametrize("body", [sdp(GATE[0], SIP, version=2), image(GATE[0], port=SIP)])
def test_a_later_offer_of_it_is_refused_and_the_call_goes_on(method: str, body: bytes) -> None:
    with talk(GateBench(config=config())) as (bench, call):
        before = sent_to(bench)
        call.request(method, body)
        bench.run(0.5)
        assert call.replies[-1].status == 488
        assert (sent_to(bench), asked(callee(bench))) == (before, [])


def test_a_later_answer_that_names_it_is_none() -> None:
    with talk(GateBench(config=config())) as (bench, call):
        before = sent_to(bench)
        bench.carrier.description = sdp(GATE[0], SIP, version=2, direction="recvonly")
        call.request("INVITE", sdp(direction="sendonly", version=2))
        bench.run(0.5)
        assert call.replies[-1].status == 488
        assert sent_to(bench) == before


def test_an_answer_of_fax_that_names_it_is_none() -> None:
    with talk(GateBench(config=config())) as (bench, call):
        within = faxes(bench.carrier, port=SIP)
        bench.carrier.host = GATE[0]  # in what it writes from now on
        bench.carrier.within = within
        call.request("INVITE", image())
        bench.run(0.5)
        assert call.replies[-1].status == 488
        assert not told(bench, 2).remote.fax
        bench.carrier.host = CARRIER[0]
        bench.carrier.within = None


def test_an_answer_in_the_ack_that_names_it_ends_the_call() -> None:
    with GateBench(config=config()) as bench:
        bench.pbx.ack_body = sdp(GATE[0], SIP)
        call = place(bench, body=b"")
        assert call.ended
        assert (GATE[0], SIP) not in sent_to(bench)


def test_a_name_that_stands_for_it_is_where_the_signalling_is() -> None:
    with GateBench(config=config()) as bench:
        call = place(bench, body=sdp("localhost", SIP))
        assert call.status == 200
        assert told(bench).remote.address == PBX[0]
        call.bye()


@pytest.mark.parametrize(("host", "port"), [(GATE[0], 4000), (GATE[0], A_LEG), ("192.0.2.99", SIP)])
def test_other_ports_of_the_gates_machine_its_media_and_others_with_its_ports_are_taken(
    host: str, port: int
) -> None:
    with GateBench(config=config()) as bench:
        call = place(bench, body=sdp(host, port))
        assert call.status == 200
        assert (host, port) in sent_to(bench)
        call.bye()


class TestEmergency:
    """A call for help is never refused for it, and still nothing is sent there."""

    @pytest.mark.parametrize(("host", "port"), FOREIGN)
    def test_of_a_caller_who_names_it(self, host: str, port: int) -> None:
        with GateBench(config=config()) as bench:
            call = place(bench, "911", sdp(host, port))
            assert call.status == 200
            assert sent_to(bench) == {(PBX[0], port), (CARRIER[0], 4000)}
            assert bench.media.all[LegId(1)].bridged_with is not None
            call.bye()
        assert bench.record.disposition is Disposition.ANSWERED

    @pytest.mark.parametrize(("host", "port"), FOREIGN)
    def test_of_a_callee_who_names_it(self, host: str, port: int) -> None:
        trunks = (
            Trunk("first", (Flow("UDP", *CARRIER),), "one.example.com"),
            Trunk("second", (Flow("UDP", *CARRIER_2),), "two.example.com"),
        )
        script = (Step(0.0, 200, body=sdp(host, port)),)
        with GateBench(config=config(*trunks), script=script) as bench:
            call = place(bench, "911")
            assert call.status == 200
            assert not bench.carrier_2.calls, "who has answered a call for help is not left"
            assert sent_to(bench) == {(PBX[0], 4000), (CARRIER[0], port)}
            call.bye()


# From the settings ------------------------------------------------------------------------------------------

SETTINGS = """
sip.listen = ["udp:{0}:5060", "tcp:{0}:5070", "udp:{0}:5080"]
sip.advertised = ["203.0.113.7"]
media.address = "{0}"
media.advertised_address = "203.0.113.8"
media.ports = "20000-20099"
"""


def own_sockets(folder: Path, host: str) -> OwnSockets:
    file = folder / "gate.toml"
    file.write_text(SETTINGS.format(host))
    bound = [(host, 5060), (host, 5070), (host, 5080)]
    return composition.gate_config(load_settings(file), bound, lambda _name: ()).own_sockets


def test_what_it_listens_at_and_what_it_says_are_its_own(tmp_path: Path) -> None:
    own = own_sockets(tmp_path, "192.0.2.20")
    peer = "198.51.100.9"
    gate = [("192.0.2.20", 5060), ("192.0.2.20", 5080), ("203.0.113.7", 5060), ("203.0.113.7", 5080)]
    assert all(own.problem(*place, peer) for place in gate)
    others = [("192.0.2.20", 5070), ("192.0.2.20", 20_000), ("203.0.113.8", 20_000), ("192.0.2.21", 5060)]
    assert not any(own.problem(*place, peer) for place in others)


def test_a_socket_at_every_address_is_at_each_of_the_machines(tmp_path: Path) -> None:
    own = own_sockets(tmp_path, "0.0.0.0")
    for host in ("127.0.0.1", "127.0.0.2", "203.0.113.7"):
        assert own.problem(host, 5060, "127.0.0.1")
    assert own.problem("127.0.0.1", 5070, "127.0.0.1") == ""

"""Calls from the trunk to the PBX behind the gate (DESIGN 1.9)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from proxy.call.config import DidRoute, GateConfig, Trunk
from proxy.call.identity import PeerTable, peer_networks
from proxy.call.routing import RouteTable
from proxy.cdr.record import Direction, Disposition
from proxy.sip.digest_client import DigestAccount
from proxy.sip.flow import Flow
from tests.support.gate import CARRIER, CARRIER_2, PBX, GateBench, default_config
from tests.support.ua import ANSWER, RING_AND_ANSWER

TOLL_FREE = "918005550123"

PAI = ("P-Asserted-Identity", '"Caller" <sip:+13105550188@carrier.example.com>')


def test_passes_ungated_with_did_intact_and_a_record() -> None:
    with GateBench() as bench:
        bench.pbx.script = RING_AND_ANSWER
        call = bench.carrier.call("", uri="sip:+12125550204@192.0.2.1", headers=[PAI], caller="anonymous")
        bench.run(2.0)
        received = bench.pbx.calls[0]
        assert received.connected
        assert received.invite is not None
        assert received.invite.uri == f"sip:+12125550204@{PBX[0]}:{PBX[1]}"
        assert received.invite.headers.get("P-Asserted-Identity") == PAI[1]
        assert bench.heard == []
        received.bye()
        bench.run(0.5)
        assert call.ended
    record = bench.record
    assert record.direction is Direction.INBOUND
    assert record.dialled_number == "+12125550204"
    assert record.caller_number == "+13105550188"
    assert record.caller_name == "Caller"
    assert record.peer == "carrier"
    assert record.disposition is Disposition.ANSWERED
    assert record.code is None


REGISTERED = Trunk(
    "carrier",
    (Flow("UDP", *CARRIER),),
    "carrier.example.com",
    account=DigestAccount("name@carrier.example.com", "password", (), "100200"),
    register=True,
)
DID = "sip:+12125550204@carrier.example.com"


@pytest.mark.parametrize(
    ("to", "headers", "called"),
    [
        (DID, (), "+12125550204"),
        ("tel:+12125550204", (), "+12125550204"),
        ("sip:+442079460000@b.example", (("P-Called-Party-ID", f"<{DID}>"),), "+12125550204"),
        (DID, (("P-Called-Party-ID", "<sip:broken"),), "+12125550204"),
        (DID, (("P-Called-Party-ID", "<urn:service:x>"),), "+12125550204"),
        ("sip:carrier.example.com", (), "100200"),
    ],
    ids=["to", "to_tel", "party_called", "broken", "no_party", "nobody"],
)
def test_rfc3261_16_5_a_call_to_the_registered_contact_is_for_the_number_in_to(
    to: str, headers: tuple[tuple[str, str], ...], called: str
) -> None:
    with GateBench(config=default_config(trunks=(REGISTERED,))) as bench:
        bench.pbx.script = RING_AND_ANSWER
        call = bench.carrier.call("", uri="sip:100200@192.0.2.1", to=to, headers=headers)
        bench.run(2.0)
        received = bench.pbx.calls[0].invite
        assert received is not None
        assert received.uri == f"sip:{called}@{PBX[0]}:{PBX[1]}"
        assert called in (received.headers.get("To") or "")
        call.bye()
        bench.core.reconfigure(default_config())
        bench.run(60.0)
    assert bench.record.dialled_number == called


def test_a_second_account_at_the_same_carrier_is_no_number_either() -> None:
    second = replace(REGISTERED, name="second", account=DigestAccount("other", "password", (), "100300"))
    table = RouteTable(default_config(trunks=(REGISTERED, second)))
    with GateBench() as bench:
        bench.pbx.script = RING_AND_ANSWER
        call = bench.carrier.call("", uri="sip:100300@192.0.2.1", to=DID)
        bench.run(2.0)
        (running,) = bench.core.calls.values()
        invite = running.origin.invite
        assert table.called(invite, "carrier") == table.called(invite, "second") == "+12125550204"
        assert table.called(invite, "elsewhere") == "100300"
        call.bye()


@pytest.mark.parametrize(
    ("trunk", "routes", "uri"),
    [
        (REGISTERED, (), "sip:+13105550177@192.0.2.1"),
        (REGISTERED, (DidRoute("100200", "pbx"),), "sip:100200@192.0.2.1"),
        (replace(REGISTERED, register=False), (), "sip:100200@192.0.2.1"),
    ],
    ids=["a_number_is_called", "the_account_has_a_route", "not_registered"],
)
def test_the_request_uri_counts_wherever_it_says_a_number(
    trunk: Trunk, routes: tuple[DidRoute, ...], uri: str
) -> None:
    with GateBench(config=default_config(trunks=(trunk,), did_routes=routes)) as bench:
        bench.pbx.script = RING_AND_ANSWER
        call = bench.carrier.call("", uri=uri, to=DID)
        bench.run(2.0)
        received = bench.pbx.calls[0].invite
        assert received is not None
        assert received.uri.partition("@")[0] == uri.partition("@")[0]
        call.bye()
        bench.core.reconfigure(default_config())
        bench.run(60.0)


def test_rfc3263_4_3_a_pbx_of_several_servers_is_called_at_the_next_one() -> None:
    config = default_config()
    pbx, carrier = config.peers
    second = Flow("UDP", *CARRIER_2)
    pair = replace(pbx, further_flows=(second,), shares=((1, 0), (2, 0)), host="pbx.example.com")
    with GateBench(config=replace(config, peers=(pair, carrier))) as bench:
        bench.network.drop = lambda _sender, receiver, _data: receiver == PBX
        call = bench.carrier.call("+12125550204")
        bench.run(3.0)
        assert not bench.carrier_2.calls
        bench.run(2.0)
        received = bench.carrier_2.calls[0]
        assert call.status == 200
        assert received.invite is not None
        assert received.invite.uri == "sip:+12125550204@pbx.example.com"
        call.bye()
        bench.run(40.0)
    assert [trunk.trunk for trunk in bench.record.trunks] == ["pbx", "pbx"]


class TestServersOfAPbx:
    """They are watched as the addresses of a trunk are (RFC 3263 §4.3, RFC 3261 §11.1)."""

    @staticmethod
    def pair(probe_interval: float = 0.0) -> GateConfig:
        config = default_config()
        pbx, carrier = config.peers
        servers = replace(
            pbx,
            further_flows=(Flow("UDP", *CARRIER_2),),
            shares=((1, 0), (2, 0)),
            probe_interval=probe_interval,
        )
        return replace(config, peers=(servers, carrier))

    @staticmethod
    def tried(bench: GateBench, seconds: float) -> int:
        """A call of the carrier that is answered within that time, and ends; how many servers were tried."""
        call = bench.carrier.call("+12125550204")
        bench.run(seconds)
        assert call.status == 200
        call.bye()
        bench.run(1.0)
        return len(bench.journal.final[-1].trunks)

    def states(self, bench: GateBench) -> list[str]:
        assert [one.trunk for one in bench.core.watch.status()] == ["carrier"], "those of trunks are apart"
        return [one.state.value for one in bench.core.watch.status(pbxs=True)]

    def test_a_dead_one_is_remembered_and_tried_again_later(self, caplog: pytest.LogCaptureFixture) -> None:
        with GateBench(config=self.pair()) as bench:
            bench.pbx.script = RING_AND_ANSWER
            bench.network.drop = lambda _sender, receiver, _data: receiver == PBX
            assert [self.tried(bench, 6.0), self.tried(bench, 6.0), self.tried(bench, 1.5)] == [2, 2, 1]
            assert self.states(bench) == ["down", "up"]
            assert "peer pbx at udp:192.0.2.10:5060 is down: no answer" in caplog.text
            bench.run(30.0)
            bench.network.drop = lambda *_: False
            assert self.tried(bench, 1.5) == 1
            assert bench.pbx.calls, "it has its turn again"
            assert self.states(bench) == ["up", "up"]

    def test_probes_find_it_before_any_call_does(self) -> None:
        with GateBench(config=self.pair(probe_interval=5.0)) as bench:
            bench.pbx.script = RING_AND_ANSWER
            bench.network.drop = lambda _sender, receiver, _data: receiver == PBX
            bench.run(15.0)
            assert self.states(bench) == ["down", "up"]
            assert self.tried(bench, 1.5) == 1
            bench.network.drop = lambda *_: False
            bench.run(20.0)
            assert self.states(bench) == ["up", "up"]
            bench.core.reconfigure(self.pair())
            bench.run(40.0)

    def test_who_no_call_goes_to_is_not_watched(self) -> None:
        config = default_config()
        pbx, carrier = config.peers
        with GateBench(config=replace(config, peers=(replace(pbx, flow=None), carrier))) as bench:
            assert self.states(bench) == []


def test_each_server_of_a_pbx_is_known_by_its_address() -> None:
    pbx = replace(default_config().peers[0], networks=(), further_flows=(Flow("UDP", *CARRIER_2),))
    peers = PeerTable(GateConfig(peers=(pbx,), trunks=()))
    assert peers.find(Flow("UDP", *CARRIER_2)) is pbx
    assert peers.find(Flow("UDP", *PBX)) is pbx
    assert ip_network(CARRIER_2[0]) in peer_networks(GateConfig(peers=(pbx,), trunks=()))


def test_emergency_number_from_a_trunk_is_no_emergency_call() -> None:
    with GateBench() as bench:
        bench.pbx.script = RING_AND_ANSWER
        call = bench.carrier.call("911")
        bench.run(2.0)
        assert bench.pbx.calls[0].connected
        call.bye()
    assert not bench.record.emergency


def test_did_routes_by_longest_prefix() -> None:
    config = default_config(did_routes=(DidRoute("+1", "nowhere"), DidRoute("+1212", "pbx")))
    with GateBench(config=config) as bench:
        bench.pbx.script = RING_AND_ANSWER
        good = bench.carrier.call("+12125550204")
        bad = bench.carrier.call("+13105550204")
        other = bench.carrier.call("+4420794600")
        bench.run(2.0)
        assert (good.status, bad.status, other.status) == (200, 404, 404)
        good.bye()
    assert {record.disposition for record in bench.journal.final} == {
        Disposition.ANSWERED,
        Disposition.REJECTED,
    }


@pytest.mark.parametrize("uri", ["sip:192.0.2.1", "urn:service:sos"])
def test_no_number_is_404(uri: str) -> None:
    with GateBench() as bench:
        call = bench.carrier.call("", uri=uri)
        bench.run(0.5)
        assert call.status == 404


def test_tel_uri() -> None:
    with GateBench() as bench:
        bench.pbx.script = RING_AND_ANSWER
        call = bench.carrier.call("", uri="tel:+12125550204;phone-context=example.com")
        bench.run(2.0)
        invite = bench.pbx.calls[0].invite
        assert invite is not None
        assert invite.uri == f"sip:+12125550204@{PBX[0]}:{PBX[1]}"
        call.bye()


def test_overload_and_drain_refuse_with_503_without_retry_after() -> None:
    with GateBench(config=default_config(max_calls=0)) as bench:
        call = bench.carrier.call("+12125550204")
        bench.run(0.5)
        assert call.status == 503
        assert call.last.headers.get("Retry-After") is None
    assert bench.record.disposition is Disposition.OVERLOADED


def test_a_trunk_has_so_many_calls_whichever_way_they_go() -> None:
    carrier = replace(default_config().trunks[0], max_calls=3)
    with GateBench(config=default_config(trunks=(carrier,)), script=ANSWER) as bench:
        bench.pbx.script = ANSWER
        first = bench.carrier.call("+12125550204")
        out = bench.pbx.call(TOLL_FREE)
        bench.run(0.5)
        assert (first.status, out.status) == (200, 200)
        assert bench.core.load.calls_of(carrier.name) == 2
        # One of the three is kept for emergency calls, against calls of either direction.
        more = [bench.pbx.call(TOLL_FREE), bench.carrier.call("+12125550204")]
        bench.run(0.5)
        assert [call.status for call in more] == [503, 503]
        assert more[1].last.headers.get("Retry-After") is None
        help_ = bench.pbx.call("911")
        bench.run(0.5)
        assert help_.status == 200
        help_.bye()
        first.bye()
        bench.run(0.5)
        assert bench.core.load.calls_of(carrier.name) == 1
        again = bench.carrier.call("+12125550204")
        bench.run(0.5)
        assert again.status == 200
        again.bye()
        out.bye()
    overloaded = [record for record in bench.journal.final if record.disposition is Disposition.OVERLOADED]
    assert {record.direction for record in overloaded} == {Direction.INBOUND, Direction.OUTBOUND}


def test_the_record_names_the_user_whose_number_was_called_and_the_site() -> None:
    with GateBench(config=default_config(site="Main site")) as bench:
        bench.pbx.script = RING_AND_ANSWER
        call = bench.carrier.call("", uri="sip:+12125550204@192.0.2.1", caller="+13105550188")
        bench.run(2.0)
        call.bye()
    record = bench.record
    assert (record.destination_user, record.location) == ("204", "Main site")
    assert record.caller_e164 == "+13105550188"

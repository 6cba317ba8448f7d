"""Requests within a dialog go to the peer alone, whatever its Contact and routes say (RFC 3261 §12.2.1.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_network

import pytest

from proxy.call.config import Trunk
from proxy.call.ports import Latching
from proxy.sip.events import RequestReceived
from proxy.sip.flow import Flow
from proxy.sip.routing import Target
from tests.call.phones import PHONES, PhoneBench
from tests.support.gate import CARRIER, CARRIER_2, GATE, PBX, STRANGER, GateBench, default_config
from tests.support.network import Address
from tests.support.ua import ANSWER, Step, UaCall, sdp

TOLL_FREE = "918005550123"
ONE = Trunk("one", (Flow("UDP", *CARRIER),), "one.example.com")
NAME = "gateway.carrier.example.com"


def contact(host: str) -> list[tuple[str, str]]:
    return [("Contact", f"<sip:x@{host}>")]


def receivers(bench: GateBench) -> list[tuple[str, Address]]:
    """Methods and receivers of what the gate sends, from now on."""
    sent: list[tuple[str, Address]] = []

    def trace(_at: float, sender: Address, receiver: Address, data: bytes) -> None:
        if sender == GATE:
            sent.append((data.split(b" ", 1)[0].decode(), receiver))

    bench.network.trace = trace
    return sent


def takes_over(bench: GateBench) -> None:
    """The carrier's server dies, and its second one goes on with its calls."""
    bench.network.attach(CARRIER_2, bench.carrier, bench.carrier.after)
    bench.network.drop = lambda _sender, receiver, _data: receiver == CARRIER

    def answer(_call: UaCall, event: RequestReceived) -> bool:
        if event.request.method != "INVITE":
            return False
        headers = contact(NAME)
        bench.carrier.endpoint.respond(event.transaction, 200, headers=headers, body=sdp(), now=bench.now)
        return True

    bench.carrier.within = answer


def ways_to_callee(bench: GateBench) -> set[Address]:
    """Let the PBX call and hang up; returns where the gate sends ACK and BYE."""
    sent = receivers(bench)
    call = bench.pbx.call(TOLL_FREE)
    bench.run(0.5)
    call.bye()
    bench.run(40.0)
    return {to for method, to in sent if method in {"ACK", "BYE"}}


def ways_to_caller(bench: GateBench, callee: UaCall, seconds: float = 0.5) -> list[Address]:
    """Let the callee hang up; returns where the gate sends the BYE."""
    sent = receivers(bench)
    callee.bye()
    bench.run(seconds)
    return [to for method, to in sent if method == "BYE"]


@pytest.mark.parametrize("host", [f"{STRANGER[0]}:{STRANGER[1]}", "10.1.1.1", NAME, "localhost", "127.0.0.1"])
def test_a_contact_of_the_caller_that_is_not_its_own(host: str) -> None:
    with GateBench() as bench:
        call = bench.pbx.call(TOLL_FREE, headers=contact(host))
        bench.run(0.5)
        assert call.status == 200
        assert ways_to_caller(bench, bench.carrier.calls[0]) == [PBX]
        assert call.ended


@pytest.mark.parametrize("host", [f"{STRANGER[0]}:{STRANGER[1]}", "10.1.1.1", NAME])
@pytest.mark.parametrize("routed", [False, True])
def test_a_contact_or_route_of_the_callee_that_is_not_its_own(host: str, routed: bool) -> None:
    said = [("Record-Route", f"<sip:{host};lr>")] if routed else contact(host)
    steps = (Step(0.0, 200, with_sdp=True, headers=said),)
    with GateBench(config=default_config(trunks=(ONE,)), script=steps) as bench:
        assert ways_to_callee(bench) == {CARRIER}
        bench.vanished.add(bench.carrier)  # its own requests go where its route says


def test_the_administrator_is_told_once_which_address_is_none_of_the_trunks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    steps = (Step(0.0, 200, with_sdp=True, headers=contact(STRANGER[0])),)
    with GateBench(config=default_config(trunks=(ONE,)), script=steps) as bench:
        for _ in range(2):
            call = bench.pbx.call(TOLL_FREE)
            bench.run(0.5)
            call.bye()
            bench.run(0.5)
        bench.vanished.add(bench.carrier)
    told = [record.getMessage() for record in caplog.records if "networks" in record.message]
    (words,) = told
    assert words.startswith(f"{ONE.name} wants requests within its calls at {STRANGER[0]}, where")


def test_a_new_contact_in_talk() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.5)
        call.request("INVITE", sdp(version=2), headers=contact(STRANGER[0]))
        bench.run(0.5)
        assert ways_to_caller(bench, bench.carrier.calls[0]) == [PBX]


def test_the_trunks_other_addresses_are_its_own() -> None:
    """The signalling of one of its gateways, behind a proxy that does not record itself."""
    two = replace(ONE, flows=(Flow("UDP", *CARRIER), Flow("UDP", *CARRIER_2)))
    steps = (Step(0.0, 200, with_sdp=True, headers=contact(f"{CARRIER_2[0]}:{CARRIER_2[1]}")),)
    with GateBench(config=default_config(trunks=(two,)), script=steps) as bench:
        assert ways_to_callee(bench) == {CARRIER_2}
        bench.vanished.add(bench.carrier)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ((Target("UDP", *CARRIER_2),), CARRIER_2),
        ((Target("UDP", *STRANGER), Target("UDP", *CARRIER_2)), CARRIER_2),
        ((Target("UDP", *STRANGER),), CARRIER),
        ((Target("UDP", *GATE),), CARRIER),
        ((), CARRIER),
    ],
    ids=["known", "another first", "another", "the gate", "unknown"],
)
def test_rfc3263_4_a_name_leads_where_dns_says_within_the_trunks_own(
    targets: Sequence[Target], expected: Address
) -> None:
    steps = (Step(0.0, 200, with_sdp=True, headers=contact(NAME)),)
    trunk = replace(ONE, name="carrier")
    with GateBench(config=default_config(trunks=(trunk,)), script=steps) as bench:
        asked: list[tuple[str, int | None, str, str]] = []

        def lookup(host: str, port: int | None, transport: str, preferred: str) -> Sequence[Target]:
            asked.append((host, port, transport, preferred))
            return targets

        object.__setattr__(bench.gate.endpoint.config, "lookup", lookup)
        assert ways_to_callee(bench) == {expected}
        assert set(asked) == {(NAME, None, "", "UDP")}
        bench.vanished.add(bench.carrier)


def test_rfc3263_4_3_requests_go_on_to_the_next_address_of_the_name() -> None:
    """Hold reaches the callee although the first address of its name is dead, and so does the BYE."""
    steps = (Step(0.0, 200, with_sdp=True, headers=contact(NAME)),)
    trunk = replace(ONE, name="carrier", flows=(Flow("UDP", *CARRIER), Flow("UDP", *CARRIER_2)))
    known: list[Target] = []
    with GateBench(config=default_config(trunks=(trunk,)), script=steps) as bench:
        object.__setattr__(bench.gate.endpoint.config, "lookup", lambda *_name: known)
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.5)
        known += [Target("UDP", *CARRIER), Target("UDP", *CARRIER_2)]
        takes_over(bench)
        sent = receivers(bench)
        call.request("INVITE", sdp(version=2, direction="sendonly"))
        bench.run(5.0)
        assert [to for method, to in sent if method == "INVITE"] == [CARRIER] * 4 + [CARRIER_2]
        assert [reply.status for reply in call.replies if reply.status > 100] == [200]
        assert b"a=sendonly" in bench.carrier.calls[0].requests[-2].body
        call.bye()
        bench.run(1.0)
        assert [to for method, to in sent if method == "BYE"] == [CARRIER_2]
        assert bench.carrier.calls[0].ended


def test_rfc3263_4_3_a_bye_that_the_network_refuses_goes_to_the_next_address() -> None:
    steps = (Step(0.0, 200, with_sdp=True, headers=contact(NAME)),)
    trunk = replace(ONE, name="carrier", flows=(Flow("UDP", *CARRIER), Flow("UDP", *CARRIER_2)))
    targets = [Target("UDP", *CARRIER), Target("UDP", *CARRIER_2)]
    with GateBench(config=default_config(trunks=(trunk,)), script=steps) as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.5)
        object.__setattr__(bench.gate.endpoint.config, "lookup", lambda *_name: targets)
        takes_over(bench)
        sent = receivers(bench)
        call.bye()
        bench.run(0.1)
        bench.gate.endpoint.transport_failed(Flow("UDP", *CARRIER), bench.now)
        bench.run(0.1)
        assert [to for method, to in sent if method == "BYE"] == [CARRIER, CARRIER_2]
        assert bench.carrier.calls[0].ended


def test_a_phone_names_nobody_else_either() -> None:
    strict = replace(PHONES, latching=Latching.STRICT)
    with PhoneBench() as bench:
        bench.core.reconfigure(replace(bench.core.config, phones=strict))
        phone = bench.phone("192.0.2.25", script=ANSWER)
        bench.register(phone, "205")
        call = bench.desk.call("205", headers=contact(STRANGER[0]))
        bench.run(0.5)
        assert ways_to_caller(bench, phone.calls[0]) == [bench.desk.address]
        assert call.ended


def test_networks_of_a_peer_are_its_own() -> None:
    config = default_config()
    wide = replace(config.peers[0], networks=(ip_network("192.0.2.0/24"),))
    with GateBench(config=replace(config, peers=(wide, config.peers[1]))) as bench:
        bench.pbx.call(TOLL_FREE, headers=contact("192.0.2.77"))
        bench.run(0.5)
        assert set(ways_to_caller(bench, bench.carrier.calls[0], 40.0)) == {("192.0.2.77", 5060)}
        bench.vanished.add(bench.pbx)

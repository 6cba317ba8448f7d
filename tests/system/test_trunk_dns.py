"""A trunk that DNS finds (RFC 3263): NAPTR, SRV and addresses; priorities, weights, and servers that fail."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from proxy.cdr.record import Disposition
from tests.system.gate import CARRIER_ADDRESSES, GATE_ADDRESS, PBX_ADDRESS, free_port, running_gate
from tests.system.kamailio import REALM, carrier_routes, needs_kamailio, running_kamailio
from tests.system.media import PATIENCE
from tests.system.test_failover import TIMER_B, silent
from tests.system.trunk_traffic import (
    TOLL_FREE,
    caller,
    carrier,
    playing,
    running_dns_server,
)
from tests.system.wire import Dialog, Wire

ADDRESS = CARRIER_ADDRESSES[0]
BEHIND = "127.0.0.12"
CALLS = 8


def test_rfc3263_4_calls_go_where_naptr_and_srv_say_by_priority_and_weight_also_without_dns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused, quiet, heavy, light = (free_port(ADDRESS) for _ in range(4))
    with running_dns_server() as dns, silent(ADDRESS, quiet):
        zone = {
            ("carrier.test", "NAPTR"): [
                '10 50 "s" "SIP+D2T" "" _sip._tcp.carrier.test.',
                '20 50 "s" "SIP+D2U" "" _sip._udp.carrier.test.',
            ],
            ("_sip._tcp.carrier.test", "SRV"): [f"0 0 {refused} a.carrier.test."],
            ("_sip._udp.carrier.test", "SRV"): [
                f"20 1 {light} a.carrier.test.",
                f"10 0 {quiet} a.carrier.test.",
                f"20 3 {heavy} a.carrier.test.",
            ],
            ("a.carrier.test", "A"): [ADDRESS],
        }
        dns.zone = {question: (15, records) for question, records in zone.items()}
        monkeypatch.setenv("TOLLGATE_SIP__NAMESERVERS", json.dumps([f"udp:127.0.0.1:{dns.port}"]))
        monkeypatch.setenv("TOLLGATE_TRUNKS__0__ADDRESSES", json.dumps(["sip:carrier.test"]))
        monkeypatch.setenv("TOLLGATE_TRUNKS__0__RESPONSE_TIMEOUT", "4")
        monkeypatch.setenv("TOLLGATE_TIMERS__RING_TIMEOUT", "30")
        started = time.monotonic()
        with running_gate(tmp_path) as gate:
            servers = [
                carrier("called_at_once", tmp_path, address=ADDRESS, port=heavy, calls=CALLS * 3 // 4),
                carrier("called_at_once", tmp_path, address=ADDRESS, port=light, calls=CALLS // 4),
            ]
            with playing(*servers):
                # NAPTR's first transport is refused, the first server of its second says nothing for 4 s.
                caller(gate, tmp_path, name="first").wait()
                first = gate.wait_for_record(set())
                # A call for help waits a second for it; by then both are known to be down.
                caller(gate, tmp_path, name="help", dial="911").wait()
                known = {first.record_id}
                second = gate.wait_for_record(known)
                caller(gate, tmp_path, name="others", calls=CALLS - 3).wait()
                dns.broken = True
                gate.wait_for_log("no answer for _sip._udp.carrier.test SRV")
                assert time.monotonic() - started >= 15, "asked again when the answer's time was over"
                caller(gate, tmp_path, name="without_dns").wait()
            records = gate.wait_for_records(CALLS)
        assert [trunk.trunk for trunk in first.trunks] == ["first"] * 3
        assert first.answered_after is not None
        assert 3.9 <= first.answered_after <= TIMER_B
        assert second.emergency
        assert second.answered_after is not None
        assert 0.9 <= second.answered_after <= 3.9
        assert len(records) == CALLS
        assert all(len(record.trunks) == 1 for record in records[2:-1]), "whoever is down is tried last"


def test_rfc3263_4_3_calls_to_a_pbx_and_requests_within_calls_go_past_servers_that_are_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused, port = free_port(PBX_ADDRESS), free_port(PBX_ADDRESS)
    with running_dns_server() as dns:
        monkeypatch.setenv("TOLLGATE_SIP__NAMESERVERS", json.dumps([f"udp:127.0.0.1:{dns.port}"]))
        monkeypatch.setenv("TOLLGATE_PEERS__0__ADDRESS", "sip:pbx.test")
        dns.zone = {
            ("_sip._udp.pbx.test", "SRV"): (60, [f"0 0 {refused} a.pbx.test.", f"10 0 {port} a.pbx.test."]),
            ("a.pbx.test", "A"): (60, [PBX_ADDRESS]),
        }
        with running_gate(tmp_path) as gate, Wire(PBX_ADDRESS, gate.port, port=port) as pbx:
            with (
                Wire(ADDRESS, gate.port) as second,
                Wire(ADDRESS, gate.port, port=gate.carrier_ports[0]) as first,
            ):
                # The first of the PBX's servers refuses two calls; the third one goes round it.
                for _ in range(3):
                    call = first.call("+12125550100")
                    callee = pbx.called()
                    callee.answer()
                    call.response(200)
                    call.hang_up()
                    callee.hung_up()
                gate.wait_for_log(f"peer pbx at udp:{PBX_ADDRESS}:{refused} is down")
                dns.zone |= {
                    ("_sip._udp.gw.carrier.test", "SRV"): (
                        60,
                        [f"0 0 {first.port} a.carrier.test.", f"10 0 {second.port} a.carrier.test."],
                    ),
                    ("a.carrier.test", "A"): (60, [ADDRESS]),
                }
                call, callee = _talking(pbx, first)
                until = time.monotonic() + PATIENCE
                while not dns.asked["a.carrier.test", "AAAA"]:
                    assert time.monotonic() < until, "the name is not looked up"
                    time.sleep(0.05)
                call.hang_up()
                callee.hung_up()
                call, callee = _talking(pbx, first)
                callee.rtp = second.rtp()
                first.close()
                callee.wire = second
                call.request("INVITE", body=call.description("sendonly"))
                held = callee.asked("INVITE")
                assert "a=sendonly" in held.body
                callee.respond(held, 200, body=callee.description("recvonly"))
                callee.asked("ACK")
                call.response(200)
                call.hang_up()
                callee.hung_up()
            records = gate.wait_for_records(5)
        assert [record.disposition for record in records] == [Disposition.ANSWERED] * 5
        assert [len(record.trunks) for record in records] == [2, 2, 1, 1, 1]


def _talking(pbx: Wire, carrier: Wire) -> tuple[Dialog, Dialog]:
    """Return both sides of a call to somebody whose Contact is a name."""
    call = pbx.call(TOLL_FREE)
    callee = carrier.called()
    callee.contact = "sip:x@gw.carrier.test"
    callee.answer()
    call.response(200)
    return call, callee


@needs_kamailio
def test_rfc3263_4_1_within_a_call_the_name_of_a_proxy_leads_where_naptr_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, behind = free_port(ADDRESS), free_port(BEHIND)
    with running_dns_server() as dns:
        zone = {
            ("gw.carrier.test", "NAPTR"): ['10 50 "s" "SIP+D2T" "" _sip._tcp.gw.carrier.test.'],
            ("_sip._tcp.gw.carrier.test", "SRV"): [f"0 0 {port} a.carrier.test."],
            ("a.carrier.test", "A"): [ADDRESS],
        }
        dns.zone = {question: (60, records) for question, records in zone.items()}
        monkeypatch.setenv("TOLLGATE_SIP__NAMESERVERS", json.dumps([f"udp:127.0.0.1:{dns.port}"]))
        routes = carrier_routes(
            gate_address=GATE_ADDRESS,
            user="gate",
            password="secret",
            carriers=(f"{BEHIND}:{behind}",),
            name="gw.carrier.test",
        )
        account = f'account = {{ username = "gate", password = "secret", realm = "{REALM}" }}\n'
        kamailio = running_kamailio(tmp_path / "kamailio", address=ADDRESS, port=port, routes=routes)
        with kamailio as proxy, running_gate(tmp_path, first_trunk=account, first_trunk_port=port) as gate:
            answering = carrier("called_at_once", tmp_path, address=BEHIND, port=behind, calls=2)
            with playing(answering):
                caller(gate, tmp_path, name="first").wait()
                until = time.monotonic() + PATIENCE
                while not dns.asked["a.carrier.test", "AAAA"]:
                    assert time.monotonic() < until, "the name is not looked up"
                    time.sleep(0.05)
                before = proxy.said(f"from {GATE_ADDRESS} over tcp]")
                caller(gate, tmp_path, name="second").wait()
            records = gate.wait_for_records(2)
        assert all([one.sip_code for one in record.trunks] == [200] for record in records)
        assert proxy.said(f"[routed ACK from {GATE_ADDRESS} over") == 2
        assert proxy.said(f"from {GATE_ADDRESS} over tcp]") == before + 2, "ACK and BYE of the second call"
        assert proxy.said("[unrouted") == 0

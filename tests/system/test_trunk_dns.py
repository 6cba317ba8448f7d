"""A trunk that DNS finds (RFC 3263): NAPTR, SRV and addresses; priorities, weights, and servers that fail."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.system.gate import CARRIER_ADDRESSES, free_port, running_gate
from tests.system.test_failover import TIMER_B, silent
from tests.system.trunk_traffic import caller, carrier, running_dns_server, wait_for_records

pytestmark = pytest.mark.system

ADDRESS = CARRIER_ADDRESSES[0]
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
            ("a.carrier.test", "AAAA"): [],
        }
        dns.zone = {question: (15, records) for question, records in zone.items()}
        monkeypatch.setenv("TOLLGATE_SIP__NAMESERVERS", json.dumps([f"udp:127.0.0.1:{dns.port}"]))
        monkeypatch.setenv("TOLLGATE_TRUNKS__0__ADDRESSES", json.dumps(["sip:carrier.test"]))
        monkeypatch.setenv("TOLLGATE_TRUNKS__0__RESPONSE_TIMEOUT", "4")
        monkeypatch.setenv("TOLLGATE_TIMERS__RING_TIMEOUT", "30")
        started = time.monotonic()
        with running_gate(tmp_path) as gate:
            servers = [
                carrier("takes_the_call", tmp_path, address=ADDRESS, port=heavy, calls=CALLS * 3 // 4),
                carrier("takes_the_call", tmp_path, address=ADDRESS, port=light, calls=CALLS // 4),
            ]
            try:
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
                for server in servers:
                    server.wait()
            finally:
                for server in servers:
                    server.stop()
            records = wait_for_records(gate, CALLS)
        assert [trunk.trunk for trunk in first.trunks] == ["first"] * 3
        assert first.answered_after is not None
        assert 3.9 <= first.answered_after <= TIMER_B
        assert second.emergency
        assert second.answered_after is not None
        assert 0.9 <= second.answered_after <= 3.9
        assert len(records) == CALLS
        assert all(len(record.trunks) == 1 for record in records[2:]), "whoever is down is tried last"

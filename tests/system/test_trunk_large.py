"""Calls that no packet holds: taken over UDP, sent on over TCP or UDP as each trunk is set."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.gate import CARRIER_ADDRESSES, free_port, running_gate
from tests.system.trunk_traffic import caller, carrier, playing

THIRD = "127.0.0.12"
LINES = [f"User-to-User: {count:02}{'ab' * 3500};encoding=hex" for count in range(7)]
"""Some 49,000 octets."""


def test_rfc3261_18_1_1_a_large_call_goes_over_tcp_or_udp_as_the_trunk_is_set_and_falls_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLGATE_TRUNKS__1__LARGE_REQUESTS", "udp")
    port = free_port(THIRD)
    third = f"""
[[trunks]]
name = "third"
addresses = ["udp:{THIRD}:{port}"]
large_requests = "tcp"
"""
    with running_gate(tmp_path, extra=third) as gate:
        places = [*zip(CARRIER_ADDRESSES, gate.carrier_ports, strict=True), (THIRD, port)]

        def played(*carriers: tuple[int, str, str], name: str) -> list[tuple[str, int]]:
            known = {record.record_id for record in gate.records()}
            answering = [
                carrier(
                    scenario,
                    tmp_path,
                    name=f"{name}_{trunk}",
                    address=places[trunk][0],
                    port=places[trunk][1],
                    transport=transport,
                    keys={"via": transport.upper()},
                )
                for trunk, scenario, transport in carriers
            ]
            with playing(*answering):
                keys = {"much": "\r\n".join(LINES)}
                caller(gate, tmp_path, scenario="caller_with_much_to_say", name=name, keys=keys).wait()
            assert all(line in one.messages() for line in LINES for one in answering)
            return [(trunk.trunk, trunk.sip_code) for trunk in gate.wait_for_record(known).trunks]

        assert played((0, "takes_a_large_call", "tcp"), name="tcp_first") == [("first", 200)]
        refusing = [(0, "refuses_a_large_call", "tcp"), (1, "refuses_a_large_call", "udp")]
        tried = played(*refusing, (2, "takes_a_large_call", "tcp"), name="as_set")
        assert tried == [("first", 503), ("second", 503), ("third", 200)]
        # Its TCP port is closed now.
        assert played((0, "takes_a_large_call", "udp"), name="falls_back") == [("first", 200)]

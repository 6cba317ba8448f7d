"""How calls are spread over trunks: so many at once over each, whichever way they go, and by weight."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.cdr.record import Direction, Disposition
from tests.system.gate import CARRIER_ADDRESSES, PBX_ADDRESS, free_port, running_gate
from tests.system.trunk_traffic import caller, carrier, playing, tell_to_go_on

DID = "+12025550123"


def test_what_comes_in_takes_a_place_as_well(tmp_path: Path) -> None:
    with running_gate(tmp_path, first_trunk="max_calls = 2\nemergency_calls = 1\n") as gate:
        port = free_port(CARRIER_ADDRESSES[0])
        media = {"rtp_address": PBX_ADDRESS, "rtp_port": "9", "profile": "AVP", "crypto": "sendrecv"}
        pbx = carrier("called_at_once", tmp_path, name="pbx", address=PBX_ADDRESS, port=gate.pbx_port)
        first = carrier("called_at_once", tmp_path, address=CARRIER_ADDRESSES[0], port=gate.carrier_ports[0])
        second = carrier("called_at_once", tmp_path, address=CARRIER_ADDRESSES[1], port=gate.carrier_ports[1])
        inbound = caller(
            gate,
            tmp_path,
            scenario="caller_with_media",
            name="inbound",
            address=CARRIER_ADDRESSES[0],
            port=port,
            dial=DID,
            keys=media,
        )
        with playing(inbound, pbx, first, second):
            pbx.wait_for("ACK sip:")
            assert "trunk first: 1 of 2 calls" in gate.tollgate("status")
            # The other place is kept for who calls for help: another call goes elsewhere, or not in.
            caller(gate, tmp_path, name="out").wait()
            caller(
                gate, tmp_path, scenario="caller_in_vain", name="in", address=CARRIER_ADDRESSES[0], dial=DID
            ).wait()
            caller(gate, tmp_path, name="help", dial="911").wait()
            tell_to_go_on(inbound, port)
        records = gate.wait_for_records(4)
        told = {
            (record.direction, record.disposition, record.emergency, *(one.trunk for one in record.trunks))
            for record in records
        }
        assert told == {
            (Direction.INBOUND, Disposition.ANSWERED, False, "pbx"),
            (Direction.OUTBOUND, Disposition.ANSWERED, False, "second"),
            (Direction.INBOUND, Disposition.OVERLOADED, False),
            (Direction.OUTBOUND, Disposition.ANSWERED, True, "first"),
        }
        assert "trunk first: 0 of 2 calls" in gate.tollgate("status")


def test_trunks_of_one_priority_share_the_calls_by_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLGATE_TRUNKS__0__WEIGHT", "1")
    monkeypatch.setenv("TOLLGATE_TRUNKS__1__WEIGHT", "2")
    with running_gate(tmp_path) as gate:
        light, heavy = (
            carrier("called_at_once", tmp_path, address=address, port=port, calls=calls)
            for address, port, calls in zip(CARRIER_ADDRESSES, gate.carrier_ports, (2, 4), strict=True)
        )
        with playing(light, heavy):
            caller(gate, tmp_path, calls=6).wait()
        assert all(len(record.trunks) == 1 for record in gate.wait_for_records(6))

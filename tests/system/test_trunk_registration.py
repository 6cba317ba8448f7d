"""The gate registers at carriers: challenges, refresh and end; how often it tries, and who gets no proof."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.system.gate import CARRIER_ADDRESSES, free_port, running_gate
from tests.system.media import PATIENCE
from tests.system.trunk_traffic import carrier

THIRD = "127.0.0.12"


def test_rfc3261_10_2_registrations_are_proved_kept_and_given_up_and_no_other_realm_gets_a_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [(address, free_port(address)) for address in (*CARRIER_ADDRESSES, THIRD)]
    for number, (address, port) in enumerate(places[:2]):
        trunk = f"TOLLGATE_TRUNKS__{number}__"
        monkeypatch.setenv(f"{trunk}ADDRESSES", json.dumps([f"udp:{address}:{port}"]))
        monkeypatch.setenv(f"{trunk}ACCOUNT__USERNAME", "gate")
        monkeypatch.setenv(f"{trunk}ACCOUNT__PASSWORD", "a-trunk-password")
        monkeypatch.setenv(f"{trunk}REGISTER", "true")
    monkeypatch.setenv("TOLLGATE_TRUNKS__0__HOST", "one.example")
    third = f"""
[[trunks]]
name = "third"
addresses = ["udp:{THIRD}:{places[2][1]}"]
register = true
account = {{ username = "gate", password = "a-trunk-password", realm = "third.example" }}
"""
    parts = [("registrar", "one.example"), ("never_registers", "two.example"), ("registrar_of_another", "x")]
    carriers = [
        carrier(scenario, tmp_path, name=scenario, address=address, port=port, keys={"realm": realm})
        for (scenario, realm), (address, port) in zip(parts, places, strict=True)
    ]
    registrar, never, other = carriers
    try:
        with running_gate(tmp_path, extra=third) as gate:
            gate.wait_for_log("trunk first is registered for 12 s")
            for name in ("second", "third"):
                gate.wait_for_log(f"trunk {name} is not registered: 401 to REGISTER; next try in ")
            never.wait()
            other.wait()
            states = [line for line in gate.tollgate("status").splitlines() if line.startswith("trunk ")]
            waiting = "registration: waiting (401 to REGISTER)"
            assert [line.rpartition("; ")[2] for line in states] == [
                "registration: registered",
                waiting,
                waiting,
            ]
            # Ten seconds later the binding is renewed, although the nonce has changed meanwhile.
            until = time.monotonic() + PATIENCE
            while registrar.messages().count("SIP/2.0 200 OK") < 2:
                assert time.monotonic() < until, "the binding is not renewed"
                time.sleep(0.1)
            assert "a-trunk-password" not in gate.log.read_text()
        registrar.wait()
    finally:
        for one in carriers:
            one.stop()
    assert never.messages().count("REGISTER sip:") == 3, "two proofs, and no more until the next try"
    assert other.messages().count("REGISTER sip:") == 1
    assert "uthorization:" not in other.messages()

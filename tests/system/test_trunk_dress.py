"""How each trunk is told who is called and who calls: one call that two trunks refuse and a third takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.system.gate import CARRIER_ADDRESSES, PBX_ADDRESS, free_port, running_gate
from tests.system.sipp import Sipp
from tests.system.trunk_traffic import caller, carrier, playing

THIRD = "127.0.0.12"
STRICT = """
host = "one.example"
from_host = "gate.example"
user_phone = true
caller_id = "fixed"
fixed_caller_number = "+12025550100"
identity_header = "preferred"
privacy = "header"
drop_headers = ["Diversion"]
"""
NUMBER_FORMAT = "TOLLGATE_TRUNKS__0__NUMBER_FORMAT__"


def headers(taken: Sipp) -> dict[str, str]:
    """Return the headers of the INVITE that a carrier got, and its request line as ``INVITE``."""
    invite = re.search(r"^INVITE .*?\r?\n\r?\n", taken.messages(), re.MULTILINE | re.DOTALL)
    assert invite is not None
    first, *lines = invite[0].split("\n\n")[0].splitlines()
    return {"INVITE": first.split()[1]} | dict(line.split(": ", 1) for line in lines if ": " in line)


def test_number_host_caller_and_privacy_are_as_each_trunk_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"STYLE": "national", "NATIONAL_PREFIX": "false", "PREPEND": "77"}.items():
        monkeypatch.setenv(NUMBER_FORMAT + name, value)
    port = free_port(THIRD)
    stranger = f'[[trunks]]\nname = "third"\naddresses = ["udp:{THIRD}:{port}"]\ntrusted = false\n'
    with running_gate(tmp_path, first_trunk=STRICT, extra=stranger) as gate:
        places = [
            (CARRIER_ADDRESSES[0], gate.carrier_ports[0]),
            (CARRIER_ADDRESSES[1], gate.carrier_ports[1]),
            (THIRD, port),
        ]
        carriers = [
            carrier("called_at_once" if at == 2 else "refuses", tmp_path, address=address, port=port)
            for at, (address, port) in enumerate(places)
        ]
        with playing(*carriers):
            caller(gate, tmp_path, scenario="hidden_caller").wait()
        record = gate.wait_for_record(set())
    assert [(trunk.trunk, trunk.sip_code) for trunk in record.trunks] == [
        ("first", 503),
        ("second", 503),
        ("third", 200),
    ]
    strict, usual, untrusted = map(headers, carriers)

    assert strict["INVITE"] == "sip:778005550123@one.example;user=phone"
    assert strict["To"] == f"<{strict['INVITE']}>"
    assert strict["From"].startswith('"Desk" <sip:+12025550100@gate.example;user=phone>;tag=')
    assert strict["P-Preferred-Identity"] == "<sip:+12025550100@gate.example;user=phone>"
    assert strict["Privacy"] == "id"
    assert not {"P-Asserted-Identity", "Diversion"} & strict.keys()

    assert usual["INVITE"] == f"sip:18005550123@{CARRIER_ADDRESSES[1]}"
    assert usual["From"].startswith('"Anonymous" <sip:anonymous@anonymous.invalid>;tag=')
    assert usual["P-Asserted-Identity"] == f'"Desk" <sip:201@{PBX_ADDRESS}>'
    assert usual["Privacy"] == "id"
    assert usual["Diversion"] == f"<sip:299@{PBX_ADDRESS}>;reason=no-answer"
    assert "index=1.1" in usual["History-Info"]
    assert "P-Preferred-Identity" not in usual

    assert untrusted["INVITE"] == f"sip:+18005550123@{THIRD}"
    assert "anonymous.invalid" in untrusted["From"]
    hidden = {"P-Asserted-Identity", "P-Preferred-Identity", "Diversion", "History-Info"}
    assert not hidden & untrusted.keys()
    assert "201" not in untrusted["From"] + untrusted["Contact"]

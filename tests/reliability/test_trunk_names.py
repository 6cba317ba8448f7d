"""Trunks by name whose DNS is broken in each manner: the gate starts all the same, the call waits for none of
them and rings once. What a running gate makes of DNS that breaks later, is in tests/system/test_trunk_dns.py.
"""

from __future__ import annotations

import json
from pathlib import Path

from reliability.gate import GateProcess
from reliability.traffic import Callee, Caller
from tests.net.waiting import until
from tests.support.dns_server import running_dns_server

HOST = "127.0.0.1"
CALLS = 3
NAMES = {"loop": "a.loop.test", "failing": "failing.test", "silent": "silent.test", "unknown": "nowhere.test"}


def _broken(answer: bytes) -> list[bytes]:
    """SERVFAIL for one name, and no word of another; a loop of aliases is as it is."""
    if b"\x06silent" in answer:
        return []
    return [answer[:2] + b"\x81\x82" + answer[4:]] if b"\x07failing" in answer else [answer]


async def test_a_call_waits_for_no_trunk_whose_name_leads_nowhere_and_rings_once(tmp_path: Path) -> None:
    trunks = "".join(
        f'[[trunks]]\nname = "{name}"\naddresses = ["udp:{host}:5060"]\ninbound = false\n'
        for name, host in NAMES.items()
    )
    async with running_dns_server() as (dns, _), Callee() as callee:
        dns.garble = _broken
        dns.zone = {
            ("a.loop.test", "CNAME"): (60, ["b.loop.test."]),
            ("b.loop.test", "CNAME"): (60, ["a.loop.test."]),
            ("carrier.test", "A"): (0, [HOST]),
        }
        gate = GateProcess(tmp_path, callee.port, extra=trunks)
        gate.environment = {
            "TOLLGATE_SIP__NAMESERVERS": json.dumps([f"udp:{HOST}:{dns.port}"]),
            f"TOLLGATE_TRUNKS__{len(NAMES)}__ADDRESSES": json.dumps([f"udp:carrier.test:{callee.port}"]),
        }
        async with gate, Caller(gate.port) as caller:
            asked = dns.asked["carrier.test", "A"]
            calls = [caller.place(f"415555012{number}", hold=0.1) for number in range(CALLS)]
            await until(lambda: all(call.over.is_set() for call in calls))
            assert all(call.answered for call in calls), gate.log[-2000:]
            assert dns.asked["carrier.test", "A"] <= asked + 1, "a TTL of 0 is not a question per call"
            records = await gate.settled()
    for host in ("a.loop.test", "failing.test", "nowhere.test"):
        assert f"cannot resolve {host}: it has no address yet" in gate.log
    assert [[trunk.trunk for trunk in record.trunks] for record in records] == [["carrier"]] * CALLS
    assert sorted(callee.numbers) == [f"1415555012{number}" for number in range(CALLS)]

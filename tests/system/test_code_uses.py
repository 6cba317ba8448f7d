"""A code with a maximum of uses, on real traffic: given back by who was not answered, then used up."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from proxy.cdr.record import Disposition
from proxy.policy import CodeCollection, NumberPlan, User, UserGroup, new_code
from tests.system.gate import CARRIER_ADDRESSES, EARLY_PBX_ADDRESS, Gate, running_gate
from tests.system.media import PATIENCE
from tests.system.wire import Dialog, Wire

CODE = "5550199"
NUMBER = "2025550123"


def asked(pbx: Wire) -> Dialog:
    """Place a call, hear the prompt in early media, and type the code."""
    call = pbx.call(NUMBER)
    call.response(183)
    call.type(f"{CODE}#")
    return call


def is_refused(pbx: Wire) -> None:
    assert "Q.850;cause=21" in asked(pbx).response(403)["Reason"]


def wait_for_use(gate: Gate) -> None:
    """Return when the store counts the use and the gate decides by that."""
    until = time.monotonic() + PATIENCE
    while (code := gate.store.codes.get(CODE)) is None or not code.uses:
        assert time.monotonic() < until, "the use is not counted"
        time.sleep(0.1)
    gate.wait_for_policy()


def test_a_code_for_one_call_is_given_back_by_a_busy_one_and_then_used_up(tmp_path: Path) -> None:
    with (
        running_gate(tmp_path) as gate,
        Wire(EARLY_PBX_ADDRESS, gate.port) as pbx,
        Wire(CARRIER_ADDRESSES[0], gate.port, port=gate.carrier_ports[0]) as carrier,
    ):
        gate.store.groups.add(UserGroup("one try", collection=CodeCollection.REQUIRED, tries=1))
        gate.store.users.add(User("201", "one try"))
        gate.store.codes.add(replace(new_code(CODE, "One call", plan=NumberPlan()), max_uses=1))
        gate.wait_for_policy()

        busy = asked(pbx)
        carrier.called().refuse(486)
        busy.response(486)

        given_up = asked(pbx)
        ringing = carrier.called()
        ringing.ring()
        given_up.response(180)
        is_refused(pbx)  # the one use is reserved while it rings
        given_up.request("CANCEL", given_up.via, number=given_up.cseq)
        given_up.response(487)
        ringing.respond(ringing.asked("CANCEL"), 200)
        ringing.refuse(487)

        answered = asked(pbx)
        callee = carrier.called()
        callee.answer()
        answered.response(200)
        is_refused(pbx)  # in memory, whatever the store has counted so far
        answered.hang_up()
        callee.hung_up()
        wait_for_use(gate)
        is_refused(pbx)

        gate.wait_until_idle()
        records = {record.a_call_id: record for record in gate.wait_for_records(6)}
        assert len(records) == 6
        used = [record for record in records.values() if record.code is not None]
        assert [record.disposition for record in used] == [
            Disposition.BUSY,
            Disposition.ABANDONED_RINGING,
            Disposition.ANSWERED,
        ]
        refused = [record for record in records.values() if record.code is None]
        assert {(record.disposition, record.wrong_tries) for record in refused} == {
            (Disposition.CODE_REFUSED, 1)
        }

"""Calls whose media has stopped: both sides silent ends one (`media.inactivity_timeout`), hold does not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from proxy.cdr.record import Disposition, HungUpBy
from tests.system.gate import CARRIER_ADDRESSES, PBX_ADDRESS, running_gate
from tests.system.media import PATIENCE
from tests.system.wire import Dialog, Wire

TIMEOUT = 2.0
SILENCE = b"\xff" * 160
TOLL_FREE = "8005550123"
"""Needs no code."""


def hold(call: Dialog, callee: Dialog, *, wish: str, answer: str) -> None:
    """Let the caller change what flows."""
    call.request("INVITE", body=call.description(wish))
    offer = callee.asked("INVITE")
    assert f"a={wish}" in offer.body
    callee.respond(offer, 200, body=callee.description(answer))
    callee.asked("ACK")
    assert f"a={answer}" in call.response(200).body


def test_silence_of_both_sides_ends_a_call_with_a_cause_of_its_own_and_hold_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLGATE_MEDIA__INACTIVITY_TIMEOUT", str(TIMEOUT))
    with (
        running_gate(tmp_path) as gate,
        Wire(PBX_ADDRESS, gate.port) as pbx,
        Wire(CARRIER_ADDRESSES[0], gate.port, port=gate.carrier_ports[0]) as carrier,
    ):
        calls: dict[str, tuple[Dialog, Dialog]] = {}
        for name in ("silent", "on hold", "on hold without music", "heard from one side"):
            call = pbx.call(TOLL_FREE)
            callee = carrier.called()
            callee.answer()
            call.response(200)
            calls[name] = call, callee
        hold(*calls["on hold"], wish="inactive", answer="inactive")
        hold(*calls["on hold without music"], wish="sendonly", answer="recvonly")
        silent = calls.pop("silent")
        until = time.monotonic() + 3 * TIMEOUT
        while not pbx.has("BYE sip:", silent[0].call_id) or time.monotonic() < until:
            calls["heard from one side"][0].rtp.send(SILENCE)
            assert time.monotonic() < until + PATIENCE, "silence has ended nothing"
        for side in silent:
            assert "Q.850;cause=102" in side.hung_up()["Reason"]
        for call, callee in calls.values():
            assert not pbx.has("BYE sip:", call.call_id)
            assert not carrier.has("BYE sip:", callee.call_id)
        record = gate.wait_for_record(set())
        assert record.a_call_id == silent[0].call_id
        assert record.answered_after is not None
        assert record.ended_after - record.answered_after >= TIMEOUT
        # Back from hold they are heard no more than the one that has fallen silent by now.
        for name in ("on hold", "on hold without music"):
            hold(*calls[name], wish="sendrecv", answer="sendrecv")
        for side in (side for sides in calls.values() for side in sides):
            assert "Q.850;cause=102" in side.hung_up()["Reason"]
        gate.wait_until_idle()
        assert [(one.disposition, one.hung_up_by, one.q850_cause) for one in gate.wait_for_records(4)] == [
            (Disposition.ANSWERED, HungUpBy.GATE, 102)
        ] * 4

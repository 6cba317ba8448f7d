"""PJSIP as a phone, through its Python module pjsua2, where that is installed: registers, gated call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.cdr.record import Disposition, HungUpBy
from proxy.policy import User
from proxy.store import digest_credentials
from tests.system.baresip import far_end
from tests.system.gate import GATE_ADDRESS, Gate, free_port, running_gate
from tests.system.media import HEARD_PACKETS, PATIENCE
from tests.system.test_baresip import PASSWORD
from tests.system.test_registration import wait_for_phones

pj: Any = pytest.importorskip("pjsua2", reason="the Python module pjsua2 is not installed")

SAMPLES = 8_000
"""Enough of what the far end hears: PJSIP sends silence."""


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    folder = tmp_path / "gate"
    folder.mkdir()
    with running_gate(folder, latching="learning") as running:
        credentials = digest_credentials("201", "tollgate", PASSWORD)
        running.store.users.add(User("201", "required", credentials=credentials))
        running.tollgate("codes", "add", "1234", "--description", "Office")
        running.wait_for_policy()
        yield running


@pytest.fixture
def endpoint() -> Iterator[Any]:
    """PJSIP on one UDP port, without a sound card, in this thread alone."""
    running = pj.Endpoint()
    running.libCreate()
    settings = pj.EpConfig()
    settings.logConfig.level = 0
    settings.uaConfig.threadCnt = 0
    settings.uaConfig.mainThreadOnly = True
    settings.medConfig.noVad = True  # it sends its silence too
    running.libInit(settings)
    transport = pj.TransportConfig()
    transport.boundAddress = GATE_ADDRESS
    transport.port = free_port()
    running.transportCreate(pj.PJSIP_TRANSPORT_UDP, transport)
    running.libStart()
    running.audDevManager().setNullDev()
    yield running
    running.libDestroy()


def until(endpoint: Any, reached: Callable[[], bool]) -> None:
    """Let PJSIP work until something is so; fails when it does not come."""
    end = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < end
        endpoint.libHandleEvents(20)


def test_pjsip_registers_dials_code_and_hangs_up(gate: Gate, endpoint: Any, tmp_path: Path) -> None:
    settings = pj.AccountConfig()
    settings.idUri = f"sip:201@127.0.0.1:{gate.port}"
    settings.regConfig.registrarUri = f"sip:127.0.0.1:{gate.port}"
    settings.sipConfig.authCreds.append(pj.AuthCredInfo("digest", "*", "201", 0, PASSWORD))
    account = pj.Account()
    account.create(settings)
    until(endpoint, lambda: account.getInfo().regStatus == 200)
    wait_for_phones(gate, "201")
    with far_end(gate, tmp_path) as answering:
        call = pj.Call(account)
        call.makeCall(f"sip:2025550123@127.0.0.1:{gate.port}", pj.CallOpParam(True))
        until(endpoint, lambda: call.getInfo().state == pj.PJSIP_INV_STATE_CONFIRMED)
        call.dialDtmf("1234#")
        # Its digits leave while it works.
        until(endpoint, lambda: "talking" in gate.tollgate("calls"))
        answering.wait_for("CALL_ESTABLISHED")
        until(endpoint, lambda: answering.heard.length() > SAMPLES)
        call.hangup(pj.CallOpParam())
        until(endpoint, lambda: call.getInfo().state == pj.PJSIP_INV_STATE_DISCONNECTED)
        answering.wait_for("CALL_CLOSED")
    record = gate.wait_for_record(set())
    assert record.disposition is Disposition.ANSWERED
    assert record.hung_up_by is HungUpBy.A_LEG
    assert record.code is not None
    assert record.code.form == "1234"
    for media in (record.a_media, record.b_media):
        assert media is not None
        assert media.packets_received >= HEARD_PACKETS

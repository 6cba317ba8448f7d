"""Calls that are up, whose parties a test plays all: a REFER that is passed on, a drain."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.cdr.record import Disposition
from proxy.policy import User
from proxy.sip.events import RequestReceived
from proxy.sip.headers import Headers
from proxy.sip.replaces import replaces_of
from proxy.sip.uri import Uri
from proxy.store import digest_credentials
from tests.call.transfers import refer, told
from tests.support.ua import ANSWER, Ua, UaCall
from tests.system.gate import (
    CARRIER_ADDRESSES,
    GATE_ADDRESS,
    PBX_ADDRESS,
    STRANGER_ADDRESS,
    Gate,
    running_gate,
)
from tests.system.live_uas import LiveUas, authorization
from tests.system.test_baresip import PASSWORD


@contextmanager
def gate_with_phones(folder: Path) -> Iterator[Gate]:
    with running_gate(folder) as running:
        for extension in ("201", "202"):
            credentials = digest_credentials(extension, "tollgate", PASSWORD)
            running.store.users.add(User(extension, "required", credentials=credentials))
        running.wait_for_policy()
        yield running


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    with gate_with_phones(tmp_path_factory.mktemp("gate")) as running:
        yield running


def talk(uas: LiveUas, caller: Ua, number: str, user: str = "201") -> UaCall:
    """Let a caller call a number until it is answered, with credentials if it is asked for them."""
    uri = f"sip:{number}@{GATE_ADDRESS}"
    call = caller.call("", uri=uri, caller=user)
    uas.until(lambda: call.status)
    if call.status == 401:
        proof = authorization(call.last, user, PASSWORD, method="INVITE", uri=uri)
        call = caller.call("", uri=uri, caller=user, headers=[("Authorization", proof)])
    uas.until(lambda: call.connected, f"{number} is not answered: {call.statuses}")
    return call


def test_rfc5589_7_a_refer_with_replaces_is_passed_on_with_the_pbxs_own_dialog(gate: Gate) -> None:
    with LiveUas(gate) as uas:
        phone = uas.add(STRANGER_ADDRESS)
        pbx = uas.add(PBX_ADDRESS, port=gate.pbx_port, script=ANSWER)
        referred: list[RequestReceived] = []

        def within(_call: UaCall, event: RequestReceived) -> bool:
            if event.request.method != "REFER":
                return False
            referred.append(event)
            pbx.endpoint.respond(event.transaction, 202, now=pbx.now())
            return True

        pbx.within = within
        call, consultation = talk(uas, phone, "270"), talk(uas, phone, "271")
        first, second = pbx.calls
        refer(call, f"sip:271@{GATE_ADDRESS}", replaces=consultation.dialog)
        uas.until(lambda: call.replies)
        assert call.replies[-1].status == 202
        refer_to = Uri.parse((referred[0].request.headers.get("Refer-To") or "").strip("<>"))
        assert (refer_to.user, refer_to.host, refer_to.port) == ("271", PBX_ADDRESS, gate.pbx_port)
        assert referred[0].dialog is first.dialog
        replaced = replaces_of(Headers(refer_to.headers))
        assert second.dialog is not None
        assert replaced is not None
        assert (replaced.call_id, replaced.to_tag, replaced.from_tag) == (
            second.dialog.call_id,
            second.dialog.local_tag,
            second.dialog.remote_tag,
        )
        first.request(
            "NOTIFY",
            b"SIP/2.0 200 OK\r\n",
            "message/sipfrag;version=2.0",
            [("Event", "refer"), ("Subscription-State", "terminated;reason=noresource")],
        )
        uas.until(lambda: told(call) == ["200 terminated"])
        for other in (first, second):
            other.bye()
        uas.until(lambda: call.ended and consultation.ended)


def test_rfc3515_2_2_nobody_is_called_by_a_refer_outside_a_call(gate: Gate) -> None:
    with LiveUas(gate) as uas:
        phone, other = uas.add(STRANGER_ADDRESS), uas.add(STRANGER_ADDRESS, script=ANSWER)
        uas.register(other, "202", PASSWORD, f"<sip:202@{other.host}:{other.port}>")
        asked = uas.ask(phone, "REFER", "201", [("Refer-To", f"<sip:202@{GATE_ADDRESS}>")], to="202")
        assert asked.status == 403
        assert not other.calls


def test_a_drain_waits_for_help_alone(tmp_path: Path) -> None:
    with gate_with_phones(tmp_path) as gate, LiveUas(gate) as uas:
        pbx = uas.add(PBX_ADDRESS, port=gate.pbx_port)
        for address, port in zip(CARRIER_ADDRESSES, gate.carrier_ports, strict=True):
            uas.add(address, port=port, script=ANSWER)
        ordinary, first = talk(uas, pbx, "8005550123"), talk(uas, pbx, "911")
        gate.process.send_signal(signal.SIGTERM)
        gate.wait_for_log("draining: 2 calls are up")
        refused = pbx.call("", uri=f"sip:8005550123@{GATE_ADDRESS}", caller="201")
        uas.until(lambda: refused.status)
        assert refused.status == 503
        assert "Retry-After" not in refused.last.headers, "a PBX would stop sending calls for help too"
        second = talk(uas, pbx, "911")
        uas.until(ordinary.has_ended, "the drain limit is over")
        gate.wait_for_log("emergency calls go on")
        uas.run(1.0)
        assert not first.has_ended()
        first.request("OPTIONS")
        uas.until(lambda: first.replies)
        assert first.replies[-1].status == 200
        first.bye()
        uas.until(lambda: len(gate.records()) == 3)
        assert not second.has_ended()
        by_number = {record.dialled_number: record for record in gate.records() if record.sip_code != 503}
        assert by_number["911"].disposition is Disposition.ANSWERED
        assert by_number["8005550123"].disposition is Disposition.ANSWERED

"""baresip as a phone over TLS: a gated call over its one connection, and a certificate renewed meanwhile."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.cdr.record import Disposition
from tests.support.certificates import Authority
from tests.system.baresip import FAR_END_HZ, far_end, running_phone
from tests.system.gate import GATE_ADDRESS, STRANGER_ADDRESS, Gate, free_port, running_gate
from tests.system.test_baresip import MD5_ONLY, PASSWORD


@dataclass(frozen=True, slots=True)
class TlsGate:
    """A running gate with a TLS socket of its own."""

    gate: Gate
    port: int
    authority: Authority


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsGate]:
    folder = tmp_path_factory.mktemp("gate")
    authority = Authority(folder / "authority")
    certificate = authority.issue("gate.pem", "IP:127.0.0.1")
    plain, port = free_port(), free_port()
    with pytest.MonkeyPatch.context() as environment:
        listen = [f"udp:127.0.0.1:{plain}", f"tls:127.0.0.1:{port}"]
        environment.setenv("TOLLGATE_SIP__LISTEN", json.dumps(listen))
        extra = f'[sip.tls]\ncertificate = "{certificate}"\nca = "{authority.certificate}"\n'
        extra += MD5_ONLY
        with running_gate(folder, latching="learning", extra=extra) as running:
            running.tollgate("users", "add", "201", "--group", "required", "--password", PASSWORD)
            running.tollgate("codes", "add", "1234", "--description", "Office")
            running.wait_for_policy()
            yield TlsGate(running, port, authority)


def test_phone_over_tls_dials_code_and_talks_while_the_certificate_is_renewed(
    tls: TlsGate, tmp_path: Path
) -> None:
    gate = tls.gate
    known = {record.record_id for record in gate.records()}
    caller = running_phone(
        tmp_path / "phone",
        address=GATE_ADDRESS,  # where its RTP comes from on loopback; see test_baresip
        proxy=f"127.0.0.1:{tls.port};transport=tls",
        user="201",
        password=PASSWORD,
    )
    with far_end(gate, tmp_path) as answering, caller as phone:
        phone.command("dial", f"sip:2025550123@127.0.0.1:{tls.port}")
        phone.wait_for("CALL_ESTABLISHED")
        phone.command("sndcode", "1234#")
        answering.wait_for("CALL_ESTABLISHED")
        tls.authority.issue("gate.pem", "IP:127.0.0.1")
        gate.process.send_signal(signal.SIGHUP)
        gate.wait_for_log("settings read again")
        phone.heard.wait_for_tone(FAR_END_HZ)
        answering.command("hangup")
        phone.wait_for("CALL_CLOSED")
    record = gate.wait_for_record(known)
    assert record.disposition is Disposition.ANSWERED
    assert record.user == "201"
    assert record.code is not None
    assert "TLS connection closed" not in gate.log.read_text()


def test_a_spoiled_certificate_is_refused_and_the_old_one_serves_on(tls: TlsGate, tmp_path: Path) -> None:
    file = tls.authority.folder / "gate.pem"
    good = file.read_text()
    file.write_text("spoiled")
    try:
        tls.gate.process.send_signal(signal.SIGHUP)
        tls.gate.wait_for_log("sip.tls.certificate")
        with running_phone(
            tmp_path / "phone",
            address=STRANGER_ADDRESS,
            proxy=f"127.0.0.1:{tls.port};transport=tls",
            user="201",
            password="wrong",
        ) as phone:
            phone.command("dial", f"sip:2025550123@127.0.0.1:{tls.port}")
            assert "401" in phone.wait_for("CALL_CLOSED")["param"]
    finally:
        file.write_text(good)

"""A trunk over TLS to Kamailio, which wants a certificate too: who believes whom, over what connection."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from proxy.cdr.record import Direction, Disposition, HungUpBy
from tests.support.certificates import Authority
from tests.system.gate import CARRIER_ADDRESSES, GATE_ADDRESS, PBX_ADDRESS, free_port, running_gate
from tests.system.kamailio import REALM, Tls, carrier_routes, needs_kamailio, running_kamailio
from tests.system.trunk_traffic import caller, carrier, playing

ADDRESS = CARRIER_ADDRESSES[0]
BEHIND = "127.0.0.12"
CALLS_REALM = "calls.example"
"""Asks who calls; the registrar is known by another name."""
ACCOUNT = f'account = {{ username = "gate", password = "secret", realm = ["{REALM}", "{CALLS_REALM}"] }}\n'

pytestmark = needs_kamailio


def test_rfc5922_7_a_trunk_is_believed_by_its_name_believes_the_gate_and_shares_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path / "authority")
    stranger = Authority(tmp_path / "stranger")
    own = tmp_path / "gate.pem"
    own.write_text(stranger.issue("gate.pem", "IP:127.0.0.1").read_text())
    port, secure, behind = free_port(ADDRESS), free_port(ADDRESS), free_port(BEHIND)
    tls = Tls(secure, authority.issue("carrier.pem", "DNS:sip.carrier.example"), authority.certificate)
    routes = carrier_routes(
        gate_address=GATE_ADDRESS,
        user="gate",
        password="secret",
        carriers=(f"{BEHIND}:{behind}",),
        calls_realm=CALLS_REALM,
    )
    monkeypatch.setenv("TOLLGATE_TRUNKS__0__ADDRESSES", json.dumps([f"tls:{ADDRESS}:{secure}"]))
    trunk = f'host = "other.example"\nprobe_interval = 1\n{ACCOUNT}'
    extra = f'[sip.tls]\ncertificate = "{own}"\nca = "{authority.certificate}"\n[sip.tcp]\nalias = true\n'
    listen = (f"tls:{GATE_ADDRESS}:{free_port()}",)
    kamailio = running_kamailio(tmp_path / "kamailio", address=ADDRESS, port=port, routes=routes, tls=tls)
    with (
        kamailio as proxy,
        running_gate(tmp_path, first_trunk=trunk, listen=listen, extra=extra) as gate,
    ):

        def reload(before: str, after: str) -> None:
            gate.config.write_text(gate.config.read_text().replace(before, after))
            gate.process.send_signal(signal.SIGHUP)

        # Who answers there is not whom the settings name; it gets no word.
        gate.wait_for_log("the certificate names sip.carrier.example, not other.example")
        gate.wait_for_log(f"trunk first at tls:{ADDRESS}:{secure} is down")
        second = carrier("called_at_once", tmp_path, address=CARRIER_ADDRESSES[1], port=gate.carrier_ports[1])
        with playing(second):
            caller(gate, tmp_path, name="meanwhile").wait()
        # Now it does, but does not believe the gate's own certificate, of an authority that it does not know.
        reload("other.example", "sip.carrier.example")
        gate.wait_for_log("unknown ca")
        assert proxy.said("[routed") == 0
        own.write_text(authority.issue("gate.pem", "IP:127.0.0.1").read_text())
        reload("probe_interval = 1\n", "probe_interval = 1\nregister = true\n")
        gate.wait_for_log(f"trunk first at tls:{ADDRESS}:{secure} is up")
        gate.wait_for_log("trunk first is registered")
        known = {record.record_id for record in gate.records()}
        handshakes = gate.log.read_text().count("TLS connection: TLSv1")

        # A call, while the gate's certificate is renewed.
        answering = carrier("called_at_once", tmp_path, address=BEHIND, port=behind, name="behind")
        calling = caller(gate, tmp_path, name="talks", scenario="caller_who_talks")
        proxy.wait_for(f"[routed ACK from {GATE_ADDRESS} over tls]")
        own.write_text(authority.issue("gate.pem", "IP:127.0.0.1").read_text())
        gate.process.send_signal(signal.SIGHUP)
        calling.wait()
        answering.wait()
        record = gate.wait_for_record(known)
        assert record.disposition is Disposition.ANSWERED
        assert [(one.trunk, one.sip_code) for one in record.trunks] == [("first", 200)]
        assert proxy.said(f"[routed BYE from {GATE_ADDRESS} over tls]") == 1

        # RFC 5923: the carrier's own call comes over the connection that the gate has opened.
        known.add(record.record_id)
        pbx = carrier("called_hangs_up", tmp_path, name="pbx", address=PBX_ADDRESS, port=gate.pbx_port)
        with playing(pbx):
            caller(
                gate,
                tmp_path,
                scenario="caller_of_did",
                name="calls_the_gate",
                address=BEHIND,
                remote=f"{ADDRESS}:{port}",
                dial="+12025550123",
                user="+13125550199",
            ).wait()
        record = gate.wait_for_record(known)
        assert (record.direction, record.hung_up_by) == (Direction.INBOUND, HungUpBy.B_LEG)
        assert gate.log.read_text().count("TLS connection: TLSv1") == handshakes, "one connection for all"
        assert proxy.said("[unrouted") == 0

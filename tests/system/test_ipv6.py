"""Gated calls over IPv6, SIP and RTP, and between the two versions of IP (RFC 6157): SIPp on both sides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.cdr.record import CallRecord, Disposition
from tests.support.pcap import Keys, caller_stream, write_pcap
from tests.system import sipp
from tests.system.gate import CARRIER_ADDRESSES, GATE_ADDRESS, PBX_ADDRESS, Gate, free_port, running_gate
from tests.system.media import HEARD_PACKETS, RtpListener

SIX = "::1"
CODE = "1234"
GATED_CALL = Path(__file__).parent / "situations" / "far_end_hangs_up"
PBX_OVER_SIX = f'[[peers]]\nname = "six"\nnetworks = ["{SIX}"]\ndefault_group = "required"\n'


@dataclass(frozen=True, slots=True)
class Party:
    """Who calls or is called."""

    address: str
    media: str
    """Address of its media."""
    port: int
    """That of the gate to who calls, one's own to who is called."""


def in_uri(address: str) -> str:
    """Return an address as it stands before a port."""
    return f"[{address}]" if ":" in address else address


def gated_call(gate: Gate, folder: Path, caller: Party, carrier: Party) -> CallRecord:
    """Place a call with its code; both sides hang up content."""
    folder.mkdir()
    known = {record.record_id for record in gate.records()}
    write_pcap(folder / "keys.pcap", caller_stream([Keys(f"{CODE}#")], total_ms=4000))
    with RtpListener(carrier.media) as media:
        answering = sipp.start(
            GATED_CALL / "carrier.xml",
            folder,
            name="carrier",
            address=carrier.address,
            port=carrier.port,
            media_address=carrier.media,
            media_port=free_port(carrier.media),
            keys={"rtp_address": carrier.media, "rtp_port": str(media.port)},
        )
        try:
            placing = sipp.start(
                GATED_CALL / "caller.xml",
                folder,
                name="caller",
                address=caller.address,
                port=free_port(caller.address),
                media_address=caller.media,
                media_port=free_port(caller.media),
                remote=f"{in_uri(SIX if ':' in caller.address else GATE_ADDRESS)}:{caller.port}",
                service="2025550123",
                keys={"user": "201"},
            )
            placing.wait()
            answering.wait()
        finally:
            answering.stop()
    assert media.audio_packets >= HEARD_PACKETS
    assert not media.digits, "digits of the code at the carrier"
    spoken = answering.messages() + placing.messages()
    for address in (caller.media, carrier.media):
        assert f"c=IN IP{6 if ':' in address else 4} {address}" in spoken
    return gate.wait_for_record(known)


def test_rfc6157_calls_over_ipv6_and_between_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gate").mkdir()
    gate_port, carrier_port = free_port(SIX), free_port(SIX)
    monkeypatch.setenv("TOLLGATE_MEDIA__ADDRESS_IPV6", SIX)
    monkeypatch.setenv("TOLLGATE_TRUNKS__0__ADDRESSES", f'["udp:[{SIX}]:{carrier_port}"]')
    listen = (f"udp:[{SIX}]:{gate_port}",)
    with running_gate(tmp_path / "gate", listen=listen, extra=PBX_OVER_SIX) as gate:
        gate.tollgate("codes", "add", CODE, "--description", "Office")
        gate.wait_for_policy()
        six, four = Party(SIX, SIX, gate_port), Party(PBX_ADDRESS, PBX_ADDRESS, gate.port)
        mixed = Party(PBX_ADDRESS, SIX, gate.port)
        to_six = Party(SIX, SIX, carrier_port)
        # Nobody is at the IPv6 trunk then, so the call goes on to the other.
        to_four = Party(CARRIER_ADDRESSES[1], CARRIER_ADDRESSES[1], gate.carrier_ports[1])
        for name, caller, carrier, trunks in (
            ("wholly over IPv6", six, to_six, ["first"]),
            ("IPv4 to IPv6", four, to_six, ["first"]),
            ("IPv6 to IPv4", six, to_four, ["first", "second"]),
            ("IPv4 with IPv6 media to IPv4", mixed, to_four, ["first", "second"]),
        ):
            record = gated_call(gate, tmp_path / name, caller, carrier)
            assert record.disposition is Disposition.ANSWERED, name
            assert record.code is not None, name
            assert record.source_address.rpartition(":")[0] == in_uri(caller.address), name
            assert [one.trunk for one in record.trunks] == trunks, name
            for heard in (record.a_media, record.b_media):
                assert heard is not None
                assert heard.packets_sent >= HEARD_PACKETS, name
        assert "faults: 0" in gate.wait_until_idle()

"""SRTP keyed in SDP (RFC 4568) with real phones: baresip's own SRTP on one side or both of a gated call."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.cdr.record import Disposition
from tests.system.baresip import FAR_END_HZ, far_end, running_phone
from tests.system.gate import GATE_ADDRESS, Gate, running_gate
from tests.system.media import HEARD_PACKETS
from tests.system.test_baresip import CALLER_HZ, MD5_ONLY, PASSWORD

PLAIN = ""
BEST_EFFORT = ";mediaenc=srtp"
"""RTP/AVP with keys."""
MANDATORY = ";mediaenc=srtp-mand"
"""RTP/SAVP; baresip then refuses to be plain."""


def gated_call(gate: Gate, folder: Path, phone_wants: str, far_end_wants: str) -> None:
    """Place a call with its code; both ends must hear each other's tone and nothing but that."""
    known = {record.record_id for record in gate.records()}
    caller = running_phone(
        folder / "phone",
        address=GATE_ADDRESS,  # where baresip's RTP comes from on loopback, whatever its SDP says
        proxy=f"127.0.0.1:{gate.port}",
        user="201",
        password=PASSWORD,
        tone_hz=CALLER_HZ,
        parameters=f";audio_codecs=PCMU/8000/1{phone_wants}",
    )
    with far_end(gate, folder, far_end_wants) as answering, caller as phone:
        phone.command("dial", f"sip:2025550123@127.0.0.1:{gate.port}")
        phone.wait_for("CALL_ESTABLISHED")
        phone.command("sndcode", "1234#")
        answering.wait_for("CALL_ESTABLISHED")
        phone.heard.wait_for_tone(FAR_END_HZ)
        answering.heard.wait_for_tone(CALLER_HZ)
        phone.command("hangup")
        answering.wait_for("CALL_CLOSED")
    record = gate.wait_for_record(known)
    assert record.disposition is Disposition.ANSWERED
    assert record.code is not None, "the digits came as encrypted telephone-events"
    for media in (record.a_media, record.b_media):
        assert media is not None
        assert media.packets_received >= HEARD_PACKETS
        assert media.packets_sent >= HEARD_PACKETS
        # The far end's latch is open for the first half second; nothing later may fail its authentication.
        assert media.packets_discarded < 40


@pytest.mark.parametrize(
    ("phones", "phone_wants", "trunk", "far_end_wants"),
    [
        pytest.param("optional", BEST_EFFORT, "off", PLAIN, id="phone-best-effort"),
        pytest.param("required", MANDATORY, "off", PLAIN, id="phone-only"),
        pytest.param("optional", PLAIN, "required", MANDATORY, id="trunk-only"),
        pytest.param("required", MANDATORY, "optional", BEST_EFFORT, id="both"),
    ],
)
def test_srtp_where_it_is_set(
    phones: str, phone_wants: str, trunk: str, far_end_wants: str, tmp_path: Path
) -> None:
    folder = tmp_path / "gate"
    folder.mkdir()
    extra = f'{MD5_ONLY}\n[phones]\nsrtp = "{phones}"\n'
    with running_gate(folder, latching="learning", trunk_srtp=trunk, extra=extra) as gate:
        gate.tollgate("users", "add", "201", "--group", "required", "--password", PASSWORD)
        gate.tollgate("codes", "add", "1234", "--description", "Office")
        gate.wait_for_policy()
        gated_call(gate, tmp_path, phone_wants, far_end_wants)
        assert "inline:" not in gate.log.read_text(), "a key in the log"

"""baresip, a real phone, places gated calls by itself: digest, prompt, digits, talk, hang-up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.cdr.record import Disposition, HungUpBy
from tests.system.baresip import FAR_END_HZ, far_end, running_phone
from tests.system.gate import GATE_ADDRESS, Gate, running_gate
from tests.system.media import HEARD_PACKETS

PASSWORD = "a-sip-password"
CALLER_HZ = 600
PCMU, PCMA, G722, OPUS = "PCMU/8000/1", "PCMA/8000/1", "G722/16000/1", "opus/48000/2"
MD5_ONLY = """
[auth]
algorithms = ["MD5"]  # the baresip of Debian 12 gives up at the sight of any other
"""


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    with running_gate(tmp_path_factory.mktemp("gate"), latching="learning", extra=MD5_ONLY) as running:
        running.tollgate("users", "add", "201", "--group", "required", "--password", PASSWORD)
        running.tollgate("codes", "add", "1234", "--description", "Office")
        running.wait_for_policy()
        yield running


@pytest.mark.parametrize(
    ("codec", "far_codec"),
    [
        *((codec, "") for codec in (PCMU, PCMA, G722, OPUS)),
        *((PCMU, PCMA), (PCMA, G722), (G722, PCMU)),  # they have none in common: the gate transcodes
    ],
)
def test_phone_dials_code_and_talks_to_phone(codec: str, far_codec: str, gate: Gate, tmp_path: Path) -> None:
    known = {record.record_id for record in gate.records()}
    caller = running_phone(
        tmp_path / "phone",
        # On loopback baresip's RTP comes from here, whatever its SDP says; from a phone whose signalling came
        # from elsewhere the gate would hear the first digits only after half a second.
        address=GATE_ADDRESS,
        proxy=f"127.0.0.1:{gate.port}",
        user="201",
        password=PASSWORD,
        tone_hz=CALLER_HZ,
        parameters=f";audio_codecs={codec}",
    )
    with (
        far_end(gate, tmp_path, f";audio_codecs={far_codec}" if far_codec else "") as answering,
        caller as phone,
    ):
        phone.command("dial", f"sip:2025550123@127.0.0.1:{gate.port}")
        phone.wait_for("CALL_ESTABLISHED")
        phone.command("sndcode", "1234#")
        answering.wait_for("CALL_ESTABLISHED")
        shown = gate.tollgate("calls")
        phone.heard.wait_for_tone(FAR_END_HZ)
        answering.heard.wait_for_tone(CALLER_HZ)
        phone.command("hangup")
        answering.wait_for("CALL_CLOSED")
    for word in ("talking", "201", "2025550123", "Office"):
        assert word in shown
    assert "1234" not in shown
    record = gate.wait_for_record(known)
    assert record.user == "201"
    assert record.disposition is Disposition.ANSWERED
    assert record.hung_up_by is HungUpBy.A_LEG
    assert record.code is not None
    assert record.code.form == "1234"
    assert record.code_means == "rfc4733"
    assert record.codec.upper() == (far_codec or codec).partition("/")[0].upper()
    for media in (record.a_media, record.b_media):
        assert media is not None
        assert media.packets_received >= HEARD_PACKETS
        assert media.packets_sent >= HEARD_PACKETS


def test_the_commands_tell_what_happened_and_why(gate: Gate) -> None:
    answered = [record for record in gate.records() if record.disposition is Disposition.ANSWERED]
    listed = gate.tollgate("usage", "list").splitlines()
    assert sum("2025550123" in line and "answered" in line for line in listed) == len(answered)
    explained = gate.tollgate("explain", "--user", "201", "--number", "2025550123", "--code", "1234")
    assert "decision: required code" in explained
    assert "code: accepted" in explained
    assert "calls: 0" in gate.tollgate("status").splitlines()


def test_phone_with_wrong_password_is_refused(gate: Gate, tmp_path: Path) -> None:
    with running_phone(
        tmp_path / "phone",
        address=GATE_ADDRESS,
        proxy=f"127.0.0.1:{gate.port}",
        user="201",
        password="wrong",
    ) as phone:
        phone.command("dial", f"sip:2025550123@127.0.0.1:{gate.port}")
        closed = phone.wait_for("CALL_CLOSED")
    assert "401" in closed["param"]

"""baresip, a real phone, places gated calls by itself: digest, prompt, digits, talk, hang-up."""

from __future__ import annotations

import array
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.cdr.record import Disposition, HungUpBy
from tests.system import sipp
from tests.system.baresip import running_phone
from tests.system.gate import CARRIER_ADDRESSES, STRANGER_ADDRESS, Gate, free_port, running_gate

SITUATIONS = Path(__file__).parent / "situations"
PASSWORD = "a-sip-password"

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    with running_gate(tmp_path_factory.mktemp("gate"), media="21000-21999") as running:
        running.tollgate("users", "add", "201", "--group", "required", "--password", PASSWORD)
        running.tollgate("codes", "add", "1234", "--description", "Office")
        yield running


@pytest.mark.parametrize("codec", ["PCMU/8000", "PCMA/8000", "G722/16000"])
def test_phone_dials_code_and_talks(codec: str, gate: Gate, tmp_path: Path) -> None:
    known = {record.record_id for record in gate.records()}
    carrier = sipp.start(
        SITUATIONS / "far_end_hangs_up" / "carrier.xml",
        tmp_path,
        name="carrier",
        address=CARRIER_ADDRESSES[0],
        port=gate.carrier_ports[0],
        media_port=free_port(CARRIER_ADDRESSES[0]),
    )
    try:
        with running_phone(
            tmp_path / "phone",
            address=STRANGER_ADDRESS,
            proxy=f"127.0.0.1:{gate.port}",
            user="201",
            password=PASSWORD,
            parameters=f";audio_codecs={codec}",
        ) as phone:
            phone.command("dial", f"sip:2025550123@127.0.0.1:{gate.port}")
            phone.wait_for("CALL_ESTABLISHED")
            phone.command("sndcode", "1234#")
            phone.wait_for("CALL_CLOSED", 30)
        carrier.wait(20)
    finally:
        carrier.stop()
    record = gate.wait_for_record(known)
    assert record.user == "201"
    assert record.disposition is Disposition.ANSWERED
    assert record.hung_up_by is HungUpBy.B_LEG
    assert record.code is not None
    assert record.code.form == "1234"
    assert record.code_means == "rfc4733"
    assert record.a_media is not None
    assert record.a_media.packets_received > 50
    assert loudness(phone.heard) > 200, "the phone heard no prompt"


def test_phone_with_wrong_password_is_refused(gate: Gate, tmp_path: Path) -> None:
    with running_phone(
        tmp_path / "phone",
        address=STRANGER_ADDRESS,
        proxy=f"127.0.0.1:{gate.port}",
        user="201",
        password="wrong",
    ) as phone:
        phone.command("dial", f"sip:2025550123@127.0.0.1:{gate.port}")
        closed = phone.wait_for("CALL_CLOSED")
    assert "401" in closed["param"]


def loudness(recording: Path) -> float:
    """Return the loudest 20 ms of a WAV file as root mean square (16-bit samples)."""
    with wave.open(str(recording)) as file:
        samples = array.array("h", file.readframes(file.getnframes()))
        step = file.getframerate() // 50
    blocks = [samples[at : at + step] for at in range(0, len(samples) - step, step)]
    return max(((sum(s * s for s in block) / step) ** 0.5 for block in blocks), default=0.0)

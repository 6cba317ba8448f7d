"""linphone, a second make of phone: digest by SHA-256, Opus, calls with baresip, hold, TLS with SRTP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.cdr.record import CallRecord, Disposition, HungUpBy
from proxy.policy import User
from proxy.store import digest_credentials
from tests.support.certificates import Authority
from tests.system.baresip import FAR_END_HZ, far_end, running_phone
from tests.system.gate import GATE_ADDRESS, Gate, free_port, running_gate
from tests.system.linphone import needs_linphone, running_linphone
from tests.system.media import HEARD_PACKETS
from tests.system.test_baresip import CALLER_HZ, MD5_ONLY, PASSWORD
from tests.system.test_registration import OTHER_ADDRESS, wait_for_phones

LINPHONE_ADDRESS = "127.0.0.6"
SUITE = "AES_256_CM_HMAC_SHA1_80"

pytestmark = needs_linphone


def add_phones(gate: Gate, *extensions: str) -> None:
    """Let these users and one account code be known to the gate."""
    for extension in extensions:
        credentials = digest_credentials(extension, "tollgate", PASSWORD)
        gate.store.users.add(User(extension, "required", credentials=credentials))
    gate.tollgate("codes", "add", "1234", "--description", "Office")
    gate.wait_for_policy()


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A gate that challenges as it does by default: SHA-256 first, MD5 second (RFC 8760)."""
    with running_gate(tmp_path_factory.mktemp("gate"), latching="learning") as running:
        add_phones(running, "201", "202")
        yield running


@pytest.fixture(scope="module")
def md5_gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A gate at which baresip can register too."""
    folder = tmp_path_factory.mktemp("gate")
    with running_gate(folder, latching="learning", extra=MD5_ONLY) as running:
        add_phones(running, "201", "202")
        yield running


def both_talked(record: CallRecord) -> None:
    assert record.disposition is Disposition.ANSWERED
    for media in (record.a_media, record.b_media):
        assert media is not None
        assert media.packets_received >= HEARD_PACKETS
        assert media.packets_sent >= HEARD_PACKETS


def test_rfc8760_phone_registers_by_sha256_dials_code_holds_and_talks(gate: Gate, tmp_path: Path) -> None:
    known = {record.record_id for record in gate.records()}
    caller = running_linphone(
        tmp_path / "phone",
        # Its RTP comes from here, whatever address its signalling is bound to; see test_baresip.
        address=GATE_ADDRESS,
        proxy=f"127.0.0.1:{gate.port}",
        user="201",
        password=PASSWORD,
        tone_hz=CALLER_HZ,
    )
    with far_end(gate, tmp_path) as answering, caller as phone:
        phone.wait_for_registration()
        phone.command(f"call sip:2025550123@127.0.0.1:{gate.port}")
        phone.wait_for("Media streams established")
        phone.command("1234#")
        answering.wait_for("CALL_ESTABLISHED")
        phone.heard.wait_for_tone(FAR_END_HZ)
        answering.heard.wait_for_tone(CALLER_HZ)
        phone.command("pause")
        phone.wait_for("is now paused")
        phone.heard.wait_for_silence(FAR_END_HZ)
        phone.command("resume")
        phone.wait_for("Media streams established")
        phone.heard.wait_for_tone(FAR_END_HZ, after=phone.heard.length())
        phone.command("terminate")
        answering.wait_for("CALL_CLOSED")
    trace = (tmp_path / "phone" / "trace.log").read_text()
    assert "algorithm=SHA-256" in trace
    record = gate.wait_for_record(known)
    both_talked(record)
    assert record.hung_up_by is HungUpBy.A_LEG
    assert record.code is not None
    assert record.code.form == "1234"
    assert record.code_means == "rfc4733"
    assert record.codec == "OPUS"


@pytest.mark.parametrize("caller", ["linphone", "baresip"])
def test_linphone_and_baresip_call_each_other(caller: str, md5_gate: Gate, tmp_path: Path) -> None:
    gate = md5_gate
    known = {record.record_id for record in gate.records()}
    linphone = running_linphone(
        tmp_path / "linphone",
        address=LINPHONE_ADDRESS,
        proxy=f"127.0.0.1:{gate.port}",
        user="201",
        password=PASSWORD,
        tone_hz=CALLER_HZ,
        answers=True,
    )
    baresip = running_phone(
        tmp_path / "baresip",
        address=OTHER_ADDRESS,
        proxy=f"127.0.0.1:{gate.port}",
        user="202",
        password=PASSWORD,
        tone_hz=FAR_END_HZ,
        parameters=";answermode=auto;audio_codecs=opus/48000/2",
        regint=60,
    )
    with linphone as first, baresip as second:
        first.wait_for_registration()
        wait_for_phones(gate, "201", "202")
        if caller == "linphone":
            first.command(f"call sip:202@127.0.0.1:{gate.port}")
        else:
            second.command("dial", f"sip:201@127.0.0.1:{gate.port}")
        second.wait_for("CALL_ESTABLISHED")
        first.wait_for("Media streams established")
        first.heard.wait_for_tone(FAR_END_HZ)
        second.heard.wait_for_tone(CALLER_HZ)
        if caller == "linphone":
            second.command("hangup")
            first.wait_for("ended")
        else:
            first.command("terminate")
            second.wait_for("CALL_CLOSED")
    record = gate.wait_for_record(known)
    both_talked(record)
    assert record.hung_up_by is HungUpBy.B_LEG


def test_tls_and_srtp_to_linphone_plain_to_the_trunk(tmp_path: Path) -> None:
    folder = tmp_path / "gate"
    folder.mkdir()
    authority = Authority(folder / "authority")
    certificate = authority.issue("gate.pem", "DNS:localhost")  # linphone looks for no IP addresses
    secure = free_port()
    extra = f'[sip.tls]\ncertificate = "{certificate}"\n[phones]\nsrtp = "required"\n'
    with running_gate(folder, latching="learning", listen=(f"tls:127.0.0.1:{secure}",), extra=extra) as gate:
        add_phones(gate, "201")
        caller = running_linphone(
            tmp_path / "phone",
            address=GATE_ADDRESS,
            proxy=f"localhost:{secure};transport=tls",
            user="201",
            password=PASSWORD,
            tone_hz=CALLER_HZ,
            encryption="srtp",
            suites=SUITE,
            authority=authority.certificate,
        )
        with far_end(gate, tmp_path) as answering, caller as phone:
            phone.wait_for_registration()
            wait_for_phones(gate, "201")  # the store hears of it a moment later
            assert "(tls)" in gate.tollgate("users", "list")
            phone.command(f"call sip:2025550123@localhost:{secure};transport=tls")
            phone.wait_for("Media streams established")
            phone.command("1234#")
            answering.wait_for("CALL_ESTABLISHED")
            phone.heard.wait_for_tone(FAR_END_HZ)
            answering.heard.wait_for_tone(CALLER_HZ)
            answering.command("hangup")
            phone.wait_for("ended")
        record = gate.wait_for_record(set())
        assert "inline:" not in gate.log.read_text(), "a key in the log"
    answered = re.findall(
        r"a=crypto:\d+ (\S+)", (tmp_path / "phone" / "trace.log").read_text(errors="replace")
    )
    assert set(answered) == {SUITE}
    both_talked(record)
    assert record.code is not None, "the digits came as encrypted telephone-events"

"""Phones that register: SIPp for the flows of RFC 3665 §2, baresip as real phones that call each other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.cdr.record import Direction, Disposition
from proxy.policy import User
from proxy.store import digest_credentials
from tests.system import sipp
from tests.system.baresip import FAR_END_HZ, running_phone
from tests.system.gate import STRANGER_ADDRESS, Gate, free_port, running_gate
from tests.system.media import PATIENCE
from tests.system.test_baresip import CALLER_HZ, MD5_ONLY, PASSWORD

SCENARIOS = Path(__file__).parent / "registration"
OTHER_ADDRESS = "127.0.0.5"
EXTENSIONS = ("201", "202", "203", "204")


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    with running_gate(tmp_path_factory.mktemp("gate"), latching="learning", extra=MD5_ONLY) as running:
        for extension in EXTENSIONS:
            credentials = digest_credentials(extension, "tollgate", PASSWORD)
            running.store.users.add(User(extension, "required", credentials=credentials))
        running.wait_for_policy()
        yield running


def register(
    gate: Gate, folder: Path, scenario: str, *, user: str, password: str, transport: str = "udp"
) -> sipp.Sipp:
    """Run one scenario against the gate to its end."""
    running = sipp.start(
        SCENARIOS / f"{scenario}.xml",
        folder,
        name="phone",
        address=STRANGER_ADDRESS,
        port=free_port(STRANGER_ADDRESS),
        media_port=free_port(STRANGER_ADDRESS),
        remote=f"127.0.0.1:{gate.port}",
        transport=transport,
        service=user,
        keys={"user": user, "password": password},
    )
    running.wait()
    return running


def wait_for_phones(gate: Gate, *extensions: str) -> None:
    """Return when these users are registered."""
    until = time.monotonic() + PATIENCE
    while not {binding.user for binding in gate.store.bindings.all(now=time.time())} >= set(extensions):
        assert time.monotonic() < until, "the phones do not register"
        time.sleep(0.1)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_rfc3665_2_register_refresh_and_unregister(gate: Gate, tmp_path: Path, transport: str) -> None:
    register(gate, tmp_path, "register", user="203", password=PASSWORD, transport=transport)


@pytest.mark.parametrize(("user", "password"), [("203", "wrong"), ("299", PASSWORD)])
def test_rfc3665_2_5_wrong_password_and_unknown_user_look_the_same(
    gate: Gate, tmp_path: Path, user: str, password: str
) -> None:
    running = register(gate, tmp_path, "register_wrongly", user=user, password=password)
    assert running.messages().count("SIP/2.0 401 Unauthorized") == 2


def test_rfc5627_5_3_a_phone_on_a_connection_gets_gruus_and_a_flow_timer(gate: Gate, tmp_path: Path) -> None:
    register(gate, tmp_path, "gruu", user="203", password=PASSWORD, transport="tcp")


def test_phones_register_and_call_each_other(gate: Gate, tmp_path: Path) -> None:
    known = {record.record_id for record in gate.records()}
    callee = running_phone(
        tmp_path / "callee",
        address=OTHER_ADDRESS,
        proxy=f"127.0.0.1:{gate.port}",
        user="202",
        password=PASSWORD,
        tone_hz=FAR_END_HZ,
        parameters=";answermode=auto;audio_codecs=PCMU/8000/1",
        regint=60,
    )
    caller = running_phone(
        tmp_path / "caller",
        address=STRANGER_ADDRESS,
        proxy=f"127.0.0.1:{gate.port}",
        user="201",
        password=PASSWORD,
        tone_hz=CALLER_HZ,
        parameters=";audio_codecs=PCMU/8000/1",
        regint=60,
    )
    with callee as answering, caller as phone:
        wait_for_phones(gate, "201", "202")
        assert "registered users: 2" in gate.tollgate("status").splitlines()
        phone.command("dial", f"sip:202@127.0.0.1:{gate.port}")
        phone.wait_for("CALL_ESTABLISHED")
        answering.wait_for("CALL_ESTABLISHED")
        listed = {line.split("\t")[0]: line for line in gate.tollgate("users", "list").splitlines()}
        phone.heard.wait_for_tone(FAR_END_HZ)
        answering.heard.wait_for_tone(CALLER_HZ)
        answering.command("hangup")
        phone.wait_for("CALL_CLOSED")
    assert f"{OTHER_ADDRESS}:" in listed["202"]
    assert f"{STRANGER_ADDRESS}:" in listed["201"]
    record = gate.wait_for_record(known)
    assert (record.direction, record.disposition) == (Direction.INTERNAL, Disposition.ANSWERED)
    assert (record.user, record.destination_user) == ("201", "202")


def test_a_user_without_a_phone_can_not_be_reached(gate: Gate, tmp_path: Path) -> None:
    known = {record.record_id for record in gate.records()}
    with running_phone(
        tmp_path / "phone",
        address=STRANGER_ADDRESS,
        proxy=f"127.0.0.1:{gate.port}",
        user="201",
        password=PASSWORD,
        regint=60,
    ) as phone:
        wait_for_phones(gate, "201")
        # The PBX is asked for extensions without a phone here; it is not there.
        phone.command("dial", f"sip:204@127.0.0.1:{gate.port}")
        phone.wait_for("CALL_CLOSED")
    assert gate.wait_for_record(known).destination_user == "204"

"""What people do with phones in a call, done with real ones that are registered: hold, transfer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from proxy.cdr.record import CallRecord, Disposition, HungUpBy
from proxy.policy import User
from proxy.store import digest_credentials
from tests.system.baresip import FAR_END_HZ, Phone, running_phone
from tests.system.gate import STRANGER_ADDRESS, Gate, running_gate
from tests.system.linphone import Linphone, needs_linphone, running_linphone
from tests.system.media import HEARD_PACKETS
from tests.system.test_baresip import CALLER_HZ, MD5_ONLY, PASSWORD
from tests.system.test_registration import OTHER_ADDRESS, wait_for_phones

SECOND_HZ = 1000
ADDRESSES = {"201": STRANGER_ADDRESS, "202": OTHER_ADDRESS, "203": "127.0.0.7"}


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    with running_gate(tmp_path_factory.mktemp("gate"), latching="learning", extra=MD5_ONLY) as running:
        for extension in ADDRESSES:
            credentials = digest_credentials(extension, "tollgate", PASSWORD)
            running.store.users.add(User(extension, "required", credentials=credentials))
        running.wait_for_policy()
        yield running


def baresip(
    gate: Gate, folder: Path, user: str, tone_hz: int, parameters: str = ""
) -> AbstractContextManager[Phone]:
    """Return a baresip that registers."""
    return running_phone(
        folder / user,
        address=ADDRESSES[user],
        proxy=f"127.0.0.1:{gate.port}",
        user=user,
        password=PASSWORD,
        tone_hz=tone_hz,
        parameters=parameters,
        regint=60,
    )


def linphone(
    gate: Gate, folder: Path, user: str, tone_hz: int, *, answers: bool = False
) -> AbstractContextManager[Linphone]:
    """Return a linphone that registers."""
    return running_linphone(
        folder / user,
        address=ADDRESSES[user],
        proxy=f"127.0.0.1:{gate.port}",
        user=user,
        password=PASSWORD,
        tone_hz=tone_hz,
        answers=answers,
    )


def wait_for_linphones(*phones: Linphone) -> None:
    """Return when each of them is registered, and knows it."""
    for phone in phones:
        phone.wait_for_registration()


def hear_each_other(
    caller: Linphone | Phone, callee: Linphone | Phone, *, after: tuple[int, int] = (0, 0)
) -> None:
    """Return when both have heard the other's tone, after so many samples of each."""
    caller.heard.wait_for_tone(FAR_END_HZ, after=after[0])
    callee.heard.wait_for_tone(CALLER_HZ, after=after[1])


def ids(gate: Gate) -> set[str]:
    return {record.record_id for record in gate.records()}


def ended_by(record: CallRecord, side: HungUpBy) -> None:
    assert record.disposition is Disposition.ANSWERED
    assert record.hung_up_by is side


@pytest.mark.parametrize("holder", ["caller", "callee"])
def test_rfc5359_2_1_baresip_holds_and_resumes(holder: str, gate: Gate, tmp_path: Path) -> None:
    known = ids(gate)
    callee = baresip(gate, tmp_path, "202", FAR_END_HZ, ";answermode=auto")
    with callee as answering, baresip(gate, tmp_path, "201", CALLER_HZ) as calling:
        wait_for_phones(gate, "201", "202")
        calling.command("dial", f"sip:202@127.0.0.1:{gate.port}")
        calling.wait_for("CALL_ESTABLISHED")
        answering.wait_for("CALL_ESTABLISHED")
        hear_each_other(calling, answering)
        holding = calling if holder == "caller" else answering
        for order in ("hold", "resume"):
            holding.command(order)
            for phone in (calling, answering):
                phone.wait_for("CALL_REMOTE_SDP")
        # baresip 1.0 stays deaf once it was held, also without a gate between: so what comes in is counted.
        for phone in (calling, answering):
            phone.wait_for_packets(HEARD_PACKETS)
        calling.command("hangup")
        answering.wait_for("CALL_CLOSED")
    ended_by(gate.wait_for_record(known), HungUpBy.A_LEG)


@needs_linphone
@pytest.mark.parametrize("holder", ["caller", "callee"])
def test_rfc5359_2_1_linphone_holds_and_both_hear_again(holder: str, gate: Gate, tmp_path: Path) -> None:
    known = ids(gate)
    callee = linphone(gate, tmp_path, "202", FAR_END_HZ, answers=True)
    with callee as answering, linphone(gate, tmp_path, "201", CALLER_HZ) as calling:
        wait_for_linphones(calling, answering)
        calling.command(f"call sip:202@127.0.0.1:{gate.port}")
        calling.wait_for("Media streams established")
        answering.wait_for("Media streams established")
        hear_each_other(calling, answering)
        holding = calling if holder == "caller" else answering
        holding.command("pause")
        holding.wait_for("is now paused")
        # Whom it holds hears its tone on, as its music.
        holding.heard.wait_for_silence(FAR_END_HZ if holder == "caller" else CALLER_HZ)
        holding.command("resume")
        holding.wait_for("Media streams established")
        hear_each_other(calling, answering, after=(calling.heard.length(), answering.heard.length()))
        calling.command("terminate")
        answering.wait_for("ended")
    ended_by(gate.wait_for_record(known), HungUpBy.A_LEG)


@needs_linphone
def test_rfc5359_2_2_linphone_holds_one_call_for_another(gate: Gate, tmp_path: Path) -> None:
    known = ids(gate)
    first = linphone(gate, tmp_path, "202", FAR_END_HZ, answers=True)
    second = baresip(gate, tmp_path, "203", SECOND_HZ, ";answermode=auto")
    with first as held, second as asked, linphone(gate, tmp_path, "201", CALLER_HZ) as calling:
        wait_for_linphones(held, calling)
        wait_for_phones(gate, "203")
        calling.command(f"call sip:202@127.0.0.1:{gate.port}")
        calling.wait_for("Media streams established")
        hear_each_other(calling, held)
        calling.command("pause")
        calling.wait_for("is now paused")
        calling.heard.wait_for_silence(FAR_END_HZ)
        calling.command(f"call sip:203@127.0.0.1:{gate.port}")
        calling.wait_for("Media streams established")
        calling.heard.wait_for_tone(SECOND_HZ)
        asked.command("hangup")
        calling.wait_for("ended")
        calling.command("resume 1")
        calling.wait_for("Media streams established")
        hear_each_other(calling, held, after=(calling.heard.length(), held.heard.length()))
        calling.command("terminate")
        held.wait_for("ended")
    records = segments(gate, known, 2)
    assert sorted(record.destination_user for record in records) == ["202", "203"]
    for record in records:
        assert record.disposition is Disposition.ANSWERED


def segments(gate: Gate, known: set[str], count: int) -> list[CallRecord]:
    """Return the records of what has become of one call, oldest first; fails when there are not so many."""
    return sorted(gate.wait_for_records(count, known), key=lambda record: record.start_time)


@pytest.mark.parametrize("transferor", ["caller", "callee"])
def test_rfc5359_2_4_baresip_transfers_unattended(transferor: str, gate: Gate, tmp_path: Path) -> None:
    known = ids(gate)
    callee = baresip(gate, tmp_path, "202", FAR_END_HZ, ";answermode=auto")
    third = baresip(gate, tmp_path, "203", SECOND_HZ, ";answermode=auto")
    with third as target, callee as answering, baresip(gate, tmp_path, "201", CALLER_HZ) as calling:
        wait_for_phones(gate, "201", "202", "203")
        calling.command("dial", f"sip:202@127.0.0.1:{gate.port}")
        calling.wait_for("CALL_ESTABLISHED")
        answering.wait_for("CALL_ESTABLISHED")
        leaving, staying = (calling, answering) if transferor == "caller" else (answering, calling)
        leaving.command("transfer", f"sip:203@127.0.0.1:{gate.port}")
        target.wait_for("CALL_ESTABLISHED")
        leaving.wait_for("CALL_CLOSED")
        staying.heard.wait_for_tone(SECOND_HZ)
        target.heard.wait_for_tone(FAR_END_HZ if transferor == "caller" else CALLER_HZ)
        staying.command("hangup")
        target.wait_for("CALL_CLOSED")
    first, second = segments(gate, known, 2)
    assert (first.destination_user, second.destination_user) == ("202", "203")
    assert second.disposition is Disposition.ANSWERED


@needs_linphone
def test_rfc5359_2_5_linphone_transfers_attended(gate: Gate, tmp_path: Path) -> None:
    known = ids(gate)
    first = linphone(gate, tmp_path, "202", FAR_END_HZ, answers=True)
    second = linphone(gate, tmp_path, "203", SECOND_HZ, answers=True)
    with first as staying, second as target, linphone(gate, tmp_path, "201", CALLER_HZ) as leaving:
        wait_for_linphones(staying, target, leaving)
        leaving.command(f"call sip:202@127.0.0.1:{gate.port}")
        leaving.wait_for("Media streams established")
        leaving.command("pause")
        leaving.wait_for("is now paused")
        leaving.command(f"call sip:203@127.0.0.1:{gate.port}")
        leaving.wait_for("Media streams established")
        leaving.command("transfer 1 --to-call 2")
        leaving.wait_for("ended")
        leaving.wait_for("ended")
        staying.heard.wait_for_tone(SECOND_HZ)
        target.heard.wait_for_tone(FAR_END_HZ)
        staying.command("terminate")
        target.wait_for("ended")
    records = segments(gate, known, 3)
    assert [record.destination_user for record in records[:2]] == ["202", "203"]

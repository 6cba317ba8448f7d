"""Records for the tests of this room."""

from __future__ import annotations

from proxy.cdr.record import (
    CallRecord,
    Direction,
    Disposition,
    HungUpBy,
    LegMedia,
    RecordPhase,
    TrunkTry,
    UsedCode,
)

START = 1_767_225_600.25  # 2026-01-01 00:00:00.25 UTC


def full_record(record_id: str = "r1", *, phase: RecordPhase = RecordPhase.FINAL) -> CallRecord:
    """An answered outside call with every field set."""
    return CallRecord(
        record_id=record_id,
        start_time=START,
        direction=Direction.OUTBOUND,
        phase=phase,
        a_call_id="a@192.0.2.1",
        b_call_id="b@192.0.2.9",
        code_entered_after=3.5,
        answered_after=6.0,
        ended_after=66.4,
        caller_number="+12125550123",
        caller_name="Desk",
        caller_e164="+12125550123",
        user="204",
        group="Consultants",
        peer="pbx",
        source_address="192.0.2.1:5060",
        destination_user="",
        location="Main site",
        dialled_number="901144201234567",
        normalised_number="+442012345678",
        call_class="international",
        treatment="required code",
        decision="allow",
        reason="outside the permissions of Consultants",
        emergency=False,
        code=UsedCode("ACME-12/7", "2263127", "2263127", "Acme, matter 12/7"),
        wrong_tries=1,
        code_means="rfc4733",
        trunks=(TrunkTry("first", 503), TrunkTry("second", 200)),
        disposition=Disposition.ANSWERED,
        sip_code=200,
        q850_cause=16,
        hung_up_by=HungUpBy.A_LEG,
        codec="PCMU",
        a_media=LegMedia(3000, 2990, -1, 1.25, 2),
        b_media=LegMedia(2990, 3000, 4, 0.5, 0),
        first_record_id="r0",
        continuation="transfer",
    )

"""The record in the making: what the rules of a call put on it."""

from __future__ import annotations

from dataclasses import fields

from proxy.cdr.builder import RecordBuilder
from proxy.cdr.record import CallRecord, Continuation, Disposition, HungUpBy, RecordPhase, TrunkTry, UsedCode
from tests.cdr.samples import START, full_record

CODE = UsedCode("ACME-12/7", "2263127", "2263127", "Acme")


def _builder() -> RecordBuilder:
    return RecordBuilder("r1", start_time=START, now=100.0)


def test_a_new_builder_snapshots_the_defaults() -> None:
    record = _builder().snapshot(RecordPhase.FINAL, now=100.0)
    assert record == CallRecord("r1", START)


def test_every_plain_fact_lands_in_its_field() -> None:
    wanted = full_record()
    builder = _builder()
    plain = {name for name in RecordBuilder.__slots__ if not name.startswith("_")}
    for name in plain - {"record_id", "start_time"}:
        setattr(builder, name, getattr(wanted, name))
    builder.code_wrong()
    assert wanted.code is not None
    builder.code_accepted(wanted.code, "rfc4733", now=103.5)
    builder.trunk_tried("first")
    builder.trunk_ended(503)
    builder.trunk_tried("second")
    builder.b_answered(now=106.0)
    builder.ended(Disposition.ANSWERED, now=166.4, q850_cause=16, hung_up_by=HungUpBy.A_LEG)
    record = builder.final(now=170.0)
    for field in fields(CallRecord):
        value, expected = getattr(record, field.name), getattr(wanted, field.name)
        if isinstance(expected, float):
            assert abs(value - expected) < 1e-9, field.name
        else:
            assert value == expected, field.name


def test_talk_time_runs_from_the_first_answer_to_the_first_end() -> None:
    builder = _builder()
    builder.b_answered(now=110.0)
    builder.b_answered(now=115.0)
    assert (builder.answered, builder.over) == (True, False)
    live = builder.snapshot(RecordPhase.ANSWERED, now=120.0)
    assert (live.talk_time, live.final) == (10.0, False)
    builder.ended(Disposition.ANSWERED, now=130.0, sip_code=200)
    builder.ended(Disposition.FAILED, now=140.0, sip_code=500, q850_cause=41, hung_up_by=HungUpBy.GATE)
    record = builder.final(now=150.0)
    assert (builder.answered, builder.over) == (True, True)
    assert (record.talk_time, record.ended_after, record.disposition) == (20.0, 30.0, Disposition.ANSWERED)
    assert (record.sip_code, record.hung_up_by) == (200, None)
    assert (record.end_time, record.answer_time) == (START + 30.0, START + 10.0)


def test_a_call_without_answer_has_no_talk_time() -> None:
    builder = _builder()
    builder.trunk_tried("t")
    builder.trunk_ended(486)
    builder.ended(Disposition.BUSY, now=103.0, sip_code=486, q850_cause=17)
    record = builder.final(now=103.0)
    assert (record.talk_time, record.answer_time, record.trunks) == (0.0, None, (TrunkTry("t", 486),))
    assert record.start.isoformat() == "2026-01-01T00:00:00.250000+00:00"


def test_trunk_events_without_a_trunk_change_nothing() -> None:
    builder = _builder()
    builder.trunk_ended(503)
    builder.b_answered(now=101.0)
    assert builder.final(now=102.0).trunks == ()


def test_a_forgone_code_leaves_its_time_and_no_code() -> None:
    builder = _builder()
    builder.code_wrong()
    builder.code_wrong()
    builder.code_forgone(now=112.0)
    record = builder.final(now=113.0)
    assert (record.code, record.code_entered_after, record.wrong_tries) == (None, 12.0, 2)
    assert builder.wrong_tries == 2


def test_every_segment_names_the_first_one() -> None:
    first, second, third = (RecordBuilder(name, start_time=START, now=100.0) for name in ("r1", "r2", "r3"))
    second.continues(first, Continuation.FORWARD)
    third.continues(second, Continuation.TRANSFER)
    records = [builder.final(now=101.0) for builder in (first, second, third)]
    assert [record.first_record_id for record in records] == ["", "r1", "r1"]
    assert [record.continuation for record in records] == ["", "forward", "transfer"]


def test_a_kept_code_says_whether_it_unlocks_the_segment() -> None:
    for reused, means in ((True, "reused"), (False, "carried")):
        builder = _builder()
        builder.code_kept(CODE, reused=reused)
        record = builder.final(now=101.0)
        assert (record.code, record.code_means, record.code_entered_after) == (CODE, means, None)


def test_code_digits_stay_out_of_repr() -> None:
    builder = _builder()
    builder.code_accepted(CODE, "info", now=103.0)
    text = repr(builder.final(now=104.0))
    assert "2263127" not in text
    assert "ACME" not in text

"""JSON of call records: strict round trip, and nothing but the documented error for anything else."""

from __future__ import annotations

import contextlib
import json
import string
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cdr.encoding import RecordFormatError, decode_record, encode_record
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
from tests.cdr.samples import START, full_record

_texts = st.text(max_size=20)
_seconds = st.floats(min_value=0, max_value=1e10, allow_nan=False)
_counts = st.integers(min_value=0, max_value=2**40)
_media = st.none() | st.builds(LegMedia, _counts, _counts, st.integers(), _seconds, _counts)
_special: dict[str, st.SearchStrategy[object]] = {
    "start_time": _seconds,
    "direction": st.sampled_from(Direction),
    "phase": st.sampled_from(RecordPhase),
    "disposition": st.sampled_from(Disposition),
    "hung_up_by": st.none() | st.sampled_from(HungUpBy),
    "code_entered_after": st.none() | _seconds,
    "answered_after": st.none() | _seconds,
    "ended_after": _seconds,
    "emergency": st.booleans(),
    "wrong_tries": _counts,
    "sip_code": st.integers(),
    "q850_cause": st.integers(),
    "code": st.none() | st.builds(UsedCode, _texts, _texts, _texts, _texts),
    "trunks": st.lists(st.builds(TrunkTry, _texts, st.integers())).map(tuple),
    "a_media": _media,
    "b_media": _media,
}
_records = st.builds(CallRecord, **{f.name: _special.get(f.name, _texts) for f in fields(CallRecord)})


@given(_records)
def test_any_record_comes_back_as_it_was(record: CallRecord) -> None:
    text = encode_record(record)
    assert "\n" not in text
    assert text.isascii()
    assert decode_record(text) == record


@given(st.text(alphabet=string.printable) | st.text().map(lambda text: '{"v":1,"record_id":"' + text))
def test_any_other_text_raises_the_documented_error_only(text: str) -> None:
    with pytest.raises(RecordFormatError):
        decode_record(text)


@given(
    st.sampled_from([f.name for f in fields(CallRecord)]),
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5),
)
def test_a_wrong_value_is_refused_or_round_trips(name: str, value: object) -> None:
    raw = {**json.loads(encode_record(full_record())), name: value}
    text = json.dumps(raw)
    with contextlib.suppress(RecordFormatError):
        record = decode_record(text)
        assert decode_record(encode_record(record)) == record


def test_defaults_are_left_out() -> None:
    assert encode_record(CallRecord("r1", START)) == f'{{"record_id":"r1","start_time":{START},"v":1}}'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"record_id":"x"}', "no version"),
        ('{"v":true,"record_id":"x","start_time":1}', "no version"),
        ('{"v":2,"record_id":"x","start_time":1}', "version 2, newer"),
        ('{"v":1,"start_time":1}', "record_id of a call record is missing"),
        ('{"v":1,"record_id":"x","start_time":1,"colour":"red"}', "unknown field"),
        ('{"v":1,"record_id":"x","start_time":NaN}', "start_time"),
        ('{"v":1,"record_id":"x","start_time":1,"disposition":"lost"}', "disposition"),
        ('{"v":1,"record_id":"x","start_time":1,"wrong_tries":-1}', "wrong_tries"),
        ('{"v":1,"record_id":"x","start_time":1,"wrong_tries":true}', "wrong_tries"),
        ('{"v":1,"record_id":"x","start_time":1,"emergency":0}', "emergency"),
        ('{"v":1,"record_id":"x","start_time":1,"code":["a","b","c"]}', "code"),
        ('{"v":1,"record_id":"x","start_time":1,"trunks":[]}', "trunks"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_what_is_wrong_is_named(text: str, says: str) -> None:
    with pytest.raises(RecordFormatError, match=says):
        decode_record(text)


def test_an_error_never_repeats_the_value() -> None:
    with pytest.raises(RecordFormatError) as caught:
        decode_record('{"v":1,"record_id":"x","start_time":1,"code":["4711"]}')
    assert "4711" not in str(caught.value)


def test_a_number_that_is_none_is_refused_when_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode_record(replace(full_record(), ended_after=float("nan")))

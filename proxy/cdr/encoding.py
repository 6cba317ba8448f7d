"""Call detail records as JSON: one object per record, versioned, with a strict round trip.

Fields that hold their default are left out, so a record of a refused call is short. Reading is strict: an
unknown version, an unknown field or a value of the wrong type is refused, because a record is money.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Callable
from dataclasses import MISSING, fields
from operator import attrgetter
from typing import TypeVar, cast

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
from proxy.errors import TollgateError

__all__ = ["VERSION", "RecordFormatError", "decode_record", "encode_record"]

VERSION = 1
"""Version of the JSON form; a reader refuses a higher one."""


class RecordFormatError(TollgateError):
    """A text is not the JSON of a call detail record; the message names the field, never its value."""


_NESTED = frozenset({"code", "trunks", "a_media", "b_media"})
_PLAIN = tuple(f.name for f in fields(CallRecord) if f.name not in _NESTED)
_DEFAULTS = tuple(f.default for f in fields(CallRecord) if f.name not in _NESTED)
_plain_values = cast("Callable[[CallRecord], tuple[object, ...]]", attrgetter(*_PLAIN))
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False, allow_nan=False).encode


def encode_record(record: CallRecord) -> str:
    """Write a record as one line of ASCII JSON. Raises ValueError when a number is not finite."""
    out: dict[str, object] = {
        name: value
        for name, value, default in zip(_PLAIN, _plain_values(record), _DEFAULTS, strict=True)
        if value != default
    }
    out["v"] = VERSION
    if (code := record.code) is not None:
        out["code"] = [code.form, code.dialled, code.key, code.description]
    if record.trunks:
        out["trunks"] = [[trunk.trunk, trunk.sip_code] for trunk in record.trunks]
    if record.a_media is not None:
        out["a_media"] = _media_row(record.a_media)
    if record.b_media is not None:
        out["b_media"] = _media_row(record.b_media)
    return _encode(out)


def _media_row(media: LegMedia) -> list[float]:
    return [
        media.packets_received,
        media.packets_sent,
        media.packets_lost,
        media.jitter_ms,
        media.packets_discarded,
    ]


def decode_record(text: str) -> CallRecord:
    """Read what `encode_record` wrote. Raises `RecordFormatError` for anything else."""
    try:
        raw: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordFormatError("a call record is not JSON") from error
    if not isinstance(raw, dict):
        raise RecordFormatError("a call record is not a JSON object")
    version = raw.pop("v", None)
    if type(version) is not int or version < 1:
        raise RecordFormatError("a call record has no version")
    if version > VERSION:
        raise RecordFormatError(f"a call record has version {version}, newer than {VERSION}")
    values: dict[str, object] = {}
    for name, value in raw.items():
        reader = _READERS.get(name)
        if reader is None:
            raise RecordFormatError("a call record has an unknown field")
        try:
            values[name] = reader(value)
        except (TypeError, ValueError) as error:
            raise RecordFormatError(f"field {name} of a call record has a wrong value") from error
    for name in _REQUIRED:
        if name not in values:
            raise RecordFormatError(f"field {name} of a call record is missing")
    make = cast("Callable[..., CallRecord]", CallRecord)
    return make(**values)


def _text(value: object) -> str:
    if type(value) is not str:
        raise TypeError
    return value


def _integer(value: object) -> int:
    if type(value) is not int:
        raise TypeError
    return value


def _count(value: object) -> int:
    if (number := _integer(value)) < 0:
        raise ValueError
    return number


def _truth(value: object) -> bool:
    if type(value) is not bool:
        raise TypeError
    return value


def _seconds(value: object) -> float:
    if type(value) is not float and type(value) is not int:
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


_Member = TypeVar("_Member", bound=enum.StrEnum)


def _member(members: type[_Member]) -> Callable[[object], _Member]:
    def read(value: object) -> _Member:
        return members(_text(value))

    return read


def _row(value: object, length: int) -> list[object]:
    if not isinstance(value, list) or len(value) != length:
        raise TypeError
    return value


def _code(value: object) -> UsedCode:
    form, dialled, key, description = _row(value, 4)
    return UsedCode(_text(form), _text(dialled), _text(key), _text(description))


def _trunks(value: object) -> tuple[TrunkTry, ...]:
    if not isinstance(value, list) or not value:
        raise TypeError
    rows = [_row(item, 2) for item in value]
    return tuple(TrunkTry(_text(name), _integer(status)) for name, status in rows)


def _media(value: object) -> LegMedia:
    received, sent, lost, jitter, discarded = _row(value, 5)
    # Lost may be negative: duplicates count against it (RFC 3550 §6.4.1).
    return LegMedia(_count(received), _count(sent), _integer(lost), _seconds(jitter), _count(discarded))


_READERS: dict[str, Callable[[object], object]] = {
    "direction": _member(Direction),
    "phase": _member(RecordPhase),
    "disposition": _member(Disposition),
    "hung_up_by": _member(HungUpBy),
    "start_time": _seconds,
    "code_entered_after": _seconds,
    "answered_after": _seconds,
    "ended_after": _seconds,
    "emergency": _truth,
    "wrong_tries": _count,
    "sip_code": _integer,
    "q850_cause": _integer,
    "code": _code,
    "trunks": _trunks,
    "a_media": _media,
    "b_media": _media,
}
_READERS.update({name: _text for name in _PLAIN if name not in _READERS})
_REQUIRED = tuple(f.name for f in fields(CallRecord) if f.default is MISSING)

"""A user group as a form sends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from starlette.datastructures import FormData

from proxy.errors import ConfigurationError
from proxy.policy import (
    ALL_CLASSES,
    CallClass,
    CallLimits,
    ClassOfService,
    CodeCollection,
    NumberPattern,
    Treatment,
    UserGroup,
    parse_patterns,
)
from proxy.policy.patterns import refuse_empty
from proxy.portal.code_form import text_of
from proxy.portal.texts import Texts

__all__ = [
    "LIMITS",
    "PRESETS",
    "TREATMENTS",
    "Fields",
    "Preset",
    "fields_from",
    "fields_of",
    "group_from",
    "with_preset",
]

Fields = Mapping[str, str | list[str]]

TREATMENTS = {
    "": None,
    "allow": Treatment.ALLOW,
    "optional": Treatment.OPTIONAL_CODE,
    "required": Treatment.REQUIRED_CODE,
    "block": Treatment.BLOCK,
}
"""What a cell of the matrix may say; "" is what the settings above it give."""

_COUNTS = ("tries", "min_length", "max_length")
LIMITS = tuple(field.name for field in fields(CallLimits))
"""What the calls of a group may come to; empty or 0: no limit."""
_TIMES = ("first_digit", "inter_digit", "whole_entry")
_PATTERNS = ("restricted", "permitted", "unlock_restricted", "unlock_permitted")
_MOST_PATTERNS = 500


@dataclass(frozen=True, slots=True)
class Preset:
    """A usual set of rules, to begin with."""

    free: frozenset[CallClass]
    collection: CodeCollection
    unlock: frozenset[CallClass]


_INSIDE = frozenset({CallClass.INTERNAL})
_FREE = _INSIDE | {CallClass.TOLL_FREE}
_COUNTRY = _FREE | {CallClass.LOCAL, CallClass.NATIONAL, CallClass.MOBILE}

PRESETS = {
    "inside": Preset(_INSIDE, CodeCollection.OFF, frozenset()),
    "country": Preset(_COUNTRY, CodeCollection.OFF, frozenset()),
    "abroad": Preset(_COUNTRY, CodeCollection.REQUIRED, _COUNTRY | {CallClass.INTERNATIONAL}),
    "client": Preset(_FREE, CodeCollection.REQUIRED, ALL_CLASSES - {CallClass.PREMIUM}),
    "ask": Preset(_FREE, CodeCollection.OPTIONAL, ALL_CLASSES - {CallClass.PREMIUM}),
}


def fields_of(group: UserGroup) -> dict[str, str | list[str]]:
    """Return what stands in the form of a group."""
    spelled = {treatment: name for name, treatment in TREATMENTS.items()}
    cells = {_cell(call_class): spelled[group.edited.get(call_class)] for call_class in CallClass}
    return {
        "name": group.name,
        "collection": group.collection.value,
        "free": sorted(group.permissions.classes),
        "unlock": sorted(group.unlock.classes),
        **{name: "\n".join(map(str, patterns)) for name, patterns in _patterns_of(group).items()},
        **{name: str(getattr(group, name)) for name in _COUNTS},
        **{name: str(getattr(group.limits, name) or "") for name in LIMITS},
        **{name: f"{getattr(group, name):g}" for name in _TIMES},
        "fixed_length": "" if group.fixed_length is None else str(group.fixed_length),
        **cells,
    }


def fields_from(form: FormData) -> dict[str, str | list[str]]:
    """Return the fields as they were sent."""
    cells = [_cell(call_class) for call_class in CallClass]
    names = ("name", "collection", *_PATTERNS, *_COUNTS, *LIMITS, *_TIMES, "fixed_length", *cells)
    found: dict[str, str | list[str]] = {name: text_of(form, name).strip() for name in names}
    for name in ("free", "unlock"):
        found[name] = [value for value in form.getlist(name) if isinstance(value, str)]
    return found


def with_preset(fields: Fields, preset: Preset) -> dict[str, str | list[str]]:
    """Return the fields with a preset's rules; name, timers and patterns stay as they are."""
    return {
        **fields,
        "collection": preset.collection.value,
        "free": sorted(preset.free),
        "unlock": sorted(preset.unlock),
        **{_cell(call_class): "" for call_class in CallClass},
    }


def group_from(fields: Fields, old: UserGroup | None, texts: Texts) -> UserGroup:
    """Return the group. Raises `ConfigurationError` that says what is wrong."""
    lists = {name: _patterns(fields, name, texts) for name in _PATTERNS}
    edited = {}
    for call_class in CallClass:
        cell = _text(fields, _cell(call_class))
        if cell not in TREATMENTS:
            raise ConfigurationError(texts("groups.bad_cell"))
        if (treatment := TREATMENTS[cell]) is not None:
            edited[call_class] = treatment
    try:
        collection = CodeCollection(_text(fields, "collection"))
    except ValueError:
        raise ConfigurationError(texts("groups.bad_collection")) from None
    fixed = _text(fields, "fixed_length")
    base = UserGroup(_text(fields, "name")) if old is None else old
    # Emergency calls are no choice: what is written of them stays.
    emergency = frozenset({CallClass.EMERGENCY})
    free = _classes(fields, "free", texts) - emergency | base.permissions.classes & emergency
    unlock = _classes(fields, "unlock", texts) - emergency | base.unlock.classes & emergency
    return replace(
        base,
        permissions=ClassOfService(free, lists["restricted"], lists["permitted"]),
        collection=collection,
        unlock=ClassOfService(unlock, lists["unlock_restricted"], lists["unlock_permitted"]),
        edited=edited,
        tries=_count(fields, "tries", texts),
        min_length=_count(fields, "min_length", texts),
        max_length=_count(fields, "max_length", texts),
        first_digit=_time(fields, "first_digit", texts),
        inter_digit=_time(fields, "inter_digit", texts),
        whole_entry=_time(fields, "whole_entry", texts),
        fixed_length=_count(fields, "fixed_length", texts) if fixed else None,
        limits=CallLimits(**{name: _count(fields, name, texts) for name in LIMITS if _text(fields, name)}),
    )


def _patterns_of(group: UserGroup) -> dict[str, tuple[NumberPattern, ...]]:
    return {
        "restricted": group.permissions.restricted,
        "permitted": group.permissions.permitted,
        "unlock_restricted": group.unlock.restricted,
        "unlock_permitted": group.unlock.permitted,
    }


def _cell(call_class: CallClass) -> str:
    return f"cell_{call_class.value}"


def _text(fields: Fields, name: str) -> str:
    value = fields[name]
    return value if isinstance(value, str) else ""


def _classes(fields: Fields, name: str, texts: Texts) -> frozenset[CallClass]:
    try:
        return frozenset(CallClass(value) for value in fields[name])
    except ValueError:
        raise ConfigurationError(texts("codes.bad_class")) from None


def _patterns(fields: Fields, name: str, texts: Texts) -> tuple[NumberPattern, ...]:
    written = [line.strip() for line in _text(fields, name).splitlines() if line.strip()]
    if len(written) > _MOST_PATTERNS:
        raise ConfigurationError(texts("groups.too_many", most=_MOST_PATTERNS))
    patterns = parse_patterns(written)
    for pattern in patterns:
        refuse_empty(pattern)
    return patterns


def _count(fields: Fields, name: str, texts: Texts) -> int:
    text = _text(fields, name)
    if not (text.isascii() and text.isdigit() and len(text) <= 7):
        raise ConfigurationError(texts("groups.bad_number", name=texts(f"groups.{name}")))
    return int(text)


def _time(fields: Fields, name: str, texts: Texts) -> float:
    text = _text(fields, name).replace(",", ".")
    if not (len(text) <= 8 and text.isascii() and text.replace(".", "", 1).isdigit()):
        raise ConfigurationError(texts("groups.bad_number", name=texts(f"groups.{name}")))
    return float(text)

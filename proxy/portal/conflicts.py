"""What somebody else has made of a thing, told to the one whose form was read before that."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from proxy.portal.texts import Texts

__all__ = ["Label", "Named", "what_others_made"]


@dataclass(frozen=True, slots=True)
class Named:
    """What is another when its id is, and is told by its name."""

    id: int
    name: str = field(default="", compare=False)


Value = str | bool | Named | Collection[str]


@dataclass(frozen=True, slots=True)
class Label:
    """How a field is called, and what its values begin with in the catalogue ("" for what was typed)."""

    key: str
    words: str = ""


def what_others_made(
    texts: Texts, labels: Mapping[str, Label], now: Mapping[str, Value], typed: Mapping[str, Value]
) -> str:
    """Say how the fields are now in which it differs from what was typed. The form keeps what was typed."""
    facts = [
        f"{texts(label.key)}: {_shown(texts, label, now[name])}"
        for name, label in labels.items()
        if _plain(now[name]) != _plain(typed[name])
    ]
    return texts("error.conflict", facts="; ".join(facts) or "-")


def _plain(value: Value) -> Value:
    return value if isinstance(value, str | bool | Named) else sorted(value)


def _shown(texts: Texts, label: Label, value: Value) -> str:
    if isinstance(value, bool):
        return texts("codes.yes" if value else "codes.no")
    if isinstance(value, Named):
        value = value.name
    parts = [value] if isinstance(value, str) else sorted(value)
    told = [texts(label.words + part.replace(".", "_")) if label.words and part else part for part in parts]
    return " ".join(", ".join(told).split()) or "-"

"""Texts as every database takes them, whatever octets a peer has sent."""

from __future__ import annotations

import json

__all__ = ["clean_json", "clean_text"]


def clean_text(value: str, width: int | None = None) -> str:
    """A text without NUL and lone surrogates, no longer than its column."""
    if "\0" not in value and value.isascii():
        return value if width is None or len(value) <= width else value[:width]
    return value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")[:width]


def clean_json(text: str) -> str:
    """JSON in ASCII whose texts are clean: PostgreSQL finds nothing in a document that holds one other."""
    if "\\u0000" not in text and "\\ud" not in text:
        return text
    return json.dumps(_cleaned(json.loads(text)), separators=(",", ":"))


def _cleaned(value: object) -> object:
    match value:
        case str():
            return clean_text(value)
        case list():
            return [_cleaned(item) for item in value]
        case dict():
            return {name: _cleaned(item) for name, item in value.items()}
        case _:
            return value

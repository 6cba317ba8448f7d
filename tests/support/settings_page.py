"""docs/settings.md, made from the settings: ``python -m tests.support.settings_page`` writes it."""

from __future__ import annotations

import ast
import enum
import inspect
import types
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from proxy.settings import Settings
from proxy.settings_sections import Address

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"

_HEAD = """# Settings

Every setting of the file, made from the gate's own description of them. How a file is checked and how changes
go live is in [operations.md](operations.md), examples are in `config/`. Times are in seconds. By environment
a setting is `TOLLGATE_` and its path with `__` between the parts: `TOLLGATE_SIP__USER_AGENT`.
"""
_TYPES = {
    str: "text",
    bool: "true, false",
    int: "whole number",
    float: "number",
    SecretStr: "text (secret)",
    Address: "address such as `udp:192.0.2.1:5060`",
    IPv4Network: "address or network",
}


def page() -> str:
    """Return the whole page."""
    return _HEAD + "".join(_tables("", Settings))


def undocumented() -> list[str]:
    """Return the settings that nothing is said about."""
    missing: list[str] = []
    for path, model in _models("", Settings):
        said = _meanings(model)
        missing += [path + name for name in _plain(model) if not said.get(name)]
    return missing


def _models(path: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    yield path, model
    for name, field in model.model_fields.items():
        inner, several = _inner(field)
        if inner is not None:
            yield from _models(f"{path}{_key(name, field)}{'[]' if several else ''}.", inner)


def _plain(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {name: field for name, field in model.model_fields.items() if _inner(field)[0] is None}


def _tables(path: str, model: type[BaseModel]) -> Iterator[str]:
    for prefix, inner in _models(path, model):
        said = _meanings(inner)
        heading = prefix.rstrip(".").replace("[]", "") or "At the top"
        several = prefix.endswith("[].")
        note = (inspect.getdoc(inner) or "").replace("\n", " ").replace("``", "`")
        if inner is Settings:
            note = ""
        rows = [
            f"| `{_key(name, field)}` | {_kind(field)} | {_default(field)} | {said.get(name, '')} |"
            for name, field in _plain(inner).items()
        ]
        if prefix:
            heading = f"`[[{heading}]]`" if several else f"`[{heading}]`"
        yield f"\n## {heading}\n"
        if note:
            yield f"\n{note}\n"
        if rows:
            yield "\n| setting | what | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _key(name: str, field: FieldInfo) -> str:
    return field.alias or name


def _inner(field: FieldInfo) -> tuple[type[BaseModel] | None, bool]:
    """Return the table that a setting is, if it is one, and whether there may be several."""
    annotation = field.annotation
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate, get_origin(annotation) is tuple
    return None, False


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """Read what stands below each field in the source, those of the classes before it included."""
    found: dict[str, str] = {}
    for one in reversed(model.__mro__):
        if not issubclass(one, BaseModel) or one.__module__.startswith("pydantic"):
            continue
        (tree,) = ast.parse(inspect.getsource(one)).body
        assert isinstance(tree, ast.ClassDef)
        for field, below in zip(tree.body, tree.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                words = str(below.value.value).split()
                found[field.target.id] = " ".join(words).replace("``", "`").replace("|", "\\|")
    return found


def _kind(field: FieldInfo) -> str:
    said = _of(field.annotation)
    low = next((m.ge for m in field.metadata if getattr(m, "ge", None) is not None), None)
    high = next((m.le for m in field.metadata if getattr(m, "le", None) is not None), None)
    bounds = f"{'' if low is None else f'from {low:,}'}{'' if high is None else f' to {high:,}'}".strip()
    return f"{said} {bounds}".strip()


def _of(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _of(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in {Union, types.UnionType}:
        return _of(arguments[0])
    if origin is tuple:
        return f"list of {_of(arguments[0])}"
    if origin is dict:
        return f"table of {_of(arguments[0])} to {_of(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    return _TYPES[annotation]


def _default(field: FieldInfo) -> str:
    value = field.get_default()
    if value is PydanticUndefined:
        return "must be given"
    if value is None:
        return "none"
    return _shown(value)


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        return "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, enum.Enum):
        return f"`{value.value}`"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Address):
        return f"`{value}`"
    if isinstance(value, tuple):
        return ", ".join(map(_shown, value)) or "empty"
    return f"`{value}`" if value else "empty"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

"""An account code as a form sends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date

from starlette.datastructures import FormData

from proxy.errors import ConfigurationError
from proxy.policy import AccountCode, CallClass, ClassOfService, CodeOwner, NumberPlan, OwnerKind, new_code
from proxy.portal.texts import Texts

__all__ = ["CodeFields", "facts_from", "text_of", "with_facts"]

_FIRST_YEAR, _LAST_YEAR = 1971, 2999


@dataclass(frozen=True, slots=True)
class CodeFields:
    """What stands in the line of a code while it is typed. Shown again as typed when it is refused."""

    code: str = ""
    description: str = ""

    def make(self, plan: NumberPlan, template: AccountCode | None = None) -> AccountCode:
        """Return the code. Raises `ConfigurationError` that says what is wrong."""
        return new_code(self.code, self.description, plan=plan, template=template)


def text_of(form: FormData, name: str) -> str:
    """Return a field's text; "" when it is not there, or a file."""
    value = form.get(name)
    return value if isinstance(value, str) else ""


def facts_from(form: FormData) -> dict[str, str | list[str]]:
    """Return the side panel's fields as they were sent."""
    names = ("enabled", "owner", "owner_name", "valid_from", "valid_until", "narrowed", "max_uses")
    facts: dict[str, str | list[str]] = {name: text_of(form, name).strip() for name in names}
    facts["classes"] = [value for value in form.getlist("classes") if isinstance(value, str)]
    return facts


def with_facts(
    code: AccountCode, facts: Mapping[str, str | list[str]], plan: NumberPlan, texts: Texts
) -> AccountCode:
    """Return a code with the side panel's facts. Raises `ConfigurationError` that says what is wrong."""

    def text(name: str) -> str:
        value = facts[name]
        return value if isinstance(value, str) else ""

    service = None
    if text("narrowed"):
        chosen = frozenset(_class(name, texts) for name in facts["classes"])
        old = code.class_of_service
        service = ClassOfService(chosen) if old is None else replace(old, classes=chosen)
    template = replace(
        code,
        enabled=bool(text("enabled")),
        owner=_owner(text("owner"), text("owner_name"), texts),
        valid_from=_date(text("valid_from"), texts),
        valid_until=_date(text("valid_until"), texts),
        class_of_service=service,
        max_uses=_number(text("max_uses"), texts),
    )
    return new_code(code.form, code.description, plan=plan, template=template)


def _owner(kind: str, name: str, texts: Texts) -> CodeOwner:
    if kind == OwnerKind.ACCOUNT:
        return CodeOwner()
    if kind not in {OwnerKind.GROUP, OwnerKind.USER}:
        raise ConfigurationError(texts("codes.bad_owner"))
    if not name:
        raise ConfigurationError(texts("codes.owner_missing"))
    return CodeOwner(OwnerKind(kind), name)


def _date(text: str, texts: Texts) -> date | None:
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or not _FIRST_YEAR <= day.year <= _LAST_YEAR:
        raise ConfigurationError(texts("codes.bad_date", first=_FIRST_YEAR, last=_LAST_YEAR))
    return day


def _number(text: str, texts: Texts) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise ConfigurationError(texts("codes.bad_uses"))
    return int(text)


def _class(name: str, texts: Texts) -> CallClass:
    try:
        return CallClass(name)
    except ValueError:
        raise ConfigurationError(texts("codes.bad_class")) from None

"""A schedule of reports by e-mail as its form sends it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from starlette.datastructures import FormData

from proxy.errors import ConfigurationError
from proxy.portal.code_form import text_of
from proxy.portal.texts import LANGUAGES, Texts
from proxy.store import MAILED, MailedCalls, ReportBy, ReportFormat, ReportSchedule, Rhythm, Store
from proxy.store.schedules import mailed

__all__ = ["FIELDS", "WEEKDAYS", "Fields", "fields_from", "fields_of", "new_fields", "schedule_from"]

Fields = Mapping[str, str]

FIELDS = (
    "report",
    "code",
    "code_id",
    "user",
    "group",
    "call_class",
    "format",
    "language",
    "rhythm",
    "weekday",
    "monthday",
    "time",
    "recipients",
    "enabled",
)
WEEKDAYS = range(1, 8)
_LONGEST = 6_000
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])(?::00)?")


@dataclass(frozen=True, slots=True)
class _Choice:
    """A field that holds one of some words."""

    name: str
    words: frozenset[str]


_CHOICES = (
    _Choice("report", frozenset(MAILED)),
    _Choice("format", frozenset(ReportFormat)),
    _Choice("rhythm", frozenset(Rhythm)),
    _Choice("language", frozenset(LANGUAGES)),
)


def fields_from(form: FormData) -> Fields:
    """Return the fields as they were sent."""
    return {name: text_of(form, name).strip()[:_LONGEST] for name in FIELDS}


def new_fields(language: str, *, code_id: int = 0) -> Fields:
    """Return the fields of a form that nobody has filled in yet."""
    report = MailedCalls.STATEMENT if code_id else ReportBy.CODE
    return dict.fromkeys(FIELDS, "") | {
        "report": report.value,
        "code_id": str(code_id or ""),
        "format": (ReportFormat.HTML if code_id else ReportFormat.CSV).value,
        "language": language,
        "rhythm": Rhythm.MONTHLY.value,
        "weekday": "1",
        "monthday": "1",
        "time": "06:00",
        "enabled": "yes",
    }


def fields_of(schedule: ReportSchedule) -> Fields:
    """Return the fields of a schedule that is there."""
    plain = ("report", "user", "group", "call_class", "format", "language", "rhythm")
    return dict.fromkeys(FIELDS, "") | {
        **{name: str(getattr(schedule, name)) for name in plain},
        "code_id": str(schedule.code_id or ""),
        "weekday": str(schedule.day if schedule.rhythm is Rhythm.WEEKLY else 1),
        "monthday": str(schedule.day if schedule.rhythm is Rhythm.MONTHLY else 1),
        "time": f"{schedule.minute // 60:02d}:{schedule.minute % 60:02d}",
        "recipients": "\n".join(schedule.recipients),
        "enabled": "yes" if schedule.enabled else "",
    }


def schedule_from(
    fields: Fields, old: ReportSchedule | None, owner: int, store: Store, texts: Texts, *, sees_codes: bool
) -> ReportSchedule:
    """Return the schedule. Raises `ConfigurationError` that says what is wrong. Blocks."""
    for choice in _CHOICES:
        if fields[choice.name] not in choice.words:
            raise ConfigurationError(texts("mailed.bad_choice", name=choice.name))
    report, rhythm = mailed(fields["report"]), Rhythm(fields["rhythm"])
    clock = _TIME.fullmatch(fields["time"])
    if clock is None:
        raise ConfigurationError(texts("mailed.bad_time"))
    filtered = report is MailedCalls.USAGE
    made = ReportSchedule(
        account_id=owner,
        report=report,
        rhythm=rhythm,
        recipients=tuple(dict.fromkeys(re.split(r"[\s,;]+", fields["recipients"].strip(" \t\r\n,;")))),
        day=_day(fields, rhythm, texts),
        minute=int(clock[1]) * 60 + int(clock[2]),
        format=ReportFormat(fields["format"]),
        code_id=_code(fields, store, texts, sees_codes=sees_codes) if report is MailedCalls.STATEMENT else 0,
        # What stands in a field that the report has no use for was left there when the report was changed.
        user=fields["user"] if filtered else "",
        group=fields["group"] if filtered else "",
        call_class=fields["call_class"] if filtered else "",
        language=fields["language"],
        enabled=bool(fields["enabled"]),
    )
    return made if old is None else replace(made, id=old.id)


def _day(fields: Fields, rhythm: Rhythm, texts: Texts) -> int:
    if rhythm is Rhythm.DAILY:
        return 0
    text = fields["weekday" if rhythm is Rhythm.WEEKLY else "monthday"]
    if not (text.isascii() and text.isdigit() and len(text) <= 2):
        raise ConfigurationError(texts("mailed.bad_time"))
    return int(text)


def _code(fields: Fields, store: Store, texts: Texts, *, sees_codes: bool) -> int:
    """The id of the code that a statement is of: typed by those who see codes, else as its page named it."""
    typed, named = fields["code"], fields["code_id"]
    if typed and sees_codes:
        found = store.codes.find(typed)
        if found is None:
            raise ConfigurationError(texts("mailed.no_code"))
        return found.id
    if named.isascii() and named.isdigit() and len(named) <= 15 and store.codes.by_id(int(named)) is not None:
        return int(named)
    raise ConfigurationError(texts("mailed.no_code"))

"""``tollgate usage``: the usage log, listed and exported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.commands.common import (
    ConfigOption,
    ReplaceOption,
    example,
    open_store,
    parse_date,
    read_settings,
    say,
    show_table,
    write_file,
)
from proxy.errors import ConfigurationError

if TYPE_CHECKING:
    from proxy.cdr.formats import ExportFormat
    from proxy.cdr.record import CallRecord
    from proxy.store.usage import UsageFilter

app = typer.Typer(help="The usage log: one record per call.", no_args_is_help=True)

Since = Annotated[str | None, typer.Option("--from", metavar="DATE", help="First day (local time).")]
Until = Annotated[str | None, typer.Option("--until", metavar="DATE", help="Last day.")]
OfUser = Annotated[str, typer.Option("--user", help="Only calls of and to this extension.")]
OfGroup = Annotated[str, typer.Option("--group", help="Only calls of this user group.")]
OfCode = Annotated[str, typer.Option("--code", help="Only calls with this account code, in any form.")]
OfNumber = Annotated[str, typer.Option("--number", help="Part of the number called or calling.")]
Result = Annotated[str, typer.Option("--result", help="Only calls that ended so, e.g. answered or blocked.")]
Format = Annotated[str, typer.Option("--format", help="usage-log, asterisk, freeswitch or jsonl.")]


@app.command(
    "list",
    epilog=example("tollgate usage list --from 2026-07-01 --user 204", "tollgate usage list --format jsonl"),
)
def list_(
    *,
    since: Since = None,
    until: Until = None,
    user: OfUser = "",
    group: OfGroup = "",
    code: OfCode = "",
    number: OfNumber = "",
    result: Result = "",
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="At most so many, newest first.")] = 50,
    form: Format = "",
    config: ConfigOption = None,
) -> None:
    """List the latest calls, as a table or in an export format."""
    chosen = _parse_format(form) if form else None
    wanted = _wanted((since, until), (user, group, code), number, result, newest_first=True)
    settings = read_settings(config)
    with open_store(settings) as store:
        records = list(islice(store.usage.stream(wanted), limit))
    if chosen is not None:
        write_file(Path("-"), _lines(chosen, records), settings)
        return
    columns = ("Start", "Talk", "Caller", "User", "Dialled", "Class", "Treatment", "Code", "Result")
    show_table(columns, [_row(record) for record in records], empty="no calls")


@app.command(
    epilog=example(
        "tollgate usage export july.csv --from 2026-07-01 --until 2026-07-31",
        "tollgate usage export - --format asterisk",
    )
)
def export(
    file: Annotated[Path, typer.Argument(help="File to write; - for standard output.")] = Path("-"),
    *,
    form: Format = "usage-log",
    since: Since = None,
    until: Until = None,
    user: OfUser = "",
    group: OfGroup = "",
    code: OfCode = "",
    number: OfNumber = "",
    result: Result = "",
    corrections: Annotated[
        bool, typer.Option("--corrections", help="Add the recorded code and who corrected it (usage-log).")
    ] = False,
    replace: ReplaceOption = False,
    config: ConfigOption = None,
) -> None:
    """Export calls, oldest first."""
    from proxy.cdr.formats import ExportFormat
    from proxy.cdr.usage_log import usage_log_lines

    chosen = _parse_format(form)
    if corrections and chosen is not ExportFormat.USAGE_LOG:
        raise ConfigurationError("--corrections: only the usage-log format has columns for them")
    wanted = _wanted((since, until), (user, group, code), number, result, newest_first=False)
    settings = read_settings(config)
    with open_store(settings) as store:
        count = store.usage.count(wanted)
        if chosen is ExportFormat.USAGE_LOG:
            facts = store.usage.facts(wanted, corrections=corrections)
            lines = usage_log_lines(facts, zone=store.usage.zone, corrections=corrections)
        else:
            lines = _lines(chosen, store.usage.stream(wanted))
        write_file(file, lines, settings, replace=replace)
    if str(file) != "-":
        say(f"{file}: {count} calls")


def _lines(form: ExportFormat, records: Iterable[CallRecord]) -> Iterator[str]:
    from proxy.cdr.formats import export_lines
    from proxy.store.days import site_zone

    return export_lines(form, records, zone=site_zone())


def _parse_format(text: str) -> ExportFormat:
    from proxy.cdr.formats import ExportFormat

    try:
        return ExportFormat(text.lower())
    except ValueError:
        message = f"--format: {text!r} is not known; write {', '.join(ExportFormat)}"
        raise ConfigurationError(message) from None


def _wanted(
    days: tuple[str | None, str | None],
    who: tuple[str, str, str],
    number: str,
    result: str,
    *,
    newest_first: bool,
) -> UsageFilter:
    from proxy.cdr.record import Disposition
    from proxy.policy import dial_form
    from proxy.store.usage import UsageFilter

    first, last = parse_date(days[0], "--from"), parse_date(days[1], "--until")
    if first is not None and last is not None and first > last:
        raise ConfigurationError("--from lies after --until")
    user, group, code = who
    disposition: Disposition | None = None
    if result:
        try:
            disposition = Disposition(result.lower().replace("-", "_").replace(" ", "_"))
        except ValueError:
            message = f"--result: {result!r} is not known; write one of {', '.join(Disposition)}"
            raise ConfigurationError(message) from None
    return UsageFilter(
        since=None if first is None else _midnight(first),
        until=None if last is None else _midnight(last + timedelta(days=1)),
        user=user,
        group=group,
        code_key=dial_form(code) if code else "",
        disposition=disposition,
        number=number,
        newest_first=newest_first,
    )


def _midnight(day: date) -> float:
    """Return the moment at which a local day begins, UTC seconds since the epoch."""
    return datetime.combine(day, time()).astimezone().timestamp()


def _row(record: CallRecord) -> tuple[str, ...]:
    start = datetime.fromtimestamp(record.start_time).astimezone()
    seconds = round(record.talk_time)
    return (
        f"{start:%Y-%m-%d %H:%M:%S}",
        f"{seconds // 60}:{seconds % 60:02d}",
        record.caller_number,
        record.user,
        record.dialled_number,
        record.call_class,
        record.treatment,
        "" if record.code is None else record.code.form,
        record.disposition.value,
    )

"""What the commands share: settings, the store, tables, questions, and how arguments are read."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.errors import ConfigurationError
from proxy.whole_files import whole_file

if TYPE_CHECKING:
    from proxy.policy import CallClass, ClassOfService, NumberPlan
    from proxy.settings import Settings
    from proxy.store.audit import Actor
    from proxy.store.codes import Progress
    from proxy.store.store import Store

__all__ = [
    "ConfigOption",
    "ReplaceOption",
    "YesOption",
    "actor",
    "config_before_command",
    "confirm_deletion",
    "example",
    "open_store",
    "parse_classes",
    "parse_date",
    "plan_of",
    "portal_command",
    "progress_bar",
    "read_settings",
    "say",
    "service_of",
    "show_table",
    "shown_time",
    "today",
    "warn",
    "warn_of_new_store",
    "write_file",
]

_CONFIG_HELP = "Settings file (TOML). Without one: TOLLGATE_CONFIG, else the defaults."

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help=_CONFIG_HELP),
]
_FIRST_YEAR, _LAST_YEAR = 1971, 2999
"""Years whose days have a time since 1970 in every time zone."""
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
ReplaceOption = Annotated[bool, typer.Option("--replace", help="Overwrite a file that is there.")]


config_before_command: ContextVar[Path | None] = ContextVar("config_before_command", default=None)
"""The ``--config`` that stood before the command, if any."""


def example(*lines: str) -> str:
    """Return the epilog of a command's help: its examples, line by line."""
    return "\b\n" + "\n".join(
        ("Examples:" if len(lines) > 1 else "Example:", *(f"  {line}" for line in lines))
    )


def read_settings(config: Path | None) -> Settings:
    """Load the settings: the command's own ``--config``, else the one before the command, else the file that
    the environment names, else none.
    """
    from proxy.settings import load_settings

    return load_settings(_settings_file(config))


def _settings_file(config: Path | None) -> Path | None:
    # Not by the option's ``envvar``: the environment would then beat the option before the command.
    named = os.environ.get("TOLLGATE_CONFIG")
    return config or config_before_command.get() or (Path(named) if named else None)


def portal_command(config: Path | None) -> list[str]:
    """Return the command that runs the portal beside a gate, with the settings that `read_settings` gives."""
    file = _settings_file(config)
    named = [] if file is None else ["--config", str(file)]
    return [sys.executable, "-m", "proxy", "portal", "--with-gate", *named]


def open_store(settings: Settings, *, make: bool = False) -> Store:
    """Open the store that the settings name, for whoever runs the command: a context manager.

    Only a command that adds something ``make``s one; raises ConfigurationError for others where none is.
    """
    from proxy.store.store import Store

    if make:
        warn_of_new_store(settings)
    elif (file := _missing_store(settings)) is not None:
        message = f"there is no store at {file}: give --config or TOLLGATE_STORE__URL"
        raise ConfigurationError(message)
    return Store(settings.store.url, actor=actor())


def warn_of_new_store(settings: Settings) -> None:
    """Say that an empty store is made: most often right, else it was a relative path and the wrong folder."""
    file = _missing_store(settings)
    if file is not None:
        warn(f"there was no store at {file}; an empty one is made")


def _missing_store(settings: Settings) -> Path | None:
    """Return the whole path of an SQLite store that is not there."""
    file = settings.store.sqlite_path
    try:
        return None if file is None or file.exists() else file.absolute()
    except OSError:
        # Whoever opens it says what is wrong; a gate takes emergency calls all the same.
        return None


def actor() -> Actor:
    """Return who runs the command, as the audit log names him."""
    from proxy.store.audit import Actor

    return Actor(f"cli:{_system_user()}")


def _system_user() -> str:
    """Return the name of the system's user, as the system knows it and not as the environment says."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def plan_of(settings: Settings) -> NumberPlan:
    """Return the number plan of the settings."""
    from proxy.composition import number_plan

    return number_plan(settings)


def say(text: str) -> None:
    """Print one line of result."""
    typer.echo(text)


def warn(text: str) -> None:
    """Print one line of warning beside the result."""
    typer.echo(f"tollgate: warning: {text}", err=True)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """Print a table on a terminal, tab-separated lines elsewhere; no cell can send escapes to a terminal."""
    clean = [[_printable(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in (columns, *clean):
            say("\t".join(row))
        return
    if not clean:
        say(empty)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in clean:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def shown_time(at: float) -> str:
    """Return a moment (UTC seconds since the epoch) in local time."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _printable(cell: str) -> str:
    return cell if cell.isprintable() else "".join(c if c.isprintable() else "?" for c in cell)


def confirm_deletion(what: str, *, yes: bool) -> None:
    """Ask Yes/No before something is deleted; raises ConfigurationError unless the answer is Yes."""
    if yes:
        return
    typer.echo(f"Delete {what}? Yes/No: ", nl=False, err=True)
    answer = sys.stdin.readline().strip().lower()
    if not sys.stdin.isatty():
        typer.echo("", err=True)  # where nobody has typed the end of the line
    if answer not in {"yes", "y"}:
        raise ConfigurationError("nothing was deleted (answer Yes, or give --yes)")


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Progress | None]:
    """Show how far a long work is, on a terminal; elsewhere there is nothing to call."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def write_file(path: Path, lines: Iterable[str], settings: Settings, *, replace: bool = False) -> int:
    """Write lines to a file (``-``: standard output), whole or not at all, mode 0600; return how many.

    One that is there stays as it is unless ``replace``, the store always. Pipes and devices such as /dev/null
    are written into.
    """
    if str(path) == "-":
        count = _write(sys.stdout.write, lines)
        sys.stdout.flush()
        return count
    try:
        if (descriptor := _opened_stream(path)) is not None:
            with open(descriptor, "wb") as stream:
                return _write(lambda line: stream.write(line.encode()), lines)
        with whole_file(path, replace=replace, store=settings.store.sqlite_path) as (file, _):
            return _write(lambda line: file.write(line.encode()), lines)
    except OSError as error:
        message = f"{path}: can't be written: {error.strerror}"
        raise ConfigurationError(message) from None


def _opened_stream(path: Path) -> int | None:
    """Open what passes on what is written, and can be no file in anybody's place: a pipe or a device."""
    try:
        if not _is_stream(path.stat()):
            return None
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    if not _is_stream(os.fstat(descriptor)):
        # Somebody has put a file, or a link to one, there meanwhile.
        os.close(descriptor)
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
    return descriptor


def _is_stream(status: os.stat_result) -> bool:
    return stat.S_ISFIFO(status.st_mode) or stat.S_ISCHR(status.st_mode)


def _write(write: Callable[[str], object], lines: Iterable[str]) -> int:
    count = 0
    for line in lines:
        write(line)
        count += 1
    return count


def today() -> date:
    """Return the site's day, as account codes are held against it."""
    return datetime.now().astimezone().date()


def parse_date(text: str | None, option: str) -> date | None:
    """Return the date of an option (``2026-07-31``); an empty text means none."""
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        message = f"{option}: {text!r} is no date; write it like {today()}"
        raise ConfigurationError(message) from None
    if not _FIRST_YEAR <= day.year <= _LAST_YEAR:
        message = f"{option}: {text} is too far away; write a year from {_FIRST_YEAR} to {_LAST_YEAR}"
        raise ConfigurationError(message)
    return day


def parse_classes(text: str, option: str) -> frozenset[CallClass]:
    """Return the call classes of a comma-separated list; ``all`` and ``none`` are lists too."""
    from proxy.policy import ALL_CLASSES, CallClass

    names = [name.strip().lower().replace("-", "_") for name in text.split(",") if name.strip()]
    if names == ["all"]:
        return ALL_CLASSES
    if names == ["none"]:
        return frozenset()
    known = {member.value: member for member in CallClass}
    if not names:
        message = f"{option}: name call classes, all or none; there are {', '.join(known)}"
        raise ConfigurationError(message)
    for name in names:
        if name not in known:
            message = f"{option}: there is no call class {name!r}; there are {', '.join(known)}"
            raise ConfigurationError(message)
    return frozenset(known[name] for name in names)


def service_of(
    base: ClassOfService,
    classes: str | None,
    restricted: Sequence[str] | None,
    permitted: Sequence[str] | None,
    option: str,
) -> ClassOfService:
    """Return a class of service with what was given changed; a single empty pattern empties its list."""
    from proxy.policy import ClassOfService, parse_patterns

    def patterns(texts: Sequence[str]) -> Sequence[str]:
        return () if list(texts) == [""] else texts

    return ClassOfService(
        base.classes if classes is None else parse_classes(classes, option),
        parse_patterns(patterns(restricted)) if restricted else base.restricted,
        parse_patterns(patterns(permitted)) if permitted else base.permitted,
    )

"""``tollgate callers``: who may enter no account codes for a while, and letting them again."""

from __future__ import annotations

from typing import Annotated

import typer

from proxy.commands.common import (
    ConfigOption,
    example,
    open_store,
    read_settings,
    say,
    show_table,
    shown_time,
)
from proxy.errors import ConfigurationError

app = typer.Typer(help="Callers who are locked after too many wrong account codes.", no_args_is_help=True)

Callers = Annotated[
    list[str] | None,
    typer.Argument(metavar="[CALLER]...", help='As `tollgate callers list` shows them, e.g. "user 204".'),
]


@app.command("list", epilog=example("tollgate callers list"))
def list_(config: ConfigOption = None) -> None:
    """List the callers who are locked, the newest first."""
    with open_store(read_settings(config)) as store:
        locks = store.locks.all()
    rows = [
        (
            lock.caller,
            shown_time(lock.since),
            "unlocked by hand" if lock.until is None else shown_time(lock.until),
            str(lock.wrong),
        )
        for lock in locks
    ]
    show_table(("Caller", "Locked", "Until", "Wrong codes"), rows, empty="nobody is locked")


@app.command(epilog=example('tollgate callers unlock "user 204"', "tollgate callers unlock --all"))
def unlock(
    callers: Callers = None,
    *,
    everybody: Annotated[bool, typer.Option("--all", help="All who are locked.")] = False,
    config: ConfigOption = None,
) -> None:
    """Let callers enter account codes again.

    It is live in a running gate within a second.
    """
    if everybody is bool(callers):
        raise ConfigurationError("name the callers, or give --all")
    with open_store(read_settings(config)) as store:
        locked = [lock.caller for lock in store.locks.all()]
        names = locked if everybody else list(dict.fromkeys(callers or ()))
        if names:
            store.locks.unlock(names)
    for name in names:
        say(f"{name} may enter codes again")
    if not names:
        say("nobody is locked")

"""The command ``tollgate``: one program for the gate, its policy, its usage log and its settings.

Bad input ends with one clear line on standard error and a status other than 0, never with a traceback: 1 when
the work could not be done, 2 when the command line itself is wrong, 130 when it was interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version as distribution_version
from typing import Annotated

import typer
from typer.main import get_command

from proxy.commands import accounts, audit, backup, callers, codes, gate, groups, portal, tokens, usage, users
from proxy.commands.advice import with_advice
from proxy.commands.common import ConfigOption, config_before_command
from proxy.errors import TollgateError

__all__ = ["main", "run"]

_INTERRUPTED = 130

app = typer.Typer(
    name="tollgate",
    help="A SIP back-to-back user agent that asks for an account code before an outside call goes through.",
    epilog="Every setting can be given by environment too: TOLLGATE_STORE__URL=sqlite:///tollgate.db",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"tollgate {distribution_version('tollgate')}")
        raise typer.Exit


@app.callback()
def _before_command(
    *,
    config: ConfigOption = None,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and end.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    config_before_command.set(config)


for _name, _command in (
    ("serve", gate.serve),
    ("check-config", gate.check_config),
    ("demo", gate.demo),
    ("calls", gate.calls),
    ("status", gate.status),
    ("reload", gate.reload),
    ("hangup", gate.hangup),
    ("explain", gate.explain),
):
    app.command(_name, epilog=gate.EPILOGS[_name])(_command)
app.command("backup", epilog=backup.EPILOGS["backup"])(backup.backup)
app.command("restore", epilog=backup.EPILOGS["restore"])(backup.restore)
app.command("portal", epilog=portal.EPILOG)(portal.portal)
app.add_typer(codes.app, name="codes")
app.add_typer(groups.app, name="groups")
app.add_typer(users.app, name="users")
app.add_typer(callers.app, name="callers")
app.add_typer(usage.app, name="usage")
app.add_typer(audit.app, name="audit")
app.add_typer(tokens.app, name="tokens")
app.add_typer(accounts.app, name="accounts")


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: the process's own) and return its exit status."""
    if sys.stdout is None:
        _complain("standard output is closed")
        return 1
    try:
        status = get_command(app).main(
            args=None if arguments is None else list(arguments), prog_name="tollgate", standalone_mode=False
        )
    except typer.TyperException as error:
        _complain_of_usage(error)
        return error.exit_code
    except TollgateError as error:
        _complain(with_advice(str(error)))
        return 1
    except OSError as error:
        _give_up_output(error)
        return 1
    except typer.Abort:
        status = _INTERRUPTED
    if status == _INTERRUPTED:
        _complain("interrupted")
    return status if isinstance(status, int) else 0


def _complain_of_usage(error: typer.TyperException) -> None:
    message = error.format_message()
    if message.startswith("Usage:"):
        # A command group without its command: what it has is the answer.
        typer.echo(message, err=True)
        return
    path = getattr(getattr(error, "ctx", None), "command_path", "")
    hint = f" (see {path} --help)" if path else ""
    _complain(" ".join(message.split()) + hint)


def _give_up_output(error: OSError) -> None:
    """Say what the system refused, and write nothing more: the end of the process would try again."""
    if error.errno != errno.EPIPE:
        where = error.filename or "the output"
        _complain(f"{where}: {error.strerror or error}")
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())


def _complain(text: str) -> None:
    for line in text.splitlines():
        typer.echo(f"tollgate: {line}", err=True)


def main() -> None:
    """Run the command and end the process with its status."""
    sys.exit(run())

"""``tollgate portal``: the Account Portal without a gate."""

from __future__ import annotations

from typing import Annotated

import typer

from proxy.commands.common import ConfigOption, example, open_store, plan_of, read_settings, say

_BEHIND_CALLS = 10
"""Niceness beside a gate: an import shall not take the processor from its calls."""

__all__ = ["EPILOG", "portal"]

EPILOG = example("tollgate portal --config gate.toml", "tollgate portal --new-password admin")


def portal(
    *,
    new_password: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Give this account a one-time password, print it, and end."),
    ] = None,
    with_gate: Annotated[bool, typer.Option("--with-gate", hidden=True)] = False,
    config: ConfigOption = None,
) -> None:
    """Run the Account Portal until it is told to end.

    It ends by SIGTERM or Ctrl-C.

    The first start makes the account admin and prints its password, which is good for one log-in.
    """
    settings = read_settings(config)
    if new_password is not None:
        from proxy.portal.first_start import reset_password
        from proxy.portal.passwords import Passwords

        with open_store(settings) as store:
            password = reset_password(store, Passwords(), new_password)
        say(f"{new_password}: {password} (good for one log-in)")
        return
    import os

    from proxy import log
    from proxy.portal.serve import serve
    from proxy.process import prepare_limits

    log.configure(settings.log.level, settings.log.format)
    prepare_limits()
    if with_gate:
        os.nice(_BEHIND_CALLS)
    serve(settings, plan_of(settings), ends_with_input=with_gate)

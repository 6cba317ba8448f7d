"""``tollgate tokens``: which programs may ask the REST API, and for what."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.commands.common import (
    ConfigOption,
    YesOption,
    confirm_deletion,
    example,
    open_store,
    read_settings,
    say,
    show_table,
)
from proxy.errors import ConfigurationError

if TYPE_CHECKING:
    from proxy.store.sessions import ApiToken
    from proxy.store.store import Store

app = typer.Typer(help="Tokens of programs for the REST API.", no_args_is_help=True)

_DAY = 86_400

Name = Annotated[str, typer.Argument(help="Name of the program.")]


@app.command(
    epilog=example(
        "tollgate tokens add billing --scope usage:read --scope codes:read",
        "tollgate tokens add panel --scope calls:read --days 30",
    )
)
def add(
    name: Name,
    *,
    scope: Annotated[list[str], typer.Option(help="What it may do; repeatable, all for everything.")],
    days: Annotated[int, typer.Option(min=0, max=3650, help="Good for so many days; 0: for ever.")] = 365,
    config: ConfigOption = None,
) -> None:
    """Make a token and show it, this once; only its hash is stored."""
    from proxy.portal.api.scopes import GRANTABLE, unknown_scopes

    scopes = list(GRANTABLE) if scope == ["all"] else scope
    if unknown := unknown_scopes(scopes):
        message = f"--scope: there is no {unknown[0]!r}; there are {', '.join(GRANTABLE)}"
        raise ConfigurationError(message)
    now = time.time()
    with open_store(read_settings(config), make=True) as store:
        expires_at = now + days * _DAY if days else None
        secret, _ = store.tokens.add(name, scopes, now=now, expires_at=expires_at)
    say(secret)


@app.command("list", epilog=example("tollgate tokens list"))
def list_(config: ConfigOption = None) -> None:
    """List tokens, those that are over too."""
    now = time.time()
    with open_store(read_settings(config)) as store:
        tokens = store.tokens.all()
    columns = ("Name", "Scopes", "Made by", "Made", "Good until", "Last used")
    show_table(columns, [_row(token, now) for token in tokens], empty="no tokens")


@app.command(epilog=example("tollgate tokens revoke billing"))
def revoke(name: Name, *, yes: YesOption = False, config: ConfigOption = None) -> None:
    """Revoke a token: its program gets no answer any more."""
    with open_store(read_settings(config)) as store:
        token = _expect(store, name)
        confirm_deletion(f"token {name!r}", yes=yes)
        store.tokens.delete(token.id)
    say(f"token {name!r} revoked")


def _expect(store: Store, name: str) -> ApiToken:
    found = next((token for token in store.tokens.all() if token.name == name), None)
    if found is None:
        message = f"token {name!r} does not exist"
        raise ConfigurationError(message)
    return found


def _row(token: ApiToken, now: float) -> tuple[str, ...]:
    until = "for ever" if token.expires_at is None else _time(token.expires_at)
    over = token.expires_at is not None and token.expires_at <= now
    return (
        token.name,
        ", ".join(sorted(token.scopes)),
        token.created_by,
        _time(token.created_at),
        f"{until} (over)" if over else until,
        "" if token.last_used_at is None else _time(token.last_used_at),
    )


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M}"

"""``tollgate accounts``: who may log in to the portal, and as what."""

from __future__ import annotations

import time
from dataclasses import replace
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
    from proxy.store.accounts import PortalAccount, Role
    from proxy.store.store import Store

app = typer.Typer(help="Portal accounts: who may log in, and as what.", no_args_is_help=True)

_ROLES = "decision-maker, phone-manager, billing-contact or user"

Name = Annotated[str, typer.Argument(help="Name that the account logs in with, in any case.")]
Extension = Annotated[str | None, typer.Option(help="For the role user: whose calls are seen.")]
GroupsWrite = Annotated[
    bool | None,
    typer.Option("--groups-write/--no-groups-write", help="Grant a phone-manager to change groups."),
]
SeeCodes = Annotated[
    bool | None,
    typer.Option("--see-codes/--no-see-codes", help="Grant a billing-contact to see codes unmasked."),
]


@app.command(
    epilog=example(
        "tollgate accounts add anna --role phone-manager --groups-write",
        "tollgate accounts add front-desk --role user --extension 204",
    )
)
def add(
    name: Name,
    *,
    role: Annotated[str, typer.Option(help=f"What it may do: {_ROLES}.")],
    extension: Extension = None,
    groups_write: GroupsWrite = None,
    see_codes: SeeCodes = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="May not log in yet.")] = False,
    config: ConfigOption = None,
) -> None:
    """Add an account and show its password, this once.

    The password is good for one log-in.
    """
    from proxy.portal.passwords import Passwords, one_time_password
    from proxy.store.accounts import PortalAccount

    settings, password = read_settings(config), one_time_password()
    account = PortalAccount(name, _role(role), "", extension or "", must_change=True, disabled=disabled)
    account = _granted(account, groups_write=groups_write, see_codes=see_codes)
    with open_store(settings, make=True) as store:
        _refuse_unknown_user(store, account.extension)
        password_hash = Passwords().hash_now(password)
        store.accounts.add(replace(account, password_hash=password_hash), now=time.time())
    say(f"{name}: {password} (good for one log-in)")


@app.command("list", epilog=example("tollgate accounts list"))
def list_(config: ConfigOption = None) -> None:
    """List accounts: roles, grants and who has not set a password yet."""
    with open_store(read_settings(config)) as store:
        accounts = store.accounts.all()
    columns = ("Name", "Role", "Extension", "Granted", "State")
    show_table(columns, [_row(account) for account in accounts], empty="no accounts")


@app.command(
    "set",
    epilog=example(
        "tollgate accounts set anna --no-groups-write",
        "tollgate accounts set anna --role user --extension 204",
        "tollgate accounts set anna --disable",
        "tollgate accounts set anna --new-password --no-second-factor",
    ),
)
def set_(
    name: Name,
    *,
    new_name: Annotated[str | None, typer.Option(help="Name that it logs in with from now on.")] = None,
    role: Annotated[str | None, typer.Option(help=f"What it may do: {_ROLES}.")] = None,
    extension: Extension = None,
    groups_write: GroupsWrite = None,
    see_codes: SeeCodes = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="May log in, or not.")] = None,
    new_password: Annotated[
        bool, typer.Option("--new-password", help="Make a one-time password and show it, this once.")
    ] = False,
    no_second_factor: Annotated[
        bool, typer.Option("--no-second-factor", help="Ask for the password alone again.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Change what is given of an account; everything else stays.

    Its sessions end with a new password, when it is disabled, and when its role, extension or grants change.
    """
    with open_store(read_settings(config)) as store:
        account = _expect(store, name)
        new_role = account.role if role is None else _role(role)
        changed = replace(
            account,
            name=account.name if new_name is None else new_name,
            role=new_role,
            extension=_new_extension(account, new_role, extension),
            disabled=account.disabled if enabled is None else not enabled,
        )
        changed = _granted(changed, groups_write=groups_write, see_codes=see_codes)
        if changed != account:
            if changed.extension != account.extension:
                _refuse_unknown_user(store, changed.extension)
            store.accounts.change(changed, version=account.version)
            say(f"account {changed.name!r} changed")
        elif not (new_password or (no_second_factor and account.totp_secret)):
            raise ConfigurationError("nothing to change: give at least one option with another value")
        if no_second_factor and account.totp_secret:
            store.accounts.set_totp(account.id, "")
            say(f"account {changed.name!r} has no second factor any more")
        if new_password:
            from proxy.portal.first_start import reset_password
            from proxy.portal.passwords import Passwords

            password = reset_password(store, Passwords(), changed.name)
            say(f"{changed.name}: {password} (good for one log-in)")


@app.command(epilog=example("tollgate accounts delete anna"))
def delete(name: Name, *, yes: YesOption = False, config: ConfigOption = None) -> None:
    """Delete an account and end its sessions.

    The last one that can administer the portal stays.
    """
    with open_store(read_settings(config)) as store:
        account = _expect(store, name)
        confirm_deletion(f"account {account.name!r}", yes=yes)
        store.accounts.delete(account.id)
    say(f"account {account.name!r} deleted")


def _role(text: str) -> Role:
    from proxy.store.accounts import Role

    try:
        return Role(text.strip().lower().replace("-", "_"))
    except ValueError:
        message = f"--role: there is no {text!r}; write {_ROLES}"
        raise ConfigurationError(message) from None


def _new_extension(account: PortalAccount, role: Role, extension: str | None) -> str:
    """Return the extension: the old one does not outlive the role that has a use for it."""
    from proxy.store.accounts import Role

    kept = account.extension if role is Role.USER else ""
    return kept if extension is None else extension


def _granted(account: PortalAccount, *, groups_write: bool | None, see_codes: bool | None) -> PortalAccount:
    """Return the account with what was granted or taken; grants of another role go.

    Raises `ConfigurationError` for a grant that means nothing to the role.
    """
    from proxy.portal.permissions import GRANTS

    given = {"groups_write": groups_write, "see_codes": see_codes}
    kept = {}
    for grant, whose in GRANTS.items():
        if given[grant] and account.role is not whose:
            message = f"--{_written(grant)} is for the role {_written(whose.value)}"
            raise ConfigurationError(message)
        asked = getattr(account, grant) if given[grant] is None else given[grant]
        kept[grant] = bool(asked) and account.role is whose
    return replace(account, groups_write=kept["groups_write"], see_codes=kept["see_codes"])


def _expect(store: Store, name: str) -> PortalAccount:
    account = store.accounts.by_name(name)
    if account is None:
        message = f"account {name!r} does not exist"
        raise ConfigurationError(message)
    return account


def _refuse_unknown_user(store: Store, extension: str) -> None:
    if extension and store.users.get(extension) is None:
        message = f"user {extension} does not exist"
        raise ConfigurationError(message)


def _row(account: PortalAccount) -> tuple[str, ...]:
    from proxy.portal.permissions import GRANTS

    state = "disabled" if account.disabled else "one-time password" if account.must_change else "enabled"
    granted = ", ".join(_written(grant) for grant in GRANTS if getattr(account, grant))
    return account.name, _written(account.role.value), account.extension, granted, state


def _written(name: str) -> str:
    """Return a name as options write it."""
    return name.replace("_", "-")

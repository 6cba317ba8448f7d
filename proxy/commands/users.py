"""``tollgate users``: extensions, their groups and SIP passwords."""

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
    plan_of,
    read_settings,
    say,
    show_table,
    warn,
)
from proxy.errors import ConfigurationError

if TYPE_CHECKING:
    from proxy.policy import NumberPlan, User
    from proxy.sip.bindings import StoredBinding
    from proxy.store.store import Store

app = typer.Typer(help="Users: extensions with a group and a SIP password.", no_args_is_help=True)

_LEAST_PASSWORD = 8

Extension = Annotated[str, typer.Argument(help="Digits of the extension.")]
Group = Annotated[str, typer.Option(help="Its user group.")]
GroupChange = Annotated[str | None, typer.Option(help="Its user group.")]
DisplayName = Annotated[str | None, typer.Option("--name", help="Name shown in records.")]
CallerNumber = Annotated[str | None, typer.Option(help="Its number as the outside world sees it.")]
DigestName = Annotated[str | None, typer.Option(help="User name in authentication, when not the extension.")]
Password = Annotated[
    str | None,
    typer.Option(
        help="SIP password; others on this machine may see it while the command runs.", metavar="TEXT"
    ),
]
Md5 = Annotated[
    bool,
    typer.Option(
        "--md5/--no-md5",
        help="Keep an MD5 hash beside SHA-256, for phones that know no other.",
    ),
]
Md5Change = Annotated[
    bool | None,
    typer.Option("--md5/--no-md5", help="Keep an MD5 hash of a new password too, or drop it."),
]
AskPassword = Annotated[bool, typer.Option("--ask-password", help="Type the SIP password, unseen.")]


@app.command(
    epilog=example(
        "tollgate users add 204 --group sales --caller-number +14155550104",
        "tollgate users add 205 --group sales --ask-password",
    )
)
def add(
    extension: Extension,
    *,
    group: Group,
    name: DisplayName = None,
    caller_number: CallerNumber = None,
    digest_name: DigestName = None,
    password: Password = None,
    ask_password: AskPassword = False,
    md5: Md5 = True,
    disabled: Annotated[bool, typer.Option("--disabled", help="May not call yet.")] = False,
    config: ConfigOption = None,
) -> None:
    """Add a user. Without a password one is made and shown, this once; only its hashes are stored."""
    from proxy.policy import User, refuse_emergency_user
    from proxy.store.credentials import digest_credentials

    settings = read_settings(config)
    user = User(
        extension, group, name or "", _caller_number(caller_number), digest_name or "", enabled=not disabled
    )
    plan = plan_of(settings)
    refuse_emergency_user(user, plan)
    secret, shown = _password(password, ask=ask_password, make=True)
    credentials = digest_credentials(user.digest_name, settings.auth.realm, secret, md5=md5)
    user = replace(user, credentials=credentials)
    with open_store(settings, make=True) as store:
        store.users.add(user)
        say(f"user {extension} is in the store")
        _tell(user, settings.auth.realm, secret if shown else None)
        _warn_of_shared_number(store, user, plan)


@app.command(
    "set",
    epilog=example("tollgate users set 204 --group managers", "tollgate users set 204 --new-password"),
)
def set_(
    extension: Extension,
    *,
    group: GroupChange = None,
    name: DisplayName = None,
    caller_number: CallerNumber = None,
    digest_name: DigestName = None,
    password: Password = None,
    ask_password: AskPassword = False,
    new_password: Annotated[
        bool, typer.Option("--new-password", help="Make a SIP password and show it, this once.")
    ] = False,
    md5: Md5Change = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="May call, or not.")] = None,
    config: ConfigOption = None,
) -> None:
    """Change what is given of a user; everything else stays."""
    from proxy.policy import refuse_emergency_user
    from proxy.store.credentials import digest_credentials

    settings = read_settings(config)
    plan = plan_of(settings)
    secret, shown = _password(password, ask=ask_password, make=new_password)
    with open_store(settings) as store:
        repository = store.users
        user = repository.get(extension)
        if user is None:
            message = f"user {extension} does not exist"
            raise ConfigurationError(message)
        changed = replace(
            user,
            group=user.group if group is None else group,
            name=user.name if name is None else name,
            caller_number=user.caller_number if caller_number is None else _caller_number(caller_number),
            digest_name=user.digest_name if digest_name is None else digest_name,
            enabled=user.enabled if enabled is None else enabled,
        )
        if secret:
            with_md5 = _keeps_md5(user) if md5 is None else md5
            credentials = digest_credentials(changed.digest_name, settings.auth.realm, secret, md5=with_md5)
            changed = replace(changed, credentials=credentials)
        elif changed.digest_name != user.digest_name:
            raise ConfigurationError(
                "--digest-name is part of the password's hash: give a password or --new-password"
            )
        elif md5 and not _keeps_md5(user):
            raise ConfigurationError("--md5 needs the password: give it, or --new-password")
        elif md5 is False:
            kept = tuple(found for found in user.credentials if found.algorithm != "MD5")
            changed = replace(changed, credentials=kept)
        if caller_number is not None:
            refuse_emergency_user(changed, plan)
        if changed == user:
            raise ConfigurationError("nothing to change: give at least one option with another value")
        repository.change(changed)
        say(f"user {extension} changed, live in a running gate within a second")
        _tell(changed, settings.auth.realm, secret if shown else None)
        _warn_of_shared_number(store, changed, plan)


@app.command("list", epilog=example("tollgate users list --group sales"))
def list_(
    *,
    group: Annotated[str, typer.Option(help="Only users of this group.")] = "",
    config: ConfigOption = None,
) -> None:
    """List users."""

    with open_store(read_settings(config)) as store:
        users = store.users.all(group=group)
        phones: dict[str, list[StoredBinding]] = {}
        for binding in store.bindings.all(now=time.time()):
            phones.setdefault(binding.user, []).append(binding)
    columns = (
        "Extension",
        "Name",
        "Group",
        "Caller number",
        "Digest name",
        "State",
        "Password hashes",
        "Phones",
    )
    show_table(columns, [_row(user, phones.get(user.extension, [])) for user in users], empty="no users")


def _row(user: User, phones: list[StoredBinding]) -> tuple[str, ...]:
    hashes = ", ".join(credential.algorithm for credential in user.credentials) or "none"
    state = "enabled" if user.enabled else "disabled"
    contacts = ", ".join(_phone(binding) for binding in phones)
    return (
        user.extension,
        user.name,
        user.group,
        user.caller_number,
        user.digest_name,
        state,
        hashes,
        contacts,
    )


def _phone(binding: StoredBinding) -> str:
    """Say where a phone is: its own word, and where it is seen if that is elsewhere."""
    from proxy.sip.uri import Uri, format_host

    uri = Uri.parse(binding.contact)
    own = f"{format_host(uri.host)}:{uri.port}" if uri.port else format_host(uri.host)
    host, port = binding.flow
    seen = f" via {format_host(host)}:{port}" if binding.behind_nat or binding.path else ""
    return f"{own}{seen} ({binding.transport.lower()})"


@app.command(epilog=example("tollgate users delete 204 205"))
def delete(
    extensions: Annotated[list[str], typer.Argument(metavar="EXTENSION...")],
    *,
    yes: YesOption = False,
    config: ConfigOption = None,
) -> None:
    """Delete users: all of them, or none.

    None when one is unknown or owns account codes. Their portal accounts are disabled.
    """

    with open_store(read_settings(config)) as store:
        repository = store.users
        for extension in extensions:
            if repository.get(extension) is None:
                message = f"user {extension} does not exist"
                raise ConfigurationError(message)
        confirm_deletion(f"{len(extensions)} user(s): {', '.join(extensions)}", yes=yes)
        theirs = [one for one in store.accounts.all() if one.extension in extensions and not one.disabled]
        repository.delete_many(extensions)
    say(f"{len(extensions)} user(s) deleted")
    if theirs:
        say(f"disabled with them: the portal account(s) {', '.join(one.name for one in theirs)}")


def _warn_of_shared_number(store: Store, user: User, plan: NumberPlan) -> None:
    from proxy.policy import Snapshot

    sharing = Snapshot(plan, (), store.users.ending_alike(user)).sharing_number(user)
    if others := ", ".join(other.extension for other in sharing):
        warn(
            f"the caller number of {user.extension} is that of {others} too: behind a PBX it names none of "
            "them, and calls from outside to it reach no phone"
        )


def _keeps_md5(user: User) -> bool:
    """Say whether a user's passwords are hashed with MD5 too: until it is said otherwise."""
    return not user.credentials or any(found.algorithm == "MD5" for found in user.credentials)


def _caller_number(text: str | None) -> str:
    """Return the caller number when it can be read as one."""
    from proxy.errors import RemoteProtocolError
    from proxy.policy.dial_string import read_dial_string

    if not text:
        return ""
    try:
        read_dial_string(text)
    except RemoteProtocolError as error:
        message = f"--caller-number: {error}"
        raise ConfigurationError(message) from None
    return text


def _password(given: str | None, *, ask: bool, make: bool) -> tuple[str, bool]:
    """Return the new password (or "") and whether it must be shown, since nobody knows it yet."""
    from proxy.store.credentials import generate_password

    if given is not None and ask:
        raise ConfigurationError("--password and --ask-password: give one of them")
    if ask:
        given = typer.prompt("SIP password", hide_input=True, confirmation_prompt=True, err=True)
    if given is not None:
        if len(given) < _LEAST_PASSWORD or not given.isprintable():
            message = f"SIP password: write at least {_LEAST_PASSWORD} printable characters"
            raise ConfigurationError(message)
        return given, False
    if not make:
        return "", False
    return generate_password(), True


def _tell(user: User, realm: str, password: str | None) -> None:
    if password is not None:
        say(f"SIP user name {user.digest_name}, realm {realm}, password {password} (shown only now)")

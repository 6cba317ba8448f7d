"""``tollgate groups``: user groups, their call permissions and what a code unlocks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.commands.common import (
    ConfigOption,
    YesOption,
    confirm_deletion,
    example,
    open_store,
    parse_classes,
    read_settings,
    say,
    service_of,
    show_table,
    warn,
)
from proxy.errors import ConfigurationError

if TYPE_CHECKING:
    from proxy.policy import CallClass, Treatment, UserGroup
    from proxy.settings import Settings

app = typer.Typer(help="User groups.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the group.")]
Permissions = Annotated[
    str | None, typer.Option(help="Call classes dialled freely, comma-separated; also all, none.")
]
Collection = Annotated[str | None, typer.Option(help="Account codes outside them: off, optional, required.")]
Unlock = Annotated[str | None, typer.Option(help="Call classes that a code can unlock at most.")]
Restrict = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN", help="Numbers outside the permissions all the same; repeatable, '' for none."
    ),
]
Permit = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN", help="Numbers inside the permissions all the same; wins over --restrict."
    ),
]
UnlockRestrict = Annotated[
    list[str] | None, typer.Option(metavar="PATTERN", help="Numbers that no code unlocks.")
]
UnlockPermit = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Numbers that a code unlocks whatever their class."),
]
Cell = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CLASS=TREATMENT",
        help="One cell of the matrix: allow, optional, required, block; empty takes the edit back.",
    ),
]
Tries = Annotated[int | None, typer.Option(help="Wrong codes before the call is refused or goes on without.")]
FirstDigit = Annotated[float | None, typer.Option(help="Seconds to wait for the first digit.")]
InterDigit = Annotated[float | None, typer.Option(help="Seconds to wait between digits.")]
WholeEntry = Annotated[float | None, typer.Option(help="Seconds for the whole entry.")]
MinLength = Annotated[int | None, typer.Option(help="Least digits of a code.")]
MaxLength = Annotated[int | None, typer.Option(help="Most digits of a code.")]
FixedLength = Annotated[
    int | None, typer.Option(help="Codes have exactly so many digits and end without #; 0 for any number.")
]
CallerCalls = Annotated[int | None, typer.Option(help="Paid calls of one caller at once; 0: no limit.")]
CodeCalls = Annotated[int | None, typer.Option(help="Paid calls with one code at once; 0: no limit.")]
CountryCalls = Annotated[
    int | None, typer.Option(help="Calls of the group to one foreign country at once; 0: no limit.")
]
HourlyCalls = Annotated[int | None, typer.Option(help="Paid calls of one caller an hour; 0: no limit.")]
TalkSeconds = Annotated[
    int | None, typer.Option(help="Longest talk of a paid call, with a warning tone before; 0: no limit.")
]
Prompts = Annotated[str | None, typer.Option(help="Folder of the group's own recordings; '' for none.")]


_Change = Callable[["UserGroup"], "UserGroup"]
"""Gives a group what the options say; what they don't say stays."""


def _with_rules_as_options(
    work: Callable[[str, _Change, Settings], None],
) -> Callable[..., None]:
    """Return the command that reads all rules of a group as options and hands ``work`` their effect."""

    def command(
        name: Name,
        *,
        permissions: Permissions = None,
        collection: Collection = None,
        unlock: Unlock = None,
        restrict: Restrict = None,
        permit: Permit = None,
        unlock_restrict: UnlockRestrict = None,
        unlock_permit: UnlockPermit = None,
        cell: Cell = None,
        tries: Tries = None,
        first_digit: FirstDigit = None,
        inter_digit: InterDigit = None,
        whole_entry: WholeEntry = None,
        min_length: MinLength = None,
        max_length: MaxLength = None,
        fixed_length: FixedLength = None,
        prompts: Prompts = None,
        caller_calls: CallerCalls = None,
        code_calls: CodeCalls = None,
        country_calls: CountryCalls = None,
        hourly_calls: HourlyCalls = None,
        talk_seconds: TalkSeconds = None,
        config: ConfigOption = None,
    ) -> None:
        def change(group: UserGroup) -> UserGroup:
            group = _with_services(
                group, (permissions, restrict, permit), (unlock, unlock_restrict, unlock_permit)
            )
            group = _with_rules(group, collection, cell, prompts)
            bounds = {
                "caller_calls": caller_calls,
                "code_calls": code_calls,
                "country_calls": country_calls,
                "hourly_calls": hourly_calls,
                "talk_seconds": talk_seconds,
            }
            given = {name: value for name, value in bounds.items() if value is not None}
            group = replace(group, limits=replace(group.limits, **given))
            return _with_limits(
                group,
                {"tries": tries, "min_length": min_length, "max_length": max_length},
                {"first_digit": first_digit, "inter_digit": inter_digit, "whole_entry": whole_entry},
                fixed_length,
            )

        work(name, change, read_settings(config))

    command.__doc__ = work.__doc__
    return command


@app.command(
    "add",
    epilog=example(
        "tollgate groups add sales --permissions internal,toll_free,local --collection required",
        "tollgate groups add lobby --permissions internal --collection off --permit +14155550100",
    ),
)
@_with_rules_as_options
def add(name: str, change: _Change, settings: Settings) -> None:
    """Add a user group. What is not given has its default: internal calls only, no codes."""
    from proxy.policy import UserGroup

    group = change(UserGroup(name))
    _look_at_patterns(group, settings)
    _look_for_recordings(group, settings)
    with open_store(settings, make=True) as store:
        store.groups.add(group)
    say(f"group {name!r} is in the store")


@app.command(
    "set",
    epilog=example(
        "tollgate groups set sales --collection optional --tries 5",
        "tollgate groups set sales --cell international=required --cell premium=block",
    ),
)
@_with_rules_as_options
def set_(name: str, change: _Change, settings: Settings) -> None:
    """Change what is given of a user group; everything else stays.

    Cells edited by hand stay, too.
    """

    with open_store(settings) as store:
        repository = store.groups
        group = repository.get(name)
        if group is None:
            message = f"group {name!r} does not exist"
            raise ConfigurationError(message)
        changed = change(group)
        if changed == group:
            raise ConfigurationError("nothing to change: give at least one option with another value")
        _look_at_patterns(changed, settings)
        _look_for_recordings(changed, settings)
        repository.change(changed)
    say(f"group {name!r} changed, live in a running gate within a second")


def _look_at_patterns(group: UserGroup, settings: Settings) -> None:
    """Refuse patterns that fit no number, and warn of those that can hardly mean what they say."""
    from proxy.policy.patterns import behind_prefix, refuse_empty

    prefix = settings.number_plan.outside_prefix
    for service in (group.permissions, group.unlock):
        for pattern in (*service.restricted, *service.permitted):
            refuse_empty(pattern)
            if rest := behind_prefix(pattern, prefix):
                warn(
                    f"pattern {pattern}: numbers are compared without the outside-line prefix {prefix}; "
                    f"write {rest} if that was meant"
                )


def _look_for_recordings(group: UserGroup, settings: Settings) -> None:
    """Warn of recordings that are not seen: callers would hear the common ones, and nobody a word of it."""
    if group.prompts and (why := _no_recordings(settings.prompts.folder, group.prompts)):
        warn(f"--prompts {group.prompts}: {why}; a gate without these recordings plays the common sounds")


def _no_recordings(folder: str, name: str) -> str:
    """Say why this machine sees no recording in a group's folder, or ""."""
    from proxy.media.prompts import SOUND_NAMES

    if not folder:
        return "prompts.folder is not set"
    own = Path(folder, "groups", name)
    try:
        seen = any(path.suffix.lower() == ".wav" and path.stem in SOUND_NAMES for path in own.iterdir())
    except OSError as error:
        return f"{own} can't be looked at on this machine: {error.strerror}"
    return "" if seen else f"{own} holds no recording with the name of a sound (enter_code.wav and so on)"


@app.command("list", epilog=example("tollgate groups list"))
def list_(config: ConfigOption = None) -> None:
    """List user groups and what happens with each call class.

    Cells edited by hand bear a *.
    """
    from proxy.policy import Treatment

    with open_store(read_settings(config)) as store:
        groups = store.groups.all()
    columns = ("Group", "Codes", *(treatment.value.capitalize() for treatment in Treatment), "Patterns")
    show_table(columns, [_row(group) for group in groups], empty="no user groups")
    if any(group.edited for group in groups) and sys.stdout.isatty():
        say("* edited by hand (--cell)")


def _row(group: UserGroup) -> tuple[str, ...]:
    from proxy.policy import Treatment

    lists = (
        ("restrict", group.permissions.restricted),
        ("permit", group.permissions.permitted),
        ("unlock-restrict", group.unlock.restricted),
        ("unlock-permit", group.unlock.permitted),
    )
    patterns = "; ".join(f"{name} {' '.join(map(str, patterns))}" for name, patterns in lists if patterns)
    by_treatment: dict[Treatment, list[str]] = {treatment: [] for treatment in Treatment}
    for call_class, treatment in group.matrix.items():
        mark = "*" if call_class in group.edited else ""
        by_treatment[treatment].append(call_class.value + mark)
    return (group.name, group.collection.value, *map(" ".join, by_treatment.values()), patterns)


@app.command(epilog=example("tollgate groups delete lobby"))
def delete(name: Name, *, yes: YesOption = False, config: ConfigOption = None) -> None:
    """Delete a user group that nobody and no account code belongs to.

    Those who match no user belong to the default_group of their peer.
    """
    settings = read_settings(config)
    with open_store(settings) as store:
        repository = store.groups
        if repository.get(name) is None:
            message = f"group {name!r} does not exist"
            raise ConfigurationError(message)
        confirm_deletion(f"group {name!r}", yes=yes)
        repository.delete(name, settings.default_groups)
    say(f"group {name!r} deleted")


_Service = tuple[str | None, list[str] | None, list[str] | None]
"""Classes, restriction patterns, permission patterns, as given."""


def _with_services(group: UserGroup, permissions: _Service, unlock: _Service) -> UserGroup:
    return replace(
        group,
        permissions=service_of(group.permissions, *permissions, "--permissions"),
        unlock=service_of(group.unlock, *unlock, "--unlock"),
    )


def _with_rules(
    group: UserGroup, collection: str | None, cells: list[str] | None, prompts: str | None
) -> UserGroup:
    from proxy.policy import CodeCollection

    if collection is not None:
        try:
            group = replace(group, collection=CodeCollection(collection.lower()))
        except ValueError:
            message = f"--collection: {collection!r} is not known; write off, optional or required"
            raise ConfigurationError(message) from None
    if prompts is not None:
        group = replace(group, prompts=prompts)
    edited = dict(group.edited)
    for text in cells or ():
        call_class, treatment = _parse_cell(text)
        if treatment is None:
            edited.pop(call_class, None)
        else:
            edited[call_class] = treatment
    return replace(group, edited=edited)


def _with_limits(
    group: UserGroup, counts: dict[str, int | None], times: dict[str, float | None], fixed_length: int | None
) -> UserGroup:
    def pick(given: int | None, present: int) -> int:
        return present if given is None else given

    def pick_time(given: float | None, present: float) -> float:
        return present if given is None else given

    return replace(
        group,
        tries=pick(counts["tries"], group.tries),
        min_length=pick(counts["min_length"], group.min_length),
        max_length=pick(counts["max_length"], group.max_length),
        first_digit=pick_time(times["first_digit"], group.first_digit),
        inter_digit=pick_time(times["inter_digit"], group.inter_digit),
        whole_entry=pick_time(times["whole_entry"], group.whole_entry),
        fixed_length=group.fixed_length if fixed_length is None else (fixed_length or None),
    )


def _parse_cell(text: str) -> tuple[CallClass, Treatment | None]:
    from proxy.policy import Treatment

    name, equals, value = text.partition("=")
    treatments = {
        "allow": Treatment.ALLOW,
        "optional": Treatment.OPTIONAL_CODE,
        "required": Treatment.REQUIRED_CODE,
        "block": Treatment.BLOCK,
        "": None,
    }
    value = value.strip().lower().removesuffix(" code")
    classes = parse_classes(name, "--cell")
    if not equals or value not in treatments or len(classes) != 1:
        message = f"--cell: {text!r} is no cell; write CLASS=allow, optional, required or block"
        raise ConfigurationError(message)
    (call_class,) = classes
    return call_class, treatments[value]

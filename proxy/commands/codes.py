"""``tollgate codes``: add, change, list, import, export and delete account codes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.commands.common import (
    ConfigOption,
    ReplaceOption,
    YesOption,
    confirm_deletion,
    example,
    open_store,
    parse_classes,
    parse_date,
    plan_of,
    progress_bar,
    read_settings,
    say,
    show_table,
    today,
    warn,
    write_file,
)
from proxy.errors import ConfigurationError

if TYPE_CHECKING:
    from proxy.policy import AccountCode, ClassOfService, CodeOwner, NumberPlan
    from proxy.settings import Settings
    from proxy.store.code_import import LineResult
    from proxy.store.store import Store

app = typer.Typer(help="Account codes.", no_args_is_help=True)

MAX_FILE = 100 * 1024 * 1024
"""Bytes of the largest file that is imported."""
_FOLLOWS = "live in a running gate within a second"


Code = Annotated[str, typer.Argument(help="Digits or letters (keypad), separators allowed; ? is any digit.")]
KnownCode = Annotated[str, typer.Argument(help="The code, in any form.")]
Description = Annotated[str | None, typer.Option(help="What it stands for.")]
OfGroup = Annotated[str | None, typer.Option("--group", help="Only for users of this group.")]
OfUser = Annotated[str | None, typer.Option("--user", help="Only for the user of this extension.")]
ValidFrom = Annotated[str | None, typer.Option("--from", metavar="DATE", help="First valid day.")]
ValidUntil = Annotated[str | None, typer.Option("--until", metavar="DATE", help="Last valid day.")]
MaxUses = Annotated[int | None, typer.Option(help="Answered calls it is good for.")]
Classes = Annotated[str | None, typer.Option(help="Call classes it unlocks at most, comma-separated.")]


@dataclass(frozen=True, slots=True)
class _Given:
    """What the options say of a code; None where they say nothing."""

    description: str | None
    group: str | None
    user: str | None
    valid_from: str | None
    valid_until: str | None
    max_uses: int | None
    classes: str | None
    enabled: bool | None

    def of(self, code: str, plan: NumberPlan, old: AccountCode | None = None) -> AccountCode:
        """Return a new code, or what becomes of an ``old`` one: what is not given stays, what is given empty
        (uses: 0) goes.
        """
        from proxy.policy import AccountCode, new_code

        base = old or AccountCode("")
        most = base.max_uses if self.max_uses is None else self.max_uses
        template = replace(
            base,
            enabled=base.enabled if self.enabled is None else self.enabled,
            valid_from=base.valid_from if self.valid_from is None else parse_date(self.valid_from, "--from"),
            valid_until=(
                base.valid_until if self.valid_until is None else parse_date(self.valid_until, "--until")
            ),
            owner=self._owner(base.owner),
            class_of_service=self._class_of_service(base.class_of_service),
            max_uses=most if most or old is None else None,
        )
        description = base.description if self.description is None else self.description
        return new_code(code, description, plan=plan, template=template)

    def warn_of_past(self) -> None:
        """Say that a last day is over that has just been given."""
        last = parse_date(self.valid_until, "--until")
        if last is not None and last < today():
            warn(f"--until {last}: this day is past: nobody can use the code")

    def _owner(self, old: CodeOwner) -> CodeOwner:
        from proxy.policy import CodeOwner, OwnerKind

        if self.group is not None and self.user is not None:
            raise ConfigurationError("--group and --user: a code has one owner")
        if self.group:
            return CodeOwner(OwnerKind.GROUP, self.group)
        if self.user:
            return CodeOwner(OwnerKind.USER, self.user)
        return old if self.group is None and self.user is None else CodeOwner()

    def _class_of_service(self, old: ClassOfService | None) -> ClassOfService | None:
        from proxy.policy import ClassOfService

        if not self.classes:
            return old if self.classes is None else None
        classes = parse_classes(self.classes, "--classes")
        return replace(old, classes=classes) if old else ClassOfService(classes)


@app.command(
    epilog=example(
        'tollgate codes add ACME-12/7 --description "Acme, lease 7"',
        "tollgate codes add 4711 --group sales --until 2026-12-31 --max-uses 100",
        'tollgate codes add 4711 --update --description "Trade fair"',
    )
)
def add(
    code: Code,
    *,
    description: Description = None,
    group: OfGroup = None,
    user: OfUser = None,
    valid_from: ValidFrom = None,
    valid_until: ValidUntil = None,
    max_uses: MaxUses = None,
    classes: Classes = None,
    enabled: Annotated[
        bool | None, typer.Option("--enabled/--disabled", help="Usable, or not yet.", show_default=False)
    ] = None,
    update: Annotated[
        bool,
        typer.Option(
            "--update", help="Change a code that dials the same: how it is written, and what is given."
        ),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Add one account code."""
    from proxy.policy import AccountCode

    settings = read_settings(config)
    given = _Given(description, group, user, valid_from, valid_until, max_uses, classes, enabled)
    plan = plan_of(settings)
    # What is wrong with a new code is said before a store is made for it.
    made = given.of(code, plan, AccountCode("") if update else None)
    with open_store(settings, make=True) as store:
        old = store.codes.find(code) if update else None
        if old is None:
            store.codes.add(made)
        else:
            made = given.of(code, plan, old.value)
            store.codes.change(old.id, made, version=old.version)
    dials = "" if made.form == made.digits else f", dialled {made.digits},"
    say(f"code {made.form}{dials} is in the store, {_FOLLOWS}")
    given.warn_of_past()


@app.command(
    "set",
    epilog=example(
        "tollgate codes set ACME-12/7 --disable",
        'tollgate codes set 4711 --user 204 --until ""',
        'tollgate codes set 4711 --group "" --max-uses 0',
    ),
)
def set_(
    code: KnownCode,
    *,
    description: Description = None,
    group: OfGroup = None,
    user: OfUser = None,
    valid_from: ValidFrom = None,
    valid_until: ValidUntil = None,
    max_uses: MaxUses = None,
    classes: Classes = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="Usable, or not.")] = None,
    config: ConfigOption = None,
) -> None:
    """Change what is given of an account code; everything else stays.

    An empty value takes away what there is, --max-uses 0 the limit.
    """
    settings = read_settings(config)
    given = _Given(description, group, user, valid_from, valid_until, max_uses, classes, enabled)
    with open_store(settings) as store:
        old = store.codes.find(code)
        if old is None:
            message = f"code {code} does not exist"
            raise ConfigurationError(message)
        changed = given.of(old.value.form, plan_of(settings), old.value)
        if changed == old.value:
            raise ConfigurationError("nothing to change: give at least one option with another value")
        store.codes.change(old.id, changed, version=old.version)
    say(f"code {changed.form} changed, {_FOLLOWS}")
    given.warn_of_past()


@app.command("list", epilog=example("tollgate codes list --search acme"))
def list_(
    search: Annotated[str, typer.Option(help="Part of the code in any form, or of the description.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="At most so many.")] = 100,
    config: ConfigOption = None,
) -> None:
    """List account codes."""
    with open_store(read_settings(config)) as store:
        repository = store.codes
        found = repository.page(search, limit=limit)
        total = repository.count(search)
    columns = ("Code", "Dialled", "Description", "State", "Owner", "From", "Until", "Uses")
    show_table(columns, [_row(code) for code in found], empty="no account codes")
    if total > len(found):
        typer.echo(f"{total - len(found)} more; give --limit", err=True)


def _row(code: AccountCode) -> tuple[str, ...]:
    return (
        code.form,
        code.digits,
        code.description,
        _state(code),
        f"{code.owner.kind} {code.owner.name}".strip(),
        str(code.valid_from or ""),
        str(code.valid_until or ""),
        f"{code.uses}/{code.max_uses}" if code.max_uses is not None else str(code.uses),
    )


def _state(code: AccountCode) -> str:
    """Say whether anybody can use a code today, in the words that `tollgate explain` has for it."""
    from proxy.policy import CodeOutcome, state_on

    state = state_on(today(), code)
    return "enabled" if state is CodeOutcome.ACCEPTED else state.value.replace("_", " ")


@app.command(
    "import",
    epilog=example(
        "tollgate codes import clients.csv --dry-run", "tollgate codes import clients.csv --update"
    ),
)
def import_(
    file: Annotated[
        Path, typer.Argument(help="CSV with the columns Code and Description under a header row.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, write nothing.")] = False,
    update: Annotated[
        bool, typer.Option("--update", help="Change the description of codes that exist.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Import account codes from a CSV file: all of them or none.

    None when a line is bad. Other facts of codes that exist (owner, validity, uses) stay as they are.
    """
    from proxy.policy.code_file import read_code_file
    from proxy.store.code_import import carry_out, plan_import

    settings = read_settings(config)
    text = _read_text(file)
    try:
        content = read_code_file(text, plan_of(settings))
    except ConfigurationError as error:
        message = f"{file}: {error}"
        raise ConfigurationError(message) from None
    with _store_to_fill(settings, dry_run=dry_run) as store:
        plan = plan_import(content, store.codes, may_update=update)
        if plan.refused:
            raise ConfigurationError(_refusal(file, plan.refused))
        with progress_bar("importing") as progress:
            result = carry_out(plan, store.codes, progress, dry_run=dry_run)
    counts = f"{result.added} added, {result.changed} changed, {result.unchanged} unchanged"
    say(f"{file}: would be {counts}; nothing was written" if dry_run else f"{file}: {counts}, {_FOLLOWS}")


@contextmanager
def _store_to_fill(settings: Settings, *, dry_run: bool) -> Iterator[Store]:
    """Open the store; for a dry run an empty one that goes afterwards, where there is none yet."""
    file = settings.store.sqlite_path
    if not dry_run or file is None or file.exists():
        with open_store(settings, make=True) as store:
            yield store
        return
    from proxy.store.store import Store

    warn(f"there is no store at {file.absolute()} yet: the codes are held against an empty one")
    with TemporaryDirectory(prefix="tollgate-") as folder, Store(f"sqlite:///{folder}/empty.db") as store:
        yield store


def _read_text(file: Path) -> str:
    from proxy.policy.code_file import decode_csv

    try:
        data = sys.stdin.buffer.read(MAX_FILE + 1) if str(file) == "-" else _read_bounded(file)
    except OSError as error:
        message = f"{file}: can't be read: {error.strerror}"
        raise ConfigurationError(message) from None
    if len(data) > MAX_FILE:
        message = f"{file}: larger than {MAX_FILE // 1024 // 1024} MB"
        raise ConfigurationError(message)
    try:
        return decode_csv(data)
    except ConfigurationError as error:
        message = f"{file}: {error}"
        raise ConfigurationError(message) from None


def _read_bounded(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(MAX_FILE + 1)


def _refusal(file: Path, refused: Sequence[LineResult]) -> str:
    lines = [
        f"{file}: line {result.line}: {result.reason}"
        f"{'; --update changes its description' if result.exists else ''}"
        for result in refused
    ]
    return "\n".join((*lines, f"{file}: {len(refused)} bad line(s); nothing was imported"))


@app.command(epilog=example("tollgate codes export codes.csv", "tollgate codes export - | less"))
def export(
    file: Annotated[Path, typer.Argument(help="CSV file to write; - for standard output.")],
    *,
    replace: ReplaceOption = False,
    config: ConfigOption = None,
) -> None:
    """Export all account codes as the CSV file that import reads.

    Its columns are Code and Description: owner, validity, uses and whether a code is disabled are not in it
    (`tollgate backup` has them).
    """
    from proxy.policy.code_file import write_code_file

    settings = read_settings(config)
    with open_store(settings) as store:
        count = write_file(file, write_code_file(store.codes.stream()), settings, replace=replace)
    if str(file) != "-":
        say(f"{file}: {count - 1} codes")


@app.command(epilog=example("tollgate codes delete ACME-12/7 4711", "tollgate codes delete 4711 --yes"))
def delete(
    codes: Annotated[list[str], typer.Argument(metavar="CODE...", help="Codes in any form.")],
    yes: YesOption = False,
    config: ConfigOption = None,
) -> None:
    """Delete account codes: all of them, or none when one is unknown."""
    with open_store(read_settings(config)) as store:
        repository = store.codes
        for code in codes:
            if repository.get(code) is None:
                message = f"code {code} does not exist"
                raise ConfigurationError(message)
        confirm_deletion(f"{len(codes)} account code(s): {', '.join(codes)}", yes=yes)
        count = repository.delete_many(codes)
    say(f"{count} account code(s) deleted")

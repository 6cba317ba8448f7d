"""``tollgate codes``: add, list, import, export and delete account codes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.commands.common import (
    ConfigOption,
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
    warn,
    write_file,
)
from proxy.errors import ConfigurationError

if TYPE_CHECKING:
    from proxy.policy import AccountCode
    from proxy.settings import Settings
    from proxy.store.code_import import LineResult
    from proxy.store.store import Store

app = typer.Typer(help="Account codes.", no_args_is_help=True)

MAX_FILE = 100 * 1024 * 1024
"""Bytes of the largest file that is imported."""
_FOLLOWS = "live in a running gate within a second"


@app.command(
    epilog=example(
        'tollgate codes add ACME-12/7 --description "Acme, lease 7"',
        "tollgate codes add 4711 --group sales --until 2026-12-31 --max-uses 100",
    )
)
def add(
    code: Annotated[
        str, typer.Argument(help="Digits or letters (keypad), separators allowed; ? is any digit.")
    ],
    *,
    description: Annotated[str, typer.Option(help="What it stands for.")] = "",
    group: Annotated[str | None, typer.Option(help="Only for users of this group.")] = None,
    user: Annotated[str | None, typer.Option(help="Only for the user of this extension.")] = None,
    valid_from: Annotated[str | None, typer.Option("--from", metavar="DATE", help="First valid day.")] = None,
    valid_until: Annotated[
        str | None, typer.Option("--until", metavar="DATE", help="Last valid day.")
    ] = None,
    max_uses: Annotated[int | None, typer.Option(help="Answered calls it is good for.")] = None,
    classes: Annotated[
        str | None, typer.Option(help="Call classes it unlocks at most, comma-separated.")
    ] = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="Not usable yet.")] = False,
    update: Annotated[bool, typer.Option("--update", help="Replace a code that dials the same.")] = False,
    config: ConfigOption = None,
) -> None:
    """Add one account code."""
    from proxy.policy import AccountCode, ClassOfService, CodeOwner, OwnerKind, new_code

    if group is not None and user is not None:
        raise ConfigurationError("--group and --user: a code has one owner")
    owner = CodeOwner()
    if group is not None:
        owner = CodeOwner(OwnerKind.GROUP, group)
    elif user is not None:
        owner = CodeOwner(OwnerKind.USER, user)
    template = AccountCode(
        "",
        enabled=not disabled,
        valid_from=parse_date(valid_from, "--from"),
        valid_until=parse_date(valid_until, "--until"),
        owner=owner,
        class_of_service=None if classes is None else ClassOfService(parse_classes(classes, "--classes")),
        max_uses=max_uses,
    )
    settings = read_settings(config)
    made = new_code(code, description, plan=plan_of(settings), template=template)
    with open_store(settings, make=True) as store:
        repository = store.codes
        if update:
            repository.save(made)
        else:
            repository.add(made)
    dials = "" if made.form == made.digits else f", dialled {made.digits},"
    say(f"code {made.form}{dials} is in the store, {_FOLLOWS}")


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
        "enabled" if code.enabled else "disabled",
        f"{code.owner.kind} {code.owner.name}".strip(),
        str(code.valid_from or ""),
        str(code.valid_until or ""),
        f"{code.uses}/{code.max_uses}" if code.max_uses is not None else str(code.uses),
    )


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
    config: ConfigOption = None,
) -> None:
    """Export all account codes as the CSV file that import reads."""
    from proxy.policy.code_file import write_code_file

    with open_store(read_settings(config)) as store:
        count = write_file(file, write_code_file(store.codes.stream()))
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

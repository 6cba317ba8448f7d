"""``tollgate audit``: who changed what, and whether the log of it is whole."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.commands.common import ConfigOption, example, open_store, read_settings, say, show_table
from proxy.errors import ConfigurationError, TollgateError

if TYPE_CHECKING:
    from proxy.store.audit import AuditEntry, AuditHead

app = typer.Typer(help="The audit log: every change of policy, portal and records.", no_args_is_help=True)

_HEAD = re.compile(r"([0-9]{1,18}):([0-9a-f]{64})")


@app.command("list", epilog=example("tollgate audit list --who cli:root", "tollgate audit list --kind code"))
def list_(
    *,
    who: Annotated[str, typer.Option(help="Only changes by this one, e.g. cli:root or an account.")] = "",
    kind: Annotated[
        str, typer.Option(help="Only changes of code, group, user, account, token or record.")
    ] = "",
    name: Annotated[
        str, typer.Option("--object", help="Only changes of the object of this name or id.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="At most so many, newest first.")] = 50,
    facts: Annotated[bool, typer.Option("--facts", help="Show before and after as JSON.")] = False,
    config: ConfigOption = None,
) -> None:
    """List the latest changes.

    A code is named by a number, which is no secret, and its description if the entry has it.
    """
    from proxy.store.audit import AuditFilter

    with open_store(read_settings(config)) as store:
        found = store.audit.page(AuditFilter(who=who, kind=kind, name=name), limit=limit)
    columns = ("Id", "When", "Who", "Role", "From", "Action", "Kind", "Object", "Description")
    rows = [_row(entry) + (_facts(entry) if facts else ()) for entry in found]
    show_table(columns + (("Before", "After") if facts else ()), rows, empty="no changes")


def _row(entry: AuditEntry) -> tuple[str, ...]:
    when = datetime.fromtimestamp(entry.at).astimezone()
    return (
        str(entry.id),
        f"{when:%Y-%m-%d %H:%M:%S}",
        entry.who,
        entry.role,
        entry.source,
        entry.action,
        entry.kind,
        entry.name,
        _description(entry),
    )


def _description(entry: AuditEntry) -> str:
    """Say which code or other thing it was, where its name is a number: as it was then."""
    for facts in (entry.after, entry.before):
        if isinstance(facts, dict) and "description" in facts:
            return str(facts["description"])
    return ""


def _facts(entry: AuditEntry) -> tuple[str, str]:
    before, after = (
        "" if value is None else json.dumps(value, ensure_ascii=False) + (" ..." if entry.more else "")
        for value in (entry.before, entry.after)
    )
    return before, after


@app.command(epilog=example("tollgate audit verify", "tollgate audit verify --head 4711:5d41..."))
def verify(
    *,
    head: Annotated[
        str, typer.Option(metavar="ID:HASH", help="A head that an earlier run printed and you kept.")
    ] = "",
    config: ConfigOption = None,
) -> None:
    """Check that nobody has tampered with the audit log.

    A row that was changed, removed or added by hand is named.
    """
    kept = _parse_head(head) if head else None
    with open_store(read_settings(config)) as store:
        verdict = store.audit.verify(kept)
    if not verdict.whole:
        where = "" if verdict.broken is None else f"row {verdict.broken}: "
        message = f"the audit log is broken: {where}{verdict.reason}"
        raise TollgateError(message)
    say(f"the audit log is whole: {verdict.rows} row(s)")
    say(f"its head is {verdict.head}; kept elsewhere, it proves later that nothing before it was changed")


def _parse_head(text: str) -> AuditHead:
    from proxy.store.audit import AuditHead

    found = _HEAD.fullmatch(text.strip().lower())
    if found is None:
        raise ConfigurationError("--head: write ID:HASH as 'tollgate audit verify' prints it")
    return AuditHead(int(found[1]), found[2])

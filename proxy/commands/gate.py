"""Commands that run a gate, ask a running one, or tell what one would do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.commands.common import (
    ConfigOption,
    example,
    open_store,
    plan_of,
    portal_command,
    read_settings,
    say,
    show_table,
    warn,
    warn_of_new_store,
)
from proxy.errors import ConfigurationError, TollgateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.policy import Snapshot
    from proxy.settings import Settings

__all__ = ["calls", "check_config", "demo", "explain", "hangup", "reload", "serve", "status"]


def serve(
    *,
    example_data: Annotated[
        bool, typer.Option("--example-data", help="Fill an empty store with example groups, users and codes.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Run the gate until it is told to end (SIGTERM, Ctrl-C).

    SIGHUP reads the settings again.
    """
    settings = read_settings(config)
    from proxy.serve import serve as run_gate

    warn_of_new_store(settings)
    try:
        run_gate(
            settings,
            load=lambda: read_settings(config),
            example_data=example_data,
            portal_command=portal_command(config) if settings.portal.enabled else (),
        )
    except OSError as error:
        message = f"the gate can't start: {error.strerror or error}"
        raise ConfigurationError(message) from error


def check_config(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Settings file to check.")],
    *,
    resolve: Annotated[
        bool, typer.Option("--resolve", help="Look up the names of trunks and peers in DNS, too.")
    ] = False,
) -> None:
    """Check a settings file without starting anything.

    The environment's changes to it count. Certificates and keys (the portal's too) and prompts are read as
    the gate would read them, the store is looked for. What is wrongly written is told first, all of it; then
    all that is wrong with what it says.
    """
    settings = read_settings(file)
    from proxy import composition
    from proxy.commands.doubts import doubts
    from proxy.media.prompts import PromptLibrary

    names = [(str(point.host), 0) for point in composition.listeners(settings)]
    folder = Path(settings.prompts.folder) if settings.prompts.folder else None
    country = settings.prompts.country or settings.number_plan.country
    found: list[str] = []
    problems: list[str] = []
    for check in (
        lambda: composition.number_plan(settings),
        lambda: composition.groups(settings),
        lambda: composition.gate_config(settings, names, lambda _name: ()),
        lambda: PromptLibrary.load(folder, country=country),
        lambda: found.extend(doubts(settings, resolve=resolve)),
    ):
        try:
            check()
        except ConfigurationError as error:
            problems += str(error).splitlines()
    if problems:
        # As the problems that the settings themselves have: after the file that they stand in.
        raise ConfigurationError("\n".join(f"{file}: {line}" for line in problems))
    for problem in found:
        warn(problem)
    trunks = ", ".join(trunk.name for trunk in settings.trunks) or "none"
    say(f"{file}: good; trunks: {trunks}; peers: {len(settings.peers)}; groups: {len(settings.groups)}")


def calls(*, config: ConfigOption = None) -> None:
    """Show the calls that are up in the running gate."""
    found = _ask(read_settings(config), "calls")
    if not isinstance(found, list):
        raise ConfigurationError("the gate's answer is not understood; is it of another version?")
    columns = ("Call", "Since", "State", "Direction", "Caller", "User", "Dialled", "Code for")
    show_table(columns, [_call_row(call) for call in found], empty="no calls")


def _call_row(call: Mapping[str, object]) -> tuple[str, ...]:
    seconds = float(str(call.get("seconds") or 0))
    return (
        str(call.get("call_id", "")),
        f"{int(seconds) // 60}:{int(seconds) % 60:02d}",
        str(call.get("state", "")) + (" (emergency)" if call.get("emergency") else ""),
        str(call.get("direction", "")),
        str(call.get("caller", "")),
        str(call.get("user", "")),
        str(call.get("dialled", "")),
        str(call.get("code", "")),
    )


def status(*, config: ConfigOption = None) -> None:
    """Tell how the running gate is."""
    found = _ask(read_settings(config), "status")
    if not isinstance(found, dict):
        raise ConfigurationError("the gate's answer is not understood; is it of another version?")
    trunks = found.pop("trunks", [])
    limits = found.pop("limits_reached", [])
    peers = found.pop("peers", [])
    for name, value in found.items():
        say(f"{str(name).replace('_', ' ')}: {_in_words(value)}")
    for trunk in trunks if isinstance(trunks, list) else ():
        say(_trunk_line(trunk))
    for peer in peers if isinstance(peers, list) else ():
        say(f"peer {peer.get('name')}: {peer.get('calls')} calls; {_states(peer)}")
    for one in limits if isinstance(limits, list) else ():
        say(f"limit reached by {one['caller']}, {one['seconds']:.0f} s ago: {one['limit']}")


def _in_words(value: object) -> str:
    """Say one fact of the status as a person would."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(dict.fromkeys(map(str, value)))
    return "none" if value is None or value == "" else str(value)


def _trunk_line(trunk: dict[str, object]) -> str:
    """Say how one trunk is: its calls, and each of its destinations."""
    limit = f" of {trunk['max_calls']}" if trunk.get("max_calls") else ""
    shown = _states(trunk)
    if trunk.get("registration"):
        shown += f"; registration: {trunk['registration']}"
    return f"trunk {trunk.get('name')}: {trunk.get('calls')}{limit} calls; {shown}"


def _states(side: Mapping[str, object]) -> str:
    destinations = side.get("destinations")
    states = []
    for one in destinations if isinstance(destinations, list) else ():
        since = f" for {one['seconds']:.0f} s" if one.get("seconds") is not None else ""
        states.append(f"{one['address']} {one['state']}{since}{_bracketed(one.get('reason'))}")
    return ", ".join(states) or "no address"


def _bracketed(reason: object) -> str:
    return f" ({reason})" if reason else ""


def reload(*, config: ConfigOption = None) -> None:
    """Make the running gate read its settings again.

    Bad ones are refused whole.
    """
    found = _ask(read_settings(config), "reload")
    later = found.get("after_restart") if isinstance(found, dict) else None
    waiting = ", ".join(map(str, later)) if isinstance(later, list) else ""
    say("settings reloaded" + (f"; only a restart changes {waiting}" if waiting else ""))


def hangup(
    call: Annotated[
        str, typer.Argument(metavar="CALL", help="Id of the call, as `tollgate calls` shows it.")
    ],
    *,
    config: ConfigOption = None,
) -> None:
    """End one call of the running gate.

    The audit log tells who has.
    """
    from proxy.portal.gate_acts import end_call, note_hang_up
    from proxy.portal.gate_link import GateLink

    settings = read_settings(config)
    facts = end_call(GateLink(settings.control_socket), call)
    say(f"call {call} ended")
    try:
        with open_store(settings) as store:
            note_hang_up(store, call, facts)
    except TollgateError as error:
        # A store that is broken keeps no call up.
        warn(f"the audit log does not tell of it: {error}")


def _ask(settings: Settings, command: str) -> object:
    from proxy.net.control import ask

    return ask(settings.control_socket, command)


def explain(
    *,
    number: Annotated[str, typer.Option(help="What is dialled: digits, tel: or sip: URI.")],
    user: Annotated[str | None, typer.Option(help="The caller: an extension or its digest name.")] = None,
    caller: Annotated[str, typer.Option(help="The caller's number as a trusted PBX names it.")] = "",
    group: Annotated[
        str | None, typer.Option(help="The PBX's user group for callers that match no user.")
    ] = None,
    peer: Annotated[
        str | None, typer.Option(help="The PBX that it comes through, where that matters.")
    ] = None,
    code: Annotated[str | None, typer.Option(help="An account code that is then entered.")] = None,
    config: ConfigOption = None,
) -> None:
    """Tell what would happen with a call, and why.

    Every step of the decision is shown, and what stands in the way: a caller who is locked, no trunk.
    """
    from proxy.commands.explanation import Explanation
    from proxy.policy import CallRequest, decide_through
    from proxy.store.snapshots import load_snapshot

    if user is None and not caller and group is None and peer is None:
        raise ConfigurationError(
            "who calls? Give --user, or for calls through a PBX --caller, --group or --peer"
        )
    settings = read_settings(config)
    plan = plan_of(settings)
    with open_store(settings) as store:
        snapshot = load_snapshot(store.database, plan)
    snapshot = _with_groups(settings, snapshot)
    if user is not None and snapshot.user_by_digest_name(user) is None and user not in snapshot.users:
        message = f"user {user} does not exist"
        raise ConfigurationError(message)
    if group is not None and group not in snapshot.groups:
        message = f"group {group!r} does not exist"
        raise ConfigurationError(message)
    request = CallRequest(number, user, caller, group)
    peers = {one.name: one.default_group for one in settings.peers}
    try:
        decision = decide_through(request, snapshot, peers, peer)
    except ConfigurationError as error:
        message = f"--peer: {error}"
        raise ConfigurationError(message) from None
    through = [peer] if peer is not None else [*peers] if user is None else []
    for line in Explanation(settings, snapshot, request, decision, through, code).lines():
        say(line)


def _with_groups(settings: Settings, snapshot: Snapshot) -> Snapshot:
    """Add the groups of the settings that the store has not got yet: `serve` will make them."""
    from proxy.composition import groups

    missing = [group for group in groups(settings) if group.name not in snapshot.groups]
    if not missing:
        return snapshot
    return snapshot.with_changes(version=snapshot.version, groups=[*snapshot.groups.values(), *missing])


def demo() -> None:
    """Place four calls through a real gate and show them.

    All is on loopback, phone and carrier are simulated. Needs nothing else: no settings, no other software.
    """
    from proxy.demo import run

    raise typer.Exit(run())


EPILOGS = {
    "serve": example("tollgate serve --config config/trunk-insertion.toml"),
    "check-config": example("tollgate check-config config/trunk-insertion.toml"),
    "calls": example("tollgate calls"),
    "status": example("tollgate status --config config/trunk-insertion.toml"),
    "reload": example("tollgate reload"),
    "hangup": example("tollgate hangup 01a208ff0cc4-9bff9a10be5b15a6"),
    "explain": example(
        "tollgate explain --user 204 --number 011442079460000",
        "tollgate explain --user 204 --number 011442079460000 --code ACME-12/7",
        "tollgate explain --caller +14155550104 --group guests --number tel:+14155550100",
        "tollgate explain --caller +14155550104 --peer pbx --number tel:+14155550100",
    ),
    "demo": example("tollgate demo"),
}

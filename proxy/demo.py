"""`tollgate demo`: four calls through a real gate on loopback, shown with their ladders, prompts and records.

Nothing here is a stand-in for the gate: it is the one that `serve` runs, with a store, a journal and a
media engine of its own in a temporary folder. Only the phone and the carrier are simulated, over real
sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from proxy import log
from proxy._native import encode_prompt
from proxy.cdr.formats import ExportFormat, record_row
from proxy.cdr.record import CallRecord, Disposition, HungUpBy
from proxy.cdr.usage_log import USAGE_LOG_COLUMNS
from proxy.composition import number_plan
from proxy.demo_agents import HOST, Carrier, Phone, PhoneCall
from proxy.errors import ConfigurationError
from proxy.media.prompts import PromptLibrary
from proxy.policy import CallClass, ClassOfService, CodeCollection, User, UserGroup, new_code
from proxy.server import Gate
from proxy.settings import ENV_PREFIX, Settings, load_settings
from proxy.sip.flow import Flow
from proxy.store import Store, digest_credentials, generate_password

__all__ = ["Outcome", "place_calls", "run"]

REQUIRED_EXTENSION, OPTIONAL_EXTENSION = "201", "202"
CODE, WRONG_CODE = "1234", "9999"
NUMBER, PREMIUM, EMERGENCY = "4155550123", "9005550199", "911"
PATIENCE = 30.0
"""Seconds for anything that the demo waits for."""
TALK = 0.6

_FREE = ClassOfService(frozenset({CallClass.INTERNAL}))
_UNLOCK = ClassOfService(frozenset(CallClass) - {CallClass.PREMIUM})


@dataclass(frozen=True, slots=True)
class Step:
    """One SIP message as the gate saw it, or the keys that the phone pressed."""

    at: float
    """Seconds since the call was dialled."""
    with_carrier: bool
    to_gate: bool
    text: str


@dataclass(slots=True)
class Outcome:
    """One call of the demo, as it went."""

    title: str
    steps: list[Step] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    record: CallRecord | None = None
    problems: list[str] = field(default_factory=list)
    """What did not go as expected; empty when all is well."""

    def expect(self, what: str, seen: object, wanted: object) -> None:
        """Note a problem when ``seen`` is not ``wanted``."""
        if seen != wanted:
            self.problems.append(f"{what}: expected {wanted}, got {seen}")


class _Stage:
    """Gate, phones and carrier, and what passes between them."""

    def __init__(self, gate: Gate, carrier: Carrier, phones: dict[str, Phone]) -> None:
        self.gate = gate
        self.carrier = carrier
        self.phones = phones
        self.outcome = Outcome("")
        self._began = 0.0
        self._calls: list[PhoneCall] = []
        gate.driver.endpoint.trace = self._trace

    def _trace(self, incoming: bool, flow: Flow, data: bytes) -> None:
        line = data.partition(b"\r\n")[0].decode("ascii", "replace")
        is_response = line.startswith("SIP/2.0 ")
        text = line.removeprefix("SIP/2.0 ") if is_response else line.partition(" ")[0]
        step = Step(time.monotonic() - self._began, flow.remote_port == self.carrier.port, incoming, text)
        self.outcome.steps.append(step)

    async def play(self, scene: Callable[[_Stage], Awaitable[None]], title: str) -> Outcome:
        """Place one call and wait for its record in the usage log."""
        self.outcome = outcome = Outcome(title)
        self._began = time.monotonic()
        self._calls.clear()
        before = {record.record_id for record in await self._records()}
        try:
            async with asyncio.timeout(3 * PATIENCE):
                await scene(self)
                outcome.record = await self._new_record(before)
        except TimeoutError:
            outcome.problems.append("the call did not come to its end in time")
        await self.close()
        outcome.heard = [name for call in self._calls for name in call.rtp.heard]
        return outcome

    def dial(self, extension: str, number: str) -> PhoneCall:
        """Dial from one of the phones."""
        call = self.phones[extension].call(number)
        self._calls.append(call)
        return call

    def press(self, call: PhoneCall, keys: str) -> None:
        """Press keys on the phone; what digits they are is nobody's business."""
        hidden = "".join("*" if key.isdigit() else key for key in keys)
        self.outcome.steps.append(Step(time.monotonic() - self._began, False, True, f"keys {hidden}"))
        call.rtp.press(keys)

    async def hears(self, call: PhoneCall, *names: str) -> None:
        """Wait until the phone has heard these sounds in this order, whatever lay between."""
        await _until(lambda: _in_order(names, call.rtp.heard))

    async def talks_and_hangs_up(self, call: PhoneCall, extension: str) -> None:
        """Wait until the carrier answered and both hear each other, talk, and hang up."""
        await _until(lambda: self.carrier.streams and call.answered.is_set())
        stream = self.carrier.streams[-1]
        heard = stream.packets
        await _until(lambda: stream.packets > heard + 5)
        await asyncio.sleep(TALK)
        self.phones[extension].hang_up(call)

    async def close(self) -> None:
        """Close the RTP sockets of the last call."""
        for stream in [*self.carrier.streams, *(call.rtp for call in self._calls)]:
            await stream.close()
        self.carrier.streams.clear()

    async def _records(self) -> list[CallRecord]:
        store = self.gate.store
        return [] if store is None else await asyncio.to_thread(lambda: list(store.usage.stream()))

    async def _new_record(self, before: set[str]) -> CallRecord:
        while True:
            for record in await self._records():
                if record.record_id not in before:
                    return record
            await asyncio.sleep(0.05)


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is waited for is outside: packets that come
            await asyncio.sleep(0.02)


def _in_order(names: tuple[str, ...], heard: list[str]) -> bool:
    rest = iter(heard)
    return all(name in rest for name in names)


# The four calls ---------------------------------------------------------------------------------------------


async def _wrong_then_right(stage: _Stage) -> None:
    call = stage.dial(REQUIRED_EXTENSION, NUMBER)
    await stage.hears(call, "enter_code")
    stage.press(call, WRONG_CODE + "#")
    await stage.hears(call, "enter_code", "not_valid_try_again")
    stage.press(call, CODE + "#")
    await stage.talks_and_hangs_up(call, REQUIRED_EXTENSION)


async def _skipped(stage: _Stage) -> None:
    call = stage.dial(OPTIONAL_EXTENSION, NUMBER)
    await stage.hears(call, "enter_code_or_pound")
    stage.press(call, "#")
    await stage.talks_and_hangs_up(call, OPTIONAL_EXTENSION)


async def _emergency(stage: _Stage) -> None:
    call = stage.dial(REQUIRED_EXTENSION, EMERGENCY)
    await stage.talks_and_hangs_up(call, REQUIRED_EXTENSION)


async def _blocked(stage: _Stage) -> None:
    call = stage.dial(REQUIRED_EXTENSION, PREMIUM)
    async with asyncio.timeout(PATIENCE):
        await call.ended.wait()
    stage.outcome.expect("status", call.status, 403)


async def place_calls(stage: _Stage) -> list[Outcome]:
    """Place the four calls and judge each."""
    first = await stage.play(_wrong_then_right, f"A wrong code, then a right one ({NUMBER}, code required)")
    _judge(first, Disposition.ANSWERED, code=CODE, wrong_tries=1, heard=("enter_code", "not_valid_try_again"))
    second = await stage.play(_skipped, f"An optional code, skipped with # ({NUMBER})")
    _judge(second, Disposition.ANSWERED, heard=("enter_code_or_pound",))
    third = await stage.play(_emergency, f"An emergency call ({EMERGENCY}): never asked, never refused")
    _judge(third, Disposition.ANSWERED, emergency=True)
    third.expect("carrier was called at", stage.carrier.numbers[-1:], [EMERGENCY])
    fourth = await stage.play(_blocked, f"A call that no code unlocks ({PREMIUM}, premium)")
    _judge(fourth, Disposition.BLOCKED)
    return [first, second, third, fourth]


def _judge(
    outcome: Outcome,
    disposition: Disposition,
    *,
    code: str = "",
    wrong_tries: int = 0,
    heard: tuple[str, ...] = (),
    emergency: bool = False,
) -> None:
    record = outcome.record
    if record is None:
        outcome.problems.append("no record came to the usage log")
        return
    outcome.expect("disposition", record.disposition.value, disposition.value)
    outcome.expect("account code", record.code.form if record.code is not None else "", code)
    outcome.expect("wrong tries", record.wrong_tries, wrong_tries)
    outcome.expect("emergency", record.emergency, emergency)
    prompts = tuple(name for name in outcome.heard if not name.endswith(("ringback", "_tone", "connecting")))
    outcome.expect("prompts heard", prompts, heard)


# Setting the stage ------------------------------------------------------------------------------------------


def _settings(folder: Path, carrier_port: int) -> Settings:
    """Return settings for free ports on loopback; the environment's own settings of a gate are left out."""
    text = f"""
        local_networks = ["{HOST}"]
        [sip]
        listen = ["udp:{HOST}:0"]
        [media]
        address = "{HOST}"
        ports = "30000-30199"
        [store]
        url = "sqlite:///{folder}/demo.db"
        [number_plan]
        country = "US"
        extensions = ["2XX"]
        [phones]
        codecs = ["PCMU"]
        [[trunks]]
        name = "carrier"
        addresses = ["udp:{HOST}:{carrier_port}"]
        inbound = false
        number_format = {{ style = "e164_without_plus" }}
        """
    file = folder / "demo.toml"
    file.write_text(text, encoding="utf-8")
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.upper().startswith(ENV_PREFIX)}
    try:
        return load_settings(file)
    finally:
        os.environ.update(hidden)


def _fill_store(settings: Settings) -> dict[str, str]:
    """Make two groups with one user each, and a code; returns the users' passwords."""
    passwords = {extension: generate_password() for extension in (REQUIRED_EXTENSION, OPTIONAL_EXTENSION)}
    with Store(settings.store.url) as store:
        for extension, name, collection in (
            (REQUIRED_EXTENSION, "Codes required", CodeCollection.REQUIRED),
            (OPTIONAL_EXTENSION, "Codes optional", CodeCollection.OPTIONAL),
        ):
            store.groups.add(UserGroup(name, permissions=_FREE, collection=collection, unlock=_UNLOCK))
            credentials = digest_credentials(extension, settings.auth.realm, passwords[extension])
            store.users.add(User(extension, name, f"Phone {extension}", credentials=credentials))
        store.codes.add(new_code(CODE, "Demo matter", plan=number_plan(settings)))
    return passwords


def _recognisable_frames() -> dict[bytes, str]:
    """Return the frames that occur in one sound only: what the phone knows prompts by."""
    found: dict[bytes, set[str]] = {}
    for sound in PromptLibrary.load().encode(encode_prompt, ("PCMU",)):
        for frame in sound.frames:
            found.setdefault(frame, set()).add(sound.key)
    return {frame: names.pop() for frame, names in found.items() if len(names) == 1}


async def _perform(folder: Path) -> list[Outcome]:
    frames = await asyncio.to_thread(_recognisable_frames)
    async with contextlib.AsyncExitStack() as stack:
        carrier = Carrier(frames)
        await carrier.start()
        stack.push_async_callback(carrier.close)
        settings = _settings(folder, carrier.port)
        passwords = await asyncio.to_thread(_fill_store, settings)
        gate = Gate(settings)
        await gate.start()
        stack.push_async_callback(gate.stop)
        phones = {}
        for extension, password in passwords.items():
            phones[extension] = phone = Phone(extension, password, gate.bound[0][1], frames)
            await phone.start()
            stack.push_async_callback(phone.close)
        stage = _Stage(gate, carrier, phones)
        stack.push_async_callback(stage.close)
        return await place_calls(stage)


def run(console: Console | None = None) -> int:
    """Run the demo and print it; returns 0 when every call went as expected."""
    console = console or Console()
    log.configure("WARNING")
    console.print("Starting a gate, a simulated carrier and a simulated phone on loopback ...")
    with tempfile.TemporaryDirectory(prefix="tollgate-demo-") as folder:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                outcomes = runner.run(_perform(Path(folder)))
        except OSError as error:
            raise ConfigurationError(f"the demo can't start: {error.strerror or error}") from error
    for number, outcome in enumerate(outcomes, 1):
        _show(console, number, outcome)
    failed = sum(bool(outcome.problems) for outcome in outcomes)
    console.print(
        f"[bold red]{failed} of {len(outcomes)} calls did not go as expected[/]"
        if failed
        else f"[bold green]All {len(outcomes)} calls went as expected.[/]"
    )
    return 1 if failed else 0


# Showing it -------------------------------------------------------------------------------------------------


def _show(console: Console, number: int, outcome: Outcome) -> None:
    console.rule(f"[bold]Call {number}: {outcome.title}", align="left")
    _show_ladder(console, outcome.steps)
    console.print(f"Heard: {', '.join(outcome.heard) or 'no sound of the gate'}")
    record = outcome.record
    if record is not None:
        console.print(f"Decision: [bold]{record.treatment}[/]: {record.reason}", highlight=False)
        _show_record(console, record)
    for problem in outcome.problems:
        console.print(f"[bold red]not as expected:[/] {problem}", markup=True)
    console.print()


WIDTH = 26
"""Characters of one arrow."""


def _show_ladder(console: Console, steps: list[Step]) -> None:
    """Print the messages between phone, gate and carrier with their times in seconds."""
    console.print(f"{'':>8} {'phone':<{WIDTH}}{'gate':^6}{'carrier':>{WIDTH}}", markup=False)
    for step in steps:
        arrow = _arrow(step.text, rightwards=step.to_gate is not step.with_carrier)
        blank = " " * WIDTH
        left, right = (blank, arrow) if step.with_carrier else (arrow, blank)
        console.print(f"{step.at:8.3f} |{left}|    |{right}|", markup=False, highlight=False)


def _arrow(text: str, *, rightwards: bool) -> str:
    label = f" {text[: WIDTH - 6]} ".center(WIDTH - 2, "-")
    return f"-{label}>" if rightwards else f"<{label}-"


_ENDED_BY = {HungUpBy.A_LEG: "the caller", HungUpBy.B_LEG: "the callee", HungUpBy.GATE: "the gate"}


def _show_record(console: Console, record: CallRecord) -> None:
    """Print the usage-log row, and what else the record says."""
    row = record_row(ExportFormat.USAGE_LOG, record, zone=datetime.now().astimezone().tzinfo or UTC)
    table = Table("Usage log", "", title_justify="left")
    for name, cell in zip(USAGE_LOG_COLUMNS, row, strict=True):
        if cell:
            table.add_row(name, str(cell))
    console.print(table)
    trunks = ", ".join(f"{tried.trunk} {tried.sip_code}" for tried in record.trunks)
    facts = {
        "outcome": record.disposition.value,
        "SIP": record.sip_code,
        "Q.850": record.q850_cause,
        "code for": record.code.description if record.code is not None else "",
        "wrong tries": record.wrong_tries,
        "trunks": trunks,
        "codec": record.codec,
        "ended by": _ENDED_BY[record.hung_up_by] if record.hung_up_by is not None else "",
    }
    console.print("; ".join(f"{name} {value}" for name, value in facts.items() if value), highlight=False)

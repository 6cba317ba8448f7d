"""A gate that ends, in order or killed, and starts again: when it serves, and whether it knows its phones."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
import wave
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from sqlalchemy import insert

from proxy.policy import User
from proxy.sip.bindings import StoredBinding
from proxy.store import Store
from proxy.store.models import users
from proxy.store.rows import user_row
from reliability.figures import Figure
from reliability.gate import GateProcess
from reliability.traffic import Callee, Caller
from reliability.wire import HOST, Sockets
from tests.net.waiting import until

__all__ = ["Restarts", "processor_seconds", "restarted"]

PHONES = 5_000
RECORDINGS, RECORDING_SECONDS = 20, 5
"""So many groups have an own prompt of that length."""
TIMES = 10
PROMISED = 3.0
FIRST_EXTENSION = 20_000
EXTENSIONS = 'number_plan.extensions = ["2XXXX"]\n'


@dataclass
class Restarts:
    """What each start was like."""

    seconds: list[float] = field(default_factory=list)
    """From the start of the process to its answer to an OPTIONS."""
    processor: list[float] = field(default_factory=list)
    """Seconds of a core that it took for that; with nothing else on the machine they are no more."""
    contacts: list[int] = field(default_factory=list)
    """How many of the phones it knew then."""
    reached: list[str] = field(default_factory=list)
    """Extensions whose phone was called right after."""


async def restarted(
    folder: Path,
    *,
    phones: int = PHONES,
    recordings: int = RECORDINGS,
    ends: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGKILL) * (TIMES // 2),
) -> Restarts:
    """End a gate by each of these signals and start it again, and call a phone that has registered before."""
    phone = Callee()  # all of them, behind one port
    await phone.start()
    sounds = folder / "sounds"
    for number in range(recordings):
        _record(sounds / "groups" / f"Group {number}" / "enter_code.wav")
    settings = EXTENSIONS + (f'prompts.folder = "{sounds}"\n' if recordings else "")
    gate = GateProcess(folder, phone.port, settings)
    await gate.start()
    await gate.listens()
    found = Restarts()
    for number, end in enumerate(ends):
        await gate.end(end)
        if not number:
            _register(folder, phones, phone.port)
        begun = time.monotonic()
        await gate.start()
        stranger = Sockets(HOST, (HOST, gate.port))
        await stranger.open()
        await stranger.answers_to(b"\r\n\r\n")
        found.seconds.append(time.monotonic() - begun)
        found.processor.append(processor_seconds(gate.process.pid))
        stranger.close()
        found.contacts.append(cast("int", (await gate.status())["registered_contacts"]))
        await gate.listens()
        caller = Caller(gate.port)
        await caller.start()
        call = caller.place(str(FIRST_EXTENSION + number % phones), hold=0.0)
        await until(call.over.is_set)
        await caller.close()
    found.reached = phone.numbers
    await gate.end()
    await phone.close()
    return found


def processor_seconds(pid: int) -> float:
    """Return a process's time on a core (proc(5), stat fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _record(path: Path) -> None:
    """Make an own recording of noise."""
    path.parent.mkdir(parents=True)
    with wave.open(str(path), "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(16_000)
        recording.writeframes(bytes(range(256)) * (RECORDING_SECONDS * 16_000 * 2 // 256))


def _register(folder: Path, phones: int, port: int) -> None:
    """Give the store users whose phones have registered."""
    extensions = [str(FIRST_EXTENSION + number) for number in range(phones)]
    until_then = time.time() + 3_600.0
    with Store(f"sqlite:///{folder}/gate.db") as store:
        with store.database.write() as connection:
            connection.execute(insert(users), [user_row(User(name, "Open")) for name in extensions])
        store.bindings.replace(
            {
                name: [
                    StoredBinding(
                        name, f"sip:{name}@{HOST}:{port}", "", 1.0, until_then, f"phone-{name}", 1, "UDP",
                        (HOST, port), (HOST, port), False, (), "", 0, "",
                    )
                ]
                for name in extensions
            }
        )  # fmt: skip


def run(seconds: float | None = None) -> list[Figure]:
    """Start ten times, or about as often as there is time for."""
    times = TIMES if seconds is None else max(2, int(seconds / 2.5))
    ends = (signal.SIGTERM, signal.SIGKILL) * (times // 2)
    with tempfile.TemporaryDirectory(prefix="tollgate-restart-") as folder:
        found = asyncio.run(restarted(Path(folder), ends=ends))
    worst, usual = max(found.seconds), sorted(found.seconds)[len(found.seconds) // 2]
    what = f"{len(found.seconds)} restarts with {PHONES:,} phones and {RECORDINGS} own recordings"
    work = max(found.processor)
    return [
        Figure(
            23, f"{what}: until an OPTIONS is answered, median and worst", f"{PROMISED:.0f} s",
            f"{usual:.2f} s, {worst:.2f} s ({work:.2f} s of a core at most)", worst <= PROMISED,
        ),
        Figure(
            23, f"{what}: phones known then, at least", f"{PHONES:,}",
            f"{min(found.contacts):,}", min(found.contacts) == PHONES,
        ),
        Figure(
            23, f"{what}: phones of before that could be called", str(len(found.seconds)),
            str(len(found.reached)), len(found.reached) == len(found.seconds),
        ),
    ]  # fmt: skip

"""`tollgate serve` as a process: signals, systemd, a kill in mid call; and `tollgate demo` as a whole."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rich.console import Console

from proxy import demo
from proxy.cdr.record import CallRecord, Disposition
from proxy.demo_agents import Carrier, Phone, PhoneCall
from proxy.net.control import ask
from proxy.policy import CallClass, ClassOfService, User, UserGroup
from proxy.settings import load_settings
from proxy.store import Store, digest_credentials
from tests.net.waiting import PATIENCE, until
from tests.support.ports import rtp_ports

pytestmark = pytest.mark.system

ROOT = Path(__file__).parent.parent
PASSWORD = "only-for-this-test"
NUMBER = "4155550123"


class Process:
    """A gate in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "gate.toml"
        self.media_ports = rtp_ports()
        self.carrier = Carrier({}, ring=0.05)
        self.process: asyncio.subprocess.Process
        self.ready = ""
        self.log = ""
        self.notifications = ""
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.calls: list[PhoneCall] = []
        self.phones: list[Phone] = []

    def configure(self, extra: str = "") -> None:
        self.file.write_text(
            f"""
            sip.listen = ["udp:127.0.0.1:0"]
            media.ports = "{self.media_ports}"
            store.url = "sqlite:///{self.folder}/gate.db"
            phones.codecs = ["PCMU"]
            {extra}
            [[trunks]]
            name = "carrier"
            addresses = ["udp:127.0.0.1:{self.carrier.port}"]
            inbound = false
            """
        )

    def fill_store(self) -> None:
        with Store(load_settings(self.file).store.url) as store:
            store.groups.add(UserGroup("Open", permissions=ClassOfService(frozenset(CallClass))))
            credentials = digest_credentials("204", "tollgate", PASSWORD)
            store.users.add(User("204", "Open", "Phone 204", credentials=credentials))

    async def start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TOLLGATE_")}
        environment |= {"NOTIFY_SOCKET": str(self.folder / "notify"), "WATCHDOG_USEC": "2000000"}
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxy", "serve", "--config", str(self.file),
            cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.ready = (await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)).decode()

    async def dial(self) -> PhoneCall:
        port = int(self.ready.partition("udp:127.0.0.1:")[2].partition(";")[0])
        phone = Phone("204", PASSWORD, port, {})
        await phone.start()
        self.phones.append(phone)
        call = phone.call(NUMBER)
        self.calls.append(call)
        return call

    @property
    def status(self) -> int | None:
        """Exit status, None while it runs."""
        return self.process.returncode

    async def end(self, number: signal.Signals = signal.SIGTERM) -> str:
        """Send a signal and return what the process wrote to its log."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        _, log = await asyncio.wait_for(self.process.communicate(), PATIENCE)
        return self.log + log.decode()

    async def logged(self, text: str) -> None:
        """Wait until the process has logged something that holds ``text``."""
        assert self.process.stderr is not None
        while text not in self.log:
            line = await asyncio.wait_for(self.process.stderr.readline(), PATIENCE)
            assert line, f"the process ended before it logged {text!r}"
            self.log += line.decode()

    async def notified_of(self, text: str) -> None:
        """Wait until the process has told systemd something that holds ``text``."""
        await until(lambda: text in self.told())

    def told(self) -> str:
        """Return all that the process has told systemd so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.notifications += self.notified.recv(2_000).decode() + "\n"
        return self.notifications

    def records(self) -> list[CallRecord]:
        with Store(f"sqlite:///{self.folder}/gate.db") as store:
            return list(store.usage.stream())


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Process]:
    gate = Process(tmp_path)
    gate.notified.bind(str(tmp_path / "notify"))
    gate.notified.setblocking(False)
    await gate.carrier.start()
    gate.configure()
    gate.fill_store()
    await gate.start()
    yield gate
    if gate.process.returncode is None:
        await gate.end(signal.SIGKILL)
    for call in gate.calls:
        await call.rtp.close()
    for phone in gate.phones:
        await phone.close()
    await gate.carrier.close()
    gate.notified.close()


async def test_it_says_that_it_is_ready_feeds_the_watchdog_and_ends_on_sigterm(gate: Process) -> None:
    assert gate.ready.startswith("tollgate ready: listening on udp:127.0.0.1:")
    await gate.notified_of("READY=1")
    await gate.notified_of("WATCHDOG=1")
    log = await gate.end()
    assert gate.process.returncode == 0
    assert "ended" in log
    assert "STOPPING=1" in gate.told()


async def test_sigterm_lets_calls_end_and_a_second_one_does_not_wait(gate: Process) -> None:
    call = await gate.dial()
    await asyncio.wait_for(call.answered.wait(), PATIENCE)
    gate.process.send_signal(signal.SIGTERM)
    await gate.notified_of("STATUS=draining 1 calls")
    assert not call.ended.is_set()
    await gate.end()
    await asyncio.wait_for(call.ended.wait(), PATIENCE)
    assert gate.status == 0
    assert [record.disposition for record in gate.records()] == [Disposition.ANSWERED]


async def test_sighup_takes_good_settings_and_refuses_bad_ones_whole(gate: Process) -> None:
    gate.configure("limits.max_calls = 0")
    gate.process.send_signal(signal.SIGHUP)
    await gate.logged("settings not taken, the old ones stay")
    gate.configure("limits.max_calls = 1")
    gate.process.send_signal(signal.SIGHUP)
    await gate.logged("settings read again")
    call = await gate.dial()
    await asyncio.wait_for(call.answered.wait(), PATIENCE)
    second = await gate.dial()
    await asyncio.wait_for(second.ended.wait(), PATIENCE)
    assert second.status == 503
    log = await gate.end(signal.SIGKILL)
    assert "settings not taken, the old ones stay" in log
    assert "limits.max_calls: must be greater than or equal to 1" in log
    assert "settings read again" in log


async def test_kill_9_in_mid_call_leaves_a_record_marked_interrupted(gate: Process) -> None:
    call = await gate.dial()
    await asyncio.wait_for(call.answered.wait(), PATIENCE)
    await gate.end(signal.SIGKILL)
    assert gate.records() == []
    await gate.start()
    await until(gate.records)
    (record,) = gate.records()
    assert record.disposition is Disposition.INTERRUPTED
    assert record.answered_after is not None
    await gate.end()
    assert len(gate.records()) == 1


async def test_a_second_gate_on_the_same_store_is_refused(gate: Process) -> None:
    first = gate.process
    await gate.start()
    assert gate.ready == ""
    _, log = await asyncio.wait_for(gate.process.communicate(), PATIENCE)
    assert gate.process.returncode not in {0, None}
    # Whatever else it had to say (of too few open files, say): why it ends is one line, and the last.
    assert log.decode().splitlines()[-1].startswith("tollgate: journal directory ")
    assert b"Traceback" not in log
    gate.process = first
    socket_path = load_settings(gate.file).control_socket
    assert await asyncio.to_thread(ask, socket_path, "calls", timeout=PATIENCE) == []


def test_the_demo_shows_four_calls_that_go_as_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLGATE_STORE__URL", "sqlite:////nonexistent/not-the-demos.db")
    screen = io.StringIO()
    assert demo.run(Console(file=screen, width=100)) == 0
    text = screen.getvalue()
    assert text.count("Call ") >= 4
    assert "enter_code, not_valid_try_again" in text
    assert "required code: " in text
    assert "911" in text
    assert "403 Forbidden" in text
    assert "- keys ****# -" in text
    assert "ended by the caller" in text
    assert "Account Code" in text
    assert demo.WRONG_CODE not in text

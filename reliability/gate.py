"""A gate under test: `tollgate serve` in a process of its own, with a PBX and a carrier on this host."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path
from typing import Self

from proxy.cdr.record import CallRecord
from proxy.net.control import ask
from proxy.settings import load_settings
from proxy.store import Store
from reliability.strangers import HOST, OPTIONS_WITHIN, best_options_seconds
from tests.net.waiting import PATIENCE
from tests.support.ports import rtp_ports

__all__ = ["ROOT", "GateProcess"]

ROOT = Path(__file__).resolve().parent.parent


class GateProcess:
    """One gate, started as often as wanted on the same folder; each start listens on another port."""

    def __init__(self, folder: Path, carrier_port: int, extra: str = "", *, media_ports: str = "") -> None:
        self.media_ports = media_ports or rtp_ports(size=198)
        self.folder = folder
        self.file = folder / "gate.toml"
        self.carrier_port = carrier_port
        self.process: asyncio.subprocess.Process
        self.port = 0
        self.environment: dict[str, str] = {}
        """What the process is told besides its settings."""
        self.configure(extra)

    def configure(self, extra: str = "", *, port: int = 0) -> None:
        """Write the settings, which a start or a reload takes; ``extra`` comes before the tables."""
        self.file.write_text(
            f"""
            local_networks = ["127.0.0.2"]
            sip.listen = ["udp:127.0.0.1:{port}"]
            media.ports = "{self.media_ports}"
            store.url = "sqlite:///{self.folder}/gate.db"
            phones.codecs = ["PCMU"]
            log.level = "warning"
            {extra}
            [[peers]]
            name = "pbx"
            networks = ["127.0.0.1"]
            default_group = "Open"
            [[groups]]
            name = "Open"
            permissions = ["internal", "toll_free", "local", "national"]
            [[trunks]]
            name = "carrier"
            addresses = ["udp:127.0.0.1:{self.carrier_port}"]
            inbound = false
            """
        )

    async def __aenter__(self) -> Self:
        await self.start()
        await self.listens()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        died = self.process.returncode not in {None, 0}
        await self.end()
        if kind is None:
            assert not died, self.log[-2000:]
            assert "Traceback" not in self.log, self.log[-2000:]

    async def start(self) -> None:
        """Start the gate, and return when it says that it is ready."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TOLLGATE_")}
        with (self.folder / "gate.log").open("a") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "proxy", "serve", "--config", str(self.file),
                cwd=ROOT, env=environment | self.environment, stdout=asyncio.subprocess.PIPE, stderr=log,
            )  # fmt: skip
        assert self.process.stdout is not None
        ready = (await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)).decode()
        assert ready, f"the gate did not start: {self.log[-2000:]}"
        self.port = int(re.split(r"\D", ready.partition("udp:127.0.0.1:")[2], maxsplit=1)[0])

    async def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal that ends the process, and wait for its end."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        await asyncio.wait_for(self.process.wait(), PATIENCE)

    @property
    def log(self) -> str:
        """What the gate has logged so far."""
        return (self.folder / "gate.log").read_text()

    async def ask(self, command: str, **arguments: object) -> object:
        """Ask over the control socket."""
        socket = load_settings(self.file).control_socket
        return await asyncio.to_thread(ask, socket, command, timeout=PATIENCE, **arguments)

    async def status(self) -> dict[str, object]:
        """Return what `tollgate status` shows."""
        status = await self.ask("status")
        assert isinstance(status, dict)
        return status

    def records(self) -> list[CallRecord]:
        """Return the usage log, oldest first."""
        with Store(f"sqlite:///{self.folder}/gate.db") as store:
            return list(store.usage.stream())

    async def settled(self, patience: float = PATIENCE) -> list[CallRecord]:
        """Wait until no call is up and the store has every record; returns them. The gate still answers an
        OPTIONS in time, and ends in order.
        """
        await self.rests(patience)
        waited = await best_options_seconds((HOST, self.port))
        assert waited <= OPTIONS_WITHIN, f"an OPTIONS waited {waited:.3f} s"
        await self.end()
        assert self.process.returncode == 0, self.log[-2000:]
        return self.records()

    async def rests(self, patience: float = PATIENCE) -> None:
        """Wait until no call is up."""
        await self._says("calls", 0, patience)

    async def listens(self) -> None:
        """Wait until the store's policy is in force, so that more than emergency calls pass."""
        await self._says("store_trouble", "")

    async def _says(self, fact: str, wanted: object, patience: float = PATIENCE) -> None:
        async with asyncio.timeout(patience):
            while (await self.status())[fact] != wanted:  # noqa: ASYNC110 - nothing here would set an event
                await asyncio.sleep(0.05)

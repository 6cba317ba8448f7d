"""A gate under test: the real `tollgate serve`, pinned to one core, on loopback, with a store of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "config" / "loopback.toml"
GATE_CORE = 0
GENERATOR_CORE = min(1, (os.cpu_count() or 1) - 1)
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
CODE = "1234"


@dataclass(frozen=True, slots=True)
class GateProcess:
    """A running gate: its process id, where it listens and the environment its commands need."""

    pid: int
    host: str
    port: int
    carrier_port: int
    environment: dict[str, str]

    def cpu_seconds(self) -> float:
        """CPU that the process has used so far, all threads, user and system (proc(5), fields 14 and 15)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def media_cpu_seconds(self) -> float:
        """CPU that the media core's threads have used so far (their names begin with ``media-``)."""
        used = 0
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            if (task / "comm").read_text().startswith("media-"):
                used += int((task / "schedstat").read_text().split()[0])
        return used / 1e9

    def resident_bytes(self) -> int:
        """Resident memory of the process (proc(5), statm field 2)."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def command(self, *arguments: str) -> str:
        """Run a `tollgate` command against this gate's store and return what it prints."""
        return subprocess.run(
            [sys.executable, "-m", "proxy", *arguments],
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
            cwd=ROOT,
        ).stdout

    def records(self) -> list[dict[str, object]]:
        """Return the usage log as it is now."""
        lines = self.command("usage", "export", "--format", "jsonl", "--config", str(CONFIG)).splitlines()
        return [json.loads(line) for line in lines]


@contextmanager
def running_gate(prepare: Callable[[str], None] = lambda _url: None) -> Iterator[GateProcess]:
    """Start the gate of config/loopback.toml in a folder of its own; stop it by its process id.

    ``prepare`` may fill its store, which it is given the URL of.
    """
    with tempfile.TemporaryDirectory(prefix="tollgate-bench-") as folder:
        environment = os.environ | {
            "TOLLGATE_STORE__URL": f"sqlite:///{folder}/tollgate.db",
            "TOLLGATE_JOURNAL__FOLDER": f"{folder}/journal",
            "TOLLGATE_CONTROL__SOCKET": f"{folder}/control.sock",
            "TOLLGATE_LOG__LEVEL": "warning",
        }
        tollgate = [sys.executable, "-m", "proxy"]
        subprocess.run(
            [*tollgate, "codes", "add", CODE, "--description", "bench", "--config", str(CONFIG)],
            env=environment,
            check=True,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )
        prepare(environment["TOLLGATE_STORE__URL"])
        process = subprocess.Popen(
            ["taskset", "-c", str(GATE_CORE), *tollgate, "serve", "--config", str(CONFIG)],
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=(ROOT / "var" / "bench-gate.log").open("w")
            if (ROOT / "var").is_dir()
            else subprocess.DEVNULL,
            text=True,
        )
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            if not ready:
                raise RuntimeError("the gate did not start; is port 5060 free?")
            time.sleep(0.5)
            yield GateProcess(process.pid, "127.0.0.1", 5060, 5090, dict(environment))
        finally:
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

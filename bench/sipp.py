"""SIPp as the load generator, pinned to the core that the gate does not use."""

from __future__ import annotations

import csv
import os
import resource
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.gate import GENERATOR_CORE, GateProcess
from tests.support.pcap import Keys, caller_stream, write_pcap

SCENARIOS = Path(__file__).parent / "scenarios"


@dataclass(frozen=True, slots=True)
class Load:
    """What a run of SIPp did: calls that went through and that failed, and the CPU of both generators."""

    rate: float
    seconds: float
    succeeded: int
    failed: int
    generator_cpu_seconds: float

    @property
    def generator_share(self) -> float:
        """Share of its one core that the generator used; above 0.9 the run says nothing about the gate."""
        return self.generator_cpu_seconds / self.seconds


def run_load(gate: GateProcess, caller: str, *, rate: float, calls: int, dialled: str) -> Load:
    """Place ``calls`` calls at ``rate`` per second with ``caller``.xml against a prompt carrier."""
    with tempfile.TemporaryDirectory(prefix="tollgate-sipp-") as folder:
        for scenario in SCENARIOS.glob("*.xml"):
            (Path(folder) / scenario.name).write_bytes(scenario.read_bytes())
        write_pcap(Path(folder) / "gated_caller.pcap", caller_stream([Keys("1234#")], total_ms=1900))
        write_pcap(Path(folder) / "plain_caller.pcap", caller_stream([], total_ms=1000))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.monotonic()
        carrier = _sipp(folder, f"-sf carrier.xml -p {gate.carrier_port} -mp 40000".split())
        time.sleep(0.3)
        uac = _sipp(
            folder,
            [f"{gate.host}:{gate.port}", *f"-sf {caller}.xml -p 5791 -mp 20000 -s {dialled}".split()],
            *f"-r {rate} -m {calls} -l 20000 -timeout 120 -trace_stat -stf caller.csv -fd 1".split(),
        )
        uac.wait()
        seconds = time.monotonic() - started
        time.sleep(0.5)
        carrier.terminate()
        carrier.wait()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        with (Path(folder) / "caller.csv").open() as file:
            last = list(csv.DictReader(file, delimiter=";"))[-1]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Load(rate, seconds, int(last["SuccessfulCall(C)"]), int(last["FailedCall(C)"]), cpu)


def _sipp(folder: str, arguments: list[str], *more: str) -> subprocess.Popen[bytes]:
    always = ["-i", "127.0.0.1", "-mi", "127.0.0.1", "-nostdin", "-buff_size", "4194304"]
    return subprocess.Popen(
        ["taskset", "-c", str(GENERATOR_CORE), "sipp", *arguments, *more, *always],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"TERM": "dumb"},
    )

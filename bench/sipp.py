"""SIPp as the load generator, pinned to the core that the gate does not use.

Two of SIPp's habits would be charged to the gate and are taken from it. Its media ports are only numbers:
nothing listens there, so each packet of the gate would come back as an ICMP error, made in the gate's own
time; here `open_media_ports` binds them. And it plays every stream through a raw socket of its own
(see one_raw_socket.c).
"""

from __future__ import annotations

import csv
import os
import resource
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.gate import GENERATOR_CORE, GateProcess
from tests.support.pcap import Keys, caller_stream, write_pcap

SCENARIOS = Path(__file__).parent / "scenarios"
SHIM = Path(__file__).parent / "one_raw_socket.c"
CALLER_MEDIA, CARRIER_MEDIA = 20_000, 40_000
MEDIA_PORTS = 6_000
"""SIPp takes every fourth port from the first on, one per call, and begins again after 10,000."""
SIPP_OWN_PORTS = 8
"""The first ports SIPp binds itself."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a run of SIPp did: calls that both ends saw through and the others, and the CPU of both SIPps."""

    rate: float
    seconds: float
    succeeded: int
    failed: int
    generator_cpu_seconds: float

    @property
    def generator_share(self) -> float:
        """Share of its one core that the generator used; above 0.9 the run says nothing about the gate."""
        return self.generator_cpu_seconds / self.seconds


@contextmanager
def open_media_ports() -> Iterator[None]:
    """Bind the ports that SIPp only names, RTP and RTCP; what arrives there is never read."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with ExitStack() as stack:
        for first in (CALLER_MEDIA, CARRIER_MEDIA):
            for port in range(first + SIPP_OWN_PORTS, first + MEDIA_PORTS, 4):
                for bound in (port, port + 1):
                    sink = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                    sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
                    # A port that someone else has is as good as one of ours.
                    with suppress(OSError):
                        sink.bind(("127.0.0.1", bound))
        yield


def run_load(gate: GateProcess, caller: str, *, rate: float, calls: int, dialled: str) -> Load:
    """Place ``calls`` calls at ``rate`` per second with ``caller``.xml against a prompt carrier."""
    with tempfile.TemporaryDirectory(prefix="tollgate-sipp-") as folder, open_media_ports():
        for scenario in SCENARIOS.glob("*.xml"):
            (Path(folder) / scenario.name).write_bytes(scenario.read_bytes())
        write_pcap(Path(folder) / "gated_caller.pcap", caller_stream([Keys("1234#")], total_ms=1900))
        write_pcap(Path(folder) / "plain_caller.pcap", caller_stream([], total_ms=1000))
        subprocess.run(
            ["cc", "-O2", "-shared", "-fPIC", "-o", f"{folder}/one_raw_socket.so", str(SHIM)], check=True
        )
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.monotonic()
        carrier = _sipp(
            folder,
            f"-sf carrier.xml -p {gate.carrier_port} -mp {CARRIER_MEDIA}".split(),
            *["-trace_stat", "-stf", "carrier.csv", "-fd", "1"],
        )
        time.sleep(0.3)
        uac = _sipp(
            folder,
            [
                f"{gate.host}:{gate.port}",
                *f"-sf {caller}.xml -p 5791 -mp {CALLER_MEDIA} -s {dialled}".split(),
            ],
            *f"-r {rate} -m {calls} -l 20000 -timeout 120 -trace_stat -stf caller.csv -fd 1".split(),
        )
        uac.wait()
        seconds = time.monotonic() - started
        time.sleep(1.5)
        carrier.terminate()
        carrier.wait()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        called = int(_last_row(Path(folder) / "caller.csv")["TotalCallCreated"])
        # A call that was answered but never placed looks well to the caller: the carrier decides.
        connected = int(_last_row(Path(folder) / "carrier.csv")["SuccessfulCall(C)"])
        hung_up = int(_last_row(Path(folder) / "caller.csv")["SuccessfulCall(C)"])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    succeeded = min(connected, hung_up)
    return Load(rate, seconds, succeeded, called - succeeded, cpu)


def _last_row(statistics: Path) -> dict[str, str]:
    with statistics.open() as file:
        return list(csv.DictReader(file, delimiter=";"))[-1]


def _sipp(folder: str, arguments: list[str], *more: str) -> subprocess.Popen[bytes]:
    always = ["-i", "127.0.0.1", "-mi", "127.0.0.1", "-nostdin", "-buff_size", "4194304"]
    return subprocess.Popen(
        ["taskset", "-c", str(GENERATOR_CORE), "sipp", *arguments, *more, *always],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"TERM": "dumb", "LD_PRELOAD": f"{folder}/one_raw_socket.so"},
    )

"""What a relayed packet costs: real sockets, the engine on one core, the generator on the other.

The engine runs in a process of its own (this module as a script), so that its CPU time and memory are its
alone. The generator is ``native/core/examples/relay_load.rs``; it takes each packet's latency from the
kernel's receive timestamps and says how busy its own core was.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from proxy.call.ports import (
    AudioFormat,
    BridgeMedia,
    ConfigureMediaLeg,
    Latching,
    LegId,
    MediaAnswer,
    MediaLegOpened,
    OpenMediaLeg,
    RemoteMedia,
)
from proxy.media.embedded import EmbeddedConfig, EmbeddedEngine

NATIVE = Path(__file__).parents[1] / "native"
ENGINE_CORE = 0
GENERATOR_CORE = min(1, (os.cpu_count() or 1) - 1)
FULL_GENERATOR = 0.9
"""Share of its core above which a generator's figures are thrown away."""


@dataclass(frozen=True, slots=True)
class RelayCost:
    """The figures of one run."""

    calls: int
    packets_per_second: float
    cpu_us_per_packet: float
    """CPU time of the whole engine process (user and system) per packet that was relayed."""
    p50_us: float
    p99_us: float
    """Added latency: from right before the peer's send to the arrival in the other peer's socket."""
    lost: int
    memory_kb_per_call: float
    """Growth of the engine's resident memory by its two legs."""
    generator_share: float

    @property
    def valid(self) -> bool:
        """Whether the generator had time to spare."""
        return self.generator_share < FULL_GENERATOR


def run(*, quick: bool) -> list[RelayCost]:
    """Measure at 200 and 1,000 calls."""
    seconds = 2 if quick else 10
    load = build_example("relay_load")
    return [measure(load, calls, seconds) for calls in (200, 1000)]


def measure(load: Path, calls: int, seconds: int) -> RelayCost:
    """Run one load and return its figures."""
    with _process(ENGINE_CORE, [sys.executable, "-m", "bench.relay", "--engine"]) as engine:
        pinned = [str(load), str(calls), str(seconds)]
        with _process(GENERATOR_CORE, pinned) as generator:
            _say(engine, _hear(generator))
            memory_kb = float(_hear(engine))
            _say(generator, _hear(engine))
            assert _hear(generator) == "begin"
            _say(engine, "usage")
            before = float(_hear(engine))
            assert _hear(generator) == "end"
            _say(engine, "usage")
            cpu_s = float(_hear(engine)) - before
            figures = json.loads(_hear(generator))
    return RelayCost(
        calls=calls,
        packets_per_second=figures["received"] / seconds,
        cpu_us_per_packet=cpu_s * 1e6 / max(1, figures["received"]),
        p50_us=figures["p50_us"],
        p99_us=figures["p99_us"],
        lost=figures["sent"] - figures["received"],
        memory_kb_per_call=memory_kb / calls,
        generator_share=figures["generator_share"],
    )


def build_example(name: str) -> Path:
    """Build an example of the media core, if it is not up to date, and return its path."""
    command = [
        "cargo",
        "build",
        "--quiet",
        "--locked",
        "--release",
        "-p",
        "tollgate-media",
        "--example",
        name,
    ]
    environment = os.environ | {"PATH": f"{os.environ.get('PATH', '')}:{Path.home()}/.cargo/bin"}
    subprocess.run(command, cwd=NATIVE, check=True, env=environment)
    return NATIVE / "target" / "release" / "examples" / name


@contextmanager
def _process(core: int, command: list[str]) -> Iterator[subprocess.Popen[str]]:
    pinned = ["taskset", "-c", str(core), *command]
    with subprocess.Popen(pinned, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args!r} ended early")
    return line.strip()


# The engine's process ---------------------------------------------------------------------------------------


def _resident_kb() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def _serve() -> None:
    """Bridge a call for each two ports on stdin, print the engine's, then answer lines with CPU seconds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 16_384)), hard))
    opened: list[MediaLegOpened] = []

    def take(answer: MediaAnswer) -> None:
        if isinstance(answer, MediaLegOpened):
            opened.append(answer)

    config = EmbeddedConfig("127.0.0.1", port_range=(10_000, 19_999), emergency_ports=0)
    engine = EmbeddedEngine(config, take)
    engine.start()
    loop = asyncio.get_running_loop()
    peers = [int(port) for port in (await loop.run_in_executor(None, sys.stdin.readline)).split()]
    before = _resident_kb()
    for n, port in enumerate(peers):
        engine.submit(OpenMediaLeg(LegId(n), ipv6=False, emergency=False))
        engine.submit(ConfigureMediaLeg(LegId(n), _remote(port)))
    for n in range(0, len(peers), 2):
        engine.submit(BridgeMedia(LegId(n), LegId(n + 1)))
    await asyncio.sleep(0.3)
    print(_resident_kb() - before)
    print(*(leg.rtp_port for leg in opened), flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(_cpu_s(), flush=True)


def _remote(port: int) -> RemoteMedia:
    return RemoteMedia(
        address="127.0.0.1",
        rtp_port=port,
        rtcp_port=0,
        rtcp_mux=False,
        audio=AudioFormat("PCMU", 0, 8000),
        event_payload_type=101,
        event_clock_rate=8000,
        peer_sends=True,
        peer_receives=True,
        latching=Latching.STRICT,
        signalled_from="127.0.0.1",
    )


def main() -> None:
    """Be the engine's process, or measure alone: ``python -m bench.relay [CALLS [SECONDS]]``."""
    arguments = sys.argv[1:]
    if arguments == ["--engine"]:
        asyncio.run(_serve())
        return
    numbers = [int(argument) for argument in arguments]
    if not numbers:
        print(json.dumps([asdict(row) for row in run(quick=False)], indent=1))
        return
    seconds = numbers[1] if len(numbers) > 1 else 10
    print(json.dumps(asdict(measure(build_example("relay_load"), numbers[0], seconds))))


if __name__ == "__main__":
    main()

"""What one call costs: gated and plain calls per second, CPU per call, memory per call.

A gated call is: answer mode, the caller streams PCMU from the answer on, four digits and ``#`` as RFC 4733
starting 300 ms into the prompt, the carrier answers at once, 1 s of talk, BYE.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.gate import GateProcess, running_gate
from bench.sipp import Load, run_load

GATED_NUMBER = "2025550123"
PLAIN_NUMBER = "7005550123"
GENERATOR_LIMIT = 0.9


@dataclass(frozen=True, slots=True)
class CallCost:
    """One run: ``cpu_ms`` is all the CPU of the gate's process per call, what it uses when idle included,
    ``media_ms`` that of its media threads; the shares are of one core.
    """

    kind: str
    rate: float
    calls: int
    failed: int
    cpu_ms: float
    media_ms: float
    gate_share: float
    generator_share: float

    @property
    def valid(self) -> bool:
        """The generator kept up, so the figure is the gate's."""
        return self.generator_share <= GENERATOR_LIMIT


def measure(gate: GateProcess, kind: str, *, rate: float, seconds: float) -> CallCost:
    """Run one load and return the gate's cost per call."""
    number = GATED_NUMBER if kind == "gated" else PLAIN_NUMBER
    before, media_before = gate.cpu_seconds(), gate.media_cpu_seconds()
    load: Load = run_load(gate, f"{kind}_caller", rate=rate, calls=int(rate * seconds), dialled=number)
    cpu, media = gate.cpu_seconds() - before, gate.media_cpu_seconds() - media_before
    calls = load.succeeded + load.failed
    return CallCost(
        kind=kind,
        rate=rate,
        calls=calls,
        failed=load.failed,
        cpu_ms=1000 * cpu / max(calls, 1),
        media_ms=1000 * media / max(calls, 1),
        gate_share=cpu / load.seconds,
        generator_share=load.generator_share,
    )


def run(*, quick: bool) -> list[CallCost]:
    """Measure gated and plain calls at rising rates; a gate of its own for each, after a warm-up."""
    seconds = 5.0 if quick else 15.0
    gated_rates = [20.0, 100.0] if quick else [20.0, 100.0, 200.0, 300.0, 400.0, 450.0]
    plain_rates = [100.0] if quick else [100.0, 400.0]
    rows: list[CallCost] = []
    for kind, rates in (("gated", gated_rates), ("plain", plain_rates)):
        with running_gate() as gate:
            measure(gate, kind, rate=20.0, seconds=3.0)
            for rate in rates:
                row = measure(gate, kind, rate=rate, seconds=seconds)
                rows.append(row)
                if row.failed > row.calls // 20:
                    break
    return rows

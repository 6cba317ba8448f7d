"""What the media of a gated call costs without its signalling: CPU and sleeps of the threads, delay of keys.

``native/core/examples/gated_media.rs`` is both sides: the media core on one core, its phones on the other.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass

from bench.relay import build_example

RATES = (10, 20, 100, 400)
ROUNDS = 3
"""The cheapest counts: other work on the machine makes caches cold and figures larger, never smaller."""


@dataclass(frozen=True, slots=True)
class MediaCost:
    """The cheapest of some runs at one rate of calls per second."""

    rate: int
    media_us_per_call: float
    received: float
    """Packets per call, both legs."""
    sent: float
    sleeps_per_second: float
    digit_p50_ms: float
    """From when the last key's end was due at its sender to the event as call control reads it."""
    digit_p99_ms: float


def run(*, quick: bool) -> list[MediaCost]:
    """Measure at rising rates."""
    example = build_example("gated_media")
    seconds = 2 if quick else 5
    rows: list[MediaCost] = []
    for rate in RATES:
        costs: list[MediaCost] = []
        for _ in range(1 if quick else ROUNDS):
            ran = subprocess.run(
                [str(example), str(rate), str(seconds)], check=True, capture_output=True, text=True
            )
            figures = json.loads(ran.stdout)
            costs.append(MediaCost(rate, **{name: figures[name] for name in MediaCost.__slots__[1:]}))
        rows.append(min(costs, key=lambda cost: cost.media_us_per_call))
    return rows

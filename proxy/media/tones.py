"""Call progress tones by country, as PCM loops (ITU-T E.180 Supplement 2).

A tone is a cadence of segments, each with the frequencies that sound together. `render` makes one loop of it,
long enough to be a whole number of 20 ms frames, so that repeating the frames keeps the cadence exact.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

__all__ = ["SAMPLE_RATE", "TONE_NAMES", "Segment", "Tone", "render", "tones_of"]

SAMPLE_RATE = 8000
"""Of the rendered loops, in Hz: no tone needs more."""

LEVEL_DBM0 = -19.0
"""Of each frequency. Ringback in North America; other tones lie within a few dB (ITU-T E.180 §9)."""

_FRAME_MS = 20
_RAMP_MS = 5
_FULL_SCALE_DBM0 = 3.14
"""A full-scale sine in G.711 (ITU-T G.711 table 1; mu-law has 3.17)."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Some ms of frequencies in Hz, or of silence when there are none."""

    frequencies: tuple[int, ...]
    duration_ms: int


Tone = tuple[Segment, ...]
"""One cadence, repeated without end."""

TONE_NAMES = ("ringback", "busy_tone", "reorder_tone", "special_information_tone", "time_warning_tone")


def _cadence(frequencies: tuple[int, ...], *durations_ms: int) -> Tone:
    """Return a cadence of on, off, on, off ... ms."""
    return tuple(
        Segment(() if index % 2 else frequencies, duration) for index, duration in enumerate(durations_ms)
    )


# ITU-T E.180 §7: three ascending tones, each 330 ms, then a second of silence.
_SPECIAL_INFORMATION: Tone = (
    Segment((950,), 330),
    Segment((1400,), 330),
    Segment((1800,), 330),
    Segment((), 1000),
)

# Three short beeps: the talk will be over soon.
_TIME_WARNING: Tone = _cadence((1400,), 200, 200, 200, 200, 200, 1000)


def _plan(ringback: Tone, busy: Tone, reorder: Tone) -> dict[str, Tone]:
    return dict(zip(TONE_NAMES, (ringback, busy, reorder, _SPECIAL_INFORMATION, _TIME_WARNING), strict=True))


_NORTH_AMERICA = _plan(
    _cadence((440, 480), 2000, 4000), _cadence((480, 620), 500, 500), _cadence((480, 620), 250, 250)
)
_EUROPE = _plan(_cadence((425,), 1000, 4000), _cadence((425,), 500, 500), _cadence((425,), 250, 250))
"""The recommendation's own 425 Hz (ITU-T E.180 §3 to §6), and what most countries do."""

_UK_RING = (400, 200, 400, 2000)
_PLANS = {
    "AU": _plan(_cadence((413, 438), *_UK_RING), _cadence((425,), 375, 375), _cadence((425,), 375, 375)),
    "DE": _plan(_cadence((425,), 1000, 4000), _cadence((425,), 480, 480), _cadence((425,), 240, 240)),
    "ES": _plan(
        _cadence((425,), 1500, 3000),
        _cadence((425,), 200, 200),
        _cadence((425,), 200, 200, 200, 200, 200, 600),
    ),
    "FR": _plan(_cadence((440,), 1500, 3500), _cadence((440,), 500, 500), _cadence((440,), 250, 250)),
    "GB": _plan(
        _cadence((400, 450), *_UK_RING),
        _cadence((400,), 375, 375),
        _cadence((400,), 400, 350, 225, 525),
    ),
    "IE": _plan(_cadence((400, 450), *_UK_RING), _cadence((425,), 500, 500), _cadence((425,), 250, 250)),
    "IT": _plan(_cadence((425,), 1000, 4000), _cadence((425,), 500, 500), _cadence((425,), 200, 200)),
    "NZ": _plan(_cadence((400, 450), *_UK_RING), _cadence((400,), 500, 500), _cadence((400,), 250, 250)),
}

# fmt: off
_NANP_COUNTRIES = frozenset({
    "AG", "AI", "AS", "BB", "BM", "BS", "CA", "DM", "DO", "GD", "GU", "JM", "KN",
    "KY", "LC", "MP", "MS", "PR", "SX", "TC", "TT", "US", "VC", "VG", "VI",
})
# fmt: on


def tones_of(country: str) -> dict[str, Tone]:
    """Return the tones by name (`TONE_NAMES`) for an ISO 3166 country code; 425 Hz where none are listed."""
    code = country.upper()
    return dict(_NORTH_AMERICA if code in _NANP_COUNTRIES else _PLANS.get(code, _EUROPE))


def render(tone: Tone) -> bytes:
    """Return one loop of the tone: little-endian int16 samples at `SAMPLE_RATE`, a whole number of frames."""
    cadence_ms = sum(segment.duration_ms for segment in tone)
    samples: list[int] = []
    for segment in tone:
        samples.extend(_sound(segment))
    loops = math.lcm(cadence_ms, _FRAME_MS) // cadence_ms
    return struct.pack(f"<{len(samples)}h", *samples) * loops


def _sound(segment: Segment) -> list[int]:
    """Return the samples of one segment, its edges ramped so that it does not click."""
    count = segment.duration_ms * SAMPLE_RATE // 1000
    if not segment.frequencies:
        return [0] * count
    amplitude = 32767 * 10 ** ((LEVEL_DBM0 - _FULL_SCALE_DBM0) / 20)
    steps = [2 * math.pi * frequency / SAMPLE_RATE for frequency in segment.frequencies]
    sound = [amplitude * sum([math.sin(step * index) for step in steps]) for index in range(count)]
    ramp = _RAMP_MS * SAMPLE_RATE // 1000
    for index in range(ramp):
        sound[index] *= index / ramp
        sound[-1 - index] *= index / ramp
    return [round(sample) for sample in sound]

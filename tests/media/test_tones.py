"""Call progress tones: their cadence, pitch, level and loops (ITU-T E.180)."""

from __future__ import annotations

import math
import struct

import pytest

from proxy.media.tones import SAMPLE_RATE, TONE_NAMES, Segment, render, tones_of

COUNTRIES = ["US", "CA", "AU", "DE", "ES", "FR", "GB", "IE", "IT", "NZ", "SE", "ZZ", ""]


def samples_of(pcm: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(pcm) // 2}h", pcm))


def power(samples: list[int], frequency: float) -> float:
    """Return the amplitude of one frequency (a single bin of a Fourier transform)."""
    step = 2 * math.pi * frequency / SAMPLE_RATE
    real = sum(sample * math.cos(step * index) for index, sample in enumerate(samples))
    imaginary = sum(sample * math.sin(step * index) for index, sample in enumerate(samples))
    return 2 * math.hypot(real, imaginary) / len(samples)


@pytest.mark.parametrize("country", COUNTRIES)
def test_every_country_has_every_tone(country: str) -> None:
    assert tuple(tones_of(country)) == TONE_NAMES


@pytest.mark.parametrize("country", COUNTRIES)
@pytest.mark.parametrize("name", TONE_NAMES)
def test_a_loop_is_whole_cadences_and_whole_frames(country: str, name: str) -> None:
    tone = tones_of(country)[name]
    loop_ms = len(render(tone)) * 1000 // (2 * SAMPLE_RATE)
    assert loop_ms % 20 == 0
    assert loop_ms % sum(segment.duration_ms for segment in tone) == 0
    assert loop_ms <= 10_000


def test_e180_north_american_ringback() -> None:
    assert tones_of("us")["ringback"] == (Segment((440, 480), 2000), Segment((), 4000))
    samples = samples_of(render(tones_of("US")["ringback"]))
    assert len(samples) == 6 * SAMPLE_RATE
    assert set(samples[2 * SAMPLE_RATE :]) == {0}
    middle = samples[SAMPLE_RATE // 2 : SAMPLE_RATE * 3 // 2]
    expected = 32767 * 10 ** ((-19.0 - 3.14) / 20)
    assert power(middle, 440) == pytest.approx(expected, rel=0.01)
    assert power(middle, 480) == pytest.approx(expected, rel=0.01)
    assert power(middle, 620) < expected / 100


@pytest.mark.parametrize(
    ("country", "name", "frequencies", "cadence"),
    [
        ("US", "busy_tone", (480, 620), [500, 500]),
        ("CA", "reorder_tone", (480, 620), [250, 250]),
        ("GB", "ringback", (400, 450), [400, 200, 400, 2000]),
        ("GB", "busy_tone", (400,), [375, 375]),
        ("DE", "busy_tone", (425,), [480, 480]),
        ("ES", "ringback", (425,), [1500, 3000]),
        ("FR", "ringback", (440,), [1500, 3500]),
        ("SE", "ringback", (425,), [1000, 4000]),
    ],
)
def test_e180_supplement_2(country: str, name: str, frequencies: tuple[int, ...], cadence: list[int]) -> None:
    tone = tones_of(country)[name]
    assert [segment.duration_ms for segment in tone] == cadence
    assert {segment.frequencies for segment in tone} == {frequencies, ()}


def test_e180_7_special_information_tone_rises() -> None:
    tone = tones_of("US")["special_information_tone"]
    assert [segment.frequencies for segment in tone] == [(950,), (1400,), (1800,), ()]


@pytest.mark.parametrize("country", COUNTRIES)
@pytest.mark.parametrize("name", TONE_NAMES)
def test_tones_neither_click_nor_clip(country: str, name: str) -> None:
    samples = samples_of(render(tones_of(country)[name]))
    assert max(map(abs, samples)) < 8000
    assert (samples[0], samples[-1]) == (0, 0)  # a loop joins itself in silence


def test_the_plan_of_a_country_is_the_callers_own_copy() -> None:
    tones_of("US").clear()
    assert tuple(tones_of("US")) == TONE_NAMES

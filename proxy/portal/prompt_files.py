"""A group's own recordings: what is uploaded becomes a WAV file that the gate can play, or is refused.

The gate plays 8 or 16 kHz, one channel, 16 bit (`proxy.media.prompts`); what is plain PCM otherwise is
converted.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
import wave
from array import array
from itertools import accumulate, pairwise
from pathlib import Path

from proxy.errors import TollgateError
from proxy.media.prompts import MAX_DURATION_S, PROMPT_NAMES, PromptLibrary

__all__ = [
    "OFFERED",
    "PromptRefused",
    "fingerprint",
    "folder_name",
    "new_folder",
    "own_recordings",
    "save",
    "sound_of",
    "to_wav",
]

OFFERED = PROMPT_NAMES
"""The sounds that a group may replace in the portal."""

_RATES = (8000, 16000)
_FAST = 16000
_LEAST_RATE, _MOST_RATE, _MOST_CHANNELS = 8000, 192_000, 8
_KNOWN = {
    b"ID3": "MP3",
    b"\xff\xfb": "MP3",
    b"\xff\xf3": "MP3",
    b"OggS": "Ogg",
    b"fLaC": "FLAC",
    b"FORM": "AIFF",
    b"#!AM": "AMR",
    b"\x1aE\xdf": "WebM",
}


class PromptRefused(TollgateError):  # noqa: N818 - it says what is the case
    """A file that can't be a prompt. ``key`` names the text that says why."""

    def __init__(self, key: str, **values: object) -> None:
        super().__init__(key)
        self.key = key
        self.values = values


def to_wav(data: bytes) -> bytes:
    """Return an uploaded WAV file as the gate plays it. Raises `PromptRefused`."""
    for beginning, name in _KNOWN.items():
        if data.startswith(beginning):
            raise PromptRefused("prompts.other_format", format=name)
    try:
        with wave.open(io.BytesIO(data), "rb") as wav:
            channels, width, rate, frames = wav.getparams()[:4]
            if not (1 <= channels <= _MOST_CHANNELS and _LEAST_RATE <= rate <= _MOST_RATE):
                raise PromptRefused("prompts.bad_shape", channels=channels, rate=rate)
            if frames > MAX_DURATION_S * rate:
                raise PromptRefused("prompts.too_long", most=MAX_DURATION_S)
            octets = wav.readframes(frames)
    except (wave.Error, EOFError, RuntimeError):
        raise PromptRefused("prompts.no_wav") from None
    if not octets or len(octets) != frames * channels * width:
        raise PromptRefused("prompts.cut_off")
    samples = _at_rate(_one_channel(_sixteen_bits(octets, width), channels), rate)
    written = io.BytesIO()
    with wave.open(written, "wb") as wav:
        wav.setparams((1, 2, rate if rate in _RATES else _target(rate), 0, "NONE", ""))
        wav.writeframes(samples.tobytes())
    return written.getvalue()


def folder_name(group: str, taken: frozenset[str]) -> str:
    """Return the name of a folder for a group's recordings that no other group has."""
    name = re.sub(r"[^\w-]+", "-", group).strip("-") or "group"
    number = 1
    found = name
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    return found


def new_folder(root: Path, group: str, taken: frozenset[str]) -> Path:
    """Make a folder that was not there: what lies in another may be the recordings of a group that
    is deleted. Raises OSError.
    """
    parent = root / "groups"
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        there = frozenset(entry.name for entry in parent.iterdir())
        folder = parent / folder_name(group, taken | there)
        try:
            folder.mkdir()
        except FileExistsError:
            continue  # somebody was faster
        return folder


def fingerprint(folder: Path, name: str) -> str | None:
    """Return what tells one recording from another (SHA-256), or None where there is none. Raises OSError."""
    try:
        return hashlib.sha256((folder / f"{name}.wav").read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def save(folder: Path, name: str, wav: bytes) -> None:
    """Write one recording, whole or not at all. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    try:
        with open(descriptor, "wb") as file:
            file.write(wav)
            file.flush()
            os.fsync(file.fileno())
        # The gate may run as somebody else: recordings are no secret.
        os.chmod(temporary, 0o644)
        os.replace(temporary, folder / f"{name}.wav")
    except BaseException:
        os.unlink(temporary)
        raise


def own_recordings(folder: Path | None) -> frozenset[str]:
    """Return the names of the sounds that lie in a folder."""
    if folder is None or not folder.is_dir():
        return frozenset()
    return frozenset(name for name in OFFERED if (folder / f"{name}.wav").is_file())


def sound_of(root: Path | None, group_folder: str, name: str) -> bytes:
    """Return what callers of a group hear, as a WAV file.

    Raises ConfigurationError for a folder that the gate would not start with.
    """
    there = root if root is not None and root.exists() else None
    sound = PromptLibrary.load(there).sound(name, group_folder)
    written = io.BytesIO()
    with wave.open(written, "wb") as wav:
        wav.setparams((1, 2, sound.sample_rate, 0, "NONE", ""))
        wav.writeframes(sound.pcm)
    return written.getvalue()


def _sixteen_bits(octets: bytes, width: int) -> array[int]:
    """Return samples of 16 bits; of wider ones the upper two octets (WAV is little-endian)."""
    if width == 1:
        return array("h", [(octet - 128) << 8 for octet in octets])
    upper = bytearray(len(octets) // width * 2)
    upper[0::2] = octets[width - 2 :: width]
    upper[1::2] = octets[width - 1 :: width]
    return array("h", bytes(upper))


def _one_channel(samples: array[int], channels: int) -> array[int]:
    if channels == 1:
        return samples
    sides = [samples[channel::channels] for channel in range(channels)]
    return array("h", [sum(together) // channels for together in zip(*sides, strict=True)])


def _target(rate: int) -> int:
    return _FAST if rate > _FAST else _RATES[0]


def _at_rate(samples: array[int], rate: int) -> array[int]:
    """Return the samples at a rate that the gate plays: each is the mean of what it stands for, which also
    keeps out what is too high for the new rate.
    """
    if rate in _RATES:
        return samples
    step = rate / _target(rate)
    sums = [0, *accumulate(samples)]
    last = len(samples)

    def up_to(place: float) -> float:
        whole = min(int(place), last)
        rest = place - whole
        return sums[whole] + (samples[whole] * rest if whole < last else 0.0)

    edges = [up_to(number * step) for number in range(int(last / step) + 1)]
    means = [round((after - before) / step) for before, after in pairwise(edges)]
    return array("h", [max(-32768, min(32767, mean)) for mean in means])

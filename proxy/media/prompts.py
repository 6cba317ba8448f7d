"""The sounds a caller hears from the gate: spoken prompts, own recordings, tones.

Loaded once at start, encoded once per codec, then only copied by the media core. Sounds are looked up by name
and user group; what a group lacks comes from the recordings for all groups, then from the gate's own::

    <folder>/groups/<group>/enter_code.wav  ->  <folder>/enter_code.wav  ->  assets/enter_code.wav

The gate's own prompts were made by ``script/prompts`` from the texts in ``assets/prompts.toml``.
"""

from __future__ import annotations

import shlex
import stat
import wave
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from proxy.errors import ConfigurationError
from proxy.media.tones import SAMPLE_RATE, TONE_NAMES, render, tones_of

__all__ = [
    "CODECS",
    "MAX_DURATION_S",
    "PROMPT_NAMES",
    "SOUND_NAMES",
    "EncodedSound",
    "Encoder",
    "PromptLibrary",
    "Sound",
]

PROMPT_NAMES = (
    "enter_code",
    "enter_code_or_pound",
    "not_valid_try_again",
    "too_many_tries",
    "not_allowed",
    "connecting",
    "no_answer",
    "busy",
    "call_failed",
)
"""Spoken; the words are in ``assets/prompts.toml``."""

SOUND_NAMES = PROMPT_NAMES + TONE_NAMES
"""All that can be played, and all that an own recording can replace."""

CODECS = ("PCMU", "PCMA", "G722", "OPUS")

MAX_DURATION_S = 30
"""Of an own recording: within an entry's 60 s the caller still has to type."""

_ASSETS = Path(__file__).parent / "assets"
_RATES = (8000, 16000)
_MAX_FILE = MAX_DURATION_S * max(_RATES) * 2 + 1_048_576
"""Octets of a WAV file: the sound and up to 1 MiB of other chunks (pictures, editing marks)."""

Encoder = Callable[[bytes, int, str, int], list[bytes]]
"""``encode(pcm, sample_rate, codec, ptime_ms) -> frames``, resampling as needed: `_native.encode_prompt`."""


@dataclass(frozen=True, slots=True)
class Sound:
    """One sound as PCM: little-endian int16 samples, one channel."""

    pcm: bytes = field(repr=False)
    sample_rate: int
    source: str
    """The file it came from, or the tone's name and country."""

    @property
    def duration_ms(self) -> int:
        """How long it plays, rounded up to a whole ms."""
        return -(-len(self.pcm) * 500 // self.sample_rate)


@dataclass(frozen=True, slots=True)
class EncodedSound:
    """One sound in the frames of one codec, under the key that `PromptLibrary.key` gives."""

    key: str
    codec: str
    frames: tuple[bytes, ...] = field(repr=False)


class PromptLibrary:
    """All sounds, ready to be encoded. It does not change; load a new one to take up changed files."""

    __slots__ = ("_sounds",)

    def __init__(self, sounds: dict[str, Sound]) -> None:
        self._sounds = sounds

    @classmethod
    def load(cls, folder: Path | None = None, *, country: str = "US") -> PromptLibrary:
        """Load the gate's own sounds and, over them, the recordings in ``folder``.

        Raises `ConfigurationError` that names every bad file, what is wrong with it and how to make it right,
        a line each.
        """
        problems: list[str] = []
        sounds = {name: _read_wav(_ASSETS / f"{name}.wav") for name in PROMPT_NAMES}
        for name, tone in tones_of(country).items():
            sounds[name] = Sound(render(tone), SAMPLE_RATE, f"{name} ({country})")
        if folder is not None:
            sounds.update(_read_folder(folder, "", problems))
            for group_folder in _list_folders(folder / "groups"):
                sounds.update(_read_folder(group_folder, group_folder.name, problems))
        if problems:
            raise ConfigurationError("\n".join(problems))
        return cls(sounds)

    @property
    def sounds(self) -> dict[str, Sound]:
        """All sounds by key."""
        return dict(self._sounds)

    def key(self, name: str, group: str = "") -> str:
        """Return the key of this sound for this user group. Raises `KeyError` when there is no such name."""
        if name not in SOUND_NAMES:
            raise KeyError(name)
        own = _key(name, group)
        return own if own in self._sounds else name

    def sound(self, name: str, group: str = "") -> Sound:
        """Return what callers of this group hear under this name. Raises `KeyError` for no such name."""
        return self._sounds[self.key(name, group)]

    def duration_ms(self, name: str, group: str = "") -> int:
        """Return how long this sound plays for callers of this group; one loop of a tone."""
        return self.sound(name, group).duration_ms

    def encode(
        self, encoder: Encoder, codecs: Iterable[str] = CODECS, *, ptime_ms: int = 20
    ) -> Iterator[EncodedSound]:
        """Encode every sound in every codec, one after the other (the encoder does the heavy work)."""
        for codec in codecs:
            for key, sound in self._sounds.items():
                yield EncodedSound(key, codec, tuple(encoder(sound.pcm, sound.sample_rate, codec, ptime_ms)))


def _key(name: str, group: str) -> str:
    # No sound's name has an "@", so no group can be named into another one's key.
    return f"{name}@{group}" if group else name


def _list_folders(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir()) if folder.exists() else []
    except OSError as error:
        raise ConfigurationError(f"{folder}: can't be read ({error.strerror})") from None


def _read_folder(folder: Path, group: str, problems: list[str]) -> dict[str, Sound]:
    """Read the recordings of one folder; its other files are nobody's business. Adds what is wrong with them
    to ``problems``."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".wav")
    except OSError as error:
        raise ConfigurationError(f"prompts folder {folder}: can't be read ({error.strerror})") from None
    sounds: dict[str, Sound] = {}
    for path in paths:
        if path.stem not in SOUND_NAMES:
            problems.append(f"{path}: no sound has this name; the names are {', '.join(SOUND_NAMES)}")
            continue
        try:
            sounds[_key(path.stem, group)] = _read_wav(path)
        except ConfigurationError as error:
            problems.append(str(error))
    return sounds


def _read_wav(path: Path) -> Sound:
    """Read one WAV file of 8 or 16 kHz, one channel, 16 bit."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
            raise ConfigurationError(f"{path}: is no regular file")
        if status.st_size > _MAX_FILE:
            raise _refusal(path, f"is longer than {MAX_DURATION_S} s", trim=True)
        with path.open("rb") as file, wave.open(file, "rb") as wav:
            channels, width, rate = wav.getnchannels(), wav.getsampwidth(), wav.getframerate()
            expected = wav.getnframes()
            if (channels, width) != (1, 2) or rate not in _RATES:
                raise _refusal(path, f"has {channels} channel(s) of {8 * width} bit at {rate} Hz")
            pcm = wav.readframes(expected)
    except OSError as error:
        raise ConfigurationError(f"{path}: can't be read ({error.strerror})") from None
    except (wave.Error, EOFError, RuntimeError) as error:  # RuntimeError: chunks that overlap
        raise _refusal(
            path, f"is not an uncompressed WAV file ({str(error) or 'it ends too early'})"
        ) from None
    if len(pcm) != 2 * expected:
        raise _refusal(path, "ends before its sound does")
    if not pcm:
        raise ConfigurationError(f"{path}: holds no sound; record it again")
    if len(pcm) > MAX_DURATION_S * rate * 2:
        raise _refusal(path, f"is longer than {MAX_DURATION_S} s", trim=True)
    return Sound(pcm, rate, str(path))


def _refusal(path: Path, what: str, *, trim: bool = False) -> ConfigurationError:
    """Make an error that ends with the command that mends the file."""
    source, target = shlex.quote(str(path)), shlex.quote(f"{path.stem}-mended.wav")
    command = f"sox {source} -r 16000 -c 1 -b 16 -e signed-integer {target}"
    if trim:
        command += f" trim 0 {MAX_DURATION_S}"
    return ConfigurationError(f"{path}: {what}; needed: 8 or 16 kHz, 1 channel, 16 bit. Try: {command}")

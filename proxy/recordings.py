"""What callers hear from a running gate: read and encoded at start, and again when recordings have changed.

Only what has changed is encoded again, in threads and without the interpreter's lock; a prompt that plays at
that moment is played to its end as it was. A gate that starts waits for what everybody hears; recordings of
single groups, of which there may be many, come when it listens already.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from proxy._native import encode_prompt
from proxy.media.engine import MediaEngine
from proxy.media.prompts import EncodedSound, PromptLibrary, Sound

__all__ = ["FreshSounds", "Recordings"]


@dataclass(frozen=True, slots=True)
class FreshSounds:
    """What is new since the last time, ready to be played."""

    digests: Mapping[str, bytes] = field(repr=False)
    """Of all sounds, by key."""
    sounds: Sequence[EncodedSound] = field(repr=False)
    """Those that are new, in each codec."""
    changed: int
    """How many are new."""


class Recordings:
    """The sounds of one gate. Belongs to one event loop."""

    def __init__(self, folder: Path | None, country: str, codecs: Sequence[str]) -> None:
        self._folder = folder
        self._country = country
        self._codecs = tuple(codecs)
        self._played: Mapping[str, bytes] = {}
        """Digests of what the engine has."""
        self.left = 0
        """So many sounds of groups were not encoded when all others were."""
        self.turn = asyncio.Lock()
        """Held from `read` to `play`: what was read first shall not be played last."""

    async def read(self, *, of_groups: bool = True) -> FreshSounds:
        """Read all sounds and encode those that are new; without those ``of_groups`` what is everybody's, and
        the next time does the rest. Raises `ConfigurationError`; nothing is played otherwise yet.
        """
        sounds = await asyncio.to_thread(self._sounds)
        if not of_groups:
            everything, sounds = sounds, {key: sound for key, sound in sounds.items() if "@" not in key}
            self.left = len(everything) - len(sounds)
        digests = {key: _digest(sound) for key, sound in sounds.items()}
        new = {key: sound for key, sound in sounds.items() if self._played.get(key) != digests[key]}
        # One thread per codec: at the start they take a second or so.
        library = PromptLibrary(new)
        encoded = await asyncio.gather(
            *(asyncio.to_thread(_encoded, library, codec) for codec in self._codecs)
        )
        return FreshSounds(digests, list(chain.from_iterable(encoded)), len(new))

    def play(self, fresh: FreshSounds, engine: MediaEngine) -> None:
        """Let the engine play from now on what was read."""
        for sound in fresh.sounds:
            engine.register_prompt(sound.key, sound.codec, sound.frames)
        self._played = fresh.digests

    def _sounds(self) -> dict[str, Sound]:
        """All sounds by key. A group whose own recording was removed has the common one under its old key."""
        library = PromptLibrary.load(self._folder, country=self._country)
        gone = {key: library.sound(*key.split("@", 1)) for key in self._played if "@" in key}
        return gone | library.sounds


def _digest(sound: Sound) -> bytes:
    return hashlib.sha256(b"%d " % sound.sample_rate + sound.pcm).digest()


def _encoded(library: PromptLibrary, codec: str) -> list[EncodedSound]:
    return list(library.encode(encode_prompt, (codec,)))

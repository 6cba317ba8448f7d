"""Recordings that change while the gate runs: the next caller hears them, and no call notices."""

from __future__ import annotations

import asyncio
import threading
import wave
from array import array
from dataclasses import replace
from pathlib import Path

import pytest

from proxy import recordings
from proxy._native import encode_prompt
from proxy.errors import ConfigurationError
from proxy.media.prompts import EncodedSound, PromptLibrary, Sound
from proxy.store import Store
from tests.net.waiting import PATIENCE, until
from tests.server.house import House

RATE = 8000


def record(folder: Path, level: int, seconds: float = 0.4) -> Path:
    """A recording that no other is like: one level of direct current."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "enter_code.wav"
    with wave.open(str(file), "wb") as wav:
        wav.setparams((1, 2, RATE, 0, "NONE", ""))
        wav.writeframes(array("h", [level] * int(RATE * seconds)).tobytes())
    return file


def frame(level: int) -> bytes:
    return encode_prompt(array("h", [level] * 160).tobytes(), RATE, "PCMU", 20)[0]


async def opened(folder: Path) -> House:
    """A house whose phone knows three recordings and the gate's own prompt."""
    house = House(folder)
    house.extra = f'prompts.folder = "{folder}/prompts"'
    (folder / "prompts").mkdir(exist_ok=True)
    await house.open()
    common = PromptLibrary.load().encode(encode_prompt, ("PCMU",))
    known = {one.frames[len(one.frames) // 2]: "common" for one in common if one.key == "enter_code"}
    house.phone.sounds.update({**known, frame(4000): "first", frame(12000): "second", frame(20000): "third"})
    return house


async def use_recordings(house: House) -> None:
    """Let the phone's group have recordings of its own."""
    with Store(house.gate.settings.store.url) as store:
        group = store.groups.versioned("Codes")
        assert group is not None
        before = house.gate.core.policy.version
        store.groups.change(replace(group.value, prompts="codes"), version=group.version)
    await until(lambda: house.gate.core.policy.version > before)


async def hear(house: House, name: str) -> None:
    """Place a call, hear its prompt and hang up."""
    call = house.dial()
    await until(lambda: name in call.rtp.heard)
    assert set(call.rtp.heard) & {"common", "first", "second", "third"} == {name}
    house.phone.hang_up(call)
    await until(lambda: house.gate.core.idle)


async def test_a_recording_is_taken_up_without_a_restart_and_calls_go_on(tmp_path: Path) -> None:
    house, own = await opened(tmp_path), tmp_path / "prompts" / "groups" / "codes"
    try:
        talking = await house.talk()
        house.phone.hang_up(talking)
        await until(lambda: house.gate.core.idle)
        assert await asyncio.to_thread(house.ask, "recordings") == {"changed": 0}
        record(own, 4000)
        await use_recordings(house)
        assert await asyncio.to_thread(house.ask, "recordings") == {"changed": 1}
        await hear(house, "first")
        # One who listens hears it to its end as it began, whatever happens meanwhile.
        record(own, 12000)
        waiting = house.dial()
        await until(lambda: "first" in waiting.rtp.heard)
        assert await asyncio.to_thread(house.ask, "recordings") == {"changed": 1}
        house.phone.hang_up(waiting)
        await until(lambda: house.gate.core.idle)
        assert "second" not in waiting.rtp.heard
        await hear(house, "second")
        # A bad one changes nothing, and says so; a reload refuses it too.
        file = record(own, 20000)
        (own / "busy.wav").write_bytes(b"no sound")
        for command in ("recordings", "reload"):
            with pytest.raises(ConfigurationError, match=r"busy\.wav: is not an uncompressed WAV file"):
                await asyncio.to_thread(house.ask, command)
        await hear(house, "second")
        (own / "busy.wav").unlink()
        assert await asyncio.to_thread(house.ask, "reload") == {"after_restart": []}
        await hear(house, "third")
        file.unlink()
        assert await asyncio.to_thread(house.ask, "recordings") == {"changed": 1}
        await hear(house, "common")
    finally:
        await house.close()


async def test_a_start_waits_for_no_recordings_of_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoding, encode = threading.Event(), recordings._encoded

    def slow(library: PromptLibrary, codec: str) -> list[EncodedSound]:
        if any("@" in key for key in library.sounds):
            assert encoding.wait(PATIENCE)
        return encode(library, codec)

    monkeypatch.setattr(recordings, "_encoded", slow)
    record(tmp_path / "prompts", 4000)
    record(tmp_path / "prompts" / "groups" / "codes", 12000)
    house = await opened(tmp_path)
    try:
        await use_recordings(house)
        await hear(house, "first")
        encoding.set()
        # Who reads them again waits for that, and finds nothing new.
        assert await asyncio.to_thread(house.ask, "recordings") == {"changed": 0}
        await hear(house, "second")
    finally:
        encoding.set()
        await house.close()


def test_sounds_are_told_by_key_and_can_not_be_changed_by_who_reads_them() -> None:
    library = PromptLibrary.load()
    library.sounds["busy"] = Sound(b"", RATE, "nowhere")
    assert library.sound("busy").pcm

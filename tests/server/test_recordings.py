"""Recordings that change while the gate runs: the next caller hears them, and no call notices."""

from __future__ import annotations

import asyncio
import wave
from array import array
from dataclasses import replace
from pathlib import Path

import pytest

from proxy._native import encode_prompt
from proxy.errors import ConfigurationError
from proxy.media.prompts import PromptLibrary, Sound
from proxy.store import Store
from tests.net.waiting import until
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


@pytest.fixture
async def listening(tmp_path: Path) -> House:
    """A house whose phone knows three recordings and the gate's own prompt."""
    house = House(tmp_path)
    house.extra = f'prompts.folder = "{tmp_path}/prompts"'
    (tmp_path / "prompts").mkdir()
    await house.open()
    common = PromptLibrary.load().encode(encode_prompt, ("PCMU",))
    known = {one.frames[len(one.frames) // 2]: "common" for one in common if one.key == "enter_code"}
    house.phone.sounds.update({**known, frame(4000): "first", frame(12000): "second", frame(20000): "third"})
    return house


async def hear(house: House, name: str) -> None:
    """Place a call, hear its prompt and hang up."""
    call = house.dial()
    await until(lambda: name in call.rtp.heard)
    assert set(call.rtp.heard) & {"common", "first", "second", "third"} == {name}
    house.phone.hang_up(call)
    await until(lambda: house.gate.core.idle)


async def test_a_recording_is_taken_up_without_a_restart_and_calls_go_on(
    listening: House, tmp_path: Path
) -> None:
    house, own = listening, tmp_path / "prompts" / "groups" / "codes"
    try:
        talking = await house.talk()
        house.phone.hang_up(talking)
        await until(lambda: house.gate.core.idle)
        assert await asyncio.to_thread(house.ask, "recordings") == {"changed": 0}
        record(own, 4000)
        with Store(house.gate.settings.store.url) as store:
            group = store.groups.versioned("Codes")
            assert group is not None
            before = house.gate.core.policy.version
            store.groups.change(replace(group.value, prompts="codes"), version=group.version)
        await until(lambda: house.gate.core.policy.version > before)
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


def test_sounds_are_told_by_key_and_can_not_be_changed_by_who_reads_them() -> None:
    library = PromptLibrary.load()
    library.sounds["busy"] = Sound(b"", RATE, "nowhere")
    assert library.sound("busy").pcm

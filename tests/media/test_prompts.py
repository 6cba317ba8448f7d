"""The sound library: what ships, own recordings, and what is refused by name."""

from __future__ import annotations

import math
import os
import struct
import tempfile
import time
import tomllib
import wave
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy._native import encode_prompt
from proxy.errors import ConfigurationError
from proxy.media.prompts import (
    CODECS,
    MAX_DURATION_S,
    PROMPT_NAMES,
    SOUND_NAMES,
    EncodedSound,
    PromptLibrary,
)

ASSETS = Path(__file__).parents[2] / "proxy" / "media" / "assets"


def write_wav(
    path: Path, *, rate: int = 16000, channels: int = 1, width: int = 2, duration_s: float = 0.5
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(channels)
        wav.setsampwidth(width)
        wav.setframerate(rate)
        wav.writeframes(b"\x01" * (round(rate * duration_s) * channels * width))
    return path


def refused(folder: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        PromptLibrary.load(folder)
    return str(caught.value)


# What ships


def test_texts_recordings_and_names_are_the_same_set() -> None:
    texts = tomllib.loads((ASSETS / "prompts.toml").read_text("utf-8"))
    assert tuple(texts) == PROMPT_NAMES
    assert {path.stem for path in ASSETS.glob("*.wav")} == set(PROMPT_NAMES)


@pytest.mark.parametrize("name", PROMPT_NAMES)
def test_own_prompts_are_level_and_trimmed(name: str) -> None:
    sound = PromptLibrary.load().sound(name)
    samples = struct.unpack(f"<{len(sound.pcm) // 2}h", sound.pcm)
    assert sound.sample_rate == 16000
    assert 1000 <= sound.duration_ms <= 8000
    level = 20 * math.log10(math.sqrt(sum(sample * sample for sample in samples) / len(samples)) / 32768)
    assert -23 < level < -19
    assert max(map(abs, samples)) < 32768 * 0.71
    speech = [index for index, sample in enumerate(samples) if abs(sample) > 600]
    assert speech[0] < 16000 * 0.15
    assert len(samples) - speech[-1] < 16000 * 0.25


def test_every_sound_has_a_duration() -> None:
    library = PromptLibrary.load(country="GB")
    durations = {name: library.duration_ms(name) for name in SOUND_NAMES}
    assert all(durations.values())
    assert durations["ringback"] == 3000
    assert library.sound("ringback").source == "ringback (GB)"


# Own recordings


def test_an_own_recording_replaces_a_prompt_for_all(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "busy.wav", rate=8000, duration_s=0.25)
    library = PromptLibrary.load(tmp_path)
    assert library.sound("busy").source == str(path)
    assert (library.sound("busy").sample_rate, library.duration_ms("busy", "sales")) == (8000, 250)
    assert library.duration_ms("no_answer") == PromptLibrary.load().duration_ms("no_answer")


def test_a_group_hears_its_own_then_everybodys_then_the_gates(tmp_path: Path) -> None:
    write_wav(tmp_path / "groups" / "sales" / "busy.WAV", duration_s=0.2)
    write_wav(tmp_path / "busy.wav", duration_s=0.3)
    write_wav(tmp_path / "ringback.wav", duration_s=0.4)
    library = PromptLibrary.load(tmp_path)
    assert library.duration_ms("busy", "sales") == 200
    assert library.duration_ms("busy", "legal") == library.duration_ms("busy") == 300
    assert library.duration_ms("ringback", "sales") == 400
    assert library.key("busy", "sales") == "busy@sales"
    assert library.key("busy", "legal") == "busy"
    assert library.key("enter_code", "sales") == "enter_code"


def test_a_part_of_a_millisecond_counts_as_one(tmp_path: Path) -> None:
    write_wav(tmp_path / "busy.wav", rate=16000, duration_s=17 / 16000)
    assert PromptLibrary.load(tmp_path).duration_ms("busy") == 2


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README.txt").write_text("notes")
    (tmp_path / "groups").mkdir()
    (tmp_path / "groups" / "stray.wav").write_text("not in a group's folder")
    assert PromptLibrary.load(tmp_path).duration_ms("busy") > 0


@pytest.mark.parametrize("name", ["", "nothing", "busy@sales", "../busy"])
def test_an_unknown_name_is_a_key_error(name: str) -> None:
    library = PromptLibrary.load()
    for look_up in (library.key, library.sound, library.duration_ms):
        with pytest.raises(KeyError):
            look_up(name, "sales")


# Refusals


@pytest.mark.parametrize(
    ("rate", "channels", "width", "words"),
    [
        (44100, 1, 2, "1 channel(s) of 16 bit at 44100 Hz"),
        (8000, 2, 2, "2 channel(s) of 16 bit at 8000 Hz"),
        (16000, 1, 1, "1 channel(s) of 8 bit at 16000 Hz"),
        (16000, 1, 3, "1 channel(s) of 24 bit at 16000 Hz"),
    ],
)
def test_another_format_is_refused_with_the_remedy(
    tmp_path: Path, rate: int, channels: int, width: int, words: str
) -> None:
    path = write_wav(tmp_path / "groups" / "a b" / "busy.wav", rate=rate, channels=channels, width=width)
    message = refused(tmp_path)
    assert message.startswith(f"{path}: has {words}")
    assert message.endswith(f"Try: sox '{path}' -r 16000 -c 1 -b 16 -e signed-integer busy-mended.wav")


def test_a_name_that_no_sound_has_is_refused(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "enter-code.wav")
    message = refused(tmp_path)
    assert message.startswith(f"{path}: no sound has this name; the names are enter_code, ")


@pytest.mark.parametrize("data", [b"", b"RIFF", b"ID3\x04 an MP3 file", b"RIFF\x24\x00\x00\x00WAVEfmt "])
def test_what_is_no_wav_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "busy.wav"
    path.write_bytes(data)
    assert refused(tmp_path).startswith(f"{path}: is not an uncompressed WAV file (")


def test_a_compressed_wav_is_refused(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "busy.wav", rate=8000)
    data = bytearray(path.read_bytes())
    data[20:22] = b"\x07\x00"  # WAVE_FORMAT_MULAW
    path.write_bytes(data)
    assert "is not an uncompressed WAV file (unknown format: 7)" in refused(tmp_path)


def test_a_wav_whose_chunks_overlap_is_refused(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "busy.wav", duration_s=0.01)
    data = bytearray(path.read_bytes())
    data[13:17] = bytes(4)
    path.write_bytes(data)
    assert "is not an uncompressed WAV file (it ends too early)" in refused(tmp_path)


def test_a_wav_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "busy.wav")
    path.write_bytes(path.read_bytes()[:-100])
    assert "ends before its sound does" in refused(tmp_path)


def test_a_wav_without_sound_is_refused(tmp_path: Path) -> None:
    write_wav(tmp_path / "busy.wav", duration_s=0)
    assert "holds no sound" in refused(tmp_path)


def test_the_longest_recording_is_taken_and_a_longer_one_refused(tmp_path: Path) -> None:
    write_wav(tmp_path / "busy.wav", rate=8000, duration_s=MAX_DURATION_S)
    assert PromptLibrary.load(tmp_path).duration_ms("busy") == MAX_DURATION_S * 1000
    write_wav(tmp_path / "busy.wav", rate=8000, duration_s=MAX_DURATION_S + 0.001)
    assert "is longer than 30 s" in refused(tmp_path)


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "busy.wav"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    message = refused(tmp_path)
    assert "is longer than 30 s" in message
    assert message.endswith("busy-mended.wav trim 0 30")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "busy.wav")
    assert refused(tmp_path) == f"{tmp_path / 'busy.wav'}: is no regular file"


def test_a_link_to_nowhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "busy.wav").symlink_to(tmp_path / "gone")
    assert "can't be read (No such file or directory)" in refused(tmp_path)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "gone") == (
        f"prompts folder {tmp_path / 'gone'}: can't be read (No such file or directory)"
    )


def test_groups_that_are_no_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "groups").write_text("")
    assert refused(tmp_path) == f"{tmp_path / 'groups'}: can't be read (Not a directory)"


@given(st.binary(max_size=60), st.integers(0, 60))
def test_any_damage_to_a_wav_is_refused_or_read(damage: bytes, at: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_wav(Path(folder) / "busy.wav", duration_s=0.01)
        data = path.read_bytes()
        path.write_bytes(data[:at] + damage + data[at + len(damage) :])
        message = ""
        try:
            PromptLibrary.load(Path(folder))
        except ConfigurationError as error:
            message = str(error)
        assert message == "" or message.startswith(str(path))


# Encoding


def test_every_sound_is_encoded_in_every_codec_under_its_key(tmp_path: Path) -> None:
    write_wav(tmp_path / "groups" / "sales" / "busy.wav", rate=8000, duration_s=0.02)
    library = PromptLibrary.load(tmp_path)
    calls: list[tuple[int, str, int]] = []

    def encoder(pcm: bytes, sample_rate: int, codec: str, ptime_ms: int) -> list[bytes]:
        calls.append((sample_rate, codec, ptime_ms))
        return [pcm[:4], pcm[-4:]]

    encoded = list(library.encode(encoder))
    keys = {*SOUND_NAMES, "busy@sales"}
    assert {(sound.key, sound.codec) for sound in encoded} == {
        (key, codec) for key in keys for codec in CODECS
    }
    own = library.sound("busy", "sales")
    assert EncodedSound("busy@sales", "PCMA", (own.pcm[:4], own.pcm[-4:])) in encoded
    assert (8000, "PCMA", 20) in calls
    assert (16000, "OPUS", 20) in calls


def test_only_the_wanted_codecs_are_encoded() -> None:
    def encoder(pcm: bytes, sample_rate: int, codec: str, ptime_ms: int) -> list[bytes]:
        return [codec.encode(), str(ptime_ms).encode()]

    encoded = list(PromptLibrary.load().encode(encoder, ["PCMU"], ptime_ms=30))
    assert len(encoded) == len(SOUND_NAMES)
    assert {sound.frames for sound in encoded} == {(b"PCMU", b"30")}
    assert all("frames" not in repr(sound) for sound in encoded)


@pytest.mark.parametrize(("codec", "most"), [("PCMU", 0.15), ("PCMA", 0.15), ("G722", 0.4), ("OPUS", 1.5)])
def test_the_gates_start_does_not_wait_for_its_prompts(codec: str, most: float) -> None:
    """``most`` is in seconds of CPU, several times what it costs, so that a busy machine fails nothing."""
    library = PromptLibrary.load()
    begun = time.thread_time()
    frames = sum(len(sound.frames) for sound in library.encode(encode_prompt, [codec]))
    assert time.thread_time() - begun < most
    assert frames == sum(-(-library.duration_ms(name) // 20) for name in SOUND_NAMES)

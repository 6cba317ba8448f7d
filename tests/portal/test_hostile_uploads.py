"""Recordings that are something else as well, that lie about their size, or that want to lie elsewhere."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from proxy.portal.headers import MAX_UPLOAD
from proxy.portal.prompt_files import PromptRefused, to_wav
from tests.portal.person import Person
from tests.portal.test_group_prompts import GROUP, decider, hear, recording, send

__all__ = ["decider"]  # a fixture: a Decision Maker at a portal with a folder for recordings

PAGE = b"<!doctype html><script>alert(document.cookie)</script>"


def chunk(name: bytes, data: bytes, size: int | None = None) -> bytes:
    """One chunk of a RIFF file, whose size may be a lie."""
    padded = data + b"\0" * (len(data) % 2)
    return name + struct.pack("<I", len(data) if size is None else size) + padded


def riff(*chunks: bytes, size: int | None = None, form: bytes = b"WAVE") -> bytes:
    return chunk(b"RIFF", form + b"".join(chunks), size)


def format_of(channels: int = 1, rate: int = 8000, bits: int = 16, kind: int = 1) -> bytes:
    width = channels * bits // 8
    speed = rate * width % 2**32
    return chunk(b"fmt ", struct.pack("<HHIIHH", kind, channels, rate, speed, width % 65_536, bits))


SOUND = bytes(1600)
DATA = chunk(b"data", SOUND)
PLAIN = riff(format_of(), DATA)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(riff(chunk(b"LIST", b"INFO" + PAGE), format_of(), chunk(b"data", SOUND)), id="LIST"),
        pytest.param(riff(format_of(), chunk(b"data", SOUND), chunk(b"html", PAGE)), id="a chunk of its own"),
        pytest.param(
            riff(format_of(), chunk(b"data", SOUND)) + PAGE + b"PK\x05\x06" + bytes(18), id="behind"
        ),
        pytest.param(riff(format_of() + chunk(b"cue ", PAGE), chunk(b"data", SOUND)), id="cue"),
    ],
)
async def test_polyglots_of_a_recording_nothing_is_left_but_its_sound(decider: Person, data: bytes) -> None:
    assert (await send(decider, data)).status_code == 303
    heard = await hear(decider)
    assert heard.content == PLAIN


async def test_polyglots_what_is_served_is_sound_to_every_browser(decider: Person) -> None:
    # The samples themselves are a page: they can be no others, and stand behind a header of ours.
    spoken = PAGE * 200 + b" " * (len(PAGE) * 200 % 2)
    assert (await send(decider, riff(format_of(), chunk(b"data", spoken)))).status_code == 303
    heard = await hear(decider)
    assert heard.content.startswith(b"RIFF")
    assert heard.content[8:12] == b"WAVE"
    assert heard.headers["content-type"] == "audio/wav"
    assert heard.headers["x-content-type-options"] == "nosniff"
    policy = heard.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


LIES = {
    "data of 4 GB": (riff(format_of(), chunk(b"data", SOUND, 0xFFFFFFFF)), "too_long"),
    "data of 2 GB": (riff(format_of(), chunk(b"data", SOUND, 0x7FFFFFFE)), "too_long"),
    "data a sample short": (riff(format_of(), chunk(b"data", SOUND, len(SOUND) + 2)), "cut_off"),
    "RIFF too small": (riff(format_of(), DATA, size=8), "no_wav"),
    "RIFF of nothing": (riff(format_of(), DATA, size=0), "no_wav"),
    "fmt of 4 GB": (riff(chunk(b"fmt ", b"", 0xFFFFFFFF), DATA), "no_wav"),
    "junk of 4 GB": (riff(chunk(b"junk", b"", 0xFFFFFFF0), format_of(), DATA), "no_wav"),
    "data before fmt": (riff(DATA, format_of()), "no_wav"),
    "no channel": (riff(format_of(channels=0), DATA), "no_wav"),
    "65,535 channels": (riff(format_of(channels=65_535), DATA), "bad_shape"),
    "no rate": (riff(format_of(rate=0), DATA), "bad_shape"),
    "4 GHz": (riff(format_of(rate=0xFFFFFFFF), DATA), "bad_shape"),
    "no bits": (riff(format_of(bits=0), DATA), "no_wav"),
    "65,535 bits": (riff(format_of(bits=65_535), DATA), "cut_off"),
    "extensible, and not told how": (riff(format_of(kind=0xFFFE), DATA), "no_wav"),
    "a film": (riff(format_of(), DATA, form=b"AVI "), "no_wav"),
    "big-endian": (b"RIFX" + riff(format_of(), DATA)[4:], "no_wav"),
}


@pytest.mark.parametrize(("data", "key"), LIES.values(), ids=LIES.keys())
def test_riff_sizes_that_lie_are_refused_in_words(data: bytes, key: str) -> None:
    with pytest.raises(PromptRefused) as refused:
        to_wav(data)
    assert refused.value.key == f"prompts.{key}"


def test_riff_chunks_by_the_thousand_are_passed_over() -> None:
    assert to_wav(riff(format_of(), *[chunk(b"junk", b"")] * 20_000, DATA)) == PLAIN


def lying(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.wav")}


@pytest.mark.parametrize("sent", ["../../etc/passwd", "..\\..\\x.wav", "/etc/cron.d/x", "a\0b.wav", ".wav"])
async def test_traversal_no_name_says_where_a_recording_lies(
    decider: Person, tmp_path: Path, sent: str
) -> None:
    assert (await send(decider, recording(), file=sent)).status_code == 303
    assert lying(tmp_path) == {"prompts/groups/Sales-Co/enter_code.wav"}
    for name in (sent, "../enter_code", "enter_code/../../x", "enter_code.wav", ""):
        assert (await send(decider, recording(), name=name)).status_code == 422
        assert (await hear(decider, name)).status_code == 404
    for group in ("../..", f"{GROUP}/../..", "\0"):
        fields = {"group": group, "name": "enter_code"}
        assert (await decider.client.get("/groups/prompt", params=fields)).status_code == 404
    assert lying(tmp_path) == {"prompts/groups/Sales-Co/enter_code.wav"}


async def test_bombs_a_recording_of_nothing_but_size_costs_its_own_size(decider: Person) -> None:
    # Ten thousand seconds in a file that is as large as it may be: refused by its head, before it is read.
    data = riff(format_of(bits=8), chunk(b"data", bytes(MAX_UPLOAD - 64)))
    assert (await send(decider, data)).status_code == 422

"""Prompts of a group: uploaded, converted or refused by name, heard, removed."""

from __future__ import annotations

import asyncio
import io
import math
import struct
import wave
from array import array
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from proxy.media.prompts import PromptLibrary
from proxy.policy import UserGroup
from proxy.portal.app import create_app
from proxy.portal.portal import Portal
from proxy.portal.prompt_files import OFFERED, PromptRefused, folder_name, own_recordings, to_wav
from proxy.store import PortalAccount, Role, Store
from tests.portal.gate import TalkingGate
from tests.portal.person import Person, notice

Account = Callable[..., PortalAccount]
GROUP = "Sales & <Co>"


def recording(
    rate: int = 16000, channels: int = 1, width: int = 2, seconds: float = 0.5, hertz: float = 400.0
) -> bytes:
    """Make a WAV file with a tone at half of full scale."""
    written = io.BytesIO()
    with wave.open(written, "wb") as wav:
        wav.setparams((channels, width, rate, 0, "NONE", ""))
        frames = bytearray()
        for number in range(int(rate * seconds)):
            value = math.sin(2 * math.pi * hertz * number / rate) / 2
            for _ in range(channels):
                if width == 1:
                    frames.append(int(128 + 127 * value))
                else:
                    frames += struct.pack("<i", int(value * (2**31 - 1)))[4 - width :]
        wav.writeframes(bytes(frames))
    return written.getvalue()


def samples(wav_file: bytes) -> tuple[int, array[int]]:
    with wave.open(io.BytesIO(wav_file), "rb") as wav:
        assert (wav.getnchannels(), wav.getsampwidth()) == (1, 2)
        return wav.getframerate(), array("h", wav.readframes(wav.getnframes()))


def loudness(found: array[int]) -> float:
    return math.sqrt(sum(value * value for value in found) / len(found))


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize(("channels", "width"), [(1, 2), (2, 2), (1, 1), (1, 3), (2, 4)])
def test_plain_pcm_is_converted_to_what_the_gate_plays(rate: int, channels: int, width: int) -> None:
    found_rate, found = samples(to_wav(recording(rate, channels, width)))
    assert found_rate == (16000 if rate >= 16000 else 8000)
    assert len(found) == pytest.approx(found_rate / 2, abs=2)
    crossings = sum(before < 0 <= after for before, after in pairwise(found))
    assert crossings == pytest.approx(200, abs=2), "the tone is still one of 400 Hz"
    assert loudness(found) == pytest.approx(0.5 * 32767 / math.sqrt(2), rel=0.05)


def test_what_is_too_high_for_the_new_rate_is_kept_out() -> None:
    _, found = samples(to_wav(recording(48000, hertz=15_500)))
    assert loudness(found) < 0.35 * 0.5 * 32767 / math.sqrt(2)


def test_what_the_gate_plays_as_it_is_stays_octet_by_octet() -> None:
    for rate in (8000, 16000):
        assert samples(to_wav(recording(rate))) == samples(recording(rate))


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (b"", "prompts.no_wav"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "prompts.no_wav"),
        (b"ID3\x04" + bytes(100), "prompts.other_format"),
        (b"OggS" + bytes(100), "prompts.other_format"),
        (b"fLaC" + bytes(100), "prompts.other_format"),
        (recording()[:-100], "prompts.cut_off"),
        (recording(seconds=0), "prompts.cut_off"),
        (recording(seconds=30.5, rate=8000), "prompts.too_long"),
        (recording(4000), "prompts.bad_shape"),
        (recording(channels=9, seconds=0.01), "prompts.bad_shape"),
        (recording().replace(b"\x01\0\x01\0", b"\x03\0\x01\0", 1), "prompts.no_wav"),
        (b"<script>" * 1000, "prompts.no_wav"),
    ],
)
def test_other_files_are_refused_by_name(data: bytes, key: str) -> None:
    with pytest.raises(PromptRefused) as refused:
        to_wav(data)
    assert refused.value.key == key


def test_folder_is_inside_and_no_other_groups() -> None:
    assert folder_name("Sales & <Co>", frozenset()) == "Sales-Co"
    assert folder_name("../../etc", frozenset()) == "etc"
    assert folder_name("/", frozenset()) == "group"
    assert folder_name("a", frozenset({"a", "a-2"})) == "a-3"


@pytest_asyncio.fixture
async def decider(portal: Portal, store: Store, account: Account, tmp_path: Path) -> AsyncIterator[Person]:
    """A Decision Maker at a portal with a folder for recordings, and a group."""
    store.groups.add(UserGroup(GROUP))
    account(Role.DECISION_MAKER)
    app = create_app(replace(portal, prompts=tmp_path / "prompts"))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=("192.0.2.7", 4711))
    async with httpx.AsyncClient(transport=transport, base_url="https://portal.test") as client:
        someone = Person(client)
        await someone.log_in("decision_maker")
        yield someone


async def send(person: Person, data: bytes, name: str = "enter_code", file: str = "my.wav") -> httpx.Response:
    fields = {"csrf": await person.csrf(), "group": GROUP, "name": name}
    headers = {"accept-language": "en"}
    return await person.client.post(
        "/groups/prompt", data=fields, files={"file": (file, data, "audio/wav")}, headers=headers
    )


async def hear(person: Person, name: str = "enter_code") -> httpx.Response:
    return await person.client.get("/groups/prompt", params={"group": GROUP, "name": name})


async def test_recording_is_uploaded_heard_and_removed(decider: Person, store: Store, tmp_path: Path) -> None:
    common = samples((await hear(decider)).content)
    answer = await send(decider, recording(44100, 2))
    assert answer.headers["location"].endswith("&said=prompt_saved_later")
    assert "once the gate runs" in notice(await decider.get(answer.headers["location"]))
    group = store.groups.get(GROUP)
    assert group is not None
    assert group.prompts == "Sales-Co"
    heard = await hear(decider)
    assert heard.headers["content-type"] == "audio/wav"
    assert samples(heard.content) == samples(to_wav(recording(44100, 2))) != common
    # The gate itself takes it.
    library = PromptLibrary.load(tmp_path / "prompts")
    assert library.sound("enter_code", group.prompts).source.endswith("groups/Sales-Co/enter_code.wav")
    assert (await send(decider, recording(), name="busy")).status_code == 303
    answer = await decider.post("/groups/prompt", {"group": GROUP, "name": "enter_code", "action": "remove"})
    assert answer.headers["location"].endswith("&said=prompt_removed_later")
    assert samples((await hear(decider)).content) == common


async def test_a_gate_that_runs_takes_recordings_up_or_says_why_not(decider: Person, tmp_path: Path) -> None:
    with TalkingGate(tmp_path / "none.sock") as gate:
        answer = await send(decider, recording())
        assert answer.headers["location"].endswith("&said=prompt_saved")
        assert "from now on" in notice(await decider.get(answer.headers["location"]))
        removal = {"group": GROUP, "name": "enter_code", "action": "remove"}
        answer = await decider.post("/groups/prompt", removal)
        assert answer.headers["location"].endswith("&said=prompt_removed")
        assert gate.taken_up == 2
        gate.complaint = "groups/other/busy.wav: is no sound"
        answer = await send(decider, recording())
        assert (answer.status_code, gate.complaint in notice(answer)) == (409, True)
        assert "It is kept" in notice(answer)


async def test_what_is_refused_says_which_file_and_why_and_leaves_nothing(
    decider: Person, store: Store, tmp_path: Path
) -> None:
    answer = await send(decider, b"ID3" + bytes(50), file="<b>song.mp3")
    assert answer.status_code == 422
    assert notice(answer).endswith(
        "<b>song.mp3: This is MP3; save the recording as an uncompressed WAV file."
    )
    assert "<b>song" not in answer.text
    answer = await send(decider, b"")
    assert answer.status_code == 422
    assert (await send(decider, recording(), name="../../x")).status_code == 422
    assert (await decider.post("/groups/prompt", {"group": GROUP, "name": "busy"})).status_code == 422
    assert not (tmp_path / "prompts").exists()
    assert store.groups.get(GROUP) == UserGroup(GROUP)


async def test_folder_that_cannot_be_written(decider: Person, tmp_path: Path) -> None:
    (tmp_path / "prompts").write_text("in the way")
    answer = await send(decider, recording())
    assert (answer.status_code, "can't be kept on the server" in notice(answer)) == (507, True)


async def test_the_log_tells_whose_recording_took_the_place_of_which(decider: Person, store: Store) -> None:
    await send(decider, recording())
    await send(decider, recording(8000))
    for _ in range(2):
        await decider.post("/groups/prompt", {"group": GROUP, "name": "enter_code", "action": "remove"})
    removed, replaced, first, folder = store.audit.page(limit=4)
    assert folder.after == {"prompts": "Sales-Co"}
    fact = "recording enter_code"
    chain = [(entry.before, entry.after) for entry in (first, replaced, removed)]
    marks = [sha256(to_wav(recording(rate))).hexdigest() for rate in (16000, 8000)]
    assert chain == [
        ({fact: None}, {fact: marks[0]}),
        ({fact: marks[0]}, {fact: marks[1]}),
        ({fact: marks[1]}, {fact: None}),
    ]
    assert {(entry.who, entry.action, entry.kind, entry.name) for entry in (first, replaced, removed)} == {
        ("decision_maker", "change", "group", GROUP)
    }


async def test_a_recording_for_a_group_that_was_changed_meanwhile_is_not_left_behind(
    portal: Portal, store: Store, decider: Person, tmp_path: Path
) -> None:
    # Whoever is faster: of two who upload the first recording at the same time, one is told.
    answers = await asyncio.gather(*(send(decider, recording(), name) for name in OFFERED))
    assert {answer.status_code for answer in answers} <= {303, 409}
    group = store.groups.get(GROUP)
    assert group is not None
    assert [folder.name for folder in (tmp_path / "prompts" / "groups").iterdir()] == [group.prompts]


async def test_a_group_made_anew_has_no_recordings_of_the_one_before(
    decider: Person, store: Store, tmp_path: Path
) -> None:
    await send(decider, recording(), name="busy")
    store.groups.delete(GROUP)
    store.groups.add(UserGroup(GROUP))
    await send(decider, recording())
    group = store.groups.get(GROUP)
    assert group is not None
    assert group.prompts == "Sales-Co-2"
    assert own_recordings(tmp_path / "prompts" / "groups" / group.prompts) == {"enter_code"}


async def test_a_recording_that_cannot_be_removed_is_told(decider: Person, tmp_path: Path) -> None:
    await send(decider, recording())
    file = tmp_path / "prompts" / "groups" / "Sales-Co" / "enter_code.wav"
    file.unlink()
    file.mkdir()
    answer = await decider.post("/groups/prompt", {"group": GROUP, "name": "enter_code", "action": "remove"})
    assert (answer.status_code, "can't be kept on the server" in notice(answer)) == (507, True)


async def test_sounds_that_do_not_exist(decider: Person) -> None:
    assert (await hear(decider, "../enter_code")).status_code == 404
    assert (await hear(decider, "ringback")).status_code == 404
    answer = await decider.client.get("/groups/prompt", params={"group": "Nobody", "name": "busy"})
    assert answer.status_code == 404


async def test_without_a_folder_it_says_so(
    person: Callable[..., Person], store: Store, account: Account
) -> None:
    store.groups.add(UserGroup(GROUP))
    account(Role.DECISION_MAKER)
    someone = person()
    await someone.log_in("decision_maker")
    answer = await send(someone, recording())
    assert (answer.status_code, "prompts.folder" in notice(answer)) == (409, True)
    assert (await hear(someone)).status_code == 200

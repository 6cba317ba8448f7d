"""The longest talk of a group, with real RTP: its caller hears the tone between what the callee says."""

from __future__ import annotations

from dataclasses import replace

from proxy._native import encode_prompt
from proxy.media.prompts import PromptLibrary
from proxy.policy import CallLimits
from tests.net.waiting import happens, until
from tests.server.house import House

TONE = "time_warning_tone"


async def test_the_caller_hears_the_warning_tone_and_the_talk_ends(house: House) -> None:
    store = house.gate.store
    assert store is not None
    group = store.groups.get("Codes")
    assert group is not None
    store.groups.change(replace(group, limits=CallLimits(talk_seconds=4)))
    await until(lambda: house.gate.core.policy.groups["Codes"].limits.talk_seconds == 4)
    sounds = PromptLibrary.load().encode(encode_prompt, ("PCMU",))
    (tone,) = [sound for sound in sounds if sound.key == TONE]
    # Silence is sent by the callee as well.
    house.phone.sounds = {frame: TONE for frame in tone.frames if len(set(frame)) > 3}
    call = await house.talk()
    await until(lambda: TONE in call.rtp.heard)
    assert not call.ended.is_set()
    await happens(call.ended)
    (record,) = await house.records()
    assert 3.9 < record.talk_time < 30

"""A stranger sprays the media ports of a gate before, during and after a call: RTP bleed and injection."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.cdr.record import Disposition
from reliability.spray import spraying
from tests.net.waiting import happens, until
from tests.server.house import CODE, House

LEARNING_LEAKS = 5
"""Packets that may go to a stranger before a learning leg has locked on its peer."""


@pytest.mark.parametrize(("latching", "leaks"), [("strict", 0), ("learning", LEARNING_LEAKS)])
async def test_a_stranger_who_sprays_every_port_hears_nothing_and_types_nothing(
    tmp_path: Path, latching: str, leaks: int
) -> None:
    house = House(tmp_path)
    house.extra = f'phones.latching = "{latching}"'
    await house.open()
    async with spraying(str(house.gate.settings.media.ports)) as sprayed:
        call = house.dial()
        await happens(call.answered)
        call.rtp.press(CODE + "#")
        await until(lambda: house.carrier.streams and house.carrier.streams[-1].packets > 50)
        heard_by_the_phone = call.rtp.packets
        await until(lambda: call.rtp.packets > heard_by_the_phone + 50)
        house.phone.hang_up(call)
        (record,) = await house.records()
        await until(lambda: house.gate.core.idle and house.gate.engine.open_legs == 0)
    assert sprayed.sent > 1_000
    assert sprayed.heard <= leaks
    assert (record.disposition, record.wrong_tries) == (Disposition.ANSWERED, 0)
    assert record.code is not None
    assert record.code.key == CODE
    await house.close()

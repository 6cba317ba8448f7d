"""A stranger sprays the media ports of a gate before, during and after a call: RTP bleed and injection.

And a callee says that its media is at the gate: RTP that would go round.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from proxy.cdr.record import Disposition
from proxy.demo_agents import Carrier, RtpStream
from proxy.sdp import parse_sdp, read_audio
from proxy.sip.events import RequestReceived
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


class LoopingCarrier(Carrier):
    """A callee whose media is said to be at the gate: at the port of the caller's leg, two below its own."""

    named: bytes = b""

    def _answer(self, event: RequestReceived) -> None:
        stream = RtpStream(self.sounds)
        self.streams.append(stream)
        own = read_audio(parse_sdp(event.request.body)).rtp_port
        self.named = b"m=audio %d RTP" % (own - 2)
        body = stream.description().replace(b"m=audio %d RTP" % stream.port, self.named)
        self.endpoint.respond(event.transaction, 200, body=body, now=time.monotonic())
        self.driver.settle()


async def test_a_callee_that_names_the_gates_own_port_makes_no_storm(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.carrier = carrier = LoopingCarrier({}, ring=0.05)
    await house.open()
    call = house.dial()
    await happens(call.answered)
    call.rtp.press(CODE + "#")
    await happens(call.ended)
    assert carrier.named
    (record,) = await house.records()
    assert (record.disposition, record.sip_code) == (Disposition.NOT_ACCEPTABLE, 488)
    media = (record.a_media, record.b_media)
    assert all(each is None or each.packets_received < 3_000 for each in media), "no loop came up"
    await until(lambda: house.gate.core.idle and house.gate.engine.open_legs == 0)
    await house.close()

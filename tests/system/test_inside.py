"""A gate beside its PBX, with the carrier beyond a NAT: each side reaches the gate by what it is told.

The PBX sends its requests and its media where Contact and SDP say, and nothing translates for it: what is
advertised leads nowhere from there. The carrier's NAT turns what is advertised into the gate's address.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from tests.support.rtp import is_rtcp
from tests.system.gate import CARRIER_ADDRESSES, GATE_ADDRESS, PBX_ADDRESS, running_gate
from tests.system.media import PATIENCE
from tests.system.wire import Dialog, Message, Wire, uri_of

ADVERTISED = "127.0.0.77"
SOUND = b"\xff" * 160
TOLL_FREE = "8005550123"


class Beside(Wire):
    """Sends what it asks for to the host of its Request-URI."""

    def throw(self, data: bytes) -> None:
        uri = re.match(rb"[A-Z]+ sip:[^@ ]*@([0-9.]+):(\d+) ", data)
        self._socket.sendto(data, self._gate if uri is None else (uri[1].decode(), int(uri[2])))


def connection(message: Message) -> str:
    found = re.findall(r"(?m)^[oc]=.*IN IP4 (\S+)", message.body)
    assert len(set(found)) == 1, message.body
    return str(found[0])


def beyond_nat(dialog: Dialog) -> None:
    """Let the NAT pass its media on."""
    host, port = dialog.rtp.target
    assert host == ADVERTISED
    dialog.rtp.target = (GATE_ADDRESS, port)


def hears(one: Dialog, other: Dialog) -> None:
    """The first hears what the second says."""
    until = time.monotonic() + PATIENCE
    while all(map(is_rtcp, one.rtp.pending())):
        other.rtp.send(SOUND)
        assert time.monotonic() < until, "no media"
        time.sleep(0.02)


@pytest.mark.parametrize("media_address", [GATE_ADDRESS, "0.0.0.0"])
def test_each_side_is_told_the_address_by_which_it_reaches_the_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, media_address: str
) -> None:
    monkeypatch.setenv("TOLLGATE_SIP__ADVERTISED", json.dumps([ADVERTISED]))
    monkeypatch.setenv("TOLLGATE_SIP__INSIDE", json.dumps([f"{PBX_ADDRESS}/32"]))
    monkeypatch.setenv("TOLLGATE_MEDIA__ADDRESS", media_address)
    monkeypatch.setenv("TOLLGATE_MEDIA__ADVERTISED_ADDRESS", ADVERTISED)
    with (
        running_gate(tmp_path) as gate,
        Beside(PBX_ADDRESS, gate.port, port=gate.pbx_port) as pbx,
        Wire(CARRIER_ADDRESSES[0], gate.port, port=gate.carrier_ports[0]) as carrier,
    ):
        own, advertised = f"{GATE_ADDRESS}:{gate.port}", f"{ADVERTISED}:{gate.port}"
        # The PBX calls out.
        call = pbx.call(TOLL_FREE)
        callee = carrier.called()
        assert callee.invite is not None
        assert f"UDP {advertised};" in callee.invite["Via"]
        assert uri_of(callee.invite["Contact"]).endswith(f"@{advertised}")
        assert connection(callee.invite) == ADVERTISED
        beyond_nat(callee)
        callee.answer()
        answer = call.response(200)
        assert uri_of(answer["Contact"]).endswith(f"@{own}")
        assert connection(answer) == GATE_ADDRESS
        hears(call, callee)
        hears(callee, call)
        # Hold: both are told what they were told before.
        call.request("INVITE", body=call.description("sendonly"))
        hold = callee.asked("INVITE")
        assert (connection(hold), uri_of(hold["Contact"])[-len(advertised) :]) == (ADVERTISED, advertised)
        callee.respond(hold, 200, body=callee.description("recvonly"))
        assert f"UDP {advertised};" in callee.asked("ACK")["Via"]
        held = call.response(200)
        assert (connection(held), uri_of(held["Contact"])[-len(own) :]) == (GATE_ADDRESS, own)
        time.sleep(0.7)
        assert not pbx.has("SIP/2.0 200", call.call_id), "again, for want of an ACK"
        callee.hang_up()
        assert f"UDP {own};" in call.hung_up()["Via"]
        # The carrier calls in.
        call = carrier.call("4155550100")
        callee = pbx.called()
        assert callee.invite is not None
        assert f"UDP {own};" in callee.invite["Via"]
        assert uri_of(callee.invite["Contact"]).endswith(f"@{own}")
        assert connection(callee.invite) == GATE_ADDRESS
        callee.answer()
        answer = call.response(200)
        assert uri_of(answer["Contact"]).endswith(f"@{advertised}")
        assert connection(answer) == ADVERTISED
        beyond_nat(call)
        hears(call, callee)
        hears(callee, call)
        callee.hang_up()
        call.hung_up()
        gate.wait_until_idle()

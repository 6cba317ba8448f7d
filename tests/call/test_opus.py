"""A caller that heard the prompt in Opus, which is not transcoded, and carriers of G.711 (RFC 3264 §8.3)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from proxy.call.config import CodeMode, Trunk
from proxy.cdr.record import Disposition, HungUpBy
from proxy.sip.flow import Flow
from tests.call.offers import answers, asked, callee, follows, formats_of, told
from tests.support.gate import CARRIER, CARRIER_2, NUMBER, GateBench, default_config
from tests.support.ua import ANSWER, Step, UaCall, sdp

OPUS_FIRST = sdp(codecs="111 0 101", extra="a=rtpmap:111 opus/48000/2\r\n")
OPUS_ALONE = OPUS_FIRST.replace(b" 111 0 101\r\n", b" 111 101\r\n")
G711 = (Step(0.0, 200, body=sdp(CARRIER[0], codecs="0 101")),)
BUSY = (Step(0.0, 503),)


def trunk(name: str, address: tuple[str, int], *codecs: str) -> Trunk:
    return Trunk(name, (Flow("UDP", *address),), f"{name}.example.com", codecs=codecs)


BOTH = trunk("carrier", CARRIER, "OPUS", "PCMU")


def prompted(bench: GateBench, code: str = "1234#", body: bytes = OPUS_FIRST) -> UaCall:
    """A caller that has been asked in Opus, and types."""
    call = bench.pbx.call(NUMBER, body=body)
    bench.run(0.5)
    assert told(bench).remote.audio.name == "OPUS"
    bench.press(code)
    return call


def bench_of(
    *trunks: Trunk, script: Sequence[Step] = G711, code_mode: CodeMode = CodeMode.ANSWER
) -> GateBench:
    return GateBench(config=default_config(trunks=trunks, code_mode=code_mode), script=script)


def spoken(bench: GateBench) -> set[str]:
    return {told(bench, leg).remote.audio.name for leg in (1, 2)}


@pytest.mark.parametrize("code_mode", CodeMode)
def test_g711_is_offered_beside_it_and_the_caller_comes_after(code_mode: CodeMode) -> None:
    with bench_of(BOTH, code_mode=code_mode) as bench:
        bench.pbx.within = follows(bench.pbx, codecs="0 101")
        call = prompted(bench)
        bench.run(1.0)
        invite = callee(bench).invite
        assert invite is not None
        assert formats_of(invite.body).startswith(b"96 0 ")
        (request,) = asked(call)
        assert formats_of(request.body).startswith(b"0 ")
        assert spoken(bench) == {"PCMU"}
        call.bye()


def test_a_trunk_of_g711_alone_is_tried_too_and_offered_nothing_else() -> None:
    opus, g711 = trunk("opus", CARRIER, "OPUS"), trunk("g711", CARRIER_2, "PCMU", "PCMA")
    with bench_of(opus, g711, script=BUSY) as bench:
        bench.carrier_2.script = G711
        bench.pbx.within = follows(bench.pbx, codecs="0 101")
        call = prompted(bench)
        bench.run(1.0)
        first, second = callee(bench).invite, bench.carrier_2.calls[0].invite
        assert first is not None
        assert second is not None
        assert formats_of(first.body).split() == [b"96", b"102", b"101"]
        assert formats_of(second.body) == b"0 101"
        assert spoken(bench) == {"PCMU"}
        call.bye()
    assert [one.trunk for one in bench.record.trunks] == ["opus", "g711"]


@pytest.mark.parametrize("refusals", [(488,), (491,) * 6], ids=["488", "491 for ever"])
def test_a_caller_that_does_not_come_is_parted(refusals: tuple[int, ...]) -> None:
    with bench_of(BOTH) as bench:
        bench.pbx.within = answers(bench.pbx, *refusals)
        call = prompted(bench)
        bench.run(30.0)
        assert call.has_ended()
        assert callee(bench).ended
    assert bench.record.disposition is Disposition.NOT_ACCEPTABLE
    assert bench.record.hung_up_by is HungUpBy.GATE


def test_nobody_is_parted_in_an_emergency() -> None:
    with bench_of(BOTH) as bench:
        bench.pbx.within = answers(bench.pbx, 488)
        call = prompted(bench, "911#")
        bench.run(30.0)
        assert len(asked(call)) == 1
        assert not call.has_ended()
        call.bye()


def test_a_caller_of_opus_alone_is_taken_to_nobody_else() -> None:
    with bench_of(BOTH, trunk("g711", CARRIER_2, "PCMU"), script=BUSY) as bench:
        call = prompted(bench, body=OPUS_ALONE)
        bench.run(1.0)
        invite = callee(bench).invite
        assert invite is not None
        assert formats_of(invite.body).split() == [b"96", b"102", b"101"]
        assert not bench.carrier_2.calls
        bench.run(30.0)
        assert call.has_ended()


def test_a_callee_that_takes_opus_is_left_alone() -> None:
    with bench_of(BOTH, script=ANSWER) as bench:
        bench.carrier.description = sdp(
            CARRIER[0], codecs="96 101", extra="a=rtpmap:96 opus/48000/2\r\n"
        ).replace(b"telephone-event/8000", b"telephone-event/48000")
        call = prompted(bench)
        bench.run(1.0)
        assert not asked(call)
        assert spoken(bench) == {"OPUS"}
        call.bye()

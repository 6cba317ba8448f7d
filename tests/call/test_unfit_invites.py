"""INVITEs that RFC 3261 §8.2 wants refused: who is told so, what has a record, and which placed anyway."""

from __future__ import annotations

import pytest

from proxy.cdr.record import Disposition
from proxy.sip.flow import Flow
from tests.call.test_identity import digest_bench
from tests.support.gate import NUMBER, STRANGER, GateBench
from tests.support.ua import Step, UaCall, sdp

TOLL_FREE = "918005550123"
LOCATION = b"--b\r\nContent-Type: application/pidf+xml\r\n\r\n<presence/>\r\n"
MIXED = LOCATION + b"--b\r\nContent-Type: application/sdp\r\n\r\n" + sdp() + b"\r\n--b--\r\n"
MIXED_TYPE = "multipart/mixed;boundary=b"

Headers = tuple[tuple[str, str], ...]
UNFIT: list[tuple[int, Headers, int, bytes, str]] = [
    (420, (("Require", "precondition"),), 70, sdp(), "application/sdp"),
    (420, (("Require", "resource-priority"),), 70, sdp(), "application/sdp"),
    (420, (("Require", "geolocation"),), 70, sdp(), "application/sdp"),
    (483, (), 0, sdp(), "application/sdp"),
    (415, (), 70, b"hello", "text/plain"),
    (415, (("Content-Encoding", "gzip"),), 70, b"hello", "text/plain"),
]


def call(bench: GateBench, number: str, unfit: tuple[int, Headers, int, bytes, str]) -> UaCall:
    _, headers, max_forwards, body, content_type = unfit
    made = bench.pbx.call(
        number, headers=headers, max_forwards=max_forwards, body=body, content_type=content_type
    )
    bench.run(1.0)
    return made


@pytest.mark.parametrize("unfit", UNFIT)
def test_a_trusted_peer_is_refused_with_a_record(unfit: tuple[int, Headers, int, bytes, str]) -> None:
    with GateBench() as bench:
        made = call(bench, TOLL_FREE, unfit)
        assert made.statuses == [unfit[0]]
        if unfit[0] == 420:
            assert made.last.headers.get("Unsupported") == unfit[1][0][1]
        assert not bench.carrier.calls
    assert bench.record.sip_code == unfit[0]
    wanted = Disposition.NOT_ACCEPTABLE if unfit[0] == 415 else Disposition.REJECTED
    assert bench.record.disposition is wanted


def test_a_trunk_is_refused_with_a_record() -> None:
    with GateBench() as bench:
        made = bench.carrier.call("12125550204", headers=[("Require", "precondition")])
        bench.run(1.0)
        assert made.statuses == [420]
        assert not bench.pbx.calls
    assert bench.record.sip_code == 420


@pytest.mark.parametrize("unfit", UNFIT)
def test_an_emergency_call_is_placed_all_the_same(unfit: tuple[int, Headers, int, bytes, str]) -> None:
    with GateBench() as bench:
        bench.pbx.ack_body = sdp() if unfit[0] == 415 else b""  # what is not understood is no offer
        made = call(bench, "911", unfit)
        assert made.status == 200
        if not unfit[2]:
            invite = bench.carrier.calls[0].invite
            assert invite is not None
            assert invite.headers.get("Max-Forwards") == "1"
        made.bye()
    assert bench.record.disposition is Disposition.ANSWERED


@pytest.mark.parametrize("unfit", UNFIT)
def test_a_stranger_gets_401_and_nothing_is_kept(unfit: tuple[int, Headers, int, bytes, str]) -> None:
    with digest_bench() as bench:
        _, headers, max_forwards, body, content_type = unfit
        made = bench.stranger.call(
            NUMBER, headers=headers, max_forwards=max_forwards, body=body, content_type=content_type
        )
        bench.run(0.1)
        assert made.statuses == [401]
        assert bench.gate.endpoint.idle
    assert not bench.journal.records


def test_a_forged_invite_is_answered_once() -> None:
    with GateBench() as bench:
        sent: list[bytes] = []
        bench.network.trace = lambda _time, _from, _to, data: sent.append(data)
        invite = (
            b"INVITE sip:1@gate SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.66;branch=z9hG4bKx\r\n"
            b"From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n"
            b"Contact: <sip:a@203.0.113.66>\r\n"
            b"Require: foo\r\nContent-Length: 0\r\n\r\n"
        )
        bench.gate.receive(invite, Flow("UDP", *STRANGER), bench.now)
        bench.gate.settle(bench.now)
        sent.extend(data for data, _ in bench.gate.transmits())
        assert bench.gate.endpoint.idle
        bench.run(40.0)
        assert len(sent) == 1
        assert len(sent[0]) <= 3 * len(invite)


@pytest.mark.parametrize("number", [TOLL_FREE, "911"])
def test_rfc5621_the_offer_is_taken_out_of_several_parts(number: str) -> None:
    with GateBench() as bench:
        made = bench.pbx.call(number, body=MIXED, content_type=MIXED_TYPE)
        bench.run(1.0)
        assert made.status == 200
        assert b"PCMU" in made.last.body or b"RTP/AVP 0" in made.last.body
        assert not bench.a_leg().configured[-1].remote.address.startswith("b")
        made.bye()


def test_rfc5621_the_answer_is_taken_out_of_several_parts() -> None:
    step = Step(0.0, 200, body=MIXED)
    with GateBench(script=(step,)) as bench:
        bench.carrier.content_type = MIXED_TYPE
        made = bench.pbx.call(TOLL_FREE)
        bench.run(1.0)
        assert made.status == 200
        made.bye()


def test_rfc3261_20_11_a_body_that_need_not_be_understood_is_no_offer() -> None:
    with GateBench() as bench:
        bench.pbx.ack_body = sdp()
        made = bench.pbx.call(
            TOLL_FREE,
            body=b"hello",
            content_type="text/plain",
            headers=[("Content-Disposition", "render;handling=optional")],
        )
        bench.run(1.0)
        assert made.status == 200
        assert b"m=audio" in made.last.body
        made.request(
            "INVITE", b"hello", "text/plain", headers=[("Content-Disposition", "render;handling=optional")]
        )
        bench.run(1.0)
        assert [reply.status for reply in made.replies] == [200]
        assert b"m=audio" in made.replies[0].body
        made.bye()


def test_an_emergency_call_without_a_codec_in_common_is_relayed_as_it_is() -> None:
    offered = sdp(codecs="18", events=False).replace(b"a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n", b"")
    with GateBench(script=(Step(0.0, 200, body=offered),)) as bench:
        made = bench.pbx.call("911", body=offered)
        bench.run(1.0)
        assert made.status == 200
        assert b"RTP/AVP 18" in made.last.body
        made.bye()


def test_a_plain_call_without_a_codec_in_common_is_488() -> None:
    with GateBench() as bench:
        made = bench.pbx.call(TOLL_FREE, body=sdp(codecs="18", events=False))
        bench.run(1.0)
        assert made.statuses == [488]


def test_rfc3261_16_6_max_forwards_counts_down() -> None:
    with GateBench() as bench:
        made = bench.pbx.call(TOLL_FREE, max_forwards=2)
        bench.run(0.5)
        invite = bench.carrier.calls[0].invite
        assert invite is not None
        assert invite.headers.get("Max-Forwards") == "1"
        made.bye()

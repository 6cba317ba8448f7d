"""T.38: a call changes to fax and back (RFC 3362)."""

from __future__ import annotations

import pytest

from proxy.call.media_security import MediaSecurity
from proxy.call.ports import SrtpKeys
from proxy.cdr.record import Disposition
from proxy.sip.events import RequestReceived
from tests.call.offers import (
    ALLOW_NO_UPDATE,
    Within,
    answers,
    asked,
    callee,
    cancel,
    kept_by,
    talk,
    talking,
    told,
)
from tests.call.transfers import TransferBench, refer
from tests.support.gate import GateBench, default_config
from tests.support.ua import Step, Ua, UaCall, sdp

ASKS = ("a=T38FaxVersion:0", "a=T38MaxBitRate:14400", "a=T38FaxRateManagement:transferredTCF")
SAYS = ("a=T38FaxVersion:0", "a=T38MaxBitRate:9600")


def image(
    host: str = "192.0.2.10", *, port: int = 6000, attributes: tuple[str, ...] = ASKS, version: int = 2
) -> bytes:
    lines = "".join(f"{line}\r\n" for line in attributes)
    return (
        f"v=0\r\no=- 1 {version} IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
        f"m=image {port} udptl t38\r\n{lines}"
    ).encode()


def faxes(ua: Ua, *, port: int = 7000) -> Within:
    """Take whatever is offered, fax too."""
    versions = iter(range(2, 100))

    def within(call: UaCall, event: RequestReceived) -> bool:
        if event.request.method not in {"INVITE", "UPDATE"}:
            return False
        version = next(versions)
        body = sdp(ua.host, version=version)
        if b"m=image" in event.request.body:
            body = image(ua.host, port=port, attributes=SAYS, version=version)
        ua.endpoint.respond(event.transaction, 200, headers=ALLOW_NO_UPDATE, body=body, now=ua.now())
        return True

    return within


def in_fax(bench: GateBench) -> UaCall:
    """A call whose caller has changed to fax."""
    bench.carrier.within = faxes(bench.carrier)
    call = talking(bench)
    call.request("INVITE", image())
    bench.run(0.5)
    assert call.replies[-1].status == 200
    return call


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_rfc3362_a_change_of_the_caller_reaches_the_callee(method: str) -> None:
    with GateBench() as bench:
        bench.carrier.within = faxes(bench.carrier)
        call = talking(bench)
        call.request(method, image())
        bench.run(0.5)
        (offer,) = asked(callee(bench))
        assert b"m=image 10004 udptl t38\r\n" + "\r\n".join(ASKS).encode() in offer.body
        assert b"m=audio" not in offer.body
        answer = call.replies[-1].body
        assert b"m=image 10002 udptl t38\r\n" + "\r\n".join(SAYS).encode() in answer
        a, b = told(bench, 1).remote, told(bench, 2).remote
        assert (a.fax, a.address, a.rtp_port, a.peer_sends) == (True, "192.0.2.10", 6000, True)
        assert (b.fax, b.address, b.rtp_port, b.peer_receives) == (True, "192.0.2.90", 7000, True)
        assert a.event_payload_type is None
        call.bye()
        bench.run(1.0)
    assert bench.record.disposition is Disposition.ANSWERED


def test_rfc3362_a_change_of_the_callee_reaches_the_caller() -> None:
    with GateBench() as bench:
        bench.pbx.within = faxes(bench.pbx)
        call = talking(bench)
        callee(bench).request("INVITE", image("192.0.2.90"))
        bench.run(0.5)
        assert b"m=image 10002 udptl t38" in asked(call)[-1].body
        assert b"m=image 10004 udptl t38" in callee(bench).replies[-1].body
        assert told(bench, 1).remote.rtp_port == 7000
        call.bye()


@pytest.mark.parametrize(("status", "passed_on"), [(488, 488), (415, 488), (603, 603)])
def test_rfc3261_14_1_a_refusal_is_passed_on_and_the_call_goes_on_as_audio(
    status: int, passed_on: int
) -> None:
    with talk() as (bench, call):
        before = [len(leg.configured) for leg in bench.media.all.values()]
        bench.carrier.within = answers(bench.carrier, status)
        call.request("INVITE", image())
        bench.run(0.5)
        assert call.replies[-1].status == passed_on
        assert [len(leg.configured) for leg in bench.media.all.values()] == before
        assert bench.a_leg().bridged_with is not None
        call.request("INVITE", sdp(direction="sendonly", version=3))
        bench.run(0.5)
        assert call.replies[-1].status == 200, "hold still works"
        assert b"m=audio 10004" in asked(callee(bench))[-1].body


def test_rfc3264_6_a_callee_that_takes_no_stream_is_asked_back() -> None:
    with talk() as (bench, call):
        left = [True]

        def within(owner: UaCall, event: RequestReceived) -> bool:
            body = sdp("192.0.2.90", version=9)
            if left and event.request.method == "INVITE":
                left.clear()
                body = image("192.0.2.90", port=0)
            bench.carrier.endpoint.respond(event.transaction, 200, body=body, now=bench.now)
            return True

        bench.carrier.within = within
        call.request("INVITE", image())
        bench.run(1.0)
        assert call.replies[-1].status == 488
        assert [b"m=audio" in request.body for request in asked(callee(bench))] == [False, True]
        assert not told(bench, 2).remote.fax
        bench.carrier.within = None


def test_rfc3264_8_the_call_goes_back_to_audio() -> None:
    with GateBench() as bench:
        call = in_fax(bench)
        call.request("INVITE", sdp(version=3))
        bench.run(0.5)
        assert call.replies[-1].status == 200
        assert b"m=audio 10004 RTP/AVP 0" in asked(callee(bench))[-1].body
        assert [told(bench, leg).remote.fax for leg in (1, 2)] == [False, False]
        call.request("INVITE", image(version=4))
        bench.run(0.5)
        assert [told(bench, leg).remote.fax for leg in (1, 2)] == [True, True]
        call.bye()


def test_rfc3261_14_2_a_refresh_of_fax_does_not_cross() -> None:
    with GateBench() as bench:
        call = in_fax(bench)
        call.request("INVITE", image(port=6002, version=3))
        bench.run(0.5)
        assert len(asked(callee(bench))) == 1
        assert "\r\n".join(SAYS).encode() in call.replies[-1].body
        assert told(bench, 1).remote.rtp_port == 6002
        other = (*ASKS, "a=T38FaxUdpEC:t38UDPRedundancy")
        call.request("INVITE", image(attributes=other, version=4))
        bench.run(0.5)
        assert len(asked(callee(bench))) == 2, "what the machines agree on does"
        call.bye()


def test_rfc3261_14_2_fax_at_the_prompt_is_refused() -> None:
    with GateBench() as bench:
        call = bench.pbx.call("914155550123")
        bench.run(0.5)
        call.request("INVITE", image())
        bench.run(0.5)
        assert call.replies[-1].status == 488
        call.bye()


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_rfc3261_14_1_fax_of_a_callee_whose_answer_is_being_written_waits(method: str) -> None:
    """Fax machines ask as soon as they have answered; a 488 would be their last word."""
    with GateBench() as bench:
        bench.journal.delay = 0.3
        bench.pbx.within = faxes(bench.pbx)
        call = bench.pbx.call("918005550123")
        bench.run(0.1)
        assert call.status != 200
        callee(bench).request(method, image("192.0.2.90"))
        bench.run(1.0)
        assert (callee(bench).replies[-1].status, call.status) == (491, 200)
        callee(bench).request(method, image("192.0.2.90", version=3))
        bench.run(1.0)
        assert callee(bench).replies[-1].status == 200
        assert told(bench, 1).remote.fax
        assert told(bench, 2).remote.fax
        call.bye()


def test_rfc3261_14_1_glare() -> None:
    with talk() as (bench, call):
        kept = kept_by(bench.carrier)
        call.request("INVITE", image())
        bench.run(0.1)
        callee(bench).request("UPDATE", image("192.0.2.90"))
        bench.run(0.1)
        assert callee(bench).replies[-1].status == 491
        (event,) = kept
        bench.carrier.endpoint.respond(
            event.transaction, 200, body=image("192.0.2.90", port=7000), now=bench.now
        )
        bench.run(0.5)
        assert call.replies[-1].status == 200
        bench.carrier.within = None


def test_rfc3264_4_fax_waits_for_what_is_under_way_with_the_other_side() -> None:
    with talk(GateBench(config=default_config(session_expires=90))) as (bench, call):
        kept = kept_by(bench.carrier)
        bench.run(50.0)
        assert kept, "the session is refreshed"
        call.request("INVITE", image())
        bench.run(0.1)
        assert call.replies[-1].status == 491
        (event,) = kept
        bench.carrier.endpoint.respond(event.transaction, 200, body=sdp("192.0.2.90"), now=bench.now)
        bench.run(0.5)
        bench.carrier.within = faxes(bench.carrier)
        call.request("INVITE", image())
        bench.run(0.5)
        assert call.replies[-1].status == 200


def test_rfc3261_9_2_a_change_that_is_taken_back_is_undone() -> None:
    with talk() as (bench, call):
        kept = kept_by(bench.carrier)
        call.request("INVITE", image())
        bench.run(0.1)
        bench.network.drop = lambda sender, receiver, data: (
            data.startswith(b"CANCEL") and sender[0] == "192.0.2.1"
        )
        cancel(call)
        bench.run(0.1)
        assert call.replies[-1].status == 487
        bench.carrier.within = faxes(bench.carrier)
        bench.carrier.endpoint.respond(
            kept[0].transaction, 200, body=image("192.0.2.90", port=7000), now=bench.now
        )
        bench.run(1.0)
        assert b"m=audio 10004" in asked(callee(bench))[-1].body
        assert not told(bench, 2).remote.fax
        bench.network.drop = None
        bench.carrier.within = None
        call.bye()
        bench.run(1.0)


@pytest.mark.parametrize("body", [image().replace(b"c=IN IP4 192.0.2.10\r\n", b""), b"v=0\r\nm=image"])
def test_malformed_offers_change_nothing(body: bytes) -> None:
    with talk() as (bench, call):
        call.request("INVITE", body)
        bench.run(0.5)
        assert call.replies[-1].status == 400
        assert asked(callee(bench)) == []


def test_a_peer_with_a_name_for_an_address_is_where_its_signalling_is() -> None:
    with GateBench() as bench:
        bench.carrier.within = faxes(bench.carrier)
        call = talking(bench)
        call.request("INVITE", image().replace(b"c=IN IP4 192.0.2.10", b"c=IN IP4 fax.example.com"))
        bench.run(0.5)
        assert told(bench, 1).remote.address == "192.0.2.10"
        call.bye()


def test_a_side_that_is_encrypted_stays_with_audio(monkeypatch: pytest.MonkeyPatch) -> None:
    with talk() as (bench, call):
        keys = SrtpKeys("AES_CM_128_HMAC_SHA1_80", b"", b"")
        monkeypatch.setattr(MediaSecurity, "keys", property(lambda security: keys))
        call.request("INVITE", image())
        bench.run(0.5)
        assert call.replies[-1].status == 488
        assert asked(callee(bench)) == []
        monkeypatch.undo()


@pytest.mark.parametrize("transferor", ["caller", "callee"])
def test_rfc5589_6_who_is_transferred_out_of_a_fax_is_asked_back_to_audio(transferor: str) -> None:
    with TransferBench() as bench:
        call = bench.talk(bench.desk, "205")
        for phone in (bench.desk, bench.second):
            phone.within = faxes(phone)
        call.request("INVITE", image("192.0.2.24"))
        bench.run(0.5)
        remaining = call
        if transferor == "caller":
            remaining = bench.second.calls[0]
            refer(call, "206")
        else:
            refer(bench.second.calls[0], "206")
        bench.run(3.0)
        assert bench.third.calls[0].connected
        assert b"m=audio" in asked(remaining)[-1].body
        assert not any(leg.configured[-1].remote.fax for leg in bench.media.legs.values())
        bench.third.calls[0].bye()
        bench.run(1.0)


def test_rfc4028_7_4_a_session_refresh_says_fax_again() -> None:
    with GateBench(
        config=default_config(session_expires=90),
        script=(Step(0.0, 200, with_sdp=True, headers=ALLOW_NO_UPDATE),),
    ) as bench:
        call = in_fax(bench)
        bench.run(50.0)
        assert b"m=image 10004" in asked(callee(bench))[-1].body
        # Audio, refused: what is said again then has a version of its own.
        bench.carrier.within = answers(bench.carrier, 488)
        call.request("INVITE", sdp(version=3))
        bench.run(0.5)
        assert call.replies[-1].status == 488
        bench.carrier.within = faxes(bench.carrier)
        bench.run(50.0)
        refresh = asked(callee(bench))[-1]
        assert b"m=image 10004" in refresh.body
        assert "\r\n".join(ASKS).encode() in refresh.body
        assert told(bench, 2).remote.fax
        assert not call.ended
        call.bye()
        bench.run(1.0)

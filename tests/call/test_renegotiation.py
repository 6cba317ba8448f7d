"""Offers after the first one: re-INVITE and UPDATE between the legs (RFC 3261 §14, RFC 3311, RFC 6141)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from proxy.call.config import CodeMode, Trunk
from proxy.call.media_leg import can_transcode
from proxy.call.outcome import status_for_asker
from proxy.call.ports import ConfigureMediaLeg, LegId
from proxy.cdr.record import Disposition, HungUpBy
from proxy.sip.events import RequestReceived
from proxy.sip.flow import Flow
from proxy.sip.message import Request
from tests.support.gate import CARRIER, NUMBER, GateBench, default_config
from tests.support.ua import ANSWER, Step, Ua, UaCall, sdp

TOLL_FREE = "918005550123"
CALLEE = "192.0.2.90"
ALLOW_UPDATE = [("Allow", "INVITE, ACK, CANCEL, BYE, UPDATE")]
ALLOW_NO_UPDATE = [("Allow", "INVITE, ACK, CANCEL, BYE")]
MIRROR = {"sendonly": "recvonly", "recvonly": "sendonly", "sendrecv": "sendrecv", "inactive": "inactive"}

Within = Callable[[UaCall, RequestReceived], bool]


def talking(bench: GateBench) -> UaCall:
    call = bench.pbx.call(TOLL_FREE)
    bench.run(1.0)
    assert call.status == 200
    return call


def callee(bench: GateBench) -> UaCall:
    return bench.carrier.calls[0]


def told(bench: GateBench, leg: int = 1) -> ConfigureMediaLeg:
    """What the engine was told last about a leg's peer."""
    return bench.media.all[LegId(leg)].configured[-1]


def asked(call: UaCall, *methods: str) -> list[Request]:
    """The requests of the gate that may carry an offer."""
    return [request for request in call.requests if request.method in (methods or ("INVITE", "UPDATE"))]


def direction_of(body: bytes) -> str:
    return next(name for name in MIRROR if f"a={name}\r\n".encode() in body)


def formats_of(body: bytes) -> bytes:
    return body.partition(b"RTP/AVP ")[2].partition(b"\r\n")[0]


def version_of(body: bytes) -> int:
    return int(body.partition(b"o=")[2].split()[2])


def follows(ua: Ua, *, codecs: str = "0 101", wish: str = "sendrecv") -> Within:
    """Answer each offer as a phone does: the direction mirrored, or its own wish within it."""
    versions = iter(range(2, 100))

    def within(call: UaCall, event: RequestReceived) -> bool:
        if event.request.method not in {"INVITE", "UPDATE"}:
            return False
        body = b""
        if event.request.body:
            mirrored = MIRROR[direction_of(event.request.body)]
            direction = mirrored if wish == "sendrecv" else wish
            body = sdp(ua.host, codecs=codecs, direction=direction, version=next(versions))
        elif event.request.method == "INVITE":
            body = sdp(ua.host, codecs=codecs, direction=wish, version=next(versions))
        ua.endpoint.respond(event.transaction, 200, body=body, now=ua.now())
        return True

    return within


def answers(ua: Ua, *statuses: int, headers: Sequence[tuple[str, str]] = ()) -> Within:
    """Answer re-INVITEs and UPDATEs with these refusals one after the other, then as usual. 0: no answer."""
    left = list(statuses)

    def within(call: UaCall, event: RequestReceived) -> bool:
        if event.request.method not in {"INVITE", "UPDATE"} or not left:
            return False
        status = left.pop(0)
        if status:
            ua.endpoint.respond(event.transaction, status, headers=headers, now=ua.now())
        return True

    return within


def keeps(kept: list[RequestReceived]) -> Within:
    """Leave re-INVITEs and UPDATEs to the test."""

    def within(call: UaCall, event: RequestReceived) -> bool:
        if event.request.method not in {"INVITE", "UPDATE"}:
            return False
        kept.append(event)
        event.transaction.owner, call.server = call, event.transaction
        return True

    return within


def cancel(call: UaCall) -> None:
    """Take the re-INVITE back that is under way."""
    assert call.dialog is not None
    assert call.dialog.invite_client is not None
    call.ua.endpoint.cancel(call.dialog.invite_client, now=call.ua.now())


def acks_to_the_carrier(bench: GateBench) -> list[float]:
    """When the ACKs of the gate went to the carrier from now on."""
    acks: list[float] = []

    def trace(at: float, sender: object, receiver: object, data: bytes) -> None:
        if receiver == CARRIER and data.startswith(b"ACK"):
            acks.append(at)

    bench.network.trace = trace
    return acks


def without_cancel(sender: object, receiver: object, data: bytes) -> bool:
    """Lose the CANCELs on their way to the carrier, as if they crossed its answer."""
    return receiver == CARRIER and data.startswith(b"CANCEL")


class TestHold:
    """RFC 3264 §8.4: a direction crosses, and so does what is answered."""

    @pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
    @pytest.mark.parametrize(
        ("direction", "sends", "receives"),
        [("sendonly", True, False), ("inactive", False, False), ("recvonly", False, True)],
    )
    def test_of_the_caller_reaches_the_callee_and_ends(
        self, method: str, direction: str, sends: bool, receives: bool
    ) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.within = follows(bench.carrier)
            call.request(method, sdp(direction=direction, version=2))
            bench.run(0.5)
            (asked_for,) = asked(callee(bench))
            assert direction_of(asked_for.body) == direction
            assert call.replies[-1].status == 200
            assert direction_of(call.replies[-1].body) == MIRROR[direction]
            assert (told(bench).remote.peer_sends, told(bench).remote.peer_receives) == (sends, receives)
            held = told(bench, 2).remote
            assert (held.peer_sends, held.peer_receives) == (receives, sends)
            assert bench.a_leg().bridged_with is not None  # music on hold is relayed
            call.request(method, sdp(version=3))
            bench.run(0.5)
            assert direction_of(asked(callee(bench))[-1].body) == "sendrecv"
            assert direction_of(call.replies[-1].body) == "sendrecv"
            assert told(bench, 2).remote.peer_sends
            call.bye()

    @pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
    def test_of_the_callee_reaches_the_caller(self, method: str) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.pbx.within = follows(bench.pbx)
            callee(bench).request(method, sdp(CALLEE, direction="sendonly", version=2))
            bench.run(0.5)
            assert direction_of(asked(call)[-1].body) == "sendonly"
            assert direction_of(callee(bench).replies[-1].body) == "recvonly"
            assert not told(bench).remote.peer_sends
            call.bye()

    def test_each_leg_has_its_own_session(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.within = follows(bench.carrier)
            first = callee(bench).invite
            assert first is not None
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.5)
            again = asked(callee(bench))[-1].body
            # RFC 3264 §8: one session id, the version one higher; the port and address are the gate's own.
            assert again.split(b" ")[1] == first.body.split(b" ")[1]
            assert version_of(again) == version_of(first.body) + 1
            assert b"c=IN IP4 192.0.2.1\r\n" in again
            assert version_of(call.replies[-1].body) == version_of(call.responses[-1].body) + 1
            call.bye()

    def test_rfc2543_address_of_zeros_holds_too(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.within = follows(bench.carrier)
            call.request("INVITE", sdp("0.0.0.0", version=2))
            bench.run(0.5)
            assert direction_of(asked(callee(bench))[-1].body) == "sendonly"
            assert not told(bench).remote.peer_receives
            call.bye()

    def test_callee_on_hold_that_holds_too_is_asked_when_the_caller_comes_back(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.within = follows(bench.carrier)
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.5)
            bench.pbx.within = follows(bench.pbx, wish="inactive")
            callee(bench).request("INVITE", sdp(CALLEE, direction="inactive", version=9))
            bench.run(0.5)
            assert direction_of(callee(bench).replies[-1].body) == "inactive"
            bench.carrier.within = follows(bench.carrier, wish="sendonly")
            call.request("INVITE", sdp(version=4))
            bench.run(0.5)
            assert direction_of(call.replies[-1].body) == "sendonly"
            call.bye()

    def test_at_the_prompt_is_the_gates_own_affair(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.2)
            assert direction_of(call.replies[-1].body) == "recvonly"
            assert not bench.carrier.calls
            call.bye()

    def test_of_before_the_talk_is_told_when_it_begins(self) -> None:
        with GateBench(script=(Step(1.0, 200, with_sdp=True),)) as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            bench.press("1234#")
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.2)
            bench.carrier.within = follows(bench.carrier)
            bench.run(2.0)
            assert direction_of(asked(callee(bench))[-1].body) == "sendonly"
            assert not told(bench, 2).remote.peer_sends
            call.bye()

    def test_callee_that_answers_on_hold_is_told_to_a_caller_that_was_answered_before(self) -> None:
        body = sdp(CALLEE, direction="sendonly")
        with GateBench(script=(Step(0.0, 200, body=body),)) as bench:
            bench.pbx.within = follows(bench.pbx)
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            bench.press("1234#")
            bench.run(1.0)
            assert direction_of(asked(call)[-1].body) == "sendonly"
            assert not told(bench).remote.peer_sends
            call.bye()

    def test_callee_that_answers_on_hold_is_told_in_the_callers_own_answer(self) -> None:
        body = sdp(CALLEE, direction="sendonly")
        with GateBench(script=(Step(0.0, 200, body=body),)) as bench:
            call = talking(bench)
            assert direction_of(call.last.body) == "sendonly"
            assert not asked(call)
            call.bye()


class TestWhatDoesNotCross:
    @pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
    def test_the_same_description_is_a_refresh(self, method: str) -> None:
        with GateBench() as bench:
            call = talking(bench)
            call.request(method, bench.pbx.description)
            bench.run(0.5)
            assert call.replies[-1].body == call.responses[-1].body
            assert not asked(callee(bench))
            call.bye()

    def test_rfc3311_5_2_update_without_sdp_is_a_refresh(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            call.request("UPDATE")
            bench.run(0.5)
            assert (call.replies[-1].status, call.replies[-1].body) == (200, b"")
            assert not asked(callee(bench))
            call.bye()

    def test_a_new_address_of_the_callee_moves_its_media(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            callee(bench).request("INVITE", sdp("192.0.2.99", 5000))
            bench.run(0.5)
            assert told(bench, 2).remote.address == "192.0.2.99"
            assert not asked(call)
            call.bye()

    def test_a_format_that_is_spoken_and_still_named_goes_on(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            call.request("INVITE", sdp(codecs="8 0 101", version=2))
            bench.run(0.5)
            assert formats_of(call.replies[-1].body) == b"0 101"
            assert not asked(callee(bench))
            call.bye()

    def test_early_offer_of_the_caller_in_early_mode(self) -> None:
        with GateBench(config=default_config(code_mode=CodeMode.EARLY)) as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            call.request("UPDATE", sdp(port=4500, version=2))
            bench.run(0.1)
            assert call.replies[-1].status == 200
            assert told(bench).remote.rtp_port == 4500
            call.cancel()

    def test_late_offer_at_the_prompt_is_the_gates_own(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            bench.pbx.ack_body = sdp(port=4444, version=2)
            call.request("INVITE", b"")
            bench.run(0.5)
            assert formats_of(call.replies[-1].body) == b"0 101"
            assert told(bench).remote.rtp_port == 4444
            call.bye()

    def test_answer_in_the_ack_that_is_no_use_changes_nothing(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            call.request("INVITE", b"")
            bench.run(0.2)
            assert told(bench).remote.rtp_port == 4000
            call.request("INVITE", sdp(version=3))
            bench.run(0.2)
            assert call.replies[-1].status == 200
            call.bye()

    def test_other_codec_at_the_prompt_is_488(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            call.request("INVITE", sdp(codecs="8 101", version=2))
            bench.run(0.2)
            assert call.replies[-1].status == 488
            call.bye()


class TestMethods:
    """RFC 3311 §5.1: UPDATE goes only to a peer that allows it."""

    @pytest.mark.parametrize(("allow", "method"), [(ALLOW_UPDATE, "UPDATE"), (ALLOW_NO_UPDATE, "INVITE")])
    def test_an_update_crosses_as_one_where_the_peer_allows_it(
        self, allow: list[tuple[str, str]], method: str
    ) -> None:
        script = (Step(0.0, 200, with_sdp=True, headers=allow),)
        with GateBench(script=script) as bench:
            call = talking(bench)
            bench.carrier.within = follows(bench.carrier)
            call.request("UPDATE", sdp(direction="sendonly", version=2))
            bench.run(0.5)
            assert [request.method for request in asked(callee(bench))] == [method]
            assert call.replies[-1].status == 200
            call.bye()

    def test_rfc3261_13_2_2_4_the_gates_reinvite_is_acked(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.within = follows(bench.carrier)
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(40.0)
            assert bench.carrier.ack_timeouts == 0
            assert [request.method for request in callee(bench).requests] == ["ACK", "INVITE", "ACK"]
            call.bye()


class TestRefusal:
    """RFC 3261 §14.1, RFC 6141 §3.4: a refused re-INVITE leaves the call as it was."""

    @pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
    @pytest.mark.parametrize(
        ("status", "told_asker"), [(488, 488), (491, 491), (606, 488), (503, 500), (302, 500), (603, 603)]
    )
    def test_the_asker_hears_of_it_and_nothing_has_changed(
        self, method: str, status: int, told_asker: int
    ) -> None:
        with GateBench() as bench:
            call = talking(bench)
            before = [len(bench.media.all[LegId(leg)].configured) for leg in (1, 2)]
            bench.carrier.within = answers(bench.carrier, status)
            call.request(method, sdp(direction="sendonly", version=2))
            bench.run(0.5)
            assert call.replies[-1].status == told_asker
            assert [len(bench.media.all[LegId(leg)].configured) for leg in (1, 2)] == before
            # The next offer is heard again, under a version of its own.
            refused = asked(callee(bench))[-1].body
            bench.carrier.within = follows(bench.carrier)
            call.request(method, sdp(direction="inactive", version=3))
            bench.run(0.5)
            assert version_of(asked(callee(bench))[-1].body) == version_of(refused) + 1
            assert direction_of(call.replies[-1].body) == "inactive"
            call.bye()

    def test_retry_after_of_a_500_crosses(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.within = answers(bench.carrier, 500, headers=[("Retry-After", "4")])
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.5)
            assert call.replies[-1].status == 500
            assert call.replies[-1].headers.get("Retry-After") == "4"
            call.bye()

    @pytest.mark.parametrize(
        ("body", "content_type", "status"),
        [
            (sdp(codecs="18"), "application/sdp", 488),
            (b"v=0\r\nnonsense", "application/sdp", 400),
            (b"<x/>", "application/xml", 415),
            (sdp(port=0), "application/sdp", 488),
        ],
    )
    def test_an_offer_that_nobody_could_take_does_not_cross(
        self, body: bytes, content_type: str, status: int
    ) -> None:
        with GateBench() as bench:
            call = talking(bench)
            call.request("INVITE", body, content_type)
            bench.run(0.5)
            assert call.replies[-1].status == status
            assert not asked(callee(bench))
            assert not call.has_ended()
            call.bye()

    def test_an_answer_that_is_no_use_refuses_the_offer(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.description = b""
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.5)
            assert call.replies[-1].status == 488
            assert told(bench).remote.peer_receives
            assert [request.method for request in callee(bench).requests] == ["ACK", "INVITE", "ACK"]
            call.bye()

    @pytest.mark.parametrize("status", [408, 481])
    def test_rfc3261_12_2_1_2_a_peer_that_knows_no_such_dialog_ends_the_call(self, status: int) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.within = answers(bench.carrier, status)
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.5)
            assert call.replies[-1].status == 500
            assert call.has_ended()
            assert callee(bench).ended
        assert bench.record.disposition is Disposition.FAILED

    def test_rfc3261_14_1_silence_is_504_and_the_call_goes_on(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.network.drop = lambda sender, receiver, data: receiver == CARRIER and data[:6] == b"INVITE"
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(31.0)
            assert not call.replies[1:]
            bench.run(2.0)
            assert call.replies[-1].status == 504
            bench.network.drop = None
            bench.carrier.within = follows(bench.carrier)
            call.request("INVITE", sdp(direction="sendonly", version=3))
            bench.run(0.5)
            assert call.replies[-1].status == 200
            call.bye()

    def test_rfc4320_an_update_is_answered_before_its_sender_gives_up(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.network.drop = lambda sender, receiver, data: receiver == CARRIER and b"CSeq: 2" in data
            call.request("UPDATE", sdp(direction="sendonly", version=2))
            bench.run(19.9)
            assert not call.replies
            bench.run(0.2)
            assert call.replies[-1].status == 504
            bench.run(20.0)
            assert not call.has_ended()
            bench.network.drop = None
            call.bye()

    def test_a_callee_that_only_rings_is_cancelled(self) -> None:
        kept: list[RequestReceived] = []
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.within = keeps(kept)
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.1)
            bench.carrier.endpoint.respond(kept[0].transaction, 180, now=bench.now)
            bench.run(47.0)
            assert [reply.status for reply in call.replies] == [100]
            bench.run(2.0)
            assert call.replies[-1].status == 480  # the 487 to what the gate has cancelled
            assert not call.has_ended()
            call.bye()

    def test_the_mapping_of_refusals(self) -> None:
        assert status_for_asker(0) == 504
        assert status_for_asker(407) == 500
        assert status_for_asker(486) == 486


class TestWithdrawn:
    """RFC 3261 §9, RFC 6141 §3.4: what the asker took back, the other side goes back from."""

    def test_a_cancelled_reinvite_is_487_and_the_other_side_is_cancelled(self) -> None:
        kept: list[RequestReceived] = []
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.within = keeps(kept)
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.1)
            bench.carrier.endpoint.respond(kept[0].transaction, 180, now=bench.now)
            bench.run(0.3)
            cancel(call)
            bench.run(0.5)
            assert call.replies[-1].status == 487
            assert callee(bench).was_cancelled()
            assert told(bench).remote.peer_receives
            call.bye()

    def test_a_callee_that_took_it_all_the_same_is_asked_back(self) -> None:
        kept: list[RequestReceived] = []
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.within = keeps(kept)
            bench.network.drop = without_cancel
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.3)
            cancel(call)
            bench.run(0.5)
            assert call.replies[-1].status == 487
            bench.carrier.within = follows(bench.carrier)
            taken = sdp(CALLEE, direction="recvonly", version=2)
            bench.carrier.endpoint.respond(kept[0].transaction, 200, body=taken, now=bench.now)
            bench.run(0.5)
            told_callee = [direction_of(request.body) for request in asked(callee(bench))]
            assert told_callee == ["sendonly", "sendrecv"]
            assert told(bench, 2).remote.peer_sends
            call.bye()

    def test_a_cancel_that_is_for_nothing_on_its_way_changes_nothing(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            live = next(iter(bench.core.calls.values()))
            before = len(bench.media.all[LegId(1)].configured)
            live.a.reinvite_cancelled(live.incoming.transaction, bench.now)
            bench.run(0.5)
            assert not call.replies
            assert len(bench.media.all[LegId(1)].configured) == before
            call.bye()

    def test_an_offer_meanwhile_is_491(self) -> None:
        kept: list[RequestReceived] = []
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.within = keeps(kept)
            call.request("UPDATE", sdp(direction="sendonly", version=2))
            bench.run(21.0)
            assert call.replies[-1].status == 504
            call.request("UPDATE", sdp(direction="inactive", version=3))
            bench.run(0.1)
            assert call.replies[-1].status == 491
            bench.carrier.endpoint.respond(kept[0].transaction, 488, now=bench.now)
            bench.run(0.1)
            call.bye()


class TestLateOffer:
    """RFC 3261 §14.1: a re-INVITE without SDP asks the other side for its offer too."""

    def test_the_offer_of_the_one_and_the_answer_of_the_other(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.pbx.ack_body = sdp(port=4444, direction="sendonly", version=2)
            call.request("INVITE", b"")
            bench.run(0.5)
            (request,) = asked(callee(bench))
            assert request.body == b""
            assert formats_of(call.replies[-1].body) == b"0 8 101"
            assert told(bench).remote.rtp_port == 4444
            ack = callee(bench).requests[-1]
            assert ack.method == "ACK"
            assert direction_of(ack.body) == "sendonly"
            assert formats_of(ack.body) == b"0 101"
            call.bye()

    def test_of_the_callee(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.ack_body = sdp(CALLEE, 5555, version=2)
            callee(bench).request("INVITE", b"")
            bench.run(0.5)
            assert told(bench, 2).remote.rtp_port == 5555
            assert call.requests[-1].method == "ACK"
            assert formats_of(call.requests[-1].body) == b"0 101"
            call.bye()

    def test_rfc3264_6_1_a_callee_that_renumbers_events_is_heard_under_the_offered_number(self) -> None:
        renumbered = sdp(CALLEE, codecs="0 97").replace(b":101 ", b":97 ")
        with GateBench(script=(Step(0.0, 200, body=renumbered),)) as bench:
            call = talking(bench)
            remote = told(bench, 2).remote
            assert (remote.event_payload_type, remote.heard_event_payload_type) == (97, 101)
            assert (remote.audio.payload_type, remote.heard_payload_type) == (0, 0)
            # RFC 3264 §8.3.2: a later offer of the gate keeps to its own numbers.
            bench.carrier.ack_body = renumbered
            callee(bench).request("INVITE", b"")
            bench.run(0.5)
            assert formats_of(callee(bench).replies[-1].body) == b"0 8 101"
            assert told(bench, 2).remote.heard_event_payload_type == 101
            call.bye()

    def test_refused_by_the_other_side(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.within = answers(bench.carrier, 488)
            call.request("INVITE", b"")
            bench.run(0.5)
            assert call.replies[-1].status == 488
            call.bye()

    @pytest.mark.parametrize("body", [b"", b"v=0\r\nnonsense", sdp(CALLEE, codecs="18")])
    def test_an_offer_that_is_no_use_is_acked_and_the_asker_refused(self, body: bytes) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.description = body
            call.request("INVITE", b"")
            bench.run(0.5)
            assert call.replies[-1].status in {400, 488}
            assert callee(bench).requests[-1].method == "ACK"
            bench.run(33.0)
            assert not call.has_ended()
            call.bye()

    def test_an_answer_that_is_no_use_leaves_both_as_they_were(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            call.request("INVITE", b"")
            bench.run(0.5)
            assert told(bench).remote.rtp_port == 4000
            ack = callee(bench).requests[-1]
            assert (ack.method, direction_of(ack.body)) == ("ACK", "sendrecv")
            call.bye()

    def test_never_acked_ends_the_call_and_the_other_side_gets_its_ack(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.pbx.auto_ack = False
            call.request("INVITE", b"")
            bench.run(33.0)
            assert call.has_ended()
            methods = [request.method for request in callee(bench).requests]
            assert methods == ["ACK", "INVITE", "ACK", "BYE"]
            assert callee(bench).requests[2].body
            bench.vanished.add(bench.pbx)

    def test_the_callee_hangs_up_before_its_ack(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.pbx.auto_ack = False
            call.request("INVITE", b"")
            bench.run(0.3)
            acks = acks_to_the_carrier(bench)
            dialog = callee(bench).dialog
            assert dialog is not None
            assert dialog.awaited_ack is not None
            dialog.awaited_ack.stop()  # a callee that knows no §15
            dialog.awaited_ack = None
            callee(bench).bye()
            bench.run(33.0)
            assert call.has_ended()
            assert len(acks) == 1
            bench.vanished.add(bench.pbx)

    def test_taken_back_while_the_callee_thinks(self) -> None:
        kept: list[RequestReceived] = []
        with GateBench() as bench:
            call = talking(bench)
            bench.network.drop = without_cancel
            bench.carrier.within = keeps(kept)
            call.request("INVITE", b"")
            bench.run(0.3)
            cancel(call)
            bench.run(0.3)
            offered = sdp(CALLEE, version=2)
            bench.carrier.endpoint.respond(kept[0].transaction, 200, body=offered, now=bench.now)
            bench.run(0.3)
            assert call.replies[-1].status == 487
            assert formats_of(callee(bench).requests[-1].body) == b"0 101"
            call.bye()

    def test_taken_back_and_the_callee_says_nonsense(self) -> None:
        kept: list[RequestReceived] = []
        with GateBench() as bench:
            call = talking(bench)
            bench.network.drop = without_cancel
            bench.carrier.within = keeps(kept)
            call.request("INVITE", b"")
            bench.run(0.3)
            cancel(call)
            bench.run(0.3)
            bench.carrier.endpoint.respond(kept[0].transaction, 200, body=b"v=0\r\nx", now=bench.now)
            bench.run(0.3)
            assert callee(bench).requests[-1].method == "ACK"
            call.bye()

    def test_in_a_call_without_telephone_event_none_is_promised(self) -> None:
        with GateBench() as bench:
            bench.pbx.description = sdp(events=False)
            call = talking(bench)
            bench.pbx.ack_body = bench.pbx.description
            call.request("INVITE", b"")
            bench.run(0.5)
            assert formats_of(callee(bench).requests[-1].body) == b"0"
            call.bye()


class TestGlare:
    """RFC 3261 §14.1 and §14.2, RFC 3311 §5.2."""

    @pytest.mark.parametrize(
        ("first", "second"), [("INVITE", "UPDATE"), ("UPDATE", "INVITE"), ("UPDATE", "UPDATE")]
    )
    def test_an_offer_against_the_gates_own_on_that_leg_is_491(self, first: str, second: str) -> None:
        kept: list[RequestReceived] = []
        script = (Step(0.0, 200, with_sdp=True, headers=ALLOW_UPDATE),)
        with GateBench(script=script) as bench:
            call = talking(bench)
            bench.carrier.within = keeps(kept)
            call.request(first, sdp(direction="sendonly", version=2))
            bench.run(0.1)
            bench.carrier.within = None
            callee(bench).request(second, sdp(CALLEE, direction="sendonly", version=2))
            bench.run(0.1)
            assert callee(bench).replies[-1].status == 491
            taken = sdp(CALLEE, direction="recvonly", version=2)
            bench.carrier.endpoint.respond(kept[0].transaction, 200, body=taken, now=bench.now)
            bench.run(0.3)
            assert call.replies[-1].status == 200
            call.bye()

    def test_both_ask_at_once_both_hear_491_and_both_get_through(self) -> None:
        with GateBench(delay=(0.05, 0.05)) as bench:
            call = talking(bench)
            call.request("INVITE", sdp(direction="sendonly", version=2))
            callee(bench).request("INVITE", sdp(CALLEE, direction="sendonly", version=2))
            bench.run(1.0)
            assert call.replies[-1].status == 491
            assert callee(bench).replies[-1].status == 491
            # The side that owns no Call-ID waits the shorter time.
            bench.pbx.within, bench.carrier.within = follows(bench.pbx), follows(bench.carrier)
            callee(bench).request("INVITE", sdp(CALLEE, direction="sendonly", version=3))
            bench.run(1.0)
            assert callee(bench).replies[-1].status == 200
            call.request("INVITE", sdp(direction="inactive", version=4))
            bench.run(1.0)
            assert call.replies[-1].status == 200
            call.bye()

    def test_overlapping_updates_get_500_with_retry_after(self) -> None:
        kept: list[RequestReceived] = []
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.within = keeps(kept)
            call.request("UPDATE", sdp(direction="sendonly", version=2))
            bench.run(0.1)
            call.request("UPDATE", sdp(direction="inactive", version=3))
            bench.run(0.1)
            assert call.replies[-1].status == 500
            assert call.replies[-1].headers.get("Retry-After") == "3"
            bench.carrier.endpoint.respond(kept[0].transaction, 488, now=bench.now)
            bench.run(0.1)
            assert call.replies[-1].status == 488
            call.bye()

    def test_overlapping_invites_get_500_with_retry_after(self) -> None:
        kept: list[RequestReceived] = []
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.within = keeps(kept)
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.1)
            assert call.dialog is not None
            call.dialog.invite_client = None  # a caller that knows no §14.1
            call.request("INVITE", sdp(direction="inactive", version=3))
            bench.run(0.1)
            (overlapping,) = [reply for reply in call.replies if reply.status == 500]
            assert overlapping.headers.get("Retry-After") is not None
            bench.carrier.endpoint.respond(kept[0].transaction, 488, now=bench.now)
            bench.run(0.1)
            call.bye()

    def test_an_offer_while_an_offer_of_the_gate_is_open_is_491(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.pbx.auto_ack = False
            call.request("INVITE", b"")
            bench.run(0.5)
            call.request("UPDATE", sdp(version=2))
            bench.run(0.1)
            assert call.replies[-1].status == 491
            callee(bench).request("UPDATE", sdp(CALLEE, direction="sendonly", version=2))
            bench.run(0.1)
            assert callee(bench).replies[-1].status == 491
            call.bye()

    def test_the_other_side_has_not_acked_the_gates_200_yet(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.auto_ack = False
            callee(bench).request("INVITE", sdp("192.0.2.99", 5000))
            bench.run(0.1)
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.1)
            assert call.replies[-1].status == 491
            call.bye()

    def test_an_early_update_before_the_first_offer_is_answered(self) -> None:
        # The gate has no answer to the callee's side yet: the callee offers in an early dialog without SDP.
        with GateBench(script=(Step(0.0, 180),)) as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(0.5)
            callee(bench).request("UPDATE", sdp(CALLEE))
            bench.run(0.1)
            assert callee(bench).replies[-1].status in {491, 500}
            call.cancel()


class TestEnd:
    """RFC 3261 §15.1.2: a BYE ends what is under way."""

    @pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
    def test_the_asker_hangs_up(self, method: str) -> None:
        kept: list[RequestReceived] = []
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.within = keeps(kept)
            call.request(method, sdp(direction="sendonly", version=2))
            bench.run(0.1)
            call.bye()
            bench.run(0.1)
            assert 487 in {reply.status for reply in call.replies}
            assert callee(bench).ended
            if method == "UPDATE":
                bench.carrier.endpoint.respond(kept[0].transaction, 487, now=bench.now)

    def test_the_other_side_hangs_up(self) -> None:
        kept: list[RequestReceived] = []
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.within = keeps(kept)
            call.request("UPDATE", sdp(direction="sendonly", version=2))
            bench.run(0.1)
            bench.carrier.within = None
            callee(bench).bye()
            bench.run(0.1)
            assert 487 in {reply.status for reply in call.replies}
            assert call.has_ended()
            bench.carrier.endpoint.respond(kept[0].transaction, 487, now=bench.now)

    def test_a_200_that_crosses_the_gates_bye_is_acked(self) -> None:
        with GateBench(delay=(0.1, 0.1)) as bench:
            call = talking(bench)
            call.request("INVITE", sdp(direction="sendonly", version=2))
            acks = acks_to_the_carrier(bench)
            bench.run(0.15)  # the 200 to the gate's re-INVITE comes just after this BYE
            call.bye()
            bench.run(2.0)
            assert len(acks) == 1
        assert bench.record.disposition is Disposition.ANSWERED

    def test_its_200_is_never_acked(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.auto_ack = False
            callee(bench).request("INVITE", sdp(CALLEE, version=2))
            bench.run(33.0)
            assert call.ended
            assert callee(bench).ended
        assert bench.record.disposition is Disposition.FAILED

    def test_the_gate_hangs_up_while_it_waits_to_ask_again(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.within = answers(bench.carrier, 491)
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.1)
            assert bench.core.hang_up(next(iter(bench.core.calls)), bench.now)
            bench.run(1.0)
            assert call.has_ended()
        assert bench.record.hung_up_by is HungUpBy.GATE


class TestCodec:
    """RFC 3264 §8.3.2: a side changes its format with the other, or the gate transcodes."""

    PCMA = (Step(0.0, 200, body=sdp(CALLEE, codecs="8 101")),)

    def test_the_callee_is_offered_what_could_be_transcoded(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            invite = callee(bench).invite
            assert invite is not None
            assert formats_of(invite.body) == b"0 8 101"
            call.bye()

    def test_a_caller_that_is_not_answered_yet_gets_the_callees_choice(self) -> None:
        with GateBench(script=self.PCMA) as bench:
            call = talking(bench)
            assert formats_of(call.last.body) == b"8 101"
            assert not asked(call)
            call.bye()

    def test_a_caller_that_heard_the_prompt_is_reinvited(self) -> None:
        with GateBench(script=self.PCMA) as bench:
            bench.pbx.within = follows(bench.pbx, codecs="8 101")
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            bench.press("1234#")
            bench.run(1.0)
            (request,) = asked(call)
            assert request.method == "INVITE"
            assert formats_of(request.body) == b"8 101"
            assert told(bench).remote.audio.name == "PCMA"
            assert told(bench, 2).remote.audio.name == "PCMA"
            call.bye()

    @pytest.mark.parametrize("status", [488, 503])
    def test_a_caller_that_refuses_is_transcoded_for(self, status: int) -> None:
        with GateBench(script=self.PCMA) as bench:
            bench.pbx.within = answers(bench.pbx, status)
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            bench.press("1234#")
            bench.run(20.0)
            assert len(asked(call)) == 1
            assert told(bench).remote.audio.name == "PCMU"
            assert told(bench, 2).remote.audio.name == "PCMA"
            assert bench.a_leg().bridged_with is not None
            call.bye()

    def test_a_caller_that_never_named_it_is_not_asked(self) -> None:
        with GateBench(script=self.PCMA) as bench:
            bench.pbx.description = sdp(codecs="0 101")
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            bench.press("1234#")
            bench.run(1.0)
            assert not asked(call)
            assert told(bench).remote.audio.name == "PCMU"
            call.bye()

    @pytest.mark.parametrize(("headers", "after"), [((), 1.0), ([("Retry-After", "5")], 5.0)])
    def test_rfc3261_14_1_the_gate_asks_again_after_a_491_or_500(
        self, headers: Sequence[tuple[str, str]], after: float
    ) -> None:
        with GateBench(script=self.PCMA) as bench:
            bench.pbx.within = answers(bench.pbx, 500 if headers else 491, headers=headers)
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            bench.press("1234#")
            bench.run(0.5)
            assert len(asked(call)) == 1
            bench.run(after - 0.6)
            assert len(asked(call)) == 1
            bench.pbx.within = follows(bench.pbx, codecs="8 101")
            bench.run(0.2)
            assert len(asked(call)) == 2
            assert told(bench).remote.audio.name == "PCMA"
            call.bye()

    def test_a_caller_that_says_491_for_ever_is_left_alone(self) -> None:
        with GateBench(script=self.PCMA) as bench:
            bench.pbx.within = answers(bench.pbx, *[491] * 20)
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            bench.press("1234#")
            bench.run(60.0)
            assert len(asked(call)) == 6
            call.bye()

    def test_retry_after_that_is_no_number_is_a_refusal(self) -> None:
        with GateBench(script=self.PCMA) as bench:
            bench.pbx.within = answers(bench.pbx, 500, headers=[("Retry-After", "soon")])
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            bench.press("1234#")
            bench.run(20.0)
            assert len(asked(call)) == 1
            call.bye()

    def test_a_caller_that_has_not_acked_yet_is_asked_after_its_ack(self) -> None:
        with GateBench(script=self.PCMA, config=default_config(code_mode=CodeMode.EARLY)) as bench:
            bench.pbx.auto_ack = False
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            bench.press("1234#")
            bench.run(0.3)
            assert formats_of(call.last.body) == b"0 101"
            assert not asked(call)
            bench.pbx.auto_ack = True
            bench.pbx.within = follows(bench.pbx, codecs="8 101")
            assert call.dialog is not None
            bench.pbx.endpoint.ack(call.dialog, now=bench.now)
            bench.run(0.3)
            assert formats_of(asked(call)[-1].body) == b"8 101"
            call.bye()

    def test_of_the_callee_in_talk_crosses_with_the_spoken_one_behind_it(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.pbx.within = follows(bench.pbx, codecs="8 101")
            callee(bench).request("INVITE", sdp(CALLEE, codecs="8 101", version=2))
            bench.run(0.5)
            assert formats_of(asked(call)[-1].body) == b"8 0 101"
            assert formats_of(callee(bench).replies[-1].body) == b"8 101"
            assert {told(bench, leg).remote.audio.name for leg in (1, 2)} == {"PCMA"}
            call.bye()

    def test_of_the_callee_in_talk_is_transcoded_where_the_caller_stays(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.pbx.within = follows(bench.pbx, codecs="0 101")
            callee(bench).request("INVITE", sdp(CALLEE, codecs="8 101", version=2))
            bench.run(0.5)
            assert callee(bench).replies[-1].status == 200
            assert told(bench).remote.audio.name == "PCMU"
            assert told(bench, 2).remote.audio.name == "PCMA"
            call.bye()

    def test_of_the_caller_back_to_what_the_callee_speaks(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.within = follows(bench.carrier, codecs="0 101")
            call.request("INVITE", sdp(codecs="8 101", version=2))
            bench.run(0.5)
            assert formats_of(call.replies[-1].body) == b"8 101"
            # Both named: what the other side speaks needs no transcoding.
            call.request("INVITE", sdp(codecs="8 0 101", version=3))
            bench.run(0.5)
            assert formats_of(call.replies[-1].body) == b"0 101"
            call.bye()

    def test_a_format_that_only_one_side_takes_does_not_cross(self) -> None:
        trunk = Trunk("carrier", (Flow("UDP", *CARRIER),), "carrier.example.com", codecs=("PCMU",))
        with GateBench(config=default_config(trunks=(trunk,))) as bench:
            call = talking(bench)
            invite = callee(bench).invite
            assert invite is not None
            assert formats_of(invite.body) == b"0 101"
            bench.carrier.within = follows(bench.carrier)
            call.request("INVITE", sdp(codecs="8 101", direction="sendonly", version=2))
            bench.run(0.5)
            assert formats_of(asked(callee(bench))[-1].body) == b"0 101"
            assert formats_of(call.replies[-1].body) == b"8 101"
            call.bye()

    def test_which_can_be_transcoded(self) -> None:
        assert can_transcode("PCMU", "G722")
        assert can_transcode("OPUS", "OPUS")
        assert not can_transcode("OPUS", "PCMU")


class TestHostile:
    def test_a_format_under_a_wrong_clock_is_refused_and_the_other_side_goes_back(self) -> None:
        strange = sdp(codecs="96", events=False, direction="sendonly", version=2)
        strange = strange.replace(b"a=ptime", b"a=rtpmap:96 PCMA/16000\r\na=ptime")
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.within = follows(bench.carrier, codecs="0 101")
            call.request("INVITE", strange)
            bench.run(0.5)
            assert call.replies[-1].status == 488
            told_callee = [direction_of(request.body) for request in asked(callee(bench))]
            assert told_callee == ["sendonly", "sendrecv"]
            call.bye()

    def test_a_peer_that_asks_over_and_over_is_answered_each_time(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.carrier.within = follows(bench.carrier)
            for version in range(2, 60):
                direction = "sendonly" if version % 2 else "sendrecv"
                call.request("INVITE", sdp(direction=direction, version=version))
                bench.run(0.05)
                assert call.replies[-1].status == 200
            call.bye()

    def test_repeated_and_late_messages_change_nothing_twice(self) -> None:
        with GateBench(seed=3, duplication=0.5, delay=(0.0, 0.05)) as bench:
            call = talking(bench)
            bench.carrier.within = follows(bench.carrier)
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(3.0)
            assert len(asked(callee(bench))) == 1
            assert call.replies[-1].status == 200
            call.bye()

    @pytest.mark.parametrize("seed", range(8))
    def test_on_a_bad_network_both_sides_end_in_agreement(self, seed: int) -> None:
        with GateBench(seed=seed, loss=0.25, duplication=0.1, delay=(0.0, 0.1), script=ANSWER) as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(20.0)
            bench.carrier.within = follows(bench.carrier)
            if call.status == 200 and not call.has_ended():
                call.request("INVITE", sdp(direction="sendonly", version=2))
                bench.run(33.0)
                if call.replies and call.replies[-1].status == 200:
                    assert not told(bench, 2).remote.peer_sends
            for live in list(bench.core.calls):
                bench.core.hang_up(live, bench.now)
            bench.run(40.0)

"""Calls that are not asked for a code: answers follow the B leg (DESIGN 1.5, 1.7), emergency calls (1.4)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Never

import pytest

from proxy.call.config import GateConfig
from proxy.call.ports import OpenMediaLeg
from proxy.cdr.record import Direction, Disposition, RecordPhase
from proxy.policy import Snapshot, User
from proxy.sip.flow import Flow
from proxy.sip.message import Request
from tests.call.phones import PHONES
from tests.support.gate import NUMBER, GateBench, default_config, default_policy
from tests.support.ua import RING_AND_ANSWER, Step, sdp

TOLL_FREE = "918005550123"


def test_180_and_200_follow_the_b_leg() -> None:
    with GateBench(script=RING_AND_ANSWER) as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.5)
        assert call.statuses == [180]
        assert call.last.body == b""
        bench.run(1.0)
        assert call.statuses == [180, 200]
        assert bench.heard == []
        assert bench.a_leg().bridged_with is not None
        call.bye()
    assert bench.record.disposition is Disposition.ANSWERED
    assert bench.record.treatment == "allow"


def test_183_with_sdp_carries_early_media() -> None:
    with GateBench(script=(Step(0.0, 183, with_sdp=True), Step(1.0, 200, with_sdp=True))) as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.5)
        assert call.statuses == [183]
        early = call.last.body
        assert early
        assert bench.a_leg().bridged_with is not None
        bench.run(1.0)
        assert call.last.body == early
        call.bye()


def test_headers_of_the_answer_reach_the_caller() -> None:
    headers = [("Told", "yes"), ("P-Asserted-Identity", "<sip:1@x>"), ("Allow", "INVITE, PUBLISH")]
    with GateBench(script=(Step(0.0, 200, with_sdp=True, headers=headers),)) as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.5)
        assert call.last.headers.get("Told") == "yes"
        assert call.last.headers.get("P-Asserted-Identity") == "<sip:1@x>"
        assert "PUBLISH" not in str(call.last.headers.get("Allow"))
        call.bye()


def test_media_over_ipv6_when_the_offer_says_so() -> None:
    with GateBench() as bench:
        offer = bench.pbx.description.replace(b"IN IP4 192.0.2.10", b"IN IP6 2001:db8::10")
        call = bench.pbx.call(TOLL_FREE, body=offer)
        bench.run(0.5)
        opened = [command for command in bench.media.commands if isinstance(command, OpenMediaLeg)]
        assert [command.ipv6 for command in opened] == [True, False]
        assert b"c=IN IP6 2001:db8::1" in call.last.body
        call.bye()


@pytest.mark.parametrize(
    ("status", "at_caller", "disposition"),
    [
        (486, 486, Disposition.BUSY),
        (404, 404, Disposition.REJECTED),
        (603, 603, Disposition.REJECTED),
        (503, 500, Disposition.TRUNK_FAILED),
        (302, 480, Disposition.NO_ANSWER),
        (401, 500, Disposition.TRUNK_FAILED),
        (407, 500, Disposition.TRUNK_FAILED),
        (422, 500, Disposition.REJECTED),
        (488, 488, Disposition.NOT_ACCEPTABLE),
        (408, 504, Disposition.NO_ANSWER),
    ],
)
def test_final_response_reaches_the_caller_as_it_may(
    status: int, at_caller: int, disposition: Disposition
) -> None:
    with GateBench(script=(Step(0.0, 180), Step(0.5, status))) as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(1.0)
        assert call.status == at_caller
        assert str(call.last.headers.get("Reason")).startswith("Q.850;cause=")
        for name in ("WWW-Authenticate", "Proxy-Authenticate", "Retry-After", "Contact"):
            assert call.last.headers.get(name) is None
    assert bench.record.disposition is disposition
    assert bench.record.sip_code == status


def test_late_offer_is_answered_with_the_codec_of_the_b_leg() -> None:
    with GateBench(script=(Step(0.5, 200, body=sdp("192.0.2.90", codecs="8 101")),)) as bench:
        bench.pbx.ack_body = sdp(codecs="8 101")
        call = bench.pbx.call(TOLL_FREE, body=b"")
        bench.run(0.2)
        invite = bench.carrier.calls[0].invite
        assert invite is not None
        assert b"RTP/AVP 0 8 101\r\n" in invite.body
        bench.run(1.0)
        assert call.status == 200
        assert b"RTP/AVP 8 101\r\n" in call.last.body
        assert bench.a_leg().bridged_with is not None
        call.bye()
    assert bench.record.codec == "PCMA"


def test_late_offer_with_early_media_of_the_carrier_waits_for_the_answer() -> None:
    with GateBench(script=(Step(0.0, 183, with_sdp=True), Step(0.5, 200, with_sdp=True))) as bench:
        bench.pbx.ack_body = bench.pbx.description
        call = bench.pbx.call(TOLL_FREE, body=b"")
        bench.run(0.2)
        assert call.statuses == [183]
        assert call.last.body == b""
        bench.run(1.0)
        assert bench.a_leg().bridged_with is not None
        call.bye()


def test_late_offer_whose_ack_answers_nothing_ends_both_legs() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(TOLL_FREE, body=b"")
        bench.run(1.0)
        assert call.ended
        assert bench.carrier.calls[0].ended
    assert bench.record.disposition is Disposition.NOT_ACCEPTABLE


@pytest.mark.parametrize("body", [sdp(codecs="9 101"), sdp(codecs="18")])
def test_no_common_codec_is_488(body: bytes) -> None:
    with GateBench() as bench:
        call = bench.pbx.call(TOLL_FREE, body=body)
        bench.run(0.1)
        assert call.status == 488
        assert not bench.carrier.calls
    assert bench.record.disposition is Disposition.NOT_ACCEPTABLE


def test_broken_sdp_is_400() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(TOLL_FREE, body=b"v=0\r\nnonsense")
        bench.run(0.1)
        assert call.status in {400, 488}
    assert bench.record.disposition is Disposition.NOT_ACCEPTABLE


class Broken(Snapshot):
    """A policy of which nothing works."""

    def __init__(self) -> None:
        super().__init__(default_policy().plan)

    def normalise(self, text: str) -> Never:
        raise RuntimeError("broken")

    def caller_e164(self, _number: str, _user: User | None) -> Never:
        raise RuntimeError("broken")


class BrokenToo:
    """Can't look anybody up."""

    def authenticate(self, _invite: Request, _flow: Flow, _policy: Snapshot, _now: float) -> Never:
        raise RuntimeError("broken")


class TestEmergency:
    @pytest.mark.parametrize("number", ["911", "9911", "112"])
    def test_connects_at_once_and_uses_kept_ports(self, number: str) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(number)
            bench.run(0.5)
            assert call.status == 200
            opened = [command for command in bench.media.commands if isinstance(command, OpenMediaLeg)]
            assert all(command.emergency for command in opened)
            call.bye()
        assert bench.record.emergency

    def test_service_urn(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call("", uri="urn:service:sos")
            bench.run(0.5)
            invite = bench.carrier.calls[0].invite
            assert invite is not None
            assert invite.uri == "sip:911@carrier.example.com"
            call.bye()

    @pytest.mark.parametrize("setting", [4.0, 180.0])
    def test_rings_in_a_queue_whatever_the_settings_say(self, setting: float) -> None:
        queued = (Step(0.0, 182), Step(600.0, 200, with_sdp=True))
        with GateBench(config=default_config(ring_timeout=setting), script=queued) as bench:
            call = bench.pbx.call("911")
            bench.run(601.0)
            assert call.status == 200
            call.bye()

    def test_ends_when_nobody_has_answered_for_a_quarter_of_an_hour(self) -> None:
        with GateBench(script=(Step(0.0, 180),)) as bench:
            call = bench.pbx.call("911")
            bench.run(899.0)
            assert call.status == 180
            bench.run(2.0)
            assert call.status == 480

    def test_goes_whatever_is_wrong_with_the_policy(self) -> None:
        with GateBench(policy=Broken()) as bench:
            call = bench.pbx.call("911")
            other = bench.pbx.call(NUMBER)
            bench.run(0.5)
            assert (call.status, other.status) == (200, 500)
            call.bye()

    def test_a_phone_of_the_house_gets_help_although_nobody_can_prove_who_it_is(self) -> None:
        config = default_config(phones=PHONES, local_networks=(ip_network("192.0.2.0/24"),))
        config = replace(config, peers=config.peers[1:])
        with GateBench(config=config, policy=Broken(), authenticator=BrokenToo()) as bench:
            call = bench.pbx.call("911")
            replacing = bench.pbx.call("911", headers=[("Replaces", "a;to-tag=b;from-tag=c")])
            other = bench.pbx.call(NUMBER)
            bench.run(0.5)
            assert (call.status, replacing.status, other.status) == (200, 200, 403)
            call.bye()
            replacing.bye()

    def test_goes_when_draining_and_over_the_limit(self) -> None:
        with GateBench(config=default_config(max_calls=0)) as bench:
            bench.core.draining = True
            call = bench.pbx.call("911")
            bench.run(0.5)
            assert call.status == 200
            call.bye()

    def test_goes_without_a_durable_record(self) -> None:
        with GateBench() as bench:
            bench.journal.durable = False
            call = bench.pbx.call("911")
            bench.run(0.5)
            assert call.status == 200
            call.bye()
        assert bench.record.disposition is Disposition.ANSWERED

    @pytest.mark.parametrize("number", ["911", NUMBER])
    def test_does_not_wait_for_a_hung_journal(self, number: str) -> None:
        with GateBench() as bench:
            bench.journal.delay = 1e9
            call = bench.pbx.call(number)
            if number == NUMBER:
                bench.press("911#")
            bench.run(0.1)
            assert call.status == 200
            assert bench.carrier.calls[0].connected
            assert bench.a_leg().bridged_with is not None
            call.bye()
        assert [record.phase for record in bench.journal.records][-2:] == [
            RecordPhase.ANSWERED,
            RecordPhase.FINAL,
        ]

    def test_without_any_trunk_is_refused_with_500(self) -> None:
        with GateBench(config=default_config(trunks=())) as bench:
            call = bench.pbx.call("911")
            bench.run(0.1)
            assert call.status == 500
        assert bench.record.disposition is Disposition.TRUNK_FAILED


class TestDurability:
    """The answer is on the disk before the 200 passes, or the relay opens (DESIGN 1.8)."""

    def test_200_waits_for_the_journal(self) -> None:
        with GateBench() as bench:
            bench.journal.delay = 0.5
            call = bench.pbx.call(TOLL_FREE)
            bench.run(0.4)
            assert call.statuses == []
            assert bench.journal.records[0].phase is RecordPhase.ANSWERED
            bench.run(0.2)
            assert call.statuses == [200]
            call.bye()

    def test_paid_call_without_a_durable_record_gets_500(self) -> None:
        with GateBench() as bench:
            bench.journal.durable = False
            call = bench.pbx.call(TOLL_FREE)
            bench.run(0.5)
            assert call.status == 500
            assert bench.carrier.calls[0].ended
        assert bench.record.disposition is Disposition.FAILED
        assert bench.record.sip_code == 500

    def test_journal_that_never_answers_counts_as_failed_after_10_s(self) -> None:
        with GateBench() as bench:
            bench.journal.delay = 1000.0
            call = bench.pbx.call(TOLL_FREE)
            bench.run(9.9)
            assert call.statuses == []
            bench.run(0.2)
            assert call.status == 500
            bench.journal.answers.clear()

    def test_callee_hangs_up_before_the_record_is_on_the_disk(self) -> None:
        with GateBench() as bench:
            bench.journal.delay = 1.0
            call = bench.pbx.call(TOLL_FREE)
            bench.run(0.5)
            bench.carrier.calls[0].bye()
            bench.run(1.0)
            assert call.status == 480
        assert bench.record.disposition is Disposition.ANSWERED


def test_longest_duration_ends_the_call() -> None:
    config: GateConfig = default_config(max_duration=60.0)
    with GateBench(config=config) as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(59.0)
        assert not call.has_ended()
        bench.run(1.5)
        assert call.ended
        assert bench.carrier.calls[0].ended


def test_longest_duration_is_not_for_emergency_calls() -> None:
    config: GateConfig = default_config(max_duration=60.0)
    with GateBench(config=config) as bench:
        call = bench.pbx.call("911")
        bench.run(300.0)
        assert not call.has_ended()
        call.bye()


def test_internal_number_goes_back_to_the_pbx() -> None:
    with GateBench() as bench:
        bench.pbx.script = RING_AND_ANSWER
        call = bench.pbx.call("205")
        bench.run(2.0)
        received = bench.pbx.calls[1]
        assert received.connected
        assert received.invite is not None
        assert received.invite.uri == "sip:205@192.0.2.10:5060"
        call.bye()
    assert bench.record.direction is Direction.INTERNAL
    assert bench.record.disposition is Disposition.ANSWERED


def test_blocked_class_is_403_with_reason() -> None:
    with GateBench() as bench:
        call = bench.pbx.call("919005550123")
        bench.run(0.1)
        assert call.status == 403
        assert call.last.headers.get("Reason") == "Q.850;cause=21"
        assert not bench.media.opened
    assert bench.record.disposition is Disposition.BLOCKED
    assert bench.record.call_class == "premium"
    assert bench.record.reason


@pytest.mark.parametrize(("number", "status"), [("nobody", 404), ("77", 404)])
def test_what_is_no_number_is_refused(number: str, status: int) -> None:
    with GateBench() as bench:
        call = bench.pbx.call(number)
        bench.run(0.1)
        assert call.status == status
    assert bench.record.disposition is Disposition.BLOCKED

"""A call that is asked for a code, in answer mode (DESIGN 1.6): tries, type-ahead, hash, emergency,
every end."""

from __future__ import annotations

import dataclasses
import logging

import pytest

from proxy.call.ports import ListenForDigits, OpenMediaLeg, PlayPrompts
from proxy.cdr.record import Disposition, HungUpBy, RecordPhase
from proxy.dtmf.digits import DigitMeans
from proxy.policy import AccountCode, CallClass, CodeCollection, UserGroup
from proxy.policy.groups import ClassOfService
from tests.support.gate import E164, NUMBER, GateBench, default_policy
from tests.support.ua import RING_AND_ANSWER, Step, sdp

OPTIONAL = default_policy(collection=CodeCollection.OPTIONAL)


def test_right_code_connects_and_is_recorded() -> None:
    with GateBench(script=RING_AND_ANSWER) as bench:
        call = bench.pbx.call(NUMBER)
        bench.run(0.5)
        assert call.statuses == [200]
        assert bench.heard == ["enter_code"]
        bench.press("1234#")
        assert len(bench.carrier.calls) == 1
        assert bench.heard == ["enter_code", "connecting", "ringback"]
        assert bench.a_leg().bridged_with is None
        assert not bench.a_leg().listening
        bench.run(5.0)
        b_leg = bench.carrier.calls[0]
        assert b_leg.connected
        assert bench.a_leg().bridged_with is not None
        call.bye()
        bench.run(1.0)
        assert b_leg.ended
    record = bench.record
    assert record.disposition is Disposition.ANSWERED
    assert record.code is not None
    assert (record.code.form, record.code.dialled, record.code.key) == ("ACME-12/34", "1234", "1234")
    assert record.code.description == "ACME, general"
    assert record.code_means == "rfc4733"
    assert record.wrong_tries == 0
    assert record.normalised_number == E164
    assert record.dialled_number == NUMBER
    assert record.user == "204"
    assert record.group == "staff"
    assert record.peer == "pbx"
    assert record.codec == "PCMU"
    assert record.hung_up_by is HungUpBy.A_LEG
    assert record.sip_code == 200
    assert record.q850_cause == 16
    assert record.a_call_id == bench.pbx.calls[0].last.call_id
    assert record.b_call_id
    assert [(trunk.trunk, trunk.sip_code) for trunk in record.trunks] == [("carrier", 200)]
    assert record.a_media is not None
    assert record.b_media is not None
    assert record.b_media.packets_sent == 11
    assert record.talk_time == pytest.approx(4.0, abs=0.1)
    assert [r.phase for r in bench.journal.records] == [
        RecordPhase.SETUP,
        RecordPhase.ANSWERED,
        RecordPhase.FINAL,
    ]


def test_b_leg_is_offered_first_what_the_caller_was_answered_with() -> None:
    with GateBench() as bench:
        bench.pbx.description = sdp(codecs="8 0 101", extra="a=lang:en\r\n")
        call = bench.pbx.call(NUMBER)
        bench.run()
        assert b"RTP/AVP 8 101\r\n" in call.last.body
        bench.press("1234#")
        invite = bench.carrier.calls[0].invite
        assert invite is not None
        assert b"RTP/AVP 8 0 101\r\n" in invite.body
        assert b"a=lang:en" in invite.body
        assert invite.uri == f"sip:{E164}@carrier.example.com"
        assert invite.headers.get("Max-Forwards") == "69"
        call.bye()


def test_b_invite_leaves_at_once_since_its_ports_were_opened_while_the_caller_was_asked() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(NUMBER)
        bench.run(1.0)
        assert sum(isinstance(command, OpenMediaLeg) for command in bench.media.commands) == 2
        before = len(bench.media.commands)
        bench.press("1234#")
        assert not any(isinstance(command, OpenMediaLeg) for command in bench.media.commands[before:])
        call.bye()


def test_wrong_code_then_right_one() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(NUMBER)
        bench.press("9#")
        assert bench.heard == ["enter_code", "not_valid_try_again"]
        bench.press("5678#")
        bench.run(1.0)
        call.bye()
    assert bench.record.wrong_tries == 1
    assert bench.record.code is not None
    assert bench.record.code.key == "5678"


def test_wrong_code_three_times_required_is_refused() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(NUMBER)
        for _ in range(3):
            bench.press("9999#")
        assert bench.heard[-1] == "too_many_tries"
        assert not call.has_ended()
        bench.run(2.5)
        assert call.ended
        assert call.requests[-1].headers.get("Reason") == "Q.850;cause=21"
        assert not bench.carrier.calls
    record = bench.record
    assert record.disposition is Disposition.CODE_REFUSED
    assert record.wrong_tries == 3
    assert record.code is None
    assert record.sip_code == 403
    assert record.q850_cause == 21
    assert record.hung_up_by is HungUpBy.GATE


def test_wrong_code_three_times_optional_proceeds_without_a_code() -> None:
    with GateBench(policy=OPTIONAL) as bench:
        call = bench.pbx.call(NUMBER)
        bench.run()
        assert bench.heard == ["enter_code_or_pound"]
        for _ in range(3):
            bench.press("9999#")
        bench.run(1.0)
        assert bench.carrier.calls[0].connected
        call.bye()
    assert bench.record.disposition is Disposition.ANSWERED
    assert bench.record.wrong_tries == 3
    assert bench.record.code is None


def test_hash_alone_optional_proceeds_without_a_code() -> None:
    with GateBench(policy=OPTIONAL) as bench:
        call = bench.pbx.call(NUMBER)
        bench.press("#")
        bench.run(1.0)
        assert bench.carrier.calls[0].connected
        call.bye()
    assert bench.record.wrong_tries == 0
    assert bench.record.code is None
    assert bench.record.code_entered_after is not None


def test_hash_alone_required_is_a_wrong_try() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(NUMBER)
        bench.press("#")
        assert bench.heard[-1] == "not_valid_try_again"
        bench.press("1234#")
        bench.run(1.0)
        call.bye()
    assert bench.record.wrong_tries == 1


def test_no_input_counts_as_a_wrong_try() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(NUMBER)
        # three times: 2 s of prompt and 10 s of waiting for a first digit
        bench.run(35.9)
        assert bench.heard == ["enter_code", "not_valid_try_again", "not_valid_try_again"]
        bench.run(0.2)
        assert bench.heard[-1] == "too_many_tries"
        bench.run(3.0)
        assert call.ended
    assert bench.record.disposition is Disposition.CODE_REFUSED
    assert bench.record.wrong_tries == 3


def test_type_ahead_stops_the_prompt_and_counts() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(NUMBER)
        bench.press("1")
        assert bench.a_leg().playing is None
        bench.press("234#")
        bench.run(1.0)
        assert bench.carrier.calls[0].connected
        call.bye()


def test_inter_digit_time_ends_the_entry() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(NUMBER)
        bench.press("1234")
        bench.run(4.9)
        assert not bench.carrier.calls
        bench.run(0.2)
        assert bench.carrier.calls
        call.bye()


def test_fixed_length_needs_no_hash() -> None:
    group = UserGroup(
        "staff",
        collection=CodeCollection.REQUIRED,
        unlock=ClassOfService(frozenset(CallClass)),
        fixed_length=4,
        prompts="front",
    )
    with GateBench(policy=default_policy(groups=(group,))) as bench:
        call = bench.pbx.call(NUMBER)
        bench.press("1234")
        assert bench.carrier.calls
        prompts = [command for command in bench.media.commands if isinstance(command, PlayPrompts)]
        assert {prompt.group for prompt in prompts} == {"front"}
        call.bye()


def test_emergency_digits_typed_as_a_code_become_the_emergency_call() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(NUMBER)
        bench.press("911#")
        bench.run(1.0)
        invite = bench.carrier.calls[0].invite
        assert invite is not None
        assert invite.uri == "sip:911@carrier.example.com"
        call.bye()
    record = bench.record
    assert record.emergency
    assert record.call_class == "emergency"
    assert record.normalised_number == "911"
    assert record.wrong_tries == 0
    assert record.disposition is Disposition.ANSWERED


@pytest.mark.parametrize(("longest", "fixed"), [(2, None), (3, None), (20, 2), (20, 3), (20, 4)])
@pytest.mark.parametrize("typed", ["911#", "9911#", "112#", "911", "9911"])
def test_emergency_digits_are_heard_whatever_lengths_codes_have(
    longest: int, fixed: int | None, typed: str
) -> None:
    staff = dataclasses.replace(
        next(iter(default_policy().groups.values())), max_length=longest, fixed_length=fixed
    )
    with GateBench(policy=default_policy(groups=(staff,))) as bench:
        call = bench.pbx.call(NUMBER)
        bench.press(typed)
        bench.run(6.0)
        invite = bench.carrier.calls[0].invite
        assert invite is not None
        number = "112" if typed == "112#" else "911"
        assert invite.uri == f"sip:{number}@carrier.example.com"
        call.bye()
    assert bench.record.wrong_tries == 0


def test_emergency_digits_of_a_fixed_length_do_not_wait_for_more() -> None:
    staff = dataclasses.replace(next(iter(default_policy().groups.values())), fixed_length=3)
    with GateBench(policy=default_policy(groups=(staff,))) as bench:
        call = bench.pbx.call(NUMBER)
        bench.press("911")
        bench.run(0.1)
        assert bench.carrier.calls
        call.bye()


def test_sip_info_digits_go_through_the_same_collector() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(NUMBER)
        bench.run(0.1)
        for digit in "1234#":
            call.info(digit)
            bench.run(0.1)
        assert [reply.status for reply in call.replies] == [200] * 5
        bench.run(1.0)
        assert bench.carrier.calls[0].connected
        # nothing of the code reaches the B leg
        assert [request.method for request in bench.carrier.calls[0].requests] == ["ACK"]
        call.bye()
    assert bench.record.code_means == "info"


def test_digits_of_another_means_are_not_heard_within_an_entry() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(NUMBER)
        bench.run()
        bench.press("12")
        bench.press("12", means=DigitMeans.INBAND)
        bench.press("34#")
        assert bench.carrier.calls
        call.bye()


def test_caller_without_telephone_event_is_heard_in_band() -> None:
    with GateBench() as bench:
        bench.pbx.description = sdp(events=False)
        call = bench.pbx.call(NUMBER)
        bench.run()
        listening = [command for command in bench.media.commands if isinstance(command, ListenForDigits)]
        assert listening[0].inband
        bench.press("1234#", means=DigitMeans.INBAND)
        invite = bench.carrier.calls[0].invite
        assert invite is not None
        assert b"telephone-event" not in invite.body
        call.bye()


def test_end_of_the_connecting_prompt_leaves_the_call_dialling() -> None:
    with GateBench(script=(Step(5.0, 180), Step(1.0, 200, with_sdp=True))) as bench:
        call = bench.dial_with_code()
        bench.run(4.0)
        assert bench.heard == ["enter_code", "connecting"]
        assert bench.a_leg().playing is None
        bench.run(3.0)
        assert bench.carrier.calls[0].connected
        call.bye()


class TestLateOffer:
    """An INVITE without SDP: the gate offers in its 200 and asks after the ACK (DESIGN 1.6)."""

    def test_prompt_comes_after_the_ack(self) -> None:
        with GateBench() as bench:
            bench.pbx.auto_ack = False
            call = bench.pbx.call(NUMBER, body=b"")
            bench.run(0.1)
            assert call.statuses == [200]
            assert b"RTP/AVP 0 8 101\r\n" in call.last.body
            assert bench.heard == []
            assert call.dialog is not None
            bench.pbx.endpoint.ack(call.dialog, body=sdp(codecs="8 101"), now=bench.now)
            bench.run(0.1)
            assert bench.heard == ["enter_code"]
            bench.carrier.description = sdp("192.0.2.90", codecs="8 101")
            bench.press("1234#")
            invite = bench.carrier.calls[0].invite
            assert invite is not None
            assert b"RTP/AVP 8 0 101\r\n" in invite.body
            bench.run(1.0)
            call.bye()
        assert bench.record.codec == "PCMA"

    @pytest.mark.parametrize("body", [b"", b"v=0\r\n", sdp(codecs="9 101")])
    def test_ack_without_a_usable_answer_ends_the_call(self, body: bytes) -> None:
        with GateBench() as bench:
            bench.pbx.ack_body = body
            call = bench.pbx.call(NUMBER, body=b"")
            bench.run(1.0)
            assert call.ended
        assert bench.record.disposition is Disposition.NOT_ACCEPTABLE

    def test_no_ack_at_all_ends_the_call_after_64_t1(self) -> None:
        with GateBench() as bench:
            bench.pbx.auto_ack = False
            call = bench.pbx.call(NUMBER, body=b"")
            bench.run(31.9)
            assert not call.has_ended()
            bench.run(0.2)
            assert call.ended
        assert bench.record.disposition is Disposition.FAILED


class TestUsesOfACode:
    """A use is reserved when accepted and given back when B never answers (DESIGN, Policy model)."""

    def test_given_back_when_b_never_answers(self) -> None:
        with GateBench(
            policy=default_policy([AccountCode("77", max_uses=1)]), script=(Step(0.0, 486),)
        ) as bench:
            for _ in range(2):
                call = bench.pbx.call(NUMBER)
                bench.press("77#")
                bench.run(10.0)
                assert call.ended
        assert [record.wrong_tries for record in bench.journal.final] == [0, 0]

    def test_used_up_while_another_call_holds_it(self) -> None:
        with GateBench(policy=default_policy([AccountCode("77", max_uses=1)])) as bench:
            first = bench.pbx.call(NUMBER)
            bench.press("77#")
            bench.run(1.0)
            second = bench.pbx.call(NUMBER)
            bench.press("77#", call=1)
            assert bench.a_leg(1).heard[-1] == "not_valid_try_again"
            second.bye()
            first.bye()
            bench.run(1.0)
            assert bench.core.uses.reserved("77") == 1
            bench.core.policy = default_policy([AccountCode("77", max_uses=1, uses=1)])
            assert bench.core.uses.reserved("77") == 0

    def test_is_in_the_journal_before_b_is_dialled(self) -> None:
        with GateBench(
            policy=default_policy([AccountCode("77", max_uses=1)]), script=(Step(5.0, 200, with_sdp=True),)
        ) as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            (setup,) = bench.journal.records
            assert (setup.phase, setup.code) == (RecordPhase.SETUP, None)
            bench.press("77#")
            bench.run(0.5)
            taken = bench.journal.records[-1]
            assert taken.phase is RecordPhase.SETUP
            assert taken.code is not None
            assert taken.code.key == "77"
            call.bye()

    def test_of_a_call_that_ends_before_its_answer_is_on_the_disk_is_the_stores_to_count(self) -> None:
        policy = default_policy([AccountCode("77", max_uses=2)])
        with GateBench(policy=policy) as bench:
            bench.journal.delay = 5.0
            first = bench.pbx.call(NUMBER)
            bench.press("77#")
            bench.run(0.5)
            first.bye()
            bench.run(0.5)
            assert bench.journal.final[0].answered_after is not None
            bench.journal.delay = 0.0
            second = bench.pbx.call(NUMBER)
            bench.press("77#")
            bench.run(0.5)
            bench.core.policy = default_policy([AccountCode("77", max_uses=2, uses=1)])
            assert bench.core.uses.reserved("77") == 1
            second.bye()
            bench.run(10.0)


def test_code_digits_are_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "proxy.call")
    with GateBench() as bench:
        call = bench.pbx.call(NUMBER)
        bench.press("8642975#")
        bench.press("1234#")
        bench.run(1.0)
        live = bench.core.live_calls()
        assert "1234" not in repr(live)
        assert live[0].code_description == "ACME, general"
        call.bye()
    assert caplog.records
    assert all(
        hasattr(record, "call_id") for record in caplog.records if record.name.startswith("proxy.call")
    )
    assert "8642975" not in caplog.text
    assert "1234" not in caplog.text
    record = bench.record
    assert "8642975" not in repr(dataclasses.asdict(record))

"""Blind transfer: REFER, its NOTIFYs, and whom it may reach (RFC 3515, RFC 5589 §6, RFC 4488)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from proxy.call.refer_notifier import ReferNotifier
from proxy.call.state import CallState
from proxy.cdr.record import Direction, Disposition, HungUpBy
from proxy.sip.events import Event, RequestReceived
from tests.call.phones import PHONES
from tests.call.transfers import (
    BUSY,
    EMERGENCY,
    FREE,
    OUTSIDE,
    PREMIUM,
    RING,
    SLOW,
    TransferBench,
    refer,
    replies,
    told,
)
from tests.support.ua import ANSWER, Step, UaCall


def test_rfc5589_6_1_the_caller_transfers_the_callee() -> None:
    with TransferBench() as bench:
        call = bench.talk(bench.desk, "205")
        bench.third.script = SLOW
        refer(call, "206")
        bench.run(0.1)
        assert replies(call) == [202]
        assert told(call) == ["100 active"]
        bench.run(1.0)
        assert told(call) == ["100 active", "180 active"]
        assert not bench.second.calls[0].has_ended()
        assert "ringback" in bench.media.all[list(bench.media.all)[1]].heard
        bench.run(2.0)
        assert told(call) == ["100 active", "180 active", "200 terminated"]
        assert call.has_ended()
        remaining, target = bench.second.calls[0], bench.third.calls[0]
        assert target.connected
        assert not target.has_ended()
        assert not remaining.has_ended()
        legs = list(bench.media.legs.values())
        assert [leg.bridged_with for leg in legs] == [legs[1].id, legs[0].id]
        remaining.bye()
        bench.run(0.5)
        assert target.has_ended()
    first, second = bench.journal.final
    assert (first.disposition, first.hung_up_by, first.destination_user) == (
        Disposition.ANSWERED,
        HungUpBy.A_LEG,
        "205",
    )
    assert (second.first_record_id, second.continuation) == (first.record_id, "transfer")
    assert (second.direction, second.disposition) == (Direction.INTERNAL, Disposition.ANSWERED)
    assert (second.user, second.caller_number, second.destination_user) == ("204", "205", "206")


def test_rfc5589_6_1_the_callee_transfers_the_caller() -> None:
    with TransferBench() as bench:
        call = bench.talk(bench.desk, "205")
        refer(bench.second.calls[0], "206")
        bench.run(2.0)
        assert told(bench.second.calls[0])[-1] == "200 terminated"
        assert bench.second.calls[0].has_ended()
        assert bench.third.calls[0].connected
        assert not call.has_ended()
        assert bench.core.live_calls()[0].state == "talking"
        call.bye()
        bench.run(0.5)
    first, second = bench.journal.final
    assert first.hung_up_by is HungUpBy.B_LEG
    # Who has transferred answers for the new part; who calls is still the caller.
    assert (second.user, second.caller_number, second.destination_user) == ("205", "204", "206")


def test_a_call_from_the_carrier_is_transferred_to_a_colleague() -> None:
    with TransferBench() as bench:
        call = bench.inbound()
        refer(bench.desk.calls[0], "205")
        bench.run(2.0)
        assert bench.desk.calls[0].has_ended()
        assert bench.second.calls[0].connected
        invite = bench.second.calls[0].invite
        assert invite is not None
        assert "+13125550100" in (invite.headers.get("From") or "")
        call.bye()
        bench.run(0.5)
    first, second = bench.journal.final
    assert (first.direction, second.direction) == (Direction.INBOUND, Direction.INTERNAL)
    assert (second.user, second.caller_number) == ("204", "+13125550100")


def test_a_call_from_the_carrier_is_transferred_over_the_carrier() -> None:
    with TransferBench() as bench:
        call = bench.inbound()
        refer(bench.desk.calls[0], FREE)
        bench.run(2.0)
        assert bench.desk.calls[0].has_ended()
        onward = bench.carrier.calls[-1]
        assert onward.connected
        assert onward.invite is not None
        assert onward.invite.headers.get("Referred-By") == "<sip:+12125550204@carrier.example.com>"
        assert bench.core.calls_of_trunk("carrier") == 1
        call.bye()
        bench.run(0.5)
        assert onward.has_ended()


def test_rfc5589_6_1_the_transferor_hangs_up_at_once() -> None:
    with TransferBench() as bench:
        call = bench.talk(bench.desk, "205")
        bench.third.script = SLOW
        refer(call, "206")
        call.bye()
        bench.run(1.0)
        assert not bench.second.calls[0].has_ended()
        bench.run(2.0)
        assert bench.third.calls[0].connected
        bench.third.calls[0].bye()
        bench.run(0.5)
        assert bench.second.calls[0].has_ended()
    assert [record.disposition for record in bench.journal.final] == [Disposition.ANSWERED] * 2


def test_the_other_party_comes_back_when_the_target_is_busy() -> None:
    with TransferBench() as bench:
        call = bench.talk(bench.desk, "205")
        bench.third.script = BUSY
        refer(call, "206")
        bench.run(0.7)
        legs = list(bench.media.legs.values())
        assert legs[0].bridged_with is None
        bench.run(2.0)
        assert told(call) == ["100 active", "180 active", "486 terminated"]
        assert not call.has_ended()
        assert not bench.second.calls[0].has_ended()
        first, second = bench.media.legs.values()
        assert (first.bridged_with, second.bridged_with) == (second.id, first.id)
        assert (first.playing, second.playing) == (None, None)
        # It may be tried again.
        bench.third.script = SLOW
        refer(call, "206")
        bench.run(4.0)
        again = [request for request in call.requests if request.method == "NOTIFY"][-1]
        assert again.headers.get("Event") == f"refer;id={call.replies[-1].cseq.number}"
        assert call.has_ended()
        bench.second.calls[0].bye()
        bench.run(0.5)
    busy = next(record for record in bench.journal.final if record.disposition is Disposition.BUSY)
    assert (busy.continuation, busy.sip_code) == ("transfer", 486)


def test_nobody_is_left_when_the_transferor_has_gone_and_the_target_is_busy() -> None:
    with TransferBench() as bench:
        call = bench.talk(bench.desk, "205")
        bench.third.script = BUSY
        refer(call, "206")
        bench.run(0.1)
        call.bye()
        bench.run(12.0)
        assert bench.second.calls[0].has_ended()
        assert "busy" in [name for leg in bench.media.all.values() for name in leg.heard]


def test_the_other_party_hangs_up_while_the_target_rings() -> None:
    with TransferBench() as bench:
        call = bench.talk(bench.desk, "205")
        bench.third.script = RING
        refer(call, "206")
        bench.run(1.0)
        bench.second.calls[0].bye()
        bench.run(1.0)
        assert bench.third.calls[0].was_cancelled()
        assert call.has_ended()
        assert told(call)[:2] == ["100 active", "180 active"]


def test_an_administrator_ends_either_part_of_a_transfer() -> None:
    for index, ends in ((0, (True, False)), (1, (True, True))):
        with TransferBench() as bench:
            call = bench.talk(bench.desk, "205")
            bench.third.script = RING
            refer(call, "206")
            bench.run(1.0)
            assert [live.state for live in bench.core.live_calls()] == ["transferring", "ringing"]
            bench.core.hang_up(list(bench.core.calls)[index], bench.now)
            bench.run(1.0)
            assert (call.has_ended(), bench.second.calls[0].has_ended()) == ends
            if not bench.second.calls[0].has_ended():
                bench.second.calls[0].bye()
            bench.run(1.0)


@pytest.mark.parametrize(
    "target", ["206", "sip:206@elsewhere.example.net", "sips:206@gate.example.com", "tel:206"]
)
def test_rfc3515_2_1_addresses_of_the_target(target: str) -> None:
    with TransferBench() as bench:
        call = bench.talk(bench.desk, "205")
        refer(call, target)
        bench.run(2.0)
        assert bench.third.calls[0].connected
        bench.third.calls[0].bye()
        bench.run(0.5)


class TestPolicy:
    """Whom the transferor may not dial he can't refer anybody to."""

    def test_a_blocked_class_gets_603_in_the_sipfrag(self) -> None:
        with TransferBench() as bench:
            call = bench.talk(bench.desk, "205")
            refer(call, PREMIUM)
            bench.run(0.5)
            assert replies(call) == [202]
            assert told(call) == ["100 active", "603 terminated"]
            assert bench.core.live_calls()[0].state == "talking"
            assert not bench.carrier.calls
            call.bye()
            bench.run(0.5)
        refused, first = bench.journal.final
        assert (refused.disposition, refused.first_record_id) == (Disposition.BLOCKED, first.record_id)
        assert (refused.sip_code, refused.call_class, refused.user) == (603, "premium", "204")

    def test_a_required_code_that_was_not_entered_gets_603(self) -> None:
        with TransferBench() as bench:
            call = bench.talk(bench.desk, "205")
            refer(call, OUTSIDE)
            bench.run(0.5)
            assert told(call) == ["100 active", "603 terminated"]
            call.bye()
            bench.run(0.5)
        assert bench.journal.final[0].disposition is Disposition.CODE_REFUSED

    def test_the_code_on_the_call_is_used_again_where_it_unlocks_the_target(self) -> None:
        with TransferBench() as bench:
            call = bench.desk.call(OUTSIDE)
            bench.run(0.5)
            bench.press("1234#")
            bench.run(1.0)
            refer(call, "914155550199")
            bench.run(2.0)
            assert call.has_ended()
            assert len(bench.carrier.calls) == 2
            bench.carrier.calls[1].bye()
            bench.run(0.5)
        first, second = bench.journal.final
        assert first.code is not None
        assert (second.code, second.code_means) == (first.code, "reused")
        assert second.treatment == "required code"

    def test_the_code_stays_with_a_call_that_needs_none_any_more(self) -> None:
        with TransferBench() as bench:
            call = bench.desk.call(OUTSIDE)
            bench.run(0.5)
            bench.press("1234#")
            bench.run(1.0)
            refer(call, "205")
            bench.run(2.0)
            assert bench.second.calls[0].connected
            bench.second.calls[0].bye()
            bench.run(0.5)
        first, second = bench.journal.final
        assert (second.code, second.code_means) == (first.code, "carried")

    def test_an_emergency_number_is_reached(self) -> None:
        """Whoever transfers dials it this moment."""
        with TransferBench() as bench:
            call = bench.inbound()
            refer(bench.desk.calls[0], "911")
            bench.run(2.0)
            assert bench.carrier.calls[-1].connected
            assert bench.core.live_calls()[0].emergency
            call.bye()
            bench.run(0.5)

    def test_nobody_at_that_number(self) -> None:
        with TransferBench() as bench:
            call = bench.talk(bench.desk, "205")
            for target, status in (("299", 404), ("nonsense", 404), ("sip:gate.example.com", 404)):
                refer(call, target)
                bench.run(0.5)
                assert told(call)[-1] == f"{status} terminated", target
            call.bye()
            bench.run(0.5)

    def test_a_user_without_a_phone(self) -> None:
        with TransferBench() as bench:
            call = bench.talk(bench.desk, "205")
            bench.registrations.retain({"204", "205"})
            refer(call, "206")
            bench.run(0.5)
            assert told(call)[-1] == "480 terminated"
            call.bye()
            bench.run(0.5)

    def test_without_a_disk_for_the_record_nobody_is_called(self) -> None:
        with TransferBench() as bench:
            call = bench.talk(bench.desk, "205")
            bench.core.recording = False
            refer(call, "206")
            bench.run(0.5)
            assert told(call)[-1] == "500 terminated"
            call.bye()
            bench.run(0.5)

    @pytest.mark.parametrize("number", ["205", EMERGENCY])
    def test_the_other_party_comes_back_when_the_answer_can_not_be_recorded(self, number: str) -> None:
        with TransferBench() as bench:
            call = bench.talk(bench.desk, number)
            bench.journal.durable = False
            refer(call, "206")
            bench.run(3.0)
            assert told(call)[-1] == "500 terminated"
            assert bench.third.calls[0].has_ended()
            assert not call.has_ended()
            one, other = bench.media.legs.values()
            assert (one.bridged_with, other.bridged_with) == (other.id, one.id)
            call.bye()
            bench.run(0.5)

    def test_a_call_is_sent_on_so_often_and_no_more(self) -> None:
        with TransferBench() as bench:
            call = bench.inbound()
            transferor = bench.desk.calls[-1]
            for _ in range(5):
                refer(transferor, "205")
                bench.run(2.0)
                transferor = bench.second.calls[-1]
            refer(transferor, "205")
            bench.run(2.0)
            assert told(transferor)[-1] == "482 terminated"
            assert len(bench.second.calls) == 5
            call.bye()
            bench.run(0.5)


class TestRefusals:
    """REFERs that the gate does not act upon."""

    @pytest.mark.parametrize(
        ("refer_to", "status"),
        [
            ([], 400),
            (["<sip:205@gate>", "<sip:206@gate>"], 400),
            (["<sip:206@gate>, <sip:205@gate>"], 400),
            (["<sip:206@gate"], 400),
            (["<sip:@>"], 400),
            (["<sip:206@gate?Replaces=1>"], 400),
            (["<sip:206@gate?Replaces=a%3Bto-tag%3D1>"], 400),
            (["<sip:206@gate?Replaces=a%3Bto-tag%3D1%3Bfrom-tag%3D2&Replaces=b>"], 400),
            (["<sip:206@gate?Replaces=%0D%0A%3Bto-tag%3D1%3Bfrom-tag%3D2>"], 400),
            (["<mailto:206@gate>"], 416),
            (["<http://gate/206>"], 416),
            (["<sip:206@gate;method=BYE>"], 603),
            (["<sip:206@gate;method=SUBSCRIBE>"], 603),
            (["<sip:206@gate;method>"], 603),
        ],
    )
    def test_rfc3515_2_4_2_refer_to_must_make_sense(self, refer_to: list[str], status: int) -> None:
        with TransferBench() as bench:
            call = bench.talk(bench.desk, "205")
            call.request("REFER", headers=[("Refer-To", value) for value in refer_to])
            bench.run(0.5)
            assert replies(call) == [status]
            assert told(call) == []
            call.bye()
            bench.run(0.5)
        assert len(bench.journal.final) == 1

    def test_one_transfer_at_a_time(self) -> None:
        with TransferBench() as bench:
            call = bench.talk(bench.desk, "205")
            bench.third.script = SLOW
            refer(call, "206")
            refer(call, "206")
            bench.run(0.1)
            refer(bench.second.calls[0], "206")
            bench.run(0.1)
            assert replies(call) == [202, 491]
            assert replies(bench.second.calls[0]) == [491]
            bench.run(3.0)
            assert len(bench.third.calls) == 1
            bench.third.calls[0].bye()
            bench.run(0.5)

    def test_before_the_callee_has_answered(self) -> None:
        with TransferBench() as bench:
            bench.second.script = RING
            call = bench.desk.call("205")
            bench.run(0.5)
            refer(call, "206")
            bench.run(0.5)
            assert replies(call) == [491]
            call.cancel()
            bench.run(0.5)

    def test_in_a_dialog_that_is_over(self) -> None:
        with TransferBench() as bench:
            bench.network.delay = (0.1, 0.1)
            call = bench.talk(bench.desk, "205")
            bench.second.calls[0].bye()
            bench.run(0.15)
            refer(call, "206")
            bench.run(1.0)
            assert replies(call) == [481]
            bench.network.delay = (0.0, 0.0)
            bench.run(1.0)

    def test_outside_any_dialog(self) -> None:
        with TransferBench() as bench:
            bench.desk.send("REFER", "sip:205@gate.example.com", headers=(("Refer-To", "<sip:206@gate>"),))
            bench.run(0.5)
            assert bench.desk.other_responses[-1].status == 403

    @pytest.mark.parametrize("outbound", [True, False])
    def test_a_trunk_may_not(self, outbound: bool) -> None:
        with TransferBench() as bench:
            call = bench.talk(bench.desk, FREE) if outbound else bench.inbound()
            refer(bench.carrier.calls[-1], "206")
            bench.run(0.5)
            assert replies(bench.carrier.calls[-1]) == [403]
            assert not bench.third.calls
            call.bye()
            bench.run(0.5)

    @pytest.mark.parametrize("target", [OUTSIDE, FREE, "206"])
    def test_who_has_proved_nothing_may_not(self, target: str) -> None:
        """An emergency call is let in without a proof; it must not become any other call."""
        with TransferBench() as bench:
            peer = replace(PHONES, default_group="staff")
            networks = (ip_network("192.0.2.0/24"),)
            bench.core.reconfigure(replace(bench.core.config, phones=peer, local_networks=networks))
            call = bench.talk(bench.phone("192.0.2.77"), EMERGENCY, user="nobody")
            refer(call, target)
            bench.run(1.0)
            assert replies(call) == [403]
            assert len(bench.carrier.calls) == 1
            assert not call.has_ended()
            call.bye()
            bench.run(0.5)


def refuse_notify(call: UaCall, event: RequestReceived) -> bool:
    if event.request.method != "NOTIFY":
        return False
    call.ua.endpoint.respond(event.transaction, 481, now=call.ua.now())
    return True


class TestNotify:
    """What the transferor is told (RFC 3515 §2.4.4, §2.4.5)."""

    def test_rfc3515_2_4_5_the_form_of_a_notify(self) -> None:
        with TransferBench() as bench:
            call = bench.talk(bench.desk, "205")
            refer(call, "206")
            bench.run(2.0)
            notifies = [request for request in call.requests if request.method == "NOTIFY"]
            assert [request.headers.get("Event") for request in notifies] == ["refer"] * len(notifies)
            assert {request.content_type for request in notifies} == {"message/sipfrag"}
            assert all(request.contact is not None for request in notifies)
            assert notifies[0].headers.get("Subscription-State") == "active;expires=180"
            assert notifies[-1].headers.get("Subscription-State") == "terminated;reason=noresource"
            assert notifies[-1].body == b"SIP/2.0 200 OK\r\n"
            assert call.replies[0].headers.get("Contact") is not None
            bench.third.calls[0].bye()
            bench.run(0.5)

    def test_rfc4488_4_refer_sub_false_is_told_nothing(self) -> None:
        with TransferBench() as bench:
            call = bench.talk(bench.desk, "205")
            refer(call, "206", headers=(("Refer-Sub", "false"), ("Require", "norefersub")))
            bench.run(2.0)
            assert call.replies[0].headers.get("Refer-Sub") == "false"
            assert told(call) == []
            assert call.has_ended()
            bench.third.calls[0].bye()
            bench.run(0.5)

    def test_rfc6665_4_2_2_a_refused_notify_ends_the_telling_not_the_transfer(self) -> None:
        with TransferBench() as bench:
            call = bench.talk(bench.desk, "205")
            bench.desk.within = refuse_notify
            bench.third.script = SLOW
            refer(call, "206")
            bench.run(3.0)
            assert len(told(call)) == 1
            assert bench.third.calls[0].connected
            assert call.has_ended()
            bench.third.calls[0].bye()
            bench.run(0.5)

    def test_a_transferor_that_has_vanished_is_released(self) -> None:
        with TransferBench() as bench:
            call = bench.talk(bench.desk, "205")
            refer(call, "206")
            bench.desk.within = lambda _, event: event.request.method == "NOTIFY"
            bench.vanished.add(bench.desk)
            bench.run(31.0)
            assert not call.has_ended()
            bench.run(3.0)
            assert call.has_ended()
            assert bench.third.calls[0].connected
            assert [live.state for live in bench.core.live_calls()] == ["talking"]
            bench.third.calls[0].bye()
            bench.run(40.0)

    def test_an_error_in_the_telling_costs_one_call(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with TransferBench() as bench:
            other = bench.inbound()
            call = bench.talk(bench.second, "206", user="205")

            def broken(*_: object) -> None:
                raise RuntimeError("broken")

            monkeypatch.setattr(ReferNotifier, "responded", broken)
            refer(call, PREMIUM)
            failed: list[Event] = []
            handle = bench.core.handle_sip

            def guarded(event: Event, now: float) -> None:
                try:
                    handle(event, now)
                except RuntimeError:
                    failed.append(event)
                    bench.core.abandon(event, now)

            monkeypatch.setattr(bench.core, "handle_sip", guarded)
            bench.run(0.5)
            assert len(failed) == 1
            assert call.has_ended()
            assert bench.third.calls[0].has_ended()
            assert not other.has_ended()
            other.bye()
            bench.run(0.5)

    def test_news_that_had_to_wait_comes_together(self) -> None:
        with TransferBench() as bench:
            call = bench.talk(bench.desk, "205")
            bench.network.delay = (0.4, 0.4)
            bench.third.script = (Step(0.0, 180), Step(0.1, 182), Step(0.1, 200, with_sdp=True))
            refer(call, "206")
            bench.run(5.0)
            assert told(call) == ["100 active", "180 active", "200 terminated"]
            bench.network.delay = (0.0, 0.0)
            bench.third.calls[0].bye()
            bench.run(1.0)


def test_a_transferred_call_is_transferred_again() -> None:
    with TransferBench() as bench:
        call = bench.inbound()
        refer(bench.desk.calls[0], "205")
        bench.run(2.0)
        refer(bench.second.calls[0], "206")
        bench.run(2.0)
        assert bench.third.calls[0].connected
        assert bench.second.calls[0].has_ended()
        call.bye()
        bench.run(0.5)
    first, second, third = bench.journal.final
    assert second.first_record_id == third.first_record_id == first.record_id


def test_the_longest_call_counts_while_it_is_transferred() -> None:
    with TransferBench() as bench:
        object.__setattr__(bench.core.config, "max_duration", 10.0)
        call = bench.talk(bench.desk, "205")
        bench.third.script = RING
        refer(call, "206")
        bench.run(12.0)
        assert call.has_ended()
        assert not bench.second.calls[0].has_ended()
        assert CallState.RINGING.value in [live.state for live in bench.core.live_calls()]
        bench.second.calls[0].bye()
        bench.run(1.0)


def test_an_unwanted_telling_and_the_other_party_leaves() -> None:
    with TransferBench() as bench:
        call = bench.talk(bench.desk, "205")
        bench.third.script = RING
        refer(call, "206", headers=(("Refer-Sub", "false"),))
        bench.run(1.0)
        bench.second.calls[0].bye()
        bench.run(1.0)
        assert call.has_ended()
        assert bench.third.calls[0].was_cancelled()


def test_a_refer_that_crosses_the_end_of_the_call() -> None:
    with TransferBench() as bench:
        bench.desk.auto_ack = False
        bench.second.script = ANSWER
        call = bench.desk.call("205")
        bench.run(0.5)
        bench.second.calls[0].bye()
        bench.run(0.5)
        refer(call, "206")
        bench.run(0.5)
        assert replies(call) == [481]
        bench.run(60.0)


class TestTrunks:
    """A trunk that is allowed to transfer reaches what the other party could dial."""

    @pytest.mark.parametrize(("target", "word"), [("206", "200"), (PREMIUM, "603"), (OUTSIDE, "603")])
    def test_the_other_party_answers_for_it(self, target: str, word: str) -> None:
        with TransferBench() as bench:
            allowed = tuple(replace(trunk, allow_refer=True) for trunk in bench.core.config.trunks)
            peers = tuple(replace(peer, allow_refer=True) for peer in bench.core.config.peers)
            bench.core.reconfigure(replace(bench.core.config, trunks=allowed, peers=peers))
            for outbound in (True, False):
                call = bench.talk(bench.desk, FREE) if outbound else bench.inbound()
                transferor = bench.carrier.calls[-1]
                refer(transferor, target)
                bench.run(2.0)
                assert told(transferor)[-1] == f"{word} terminated"
                remaining = call if outbound else bench.desk.calls[-1]
                remaining.bye()
                bench.run(0.5)
        assert {record.user for record in bench.journal.final if record.continuation} == {"204"}

    def test_between_two_trunks_nobody_answers_for_it(self) -> None:
        with TransferBench() as bench:
            allowed = tuple(replace(trunk, allow_refer=True) for trunk in bench.core.config.trunks)
            peers = tuple(replace(peer, allow_refer=True) for peer in bench.core.config.peers)
            bench.core.reconfigure(replace(bench.core.config, trunks=allowed, peers=peers))
            call = bench.inbound()
            refer(bench.desk.calls[0], FREE)
            bench.run(2.0)
            refer(bench.carrier.calls[-1], "206")
            bench.run(0.5)
            assert replies(bench.carrier.calls[-1])[-1] == 403
            call.bye()
            bench.run(0.5)

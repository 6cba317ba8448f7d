"""Blind transfer: who goes where, and the REFERs that are not acted upon (RFC 3515, RFC 5589 §6)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from proxy.call.state import CallState
from proxy.cdr.record import Direction, Disposition, HungUpBy
from tests.call.phones import PHONES
from tests.call.transfers import (
    BUSY,
    EMERGENCY,
    FREE,
    OUTSIDE,
    RING,
    SLOW,
    TransferBench,
    desk_talks,
    refer,
    replies,
    told,
)
from tests.support.ua import ANSWER


def test_rfc5589_6_1_the_caller_transfers_the_callee() -> None:
    with desk_talks(SLOW) as (bench, call):
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
    with desk_talks() as (bench, call):
        refer(bench.second.calls[0], "206")
        bench.run(2.0)
        assert told(bench.second.calls[0])[-1] == "200 terminated"
        assert bench.second.calls[0].has_ended()
        assert bench.third.calls[0].connected
        assert not call.has_ended()
        assert bench.core.live_calls()[0].state == "talking"
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
        assert bench.core.load.calls_of("carrier") == 2, "it came in over the same trunk"
        call.bye()
        bench.run(0.5)
        assert onward.has_ended()


def test_rfc5589_6_1_the_transferor_hangs_up_at_once() -> None:
    with desk_talks(SLOW) as (bench, call):
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
    with desk_talks(BUSY) as (bench, call):
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
    busy = next(record for record in bench.journal.final if record.disposition is Disposition.BUSY)
    assert (busy.continuation, busy.sip_code) == ("transfer", 486)


def test_nobody_is_left_when_the_transferor_has_gone_and_the_target_is_busy() -> None:
    with desk_talks(BUSY) as (bench, call):
        refer(call, "206")
        bench.run(0.1)
        call.bye()
        bench.run(12.0)
        assert bench.second.calls[0].has_ended()
        assert "busy" in [name for leg in bench.media.all.values() for name in leg.heard]


def test_the_other_party_hangs_up_while_the_target_rings() -> None:
    with desk_talks(RING) as (bench, call):
        refer(call, "206")
        bench.run(1.0)
        bench.second.calls[0].bye()
        bench.run(1.0)
        assert bench.third.calls[0].was_cancelled()
        assert call.has_ended()
        assert told(call)[:2] == ["100 active", "180 active"]


def test_an_administrator_ends_either_part_of_a_transfer() -> None:
    for index, ends in ((0, (True, False)), (1, (True, True))):
        with desk_talks(RING) as (bench, call):
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
    with desk_talks() as (bench, call):
        refer(call, target)
        bench.run(2.0)
        assert bench.third.calls[0].connected


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
        with desk_talks() as (bench, call):
            call.request("REFER", headers=[("Refer-To", value) for value in refer_to])
            bench.run(0.5)
            assert replies(call) == [status]
            assert told(call) == []
        assert len(bench.journal.final) == 1

    def test_one_transfer_at_a_time(self) -> None:
        with desk_talks(SLOW) as (bench, call):
            refer(call, "206")
            refer(call, "206")
            bench.run(0.1)
            refer(bench.second.calls[0], "206")
            bench.run(0.1)
            assert replies(call) == [202, 491]
            assert replies(bench.second.calls[0]) == [491]
            bench.run(3.0)
            assert len(bench.third.calls) == 1

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


@pytest.mark.parametrize("transferor_stays", [True, False])
def test_the_longest_call_counts_while_it_is_transferred(transferor_stays: bool) -> None:
    with TransferBench() as bench:
        object.__setattr__(bench.core.config, "max_duration", 10.0)
        call = bench.talk(bench.desk, "205")
        bench.third.script = RING
        refer(call, "206")
        bench.run(1.0)
        assert CallState.RINGING.value in [live.state for live in bench.core.live_calls()]
        if not transferor_stays:
            call.bye()
        bench.run(7.0)
        assert not bench.second.calls[0].has_ended()
        # Who is left alone hears why before it is released.
        bench.run(2.0 + 20.0)
        assert call.has_ended()
        assert bench.second.calls[0].has_ended()
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

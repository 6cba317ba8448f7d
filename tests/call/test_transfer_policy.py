"""Whom a transfer may reach, under whose policy, and what is recorded of it (DESIGN, Policy model)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.cdr.record import Direction, Disposition
from tests.call.transfers import (
    BUSY,
    EMERGENCY,
    FREE,
    OUTSIDE,
    PREMIUM,
    TransferBench,
    desk_talks,
    outcome,
    refer,
    replies,
    told,
)


class TestPolicy:
    """Whom the transferor may not dial he can't refer anybody to."""

    def test_a_blocked_class_gets_603_in_the_sipfrag(self) -> None:
        with desk_talks() as (bench, call):
            refer(call, PREMIUM)
            bench.run(0.5)
            assert replies(call) == [202]
            assert told(call) == ["100 active", "603 terminated"]
            assert bench.core.live_calls()[0].state == "talking"
            assert not bench.carrier.calls
        refused, first = bench.journal.final
        assert (refused.disposition, refused.first_record_id) == (Disposition.BLOCKED, first.record_id)
        assert (refused.sip_code, refused.call_class, refused.user) == (603, "premium", "204")

    def test_a_required_code_that_was_not_entered_gets_603(self) -> None:
        with desk_talks() as (bench, call):
            refer(call, OUTSIDE)
            bench.run(0.5)
            assert told(call) == ["100 active", "603 terminated"]
        assert bench.journal.final[0].disposition is Disposition.CODE_REFUSED

    def test_the_code_on_the_call_is_used_again_where_it_unlocks_the_target(self) -> None:
        with TransferBench() as bench:
            call = bench.talk_with_code()
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
            call = bench.talk_with_code()
            refer(call, "205")
            bench.run(2.0)
            assert bench.second.calls[0].connected
            bench.second.calls[0].bye()
            bench.run(0.5)
        first, second = bench.journal.final
        assert (second.code, second.code_means) == (first.code, "carried")

    @pytest.mark.parametrize("target", ["911", "urn:service:sos"])
    def test_an_emergency_number_is_reached(self, target: str) -> None:
        """Whoever transfers dials it this moment."""
        with TransferBench() as bench:
            call = bench.inbound()
            refer(bench.desk.calls[0], target)
            bench.run(2.0)
            assert bench.carrier.calls[-1].connected
            assert bench.core.live_calls()[0].emergency
            call.bye()
            bench.run(0.5)

    def test_nobody_at_that_number(self) -> None:
        with desk_talks() as (bench, call):
            for target, status in (
                ("299", 404),
                ("nonsense", 404),
                ("urn:service:counseling", 404),
                ("sip:gate.example.com", 404),
            ):
                assert outcome(bench, call, target) == f"{status} terminated", target

    def test_a_user_without_a_phone(self) -> None:
        with desk_talks() as (bench, call):
            bench.registrations.retain({"204", "205"})
            assert outcome(bench, call, "206") == "480 terminated"

    def test_without_a_disk_for_the_record_nobody_is_called(self) -> None:
        with desk_talks() as (bench, call):
            bench.core.recording = False
            assert outcome(bench, call, "206") == "500 terminated"

    def test_the_other_party_comes_back_when_the_answer_can_not_be_recorded(self) -> None:
        with desk_talks() as (bench, call):
            bench.journal.durable = False
            assert outcome(bench, call, "206", 3.0) == "500 terminated"
            assert bench.third.calls[0].has_ended()
            assert not call.has_ended()
            one, other = bench.media.legs.values()
            assert (one.bridged_with, other.bridged_with) == (other.id, one.id)

    def test_a_call_is_sent_on_so_often_and_no_more(self) -> None:
        with TransferBench() as bench:
            call = bench.inbound()
            transferor = bench.desk.calls[-1]
            for _ in range(5):
                refer(transferor, "205")
                bench.run(2.0)
                transferor = bench.second.calls[-1]
            assert outcome(bench, transferor, "205", 2.0) == "482 terminated"
            assert len(bench.second.calls) == 5
            call.bye()
            bench.run(0.5)


class TestOutside:
    """A call that has gone out is paid for, whoever on this side goes on with it."""

    @pytest.mark.parametrize("gone", [False, True])
    def test_its_class_and_its_code_stay_on_the_record(self, gone: bool) -> None:
        with TransferBench() as bench:
            call = bench.talk_with_code()
            refer(call, "205")
            if gone:
                call.bye()
            bench.run(2.0)
            assert bench.second.calls[0].connected
            refer(bench.second.calls[0], "206")
            bench.run(2.0)
            assert bench.third.calls[0].connected
            bench.third.calls[0].bye()
            bench.run(0.5)
            assert bench.carrier.calls[0].has_ended()
        first, *later = bench.journal.final
        assert [record.caller_number for record in later] == ["205", "206"]
        for record in later:
            assert (record.direction, record.call_class) == (Direction.OUTBOUND, "national")
            assert (record.user, record.group, record.dialled_number) == ("204", "staff", OUTSIDE)
            assert (record.code, record.code_means) == (first.code, "carried")
            assert (record.disposition, record.destination_user) == (
                Disposition.ANSWERED,
                record.caller_number,
            )

    def test_a_colleague_who_does_not_answer_was_called_inside(self) -> None:
        with TransferBench() as bench:
            call = bench.talk(bench.desk, FREE)
            bench.second.script = BUSY
            assert outcome(bench, call, "205", 3.0) == "486 terminated"
            call.bye()
            bench.run(0.5)
        busy, first = bench.journal.final
        assert (busy.direction, busy.call_class, busy.destination_user) == (
            Direction.INTERNAL,
            "internal",
            "205",
        )
        assert (first.direction, first.disposition) == (Direction.OUTBOUND, Disposition.ANSWERED)

    def test_another_number_outside_is_recorded_as_itself(self) -> None:
        with TransferBench() as bench:
            call = bench.talk(bench.desk, FREE)
            refer(call, "918005550199")
            bench.run(2.0)
            bench.carrier.calls[1].bye()
            bench.run(0.5)
        assert bench.journal.final[1].dialled_number == "918005550199"

    def test_an_emergency_call_stays_one(self) -> None:
        """A disk that fails when the colleague answers does not end it."""
        with TransferBench() as bench:
            call = bench.talk(bench.desk, EMERGENCY)
            bench.journal.durable = False
            assert outcome(bench, call, "205", 3.0) == "200 terminated"
            assert bench.second.calls[0].connected
            assert not bench.carrier.calls[0].has_ended()
            assert [live.emergency for live in bench.core.live_calls()] == [True]
            bench.second.calls[0].bye()
            bench.run(0.5)
        assert bench.journal.final[1].emergency


def let_trunks_refer(bench: TransferBench) -> None:
    trunks = tuple(replace(trunk, allow_refer=True) for trunk in bench.core.config.trunks)
    peers = tuple(replace(peer, allow_refer=True) for peer in bench.core.config.peers)
    bench.core.reconfigure(replace(bench.core.config, trunks=trunks, peers=peers))


class TestTrunks:
    """A trunk that is allowed to transfer reaches what the other party could dial."""

    @pytest.mark.parametrize(("target", "word"), [("206", "200"), (PREMIUM, "603"), (OUTSIDE, "603")])
    def test_the_other_party_answers_for_it(self, target: str, word: str) -> None:
        with TransferBench() as bench:
            let_trunks_refer(bench)
            for outbound in (True, False):
                call = bench.talk(bench.desk, FREE) if outbound else bench.inbound()
                transferor = bench.carrier.calls[-1]
                assert outcome(bench, transferor, target, 2.0) == f"{word} terminated"
                remaining = call if outbound else bench.desk.calls[-1]
                remaining.bye()
                bench.run(0.5)
        assert {record.user for record in bench.journal.final if record.continuation} == {"204"}

    def test_between_two_trunks_nobody_answers_for_it(self) -> None:
        with TransferBench() as bench:
            let_trunks_refer(bench)
            call = bench.inbound()
            refer(bench.desk.calls[0], FREE)
            bench.run(2.0)
            refer(bench.carrier.calls[-1], "206")
            bench.run(0.5)
            assert replies(bench.carrier.calls[-1])[-1] == 403
            call.bye()
            bench.run(0.5)

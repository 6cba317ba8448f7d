"""Limits against pumping: what a stolen phone, code or PBX can cost is bounded, and somebody is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from proxy.call.ports import CallEvent, PlayPrompts
from proxy.cdr.record import Disposition
from proxy.policy import (
    AccountCode,
    CallClass,
    CallLimits,
    ClassOfService,
    CodeCollection,
    Snapshot,
    UserGroup,
)
from tests.call import phones
from tests.call.test_replaces import replacing
from tests.call.transfers import SLOW, TransferBench, refer
from tests.support.gate import NUMBER, GateBench, default_config, default_policy
from tests.support.ua import RING_AND_ANSWER, UaCall

LONDON = "9011442079460000"
PARIS = "901133142685300"
JAMAICA = "918765550123"
TOLL_FREE = "918005550123"
OTHER = "+13125550188"
"""A caller behind the PBX that is no user."""


def policy(
    limits: CallLimits, *, collection: CodeCollection = CodeCollection.OFF, base: Snapshot | None = None
) -> Snapshot:
    """Everything is free, or asked for a code, within these limits."""
    plain = base or default_policy([AccountCode("1234"), AccountCode("77??")])
    asks = collection is not CodeCollection.OFF
    free = frozenset({CallClass.INTERNAL, CallClass.TOLL_FREE}) if asks else frozenset(CallClass)
    group = UserGroup("staff", permissions=ClassOfService(free), collection=collection, limits=limits)
    return Snapshot(plain.plan, [group], plain.users.values(), plain.codes)


def dial(bench: GateBench, number: str = NUMBER, *, caller: str = "204") -> UaCall:
    call = bench.pbx.call(number, caller=caller)
    bench.run(1.0)
    return call


def over(bench: GateBench, *calls: UaCall) -> None:
    for call in calls:
        call.bye()
    bench.run(1.0)


class TestAtOnce:
    def test_one_caller_has_so_many_calls(self) -> None:
        with GateBench(policy=policy(CallLimits(caller_calls=2))) as bench:
            bench.core.telling = True
            first, second = dial(bench), dial(bench)
            third = dial(bench)
            assert (first.status, second.status, third.status) == (200, 200, 403)
            record = bench.journal.final[-1]
            assert record.disposition is Disposition.BLOCKED
            assert record.reason == "the group allows 2 calls of one caller at once"
            other = dial(bench, caller=OTHER)
            assert other.status == 200
            over(bench, first)
            again = dial(bench)
            assert again.status == 200
            over(bench, second, other, again)
            events = [one.event for one in bench.gate.told]
            assert events.count(CallEvent.LIMIT_REACHED) == 1

    def test_one_alarm_in_a_quarter_of_an_hour_however_many_calls_are_refused(self) -> None:
        with GateBench(policy=policy(CallLimits(caller_calls=1))) as bench:
            bench.core.telling = True
            up = dial(bench)
            for _ in range(20):
                assert dial(bench).status == 403
            bench.run(900.0)
            assert dial(bench).status == 403
            over(bench, up)
            events = [one.event for one in bench.gate.told]
            assert events.count(CallEvent.LIMIT_REACHED) == 2
            reached = [(one.caller, one.limit) for one in bench.core.limits.reached]
            assert reached == [("user 204", "the group allows 1 calls of one caller at once")] * 2
            first, second = [one.at for one in bench.core.limits.reached]
            assert second - first >= 900.0

    def test_a_call_that_nobody_answers_has_its_place_until_it_is_over(self) -> None:
        with GateBench(policy=policy(CallLimits(caller_calls=1)), script=()) as bench:
            ringing = dial(bench)
            assert dial(bench).status == 403
            ringing.cancel()
            bench.run(1.0)
            bench.carrier.script = RING_AND_ANSWER
            call = dial(bench)
            bench.run(5.0)
            assert call.status == 200
            over(bench, call)

    def test_a_group_has_so_many_calls_to_one_foreign_country(self) -> None:
        with GateBench(policy=policy(CallLimits(country_calls=1))) as bench:
            london = dial(bench, LONDON)
            assert dial(bench, LONDON, caller=OTHER).status == 403
            assert bench.journal.final[-1].reason == "the group allows 1 calls to GB at once"
            paris, jamaica = dial(bench, PARIS, caller=OTHER), dial(bench, JAMAICA)
            assert (paris.status, jamaica.status) == (200, 200)
            home = [dial(bench), dial(bench)]
            assert [call.status for call in home] == [200, 200]
            over(bench, london, paris, jamaica, *home)

    def test_one_code_is_on_so_many_calls(self) -> None:
        limits = CallLimits(code_calls=1)
        with GateBench(policy=policy(limits, collection=CodeCollection.REQUIRED)) as bench:
            first = bench.dial_with_code()
            bench.run(1.0)
            assert bench.carrier.calls[-1].connected
            second = bench.pbx.call(NUMBER, caller=OTHER)
            bench.run(0.5)
            bench.press("1234#", call=1)
            assert bench.a_leg(1).heard[-1] == "not_valid_try_again"
            bench.press("7701#", call=1)
            bench.run(1.0)
            third = bench.pbx.call(NUMBER, caller=OTHER)
            bench.run(0.5)
            bench.press("7702#", call=2)  # another of the same ? code
            bench.run(1.0)
            assert len([call for call in bench.carrier.calls if call.connected]) == 3
            assert not bench.core.desk.guard.wrong("peer pbx +13125550188", bench.now, 0.0)
            over(bench, first, second, third)

    def test_nobody_is_locked_for_a_code_that_is_in_use(self) -> None:
        limits = CallLimits(code_calls=1)
        with GateBench(policy=policy(limits, collection=CodeCollection.REQUIRED)) as bench:
            first = bench.dial_with_code()
            bench.run(1.0)
            for _ in range(3):
                call = bench.pbx.call(NUMBER)
                bench.run(0.5)
                bench.press("1234#1234#1234#", call=1)
                bench.run(3.0)
                assert call.ended
            assert not bench.gate.locks
            over(bench, first)

    def test_a_short_number_is_in_no_foreign_country(self) -> None:
        with GateBench(policy=policy(CallLimits(country_calls=1))) as bench:
            calls = [dial(bench, "9411"), dial(bench, "9411")]
            assert [call.status for call in calls] == [200, 200]
            over(bench, *calls)

    @pytest.mark.parametrize("number", ["911", "205", TOLL_FREE])
    def test_what_is_free_is_not_counted(self, number: str) -> None:
        limits = CallLimits(caller_calls=1, hourly_calls=1, country_calls=1)
        with GateBench(policy=policy(limits)) as bench:
            paid = dial(bench)
            calls = [dial(bench, number) for _ in range(3)]
            assert all(call.status != 403 for call in calls)
            over(bench, paid, *(call for call in calls if call.status == 200))


class TestAnHour:
    def test_one_caller_has_so_many_calls(self) -> None:
        with GateBench(policy=policy(CallLimits(hourly_calls=3))) as bench:
            for _ in range(3):
                over(bench, dial(bench))
            assert dial(bench).status == 403
            assert bench.journal.final[-1].reason == "the group allows 3 calls of one caller an hour"
            other = dial(bench, caller=OTHER)
            over(bench, other)
            bench.run(3600.0)
            call = dial(bench)
            assert call.status == 200
            over(bench, call)

    def test_a_bound_nobody_can_count_to_is_a_smaller_one(self) -> None:
        with GateBench(policy=policy(CallLimits(hourly_calls=1_000_000))) as bench:
            over(bench, dial(bench))


class TestOneTalk:
    def played(self, bench: GateBench) -> list[tuple[str, ...]]:
        return [one.prompts for one in bench.media.commands if isinstance(one, PlayPrompts)]

    def test_its_caller_is_warned_a_minute_before_the_end(self) -> None:
        with GateBench(policy=policy(CallLimits(talk_seconds=300))) as bench:
            call = dial(bench)
            bench.run(238.5)
            assert not self.played(bench)
            bench.run(1.5)
            assert self.played(bench) == [("time_warning_tone",)]
            assert not call.has_ended()
            bench.run(58.0)
            assert not call.has_ended()
            bench.run(3.0)
            assert call.has_ended()
            assert bench.journal.final[-1].talk_time == pytest.approx(300.0, abs=0.1)

    def test_the_shorter_of_the_gates_and_the_groups_counts(self) -> None:
        config = default_config(max_duration=40.0)
        with GateBench(policy=policy(CallLimits(talk_seconds=3000)), config=config) as bench:
            call = dial(bench)
            bench.run(20.5)
            assert self.played(bench) == [("time_warning_tone",)]
            bench.run(20.0)
            assert call.ended

    def test_help_has_no_end(self) -> None:
        config = default_config(max_duration=40.0)
        with GateBench(policy=policy(CallLimits(talk_seconds=30)), config=config) as bench:
            call = dial(bench, "911")
            bench.run(100.0)
            assert not call.ended
            over(bench, call)

    def test_nobody_is_warned_while_a_transfer_is_under_way_without_ports(self) -> None:
        with TransferBench(policy=phone_policy(CallLimits(talk_seconds=120))) as bench:
            call = bench.talk(bench.desk, NUMBER)
            bench.second.script = SLOW[:1]
            bench.run(57.5)
            refer(call, "205")
            bench.run(5.0)
            call.bye()
            bench.run(300.0)


def phone_policy(limits: CallLimits) -> Snapshot:
    return policy(limits, base=phones.phone_policy())


@contextmanager
def paid_talk(seconds: int = 120, *, max_duration: float = 0.0) -> Iterator[tuple[TransferBench, UaCall]]:
    """Let the desk talk outside for 1.5 s, within one bound or the other."""
    with TransferBench(policy=phone_policy(CallLimits(talk_seconds=seconds))) as bench:
        bench.core.reconfigure(replace(bench.core.config, max_duration=max_duration))
        yield bench, bench.talk(bench.desk, NUMBER)
        bench.hang_up()


BOUNDS = pytest.mark.parametrize(
    ("seconds", "max_duration"), [(120, 0.0), (0, 120.0)], ids=["of the group", "of the gate"]
)


class TestTalkThatGoesOn:
    """Its longest counts from when it began, whoever takes part in it since."""

    def ends_in_time(self, bench: TransferBench) -> None:
        """From half a minute on, a talk of two minutes."""
        carrier = bench.carrier.calls[0]
        bench.run(85.0)
        assert not carrier.has_ended()
        bench.run(5.0)
        assert carrier.has_ended()
        bench.run(1.0)
        assert not bench.core.calls

    @BOUNDS
    def test_rfc5589_6_who_is_outside_is_transferred_to_a_colleague(
        self, seconds: int, max_duration: float
    ) -> None:
        with paid_talk(seconds, max_duration=max_duration) as (bench, call):
            bench.run(27.0)
            refer(call, "205")
            bench.run(2.0)
            assert call.has_ended()
            assert bench.second.calls[0].connected
            self.ends_in_time(bench)

    @BOUNDS
    def test_rfc5589_7_a_colleague_who_was_called_takes_the_talk_over(
        self, seconds: int, max_duration: float
    ) -> None:
        with paid_talk(seconds, max_duration=max_duration) as (bench, call):
            bench.run(26.0)
            consultation = bench.talk(bench.desk, "205")
            refer(call, "205", replaces=consultation.dialog)
            bench.run(1.5)
            assert call.has_ended()
            assert consultation.has_ended()
            self.ends_in_time(bench)

    @BOUNDS
    def test_rfc5589_7_a_colleague_who_still_rings_takes_the_talk_over(
        self, seconds: int, max_duration: float
    ) -> None:
        with paid_talk(seconds, max_duration=max_duration) as (bench, call):
            bench.second.script = SLOW
            bench.run(26.0)
            consultation = bench.desk.call("205", caller="204")
            bench.run(1.0)
            refer(call, "205", replaces=consultation.dialog)
            bench.run(2.0)
            assert call.has_ended()
            self.ends_in_time(bench)

    @BOUNDS
    def test_rfc3891_3_phones_of_one_user_take_the_talk_from_each_other(
        self, seconds: int, max_duration: float
    ) -> None:
        with paid_talk(seconds, max_duration=max_duration) as (bench, call):
            talks = [call]
            for number in range(2):
                bench.run(13.5)
                phone = bench.phone(f"192.0.2.{40 + number}")
                talks.append(phone.call("1", caller="204", headers=replacing(talks[-1])))
                bench.run(1.0)
                assert (talks[-1].status, talks[-2].has_ended()) == (200, True)
            self.ends_in_time(bench)

    def test_the_colleague_is_warned_and_not_who_was_called(self) -> None:
        with paid_talk() as (bench, call):
            bench.run(27.0)
            refer(call, "205")
            bench.run(50.0)
            (talk,) = bench.core.calls.values()
            assert talk.b is not None
            assert talk.b.media is not None
            tones = [one for one in bench.media.commands if isinstance(one, PlayPrompts)]
            assert [one.leg for one in tones if one.prompts == ("time_warning_tone",)] == [talk.b.media.id]
            assert talk.b.party.proved == "205"

    def test_who_comes_in_late_is_warned_as_well(self) -> None:
        with paid_talk() as (bench, call):
            bench.run(98.5)
            phone = bench.phone("192.0.2.40")
            phone.call("1", caller="204", headers=replacing(call))
            bench.run(8.0)
            before = sum(isinstance(one, PlayPrompts) for one in bench.media.commands)
            bench.run(4.0)
            assert sum(isinstance(one, PlayPrompts) for one in bench.media.commands) == before + 1
            bench.run(10.0)
            assert phone.calls[0].has_ended()

    @BOUNDS
    def test_help_that_is_called_in_stays(self, seconds: int, max_duration: float) -> None:
        with paid_talk(seconds, max_duration=max_duration) as (bench, call):
            refer(call, "911")
            bench.run(300.0)
            assert call.has_ended()
            assert not any(one.has_ended() for one in bench.carrier.calls)

    def test_the_bound_of_a_group_ends_with_what_it_paid_for(self) -> None:
        """RFC 5589 §6: the carrier transfers its caller, and is out of it."""
        with paid_talk() as (bench, call):
            trunks = tuple(replace(trunk, allow_refer=True) for trunk in bench.core.config.trunks)
            peers = tuple(replace(peer, allow_refer=True) for peer in bench.core.config.peers)
            bench.core.reconfigure(replace(bench.core.config, trunks=trunks, peers=peers))
            call.bye()
            bench.run(1.0)
            transferred = bench.talk(bench.desk, NUMBER)
            refer(bench.carrier.calls[1], "205")
            bench.run(3.0)
            assert bench.carrier.calls[1].has_ended()
            bench.run(300.0)
            assert not transferred.has_ended()


class TestCallsThatAreSentOn:
    """Nobody gets rid of a place by sending a call on."""

    def test_a_transferred_call_keeps_its_places(self) -> None:
        with TransferBench(policy=phone_policy(CallLimits(caller_calls=3))) as bench:
            call = bench.talk(bench.desk, NUMBER)
            refer(call, LONDON)
            bench.run(3.0)
            assert call.ended
            live = [one for one in bench.core.calls.values() if one.state.value != "ended"]
            assert len(live) == 1
            # Two lines are out: the first place, and the one of who was called then.
            second = bench.talk(bench.desk, NUMBER)
            assert bench.desk.call(NUMBER, caller="204")
            bench.run(1.0)
            assert bench.desk.calls[-1].status == 403
            second.bye()
            bench.carrier.calls[0].bye()
            bench.run(3.0)

    def test_a_transfer_beyond_the_bound_is_refused_and_the_parties_are_together_again(self) -> None:
        with TransferBench(policy=phone_policy(CallLimits(caller_calls=1))) as bench:
            call = bench.talk(bench.desk, NUMBER)
            refer(call, LONDON)
            bench.run(3.0)
            assert not call.ended
            refused = bench.journal.final[-1]
            assert (refused.disposition, refused.sip_code) == (Disposition.BLOCKED, 403)
            over(bench, call)

    def test_a_transfer_for_which_a_code_is_missing_has_no_place(self) -> None:
        limits = CallLimits(caller_calls=5)
        plain = phone_policy(limits)
        group = replace(
            plain.groups["staff"],
            permissions=ClassOfService(frozenset({CallClass.INTERNAL, CallClass.NATIONAL})),
            collection=CodeCollection.REQUIRED,
        )
        asked = Snapshot(plain.plan, [group], plain.users.values(), plain.codes)
        with TransferBench(policy=asked) as bench:
            call = bench.talk(bench.desk, NUMBER)
            refer(call, LONDON)
            bench.run(3.0)
            assert bench.journal.final[-1].disposition is Disposition.CODE_REFUSED
            over(bench, call)

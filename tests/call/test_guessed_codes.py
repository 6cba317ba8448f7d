"""Who guesses account codes: a caller is locked, many callers are slowed down, and help is always reached."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.call.code_guard import CodeGuard, GuessingRules
from proxy.call.config import CodeMode
from proxy.call.ports import CallEvent
from proxy.cdr.record import Disposition
from proxy.policy import AccountCode, CallerLock, CodeCollection, Snapshot, UserGroup
from tests.support.gate import NUMBER, START, GateBench, default_config, default_policy
from tests.support.ua import UaCall

OPTIONAL = default_policy(collection=CodeCollection.OPTIONAL)
WRONG = "9999#"


def guess(bench: GateBench, times: int, *, caller: str = "204") -> UaCall:
    """Call and enter so many wrong codes, as long as the gate asks; then hang up."""
    call = bench.pbx.call(NUMBER, caller=caller)
    bench.run(0.5)
    for _ in range(times):
        if call.status == 200 and not call.has_ended() and bench.core.calls and bench.a_leg().listening:
            bench.press(WRONG)
    if not call.ended:
        bench.run(0.5)
        call.bye()
    bench.run(3.0)
    return call


def lock(bench: GateBench) -> None:
    """Let user 204 guess until it is locked."""
    guess(bench, 3)
    guess(bench, 2)
    assert [one.caller for one in bench.gate.locks] == ["user 204"]


class TestOneCaller:
    def test_the_fifth_wrong_code_in_a_quarter_of_an_hour_locks_it(self) -> None:
        with GateBench() as bench:
            bench.core.telling = True
            guess(bench, 3)
            assert not bench.gate.locks
            guess(bench, 2)
            (kept,) = bench.gate.locks
            assert kept == CallerLock("user 204", kept.since, kept.since + 3600.0, 5)
            assert 0.0 < kept.since - START.timestamp() < 30.0
            told = [one.event for one in bench.gate.told]
            assert told.count(CallEvent.CALLER_LOCKED) == 1
            assert told.count(CallEvent.CODE_REJECTED) == 5

    def test_has_no_try_left_in_the_call_in_which_it_is_locked(self) -> None:
        with GateBench() as bench:
            guess(bench, 3)
            call = bench.pbx.call(NUMBER)
            bench.press(WRONG + WRONG)
            assert not bench.a_leg().listening
            bench.run(3.0)
            assert call.ended
            assert bench.journal.final[-1].disposition is Disposition.CODE_REFUSED
            assert bench.journal.final[-1].wrong_tries == 2

    def test_is_refused_where_a_code_is_required(self) -> None:
        with GateBench() as bench:
            lock(bench)
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            assert call.statuses == [403]
            record = bench.journal.final[-1]
            assert (record.disposition, record.decision) == (Disposition.CODE_REFUSED, "block")
            assert record.reason == "the caller is locked after too many wrong codes"
            assert record.wrong_tries == 0

    def test_goes_unprompted_and_without_a_code_where_one_is_optional(self) -> None:
        with GateBench(policy=OPTIONAL) as bench:
            lock(bench)
            heard = len(bench.media.all)
            call = bench.pbx.call(NUMBER)
            bench.run(1.0)
            assert call.status == 200
            assert all(not leg.heard for leg in list(bench.media.all.values())[heard:])
            call.bye()
            bench.run(1.0)
            record = bench.journal.final[-1]
            assert (record.disposition, record.code) == (Disposition.ANSWERED, None)
            assert record.treatment == "optional code"
            assert "not asked" in record.reason

    @pytest.mark.parametrize("number", ["911", "9911", "918005550123", "205"])
    def test_reaches_help_and_whom_it_may_call_without_a_code(self, number: str) -> None:
        with GateBench() as bench:
            lock(bench)
            call = bench.pbx.call(number)
            bench.run(1.0)
            assert call.status != 403
            if call.status == 200:
                call.bye()

    def test_reaches_help_by_digits_at_a_prompt_that_it_hears_already(self) -> None:
        with GateBench() as bench:
            bench.pbx.call(NUMBER)
            bench.run(0.5)
            bench.core.policy = bench.core.policy.with_changes(
                version=1, locks=[CallerLock("user 204", 0.0, None, 5)]
            )
            bench.press("1234#")  # right, but nobody looks at it
            assert bench.a_leg().heard == ["enter_code", "too_many_tries"]
            bench.run(3.0)
            bench.core.policy = bench.core.policy.with_changes(version=2, locks=[])
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            bench.core.policy = bench.core.policy.with_changes(
                version=3, locks=[CallerLock("user 204", 0.0, None, 5)]
            )
            bench.press("911#")
            bench.run(1.0)
            assert bench.carrier.calls[-1].connected
            call.bye()
            bench.run(1.0)
            assert bench.journal.final[-1].emergency

    def test_has_no_more_guesses_in_calls_side_by_side(self) -> None:
        with GateBench() as bench:
            calls = [bench.pbx.call(NUMBER) for _ in range(4)]
            bench.run(0.5)
            for turn in range(4):
                bench.press("9999#", call=turn)
            assert not bench.gate.locks
            bench.press("8888#", call=0)
            assert len(bench.gate.locks) == 1
            bench.press("1234#", call=1)  # right, and too late
            assert not bench.carrier.calls
            for call in calls:
                if not call.ended:
                    call.bye()
            bench.run(30.0)

    def test_may_try_again_when_the_lock_is_over(self) -> None:
        with GateBench() as bench:
            lock(bench)
            bench.run(3600.0)
            call = bench.dial_with_code()
            bench.run(1.0)
            assert bench.carrier.calls[-1].connected
            call.bye()

    def test_may_try_again_when_it_is_unlocked_and_has_all_its_tries(self) -> None:
        with GateBench() as bench:
            lock(bench)
            kept = bench.gate.locks
            bench.core.policy = bench.core.policy.with_changes(version=1, locks=kept)
            call = bench.pbx.call(NUMBER)
            bench.run(0.1)
            assert call.statuses == [403]
            bench.core.policy = bench.core.policy.with_changes(version=2, locks=[])
            guess(bench, 3)
            assert len(bench.gate.locks) == 1
            guess(bench, 2)
            assert len(bench.gate.locks) == 2

    def test_stays_locked_in_a_policy_that_does_not_know_of_it_yet(self) -> None:
        with GateBench() as bench:
            lock(bench)
            bench.core.policy = bench.core.policy.with_changes(version=1, codes=bench.core.policy.codes)
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            assert call.statuses == [403]

    def test_stays_locked_over_a_restart_with_the_policy_that_holds_the_lock(self) -> None:
        until = START.timestamp() + 60.0
        locks = [CallerLock("user 204", START.timestamp(), until, 5)]
        with GateBench(policy=default_policy().with_changes(version=1, locks=locks)) as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            assert call.statuses == [403]
            bench.run(60.0)
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            assert call.statuses == [200]
            call.bye()

    def test_is_the_user_or_what_its_peer_calls_it(self) -> None:
        with GateBench() as bench:
            guess(bench, 3, caller="+13125550188")
            guess(bench, 3, caller="+13125550188")
            guess(bench, 3)
            assert [one.caller for one in bench.gate.locks] == ["peer pbx +13125550188"]
            call = bench.dial_with_code()
            bench.run(1.0)
            assert bench.carrier.calls[-1].connected
            call.bye()

    def test_silence_pound_and_a_number_too_long_are_no_guesses(self) -> None:
        with GateBench() as bench:
            for _ in range(3):
                call = bench.pbx.call(NUMBER)
                bench.run(0.5)
                bench.press("#" + "1" * 30 + "#")
                bench.run(60.0)
                assert call.ended
            assert not bench.gate.locks
            assert {record.wrong_tries for record in bench.journal.final} == {3}

    def test_a_right_code_before_does_not_take_wrong_ones_back(self) -> None:
        with GateBench() as bench:
            guess(bench, 2)
            for _ in range(2):
                call = bench.dial_with_code()
                bench.run(1.0)
                call.bye()
                bench.run(1.0)
            guess(bench, 3)
            assert len(bench.gate.locks) == 1


class TestNobodyInParticular:
    """Five wrong codes of one may not shut out all who call under the same number."""

    MAIN = "+14155550100"
    RULES = GuessingRules(many_wrong_codes=12, many_callers=4, shared_numbers=frozenset({MAIN, "100"}))

    @pytest.mark.parametrize("caller", [MAIN, "14155550100", "100", "anonymous", "Anonymous"])
    def test_who_shares_a_number_is_not_locked_but_slowed(self, caller: str) -> None:
        with GateBench(config=default_config(guessing=self.RULES)) as bench:
            bench.core.telling = True
            for _ in range(3):
                guess(bench, 3, caller=caller)
            assert not bench.core.desk.guard.attacked(bench.now)
            guess(bench, 3, caller=caller)
            assert not bench.gate.locks
            assert bench.core.desk.guard.attacked(bench.now)
            assert [one.event for one in bench.gate.told].count(CallEvent.CODES_GUESSED) == 1
            call = bench.pbx.call(NUMBER, caller=caller)
            bench.run(0.5)
            bench.press("1234#")
            bench.run(4.0)
            assert bench.carrier.calls[-1].connected
            call.bye()

    @pytest.mark.parametrize("caller", [MAIN, "anonymous", "Anonymous"])
    @pytest.mark.parametrize("policy", [default_policy(), OPTIONAL])
    def test_many_wrong_codes_lock_all_who_share_it_and_nobody_else(
        self, caller: str, policy: Snapshot
    ) -> None:
        rules = replace(self.RULES, many_wrong_codes=0, nameless_wrong_codes=5)
        required = policy is not OPTIONAL
        with GateBench(config=default_config(guessing=rules), policy=policy) as bench:
            bench.core.telling = True
            guess(bench, 3, caller=caller)
            assert not bench.gate.locks
            guess(bench, 3, caller="anonymous")
            (kept,) = bench.gate.locks
            assert (kept.caller, kept.wrong) == ("nameless callers of peer pbx", 5)
            assert kept.until == kept.since + rules.wider_window
            assert [one.event for one in bench.gate.told].count(CallEvent.CALLER_LOCKED) == 1
            call = bench.pbx.call(NUMBER, caller=caller)
            bench.run(1.0)
            assert call.status == (403 if required else 200)
            help_ = bench.pbx.call("911", caller=caller)
            bench.run(1.0)
            assert help_.status == 200
            for one in (call, help_):
                if one.status == 200:
                    one.bye()
            bench.run(3.0)
            other = bench.pbx.call(NUMBER, caller="204")
            bench.run(0.5)
            assert bench.a_leg().heard
            other.bye()
            bench.run(3.0)

    def test_a_peer_whose_callers_have_a_new_name_each_time_is_locked_as_a_whole(self) -> None:
        rules = GuessingRules(many_wrong_codes=0, peer_wrong_codes=6, lock=0.0)
        with GateBench(config=default_config(guessing=rules)) as bench:
            for number in range(2):
                assert not bench.gate.locks
                guess(bench, 3, caller=f"+1312555018{number}")
            (kept,) = bench.gate.locks
            assert (kept.caller, kept.until) == ("all callers of peer pbx", None)
            for caller in ("+13125550199", "204", "anonymous"):
                call = bench.pbx.call(NUMBER, caller=caller)
                bench.run(0.5)
                assert call.statuses == [403]
            call = bench.pbx.call("911", caller="+13125550199")
            bench.run(1.0)
            assert call.status == 200
            call.bye()
            bench.core.policy = bench.core.policy.with_changes(version=1, locks=[kept])
            bench.core.policy = bench.core.policy.with_changes(version=2, locks=[])
            guess(bench, 3)
            assert bench.journal.final[-1].wrong_tries == 3

    def test_both_bounds_can_be_switched_off(self) -> None:
        guard = CodeGuard(GuessingRules(nameless_wrong_codes=0, peer_wrong_codes=0))
        assert not any(guard.wrong("", 0.0, 0.0, peer="pbx") for _ in range(1_000))

    def test_a_user_is_itself_whatever_number_it_has(self) -> None:
        shared = replace(self.RULES, shared_numbers=frozenset({"204"}))
        with GateBench(config=default_config(guessing=shared)) as bench:
            lock(bench)

    def test_a_lock_of_before_holds_nobody_who_shares_the_number_now(self) -> None:
        locks = [CallerLock(f"peer pbx {self.MAIN}", START.timestamp(), None, 5)]
        policy = default_policy().with_changes(version=1, locks=locks)
        for rules, status in ((GuessingRules(), 403), (self.RULES, 200)):
            with GateBench(config=default_config(guessing=rules), policy=policy) as bench:
                call = bench.pbx.call(NUMBER, caller=self.MAIN)
                bench.run(0.5)
                assert call.statuses == [status]
                if status == 200:
                    call.bye()


class TestOneCodeInADay:
    def test_one_caller_finds_a_6_digit_code_with_less_than_0_1_percent_a_day(self) -> None:
        """However cleverly it stays below the lock or waits for its end: so many entries are looked at."""
        rules = GuessingRules()
        for pause in (0.0, rules.window / (rules.wrong_codes - 1) + 0.001, rules.window, rules.lock):
            guard, now, looked_at = CodeGuard(rules), 0.0, 0
            while now < 86_400.0:
                if not guard.is_locked("user 204", {}, now):
                    looked_at += 1
                    guard.wrong("user 204", now, now)
                now += pause or 1.0
            assert looked_at / 10**6 < 0.001, pause

    def test_the_same_on_the_virtual_clock_with_real_calls(self) -> None:
        config = default_config(guessing=GuessingRules(lock=900.0))
        six = AccountCode("123456", "", "the only one")
        with GateBench(config=config, policy=default_policy([six])) as bench:
            hour, entered = bench.now + 3600.0, 0
            while bench.now < hour:
                call = bench.pbx.call(NUMBER)
                bench.run(0.2)
                while call.status == 200 and bench.core.calls and bench.a_leg().listening:
                    bench.press(f"{entered + 200_000:06d}#", every=0.1)
                    entered += 1
                bench.run(3.0 if call.status == 200 else 30.0)
            assert 0 < entered * 24 / 10**6 < 0.001
            assert not bench.carrier.calls

    @pytest.mark.parametrize("pause", [0.0, 5400.0 / 49 + 0.001, 5400.0])
    def test_nor_do_all_the_nameless_callers_of_one_peer_together(self, pause: float) -> None:
        guard, now, looked_at = CodeGuard(GuessingRules()), 0.0, 0
        while now < 86_400.0:
            if not guard.is_locked("", {}, now, peer="pbx"):
                looked_at += 1
                guard.wrong("", now, now, peer="pbx")
            now += pause or 1.0
        assert 0 < looked_at / 10**6 < 0.001

    def test_a_peer_whose_callers_choose_their_names_finds_it_with_less_than_0_6_percent_a_day(self) -> None:
        guard, now, looked_at = CodeGuard(GuessingRules()), 0.0, 0
        while now < 86_400.0:
            name = f"peer pbx {looked_at}"
            if not guard.is_locked(name, {}, now, peer="pbx"):
                looked_at += 1
                guard.wrong(name, now, now, peer="pbx")
            now += 1.0
        assert 0 < looked_at / 10**6 < 0.006


class TestManyCallers:
    RULES = GuessingRules(wrong_codes=5, many_wrong_codes=12, many_callers=4, slow_prompt=3.0)

    def attacked(self, *, callers: int = 4, **policy: object) -> GateBench:
        bench = GateBench(config=default_config(guessing=self.RULES), **policy)  # type: ignore[arg-type]
        bench.core.telling = True
        for number in range(callers):
            guess(bench, 3, caller=f"+1312555018{number}")
        return bench

    def test_raise_one_alarm(self) -> None:
        with self.attacked(callers=6) as bench:
            events = [one.event for one in bench.gate.told]
            assert events.count(CallEvent.CODES_GUESSED) == 1
            assert not bench.gate.locks
            assert bench.core.desk.guard.attacked(bench.now)
            assert not bench.core.desk.guard.attacked(bench.now + 900.0)

    def test_one_caller_alone_is_no_attack(self) -> None:
        rules = replace(self.RULES, wrong_codes=0)
        with GateBench(config=default_config(guessing=rules)) as bench:
            for _ in range(6):
                guess(bench, 3)
            assert not bench.core.desk.guard.attacked(bench.now)
            assert not bench.gate.locks

    def test_every_entry_is_answered_later_the_right_one_too(self) -> None:
        with self.attacked() as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            bench.press(WRONG)
            leg = bench.a_leg()
            assert leg.heard == ["enter_code"]
            bench.press("123")  # nothing is heard meanwhile
            bench.run(2.3)
            assert leg.heard == ["enter_code"]
            bench.run(0.2)
            assert leg.heard == ["enter_code", "not_valid_try_again"]
            before = len(bench.carrier.calls)
            bench.press("1234#")
            bench.run(2.9)
            assert len(bench.carrier.calls) == before
            bench.run(1.0)
            assert bench.carrier.calls[-1].connected
            call.bye()
            bench.run(1.0)
            assert bench.journal.final[-1].wrong_tries == 1

    def test_help_is_reached_at_once(self) -> None:
        with self.attacked() as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            bench.press("911#")
            bench.run(0.1)
            assert bench.carrier.calls[-1].invite is not None
            call.bye()
            bench.run(1.0)
            assert bench.journal.final[-1].emergency

    def test_who_does_without_an_optional_code_does_not_wait(self) -> None:
        with self.attacked(policy=OPTIONAL) as bench:
            before = len(bench.carrier.calls)
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            bench.press("#")
            assert len(bench.carrier.calls) == before + 1
            bench.run(1.0)
            call.bye()

    def test_who_hangs_up_meanwhile_leaves_nothing(self) -> None:
        with self.attacked() as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            bench.press("1234#")
            call.bye()
            bench.run(10.0)

    @pytest.mark.parametrize(
        ("entry", "refused"), [("1234#", False), ("9999#", True), ("911#", False), ("", True)]
    )
    def test_early_mode_counts_what_waits_for_its_answer_when_the_time_is_over(
        self, entry: str, refused: bool
    ) -> None:
        config = default_config(code_mode=CodeMode.EARLY, guessing=self.RULES, early_gate_bound=30.0)
        with GateBench(config=config) as bench:
            for number in range(12):
                bench.core.desk.guard.wrong(f"peer pbx {number}", bench.now, 0.0)
            call = bench.pbx.call(NUMBER)
            bench.run(27.5 - 0.2 * len(entry))
            bench.press(entry)
            bench.run(3.0)
            assert (call.status == 403) is refused
            if not refused:
                call.bye() if call.status == 200 else call.cancel()
            bench.run(1.0)


class TestGuard:
    def test_other_rules_count_anew_and_the_same_do_not(self) -> None:
        guard = CodeGuard(GuessingRules(wrong_codes=2))
        guard.wrong("a", 0.0, 0.0)
        guard.reconfigure(GuessingRules(wrong_codes=2))
        assert guard.wrong("a", 0.0, 0.0)
        guard.wrong("b", 0.0, 0.0)
        guard.reconfigure(GuessingRules(wrong_codes=3))
        assert not guard.wrong("b", 0.0, 0.0)
        assert guard.is_locked("a", {}, 0.0)

    def test_a_lock_may_last_until_somebody_lifts_it(self) -> None:
        guard = CodeGuard(GuessingRules(wrong_codes=1, lock=0.0))
        (lock,) = guard.wrong("a", 0.0, 5.0)
        assert lock == CallerLock("a", 5.0, None, 1)
        assert guard.is_locked("a", {}, 1e12)
        guard.counted({})
        assert guard.is_locked("a", {}, 1e12)
        guard.counted({"a": CallerLock("a", 4.0, None, 1)})  # an older one is another one
        assert guard.is_locked("a", {}, 1e12)
        guard.counted({"a": lock})
        assert not guard.is_locked("a", {}, 1e12)

    def test_memory_is_bounded_while_the_store_takes_nothing(self) -> None:
        guard = CodeGuard(GuessingRules(wrong_codes=1))
        for number in range(10_100):
            guard.wrong(str(number), 0.0, 0.0)
        assert not guard.is_locked("99", {}, 0.0)
        assert guard.is_locked("100", {}, 0.0)
        assert guard.is_locked("10099", {}, 0.0)

    def test_nobody_is_slowed_where_that_is_off(self) -> None:
        guard = CodeGuard(GuessingRules(many_wrong_codes=0))
        for number in range(1_000):
            guard.wrong(str(number), 0.0, 0.0)
        assert guard.delay(0.0) == 0.0
        assert not guard.alarm(0.0)


@pytest.mark.parametrize(("keys", "found"), [("012345670", False), ("00001234", True)])
def test_an_entry_is_cut_at_its_length_and_no_window_slides_over_the_keys(keys: str, found: bool) -> None:
    """Else a sequence that holds every code once would try a whole run of codes at the price of one."""
    plain = default_policy()
    staff = plain.groups["staff"]
    group = replace(staff, fixed_length=4)
    with GateBench(policy=default_policy(groups=[group])) as bench:
        call = bench.pbx.call(NUMBER)
        bench.run(0.5)
        bench.press(keys)
        bench.run(1.0)
        assert bool(bench.carrier.calls) is found
        if not call.has_ended():
            call.bye()
        bench.run(3.0)


def test_the_group_may_give_fewer_tries_than_lock() -> None:
    plain = default_policy()
    staff = plain.groups["staff"]
    group = UserGroup("staff", permissions=staff.permissions, collection=staff.collection, tries=1)
    policy = default_policy(groups=[group])
    with GateBench(policy=policy) as bench:
        guess(bench, 3)
        assert bench.journal.final[-1].wrong_tries == 1

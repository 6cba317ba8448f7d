"""Keys in talk: each one once, in the form that the other side understands (RFC 4733, RFC 6086)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from proxy.call.config import CodeMode, DigitForm, GateConfig
from proxy.call.ports import BridgeMedia, DigitHeard, LegId, ListenForDigits
from proxy.dtmf.digits import DigitMeans
from proxy.policy import CodeCollection
from proxy.sip.events import RequestReceived
from tests.call.forking import ONE, ForkingCarrier, with_account
from tests.call.test_reliable import refuse
from tests.call.transfers import SLOW, TransferBench, refer
from tests.support.gate import NUMBER, GateBench, default_config, default_policy
from tests.support.ua import ANSWER, Step, UaCall, sdp

TOLL_FREE = "918005550123"
NO_EVENTS = sdp("192.0.2.90", events=False)
INFO_CARRIER = (Step(0.0, 200, body=NO_EVENTS, headers=[("Allow", "INVITE, ACK, BYE, CANCEL, INFO")]),)
TONE_CARRIER = (Step(0.0, 200, body=NO_EVENTS, headers=[("Allow", "INVITE, ACK, BYE, CANCEL")]),)


def talking(bench: GateBench, body: bytes | None = None) -> UaCall:
    call = bench.pbx.call(TOLL_FREE, body=body)
    bench.run(1.0)
    assert call.status == 200
    return call


def told(call: UaCall) -> list[bytes]:
    """Bodies of the INFOs that a UA got."""
    return [request.body for request in call.requests if request.method == "INFO"]


def key(bench: GateBench, leg: int, digit: str, duration_ms: int = 120) -> None:
    """A key as the engine reports it of a leg that is listened to."""
    if bench.media.legs[LegId(leg)].listening:
        bench.answer(DigitHeard(LegId(leg), digit, DigitMeans.RFC4733, duration_ms))


def with_digits(form: DigitForm, *, caller: bool) -> GateConfig:
    config = default_config()
    if caller:
        return replace(config, peers=(replace(config.peers[0], digits=form), *config.peers[1:]))
    return replace(config, trunks=(replace(config.trunks[0], digits=form),))


class TestToInfo:
    def test_a_callee_that_knows_info_and_no_events_is_told_so(self) -> None:
        with GateBench(script=INFO_CARRIER) as bench:
            call = talking(bench)
            for digit in "5#A":
                key(bench, 1, digit)
            bench.run(0.5)
            callee = bench.carrier.calls[0]
            assert told(callee) == [
                b"Signal=5\r\nDuration=120\r\n",
                b"Signal=#\r\nDuration=120\r\n",
                b"Signal=A\r\nDuration=120\r\n",
            ]
            assert [
                request.headers.get("Content-Type") for request in callee.requests if request.method == "INFO"
            ] == ["application/dtmf-relay"] * 3
            assert bench.media.all[LegId(2)].digits_sent == ""
            call.bye()

    def test_a_caller_that_dialled_its_code_by_info_is_told_so(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(NUMBER, body=sdp(events=False), headers=[("Allow", "INVITE, ACK, BYE")])
            bench.run(0.1)
            for digit in "1234#":
                call.info(digit)
                bench.run(0.2)
            bench.run(1.0)
            key(bench, 2, "7")
            assert told(call) == [b"Signal=7\r\nDuration=120\r\n"]
            call.bye()

    def test_info_to_info(self) -> None:
        with GateBench(script=INFO_CARRIER) as bench:
            call = talking(bench, sdp(events=False))
            call.info("3")
            bench.run(0.5)
            assert told(bench.carrier.calls[0]) == [b"Signal=3\r\nDuration=160\r\n"]
            call.bye()

    def test_a_phone_that_tells_its_keys_twice_is_heard_once(self) -> None:
        with GateBench(script=INFO_CARRIER) as bench:
            call = talking(bench)
            call.info("3")
            key(bench, 1, "3")
            call.info("4")
            key(bench, 1, "4")
            bench.run(0.5)
            assert told(bench.carrier.calls[0]) == [
                b"Signal=3\r\nDuration=120\r\n",
                b"Signal=4\r\nDuration=120\r\n",
            ]
            call.bye()

    def test_one_at_a_time_so_that_they_stay_in_order(self) -> None:
        with GateBench(script=INFO_CARRIER, delay=(0.01, 0.3), seed=4) as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(5.0)
            for digit in "0123456789":
                key(bench, 1, digit)
            bench.run(20.0)
            signals = b"".join(body.split(b"\r\n")[0][-1:] for body in told(bench.carrier.calls[0]))
            assert signals == b"0123456789"
            call.bye()

    def test_more_than_anybody_types_ahead_is_not_kept(self) -> None:
        with GateBench(script=INFO_CARRIER) as bench:
            bench.carrier.within = lambda _, event: event.request.method == "INFO"
            bench.vanished.add(bench.carrier)
            call = talking(bench)
            for _ in range(100):
                key(bench, 1, "5")
            # Nobody answers: what waited is stale when that is known.
            bench.run(33.0)
            assert len({bytes(body) for body in told(bench.carrier.calls[0])}) == 1
            bench.carrier.within = None
            key(bench, 1, "6")
            bench.run(0.5)
            assert told(bench.carrier.calls[0])[-1].startswith(b"Signal=6")
            call.bye()

    @pytest.mark.parametrize("status", [405, 415, 469, 500])
    def test_a_callee_that_refuses_it_gets_tones_from_then_on(self, status: int) -> None:
        with GateBench(script=INFO_CARRIER, delay=(0.05, 0.05)) as bench:
            bench.carrier.within = partial(refuse, status, "INFO")
            call = talking(bench)
            key(bench, 1, "5")
            key(bench, 1, "6")
            bench.run(0.5)
            assert bench.media.all[LegId(2)].digits_sent == "56"
            # The engine makes tones of the events that it relays: nobody needs to listen.
            assert not bench.media.all[LegId(1)].listening
            call.info("7")  # not counted: its keys come as events
            bench.run(0.5)
            assert bench.media.all[LegId(2)].digits_sent == "56"
            call.bye()

    def test_a_bye_while_a_key_is_under_way(self) -> None:
        with GateBench(script=INFO_CARRIER, delay=(0.1, 0.1)) as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(2.0)
            key(bench, 1, "5")
            key(bench, 1, "6")
            call.bye()
            bench.run(2.0)
            assert len(told(bench.carrier.calls[0])) == 1

    def test_a_refusal_that_comes_after_the_end_sends_nothing(self) -> None:
        with GateBench(script=INFO_CARRIER, delay=(0.1, 0.1)) as bench:
            bench.carrier.within = partial(refuse, 415, "INFO")
            call = bench.pbx.call(TOLL_FREE)
            bench.run(2.0)
            key(bench, 1, "5")
            bench.core.hang_up(next(iter(bench.core.calls)), bench.now)
            bench.run(2.0)
            assert bench.media.all[LegId(2)].digits_sent == ""
            assert call.has_ended()

    def test_provisional_responses_to_an_info_change_nothing(self) -> None:
        def patient(call: UaCall, event: RequestReceived) -> bool:
            if event.request.method != "INFO":
                return False
            call.ua.endpoint.respond(event.transaction, 183, now=call.ua.now())
            call.ua.endpoint.respond(event.transaction, 200, now=call.ua.now())
            return True

        with GateBench(script=INFO_CARRIER) as bench:
            bench.carrier.within = patient
            call = talking(bench)
            key(bench, 1, "5")
            key(bench, 1, "6")
            bench.run(1.0)
            assert len(told(bench.carrier.calls[0])) == 2
            call.bye()


class TestFromInfo:
    def test_a_callee_with_events_gets_them(self) -> None:
        with GateBench(script=ANSWER) as bench:
            call = bench.pbx.call(NUMBER, body=sdp(events=False))
            bench.run(0.1)
            for digit in "1234#9":
                call.info(digit)
                bench.run(0.5)
            assert bench.media.all[LegId(2)].configured[-1].remote.event_payload_type is not None
            assert bench.media.all[LegId(2)].digits_sent == "9"
            assert told(bench.carrier.calls[0]) == []
            call.bye()

    def test_a_callee_without_either_gets_a_tone(self) -> None:
        with GateBench(script=TONE_CARRIER) as bench:
            call = talking(bench, sdp(events=False))
            call.info("9")
            bench.run(0.5)
            assert bench.media.all[LegId(2)].digits_sent == "9"
            call.bye()


class TestEventsBothWays:
    def test_the_engine_relays_them_and_nobody_listens(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            after = bench.media.commands[
                next(
                    n for n, command in enumerate(bench.media.commands) if isinstance(command, BridgeMedia)
                ) :
            ]
            assert not any(isinstance(command, ListenForDigits) for command in after)
            assert not bench.media.all[LegId(1)].listening
            call.bye()

    def test_a_key_reported_by_a_leg_that_nobody_listens_to_is_dropped(self) -> None:
        with GateBench() as bench:
            call = talking(bench)
            bench.answer(DigitHeard(LegId(1), "5", DigitMeans.RFC4733, 100))
            assert bench.media.all[LegId(2)].digits_sent == ""
            call.bye()


class TestSetting:
    def test_info_although_there_are_events(self) -> None:
        with GateBench(config=with_digits(DigitForm.INFO, caller=False)) as bench:
            call = talking(bench)
            key(bench, 1, "5")
            bench.run(0.5)
            assert told(bench.carrier.calls[0]) == [b"Signal=5\r\nDuration=120\r\n"]
            call.bye()

    def test_info_of_a_peer_that_is_set_so_counts_although_it_has_events(self) -> None:
        with GateBench(config=with_digits(DigitForm.INFO, caller=True)) as bench:
            call = talking(bench)
            call.info("5")
            bench.run(0.5)
            assert bench.media.all[LegId(2)].digits_sent == "5"
            call.bye()

    def test_events_or_tones_whatever_the_peer_knows(self) -> None:
        with GateBench(config=with_digits(DigitForm.EVENTS, caller=False), script=INFO_CARRIER) as bench:
            call = talking(bench)
            assert not bench.media.all[LegId(1)].listening
            call.bye()


def test_a_new_format_changes_the_form() -> None:
    with GateBench(script=INFO_CARRIER) as bench:
        call = talking(bench)
        assert bench.media.all[LegId(1)].listening
        bench.carrier.calls[0].request("INVITE", sdp("192.0.2.90", version=2))
        bench.run(1.0)
        key(bench, 1, "5")
        bench.run(0.5)
        assert len(told(bench.carrier.calls[0])) <= 1
        call.bye()


def test_no_digit_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    with GateBench(script=INFO_CARRIER) as bench:
        call = talking(bench)
        key(bench, 1, "5")
        bench.run(0.5)
        call.bye()
    assert "Signal" not in caplog.text


def test_keys_told_as_info_are_repeated_with_credentials_in_their_order() -> None:
    config = with_account()
    config = replace(config, trunks=(replace(config.trunks[0], digits=DigitForm.INFO),))
    with GateBench(config=config) as bench:
        carrier = ForkingCarrier(bench)
        carrier.challenges["INFO"] = 1
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.1)
        carrier.says(200, "one", ONE)
        for digit in "56":
            bench.answer(DigitHeard(LegId(1), digit, DigitMeans.RFC4733, 100))
        bench.run(0.1)
        infos = [request for request in carrier.requests if request.method == "INFO"]
        assert [request.body.split(b"\r\n")[0] for request in infos] == [
            b"Signal=5",
            b"Signal=5",
            b"Signal=6",
        ]
        assert all("Proxy-Authorization" in request.headers for request in infos[1:])
        call.bye()


def test_keys_of_who_has_transferred_the_other_side_reach_nobody() -> None:
    with TransferBench() as bench:
        bench.desk.description = sdp(bench.desk.host, events=False)
        call = bench.talk(bench.desk, "205")
        bench.third.script = SLOW
        refer(call, "206")
        bench.run(1.0)
        assert not call.has_ended()
        call.info("5")
        bench.run(3.0)
        assert call.replies[-1].status == 200
        assert not any(leg.digits_sent for leg in bench.media.all.values())
        assert not any(told(party) for phone in (bench.second, bench.third) for party in phone.calls)
        bench.second.calls[0].bye()


def test_a_side_that_was_handed_on_is_told_nothing_by_the_call_that_it_left() -> None:
    with GateBench() as bench:
        first, second = talking(bench, sdp(events=False)), talking(bench)
        left, taker = bench.core.calls.values()
        side = left.sides.called
        side.call = taker
        first.info("5")
        bench.run(0.5)
        side.call = left
        assert not any(leg.digits_sent for leg in bench.media.all.values())
        first.bye()
        second.bye()


class TestLeftovers:
    """Keys of a caller whose entry has ended by its length or by time go nowhere for a moment."""

    MEANS = pytest.mark.parametrize("means", [DigitMeans.RFC4733, DigitMeans.INBAND, DigitMeans.INFO])

    @staticmethod
    def bench(script: tuple[Step, ...] = ANSWER, *, fixed: int | None = 4, **options: object) -> GateBench:
        policy = default_policy(collection=options.pop("collection", CodeCollection.REQUIRED))  # type: ignore[arg-type]
        groups = tuple(replace(group, fixed_length=fixed) for group in policy.groups.values())
        policy = policy.with_changes(version=1, groups=groups)
        return GateBench(policy=policy, script=script, **options)  # type: ignore[arg-type]

    @staticmethod
    def type(bench: GateBench, call: UaCall, keys: str, means: DigitMeans, every: float = 0.2) -> None:
        for digit in keys:
            bench.run(every)
            if means is DigitMeans.INFO:
                call.info(digit)
                bench.run(0.01)
            elif bench.media.legs[LegId(1)].listening:
                bench.answer(DigitHeard(LegId(1), digit, means, 100))

    def crossed(self, bench: GateBench) -> tuple[str, list[bytes]]:
        return bench.media.all[LegId(2)].digits_sent, told(bench.carrier.calls[0])

    @MEANS
    @pytest.mark.parametrize("script", [ANSWER, INFO_CARRIER, TONE_CARRIER])
    def test_the_habitual_pound_and_a_digit_too_many_stay_here(
        self, means: DigitMeans, script: tuple[Step, ...]
    ) -> None:
        with self.bench(script) as bench:
            call = bench.pbx.call(NUMBER, body=sdp(events=means is DigitMeans.RFC4733))
            bench.run(0.5)
            self.type(bench, call, "1234", means)
            bench.run(0.1)
            leg = bench.media.legs[LegId(1)]
            # The engine relays nothing of what it hears while it listens.
            assert leg.listening
            self.type(bench, call, "5#", means)
            assert bench.carrier.calls[0].connected
            assert self.crossed(bench) == ("", [])
            bench.run(1.4)
            assert leg.listening
            bench.run(0.4)
            b = next(iter(bench.core.calls.values())).b
            assert b is not None
            assert leg.listening is b.takes_info  # what comes from now on is for the callee
            if means is not DigitMeans.INBAND:  # tones cross within the audio
                self.type(bench, call, "7", means)
                bench.run(0.5)
                by_engine = means is DigitMeans.RFC4733 and not b.takes_info
                assert [body[:8] for body in told(bench.carrier.calls[0])] == [b"Signal=7"] * b.takes_info
                assert bench.media.all[LegId(2)].digits_sent == "7" * (not by_engine and not b.takes_info)
            call.bye()

    def test_a_pound_behind_the_time_between_digits_stays_here(self) -> None:
        with self.bench(fixed=None) as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            self.type(bench, call, "1234", DigitMeans.RFC4733)
            bench.run(5.1)
            assert bench.carrier.calls
            assert bench.media.legs[LegId(1)].listening
            self.type(bench, call, "#", DigitMeans.RFC4733)
            assert self.crossed(bench) == ("", [])
            call.bye()

    def test_those_of_the_last_wrong_try_of_an_optional_code_stay_here(self) -> None:
        with self.bench(collection=CodeCollection.OPTIONAL) as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            for _ in range(3):
                self.type(bench, call, "9999#", DigitMeans.INFO)
            bench.run(0.5)
            assert bench.carrier.calls[0].connected
            assert self.crossed(bench) == ("", [])
            call.bye()

    def test_early_mode_when_its_time_is_over_in_the_middle_of_an_entry(self) -> None:
        config = default_config(code_mode=CodeMode.EARLY, early_gate_bound=10.0)
        with self.bench(fixed=None, config=config) as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(8.0)
            self.type(bench, call, "1234", DigitMeans.RFC4733)
            bench.run(1.3)
            assert bench.carrier.calls
            assert bench.media.legs[LegId(1)].listening
            bench.run(2.0)
            assert not bench.media.legs[LegId(1)].listening
            call.bye()

    @pytest.mark.parametrize("keys", ["1234#", "#", "911", "911#"])
    def test_who_has_said_that_it_is_all_or_calls_for_help_is_heard_at_once(self, keys: str) -> None:
        with self.bench(fixed=None, collection=CodeCollection.OPTIONAL) as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            self.type(bench, call, keys, DigitMeans.RFC4733)
            bench.run(0.0 if "#" in keys else 5.1)
            assert bench.carrier.calls
            assert not bench.media.legs[LegId(1)].listening
            bench.run(0.5)
            call.bye()

    def test_silence_leaves_no_keys(self) -> None:
        with self.bench(collection=CodeCollection.OPTIONAL) as bench:
            call = bench.pbx.call(NUMBER)
            for _ in range(100):
                if not bench.carrier.calls:
                    bench.run(1.0)
            assert bench.carrier.calls
            assert not bench.media.legs[LegId(1)].listening
            bench.run(0.5)
            call.bye()

    @pytest.mark.parametrize("over", ["caller", "callee", "failure"])
    def test_a_call_that_ends_meanwhile_leaves_nothing(self, over: str) -> None:
        script = (Step(0.0, 486),) if over == "failure" else ANSWER
        with self.bench(script) as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            self.type(bench, call, "1234", DigitMeans.RFC4733)
            bench.run(0.5)
            self.type(bench, call, "#", DigitMeans.RFC4733)
            if over != "callee":
                call.bye()
            else:
                bench.carrier.calls[0].bye()
            bench.run(40.0)

    def test_keys_of_the_callee_cross_meanwhile(self) -> None:
        with self.bench(INFO_CARRIER) as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            self.type(bench, call, "1234", DigitMeans.RFC4733)
            bench.run(0.3)
            bench.carrier.calls[0].info("9")
            call.info("#")
            bench.run(0.3)
            assert bench.media.legs[LegId(1)].listening
            assert bench.media.all[LegId(1)].digits_sent == "9"
            assert self.crossed(bench) == ("", [])
            call.bye()

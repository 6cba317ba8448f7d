"""The call core as a whole: limits, requests outside dialogs, live calls, errors, timers."""

from __future__ import annotations

import logging
from ipaddress import ip_network

import pytest

from proxy.call.call import Call
from proxy.call.config import Peer, Side
from proxy.call.ports import LegId, MediaLegOpened, MediaTimedOut, RecordDurable
from proxy.call.state import CallState
from proxy.cdr.record import Disposition, HungUpBy
from proxy.errors import LocalProtocolError
from proxy.sip.events import (
    AckTimedOut,
    Cancelled,
    DialogEnded,
    Event,
    RequestFailed,
    RequestReceived,
    RequestTimedOut,
    ResponseReceived,
)
from proxy.sip.timers import NEVER
from tests.support.gate import NUMBER, GateBench, default_config, default_policy
from tests.support.ua import Step

TOLL_FREE = "918005550123"


class TestOutsideDialogs:
    def test_options_is_answered_with_capabilities(self) -> None:
        with GateBench() as bench:
            bench.stranger.send("OPTIONS")
            bench.run(0.5)
            response = bench.stranger.other_responses[-1]
            assert response.status == 200
            assert "INVITE" in str(response.headers.get("Allow"))
            assert response.headers.values("Accept") == ["application/sdp", "multipart/mixed"]
            assert bench.gate.endpoint.idle, "anybody may ask: nothing is kept"

    @pytest.mark.parametrize(
        ("method", "status"), [("REGISTER", 405), ("SUBSCRIBE", 405), ("UNHEARDOF", 501)]
    )
    def test_what_the_gate_does_not_take(self, method: str, status: int) -> None:
        with GateBench() as bench:
            bench.stranger.send(method)
            bench.run(0.5)
            assert bench.stranger.other_responses[-1].status == status

    def test_method_that_the_endpoint_lets_through_is_405(self) -> None:
        with GateBench() as bench:
            object.__setattr__(
                bench.gate.endpoint.config, "allow", (*bench.gate.endpoint.config.allow, "MESSAGE")
            )
            bench.stranger.send("MESSAGE")
            bench.run(0.5)
            response = bench.stranger.other_responses[-1]
            assert response.status == 405
            assert "MESSAGE" in response.headers.values("Allow")
            assert bench.gate.endpoint.idle

    @pytest.mark.parametrize("method", ["BYE", "INFO", "UPDATE"])
    def test_rfc3261_15_1_2_what_belongs_to_no_dialog_is_481(self, method: str) -> None:
        with GateBench() as bench:
            bench.stranger.send(method)
            bench.run(0.1)
            assert bench.stranger.other_responses[-1].status == 481
            assert bench.gate.endpoint.idle

    def test_dialog_without_a_leg_is_481(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(0.5)
            live = next(iter(bench.core.calls.values()))
            assert live.a.dialog is not None
            live.a.dialog.owner = None
            call.info("1")
            bench.run(0.5)
            assert call.replies[-1].status == 481
            live.a.dialog.owner = live.a
            call.bye()


class TestLimits:
    """The gate's own overload and drain: 503 without Retry-After, never for emergency calls (DESIGN 1.7)."""

    def test_too_many_calls(self) -> None:
        with GateBench(config=default_config(max_calls=1)) as bench:
            first = bench.pbx.call(NUMBER)
            bench.run(0.1)
            second = bench.pbx.call(NUMBER)
            emergency = bench.pbx.call("911")
            bench.run(0.5)
            assert (first.status, second.status, emergency.status) == (200, 503, 200)
            assert second.last.headers.get("Retry-After") is None
            first.bye()
            emergency.bye()
        assert [record.disposition for record in bench.journal.final].count(Disposition.OVERLOADED) == 1

    def test_drain(self) -> None:
        with GateBench() as bench:
            first = bench.pbx.call(TOLL_FREE)
            bench.run(0.5)
            bench.core.draining = True
            second = bench.pbx.call(TOLL_FREE)
            bench.run(0.5)
            assert second.status == 503
            assert not first.has_ended()
            first.bye()


class TestRecordsThatCanNotBeKept:
    """A call that costs money is not begun while its record would be lost (DESIGN 1.8)."""

    def test_new_calls_get_500_and_emergency_calls_go(self) -> None:
        with GateBench() as bench:
            bench.core.recording = False
            call = bench.pbx.call(TOLL_FREE)
            inbound = bench.carrier.call("2125550204")
            bench.run(0.5)
            assert (call.status, inbound.status) == (500, 500)
            emergency = bench.pbx.call("911")
            bench.run(0.5)
            assert emergency.status == 200
            emergency.bye()
            bench.run(0.5)
        dispositions = [record.disposition for record in bench.journal.final]
        assert dispositions == [Disposition.OVERLOADED, Disposition.OVERLOADED, Disposition.ANSWERED]

    def test_a_code_that_comes_then_is_not_dialled_with(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            bench.core.recording = False
            bench.press("1234#")
            bench.run(10.0)
            assert call.ended
            assert not bench.carrier.calls
        assert (bench.record.disposition, bench.record.sip_code) == (Disposition.OVERLOADED, 500)

    def test_an_emergency_number_at_the_prompt_goes(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            bench.core.recording = False
            bench.press("911#")
            bench.run(1.0)
            assert bench.carrier.calls[0].connected
            call.bye()


class TestLiveCalls:
    def test_shows_who_what_and_since_when(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(1.0)
            (live,) = bench.core.live_calls()
            assert (live.caller, live.user, live.dialled, live.state) == ("204", "204", NUMBER, "asking")
            assert live.since == bench.network.clock.start
            assert live.code_description == ""
            assert (live.group, live.destination_user, live.location) == ("staff", "", "")
            assert live.started_at == bench.core.calls[live.call_id].record.start_time
            bench.press("1234#")
            bench.run(1.0)
            (live,) = bench.core.live_calls()
            assert (live.state, live.code_description) == ("talking", "ACME, general")
            call.bye()
        assert bench.core.live_calls() == []

    def test_hang_up_from_outside(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(1.0)
            (live,) = bench.core.live_calls()
            assert bench.core.hang_up(live.call_id, bench.now)
            assert not bench.core.hang_up(live.call_id, bench.now)
            assert not bench.core.hang_up("unknown", bench.now)
            bench.run(0.5)
            assert call.ended
            assert bench.carrier.calls[0].ended
        assert bench.record.hung_up_by is HungUpBy.GATE
        assert bench.record.disposition is Disposition.ANSWERED

    def test_nobody_ends_an_emergency_call_by_hand(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call("911")
            bench.run(1.0)
            (live,) = bench.core.live_calls()
            for _ in range(2):
                with pytest.raises(LocalProtocolError, match="not ended by hand"):
                    bench.core.hang_up(live.call_id, bench.now, by_hand=True)
            assert not bench.core.hang_up("unknown", bench.now, by_hand=True)
            bench.run(1.0)
            assert (call.ended, bench.carrier.calls[0].connected) == (False, True)
            assert bench.core.hang_up(live.call_id, bench.now)  # the last word of a drain
            bench.run(1.0)
            assert call.ended
            assert not bench.core.hang_up(live.call_id, bench.now, by_hand=True)

    def test_an_emergency_number_typed_at_the_prompt_is_not_ended_by_hand(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(NUMBER)
            bench.press("911#")
            bench.run(1.0)
            (live,) = bench.core.live_calls()
            with pytest.raises(LocalProtocolError, match="not ended by hand"):
                bench.core.hang_up(live.call_id, bench.now, by_hand=True)
            call.bye()

    def test_hang_up_by_hand(self) -> None:
        with GateBench() as bench:
            bench.pbx.call(NUMBER)
            bench.run(1.0)
            (live,) = bench.core.live_calls()
            assert bench.core.hang_up(live.call_id, bench.now, by_hand=True)

    def test_hang_up_during_an_announcement_keeps_the_reason(self) -> None:
        with GateBench(script=(Step(0.0, 486),)) as bench:
            call = bench.pbx.call(NUMBER)
            bench.press("1234#")
            bench.core.hang_up(bench.core.live_calls()[0].call_id, bench.now)
            bench.run(0.5)
            assert call.ended
        assert bench.record.disposition is Disposition.BUSY
        assert bench.record.sip_code == 486

    def test_hang_up_before_the_answer(self) -> None:
        with GateBench(script=(Step(0.0, 180),)) as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(1.0)
            bench.core.hang_up(bench.core.live_calls()[0].call_id, bench.now)
            bench.run(0.5)
            assert call.status == 480
            assert bench.carrier.calls[0].cancelled
        assert bench.record.disposition is Disposition.FAILED


def test_reconfigured_peers_count_for_new_calls_only() -> None:
    with GateBench() as bench:
        first = bench.pbx.call(TOLL_FREE)
        bench.run(0.5)
        bench.core.reconfigure(default_config(peers=(Peer("other", Side.PBX),)))
        second = bench.pbx.call(TOLL_FREE)
        bench.run(0.5)
        assert second.status == 403
        assert not first.has_ended()
        first.bye()


class TestAbandon:
    """An error in the gate costs one call, never the process (issue: a crash of one call is contained)."""

    def test_ends_the_call_that_the_cause_belongs_to(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with GateBench(script=(Step(0.0, 180),)) as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(0.5)
            events: list[Event] = []
            monkeypatch.setattr(bench.core, "handle_sip", lambda event, now: events.append(event))
            bench.carrier.calls[0].respond(200, with_sdp=True)
            bench.run(0.1)
            monkeypatch.undo()
            assert isinstance(events[0], ResponseReceived)
            bench.core.abandon(events[0], bench.now)
            bench.core.abandon(events[0], bench.now)
            bench.run(0.5)
            assert call.status == 500
            bench.vanished.add(bench.carrier)
            # B's 200 was never seen by its leg: the dialog stays until the carrier gives up
            for dialog in [event.dialog for event in events if isinstance(event, ResponseReceived)]:
                if dialog is not None:
                    bench.gate.endpoint.terminate(dialog)
        assert bench.record.disposition is Disposition.FAILED

    def test_finds_the_call_of_every_cause(self) -> None:
        with GateBench() as bench:
            bench.pbx.call(TOLL_FREE)
            bench.run(0.5)
            live = next(iter(bench.core.calls.values()))
            assert live.a.dialog is not None
            assert bench.core._call_of(RecordDurable(live.id)) is live
            assert bench.core._call_of(MediaTimedOut(LegId(1))) is live
            assert bench.core._call_of(MediaTimedOut(LegId(9))) is None
            assert bench.core._call_of(Cancelled(live.incoming.transaction, live.incoming.invite)) is live
            flow = live.incoming.transaction.flow
            assert (
                bench.core._call_of(
                    RequestReceived(live.incoming.transaction, live.incoming.invite, None, flow)
                )
                is live
            )
            again = RequestReceived(live.incoming.transaction, live.incoming.invite, live.a.dialog, flow)
            assert bench.core._call_of(again) is live
            cause = DialogEnded(live.a.dialog)
            assert bench.core._call_of(cause) is live
            bench.core.abandon(cause, bench.now)
            bench.run(0.5)
        assert bench.record.disposition is Disposition.FAILED

    def test_request_without_a_call_gets_500(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with GateBench() as bench:
            events: list[Event] = []
            monkeypatch.setattr(bench.core, "handle_sip", lambda event, now: events.append(event))
            call = bench.pbx.call(TOLL_FREE)
            bench.run(0.1)
            monkeypatch.undo()
            bench.core.abandon(events[0], bench.now)
            bench.core.abandon(events[0], bench.now)
            bench.run(0.1)
            assert call.status == 500

    def test_call_that_can_not_be_ended_in_order_is_forgotten(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(self: Call, now: float) -> None:
            raise RuntimeError("broken")

        with GateBench() as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            monkeypatch.setattr(Call, "break_off", broken)
            with caplog.at_level(logging.ERROR):
                bench.core.abandon(MediaTimedOut(LegId(1)), bench.now)
            assert not bench.core.calls
            assert "could not be ended in order" in caplog.text
            bench.run(0.5)
            call.bye()
            # the leg still answers the caller's BYE, though its call is gone
            bench.run(1.0)
            bench.core.calls.clear()

    def test_request_that_can_not_even_be_refused(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("broken")

        with GateBench() as bench:
            events: list[Event] = []
            monkeypatch.setattr(bench.core, "handle_sip", lambda event, now: events.append(event))
            call = bench.pbx.call(TOLL_FREE)
            bench.run(0.1)
            monkeypatch.setattr(type(bench.gate.endpoint), "respond", broken)
            with caplog.at_level(logging.ERROR):
                bench.core.abandon(events[0], bench.now)
            assert "could not be ended in order" in caplog.text
            monkeypatch.undo()
            bench.core.abandon(events[0], bench.now)
            bench.run(0.1)
            assert call.status == 500

    def test_broken_answer_without_a_call_is_ignored(self) -> None:
        with GateBench() as bench:
            bench.core.abandon(MediaLegOpened(LegId(5), "192.0.2.1", 1, 2), bench.now)
            assert bench.core.idle


class TestTimers:
    def test_dead_entries_are_bounded(self) -> None:
        with GateBench() as bench:
            for _ in range(300):
                call = bench.pbx.call(NUMBER)
                bench.run(0.01)
                call.bye()
                bench.run(0.01)
            assert len(bench.core._timers) <= 4 * len(bench.core.calls) + 65

    def test_nothing_is_due_without_calls(self) -> None:
        with GateBench(config=default_config(session_expires=0)) as bench:
            assert bench.core.next_timer() is None
            bench.core.handle_timer(bench.now)
            call = bench.pbx.call(TOLL_FREE)
            bench.run(0.5)
            live = next(iter(bench.core.calls.values()))
            assert live.deadline == NEVER
            assert bench.core.next_timer() is None
            bench.core.handle_timer(bench.now + 1000.0)
            assert not call.has_ended()
            call.bye()

    def test_deadline_that_moved_on_is_looked_at_later(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(1.0)
            live = next(iter(bench.core.calls.values()))
            at = live.armed_at
            bench.core.handle_timer(at)
            assert live.deadline > at or live.armed_at == live.deadline
            call.bye()

    def test_handle_timer_passes_over_dead_entries(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            live = next(iter(bench.core.calls.values()))
            stale = bench.core._timers[0]
            live.deadline -= 0.1
            bench.core.arm(live)
            bench.core.handle_timer(stale[0] - 0.05)
            live.deadline = NEVER
            bench.core.handle_timer(stale[0] + 100.0)
            assert not bench.core._timers or bench.core._timers[0] != stale
            call.bye()

    def test_a_timer_that_raises_costs_one_call(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(_now: float) -> None:
            raise RuntimeError("broken")

        with GateBench() as bench:
            first = bench.pbx.call(NUMBER)
            second = bench.pbx.call(NUMBER)
            bench.run(0.5)
            gate = next(iter(bench.core.calls.values())).gate
            assert gate is not None
            monkeypatch.setattr(type(gate), "handle_timer", lambda self, now: broken(now))
            with caplog.at_level(logging.ERROR):
                bench.run(100.0)
            assert first.ended
            assert second.ended
        assert [record.disposition for record in bench.journal.final] == [Disposition.FAILED] * 2
        assert [message for message in caplog.messages if "timer failed" in message]

    def test_a_registration_timer_that_raises_does_not_hold_up_calls(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Broken:
            def handle_timer(self, _now: float) -> None:
                raise RuntimeError("broken")

        with GateBench() as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            at = bench.core.next_timer()
            assert at is not None
            monkeypatch.setattr(bench.core, "registrations", Broken())
            with caplog.at_level(logging.ERROR):
                bench.core.handle_timer(at)
            monkeypatch.undo()
            assert bench.core.next_timer() != at
            assert [message for message in caplog.messages if "a timer of Broken failed" in message]
            call.bye()

    def test_compaction_keeps_what_lives(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(NUMBER)
            bench.run(0.5)
            live = next(iter(bench.core.calls.values()))
            at = live.deadline
            for step in range(200):
                live.deadline = at - step * 0.001
                bench.core.arm(live)
            assert len(bench.core._timers) <= 4 + 64 + 1
            assert bench.core.next_timer() == live.deadline
            call.bye()


class TestOddMoments:
    """Events that come in the same batch as the one that made them moot."""

    def test_cancel_that_lost_against_the_200(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(0.5)
            live = next(iter(bench.core.calls.values()))
            bench.core.handle_sip(Cancelled(live.incoming.transaction, live.incoming.invite), bench.now)
            assert live.state is CallState.TALKING
            call.bye()

    def test_cancel_of_an_invite_without_a_leg(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(0.5)
            live = next(iter(bench.core.calls.values()))
            live.incoming.transaction.owner = None
            bench.core.handle_sip(Cancelled(live.incoming.transaction, live.incoming.invite), bench.now)
            bench.core.handle_sip(RequestFailed(live.incoming.transaction), bench.now)
            assert live.state is CallState.TALKING
            call.bye()

    def test_hang_up_when_the_caller_can_not_be_told(self) -> None:
        with GateBench(script=(Step(0.0, 180),)) as bench:
            bench.pbx.call(TOLL_FREE)
            bench.run(0.5)
            live = next(iter(bench.core.calls.values()))
            live.incoming.transaction.discard()
            if live.a.dialog is not None:
                bench.gate.endpoint.terminate(live.a.dialog)
            bench.core.hang_up(live.id, bench.now)
            bench.run(0.5)
            assert bench.carrier.calls[0].cancelled
            bench.vanished.add(bench.pbx)
        assert bench.record.disposition is Disposition.FAILED

    def test_time_out_of_another_transaction_of_the_b_leg(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(0.5)
            live = next(iter(bench.core.calls.values()))
            assert live.b is not None
            assert live.b.dialog is not None
            options = bench.gate.endpoint.request(live.b.dialog, "OPTIONS", now=bench.now)
            bench.core.handle_sip(RequestTimedOut(options), bench.now)
            bench.run(0.5)
            assert live.state is CallState.TALKING
            call.bye()

    def test_ack_missing_in_a_leg_that_is_over(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(0.5)
            live = next(iter(bench.core.calls.values()))
            leg = live.b
            assert leg is not None
            assert leg.dialog is not None
            call.bye()
            bench.run(0.1)
            leg.dialog.owner = leg
            bench.core.handle_sip(AckTimedOut(leg.dialog), bench.now)
        assert bench.record.disposition is Disposition.ANSWERED

    def test_caller_is_lost_when_the_call_is_over_already(self) -> None:
        with GateBench() as bench:
            bench.pbx.call(TOLL_FREE)
            bench.run(0.5)
            live = next(iter(bench.core.calls.values()))
            bench.core.hang_up(live.id, bench.now)
            bench.core.handle_sip(RequestFailed(live.incoming.transaction), bench.now)
        assert bench.record.disposition is Disposition.ANSWERED

    def test_dialog_of_somebody_else_ends(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(0.5)
            live = next(iter(bench.core.calls.values()))
            assert live.a.dialog is not None
            live.a.dialog.owner = None
            bench.core.handle_sip(DialogEnded(live.a.dialog), bench.now)
            assert live.state is CallState.TALKING
            live.a.dialog.owner = live.a
            call.bye()

    def test_internal_number_without_a_pbx_is_404(self) -> None:
        pbx = Peer("pbx", Side.PBX, networks=(ip_network("192.0.2.10/32"),), default_group="staff")
        with GateBench(config=default_config(peers=(pbx,))) as bench:
            call = bench.pbx.call("205")
            bench.run(0.5)
            assert call.status == 404
        assert bench.record.disposition is Disposition.REJECTED

    def test_gate_is_told_of_the_policy_in_force(self) -> None:
        with GateBench() as bench:
            policy = default_policy()
            bench.core.policy = policy
            assert bench.core.policy is policy


def test_log_names_the_call(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "proxy.call"), GateBench(script=(Step(0.0, 486),)) as bench:
        bench.pbx.call(TOLL_FREE)
        bench.pbx.call("919005550123")
        bench.run(0.5)
    assert {record.call_id for record in caplog.records} == {"record-000001", "record-000002"}  # type: ignore[attr-defined]


def test_quiet_when_info_is_off(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "proxy.call"), GateBench() as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.pbx.call("919005550123")
        bench.run(0.5)
        call.bye()
    assert not caplog.records

"""What a transferor is told: the implicit subscription of a REFER (RFC 3515 §2.4.4, RFC 6665 §4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from proxy.call.refer_notifier import ReferNotifier
from proxy.sip.events import RequestReceived
from proxy.sip.message import Request
from tests.call.transfers import (
    BUSY,
    PREMIUM,
    RING,
    SLOW,
    TransferBench,
    desk_talks,
    faulty,
    listening,
    refer,
    replies,
    told,
)
from tests.support.ua import Step, UaCall


def test_an_unwanted_telling_and_the_other_party_leaves() -> None:
    with desk_talks(RING) as (bench, call):
        refer(call, "206", headers=(("Refer-Sub", "false"),))
        bench.run(1.0)
        bench.second.calls[0].bye()
        bench.run(1.0)
        assert call.has_ended()
        assert bench.third.calls[0].was_cancelled()


def refuse_notify(call: UaCall, event: RequestReceived) -> bool:
    if event.request.method != "NOTIFY":
        return False
    call.ua.endpoint.respond(event.transaction, 481, now=call.ua.now())
    return True


class TestNotify:
    """What the transferor is told (RFC 3515 §2.4.4, §2.4.5)."""

    def test_rfc3515_2_4_5_the_form_of_a_notify(self) -> None:
        with desk_talks() as (bench, call):
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

    def test_rfc4488_4_refer_sub_false_is_told_nothing(self) -> None:
        with desk_talks() as (bench, call):
            refer(call, "206", headers=(("Refer-Sub", "false"), ("Require", "norefersub")))
            bench.run(2.0)
            assert call.replies[0].headers.get("Refer-Sub") == "false"
            assert told(call) == []
            assert call.has_ended()

    def test_rfc6665_4_2_2_a_refused_notify_ends_the_telling_not_the_transfer(self) -> None:
        with desk_talks() as (bench, call):
            bench.desk.within = refuse_notify
            bench.third.script = SLOW
            refer(call, "206")
            bench.run(3.0)
            assert len(told(call)) == 1
            assert bench.third.calls[0].connected
            assert call.has_ended()

    def test_a_transferor_that_has_vanished_is_released(self) -> None:
        with desk_talks() as (bench, call):
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

    def test_an_error_in_the_telling_costs_one_call(self) -> None:
        with TransferBench() as bench:
            other = bench.inbound()
            call = bench.talk(bench.second, "206", user="205")
            with faulty(bench, ReferNotifier, "responded") as failed:
                refer(call, PREMIUM)
                bench.run(0.5)
            assert len(failed) == 1
            assert call.has_ended()
            assert bench.third.calls[0].has_ended()
            assert not other.has_ended()
            other.bye()
            bench.run(0.5)

    def test_news_that_had_to_wait_comes_together(self) -> None:
        with desk_talks() as (bench, call):
            bench.network.delay = (0.4, 0.4)
            bench.third.script = (Step(0.0, 180), Step(0.1, 182), Step(0.1, 200, with_sdp=True))
            refer(call, "206")
            bench.run(5.0)
            assert told(call) == ["100 active", "180 active", "200 terminated"]
            bench.network.delay = (0.0, 0.0)


def notifies(call: UaCall) -> list[Request]:
    return [request for request in call.requests if request.method == "NOTIFY"]


def subscription_states(call: UaCall) -> list[str]:
    return [request.headers.get("Subscription-State") or "" for request in notifies(call)]


def subscribe(call: UaCall, expires: str = "", *, event: str = "refer") -> None:
    headers = [("Event", event)] if event else []
    call.request("SUBSCRIBE", headers=[*headers, ("Expires", expires)] if expires else headers)


class TestAfterTheBye:
    """The transferor hangs up right after the 202 and still hears what comes of it (RFC 5057 §3.1)."""

    @pytest.mark.parametrize(("script", "word"), [(SLOW, "200"), (BUSY, "486")])
    def test_rfc5589_6_1_the_telling_goes_on(self, script: Sequence[Step], word: str) -> None:
        with desk_talks(script) as (bench, call):
            with listening(call):
                refer(call, "206")
                bench.run(0.1)
                call.bye()
                bench.run(3.0)
                assert told(call) == ["100 active", "180 active", f"{word} terminated"]
                assert bench.core.referrals.idle
            other = bench.second.calls[0]
            if word == "200":
                other.bye()
            bench.run(12.0)
            assert other.has_ended()

    def test_rfc5057_4_1_the_gates_own_bye_ends_it_no_more_than_the_transferors(self) -> None:
        with desk_talks(SLOW) as (bench, call), listening(call):
            refer(call, "206")
            bench.run(0.1)
            bench.core.hang_up(next(iter(bench.core.calls)), bench.now)
            bench.run(3.0)
            assert call.has_ended()
            assert told(call)[-1] == "200 terminated"

    def test_rfc3261_12_2_2_no_notify_overtakes_the_bye(self) -> None:
        """The peer would refuse a BYE of a lower CSeq, and go on."""
        ring_and_answer = (Step(0.5, 180), Step(0.1, 200, with_sdp=True))
        with desk_talks(ring_and_answer) as (bench, call), listening(call):
            refer(call, "206")
            bench.run(0.1)
            bench.network.drop = lambda _sender, receiver, data: (
                receiver == bench.desk.address and data.startswith(b"BYE")
            )
            bench.core.hang_up(next(iter(bench.core.calls)), bench.now)
            bench.run(1.4)
            assert told(call) == ["100 active"]
            bench.network.drop = None
            bench.run(3.0)
            assert call.has_ended()
            assert told(call) == ["100 active", "200 terminated"]

    def test_its_time_is_over_while_the_bye_gets_no_answer(self) -> None:
        with desk_talks(RING) as (bench, call):
            refer(call, "206")
            bench.run(0.1)
            subscribe(call, "60")
            bench.run(50.0)
            bench.vanished.add(bench.desk)
            bench.network.drop = lambda _sender, receiver, _data: receiver == bench.desk.address
            bench.core.hang_up(next(iter(bench.core.calls)), bench.now)
            bench.run(10.5)
            assert bench.core.referrals.idle
            bench.second.calls[0].bye()
            bench.run(40.0)

    def test_the_other_party_leaves_meanwhile(self) -> None:
        with desk_talks(RING) as (bench, call), listening(call):
            refer(call, "206")
            bench.run(0.1)
            call.bye()
            bench.run(1.0)
            bench.second.calls[0].bye()
            bench.run(1.0)
            assert told(call)[-1] == "487 terminated"

    def test_the_answer_can_not_be_recorded(self) -> None:
        with desk_talks() as (bench, call):
            bench.journal.durable = False
            with listening(call):
                refer(call, "206")
                call.bye()
                bench.run(3.0)
                assert told(call)[-1] == "487 terminated"
            assert bench.second.calls[0].has_ended()
            assert bench.third.calls[0].has_ended()

    def test_rfc6665_4_2_2_a_transferor_that_has_forgotten_the_dialog_says_481(self) -> None:
        with desk_talks(SLOW) as (bench, call):
            refer(call, "206")
            bench.run(0.1)
            call.bye()
            bench.run(1.0)
            assert bench.core.referrals.idle
            assert told(call) == ["100 active"]
            bench.run(2.0)
            assert bench.third.calls[0].connected

    def test_it_may_still_unsubscribe(self) -> None:
        with desk_talks(SLOW) as (bench, call), listening(call):
            refer(call, "206")
            bench.run(0.1)
            call.bye()
            bench.run(0.1)
            subscribe(call, "0")
            bench.run(3.0)
            assert replies(call)[-1] == 200
            assert subscription_states(call)[-1] == "terminated;reason=timeout"


class TestSubscribe:
    """SUBSCRIBE to what the REFER has subscribed to (RFC 3515 §2.4.4, RFC 6665 §4.2.1)."""

    def test_rfc6665_4_2_1_2_a_refresh_is_answered_with_the_state(self) -> None:
        with desk_talks(SLOW) as (bench, call):
            refer(call, "206")
            bench.run(1.0)
            subscribe(call, "300")
            bench.run(0.1)
            assert call.replies[-1].headers.get("Expires") == "300"
            assert subscription_states(call)[-1] == "active;expires=300"
            assert told(call) == ["100 active", "180 active", "180 active"]
            subscribe(call)
            bench.run(0.1)
            assert subscription_states(call)[-1] == "active;expires=3600"
            bench.run(2.0)
            assert told(call)[-1] == "200 terminated"

    def test_rfc6665_4_1_2_3_who_unsubscribes_is_told_no_more_and_released_all_the_same(self) -> None:
        with desk_talks(SLOW) as (bench, call):
            refer(call, "206")
            bench.run(0.1)
            subscribe(call, "0")
            bench.run(1.0)
            assert call.replies[-1].headers.get("Expires") == "0"
            assert subscription_states(call)[1:] == ["terminated;reason=timeout"]
            bench.run(2.0)
            assert len(notifies(call)) == 2
            assert call.has_ended()
            assert bench.third.calls[0].connected

    def test_rfc6665_4_2_2_it_ends_with_its_time_and_the_transfer_does_not(self) -> None:
        with desk_talks((Step(0.5, 180), Step(90.0, 200, with_sdp=True))) as (bench, call):
            refer(call, "206")
            bench.run(1.0)
            subscribe(call, "60")
            bench.run(59.9)
            assert subscription_states(call)[-1] == "active;expires=60"
            bench.run(0.2)
            assert subscription_states(call)[-1] == "terminated;reason=timeout"
            subscribe(call, "60")
            bench.run(40.0)
            assert replies(call)[-1] == 481
            assert call.has_ended()
            assert bench.third.calls[0].connected

    def test_rfc6665_4_2_1_what_comes_while_a_notify_is_under_way_goes_in_one(self) -> None:
        with desk_talks(RING) as (bench, call):
            bench.network.delay = (0.4, 0.4)
            refer(call, "206")
            bench.run(1.0)
            subscribe(call, "0")
            subscribe(call, "0")
            bench.run(3.0)
            assert replies(call) == [202, 200, 481]
            assert subscription_states(call)[-1] == "terminated;reason=timeout"
            bench.network.delay = (0.0, 0.0)

    def test_its_time_is_over_while_a_notify_gets_no_answer(self) -> None:
        with desk_talks((Step(59.5, 180), Step(5.0, 200, with_sdp=True))) as (bench, call):
            refer(call, "206")
            bench.run(0.1)
            subscribe(call, "60")
            bench.run(0.1)
            bench.desk.within = lambda _, event: event.request.method == "NOTIFY"
            bench.vanished.add(bench.desk)
            bench.run(61.0)
            assert bench.core.referrals.idle
            bench.run(40.0)
            assert call.has_ended()
            assert bench.third.calls[0].connected
            bench.third.calls[0].bye()
            bench.run(40.0)

    @pytest.mark.parametrize(
        ("expires", "event", "status"),
        [
            ("x", "refer", 400),
            ("-1", "refer", 400),
            ("5", "refer", 423),
            ("60", "", 489),
            ("60", "refer;id=", 400),
            ("60", "dialog", 481),
            ("60", "refer;id=999", 481),
        ],
    )
    def test_what_is_not_taken_changes_nothing(self, expires: str, event: str, status: int) -> None:
        with desk_talks(SLOW) as (bench, call):
            refer(call, "206")
            bench.run(0.1)
            subscribe(call, expires, event=event)
            bench.run(0.1)
            assert replies(call) == [202, status]
            assert told(call) == ["100 active"]
            bench.run(3.0)
            assert told(call)[-1] == "200 terminated"

    def test_rfc3515_2_4_6_the_second_refer_of_a_dialog_has_an_id(self) -> None:
        with desk_talks() as (bench, call):
            refer(call, PREMIUM)
            bench.run(0.5)
            subscribe(call, "60")
            bench.run(0.1)
            assert replies(call)[-1] == 481, "the first one is over"
            bench.third.script = SLOW
            refer(call, "206")
            bench.run(0.1)
            event = notifies(call)[-1].headers.get("Event") or ""
            assert event == f"refer;id={call.replies[-1].cseq.number}"
            subscribe(call, "60", event=event)
            bench.run(0.1)
            assert replies(call)[-1] == 200
            assert subscription_states(call)[-1] == "active;expires=60"
            bench.run(3.0)

    @pytest.mark.parametrize("method", ["SUBSCRIBE", "NOTIFY"])
    def test_without_a_refer_there_is_nothing(self, method: str) -> None:
        with desk_talks() as (bench, call):
            call.request(method, headers=[("Event", "refer"), ("Subscription-State", "active")])
            refer(call, "206", headers=(("Refer-Sub", "false"),))
            subscribe(call, "60")
            bench.run(0.5)
            assert replies(call) == [481, 202, 481]
            bench.run(2.0)

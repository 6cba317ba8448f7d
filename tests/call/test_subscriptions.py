"""SUBSCRIBE to a user's line: RFC 6665 §4.2 (the notifier), RFC 4235 (dialog)."""

from __future__ import annotations

import random

import pytest

from proxy.call.config import SubscriptionConfig, Watching
from proxy.policy import Snapshot, User, UserGroup
from proxy.sip.flow import Flow, Transmit
from proxy.sip.message import Request
from proxy.sip.parser import parse_message
from tests.call.phones import phone_policy
from tests.call.watching import WatchBench
from tests.sip.harness import answer, request
from tests.support.gate import GateBench
from tests.support.ua import Step, UaCall


def status(bench: WatchBench) -> int:
    bench.run(0.1)
    return bench.watcher.responses[-1].status


# The subscription -------------------------------------------------------------------------------------------


def test_rfc6665_4_2_1_a_phone_subscribes_and_is_told_the_state_at_once() -> None:
    with WatchBench() as bench:
        bench.watcher.subscribe("204", expires=600)
        assert status(bench) == 200
        response = bench.watcher.responses[-1]
        assert response.headers.get("Expires") == "600"
        assert response.contact is not None
        (told,) = bench.watcher.told
        assert told.state == "active;expires=600"
        assert told.request.headers.get("Event") == "dialog"
        assert told.document.attrib == {
            "version": "0",
            "state": "full",
            "entity": "sip:204@gate.example.com",
        }
        assert told.lamp == []
        assert len(bench.subscriptions) == 1
        assert not bench.core.idle


def test_rfc6665_4_2_1_1_without_expires_it_lasts_an_hour_and_never_more_than_two() -> None:
    with WatchBench() as bench:
        bench.watcher.subscribe("204")
        assert status(bench) == 200
        assert bench.watcher.responses[-1].headers.get("Expires") == "3600"
        bench.watcher.subscribe("204", expires=100_000)
        assert status(bench) == 200
        assert bench.watcher.responses[-1].headers.get("Expires") == "7200"


def test_rfc6665_4_2_1_1_too_brief_gets_423() -> None:
    with WatchBench() as bench:
        bench.watcher.subscribe("204", expires=59)
        assert status(bench) == 423
        assert bench.watcher.responses[-1].headers.get("Min-Expires") == "60"
        bench.watch(expires=60)
        bench.watcher.refresh(10)
        assert status(bench) == 423
        bench.run(60.0)
        assert bench.watcher.states == ["terminated;reason=timeout"], "it was not refreshed"


def test_rfc6665_4_2_1_4_it_ends_when_it_is_not_refreshed() -> None:
    with WatchBench() as bench:
        watcher = bench.watch(expires=60)
        bench.run(59.0)
        assert watcher.told == []
        bench.run(1.0)
        assert watcher.states == ["terminated;reason=timeout"]
        assert len(bench.subscriptions) == 0
        assert bench.subscriptions.idle
        assert bench.gate.endpoint.idle is False, "the last transaction has its time still"


def test_rfc6665_4_2_1_2_a_refresh_is_answered_with_the_state() -> None:
    with WatchBench() as bench:
        watcher = bench.watch(expires=60)
        bench.run(50.0)
        watcher.refresh(120)
        bench.run(0.1)
        assert watcher.responses[-1].headers.get("Expires") == "120"
        assert watcher.states == ["active;expires=120"]
        assert watcher.told[0].version == 1
        bench.run(100.0)
        assert len(watcher.told) == 1
        bench.run(30.0)
        assert watcher.states[1:] == ["terminated;reason=timeout"]


def test_rfc6665_4_2_1_2_a_phone_unsubscribes() -> None:
    with WatchBench() as bench:
        watcher = bench.watch()
        watcher.refresh(0)
        bench.run(0.1)
        assert watcher.responses[-1].headers.get("Expires") == "0"
        assert watcher.states == ["terminated;reason=timeout"]
        assert len(bench.subscriptions) == 0


def test_rfc6665_4_4_3_a_fetch_is_one_notify() -> None:
    with WatchBench() as bench:
        bench.watcher.subscribe("204", expires=0)
        assert status(bench) == 200
        (told,) = bench.watcher.told
        assert told.state == "terminated;reason=timeout"
        assert told.lamp == []
        assert bench.subscriptions.idle


def test_rfc6665_8_2_1_the_id_comes_back_in_every_notify() -> None:
    with WatchBench() as bench:
        bench.watcher.subscribe("204", event="dialog;id=77", expires=600)
        bench.run(0.1)
        assert bench.watcher.told[0].request.headers.get("Event") == "dialog;id=77"
        bench.watcher.refresh(600, event="dialog;id=77")
        assert status(bench) == 200


@pytest.mark.parametrize(
    ("event", "expected"),
    [("dialog;id=2", 403), ("presence", 403), ("", 489), ("dialog;id", 200), ("di alog", 400)],
)
def test_rfc6665_4_5_2_a_dialog_holds_one_subscription(event: str, expected: int) -> None:
    with WatchBench() as bench:
        watcher = bench.watch()
        watcher.refresh(600, event=event)
        assert status(bench) == expected
        assert len(bench.subscriptions) == 1, "and that goes on"


@pytest.mark.parametrize(("method", "answer"), [("BYE", 481), ("NOTIFY", 481), ("OPTIONS", 200)])
def test_rfc5057_5_3_requests_that_are_no_refresh(method: str, answer: int) -> None:
    with WatchBench() as bench:
        watcher = bench.watch()
        watcher.refresh(method=method)
        bench.run(0.1)
        assert watcher.other_responses[-1].status == answer
        assert len(bench.subscriptions) == 1


def test_rfc6665_4_2_1_a_refresh_after_the_end_gets_481() -> None:
    with WatchBench() as bench:
        watcher = bench.watch(expires=60)
        bench.network.drop = lambda sender, receiver, data: data.startswith(b"NOTIFY")
        bench.run(61.0)
        watcher.refresh(600)
        assert status(bench) == 481
        assert len(bench.subscriptions) == 1, "its end is not told yet"


# Who may, and what there is ---------------------------------------------------------------------------------


def test_rfc3261_22_1_a_stranger_is_challenged_and_nothing_is_kept() -> None:
    with WatchBench() as bench:
        for user, to in (("999", "204"), ("999", "998")):
            bench.watcher.subscribe(to, user=user)
            assert status(bench) == 401
            assert bench.gate.endpoint.idle
        assert bench.subscriptions.idle


@pytest.mark.parametrize(
    "event", ["presence", "message-summary", "dialog;call-id=a", "dialog;to-tag=b", "refer"]
)
def test_rfc6665_4_2_1_1_an_unknown_event_gets_489_with_those_that_are_known(event: str) -> None:
    with WatchBench() as bench:
        bench.watcher.subscribe("204", event=event)
        assert status(bench) == 489
        assert bench.watcher.responses[-1].headers.get("Allow-Events") == "dialog"


@pytest.mark.parametrize(
    ("event", "headers", "expected"),
    [
        ("", [], 489),
        (";;", [], 400),
        ("dialog", [("Expires", "soon")], 400),
        ("dialog", [("Accept", "application/pidf+xml")], 406),
        ("dialog", [("Require", "eventlist")], 420),
        ("dialog", [("Contact", "")], 400),
        ("dialog", [("Contact", "<sip:205@192.0.2.25>, <sip:")], 400),
    ],
)
def test_rfc6665_4_2_1_malformed_subscriptions(
    event: str, headers: list[tuple[str, str]], expected: int
) -> None:
    with WatchBench() as bench:
        bench.watcher.subscribe("204", event=event, headers=headers)
        assert status(bench) == expected
        assert bench.subscriptions.idle


def test_rfc4235_3_4_a_line_that_nobody_has_is_404() -> None:
    with WatchBench() as bench:
        for uri in ("sip:299@gate.example.com", "sip:gate.example.com", "tel:299", "urn:service:sos"):
            bench.watcher.subscribe("", uri=uri)
            assert status(bench) == 404


def test_rfc4235_4_1_a_line_named_by_a_tel_uri_has_a_sip_uri() -> None:
    with WatchBench() as bench:
        bench.watcher.subscribe("", uri="tel:204", expires=0)
        assert status(bench) == 200
        assert bench.watcher.told[0].document.get("entity") == "sip:204@192.0.2.1"


def two_groups() -> Snapshot:
    plain = phone_policy()
    groups = [*plain.groups.values(), UserGroup("lab")]
    users = [User("204", "staff"), User("205", "lab", digest_name="ada"), User("206", "lab", enabled=False)]
    return Snapshot(plain.plan, groups, [*users, User("207", "lab")], plain.codes)


@pytest.mark.parametrize(
    ("watching", "seen"),
    [
        (Watching.ALL, {"204", "205", "207", "ada"}),
        (Watching.GROUP, {"205", "207", "ada"}),
        (Watching.OWN, {"205", "ada"}),
    ],
)
def test_who_may_watch_whom(watching: Watching, seen: set[str]) -> None:
    with WatchBench(config=SubscriptionConfig(watching=watching), policy=two_groups()) as bench:
        for user in ("204", "205", "206", "207", "ada"):
            bench.watcher.subscribe(user, expires=0)
            assert status(bench) == (200 if user in seen else 404), user


def test_limits_of_subscriptions() -> None:
    with WatchBench(config=SubscriptionConfig(max_per_user=2, max_subscriptions=3)) as bench:
        for expected in (200, 200, 403):
            bench.watcher.subscribe("204", expires=600)
            assert status(bench) == expected
        bench.watcher.subscribe("204", user="206", expires=600)
        assert status(bench) == 200
        bench.watcher.subscribe("204", user="206", expires=600)
        assert status(bench) == 503
        assert bench.watcher.responses[-1].headers.get("Retry-After") == "60"
        bench.watcher.refresh(0)
        bench.run(0.1)
        bench.watcher.subscribe("204", user="206", expires=600)
        assert status(bench) == 200


def test_rfc6665_4_2_2_a_user_who_is_no_more_watches_nothing_and_is_not_watched() -> None:
    with WatchBench() as bench:
        bench.watch("204")
        bench.watcher.subscribe("206", user="204", expires=600)
        bench.watcher.subscribe("205", user="206", expires=600)
        bench.run(0.1)
        bench.watcher.told.clear()
        plain = bench.core.policy
        bench.core.policy = plain.with_changes(version=2)
        bench.run(1.0)
        more = [*plain.users.values(), User("207", "staff")]
        bench.core.policy = Snapshot(plain.plan, plain.groups.values(), more, plain.codes)
        bench.run(1.0)
        assert bench.watcher.told == []
        users = [User("205", "staff"), User("206", "staff", enabled=False)]
        bench.core.policy = Snapshot(plain.plan, plain.groups.values(), users, plain.codes)
        bench.run(1.0)
        assert sorted(bench.watcher.states) == [
            "terminated;reason=noresource",
            "terminated;reason=rejected",
            "terminated;reason=rejected",
        ]
        assert bench.subscriptions.idle


def test_rfc3261_8_2_1_a_gate_without_phones_takes_no_subscription() -> None:
    with GateBench() as bench:
        for method in ("SUBSCRIBE", "NOTIFY"):
            allow = bench.gate.endpoint.config.allow
            object.__setattr__(bench.gate.endpoint.config, "allow", (*allow, method))
            bench.stranger.send(method)
            bench.run(0.1)
            assert bench.stranger.other_responses[-1].status == 405


def test_rfc6665_4_5_2_the_dialog_of_a_call_holds_no_subscription() -> None:
    with WatchBench() as bench:
        bench.register(bench.desk, "204")
        call = bench.stranger.call("204", caller="206")
        bench.run(6.0)
        for method in ("SUBSCRIBE", "NOTIFY"):
            call.request(method, headers=(("Event", "dialog"),))
            bench.run(0.1)
            assert call.replies[-1].status == 481
        call.bye()


# The way there ----------------------------------------------------------------------------------------------


def test_rfc3581_a_phone_behind_nat_is_told_where_it_asked_from() -> None:
    with WatchBench() as bench:
        phone = bench.watching_phone("10.0.0.5", seen_as=("203.0.113.7", 32000))
        phone.subscribe("204", expires=60)
        bench.run(0.1)
        assert [told.request.uri for told in phone.told] == ["sip:tollgate@10.0.0.5:5060"]
        bench.run(60.0)
        assert phone.states[1:] == ["terminated;reason=timeout"]


def test_rfc6665_4_2_2_a_refresh_tells_the_news_too() -> None:
    with WatchBench() as bench:
        bench.register(bench.desk, "204")
        watcher = bench.watch()
        call = bench.stranger.call("204", caller="206")
        watcher.refresh(600)
        for ua in (bench.stranger, watcher):
            for data, _ in ua.endpoint.transmits():
                bench.gate.endpoint.receive(data, Flow("UDP", *ua.address), bench.now)
                bench.gate.settle(bench.now)
        bench.desk.script = ()
        bench.run(1.0)
        assert watcher.lamps == [["recipient trying"]]
        call.cancel()
        bench.run(1.0)


class TcpPhone:
    """A phone that asks over one connection, then another; its messages are made by hand."""

    def __init__(self, bench: WatchBench) -> None:
        self.bench = bench
        self.sent: list[Transmit] = []
        self.notified: list[Request] = []

    def give(self, text: str, connection: int) -> None:
        bench = self.bench
        flow = Flow("TCP", "192.0.2.2", 40000, 0, connection)
        bench.gate.endpoint.receive(text.encode(), flow, bench.now)
        bench.gate.settle(bench.now)
        self.sent = bench.gate.endpoint.transmits()
        for data, _ in self.sent:
            message = parse_message(data)
            if isinstance(message, Request):
                self.notified.append(message)

    def subscribe(self, connection: int) -> None:
        cseq = str(len(self.notified) + 1)
        text = request(
            "SUBSCRIBE",
            uri="sip:205@gate.example.com",
            via=f"SIP/2.0/TCP 192.0.2.2:5060;branch=z9hG4bK-{connection}",
            to_tag=(self.notified[0].from_.tag or "") if self.notified else "",
            cseq=cseq,
            extra="Event: dialog\r\n",
        )
        self.give(text, connection)

    def lose(self, connection: int) -> None:
        flow = Flow("TCP", "192.0.2.2", 40000, 0, connection)
        self.bench.gate.endpoint.transport_failed(flow, self.bench.now)
        self.bench.gate.settle(self.bench.now)


def test_rfc5626_5_3_a_subscription_ends_with_its_connection() -> None:
    with WatchBench() as bench:
        phone = TcpPhone(bench)
        phone.subscribe(17)
        assert phone.sent[-1].flow.connection == 17
        phone.give(answer(phone.notified[-1], 200), 17)
        phone.subscribe(18)
        assert phone.sent[-1].flow.connection == 18
        phone.give(answer(phone.notified[-1], 200), 18)
        phone.lose(17)
        assert len(bench.subscriptions) == 1
        phone.lose(18)
        assert len(bench.subscriptions) == 0
        assert bench.subscriptions.idle


def test_rfc3261_8_2_2_2_a_subscribe_that_comes_by_two_ways_is_one_subscription() -> None:
    with WatchBench() as bench:
        for number in (1, 2):
            text = request(
                "SUBSCRIBE",
                uri="sip:205@gate.example.com",
                via=f"SIP/2.0/UDP 192.0.2.{number}:5060;branch=z9hG4bK-{number}",
                extra="Event: dialog\r\nExpires: 60\r\n",
            )
            bench.gate.endpoint.receive(text.encode(), Flow("UDP", f"192.0.2.{number}", 5060), bench.now)
            bench.gate.settle(bench.now)
        sent = [data for data, _ in bench.gate.endpoint.transmits()]
        assert [data.split()[1] for data in sent if data.startswith(b"SIP/2.0")] == [b"200", b"482"]
        assert len(bench.subscriptions) == 1


@pytest.mark.parametrize("answered", [True, False])
def test_what_comes_of_a_notify_after_the_connection_is_lost_changes_nothing(*, answered: bool) -> None:
    with WatchBench() as bench:
        phone = TcpPhone(bench)
        phone.subscribe(17)
        phone.subscribe(18)
        assert len(phone.notified) == 1
        phone.lose(18)
        assert len(bench.subscriptions) == 0
        if answered:
            phone.give(answer(phone.notified[0], 200), 17)
        bench.run(40.0)
        assert bench.gate.endpoint.idle


# Whatever comes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_in_whatever_order_things_happen_nothing_is_left(seed: int) -> None:
    """Contract 5: the network loses a quarter of all packets, and phones answer as they like."""
    chance = random.Random(seed)
    with WatchBench(mailboxes="pbx", pbx=True) as bench:
        bench.register(bench.desk, "204")
        bench.network.loss = 0.25
        watchers = [bench.watcher, bench.watching_phone("192.0.2.26")]
        calls: list[UaCall] = []
        for _ in range(80):
            watcher = chance.choice(watchers)
            watcher.answers = [(chance.choice((200, 200, 200, 481, 503, 0)), ())]
            bench.holder.refusals = [(chance.choice((200, 200, 404, 500, 0)), ())]
            event = chance.choice(("dialog", "dialog", "message-summary"))
            expires = chance.choice((0, 60, 300, 30))
            step = chance.randrange(6)
            if step == 0:
                watcher.subscribe(chance.choice(("204", "205")), event=event, expires=expires)
            elif step == 1 and watcher.dialog is not None and not watcher.over:
                watcher.refresh(expires, event=event)
            elif step == 2:
                bench.desk.script = (Step(chance.random(), 180), Step(chance.random(), 200, with_sdp=True))
                calls.append(bench.stranger.call("204", caller="206"))
            elif step == 3 and calls:
                call = calls.pop()
                (call.bye if call.connected else call.cancel)()
            elif step == 4:
                bench.holder.push("205")
            bench.run(chance.choice((0.01, 0.3, 2.0, 40.0)))
        bench.network.loss = 0.0
        bench.run(40.0)
        for call_id in list(bench.core.calls):
            bench.core.hang_up(call_id, bench.now)
        bench.vanished.update((*watchers, bench.holder, bench.stranger, bench.desk))
        bench.run(8000.0)
        assert bench.subscriptions.idle

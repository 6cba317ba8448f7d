"""Message waiting: RFC 3842, RFC 6665 §4.1 (the subscriber)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.call.config import Side, Trunk
from proxy.policy import Snapshot, User
from proxy.sip.digest_client import DigestAccount
from proxy.sip.flow import Flow
from proxy.sip.message import Request
from proxy.sip.parser import parse_message
from tests.call.watching import WatchBench, Watcher
from tests.support.gate import PBX
from tests.support.network import Address

SUMMARY = "application/simple-message-summary"
YES = b"Messages-Waiting: yes\r\nVoice-Message: 2/8 (0/2)\r\n"
NO = b"Messages-Waiting: no\r\n"


class MailBench(WatchBench):
    """The PBX holds the mailboxes."""

    def __init__(self, *, mailboxes: str = "pbx") -> None:
        super().__init__(mailboxes=mailboxes, pbx=True)

    def watch_mail(self, user: str = "205", *, by: Watcher | None = None, expires: int = 600) -> Watcher:
        watcher = by or self.watcher
        watcher.subscribe(user, user=user, event="message-summary", expires=expires)
        self.run(0.1)
        return watcher

    @property
    def expiries(self) -> list[str | None]:
        """What the gate asked the holder for."""
        return [request.headers.get("Expires") for request in self.holder.subscribes]


def bodies(watcher: Watcher) -> list[bytes]:
    return [told.request.body for told in watcher.told]


# A phone subscribes -----------------------------------------------------------------------------------------


def test_rfc3842_3_a_phone_is_told_of_its_mailbox() -> None:
    with MailBench() as bench:
        watcher = bench.watch_mail()
        assert watcher.responses[-1].status == 200
        (subscribe,) = bench.holder.subscribes
        assert subscribe.uri == "sip:205@192.0.2.10:5060"
        assert subscribe.headers.get("Event") == "message-summary"
        assert subscribe.headers.get("Accept") == SUMMARY
        assert bench.holder.replies[-1].status == 200
        assert bodies(watcher) == [b"", NO], "nothing is known at first (RFC 6665 §4.2.1.3)"
        assert watcher.told[1].request.content_type == SUMMARY
        bench.holder.notify(body=YES)
        bench.run(0.1)
        assert bodies(watcher)[2:] == [YES]
        bench.holder.notify(body=YES)
        bench.holder.notify(body=b"")
        bench.run(0.1)
        assert len(watcher.told) == 3, "no news is told to nobody"


def test_the_holder_sees_one_subscription_of_all_phones() -> None:
    with MailBench() as bench:
        second = bench.watching_phone("192.0.2.26")
        bench.watch_mail()
        bench.watch_mail(by=second)
        assert len(bench.holder.subscribes) == 1
        assert bodies(second) == [NO], "what is known is told at once"
        bench.holder.notify(body=YES)
        bench.run(0.1)
        assert bodies(second)[-1] == bodies(bench.watcher)[-1] == YES
        bench.watcher.refresh(0, event="message-summary")
        bench.run(1.0)
        assert bench.expiries == ["3600"]
        second.refresh(0, event="message-summary")
        bench.run(1.0)
        assert bench.expiries == ["3600", "0"], "nobody watches any more"
        assert bench.subscriptions.idle
        assert bench.holder.dialogs == []


def test_rfc3842_5_only_the_own_mailbox_is_shown() -> None:
    with MailBench() as bench:
        bench.watcher.subscribe("204", user="205", event="message-summary")
        bench.run(0.1)
        assert bench.watcher.responses[-1].status == 404
        assert bench.holder.subscribes == []


def test_a_fetch_asks_the_holder_and_lets_go() -> None:
    with MailBench() as bench:
        watcher = bench.watch_mail(expires=0)
        assert watcher.states == ["terminated;reason=timeout"]
        bench.run(1.0)
        assert bench.subscriptions.idle


@pytest.mark.parametrize("mailboxes", ["", "nobody"])
def test_without_a_holder_there_are_no_mailboxes(mailboxes: str) -> None:
    with MailBench(mailboxes=mailboxes) as bench:
        bench.watch_mail()
        assert bench.watcher.responses[-1].status == 489


def test_a_peer_that_only_places_calls_holds_none() -> None:
    with MailBench() as bench:
        config = bench.core.config
        peers = tuple(replace(peer, flow=None) if peer.side is Side.PBX else peer for peer in config.peers)
        bench.core.reconfigure(replace(config, peers=peers))
        bench.watch_mail()
        assert bench.watcher.responses[-1].status == 489


# The gate as subscriber -------------------------------------------------------------------------------------


def test_rfc6665_4_1_2_2_the_subscription_is_refreshed_in_time() -> None:
    with MailBench() as bench:
        bench.holder.granted = 100
        bench.watch_mail(expires=300)
        bench.run(79.0)
        assert bench.expiries == ["3600"]
        bench.run(2.0)
        assert bench.expiries == ["3600", "3600"]
        first, second = bench.holder.subscribes
        assert second.to.tag is not None
        assert (first.cseq.number, second.cseq.number, second.call_id) == (1, 2, first.call_id)
        bench.run(300.0)
        assert bench.expiries[-1] == "0"


def test_rfc3261_12_2_1_1_the_holder_sends_the_gate_to_no_third_party() -> None:
    with MailBench() as bench:
        bench.holder.granted = 100
        bench.holder.contact = [("Contact", "<sip:mail@203.0.113.66>")]
        bench.watch_mail(expires=300)
        bench.run(81.0)
        assert bench.expiries == ["3600", "3600"]
        assert bench.holder.subscribes[1].uri == "sip:mail@203.0.113.66"
        bench.run(300.0)
        assert not bench.network.unroutable


def test_the_expiry_of_the_notify_counts_where_the_200_has_none() -> None:
    with MailBench() as bench:
        bench.holder.granted = None
        bench.watch_mail(expires=60)
        bench.run(1.0)
        bench.run(62.0)
        assert bench.expiries == ["3600", "0"]


def test_rfc6665_4_1_2_4_without_a_notify_it_tries_again() -> None:
    with MailBench() as bench:
        bench.holder.tells = False
        bench.watch_mail()
        bench.run(32.0)
        bench.holder.tells = True
        assert len(bench.holder.subscribes) == 1
        bench.run(32.0)
        assert len(bench.holder.subscribes) == 2
        assert bench.holder.subscribes[0].call_id != bench.holder.subscribes[1].call_id
        assert bodies(bench.watcher)[-1] == NO
        bench.vanished.add(bench.holder)


@pytest.mark.parametrize("status", [0, 480, 500, 503])
def test_rfc6665_4_1_2_3_a_refused_subscription_is_tried_again_ever_later(status: int) -> None:
    with MailBench() as bench:
        bench.holder.refusals = [(status, ())] * 2
        bench.watch_mail()
        bench.run(230.0)
        assert bodies(bench.watcher) == [b"", NO]
        assert len(bench.holder.subscribes) == 3
        bench.vanished.add(bench.holder)


def test_rfc3261_20_33_retry_after_of_the_holder_is_kept() -> None:
    with MailBench() as bench:
        bench.holder.refusals = [(503, (("Retry-After", "200"),))]
        bench.watch_mail()
        bench.run(195.0)
        assert len(bench.holder.subscribes) == 1
        bench.run(10.0)
        assert len(bench.holder.subscribes) == 2


@pytest.mark.parametrize("status", [403, 404, 489])
def test_rfc6665_4_1_2_3_a_mailbox_that_is_not_ends_the_phones_subscription(status: int) -> None:
    with MailBench() as bench:
        bench.holder.refusals = [(status, ())]
        watcher = bench.watch_mail()
        bench.run(1.0)
        assert watcher.states == ["active;expires=600", "terminated;reason=noresource"]
        assert bench.subscriptions.idle


def test_rfc6665_4_1_2_2_a_refresh_that_finds_no_dialog_begins_anew() -> None:
    with MailBench() as bench:
        bench.holder.granted = 60
        bench.watch_mail()
        bench.holder.refusals = [(481, ())]
        bench.run(90.0)
        assert len({request.call_id for request in bench.holder.subscribes}) == 2
        bench.vanished.add(bench.holder)


@pytest.mark.parametrize(
    ("state", "wait", "gone"),
    [
        ("terminated;reason=deactivated", 30, False),
        ("terminated;reason=probation;retry-after=100", 100, False),
        ("terminated", 30, False),
        ("terminated;reason=noresource", 0, True),
        ("terminated;reason=rejected", 0, True),
    ],
)
def test_rfc6665_4_1_3_the_holder_ends_it(state: str, wait: int, *, gone: bool) -> None:
    with MailBench() as bench:
        watcher = bench.watch_mail()
        bench.holder.notify(state, body=YES)
        bench.holder.endpoint.terminate(bench.holder.dialogs.pop())
        bench.run(0.5)
        if gone:
            assert watcher.states[-1] == "terminated;reason=noresource"
        else:
            assert bodies(watcher)[-1] == YES, "what it said last still counts"
            bench.run(wait - 2.0)
            assert len(bench.holder.subscribes) == 1
            bench.run(3.0)
            assert len(bench.holder.subscribes) == 2


@pytest.mark.parametrize(
    ("event", "state", "content_type", "body", "status"),
    [
        ("message-summary", "pending", SUMMARY, YES, 200),
        ("dialog", "active", SUMMARY, YES, 489),
        ("", "active", SUMMARY, YES, 489),
        ("message-summary", "", SUMMARY, YES, 400),
        ("message-summary", "active", "text/html", YES, 415),
        ("message-summary", "active", SUMMARY, b"x" * 4097, 413),
    ],
)
def test_rfc6665_4_1_3_notifications_of_the_holder(
    event: str, state: str, content_type: str, body: bytes, status: int
) -> None:
    with MailBench() as bench:
        watcher = bench.watch_mail()
        bench.holder.notify(state, event=event, content_type=content_type, body=body)
        bench.run(0.5)
        assert bench.holder.replies[-1].status == status
        assert bodies(watcher)[2:] == ([YES] if status == 200 else [])


def test_rfc5057_5_3_other_requests_of_the_holder_get_481() -> None:
    with MailBench() as bench:
        bench.watch_mail()
        bench.holder.endpoint.request(bench.holder.dialogs[-1], "OPTIONS", now=bench.now)
        bench.run(0.5)
        assert bench.holder.other_responses[-1].status == 481


@pytest.mark.parametrize("answer", [200, 481, 0])
def test_however_the_holder_takes_the_end_nothing_is_left(answer: int) -> None:
    with MailBench() as bench:
        watcher = bench.watch_mail()
        bench.holder.refusals = [(answer, ())] if answer != 200 else []
        watcher.refresh(0, event="message-summary")
        bench.run(40.0)
        assert bench.subscriptions.idle
        if answer != 200:
            bench.vanished.add(bench.holder)


def test_a_holder_that_tells_no_end_is_left_after_a_while() -> None:
    with MailBench() as bench:
        watcher = bench.watch_mail()
        bench.network.drop = lambda sender, receiver, data: sender == PBX and data.startswith(b"NOTIFY")
        watcher.refresh(0, event="message-summary")
        bench.run(1.0)
        assert not bench.subscriptions.idle
        bench.run(35.0)
        assert bench.subscriptions.idle


def test_who_comes_back_while_the_gate_is_leaving_gets_a_new_subscription() -> None:
    with MailBench() as bench:
        watcher = bench.watch_mail()
        bench.holder.refusals = [(0, ())]
        watcher.refresh(0, event="message-summary")
        bench.run(0.1)
        bench.watch_mail()
        assert bodies(watcher)[-1] == NO
        bench.run(40.0)
        assert bench.expiries[:1] == ["3600"]
        assert bench.expiries[-1] == "3600"
        assert len({request.call_id for request in bench.holder.subscribes}) == 2
        bench.vanished.add(bench.holder)


def test_who_leaves_before_the_holder_has_answered_leaves_nothing() -> None:
    with MailBench() as bench:
        bench.holder.refusals = [(0, ())]
        watcher = bench.watch_mail()
        watcher.refresh(0, event="message-summary")
        bench.run(1.0)
        assert bench.subscriptions.idle
        bench.vanished.add(bench.holder)


def test_who_leaves_before_the_holders_200_arrives_leaves_nothing() -> None:
    with MailBench() as bench:
        bench.network.drop = lambda sender, receiver, data: sender == PBX
        watcher = bench.watch_mail()
        watcher.refresh(0, event="message-summary")
        bench.run(0.2)
        bench.network.drop = None
        bench.run(2.0)
        assert [response.status for response in bench.holder.replies] == [481]
        assert bench.subscriptions.idle
        bench.vanished.add(bench.holder)


def test_rfc3261_22_2_a_trunk_that_challenges_gets_the_credentials_of_its_account() -> None:
    with MailBench() as bench:
        account = DigestAccount("gate", "secret", ("pbx",))
        trunk = Trunk("voicemail", (Flow("UDP", *PBX),), "mail.example.com", account=account)
        config = replace(bench.core.config, trunks=(*bench.core.config.trunks, trunk), mailboxes="voicemail")
        bench.core.reconfigure(config)
        challenge = ("WWW-Authenticate", 'Digest realm="pbx", nonce="n1", qop="auth", algorithm=MD5')
        bench.holder.refusals = [(401, (challenge,))]
        bench.holder.granted = 60
        watcher = bench.watch_mail(expires=120)
        assert bodies(watcher) == [b"", NO]
        first, second = bench.holder.subscribes
        assert first.uri == "sip:205@mail.example.com"
        assert first.headers.get("Authorization") is None
        assert 'username="gate"' in str(second.headers.get("Authorization"))
        assert (second.call_id, second.from_.tag) == (first.call_id, first.from_.tag)
        other = ("WWW-Authenticate", 'Digest realm="pbx", nonce="n2", qop="auth", algorithm=MD5')
        bench.holder.refusals = [(401, (other,))]
        bench.run(50.0)
        assert 'nonce="n2"' in str(bench.holder.subscribes[-1].headers.get("Authorization"))
        other = ("WWW-Authenticate", 'Digest realm="pbx", nonce="n3", qop="auth", algorithm=MD5')
        bench.holder.refusals = [(401, (other,))]
        watcher.refresh(0, event="message-summary")
        bench.run(1.0)
        assert bench.expiries[-2:] == ["0", "0"]
        assert bench.subscriptions.idle


def test_a_trunk_whose_name_is_not_resolved_yet_is_tried_later() -> None:
    with MailBench() as bench:
        trunk = Trunk("voicemail", (), "mail.example.com")
        config = replace(bench.core.config, trunks=(*bench.core.config.trunks, trunk), mailboxes="voicemail")
        bench.core.reconfigure(config)
        watcher = bench.watch_mail()
        assert bodies(watcher) == [b""]
        trunk = replace(trunk, flows=(Flow("UDP", *PBX),))
        bench.core.reconfigure(replace(config, trunks=(*bench.core.config.trunks[:-1], trunk)))
        bench.run(31.0)
        assert bodies(watcher)[1:] == [NO]


def test_another_holder_lets_the_phones_ask_anew() -> None:
    with MailBench() as bench:
        watcher = bench.watch_mail()
        bench.core.reconfigure(replace(bench.core.config, site="the same"))
        bench.run(1.0)
        assert len(watcher.told) == 2
        bench.core.reconfigure(replace(bench.core.config, mailboxes=""))
        bench.run(1.0)
        assert watcher.states[-1] == "terminated;reason=deactivated"
        assert bench.expiries == ["3600", "0"]
        assert bench.subscriptions.idle


# The holder pushes ------------------------------------------------------------------------------------------


def pushed(bench: MailBench) -> list[tuple[Address, Request]]:
    """NOTIFYs that the gate sends from now on."""
    sent: list[tuple[Address, Request]] = []

    def note(at: float, sender: Address, receiver: Address, data: bytes) -> None:
        if sender == ("192.0.2.1", 5060) and data.startswith(b"NOTIFY"):
            message = parse_message(data)
            assert isinstance(message, Request)
            sent.append((receiver, message))

    bench.network.trace = note
    return sent


def test_rfc3842_3_9_what_the_holder_pushes_reaches_the_users_phones() -> None:
    with MailBench() as bench:
        bench.register(bench.desk, "204", headers=["Path: <sip:192.0.2.24;lr>", "Supported: path"])
        sent = pushed(bench)
        bench.holder.push("204", body=YES)
        bench.run(0.1)
        assert bench.holder.replies[-1].status == 200
        ((receiver, notify),) = sent
        assert receiver == bench.desk.address
        assert (notify.uri, notify.body) == ("sip:204@192.0.2.24:5060", YES)
        assert notify.headers.get("Route") == "<sip:192.0.2.24;lr>"
        assert notify.headers.get("Subscription-State") == "terminated"


def test_a_phone_that_has_subscribed_is_told_once() -> None:
    with MailBench() as bench:
        bench.watch_mail()
        bench.register(bench.watcher, "205", contact="<sip:205@192.0.2.25:5060>")
        other = bench.phone("192.0.2.77")
        bench.register(other, "205", contact="<sip:205@192.0.2.77:5060>")
        sent = pushed(bench)
        bench.holder.push("205", body=YES)
        bench.run(1.0)
        assert sorted((receiver[0], notify.to.tag is not None) for receiver, notify in sent) == [
            ("192.0.2.25", True),
            ("192.0.2.77", False),
        ]
        assert bodies(bench.watcher)[-1] == YES


@pytest.mark.parametrize(
    ("user", "event", "state", "content_type", "status"),
    [
        ("204", "message-summary", "active", SUMMARY, 480),
        ("299", "message-summary", "active", SUMMARY, 404),
        ("206", "message-summary", "active", SUMMARY, 404),
        ("204", "dialog", "active", SUMMARY, 489),
        ("204", "", "active", SUMMARY, 489),
        ("204", "message-summary", "", SUMMARY, 400),
        ("204", "message-summary", "active", "text/plain", 415),
    ],
)
def test_what_the_holder_may_not_push(
    user: str, event: str, state: str, content_type: str, status: int
) -> None:
    with MailBench() as bench:
        plain = bench.core.policy
        users = [*plain.users.values(), User("206", "staff", enabled=False)]
        bench.core.policy = Snapshot(plain.plan, plain.groups.values(), users, plain.codes)
        bench.holder.push(user, event=event, state=state, content_type=content_type)
        bench.run(0.1)
        assert bench.holder.replies[-1].status == status


def test_rfc6665_4_1_3_a_strangers_notify_finds_no_subscription() -> None:
    with MailBench() as bench:
        bench.register(bench.desk, "204")
        bench.stranger.send("NOTIFY", "sip:204@gate.example.com", [("Event", "message-summary")])
        bench.run(0.1)
        assert bench.stranger.other_responses[-1].status == 481
        bench.core.reconfigure(replace(bench.core.config, mailboxes=""))
        bench.holder.push("204")
        bench.run(0.1)
        assert bench.holder.replies[-1].status == 481

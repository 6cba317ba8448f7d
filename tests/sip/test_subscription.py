"""SUBSCRIBE and NOTIFY: their values, and the dialogs they make (RFC 6665)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.errors import LocalProtocolError, RemoteProtocolError
from proxy.sip.config import ALLOW, EndpointConfig
from proxy.sip.events import CallEnded, DialogEnded, RequestReceived, ResponseReceived
from proxy.sip.inspection import Refusal
from proxy.sip.message import Request
from proxy.sip.parser import parse_message
from proxy.sip.subscription import (
    EventType,
    Interval,
    SubscriptionState,
    SubscriptionStatus,
    accepts,
)
from tests.sip.harness import LISTEN_POINTS, TCP, UDP, Harness, answer, request

CONFIG = EndpointConfig(LISTEN_POINTS)


def subscribe(**kwargs: str) -> Request:
    message = parse_message(request("SUBSCRIBE", **kwargs).encode())
    assert isinstance(message, Request)
    return message


def event_of(value: str) -> EventType:
    return EventType.of(subscribe(extra=f"Event: {value}\r\n"))


# Values -----------------------------------------------------------------------------------------------------


def test_rfc6665_8_2_1_the_event_header() -> None:
    assert event_of("dialog") == EventType("dialog")
    assert event_of("message-summary ; id=7;call-id=x") == EventType(
        "message-summary", "7", frozenset({"call-id"})
    )
    assert event_of("presence.winfo").package == "presence.winfo"
    assert EventType.of(subscribe(extra="o: dialog\r\n")) == EventType("dialog"), "its compact form"
    assert str(event_of("dialog;id=a1")) == "dialog;id=a1"
    assert str(event_of("dialog;sla")) == "dialog"


@pytest.mark.parametrize(
    "lines",
    [
        "Event: \r\n",
        "Event: dia log\r\n",
        "Event: .\r\n",
        "Event: dialog;id\r\nEvent: dialog\r\n",
        "Event: dialog;id=\r\n",
        "Event: dialog;id=1;id=2\r\n",
        f"Event: dialog;id={'x' * 129}\r\n",
    ],
)
def test_rfc6665_8_2_1_a_malformed_event_gets_400(lines: str) -> None:
    with pytest.raises(RemoteProtocolError) as error:
        EventType.of(subscribe(extra=lines))
    assert error.value.status_hint == 400


def test_rfc6665_7_2_1_without_an_event_there_is_nothing_to_subscribe_to() -> None:
    with pytest.raises(RemoteProtocolError) as error:
        EventType.of(subscribe())
    assert error.value.status_hint == 489


def state_of(value: str) -> SubscriptionState:
    return SubscriptionState.of(subscribe(extra=f"Subscription-State: {value}\r\n"))


def test_rfc6665_8_2_3_the_subscription_state() -> None:
    active = SubscriptionState(SubscriptionStatus.ACTIVE, 600)
    assert state_of("active;expires=600") == active
    assert str(active) == "active;expires=600"
    ended = SubscriptionState(SubscriptionStatus.TERMINATED, reason="probation", retry_after=30)
    assert state_of('Terminated ; reason="Probation";retry-after=30') == ended
    assert str(ended) == "terminated;reason=probation;retry-after=30"
    assert state_of("pending").status is SubscriptionStatus.PENDING
    assert state_of("whatever;expires=soon") == SubscriptionState(SubscriptionStatus.ACTIVE)


@pytest.mark.parametrize("value", ["", "act ive", "active;;", ";expires=1", 'active;reason="x'])
def test_rfc6665_8_2_3_a_malformed_subscription_state_gets_400(value: str) -> None:
    with pytest.raises(RemoteProtocolError) as error:
        state_of(value)
    assert error.value.status_hint == 400


def granted(expires: str | None, interval: Interval | None = None) -> int | Refusal:
    extra = "" if expires is None else f"Expires: {expires}\r\n"
    return (interval or Interval()).granted(subscribe(extra=extra))


def test_rfc6665_4_2_1_1_intervals() -> None:
    assert granted(None) == 3600
    assert granted("600") == 600
    assert granted("0") == 0
    assert granted("60") == 60
    assert granted("59") == Refusal(423, (("Min-Expires", "60"),))
    assert granted("99999999999999999999999") == 7200
    lazy = Interval(default=7200, shortest=7000, longest=8000)
    assert granted("3600", lazy) == 3600, "an hour is never too brief"
    assert granted("3599", lazy) == Refusal(423, (("Min-Expires", "7000"),))
    for text in ("", "-1", "1.5", "soon", "٣"):
        with pytest.raises(RemoteProtocolError) as error:
            granted(text)
        assert error.value.status_hint == 400


def test_rfc3261_20_1_which_bodies_a_subscriber_takes() -> None:
    kind = "application/dialog-info+xml"
    assert accepts(subscribe(), kind)
    for value in (kind, "text/plain, Application/Dialog-Info+XML;q=0.5", "application/*", "*/*"):
        assert accepts(subscribe(extra=f"Accept: {value}\r\n"), kind)
    assert accepts(subscribe(extra=f"Accept: text/plain\r\nAccept: {kind}\r\n"), kind)
    for value in ("application/pidf+xml", "text/*"):
        assert not accepts(subscribe(extra=f"Accept: {value}\r\n"), kind)


# The gate as notifier ---------------------------------------------------------------------------------------


def received(harness: Harness) -> RequestReceived:
    return harness.take(RequestReceived)


def test_rfc6665_4_2_1_3_a_2xx_to_subscribe_makes_a_dialog() -> None:
    harness = Harness(CONFIG)
    harness.receive(request("SUBSCRIBE", extra="Record-Route: <sip:192.0.2.7;lr>\r\nEvent: dialog\r\n"))
    event = received(harness)
    dialog = harness.endpoint.respond(event.transaction, 200, headers=(("Expires", "60"),), now=harness.now)
    assert dialog is not None
    response = harness.last().response
    assert response.headers.get("Contact") == "<sip:tollgate@192.0.2.1:5060>"
    assert response.headers.get("Record-Route") == "<sip:192.0.2.7;lr>"
    dialog.symmetric = True
    harness.endpoint.request(dialog, "NOTIFY", headers=(("Event", "dialog"),), now=harness.now)
    notify = harness.last().request
    assert notify.uri == "sip:204@192.0.2.2:5060"
    assert notify.headers.get("Route") == "<sip:192.0.2.7;lr>"
    assert notify.headers.get("Contact") == "<sip:tollgate@192.0.2.1:5060>"
    assert (notify.cseq.number, notify.to.tag) == (1, "peer")
    # RFC 6665 §3.2: its 2xx refreshes the target, as does a SUBSCRIBE within the dialog.
    harness.receive(answer(notify, 200, contact="<sip:204@192.0.2.2:5070>"))
    assert harness.take(ResponseReceived).dialog is dialog
    assert dialog.remote_target == "sip:204@192.0.2.2:5070"
    tag = dialog.local_tag
    refresh = request(
        "SUBSCRIBE", to_tag=tag, cseq="2", branch="z9hG4bK-2", contact="<sip:204@192.0.2.2:5080>"
    )
    harness.receive(refresh)
    event = received(harness)
    assert event.dialog is dialog
    assert harness.endpoint.respond(event.transaction, 200, now=harness.now) is None
    assert dialog.remote_target == "sip:204@192.0.2.2:5080"
    harness.endpoint.terminate(dialog)
    harness.receive(request("SUBSCRIBE", to_tag=tag, cseq="3", branch="z9hG4bK-3"))
    assert harness.take_sent()[-1] == "481"
    harness.assert_nothing_left()


def test_rfc6665_4_2_1_a_refused_subscribe_makes_no_dialog() -> None:
    harness = Harness(CONFIG)
    harness.receive(request("SUBSCRIBE"))
    assert harness.endpoint.respond(received(harness).transaction, 489, now=harness.now) is None
    assert harness.last().response.headers.get("Contact") is None
    harness.assert_nothing_left()


@pytest.mark.parametrize("method", ["BYE", "INVITE", "INFO", "UPDATE"])
def test_rfc5057_5_3_requests_of_calls_mean_nothing_in_a_subscription(method: str) -> None:
    harness = Harness(CONFIG)
    harness.receive(request("SUBSCRIBE"))
    dialog = harness.endpoint.respond(received(harness).transaction, 200, now=harness.now)
    assert dialog is not None
    harness.receive(request(method, to_tag=dialog.local_tag, cseq="2", branch="z9hG4bK-2"))
    assert harness.take_sent()[-1] == "481"
    harness.endpoint.request(dialog, "NOTIFY", now=harness.now)
    assert harness.take_sent() == ["NOTIFY"], "the subscription goes on"
    harness.endpoint.terminate(dialog)
    harness.settle()
    harness.take_all()
    harness.assert_nothing_left()


def test_rfc6665_4_2_a_lost_connection_leaves_the_subscription_to_the_tu() -> None:
    harness = Harness(CONFIG)
    harness.receive(request("SUBSCRIBE", via="SIP/2.0/TCP 192.0.2.2:5060;branch=z9hG4bK-1"), TCP)
    dialog = harness.endpoint.respond(received(harness).transaction, 200, now=harness.now)
    assert dialog is not None
    harness.endpoint.transport_failed(TCP, harness.now)
    harness.drain()
    assert harness.lost == [TCP]
    assert dialog.flow.connection == 0
    harness.endpoint.terminate(dialog)
    harness.assert_nothing_left()


# In the dialog of a call ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ours", [True, False])
def test_rfc5057_4_1_a_subscription_in_the_dialog_of_a_call_outlives_the_bye(ours: bool) -> None:
    harness = Harness(CONFIG)
    dialog = harness.accepted().dialog
    assert dialog is not None
    harness.endpoint.share(dialog)
    tag = dialog.local_tag
    if ours:
        harness.endpoint.request(dialog, "BYE", now=harness.now)
        assert dialog.ends_call
        harness.receive(answer(harness.last().request, 200))
        assert [type(event) for event in harness.take_all()] == [ResponseReceived, CallEnded]
    else:
        harness.receive(request("BYE", to_tag=tag, cseq="2", branch="z9hG4bK-2"))
        harness.respond(received(harness).transaction, 200)
        assert harness.take(CallEnded).dialog is dialog
    assert not dialog.ends_call
    harness.take_sent()
    # What belongs to the call is over, what belongs to the subscription is not.
    harness.receive(request("INFO", to_tag=tag, cseq="3", branch="z9hG4bK-3"))
    assert harness.take_sent() == ["481"]
    with pytest.raises(LocalProtocolError):
        harness.endpoint.request(dialog, "INVITE", now=harness.now)
    harness.receive(request("SUBSCRIBE", to_tag=tag, cseq="4", branch="z9hG4bK-4"))
    event = received(harness)
    assert event.dialog is dialog
    harness.respond(event.transaction, 200)
    harness.endpoint.request(dialog, "NOTIFY", now=harness.now)
    assert harness.take_sent() == ["200", "NOTIFY"]
    harness.endpoint.part(dialog)
    assert harness.take(DialogEnded).dialog is dialog
    harness.receive(request("SUBSCRIBE", to_tag=tag, cseq="5", branch="z9hG4bK-5"))
    assert harness.take_sent() == ["481"]
    with pytest.raises(LocalProtocolError):
        harness.endpoint.request(dialog, "NOTIFY", now=harness.now)
    harness.settle()
    harness.take_all()
    harness.assert_nothing_left()


def test_rfc5057_4_2_the_last_of_several_subscriptions_ends_the_dialog() -> None:
    harness = Harness(CONFIG)
    dialog = harness.accepted().dialog
    assert dialog is not None
    for _ in range(2):
        harness.endpoint.share(dialog)
    harness.endpoint.part(dialog)
    assert not harness.take_all(), "the call goes on"
    harness.receive(request("BYE", to_tag=dialog.local_tag, cseq="2", branch="z9hG4bK-2"))
    bye = received(harness).transaction
    assert dialog.ends_call
    harness.respond(bye, 200)
    harness.take(CallEnded)
    harness.endpoint.part(dialog)
    harness.take(DialogEnded)
    harness.assert_nothing_left()


def test_rfc5057_4_2_a_subscription_that_ends_before_the_bye_is_answered_leaves_the_rest_to_it() -> None:
    harness = Harness(CONFIG)
    dialog = harness.accepted().dialog
    assert dialog is not None
    harness.endpoint.share(dialog)
    harness.endpoint.request(dialog, "BYE", now=harness.now)
    bye = harness.last().request
    harness.endpoint.part(dialog)
    assert not harness.take_all()
    harness.receive(answer(bye, 200))
    assert [type(event) for event in harness.take_all()] == [ResponseReceived, DialogEnded]
    harness.assert_nothing_left()


# The gate as subscriber -------------------------------------------------------------------------------------


def subscribed(harness: Harness, owner: object = None) -> Request:
    harness.endpoint.send_request(
        "SUBSCRIBE",
        "sip:204@pbx.example.com",
        from_="<sip:204@pbx.example.com>",
        route=("<sip:192.0.2.7;lr>",),
        flow=UDP,
        owner=owner,
        now=harness.now,
    )
    return harness.last().request


def notify_of(
    sent: Request, *, from_tag: str = "peer", cseq: str = "1", branch: str = "n1", **kwargs: str
) -> str:
    return request(
        "NOTIFY",
        call_id=sent.call_id,
        to_tag=sent.from_.tag or "",
        from_tag=from_tag,
        cseq=cseq,
        branch=f"z9hG4bK-{branch}",
        **kwargs,
    )


def test_rfc6665_4_4_1_the_first_notify_makes_the_dialog() -> None:
    harness = Harness(CONFIG)
    owner = object()
    sent = subscribed(harness, owner)
    assert sent.headers.get("Route") == "<sip:192.0.2.7;lr>"
    record = "Record-Route: <sip:192.0.2.8;lr>\r\nRecord-Route: <sip:192.0.2.9;lr>\r\n"
    # It may overtake the 2xx.
    harness.receive(notify_of(sent, extra=record, cseq="7", contact="<sip:mail@192.0.2.2:5090>"))
    event = received(harness)
    dialog = event.dialog
    assert dialog is not None
    assert dialog.owner is owner
    harness.endpoint.respond(event.transaction, 200, now=harness.now)
    assert harness.last().response.headers.get("Contact") == "<sip:tollgate@192.0.2.1:5060>"
    harness.receive(answer(sent, 200, to_tag="peer"))
    assert harness.take(ResponseReceived).dialog is None
    dialog.symmetric = True
    harness.endpoint.request(dialog, "SUBSCRIBE", now=harness.now)
    refresh = harness.last().request
    assert (refresh.cseq.number, refresh.uri) == (2, "sip:mail@192.0.2.2:5090")
    assert refresh.headers.get_all("Route") == ["<sip:192.0.2.8;lr>", "<sip:192.0.2.9;lr>"]
    harness.receive(notify_of(sent, cseq="7", branch="n2"))
    assert harness.take_sent()[-1] == "500", "its CSeq counts on from the first"
    harness.endpoint.terminate(dialog)
    harness.settle()
    harness.take_all()
    harness.assert_nothing_left()


def test_rfc6665_4_1_2_4_a_second_fork_gets_481() -> None:
    harness = Harness(CONFIG)
    sent = subscribed(harness)
    harness.receive(notify_of(sent, contact=""))
    first = received(harness).dialog
    assert first is not None
    assert first.remote_target == "sip:204@example.com", "without a Contact its From is the best guess"
    harness.receive(notify_of(sent, from_tag="fork", branch="n2"))
    assert harness.take_sent()[-1] == "481"
    harness.endpoint.terminate(first)


def test_rfc6665_4_1_2_4_without_a_notify_the_tu_gives_up() -> None:
    harness = Harness(CONFIG)
    sent = subscribed(harness)
    harness.receive(answer(sent, 200))
    harness.take(ResponseReceived)
    harness.settle()
    assert not harness.endpoint.idle, "it is still awaited"
    assert sent.from_.tag is not None
    harness.endpoint.await_no_notify(sent.call_id, sent.from_.tag)
    harness.receive(notify_of(sent))
    assert harness.take_sent()[-1] == "481"
    harness.assert_nothing_left()


@pytest.mark.parametrize("failure", ["refused", "unanswered", "unsent"])
def test_rfc6665_4_1_2_1_a_subscribe_that_fails_awaits_nothing(failure: str) -> None:
    harness = Harness(CONFIG)
    sent = subscribed(harness)
    if failure == "refused":
        harness.receive(answer(sent, 489))
    elif failure == "unsent":
        harness.endpoint.transport_failed(UDP, harness.now)
    harness.settle()
    assert len(harness.take_all()) == 1
    harness.receive(notify_of(sent))
    assert harness.take_sent()[-1] == "481"
    harness.assert_nothing_left()


def test_rfc3261_8_2_1_a_notify_that_is_not_taken_makes_no_dialog() -> None:
    harness = Harness(replace(CONFIG, allow=tuple(method for method in ALLOW if method != "NOTIFY")))
    sent = subscribed(harness)
    harness.take_sent()
    harness.receive(notify_of(sent))
    # What is not taken is refused before anybody looks for its dialog.
    assert harness.take_sent() == ["481"]
    harness.settle()
    harness.take_all()

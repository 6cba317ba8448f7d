"""503 for want of time: RFC 3261 §21.5.4, stateless (§8.2.7)."""

from __future__ import annotations

import pytest

from proxy.sip import declined
from proxy.sip.events import RequestReceived
from tests.sip.harness import UDP, Harness, request


def declines(harness: Harness, message: str, *, spared: str = "") -> bool:
    return harness.endpoint.decline(message.encode(), UDP, lambda uri: uri != spared, harness.now)


def test_a_new_call_gets_503_without_retry_after_and_nothing_is_kept() -> None:
    harness = Harness()
    assert declines(harness, request("REGISTER"))
    assert declines(harness, request("INVITE"))
    harness.drain()
    _, sent = harness.sent
    assert sent.response.status == 503
    assert "Retry-After" not in sent.response.headers
    assert (sent.response.to.tag or "").startswith("declined.")
    assert harness.endpoint.idle
    harness.sent.clear()
    harness.receive(request("ACK", to_tag=sent.response.to.tag or ""))
    harness.assert_quiet()


def test_rfc3261_8_2_7_a_retransmission_of_what_was_declined_is_declined_and_another_try_taken() -> None:
    harness = Harness()
    assert declines(harness, request("INVITE"))
    harness.drain()
    harness.receive(request("INVITE"))
    first, again = harness.sent
    assert again.data == first.data
    assert harness.endpoint.idle
    harness.receive(request("INVITE", branch="z9hG4bKanother"))
    harness.take(RequestReceived)


def test_declined_requests_are_remembered_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declined, "MOST", 2)
    harness = Harness()
    messages = [request("INVITE", branch=f"z9hG4bK{number}") for number in range(5)]
    assert all(declines(harness, message) for message in messages)
    harness.drain()
    harness.sent.clear()
    for message in messages[2:]:
        harness.receive(message)
    assert [sent.response.status for sent in harness.sent] == [503] * 3
    assert harness.endpoint.idle
    harness.receive(messages[0])
    harness.take(RequestReceived)


@pytest.mark.parametrize(("seconds", "is_taken"), [(31, False), (64, True), (1_000, True)])
def test_a_branch_is_free_again_when_what_was_declined_can_not_be_repeated_any_more(
    seconds: float, *, is_taken: bool
) -> None:
    harness = Harness()
    assert declines(harness, request("OPTIONS"))
    harness.clock.now += 20
    assert declines(harness, request("OPTIONS", branch="z9hG4bKsecond"))
    harness.drain()
    harness.clock.now += seconds
    harness.receive(request("OPTIONS", branch="z9hG4bKsecond"))
    assert len(harness.events) == is_taken
    harness.clock.now += 1e6
    harness.receive(request("OPTIONS"))
    harness.take(RequestReceived)


@pytest.mark.parametrize(
    "message",
    [
        request("ACK"),
        request("CANCEL"),
        request("BYE", to_tag="ours"),
        request("INVITE", to_tag="ours"),
        request("INVITE", via="SIP/2.0/UDP"),
        request("INVITE", cseq="one"),
        request("INVITE").replace("CSeq: 1 INVITE", "CSeq: 1 OPTIONS"),
        request("INVITE").replace("From:", "Frame:"),
        request("INVITE").replace("Call-ID:", "Call:"),
        request("INVITE").replace("To:", "Too:"),
        request("INVITE").replace("Content-Length: 0", "Content-Length: none"),
        "SIP/2.0 200 OK\r\n\r\n",
        "INVITE",
        "\r\n\r\n",
    ],
)
def test_nothing_else_is_declined(message: str) -> None:
    harness = Harness()
    assert not declines(harness, message)
    harness.assert_quiet()


@pytest.mark.parametrize("method", ["SUBSCRIBE", "PUBLISH", "MESSAGE", "BYE", "FOO"])
def test_whatever_else_begins_is_declined_whatever_it_is(method: str) -> None:
    harness = Harness()
    assert declines(harness, request(method))
    assert harness.last().response.status == 503
    assert harness.endpoint.idle


def test_a_name_with_a_tag_in_it_is_no_dialog() -> None:
    harness = Harness()
    assert declines(harness, request("INVITE").replace("To: ", 'To: "Vintage" '))
    assert harness.last().response.to.display_name == "Vintage"


def test_a_call_for_help_is_spared() -> None:
    harness = Harness()
    assert not declines(harness, request("INVITE", uri="sip:911@192.0.2.1"), spared="sip:911@192.0.2.1")
    harness.assert_quiet()


def test_an_invite_that_was_taken_already_is_a_retransmission() -> None:
    harness = Harness()
    harness.invited()
    assert not declines(harness, request("INVITE"))
    harness.assert_quiet()

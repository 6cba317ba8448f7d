"""503 for want of time: RFC 3261 §21.5.4, stateless (§8.2.7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.sip import declining
from proxy.sip.declining import declinable, plainly_declinable
from proxy.sip.events import RequestReceived
from proxy.sip.message import Request
from proxy.sip.parser import parse_datagram
from tests.sip.harness import TCP, UDP, Harness, request


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
    monkeypatch.setattr(declining, "MOST", 2)
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


HERE = "SIP/2.0/UDP 192.0.2.2"
BRANCH = "branch=z9hG4bK-1"


@pytest.mark.parametrize(
    "via",
    [
        f"{HERE}:5060;{BRANCH};rport",
        f"{HERE}:5060;rport;{BRANCH}",
        f"{HERE}:5062;{BRANCH}",
        f"{HERE};{BRANCH}",
        f"SIP/2.0/UDP pbx.Example.com:5070;{BRANCH}",
        f"SIP/2.0/UDP pbx.example.com;rport;{BRANCH}",
    ],
)
@pytest.mark.parametrize(
    "further", ["", 'Via: SIP/2.0/TCP 10.0.0.1;branch=z9hG4bKa, SIP/2.0/UDP b;x="y"\r\n']
)
def test_what_nearly_everybody_writes_is_declined_without_being_parsed(via: str, further: str) -> None:
    data = request("INVITE", via=via, extra=f"{further}User-Agent: \xe9\r\n").encode()
    plain = plainly_declinable(data, UDP)
    assert plain is not None
    parsed = parse_datagram(data)
    assert isinstance(parsed, Request)
    assert plain == declinable(parsed, UDP)
    response = parse_datagram(plain.response())
    assert response is not None
    assert len(response.headers.get_all("Via")) == (2 if further else 1)


@pytest.mark.parametrize(
    "data",
    [
        request("INVITE", via=f"{HERE};{BRANCH};received=192.0.2.9"),
        request("INVITE", via=f"{HERE};{BRANCH};rport=5"),
        request("INVITE", via=f"{HERE};branch=1"),
        request("INVITE", via=f"{HERE}, {HERE};{BRANCH}"),
        request("INVITE", via=f"SIP/2.0/TCP 192.0.2.2;{BRANCH}"),
        request("INVITE", to_tag="ours"),
        request("ACK"),
        request("CANCEL"),
        request("INVITE", cseq="01"),
        request("INVITE").replace("CSeq: 1 INVITE", "CSeq: 1 OPTIONS"),
        request("INVITE").replace("SIP/2.0\r\nVia", "SIP/3.0\r\nVia"),
        request("INVITE").replace("From:", "f:"),
        request("INVITE").replace("Call-ID:", "CALL-ID:"),
        request("INVITE", extra="To: <sip:1@x>\r\n"),
        request("INVITE", extra="v: SIP/2.0/UDP b\r\n"),
        request("INVITE", extra="X: 1\r\n folded\r\n"),
        request("INVITE").replace("To: ", "To:\n"),
        request("INVITE", extra="X: " + 4_096 * "x" + "\r\n"),
        request("INVITE").rstrip(),
        "SIP/2.0 200 OK\r\n\r\n",
    ],
)
def test_whatever_else_it_is_has_to_be_parsed(data: str) -> None:
    assert plainly_declinable(data.encode(), UDP) is None
    assert plainly_declinable(request("INVITE").encode(), TCP) is None


_PIECES = st.sampled_from(
    [
        "\r\n",
        "\n",
        "\r",
        " ",
        "\t",
        ";rport",
        ";tag=x",
        ",",
        '"',
        "Via: x",
        "v:",
        "To: ",
        ":",
        "SIP/2.0",
        "0",
        "\xe9",
        "\0",
    ]
)


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 12), _PIECES), max_size=3))
def test_who_is_declined_without_being_parsed_would_be_declined_so_when_parsed(
    changes: list[tuple[int, int, str]],
) -> None:
    text = request("INVITE", via=f"{HERE}:5060;{BRANCH};rport", extra="Via: SIP/2.0/UDP 10.0.0.1\r\n")
    for at, dropped, put in changes:
        text = text[:at] + put + text[at + dropped :]
    plain = plainly_declinable(text.encode(), UDP)
    if plain is None:
        return
    parsed = parse_datagram(text.encode())
    assert isinstance(parsed, Request)
    # A body shorter than its length, say: a 400 would have been due.
    assert parsed.defect is not None or plain == declinable(parsed, UDP)
    assert b"\n" not in plain.response().replace(b"\r\n", b"")

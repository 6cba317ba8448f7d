"""Numbers of seconds in headers: RFC 3261 §20.19, §20.33."""

from __future__ import annotations

from proxy.sip.message import Request, Response
from proxy.sip.parser import parse_message
from proxy.sip.seconds import delta_seconds, retry_after
from tests.sip.harness import answer, request


def test_rfc3261_20_19_seconds() -> None:
    assert delta_seconds(" 30 ") == 30
    assert delta_seconds("4294967296") == 2**32 - 1
    assert delta_seconds(None) is None


def test_rfc3261_20_33_retry_after() -> None:
    asked = parse_message(request("SUBSCRIBE").encode())
    assert isinstance(asked, Request)

    def response(value: str | None) -> Response:
        lines = "" if value is None else f"Retry-After: {value}\r\n"
        message = parse_message(answer(asked, 503, extra=lines).encode())
        assert isinstance(message, Response)
        return message

    assert retry_after(response("18000;duration=3600")) == 18000
    assert retry_after(response("120 (in a meeting)")) == 120
    assert retry_after(response("never")) is None
    assert retry_after(response(None)) is None

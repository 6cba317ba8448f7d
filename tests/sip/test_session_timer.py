"""Session timers (RFC 4028): what is said, who refreshes, and when a session is over."""

from __future__ import annotations

import pytest

from proxy.sip.config import EndpointConfig
from proxy.sip.flow import ListenPoint
from proxy.sip.headers import Headers
from proxy.sip.inspection import inspect
from proxy.sip.message import Request, Response
from proxy.sip.parser import parse_message
from proxy.sip.session_timer import (
    Refresher,
    SessionExpires,
    SessionTimer,
    min_se,
    refused_interval,
    supports_timer,
)
from proxy.sip.timers import NEVER

CONFIG = EndpointConfig(
    listen_points=(ListenPoint("UDP", "192.0.2.1", 5060),), min_se=120, supported=("timer",)
)


def headers_of(*lines: str) -> Headers:
    return request(*lines).headers


def request(*lines: str, method: str = "INVITE") -> Request:
    text = "\r\n".join(
        (
            f"{method} sip:gate@192.0.2.1 SIP/2.0",
            "Via: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK1",
            "Max-Forwards: 70",
            "From: <sip:a@192.0.2.2>;tag=a",
            "To: <sip:b@192.0.2.1>",
            "Call-ID: 1",
            f"CSeq: 1 {method}",
            *lines,
            "Content-Length: 0",
            "",
            "",
        )
    )
    message = parse_message(text.encode())
    assert isinstance(message, Request)
    return message


def response(*lines: str, status: int = 200) -> Response:
    text = "\r\n".join(
        (
            f"SIP/2.0 {status} X",
            "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1",
            "From: <sip:a@192.0.2.1>;tag=a",
            "To: <sip:b@192.0.2.2>;tag=b",
            "Call-ID: 1",
            "CSeq: 1 INVITE",
            *lines,
            "Content-Length: 0",
            "",
            "",
        )
    )
    message = parse_message(text.encode())
    assert isinstance(message, Response)
    return message


class TestHeaders:
    """§4, §5."""

    @pytest.mark.parametrize(
        ("line", "value"),
        [
            ("Session-Expires: 1800", SessionExpires(1800)),
            ("x: 1800;refresher=uac", SessionExpires(1800, Refresher.UAC)),
            ("Session-Expires: 90 ; foo=bar ; Refresher = UAS", SessionExpires(90, Refresher.UAS)),
            ("Session-Expires: 1800;refresher=nobody", SessionExpires(1800)),
            ("Session-Expires: 9999999999", SessionExpires(2**31 - 1)),
            ("Session-Expires: 99999999999", None),
            ("Session-Expires: soon", None),
            ("Session-Expires: -1", None),
            ("Session-Expires: ", None),
            ("Session-Expires: \u0661\u0662", None),
            ("Allow: INVITE", None),
        ],
    )
    def test_rfc4028_4_what_is_read(self, line: str, value: SessionExpires | None) -> None:
        assert SessionExpires.read(headers_of(line)) == value

    def test_rfc4028_4_what_is_printed(self) -> None:
        assert str(SessionExpires(1800)) == "1800"
        assert str(SessionExpires(90, Refresher.UAS)) == "90;refresher=uas"

    @pytest.mark.parametrize(
        ("line", "seconds"),
        [
            ("Min-SE: 120", 120),
            ("Min-SE: 10", 90),
            ("Min-SE: x", 90),
            ("Min-SE: 200;a=b", 200),
            ("X-A: 1", 90),
        ],
    )
    def test_rfc4028_5_min_se(self, line: str, seconds: int) -> None:
        assert min_se(headers_of(line)) == seconds

    @pytest.mark.parametrize(
        ("line", "known"),
        [
            ("Supported: 100rel, Timer", True),
            ("k: timer", True),
            ("Require: timer", True),
            ("Supported: a", False),
        ],
    )
    def test_rfc4028_7_1_who_knows_the_extension(self, line: str, known: bool) -> None:
        assert supports_timer(headers_of(line)) is known

    @pytest.mark.parametrize(
        ("lines", "refused"),
        [
            (("Session-Expires: 119", "Supported: timer"), True),
            (("Session-Expires: 120", "Supported: timer"), False),
            (("Session-Expires: 119",), False),
            (("Session-Expires: x", "Supported: timer"), False),
        ],
    )
    def test_rfc4028_9_too_short_an_interval_is_422_with_min_se(
        self, lines: tuple[str, ...], refused: bool
    ) -> None:
        assert refused_interval(request(*lines), 120) is refused
        refusal = inspect(request(*lines), CONFIG)
        assert refusal == ((422, (("Min-SE", "120"),)) if refused else None)


class TestAsUac:
    """§7."""

    def test_rfc4028_7_1_the_first_request_leaves_the_roles_open(self) -> None:
        assert SessionTimer(1800, 90).request_headers() == (("Session-Expires", "1800"),)
        assert SessionTimer(1800, 120).request_headers() == (("Session-Expires", "1800"), ("Min-SE", "120"))
        assert SessionTimer(0, 90).request_headers() == ()

    @pytest.mark.parametrize(
        ("line", "refresh_at", "expires_at"),
        [
            ("Session-Expires: 600;refresher=uac", 400.0, 668.0),
            ("Session-Expires: 600;refresher=uas", NEVER, 668.0),
            ("Session-Expires: 600", 400.0, 668.0),
            ("Session-Expires: 90;refresher=uas", NEVER, 160.0),
            ("Session-Expires: 1;refresher=uac", 145.0, 160.0),
            ("X-A: 1", 1000.0, 1868.0),
        ],
    )
    def test_rfc4028_7_2_and_10_the_2xx_says_who_refreshes_and_when(
        self, line: str, refresh_at: float, expires_at: float
    ) -> None:
        timer = SessionTimer(1800, 90)
        timer.accepted(response(line), 100.0)
        assert (timer.refresh_at, timer.expires_at) == (refresh_at, expires_at)
        assert timer.deadline == min(refresh_at, expires_at)

    def test_a_gate_without_timers_starts_none(self) -> None:
        timer = SessionTimer(0, 90)
        timer.accepted(response(), 100.0)
        assert timer.deadline == NEVER

    @pytest.mark.parametrize(("role", "said"), [("uac", "uac"), ("uas", "uas")])
    def test_rfc4028_7_4_a_refresh_keeps_interval_and_roles(self, role: str, said: str) -> None:
        timer = SessionTimer(1800, 90)
        timer.accepted(response(f"Session-Expires: 600;refresher={role}"), 100.0)
        assert timer.request_headers() == (("Session-Expires", f"600;refresher={said}"),)

    def test_rfc4028_7_3_the_min_se_of_a_422_is_taken(self) -> None:
        timer = SessionTimer(300, 90)
        assert timer.too_small(response("Min-SE: 600", status=422))
        assert timer.request_headers() == (("Session-Expires", "600"), ("Min-SE", "600"))
        assert not timer.too_small(response("Min-SE: 600", status=422))

    def test_rfc4028_7_3_a_422_to_a_refresh(self) -> None:
        timer = SessionTimer(300, 90)
        timer.accepted(response("Session-Expires: 300;refresher=uac"), 100.0)
        assert timer.too_small(response("Min-SE: 600", status=422))
        assert timer.request_headers()[0] == ("Session-Expires", "600;refresher=uac")

    @pytest.mark.parametrize("line", ["X-A: 1", "Min-SE: 300", "Min-SE: x", "Min-SE: 9999999999"])
    def test_rfc4028_7_3_a_422_that_asks_for_nothing_is_a_refusal(self, line: str) -> None:
        timer = SessionTimer(2**31 - 1 if "9999" in line else 1800, 90)
        assert not timer.too_small(response(line, status=422))
        assert not SessionTimer(0, 90).too_small(response("Min-SE: 600", status=422))


class TestRefused:
    """§7.2, §10: what a refusal says of a session that the peer has given no expiration."""

    def test_rfc4028_7_2_a_peer_that_has_granted_no_interval_lives(self) -> None:
        timer = SessionTimer(1800, 90)
        timer.accepted(response(), 100.0)
        assert timer.refused(1000.0)
        assert (timer.refresh_at, timer.expires_at) == (1900.0, 2768.0)

    def test_rfc4028_10_one_that_has_granted_it_expects_a_refresh(self) -> None:
        timer = SessionTimer(1800, 90)
        timer.accepted(response("Session-Expires: 600;refresher=uac"), 100.0)
        assert not timer.refused(400.0)
        assert timer.expires_at == 668.0

    def test_the_latest_2xx_counts(self) -> None:
        timer = SessionTimer(1800, 90)
        timer.accepted(response("Session-Expires: 600;refresher=uac"), 100.0)
        timer.accepted(response(), 400.0)
        assert timer.refused(700.0)
        assert timer.expires_at == 1268.0

    @pytest.mark.parametrize(
        ("lines", "lives"),
        [
            ((), True),
            (("Supported: 100rel",), True),
            (("Supported: timer",), False),
            (("Session-Expires: 600",), False),  # a proxy on the way counts
        ],
    )
    def test_rfc4028_9_who_has_asked_for_none_and_knows_none(
        self, lines: tuple[str, ...], lives: bool
    ) -> None:
        timer = SessionTimer(1800, 90)
        timer.answered(request(*lines), 100.0)
        assert timer.refused(1000.0) is lives

    def test_a_gate_without_timers_counts_none(self) -> None:
        timer = SessionTimer(0, 90)
        timer.accepted(response(), 100.0)
        assert timer.answered(request(), 100.0) == ()
        assert timer.deadline == NEVER


class TestAsUas:
    """§9, table 2."""

    @pytest.mark.parametrize(
        ("lines", "said", "refreshes"),
        [
            (("Session-Expires: 600", "Supported: timer"), "600;refresher=uac", False),
            (("Session-Expires: 600;refresher=uac", "Supported: timer"), "600;refresher=uac", False),
            (("Session-Expires: 600;refresher=uas", "Supported: timer"), "600;refresher=uas", True),
            (("Supported: timer",), "1800;refresher=uac", False),
            ((), "1800;refresher=uas", True),
            (("Session-Expires: 600",), "600;refresher=uas", True),
            (("Session-Expires: 7200", "Supported: timer"), "1800;refresher=uac", False),
            (("Session-Expires: 7200", "Min-SE: 3600", "Supported: timer"), "3600;refresher=uac", False),
            (("Session-Expires: 5",), "90;refresher=uas", True),
        ],
    )
    def test_rfc4028_9_who_refreshes(self, lines: tuple[str, ...], said: str, refreshes: bool) -> None:
        timer = SessionTimer(1800, 90)
        headers = timer.answered(request(*lines), 100.0)
        assert headers[0] == ("Session-Expires", said)
        # A UAC that is to refresh has to be told that it needs the extension.
        assert (("Require", "timer") in headers) is not refreshes
        assert (timer.refresh_at < NEVER) is refreshes
        assert timer.expires_at < NEVER

    def test_a_gate_without_timers_takes_what_is_asked_for(self) -> None:
        timer = SessionTimer(0, 90)
        assert timer.answered(request(), 100.0) == ()
        headers = timer.answered(request("Session-Expires: 7200", "Supported: timer"), 100.0)
        assert headers == (("Session-Expires", "7200;refresher=uac"), ("Require", "timer"))

    def test_rfc4028_7_4_a_gate_without_timers_keeps_the_peers_in_its_own_requests(self) -> None:
        timer = SessionTimer(0, 90)
        timer.answered(request("Session-Expires: 600", "Supported: timer"), 100.0)
        assert timer.request_headers() == (("Session-Expires", "600;refresher=uas"),)
        timer.accepted(response("Session-Expires: 600;refresher=uas"), 200.0)
        assert timer.expires_at == 768.0

    @pytest.mark.parametrize("asks", [True, False])
    def test_rfc4028_7_2_and_9_a_timer_that_neither_side_says_again_is_over(self, *, asks: bool) -> None:
        timer = SessionTimer(0, 90)
        timer.answered(request("Session-Expires: 600", "Supported: timer"), 100.0)
        if asks:
            timer.accepted(response(), 200.0)
        else:
            assert timer.answered(request("Supported: timer"), 200.0) == ()
        assert timer.deadline == NEVER
        assert timer.request_headers() == ()

    def test_rfc4028_7_3_a_422_to_the_peers_interval_lengthens_that_alone(self) -> None:
        timer = SessionTimer(0, 90)
        timer.answered(request("Session-Expires: 300", "Supported: timer"), 100.0)
        assert timer.too_small(response("Min-SE: 600", status=422))
        assert timer.request_headers()[0] == ("Session-Expires", "600;refresher=uas")
        timer.accepted(response(), 200.0)
        assert timer.request_headers() == ()

    def test_a_refusal_begins_no_timer_that_nobody_wants(self) -> None:
        timer = SessionTimer(0, 90)
        timer.accepted(response(), 100.0)
        assert timer.refused(200.0)
        assert timer.deadline == NEVER

    def test_rfc4028_7_4_a_refresh_of_the_peer_begins_anew(self) -> None:
        timer = SessionTimer(1800, 90)
        timer.answered(request("Session-Expires: 600", "Supported: timer"), 100.0)
        timer.answered(request("Session-Expires: 600;refresher=uac", "Supported: timer"), 400.0)
        assert timer.expires_at == 968.0

    def test_one_without_a_word_of_it_keeps_the_interval(self) -> None:
        timer = SessionTimer(1800, 90)
        timer.answered(request("Session-Expires: 600", "Supported: timer"), 100.0)
        assert timer.answered(request(), 400.0) == (("Session-Expires", "600;refresher=uas"),)


def test_what_is_put_off_and_stopped() -> None:
    timer = SessionTimer(1800, 90)
    timer.answered(request(), 0.0)
    timer.refresh_later(905.0)
    assert timer.deadline == 905.0
    timer.stop()
    assert timer.deadline == NEVER

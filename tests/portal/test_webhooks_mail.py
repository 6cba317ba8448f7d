"""Events by e-mail, to a real SMTP server."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from proxy.cdr.record import CallRecord, RecordPhase
from proxy.portal.webhook_mail import _DEADLINE, Mailer, event_message
from proxy.portal.webhook_post import Outcome
from proxy.settings_notify import MailSettings
from proxy.store import WebhookDelivery
from proxy.store.call_events import NewEvent, Site, of_call, of_trunk
from proxy.store.schedules import LEASE
from tests.portal.postbox import MailServer, Postbox
from tests.portal.receiver import happens
from tests.support.certificates import Authority

NOW = 1_790_000_000.0
EMERGENCY_CALL = CallRecord(
    "r1",
    NOW,
    phase=RecordPhase.SETUP,
    caller_number="204",
    caller_name="Front desk\r\nBcc: all@example.com",
    caller_e164="+14155550104",
    dialled_number="9911",
    normalised_number="911",
    location="Springfield",
    emergency=True,
)
EMERGENCY = of_call("emergency.dialed", EMERGENCY_CALL, Site("Main Street 1, 2nd floor"), at=NOW)


def delivery(event: NewEvent) -> WebhookDelivery:
    return WebhookDelivery(1, 1, event.id, event.event, event.body, NOW, 1, None, None, 0, "")


@pytest.fixture
def postbox() -> Postbox:
    return Postbox()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Path]:
    authority = Authority(tmp_path_factory.mktemp("tls"))
    return authority, authority.issue("mail.pem", "IP:127.0.0.1,DNS:localhost")


Server = Callable[[str], str]


@pytest.fixture
def server(postbox: Postbox, certificate: tuple[Authority, Path]) -> Iterator[Server]:
    """Start a mail server; returns where it is, as settings have it."""
    with MailServer(postbox, certificate[1]) as servers:
        yield servers.start


def settings(server: str, security: str, **more: Any) -> MailSettings:
    return MailSettings(server=server, security=security, sender="gate@example.com", **more)  # type: ignore[arg-type]


def trusting(certificate: tuple[Authority, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate[0].certificate)


@pytest.mark.parametrize("security", ["none", "starttls", "tls"])
def test_an_emergency_reaches_people_with_caller_location_and_call_back_number(
    server: Server, postbox: Postbox, certificate: tuple[Authority, Path], security: str
) -> None:
    mailer = Mailer(settings(server(security), security), tls=trusting(certificate), patience=60)
    assert mailer.send(event_message(delivery(EMERGENCY), "security@example.com")) == Outcome(250)
    [message] = postbox.taken
    assert message["To"] == "security@example.com"
    assert message["From"] == "gate@example.com"
    assert message["Subject"] == ("EMERGENCY CALL to 911 from 204, Springfield, Main Street 1, 2nd floor")
    assert message["Message-ID"] == "<r1.emergency.dialed@tollgate.invalid>"
    assert message["Bcc"] is None
    text = message.get_content().replace("\r\n", "\n")
    assert text.startswith("Number: 911\nCaller: 204\nCaller name: Front desk  Bcc: all@example.com\n")
    assert "\nCallback: +14155550104\n" in text
    assert "\nLocation: Springfield, Main Street 1, 2nd floor\n" in text
    assert "Time: 2026-09-21T14:13:20.000+00:00" in text


def test_other_events_are_said_in_a_line_too() -> None:
    trunk = event_message(delivery(of_trunk("carrier", "udp:192.0.2.1:5060", "silence", at=NOW)), "a@b")
    assert trunk["Subject"] == "Trunk carrier is down"
    assert "Reason: silence" in trunk.get_content()
    started = event_message(delivery(of_call("call.started", EMERGENCY_CALL, Site(), at=NOW)), "a@b")
    assert started["Subject"] == "call.started: 204 to 9911"


def test_the_login_is_used_within_tls_and_its_refusal_is_told(
    server: Server, postbox: Postbox, certificate: tuple[Authority, Path]
) -> None:
    where = server("starttls")
    for password, status in (("right", 250), ("wrong", 535)):
        given = settings(where, "starttls", user="gate", password=SecretStr(password))
        found = Mailer(given, tls=trusting(certificate), patience=60).send(
            event_message(delivery(EMERGENCY), "a@b.example")
        )
        assert found.status == status
        assert "wrong" not in found.error
    assert postbox.logins[0] == (b"gate", b"right")
    assert len(postbox.taken) == 1


@pytest.mark.parametrize(
    ("says", "status"), [("550 no such box", 550), ("451 later", 451), ("554 5.7.1 spam\x1b", 554)]
)
def test_what_the_mail_server_refuses_is_told(
    server: Server, postbox: Postbox, says: str, status: int
) -> None:
    postbox.says = says
    outcome = Mailer(settings(server("none"), "none"), patience=60).send(
        event_message(delivery(EMERGENCY), "a@b.example")
    )
    assert outcome.status == status
    assert outcome.error.startswith("mail server: ")


def test_a_certificate_that_is_not_trusted_gets_no_mail(server: Server, postbox: Postbox) -> None:
    for security in ("starttls", "tls"):
        mailer = Mailer(settings(server(security), security), patience=60)
        outcome = mailer.send(event_message(delivery(EMERGENCY), "a@b.example"))
        assert outcome.status == 0
        assert "certificate" in outcome.error
    assert postbox.taken == []


def test_a_server_that_knows_no_starttls_gets_no_mail(server: Server, postbox: Postbox) -> None:
    outcome = Mailer(settings(server("none"), "starttls"), patience=60).send(
        event_message(delivery(EMERGENCY), "a@b.c")
    )
    assert "STARTTLS" in outcome.error
    assert postbox.taken == []


@pytest.mark.parametrize("bids", ["421 4.4.2 going down", "500 what?"])
def test_a_message_that_was_taken_is_taken_whatever_comes_of_the_farewell(
    server: Server, postbox: Postbox, bids: str
) -> None:
    postbox.bids = bids
    mailer = Mailer(settings(server("none"), "none"), patience=60)
    assert mailer.send(event_message(delivery(EMERGENCY), "a@b.example")) == Outcome(250)
    assert len(postbox.taken) == 1


@pytest.mark.parametrize("security", ["none", "starttls", "tls"])
def test_a_server_that_never_takes_a_message_is_left_before_anybody_else_sends_it(
    server: Server, postbox: Postbox, certificate: tuple[Authority, Path], security: str
) -> None:
    assert LEASE > _DEADLINE + 60, "of a report, which has to be written before; those of events are renewed"
    postbox.thinks = 3_600.0
    mailer = Mailer(settings(server(security), security), tls=trusting(certificate), deadline=1)
    outcome = mailer.send(event_message(delivery(EMERGENCY), "a@b.example"))
    assert outcome == Outcome(0, "mail server: no answer in time")
    assert postbox.taken == []


def test_rfc5321_4_5_3_2_6_a_server_may_look_ten_minutes_at_a_message_but_for_the_end_of_the_portal(
    server: Server, postbox: Postbox
) -> None:
    postbox.thinks = 3_600.0
    mailer = Mailer(settings(server("none"), "none"))
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(mailer.send, event_message(delivery(EMERGENCY), "a@b.example"))
        try:
            happens(lambda: postbox.thinking)
            (connection,) = mailer._open
            assert connection.sock is not None
            assert connection.sock.gettimeout() == 600.0
        finally:
            mailer.close()
        assert under_way.result(60) == Outcome(0, "mail server: the portal ended meanwhile")
    late = mailer.send(event_message(delivery(EMERGENCY), "a@b.example"))
    assert late == Outcome(0, "mail server: the portal ended meanwhile")


def test_a_server_that_greets_nobody_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        where = f"127.0.0.1:{listening.getsockname()[1]}"
        under_way = pool.submit(
            Mailer(settings(where, "none")).send, event_message(delivery(EMERGENCY), "a@b.example")
        )
        client, _ = listening.accept()
        with client:
            client.sendall(b"554 not you\r\n")
            assert under_way.result(60) == Outcome(554, "mail server: not you")


def test_no_mail_server_and_none_that_answers_are_told() -> None:
    message = event_message(delivery(EMERGENCY), "a@b.example")
    assert Mailer(MailSettings()).send(message) == Outcome(0, "no mail server is set: notify.mail.server")
    gone = Mailer(settings("127.0.0.1:1", "none"), patience=60).send(
        event_message(delivery(EMERGENCY), "a@b.example")
    )
    assert gone == Outcome(0, "mail server: Connection refused")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"server": "mail.example.com"}, "server"),
        ({"server": "mail.example.com:25"}, "sender"),
        ({"server": "mail:25", "sender": "a b@c"}, "sender"),
        ({"server": "mail:25", "sender": "a@b", "user": "x", "security": "none"}, "security"),
        ({"security": "perhaps"}, "security"),
    ],
)
def test_settings_that_cannot_be_name_the_field(given: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        MailSettings(**given)  # type: ignore[arg-type]


def test_addresses_of_mail_servers() -> None:
    given = MailSettings(server="[2001:db8::1]:465", sender="a@b", password=SecretStr("secret"))
    assert given.address == ("2001:db8::1", 465)
    assert "secret" not in repr(replace(delivery(EMERGENCY), body="")) + repr(given)

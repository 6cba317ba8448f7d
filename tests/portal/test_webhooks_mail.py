"""Events by e-mail, to a real SMTP server."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from proxy.cdr.record import CallRecord, RecordPhase
from proxy.portal.webhook_mail import Mailer, event_message
from proxy.portal.webhook_post import Outcome
from proxy.settings_notify import MailSettings
from proxy.store import WebhookDelivery
from proxy.store.call_events import NewEvent, Site, of_call, of_trunk
from tests.portal.postbox import MailServer, Postbox
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

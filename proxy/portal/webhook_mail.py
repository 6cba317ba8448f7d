"""Events by e-mail: for people who shall know at once, of emergency calls first of all."""

from __future__ import annotations

import json
import smtplib
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime

from proxy.portal.webhook_post import Outcome
from proxy.settings_notify import MailSettings
from proxy.store import WebhookDelivery

__all__ = ["Mailer", "event_message"]

_PATIENCE = 15.0


class Mailer:
    """Hands messages to the mail server. Safe to use from several threads."""

    def __init__(
        self, settings: MailSettings, *, tls: ssl.SSLContext | None = None, patience: float = _PATIENCE
    ) -> None:
        self._settings = settings
        self._patience = patience
        self._tls = tls or ssl.create_default_context()

    def send(self, message: EmailMessage) -> Outcome:
        """Send one message; never raises because of the mail server."""
        if not self._settings.server:
            return Outcome(0, "no mail server is set: notify.mail.server")
        message["From"] = self._settings.sender
        try:
            with self._connected() as server:
                left_out = server.send_message(message)
        except smtplib.SMTPResponseException as error:
            told = error.smtp_error
            words = told.decode("utf-8", "replace") if isinstance(told, bytes) else told
            return Outcome(error.smtp_code, f"mail server: {words}")
        except smtplib.SMTPRecipientsRefused as error:
            code, words_of_server = next(iter(error.recipients.values()))
            return Outcome(code, f"mail server: {words_of_server.decode('utf-8', 'replace')}")
        except ssl.SSLCertVerificationError as error:
            return Outcome(0, f"mail server's certificate: {error.verify_message}")
        except (OSError, smtplib.SMTPException, ValueError) as error:
            return Outcome(0, f"mail server: {getattr(error, 'strerror', None) or error}")
        # Not a failure: those who have it would get it again.
        return Outcome(250, f"not taken for {', '.join(left_out)}" if left_out else "")

    def _connected(self) -> smtplib.SMTP:
        host, port = self._settings.address
        if self._settings.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=self._patience, context=self._tls)
        else:
            server = smtplib.SMTP(host, port, timeout=self._patience)
        try:
            if self._settings.security == "starttls":
                server.starttls(context=self._tls)
            if self._settings.user:
                server.login(self._settings.user, self._settings.password.get_secret_value())
        except BaseException:
            server.close()
            raise
        return server


def event_message(delivery: WebhookDelivery, to: str) -> EmailMessage:
    """Write an event as a message. Its Message-ID is the event's own: a repetition is known as one."""
    told = json.loads(delivery.body)
    message = EmailMessage()
    message["To"] = to
    message["Date"] = format_datetime(datetime.fromtimestamp(delivery.created_at, UTC))
    message["Message-ID"] = f"<{delivery.event_id}@tollgate.invalid>"
    message["Auto-Submitted"] = "auto-generated"
    message["Subject"] = _subject(delivery.event, told["data"])
    if delivery.event == "emergency.dialed":
        message["Importance"] = "high"
    message.set_content("\n".join(_lines(told["data"])) + f"\n\nTime: {told['timestamp']}\n")
    return message


def _subject(event: str, data: dict[str, dict[str, object]]) -> str:
    if event == "emergency.dialed":
        one = data["emergency"]
        return _one_line(f"EMERGENCY CALL to {one['number']} from {one['caller']}, {one['location']}")
    if event == "trunk.down":
        return _one_line(f"Trunk {data['trunk']['name']} is down")
    call = data["call"]
    return _one_line(f"{event}: {call['caller']} to {call['dialled']}")


def _lines(data: dict[str, dict[str, object]]) -> Iterator[str]:
    """Give what is known, an emergency's own facts first."""
    for part in sorted(data, key=lambda name: name == "call"):
        for name, value in data[part].items():
            shown = value["description"] if isinstance(value, dict) else value
            if shown not in {None, "", False}:
                yield _one_line(f"{name.replace('_', ' ').capitalize()}: {shown}")


def _one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)[:500]

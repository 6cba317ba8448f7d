"""Events by e-mail: for people who shall know at once, of emergency calls first of all."""

from __future__ import annotations

import contextlib
import json
import smtplib
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

from proxy.portal.webhook_post import Outcome
from proxy.settings_notify import MailSettings
from proxy.store import WebhookDelivery

__all__ = ["NO_SERVER", "Mailer", "event_message"]

NO_SERVER = "no mail server is set: notify.mail.server"

_PATIENCE = 60.0
_FOR_TAKING = 600.0
"""From DATA on: a server may look for viruses before it takes a message (RFC 5321 §4.5.3.2.6)."""
_DEADLINE = 780.0
"""For all of it, below the lease with which reports are taken: nobody else sends them meanwhile."""


class Mailer:
    """Hands messages to the mail server. Safe to use from several threads."""

    def __init__(
        self,
        settings: MailSettings,
        *,
        tls: ssl.SSLContext | None = None,
        patience: float = _PATIENCE,
        deadline: float = _DEADLINE,
    ) -> None:
        """``patience`` is for each answer but that to the message, ``deadline`` for the whole."""
        self._settings = settings
        self._patience = patience
        self._deadline = deadline
        self._tls = tls or ssl.create_default_context()
        self._open: set[_Smtp] = set()
        self._closed = False

    def close(self) -> None:
        """Break off what is under way: it is tried again after the next start."""
        self._closed = True
        for server in tuple(self._open):
            server.abort()

    def send(self, message: EmailMessage) -> Outcome:
        """Send one message; never raises because of the mail server."""
        if not self._settings.server:
            return Outcome(0, NO_SERVER)
        message["From"] = self._settings.sender
        try:
            left_out = self._send(message)
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

    def _send(self, message: EmailMessage) -> Iterable[str]:
        """Send a message; returns for whom it was not taken."""
        host, port = self._settings.address
        server = (
            _SmtpTls(host, timeout=self._patience, context=self._tls)
            if self._settings.security == "tls"
            else _Smtp(host, timeout=self._patience)
        )
        self._open.add(server)
        if self._closed:
            server.abort()
        timer = threading.Timer(self._deadline, server.abort)
        timer.daemon = True
        timer.start()
        try:
            self._connect(server, host, port)
            return server.send_message(message)
        except (OSError, smtplib.SMTPException, ValueError):
            if server.aborted:
                ended = "the portal ended meanwhile" if self._closed else "no answer in time"
                raise TimeoutError(ended) from None
            raise
        finally:
            # A message that was taken is taken, whatever comes of the farewell.
            with contextlib.suppress(OSError, smtplib.SMTPException, ValueError):
                server.quit()
            timer.cancel()
            self._open.discard(server)
            server.close()

    def _connect(self, server: _Smtp, host: str, port: int) -> None:
        code, words = server.connect(host, port)
        if code != 220:
            server.close()
            raise smtplib.SMTPConnectError(code, words)
        if self._settings.security == "starttls":
            server.starttls(context=self._tls)
        if self._settings.user:
            server.login(self._settings.user, self._settings.password.get_secret_value())


class _Smtp(smtplib.SMTP):
    """A connection that waits long where a server may take long, and that another thread can end."""

    def __init__(self, host: str, **options: Any) -> None:
        super().__init__(**options)
        # Whose name the certificate has to have. It connects later: who ends it has to know it before.
        self._host = host
        self.aborted = False

    def abort(self) -> None:
        """End it: whatever is waited for fails."""
        self.aborted = True
        if (client := self.sock) is not None:
            with contextlib.suppress(OSError):
                # Not TLS's own: that would take the connection from the thread that reads.
                socket.socket.shutdown(client, socket.SHUT_RDWR)

    def getreply(self) -> tuple[int, bytes]:
        """Wait for an answer. Whoever ended the connection may have found none that could be ended yet."""
        if self.aborted:
            raise TimeoutError
        return super().getreply()

    def data(self, msg: Any) -> tuple[int, bytes]:
        """Hand the message over."""
        if self.sock is not None:
            self.sock.settimeout(_FOR_TAKING)
        try:
            return super().data(msg)
        finally:
            if self.sock is not None:
                self.sock.settimeout(self.timeout)


class _SmtpTls(_Smtp, smtplib.SMTP_SSL):
    """The same within TLS from the beginning."""


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

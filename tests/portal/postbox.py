"""A real mail server that keeps what it takes."""

from __future__ import annotations

import asyncio
import email
import ssl
import threading
from email.message import EmailMessage
from email.policy import default as mail_policy
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

__all__ = ["MailServer", "Postbox"]


class Postbox:
    """Keeps what it takes."""

    def __init__(self) -> None:
        self.taken: list[EmailMessage] = []
        self.says = "250 OK"
        self.refused: set[str] = set()
        """Addresses that it takes nothing for."""
        self.logins: list[object] = []
        self.thinks = 0.0
        """Seconds that it takes before it says that it has taken a message."""
        self.thinking = False
        self.bids = "221 Bye"
        """Its answer to the farewell."""

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if self.says.startswith("550") or address in self.refused:
            return self.says if self.says.startswith("550") else "550 5.1.1 Nobody here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.says.startswith("250"):
            self.thinking = True
            await asyncio.sleep(self.thinks)
            content = envelope.content
            assert isinstance(content, bytes)
            message = email.message_from_bytes(content, policy=mail_policy)
            assert isinstance(message, EmailMessage)
            self.taken.append(message)
        return self.says

    async def handle_QUIT(self, _server: SMTP, _session: Session, _envelope: Envelope) -> str:  # noqa: N802
        return self.bids

    def log_in(self, *arguments: Any) -> AuthResult:
        given = arguments[-1]
        assert isinstance(given, LoginPassword)
        self.logins.append((given.login, given.password))
        return AuthResult(success=given.password == b"right", handled=False)


class MailServer:
    """Mail servers for one postbox, in a thread of their own; a context manager."""

    def __init__(self, postbox: Postbox, certificate: Path | None = None) -> None:
        self._postbox = postbox
        self._certificate = certificate
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._listening: list[asyncio.Server] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def start(self, security: str = "none") -> str:
        """Start one; returns where it is, as settings have it."""
        context = None
        if self._certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate)
        options: dict[str, Any] = {}
        if security == "starttls":
            options = {
                "tls_context": context,
                "require_starttls": True,
                "authenticator": self._postbox.log_in,
            }
        opening = self._loop.create_server(
            lambda: SMTP(self._postbox, hostname="mail.test", loop=self._loop, **options),
            "127.0.0.1",
            0,
            ssl=context if security == "tls" else None,
        )
        made = asyncio.run_coroutine_threadsafe(opening, self._loop).result(60)
        self._listening.append(made)
        return f"127.0.0.1:{made.sockets[0].getsockname()[1]}"

    async def _end(self) -> None:
        for one in self._listening:
            one.close()
        await asyncio.sleep(0)  # asyncio forgets the socket of a connection whose task never began
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

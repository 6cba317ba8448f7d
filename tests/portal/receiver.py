"""Real servers that receive what the portal sends: webhooks over HTTP, and mail."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType

from tests.support.http_server import HttpServer

__all__ = ["Receiver", "Taken", "happens"]


def happens(what: Callable[[], object]) -> None:
    """Return when something is the case, however slow the machine is."""
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


@dataclass
class Taken:
    """One request that was received."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver(HttpServer):
    """An HTTP server on loopback. ``answers`` is what it says, in order; the last one for ever after."""

    answers: list[int | str] = field(default_factory=lambda: [204])
    certificate: Path | None = None

    def __post_init__(self) -> None:
        self.taken: list[Taken] = []
        self.release = threading.Event()
        """Set: who is kept waiting ("hang", "drip") is let go."""
        super().__init__(self._handler(), self.certificate)

    @property
    def url(self) -> str:
        return f"{'http' if self.certificate is None else 'https'}://127.0.0.1:{self.port}/hook?a=1"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release.set()
        super().__exit__(kind, error, trace)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.taken.append(Taken(self.path, headers, body))
                answers = receiver.answers
                receiver._answer(self, answers.pop(0) if len(answers) > 1 else answers[0])

            def do_GET(self) -> None:
                receiver.taken.append(Taken(self.path, {}, b"GET"))

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler

    def _answer(self, request: BaseHTTPRequestHandler, answer: int | str) -> None:
        if answer == "close":
            request.connection.shutdown(socket.SHUT_RDWR)
            request.close_connection = True
        elif answer == "hang":
            self.release.wait(60)
        elif answer == "drip":
            try:
                while not self.release.wait(0.05):
                    request.wfile.write(b"H")
                    request.wfile.flush()
            except OSError:
                pass
            request.close_connection = True
        elif answer == "nonsense":
            request.wfile.write(b"SSH-2.0-what\r\n\r\n")
            request.close_connection = True
        else:
            assert isinstance(answer, int)
            request.send_response(answer)
            if 300 <= answer < 400:
                request.send_header("location", f"http://127.0.0.1:{self.port}/elsewhere")
            request.send_header("content-length", "0")
            request.end_headers()

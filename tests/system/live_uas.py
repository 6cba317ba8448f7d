"""User agents of the tests on real sockets, for what neither SIPp nor a phone can be made to say.

They are those of the virtual-clock tests (`tests.support.ua`), here before a running gate. One thread runs
them all, while somebody waits for something.
"""

from __future__ import annotations

import hashlib
import re
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import count
from types import TracebackType
from typing import Self

from proxy.sip.flow import Flow
from proxy.sip.message import Response
from tests.call.watching import Watcher
from tests.support.ua import Headers, Step, Ua
from tests.system.gate import GATE_ADDRESS, Gate, free_port
from tests.system.media import PATIENCE

_serial = count()
HASHES = {"SHA-256": hashlib.sha256, "MD5": hashlib.md5}


class LiveUas:
    """The user agents of one test."""

    def __init__(self, gate: Gate) -> None:
        self._address = (GATE_ADDRESS, gate.port)
        self._sockets: dict[Ua, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        self._selector.close()

    def add(
        self,
        address: str,
        *,
        port: int = 0,
        script: Sequence[Step] = (),
        supported: tuple[str, ...] = (),
    ) -> Ua:
        """Start one more, over UDP; ``port`` 0 is any."""
        port = port or free_port(address)
        name = f"-{next(_serial)}"
        ua = Ua(
            address, port, time.monotonic, gate=self._address, script=script, supported=supported, name=name
        )
        self._open_socket(ua)
        return ua

    def add_watcher(self, address: str) -> Watcher:
        """Start a phone that watches."""
        port = free_port(address)
        watcher = Watcher(address, port, time.monotonic, gate=self._address, name=f"-{next(_serial)}")
        self._open_socket(watcher)
        return watcher

    def _open_socket(self, ua: Ua) -> None:
        opened = self._open.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        opened.bind(ua.address)
        opened.setblocking(False)
        self._sockets[ua] = opened
        self._selector.register(opened, selectors.EVENT_READ, ua)

    def until(self, condition: Callable[[], object], what: str = "") -> None:
        """Run them until something is so; fails when it never is."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, what or "what was waited for did not come about"
            self._turn()

    def run(self, seconds: float) -> None:
        """Run them for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._turn()

    def _turn(self) -> None:
        for ua in self._sockets:
            self._flush(ua)
        for key, _ in self._selector.select(0.02):
            ua = key.data
            data, (host, port) = self._sockets[ua].recvfrom(65_535)
            ua.receive(data, Flow("UDP", host, port), time.monotonic())
            self._flush(ua)
        for ua in self._sockets:
            ua.handle_timer(time.monotonic())
            self._flush(ua)

    def _flush(self, ua: Ua) -> None:
        ua.after(time.monotonic())
        for data, flow in ua.transmits():
            self._sockets[ua].sendto(data, (flow.remote_host, flow.remote_port))

    # REGISTER -----------------------------------------------------------------------------------------------

    def ask(
        self,
        ua: Ua,
        method: str,
        user: str,
        headers: Headers = (),
        *,
        to: str = "",
        uri: str = "",
        call_id: str = "",
        cseq: int = 1,
    ) -> Response:
        """Send one request outside any dialog; returns its final response."""
        before = len(ua.other_responses)
        domain = GATE_ADDRESS
        ua.endpoint.send_request(
            method,
            uri or f"sip:{domain}",
            from_=f"<sip:{user}@{domain}>",
            to=f"<sip:{to or user}@{domain}>",
            headers=headers,
            flow=Flow("UDP", *ua.gate),
            call_id=call_id,
            cseq=cseq,
            now=time.monotonic(),
        )
        self.until(lambda: len(ua.other_responses) > before, f"no answer to {method}")
        return ua.other_responses[-1]

    def register(
        self,
        ua: Ua,
        user: str,
        password: str,
        *contacts: str,
        headers: Headers = (),
        algorithm: str = "SHA-256",
        to: str = "",
        call_id: str = "",
        cseq: int = 1,
    ) -> Response:
        """Register or unregister, with credentials when they are asked for; without contacts just ask."""
        # The removal of one that is not there asks for the others: the agent would name itself instead.
        named = contacts or (f"<sip:nothing@{ua.host}:9>;expires=0",)
        wanted = (*(("Contact", contact) for contact in named), *headers)
        challenged = self.ask(ua, "REGISTER", user, wanted, to=to, call_id=call_id, cseq=cseq)
        assert challenged.status == 401
        proof = authorization(challenged, user, password, algorithm=algorithm)
        proved = (*wanted, ("Authorization", proof))
        return self.ask(ua, "REGISTER", user, proved, to=to, call_id=call_id, cseq=cseq + 1)


def challenges(response: Response) -> dict[str, dict[str, str]]:
    """Return the challenges of a 401 by algorithm, each with its parameters."""
    found = {}
    for value in response.headers.get_all("WWW-Authenticate"):
        parameters = {name: quoted or plain for name, quoted, plain in _PARAMETER.findall(value)}
        found[parameters["algorithm"]] = parameters
    return found


_PARAMETER = re.compile(r'(\w+)=(?:"([^"]*)"|([^",\s]+))')


def authorization(
    response: Response,
    user: str,
    password: str,
    *,
    algorithm: str = "SHA-256",
    method: str = "REGISTER",
    uri: str = f"sip:{GATE_ADDRESS}",
    count: int = 1,
    cnonce: str = "0a4f113b",
) -> str:
    """Answer a challenge as RFC 7616 §3.4 says, with no code of the gate's."""
    challenge = challenges(response)[algorithm]

    def digest(*parts: str) -> str:
        return HASHES[algorithm](":".join(parts).encode()).hexdigest()

    realm, nonce, nc = challenge["realm"], challenge["nonce"], f"{count:08x}"
    proof = digest(digest(user, realm, password), nonce, nc, cnonce, "auth", digest(method, uri))
    return (
        f'Digest username="{user}", realm="{realm}", nonce="{nonce}", uri="{uri}", response="{proof}", '
        f'algorithm={algorithm}, qop=auth, nc={nc}, cnonce="{cnonce}"'
    )

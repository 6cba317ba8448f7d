"""A carrier that forks: it answers one INVITE under as many To tags as a test wants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from proxy.call.config import GateConfig
from proxy.sip.digest_client import DigestAccount
from proxy.sip.flow import Flow, Transmit
from proxy.sip.message import Request, Response
from proxy.sip.parser import parse_message
from tests.sip.harness import answer
from tests.support.gate import CARRIER, GateBench, default_config
from tests.support.ua import UaCall, sdp

TOLL_FREE = "918005550123"
ONE, TWO, THREE = (sdp(f"192.0.2.{host}", 5000) for host in (101, 102, 103))


class ForkingCarrier:
    """A carrier that says what a test lets it say, under any To tag, and takes every request of the gate."""

    def __init__(self, bench: GateBench) -> None:
        self.bench = bench
        self.invites: list[Request] = []
        self.requests: list[Request] = []
        """All others."""
        self.responses: list[Response] = []
        self.challenges: dict[str, int] = {}
        """How often requests of a method are asked for credentials yet."""
        self.mute = False
        """It answers no request for now."""
        self.unanswered: list[Request] = []
        self._out: list[Transmit] = []
        bench.network.attach(CARRIER, self)

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        message = parse_message(data)
        if isinstance(message, Response):
            self.responses.append(message)
        elif message.method == "INVITE":
            if not self.invites or message.cseq != self.invites[-1].cseq:
                self.invites.append(message)
        else:
            self.requests.append(message)
            if self.mute:
                self.unanswered.append(message)
            elif message.method != "ACK":
                self._out.append(Transmit(self._answer(message).encode(), flow))

    def _answer(self, request: Request) -> str:
        if self.challenges.get(request.method, 0) == 0:
            return answer(request, 200)
        self.challenges[request.method] -= 1
        nonce = f"nonce-{len(self.requests)}"
        challenge = f'Proxy-Authenticate: Digest realm="carrier", nonce="{nonce}", qop="auth"\r\n'
        return answer(request, 407, extra=challenge)

    def handle_timer(self, now: float) -> None:
        """It has none."""

    def transmits(self) -> list[Transmit]:
        out, self._out = self._out, []
        return out

    def next_timer(self) -> float | None:
        return None

    def says(self, status: int, tag: str, body: bytes = b"", *, rseq: int = 0) -> None:
        """Send a response to the INVITE."""
        extra = "Content-Type: application/sdp\r\n" if body else ""
        if rseq:
            extra += f"Require: 100rel\r\nRSeq: {rseq}\r\n"
        contact = f"<sip:{tag or 'untagged'}@{CARRIER[0]}:{CARRIER[1]}>"
        text = answer(self.invites[-1], status, to_tag=tag, contact=contact, extra=extra, body=body.decode())
        self._send(text)

    def asks(self, method: str, tag: str, body: bytes = b"") -> int:
        """Send a request within the dialog of this tag; returns the status that it gets."""
        invite = self.invites[-1]
        count = len(self.requests) + len(self.responses) + 1
        content = "Content-Type: application/sdp\r\n" if body else ""
        contact = invite.contact
        assert contact is not None
        self._send(
            f"{method} {contact.uri_text} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {CARRIER[0]}:{CARRIER[1]};branch=z9hG4bK-fork-{method}-{count}\r\n"
            f"Max-Forwards: 70\r\nFrom: {invite.headers.get('To')};tag={tag}\r\n"
            f"To: {invite.headers.get('From')}\r\nCall-ID: {invite.call_id}\r\nCSeq: {count} {method}\r\n"
            f"Contact: <sip:{tag}@{CARRIER[0]}:{CARRIER[1]}>\r\n{content}"
            f"Content-Length: {len(body)}\r\n\r\n{body.decode()}"
        )
        return self.responses[-1].status

    def _send(self, text: str) -> None:
        self.bench.gate.receive(text.encode(), Flow("UDP", *CARRIER), self.bench.now)
        self.bench.run(0.01)

    def sent_to(self, tag: str) -> list[str]:
        """Methods of the requests that the gate sent within the dialog of this tag."""
        return [request.method for request in self.requests if request.to.tag == tag]


ACCOUNT = DigestAccount("gate-user", "gate-password", ("carrier",))


def with_account() -> GateConfig:
    config = default_config()
    return replace(config, trunks=(replace(config.trunks[0], account=ACCOUNT),))


@contextmanager
def forked(config: GateConfig | None = None) -> Iterator[tuple[GateBench, ForkingCarrier, UaCall]]:
    """A call whose INVITE has just reached the carrier; the caller ends the talk if nobody else has."""
    with GateBench(config=config) as bench:
        carrier = ForkingCarrier(bench)
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.1)
        yield bench, carrier, call
        if call.status == 200 and not call.has_ended():
            call.bye()

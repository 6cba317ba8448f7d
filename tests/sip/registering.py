"""REGISTER requests and a registrar to send them to."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.sip.flow import Flow, ListenPoint
from proxy.sip.gruu import Gruus
from proxy.sip.message import Request
from proxy.sip.parser import parse_message
from proxy.sip.reachability import Surroundings
from proxy.sip.registrar import Registrar
from proxy.sip.registration import Outcome, RegistrarConfig

GATE = Surroundings(
    (
        ListenPoint("UDP", "192.0.2.1", 5060),
        ListenPoint("TCP", "192.0.2.1", 5060),
        ListenPoint("UDP", "2001:db8::1", 5060),
    ),
    frozenset({"example.com", "192.0.2.1"}),
)
PHONE = Flow("UDP", "192.0.2.20", 5060)
CONTACT = "<sip:204@192.0.2.20:5060>"
START = 1000.0


def register_request(
    *contacts: str,
    expires: str | None = None,
    to: str = "sip:204@example.com",
    uri: str = "sip:example.com",
    call_id: str = "r1",
    cseq: int = 1,
    via: str = "SIP/2.0/UDP 192.0.2.20:5060;branch=z9hG4bK-r",
    headers: Sequence[str] = (),
) -> Request:
    lines = [
        f"REGISTER {uri} SIP/2.0",
        f"Via: {via}",
        "Max-Forwards: 70",
        f"From: <{to}>;tag=f",
        f"To: <{to}>",
        f"Call-ID: {call_id}",
        f"CSeq: {cseq} REGISTER",
        *(f"Contact: {contact}" for contact in contacts),
        *headers,
    ]
    if expires is not None:
        lines.append(f"Expires: {expires}")
    message = parse_message("\r\n".join([*lines, "Content-Length: 0", "", ""]).encode())
    assert isinstance(message, Request)
    return message


class Bench:
    """A registrar, its clock, and a phone that counts its CSeq."""

    def __init__(
        self, config: RegistrarConfig | None = None, gate: Surroundings = GATE, gruus: Gruus | None = None
    ) -> None:
        self.registrar = Registrar(config or RegistrarConfig(), gate, gruus)
        self.now = START
        self.cseq = 0

    def register(
        self,
        *contacts: str,
        user: str = "204",
        source: Flow = PHONE,
        cseq: int | None = None,
        call_id: str = "r1",
        expires: str | None = None,
        to: str = "sip:204@example.com",
        uri: str = "sip:example.com",
        via: str = "SIP/2.0/UDP 192.0.2.20:5060;branch=z9hG4bK-r",
        headers: Sequence[str] = (),
    ) -> Outcome:
        self.cseq += 1
        request = register_request(
            *contacts,
            expires=expires,
            to=to,
            uri=uri,
            call_id=call_id,
            cseq=self.cseq if cseq is None else cseq,
            via=via,
            headers=headers,
        )
        return self.registrar.register(request, source, user=user, names={user}, now=self.now)

    def contacts(self, user: str = "204") -> list[str]:
        return [binding.contact for binding in self.registrar.bindings(user)]


def listed(outcome: Outcome) -> list[str]:
    """The Contacts of a 200."""
    assert outcome.status == 200, outcome
    return [value for name, value in outcome.headers if name == "Contact"]


def header(outcome: Outcome, wanted: str) -> list[str]:
    return [value for name, value in outcome.headers if name == wanted]

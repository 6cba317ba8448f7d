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
OTHER = "<sip:204@192.0.2.21:5060>"
INSTANCE = '+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>"'
TCP = Flow("TCP", "192.0.2.20", 41000, 1, 7)
OUTBOUND = ("Supported: path, outbound",)
PROXIED = "SIP/2.0/UDP 192.0.2.30;branch=z9hG4bK-p, SIP/2.0/UDP 192.0.2.20:5060;branch=z9hG4bK-r"
PATH = ("Supported: path", "Path: <sip:192.0.2.30:5070;lr>, <sip:edge.example.net;lr;ob>")
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


def flow_contact(reg_id: int, host: int = 20) -> str:
    """One of several flows of a phone to the gate (RFC 5626 §6)."""
    return f"<sip:204@192.0.2.{host}:5060>;{INSTANCE};reg-id={reg_id}"


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


def target_hosts(registrar: Registrar) -> list[list[str]]:
    """Where a call would go: who is tried together, one group after the other."""
    return [[binding.contact.partition("@")[2] for binding in group] for group in registrar.targets("204")]

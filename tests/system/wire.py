"""SIP written and read word for word over a real socket: what no phone says, and each byte of the answer.

A `Wire` is a UDP socket, a `Dialog` one call of it with an RTP port of its own. Nothing of the gate's own SIP
is used here, nothing is repeated, and nothing is answered that the test does not answer.
"""

from __future__ import annotations

import itertools
import re
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.support.rtp import RtpPeer
from tests.system.gate import GATE_ADDRESS
from tests.system.media import PATIENCE

_serial = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Message:
    """One SIP message as it came."""

    text: str

    @property
    def lines(self) -> list[str]:
        """The start line and the header lines."""
        return self.text.partition("\r\n\r\n")[0].split("\r\n")

    @property
    def body(self) -> str:
        """What follows the empty line."""
        return self.text.partition("\r\n\r\n")[2]

    @property
    def status(self) -> int:
        """Status of a response."""
        return int(self.lines[0].split(" ")[1])

    def all(self, name: str) -> list[str]:
        """Return the values of each header line of this name, in order."""
        split = [line.partition(":") for line in self.lines[1:]]
        return [value.strip() for found, _, value in split if found.strip().lower() == name.lower()]

    def __getitem__(self, name: str) -> str:
        """Return the value of the one header line of this name."""
        (value,) = self.all(name)
        return value


def uri_of(address: str) -> str:
    """Return the URI of a name-addr."""
    found = re.search("<(.*?)>", address)
    assert found is not None, address
    return found[1]


class Wire:
    """A UDP socket of one who calls the gate, or whom it calls."""

    def __init__(self, address: str, gate_port: int, *, port: int = 0) -> None:
        self.address = address
        self._gate = (GATE_ADDRESS, gate_port)
        self._held = ExitStack()
        self._socket = self._held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._socket.bind((address, port))
        self._socket.settimeout(0.1)
        self.port = int(self._socket.getsockname()[1])
        self._waiting: list[Message] = []
        self._known: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Be gone: whatever is sent here from now on is refused."""
        self._held.close()

    def send(self, *lines: str, body: str = "") -> None:
        """Send a message of these lines."""
        self.throw("\r\n".join((*lines, f"Content-Length: {len(body)}", "", body)).encode())

    def throw(self, data: bytes) -> None:
        """Send whatever this is."""
        self._socket.sendto(data, self._gate)

    def receive(self, *words: str) -> Message:
        """Return the first message that has all of these in it; the others wait."""
        until = time.monotonic() + PATIENCE
        while True:
            for message in self._waiting:
                if all(word in message.text for word in words):
                    self._waiting.remove(message)
                    return message
            assert time.monotonic() < until, (words, [message.lines[0] for message in self._waiting])
            self._take()

    def has(self, *words: str) -> bool:
        """Say whether a message with all of these in it has come by now."""
        while self._take():
            pass
        return any(all(word in message.text for word in words) for message in self._waiting)

    def _take(self) -> bool:
        try:
            self._waiting.append(Message(self._socket.recv(65_535).decode()))
        except TimeoutError:
            return False
        return True

    def rtp(self) -> RtpPeer:
        """Return an RTP port at the same address."""
        return self._held.enter_context(RtpPeer(self.address))

    def dialog(self, number: str, user: str = "201") -> Dialog:
        """Return what may become a call from here."""
        serial = next(_serial)
        return Dialog(
            self,
            call_id=f"{serial}-{self.port}@{self.address}",
            local=f"<sip:{user}@{self.address}:{self.port}>;tag=near{serial}",
            remote=f"<sip:{number}@{GATE_ADDRESS}>",
            target=f"sip:{number}@{GATE_ADDRESS}:{self._gate[1]}",
        )

    def call(self, number: str, *changes: str, user: str = "201", body: str | None = None) -> Dialog:
        """Send an INVITE; for ``changes`` see `Dialog.request`. Without ``body`` it offers PCMU."""
        dialog = self.dialog(number, user)
        asserted = f"P-Asserted-Identity: <sip:{user}@{self.address}>"
        body = dialog.description() if body is None else body
        dialog.request("INVITE", asserted, *changes, body=body)
        return dialog

    def called(self) -> Dialog:
        """Wait for a call and return its other side, which has not answered yet."""
        invite = self.receive("INVITE sip:")
        while invite["Call-ID"] in self._known:
            invite = self.receive("INVITE sip:")
        self._known.add(invite["Call-ID"])
        local = f"{invite['To']};tag=far{next(_serial)}"
        dialog = Dialog(
            self, invite["Call-ID"], local, invite["From"], uri_of(invite["Contact"]), invite=invite
        )
        dialog.hear(invite)
        return dialog


@dataclass
class Dialog:
    """One call of a wire: what its requests say, and where its media goes."""

    wire: Wire
    call_id: str
    local: str
    remote: str
    target: str
    cseq: int = 0
    invite: Message | None = None
    """What began it, where the gate did."""
    version: int = 0
    via: str = ""
    """Of the last request but for ACK: what its CANCEL has."""
    contact: str = ""
    """URI of its Contact, if not its address."""
    rtp: RtpPeer = field(init=False)

    def __post_init__(self) -> None:
        self.rtp = self.wire.rtp()

    def description(self, direction: str = "sendrecv", *, media: str = "") -> str:
        """Return SDP with this RTP port; ``media`` in place of PCMU and telephone-events."""
        self.version += 1
        formats = media or "0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000"
        here = f"IN IP4 {self.wire.address}"
        return (
            f"v=0\r\no=- 1 {self.version} {here}\r\ns=-\r\nc={here}\r\n"
            f"t=0 0\r\nm=audio {self.rtp.port} RTP/AVP {formats}\r\na={direction}\r\n"
        )

    def request(self, method: str, *changes: str, body: str = "", number: int = 0) -> str:
        """Send a request and return the branch of its Via.

        ``changes`` are header lines that stand in place of those of the same name, or besides; one without a
        colon is the Request-URI. ``number`` is the one of CSeq, else the next.
        """
        self.cseq += not number and method != "ACK"
        branch = f"z9hG4bK-{next(_serial)}"
        here = f"{self.wire.address}:{self.wire.port}"
        lines = {
            "Via": f"Via: SIP/2.0/UDP {here};branch={branch}",
            "Max-Forwards": "Max-Forwards: 70",
            "From": f"From: {self.local}",
            "To": f"To: {self.remote}",
            "Call-ID": f"Call-ID: {self.call_id}",
            "CSeq": f"CSeq: {number or self.cseq} {method}",
            "Contact": f"Contact: <sip:{here}>",
        }
        if body:
            lines["Content-Type"] = "Content-Type: application/sdp"
        if method != "ACK":
            self.via = lines["Via"]
        uri, changed = self.target, {}
        for line in changes:
            name, colon, _ = line.partition(": ")
            if colon:
                changed[name] = line
            else:
                uri = line
        self.wire.send(f"{method} {uri} SIP/2.0", *(lines | changed).values(), body=body)
        return branch

    def response(self, status: int, method: str = "INVITE", number: int = 0) -> Message:
        """Wait for a response to a request, the last one unless ``number`` says which.

        A final one to an INVITE gets its ACK; media goes where its SDP says.
        """
        number = number or self.cseq
        found = self.wire.receive(f"SIP/2.0 {status}", f"Call-ID: {self.call_id}", f"CSeq: {number} {method}")
        if method != "INVITE" or found.status == 100:
            return found
        if found.status < 300:
            self.hear(found)
        if 200 <= found.status < 300:
            self.remote, self.target = found["To"], uri_of(found["Contact"])
            self.request("ACK", number=number)
        elif found.status >= 300:
            self.request("ACK", f"Via: {found.all('Via')[0]}", f"To: {found['To']}", number=number)
        return found

    def asked(self, method: str) -> Message:
        """Wait for a request of the gate within this dialog."""
        return self.wire.receive(f"{method} sip:", f"Call-ID: {self.call_id}")

    def respond(self, request: Message, status: int, *lines: str, body: str = "") -> None:
        """Answer a request of the gate."""
        to = request["To"] if ";tag=" in request["To"] else self.local
        kept = [
            line for line in request.lines[1:] if line.split(":")[0] in {"Via", "From", "Call-ID", "CSeq"}
        ]
        contact = f"Contact: <{self.contact or f'sip:{self.wire.address}:{self.wire.port}'}>"
        if body:
            lines = (*lines, "Content-Type: application/sdp")
        self.wire.send(f"SIP/2.0 {status} Because", *kept, f"To: {to}", contact, *lines, body=body)

    def ring(self) -> None:
        """Ring for the call that the gate has placed."""
        assert self.invite is not None
        self.respond(self.invite, 180)

    def answer(self) -> None:
        """Take the call that the gate has placed, and wait for the ACK."""
        assert self.invite is not None
        self.respond(self.invite, 200, body=self.description())
        self.asked("ACK")

    def refuse(self, status: int) -> None:
        """Refuse the call that the gate has placed, and wait for the ACK."""
        assert self.invite is not None
        self.respond(self.invite, status)
        self.asked("ACK")

    def hang_up(self) -> None:
        """End the call."""
        self.request("BYE")
        self.response(200, "BYE")

    def hung_up(self) -> Message:
        """Wait for the gate to end the call, and agree."""
        bye = self.asked("BYE")
        self.respond(bye, 200)
        return bye

    def hear(self, message: Message) -> None:
        """Send media where this description wants it, if there is one."""
        address = re.search(r"^c=IN IP4 (\S+)", message.body, re.MULTILINE)
        port = re.search(r"^m=audio (\d+)", message.body, re.MULTILINE)
        if address is not None and port is not None:
            self.rtp.target = (address[1], int(port[1]))

    def type(self, keys: str) -> None:
        """Press keys (RFC 4733)."""
        for key in keys:
            self.rtp.press(key)

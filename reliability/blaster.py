"""More calls than a gate can carry: templates instead of endpoints on both sides, so one core makes them.

The caller repeats nothing, which offers a little less than real phones would; the callee answers at once.
"""

from __future__ import annotations

import heapq
import re
import secrets
import select
import socket
import time
from dataclasses import dataclass, field

__all__ = ["Blaster", "Offered"]

HOST = "127.0.0.1"
_SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio {port} RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n"
)
_ECHOED = re.compile(r"^(?:Via|From|Call-ID|CSeq|Record-Route): .*\r\n", re.MULTILINE)
_TO = re.compile(r"^To: (.*)\r\n", re.MULTILINE)
_FROM = re.compile(r"^From: (.*)\r\n", re.MULTILINE)
_CALL_ID = re.compile(r"^Call-ID: (.*)\r\n", re.MULTILINE)
_CONTACT = re.compile(r"^Contact: <(.*?)>", re.MULTILINE)


@dataclass
class Offered:
    """What became of the calls that were offered at one rate."""

    rate: float
    seconds: float
    sent: int = 0
    completed: int = 0
    """Answered, talked, and their BYE answered."""
    declined: list[float] = field(default_factory=list)
    """Seconds until each 503 that counts."""
    retry_after: int = 0
    """503s that had one."""
    other: dict[int, int] = field(default_factory=dict)
    """Other refusals, by status."""
    answers: list[float] = field(default_factory=list)
    """Seconds until each 200."""
    unanswered_byes: int = 0

    @property
    def goodput(self) -> float:
        """Completed calls per second."""
        return self.completed / self.seconds


class Blaster:
    """A PBX and a carrier on one thread."""

    def __init__(self) -> None:
        self._caller, self._callee, self._sink = (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)
        )
        for sock in (self._caller, self._callee, self._sink):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024 * 1024)
            sock.bind((HOST, 0))
            sock.setblocking(False)
        self._sdp = _SDP.format(port=self._sink.getsockname()[1])
        self._placed: dict[str, float] = {}
        """When each call that has no final answer was placed, by Call-ID."""
        self._byes: list[tuple[float, str]] = []
        self._hanging: set[str] = set()
        self._counted_from = 0.0
        self._dialogs: dict[str, str] = {}
        """The ACK of each answered call, by Call-ID."""

    @property
    def carrier_port(self) -> int:
        """Where the callee listens."""
        return int(self._callee.getsockname()[1])

    def close(self) -> None:
        """Close the sockets."""
        for sock in (self._caller, self._callee, self._sink):
            sock.close()

    def offer(
        self, gate_port: int, *, rate: float, seconds: float, hold: float = 0.2, warm_up: float = 0.0
    ) -> Offered:
        """Place calls at an even rate, and wait for what becomes of them; how long a 503 took counts of those
        that were placed after ``warm_up``.
        """
        result = Offered(rate, seconds)
        gate = (HOST, gate_port)
        for kept in (self._placed, self._byes, self._hanging, self._dialogs):
            kept.clear()
        began = time.monotonic()
        end = began + seconds
        self._counted_from = began + warm_up
        while (now := time.monotonic()) < end or (self._busy and now < end + 10.0):
            while now < end and result.sent < (now - began) * rate:
                self._invite(gate, now)
                result.sent += 1
            while self._byes and self._byes[0][0] <= now:
                _, call_id = heapq.heappop(self._byes)
                self._caller.sendto(self._bye(call_id).encode(), gate)
            readable, _, _ = select.select([self._caller, self._callee], [], [], 0.001)
            for _ in range(256):
                if not (self._take_answer(gate, result, hold) or self._take_call()) and readable:
                    break
        result.unanswered_byes = len(self._hanging)
        return result

    @property
    def _busy(self) -> bool:
        return bool(self._placed or self._byes or self._hanging)

    def _invite(self, gate: tuple[str, int], now: float) -> None:
        call_id, port = secrets.token_hex(8), self._caller.getsockname()[1]
        self._placed[call_id] = now
        message = (
            f"INVITE sip:4155550123@{HOST}:{gate[1]} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {HOST}:{port};branch=z9hG4bK{call_id}\r\nMax-Forwards: 70\r\n"
            f"From: <sip:204@{HOST}>;tag={call_id}\r\nTo: <sip:4155550123@{HOST}>\r\nCall-ID: {call_id}\r\n"
            f"CSeq: 1 INVITE\r\nContact: <sip:204@{HOST}:{port}>\r\nContent-Type: application/sdp\r\n"
            f"Content-Length: {len(self._sdp)}\r\n\r\n{self._sdp}"
        )
        self._caller.sendto(message.encode(), gate)

    def _take_answer(self, gate: tuple[str, int], result: Offered, hold: float) -> bool:
        try:
            message = self._caller.recv(65_535).decode()
        except BlockingIOError:
            return False
        if not message.startswith("SIP/2.0 "):
            return True
        status, call_id = int(message[8:11]), _found(_CALL_ID, message)
        if "\r\nCSeq: 2 BYE" in message:
            if call_id in self._hanging:
                self._hanging.discard(call_id)
                result.completed += 1
            return True
        if status < 200:
            return True
        now = time.monotonic()
        placed = self._placed.pop(call_id, None)
        if status >= 300:
            self._caller.sendto(self._ack(call_id, message, f"z9hG4bK{call_id}").encode(), gate)
        elif placed is not None:
            self._dialogs[call_id] = self._ack(call_id, message, f"z9hG4bKa{call_id}")
            heapq.heappush(self._byes, (now + hold, call_id))
            self._hanging.add(call_id)
        if call_id in self._dialogs:
            self._caller.sendto(self._dialogs[call_id].encode(), gate)
        if placed is not None:
            self._count(result, message, status, placed, now)
        return True

    def _count(self, result: Offered, message: str, status: int, placed: float, now: float) -> None:
        if status == 503:
            if placed >= self._counted_from:
                result.declined.append(now - placed)
            result.retry_after += "\r\nRetry-After" in message
        elif status >= 300:
            result.other[status] = result.other.get(status, 0) + 1
        else:
            result.answers.append(now - placed)

    def _ack(self, call_id: str, response: str, branch: str) -> str:
        contact = _CONTACT.search(response)
        uri = contact[1] if contact else f"sip:4155550123@{HOST}"
        return (
            f"ACK {uri} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {HOST}:{self._caller.getsockname()[1]};branch={branch}\r\n"
            f"Max-Forwards: 70\r\nFrom: {_found(_FROM, response)}\r\nTo: {_found(_TO, response)}\r\n"
            f"Call-ID: {call_id}\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n"
        )

    def _bye(self, call_id: str) -> str:
        ack = self._dialogs[call_id]
        return (
            ack.replace("ACK ", "BYE ", 1)
            .replace("CSeq: 1 ACK", "CSeq: 2 BYE")
            .replace("z9hG4bKa", "z9hG4bKb")
        )

    def _take_call(self) -> bool:
        try:
            data, address = self._callee.recvfrom(65_535)
        except BlockingIOError:
            return False
        message = data.decode()
        method = message.partition(" ")[0]
        if method not in {"ACK", "SIP/2.0"}:
            body, to = "", _found(_TO, message)
            extra = "" if ";tag=" in to else ";tag=callee"
            if method == "INVITE":
                body = self._sdp
                extra += (
                    f"\r\nContact: <sip:callee@{HOST}:{self.carrier_port}>\r\nContent-Type: application/sdp"
                )
            echoed = "".join(_ECHOED.findall(message))
            answer = f"SIP/2.0 200 OK\r\n{echoed}To: {to}{extra}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
            self._callee.sendto(answer.encode(), address)
        return True


def _found(pattern: re.Pattern[str], message: str) -> str:
    found = pattern.search(message)
    return found[1] if found else ""

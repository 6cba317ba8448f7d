"""The source of a flood, in a process of its own: so many requests a second from so many addresses.

`python -m reliability._flooder PORT RATE SECONDS HOST...` prints one JSON object when it is through.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from dataclasses import asdict, dataclass

from reliability.strangers import request

__all__ = ["Flooded"]

BURST_SECONDS = 0.01
LAST_ANSWERS = 3.0
"""Seconds without any answer after which none is awaited."""
NUMBER = b"NNNNNNNN"
CONTACT = "Contact: <sip:mallory@127.0.0.1:9>\r\n"
SDP = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n"
_CALL_ID = re.compile(rb"\r\nCall-ID: flood-(\d+)")


@dataclass
class Flooded:
    """What went out and came back."""

    sent: int = 0
    answered: int = 0
    """Requests with an answer."""
    repeated: int = 0
    """Answers beyond the first one to a request."""
    seconds: float = 0.0
    largest: float = 0.0
    """The largest answer, in sizes of its request."""


def _templates() -> list[bytes]:
    """Return what strangers send, each with the places of its number."""
    call_id = "flood-" + NUMBER.decode()
    session = CONTACT + "Content-Type: application/sdp\r\n"
    made = [
        request("REGISTER", CONTACT, call_id=call_id),
        request("INVITE", session, SDP, to="14155550123", call_id=call_id),
        request("SUBSCRIBE", CONTACT + "Event: dialog\r\n", call_id=call_id),
        request("OPTIONS", call_id=call_id),
        request("REGISTER", call_id=call_id),
    ]
    return [re.sub(rb"branch=[^;\r]*", b"branch=z9hG4bK" + NUMBER, data) for data in made]


class Flooder:
    """Strangers' sockets, one per address."""

    def __init__(self, port: int, hosts: list[str]) -> None:
        self.done = Flooded()
        self._templates = _templates()
        self._seen = bytearray()
        self._poll, self._phones = select.epoll(), dict[int, socket.socket]()
        for host in hosts:
            phone = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            phone.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)
            phone.bind((host, 0))
            phone.connect(("127.0.0.1", port))
            self._phones[phone.fileno()] = phone
            self._poll.register(phone, select.EPOLLIN)

    def flood(self, rate: float, seconds: float) -> Flooded:
        """Send, and read what comes back."""
        senders, done = list(self._phones.values()), self.done
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < seconds:
            while done.sent < passed * rate:
                data = self._templates[done.sent % len(self._templates)]
                self._seen.append(0)
                senders[done.sent % len(senders)].send(data.replace(NUMBER, b"%08d" % done.sent))
                done.sent += 1
            self._read(BURST_SECONDS)
        done.seconds = time.monotonic() - begun
        silent_since = time.monotonic()
        while done.answered < done.sent and time.monotonic() - silent_since < LAST_ANSWERS:
            if self._read(0.1):
                silent_since = time.monotonic()
        return done

    def _read(self, wait: float) -> bool:
        found = self._poll.poll(wait)
        for descriptor, _ in found:
            while True:
                try:
                    answer = self._phones[descriptor].recv(65_536)
                except BlockingIOError:
                    break
                self._count(answer)
        return bool(found)

    def _count(self, answer: bytes) -> None:
        named = _CALL_ID.search(answer)
        assert named is not None, answer
        number, done = int(named[1]), self.done
        asked = len(self._templates[number % len(self._templates)])
        done.largest = max(done.largest, len(answer) / asked)
        if self._seen[number]:
            done.repeated += 1
        else:
            done.answered += 1
        self._seen[number] = 1


def main() -> None:
    """Flood as the arguments say."""
    port, rate, seconds, *hosts = sys.argv[1:]
    print(json.dumps(asdict(Flooder(int(port), hosts).flood(float(rate), float(seconds)))))


if __name__ == "__main__":
    main()

"""Messages out of a byte stream, for TCP and TLS (RFC 3261 §18.3, RFC 5626 §3.5.1).

Sans-I/O: feed what was read, take the whole messages, write what is due. Each frame is what `parse_message`
takes.

A stream whose framing is lost can't be resumed (RFC 4475 §3.1.2.2, §3.3.9): `StreamFramer.failure` then says
why, carries the response that may still be written, and the connection is to be closed.
"""

from __future__ import annotations

import re
from typing import Final

from proxy.errors import RemoteProtocolError
from proxy.sip.message import Request, Response
from proxy.sip.parser import MAX_MESSAGE_SIZE, is_answerable, parse_message

__all__ = ["MAX_HEAD_SIZE", "FramingError", "StreamFramer"]

MAX_HEAD_SIZE: Final = 32_768
"""Octets from the start line to the empty line; a stream that brings more without one is no SIP."""

# Content-Length in its long and compact form, its value perhaps on a continuation line. Read from the bytes,
# so that a message is decoded once only, when it is whole.
_CONTENT_LENGTH: Final = re.compile(
    rb"\r\n(?:content-length|l)[ \t]*:[ \t]*((?:\r\n[ \t]+)?)([^\r\n]*)", re.IGNORECASE
)


class FramingError(RemoteProtocolError):
    """The stream holds no SIP message where one must begin, or one without a usable length.

    ``answer`` is a response to write before the connection is closed, or b"" where none is due.
    """

    def __init__(self, message: str, *, status_hint: int = 400, answer: bytes = b"") -> None:
        super().__init__(message, status_hint=status_hint)
        self.answer = answer


class StreamFramer:
    """Cuts one connection's byte stream into messages.

    ``answers_pings`` is for connections that the peer opened: there a double CRLF is a ping that wants a
    single CRLF back (RFC 5626 §4.4.1). On connections of our own, CRLFs are answers to ours: swallowed.
    Sizes are in octets.
    """

    __slots__ = ("_answers_pings", "_buffer", "_needed", "_pongs_due", "failure", "max_head", "max_message")

    failure: FramingError | None
    """Why the stream ended in error; then `feed` takes nothing more."""

    def __init__(
        self,
        *,
        answers_pings: bool = True,
        max_head: int = MAX_HEAD_SIZE,
        max_message: int = MAX_MESSAGE_SIZE,
    ) -> None:
        self._answers_pings = answers_pings
        self.max_head = max_head
        self.max_message = max_message
        self._buffer = bytearray()
        self._needed = 0
        self._pongs_due = 0
        self.failure = None

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was read; give the messages that are whole now. Then see `failure` and `take_pongs`."""
        frames: list[bytes] = []
        if self.failure is not None:
            return frames
        searched_from = max(0, len(self._buffer) - 3)
        self._buffer += data
        while len(self._buffer) >= max(self._needed, 1):
            try:
                frame = self._next(searched_from)
            except FramingError as failure:
                self.failure = failure
                self._buffer.clear()
                break
            if frame is None:
                break
            if frame:
                frames.append(frame)
            searched_from = 0
        return frames

    def take_pongs(self) -> int:
        """Give the number of single CRLFs to write as answers to pings, and forget it."""
        due, self._pongs_due = self._pongs_due, 0
        return due

    @property
    def is_between_messages(self) -> bool:
        """Nothing of an unfinished message is held: the peer may close without having lost anything."""
        return not self._buffer.strip(b"\r\n")

    def _next(self, searched_from: int) -> bytes | None:
        """Cut one message off, or b"" for a keep-alive; None when more octets are needed."""
        buffer = self._buffer
        if self._needed:
            return self._cut()
        if buffer[0] in b"\r\n":
            return self._skip_line_ends()
        end = buffer.find(b"\r\n\r\n", searched_from)
        if end < 0:
            if len(buffer) > self.max_head:
                raise FramingError("head too long", status_hint=513)
            return None
        if end + 4 > self.max_head:
            raise FramingError(
                "head too long", status_hint=513, answer=_answer(bytes(buffer[: end + 4]), 513)
            )
        head = bytes(buffer[: end + 4])
        length = _content_length(head)
        if length < 0:
            raise FramingError("no usable Content-Length on a stream", answer=_answer(head, 400))
        if len(head) + length > self.max_message:
            raise FramingError("message too large", status_hint=513, answer=_answer(head, 513))
        self._needed = len(head) + length
        return self._cut() if len(buffer) >= self._needed else None

    def _cut(self) -> bytes:
        frame = bytes(self._buffer[: self._needed])
        del self._buffer[: self._needed]
        self._needed = 0
        return frame

    def _skip_line_ends(self) -> bytes | None:
        """Swallow CRLFs before a start line (RFC 3261 §7.5), counting the pings among them."""
        buffer = self._buffer
        at = 0
        while at < len(buffer) and buffer[at] in b"\r\n":
            if self._answers_pings and buffer.startswith(b"\r\n\r\n", at):
                self._pongs_due += 1
                at += 4
            elif b"\r\n\r\n".startswith(buffer[at : at + 4]) and self._answers_pings:
                break  # perhaps the first half of a ping
            else:
                at += 1
        del buffer[:at]
        return b"" if at else None


def _content_length(head: bytes) -> int:
    """Read the Content-Length that frames the message; -1 where it is absent, ambiguous or no number.

    With a bare CR or LF in the head it is ambiguous: another element may take that for the end of a line.
    """
    lines = head.count(b"\r\n")
    if head.count(b"\n") != lines or head.count(b"\r") != lines:
        return -1
    found = _CONTENT_LENGTH.findall(head)
    if len(found) != 1:
        return -1
    digits: bytes = found[0][1].strip()
    return int(digits) if digits.isdigit() and len(digits) <= 10 else -1


def _answer(head: bytes, status: int) -> bytes:
    """Make the response that goes out before the connection is closed, from a head whose body is lost."""
    try:
        message = parse_message(head)
    except RemoteProtocolError:
        return b""
    if not isinstance(message, Request) or not is_answerable(message):
        return b""
    # Stateless, hence without randomness: the To tag is the same for each repetition (RFC 3261 §8.2.7).
    return Response.to_request(message, status, to_tag="framing").serialize()

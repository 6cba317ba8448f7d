"""From bytes to messages, and the checks that a message must pass before anything else is done with it.

Parsing and judging are apart, so that a broken request can still be answered:

- `parse_message` gives a `Request` for whatever has the shape of one. What is wrong with its framing or its
  lines is kept in `Request.defect`. It raises only where no answer is possible: this is no SIP at all, or a
  response that is broken. Such input is dropped.
- `validate_request` raises `RemoteProtocolError` with the status to answer with: the defect, or what is wrong
  with the mandatory headers (RFC 3261 §8.1.1). `Response.to_request` then makes that answer from what is
  there. An ACK is never answered, nor is a request without a Via (`is_answerable`).
- `validate_response` raises for a response to drop.

After either check the typed values of the message (`cseq`, `from_`, `to`, `top_via`, `contact`,
`request_uri`, `max_forwards`, `routes`, `record_routes`) and the URIs of its addresses do not raise.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from proxy.errors import RemoteProtocolError
from proxy.sip.grammar import is_token, split_list
from proxy.sip.headers import KNOWN_SPELLINGS, Entry, Headers, canonical_name
from proxy.sip.message import Message, Request, Response

__all__ = [
    "MAX_HEADERS",
    "MAX_LINE_LENGTH",
    "MAX_MESSAGE_SIZE",
    "ParserLimits",
    "is_answerable",
    "parse_datagram",
    "parse_message",
    "validate_request",
    "validate_response",
]

MAX_MESSAGE_SIZE: Final = 65_535
"""Octets of one message, head and body (what a UDP packet can hold; RFC 3261 §18.1.1)."""
MAX_HEADERS: Final = 256
"""Header lines of one message."""
MAX_LINE_LENGTH: Final = 8_192
"""Characters of one unfolded header line or start line."""


class ParserLimits(NamedTuple):
    """What one message may hold; more gets 513 (RFC 3261 §21.5.7)."""

    message_size: int = MAX_MESSAGE_SIZE
    header_lines: int = MAX_HEADERS


_LIMITS: Final = ParserLimits()

_SINGLE: Final = frozenset({"From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Length"})
"""Headers that decide about matching or framing: given twice, none counts (RFC 4475 §3.3.8)."""

_FOLDS: Final = frozenset({" ", "\t"})
_NOTHING_OR_SPACE: Final = frozenset({"", " "})


def parse_datagram(data: bytes, limits: ParserLimits = _LIMITS) -> Message | None:
    """Parse one UDP datagram; None for a keep-alive (RFC 5626 §3.5.1 and the NULs some phones send).

    Raises `RemoteProtocolError` for what can only be dropped.
    """
    if not data.strip(b"\r\n\0"):
        return None
    return parse_message(data, limits)


def parse_message(data: bytes, limits: ParserLimits = _LIMITS) -> Message:
    """Parse one message that fills ``data`` (RFC 3261 §18.3); octets behind its Content-Length are ignored.

    Raises `RemoteProtocolError` for what can only be dropped.
    """
    if data[:1] in {b"\r", b"\n"}:
        data = data.lstrip(b"\r\n")  # RFC 3261 §7.5
    defect: RemoteProtocolError | None = None
    if len(data) > limits.message_size:
        defect = RemoteProtocolError("message too large", status_hint=513)
        data = data[: limits.message_size]
    end = data.find(b"\r\n\r\n")
    if end >= 0:
        head = data[:end]
        lines = head.decode("utf-8", "surrogateescape").split("\r\n")
        rest = data[end + 4 :]
        # Every CR and LF must be part of one of the CRLFs between the lines.
        if end - len(head.translate(None, b"\r\n")) != 2 * len(lines) - 2:
            lines = _drop_broken_lines(lines)
            defect = defect or RemoteProtocolError("bare CR or LF in the head")
    else:
        lines, rest, found = _split_unusual(data)
        defect = defect or found
    headers, found = _parse_header_lines(lines, len(data), limits.header_lines)
    defect = defect or found
    length = headers.get("Content-Length")
    if length is None:
        body = rest
    else:
        body, found = _cut_body(length, rest)
        defect = defect or found
    start_line = lines[0]
    if start_line[:4].upper() == "SIP/":
        if defect is not None:
            raise defect
        return _parse_status_line(start_line, headers, body)
    request = _parse_request_line(start_line, headers, body)
    if request.defect is None:
        request.defect = defect
    return request


def _split_unusual(data: bytes) -> tuple[list[str], bytes, RemoteProtocolError | None]:
    """Split what has no CRLF CRLF: bare LF throughout, or a head without its empty line.

    The former is taken as it is meant, since then no line can hide in another; what leaves has CRLF again.
    """
    if b"\r" not in data:
        head, empty_line, rest = data.partition(b"\n\n")
        lines = head.decode("utf-8", "surrogateescape").rstrip("\n").split("\n")
    else:
        empty_line, rest = b"", b""
        lines = _drop_broken_lines(data.decode("utf-8", "surrogateescape").rstrip("\r\n").split("\r\n"))
    return lines, rest, None if empty_line else RemoteProtocolError("no empty line behind the headers")


def _join_folded(lines: list[str]) -> list[str]:
    """Join continuation lines to the lines they continue (RFC 3261 §7.3.1), their CRLF kept inside."""
    groups: list[list[str]] = [[lines[0]]]
    for line in lines[1:]:
        if line[:1] in {" ", "\t"} and len(groups) > 1:
            groups[-1].append(line)
        else:
            groups.append([line])
    return [group[0] if len(group) == 1 else "\r\n".join(group) for group in groups]


def _drop_broken_lines(lines: list[str]) -> list[str]:
    """Leave out lines with a bare CR or LF inside, which another parser would take for two lines.

    The start line stays, its control characters made spaces.
    """
    kept = [line for line in lines[1:] if "\r" not in line and "\n" not in line]
    return [lines[0].replace("\r", " ").replace("\n", " "), *kept]


def _parse_header_lines(
    lines: list[str], size: int, most: int, *, folded: bool = False
) -> tuple[Headers, RemoteProtocolError | None]:
    """Parse the header lines; ``lines[0]`` is the start line, ``size`` not less than what all have together,
    ``most`` how many are taken.

    ``folded`` says that continuation lines have been joined to theirs, CRLF inside.
    """
    defect: RemoteProtocolError | None = None
    if len(lines) > most + 1:
        defect = RemoteProtocolError("too many header lines", status_hint=513)
    if size > MAX_LINE_LENGTH and max(map(len, lines)) > MAX_LINE_LENGTH:
        # Left out, so that no answer echoes them.
        lines = [lines[0], *(line for line in lines[1:] if len(line) <= MAX_LINE_LENGTH)]
        defect = defect or RemoteProtocolError("line too long", status_hint=513)
    entries: list[Entry] = []
    first: dict[str, str] = {}
    repeated: set[str] | None = None
    known = KNOWN_SPELLINGS.get
    for line in lines[1 : most + 1]:
        spelled, colon, value = line.partition(":")
        name = known(spelled)
        if name is None or not colon:
            if line[:1] in _FOLDS and not folded:
                return _parse_header_lines(_join_folded(lines), size, most, folded=True)
            if not colon or not is_token(spelled.rstrip(" \t")):
                defect = defect or RemoteProtocolError("malformed header line")
                continue
            name = canonical_name(spelled)
        value = value.strip()
        if folded and "\r\n" in value:
            # Folding means one space (RFC 3261 §7.3.1); the line itself stays as it came.
            value = " ".join([part.strip() for part in value.split("\r\n")])
        entries.append((name, value, line))
        if name not in first:
            first[name] = value
        elif repeated is None:
            repeated = {name}
        else:
            repeated.add(name)
    if repeated is not None and not _SINGLE.isdisjoint(repeated):
        defect = defect or RemoteProtocolError("header given twice that must be single")
    return Headers.from_parts(entries, first, repeated), defect


def _cut_body(length_text: str, rest: bytes) -> tuple[bytes, RemoteProtocolError | None]:
    """Cut the body to its Content-Length (RFC 3261 §18.3); a datagram may hold more, but not less."""
    if not length_text.isascii() or not length_text.isdigit() or len(length_text) > 10:
        return rest, RemoteProtocolError("malformed Content-Length")
    length = int(length_text)
    if length > len(rest):
        return rest, RemoteProtocolError("body shorter than its Content-Length")
    return rest[:length], None


def _parse_status_line(line: str, headers: Headers, body: bytes) -> Response:
    """Parse ``SIP/2.0 200 OK`` (RFC 3261 §7.2); the reason may be empty, its space missing."""
    code, space = line[8:11], line[11:12]
    if (
        line[:8].upper() != "SIP/2.0 "
        or not code.isascii()
        or not code.isdigit()
        or space not in _NOTHING_OR_SPACE
    ):
        raise RemoteProtocolError("malformed status line")
    status = int(code)
    if not 100 <= status <= 699:
        raise RemoteProtocolError("status out of range")
    return Response(status, line[12:], headers, body)


def _parse_request_line(line: str, headers: Headers, body: bytes) -> Request:
    """Parse ``INVITE sip:user@host SIP/2.0`` (RFC 3261 §7.1); raises when it is no request line at all."""
    words = line.split(" ")
    if len(words) == 3 and words[2] == "SIP/2.0" and words[1] and is_token(words[0]):
        return Request(words[0], words[1], headers, body)
    words = line.split()
    if len(words) < 2 or not is_token(words[0]):
        raise RemoteProtocolError("neither request nor response")
    versioned = len(words) > 2 and words[-1][:4].upper() == "SIP/"
    request = Request(words[0], " ".join(words[1:-1] if versioned else words[1:]), headers, body)
    if versioned and words[-1].upper() != "SIP/2.0":
        request.defect = RemoteProtocolError("unknown SIP version", status_hint=505)
    elif not versioned or line.count(" ") != 2 or len(line.split(" ")) != len(words):
        request.defect = RemoteProtocolError("malformed request line")
    return request


def is_answerable(request: Request) -> bool:
    """Say whether an error response may go out: it has a Via to echo and is no ACK (RFC 3261 §17.1.1.3)."""
    return request.method != "ACK" and "Via" in request.headers


def validate_request(request: Request) -> None:
    """Check what every request must have (RFC 3261 §8.1.1, §8.2); raises with the answer.

    An absent Max-Forwards, From tag or branch is no fault: RFC 2543 elements know none (RFC 4475 §3.4.1).
    """
    defect = request.defect
    if defect is not None:
        # A new instance: its traceback must not tie the request to this frame.
        raise RemoteProtocolError(str(defect), status_hint=defect.status_hint)
    _validate_common(request)
    if request.cseq.method != request.method:
        raise RemoteProtocolError("CSeq of another method")
    _ = request.max_forwards
    if request.request_uri.headers:
        # A header that hides in the Request-URI must never come to life behind the gate (RFC 4475 §3.1.2.11).
        raise RemoteProtocolError("headers in the Request-URI")


def validate_response(response: Response) -> None:
    """Check what every response must have; raises `RemoteProtocolError` for one to drop.

    More than one Via means that the response was meant for someone before us (RFC 3261 §8.1.3.3).
    """
    _validate_common(response)
    via_line = response.headers.get("Via") or ""
    if response.headers.is_repeated("Via") or ("," in via_line and len(split_list(via_line)) > 1):
        raise RemoteProtocolError("response with more than one Via")


def _validate_common(message: Message) -> None:
    _ = message.top_via, message.call_id, message.cseq
    _ = message.from_.uri, message.to.uri
    for address in message.contacts:
        _ = address.uri
    if "Route" in message.headers or "Record-Route" in message.headers:
        for address in (*message.routes, *message.record_routes):
            _ = address.uri

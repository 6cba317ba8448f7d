"""Requests and responses: headers as received, typed values parsed when first asked for (RFC 3261 §7)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from proxy.errors import RemoteProtocolError
from proxy.sip.address import NameAddr, parse_addresses
from proxy.sip.grammar import MEMO_SIZE, MEMO_TEXT_LIMIT, is_token, split_top_level
from proxy.sip.headers import Entry, Headers
from proxy.sip.uri import Uri
from proxy.sip.via import Via

__all__ = ["CSeq", "Message", "Request", "Response", "reason_phrase"]

_MAX_SEQUENCE: Final = 2**32 - 1

_REASONS: Final = {
    100: "Trying",
    180: "Ringing",
    181: "Call Is Being Forwarded",
    182: "Queued",
    183: "Session Progress",
    200: "OK",
    202: "Accepted",
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Moved Temporarily",
    305: "Use Proxy",
    380: "Alternative Service",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    410: "Gone",
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    420: "Bad Extension",
    421: "Extension Required",
    422: "Session Interval Too Small",
    423: "Interval Too Brief",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    484: "Address Incomplete",
    485: "Ambiguous",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    489: "Bad Event",
    491: "Request Pending",
    493: "Undecipherable",
    494: "Security Agreement Required",
    500: "Server Internal Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Server Time-out",
    505: "Version Not Supported",
    513: "Message Too Large",
    580: "Precondition Failure",
    600: "Busy Everywhere",
    603: "Decline",
    604: "Does Not Exist Anywhere",
    606: "Not Acceptable",
}

_CLASS_REASONS: Final = {
    1: "Progress",
    2: "Success",
    3: "Redirection",
    4: "Request Failure",
    5: "Server Failure",
    6: "Global Failure",
}

_ECHOED: Final = frozenset({"Via", "From", "To", "Call-ID", "CSeq"})
"""What every response copies from its request (RFC 3261 §8.2.6.2)."""


def reason_phrase(status: int) -> str:
    """Give the usual reason phrase of a status, or one for its class."""
    return _REASONS.get(status) or _CLASS_REASONS.get(status // 100, "Unknown")


@dataclass(frozen=True, slots=True)
class CSeq:
    """Sequence number and method (RFC 3261 §20.16)."""

    number: int
    method: str

    @staticmethod
    def parse(text: str) -> CSeq:
        """Parse the header's value; raises `RemoteProtocolError` (400) when malformed or above 2**32 - 1."""
        return _parse_cseq_memo(text) if len(text) <= MEMO_TEXT_LIMIT else _parse_cseq(text)

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


def _parse_cseq(text: str) -> CSeq:
    words = text.split()
    if len(words) != 2:
        raise RemoteProtocolError("malformed CSeq")
    digits, method = words
    if not digits.isascii() or not digits.isdigit() or len(digits) > 32 or not is_token(method):
        raise RemoteProtocolError("malformed CSeq")
    number = int(digits)
    if number > _MAX_SEQUENCE:
        raise RemoteProtocolError("CSeq above 2**32 - 1")
    return CSeq(number, method)


_parse_cseq_memo = lru_cache(maxsize=MEMO_SIZE)(_parse_cseq)


class _Common:
    """What requests and responses share. Typed values are parsed once; they raise `RemoteProtocolError` (400)
    when the header is malformed, or absent though mandatory. After `validate_request` or `validate_response`
    none of them raises.

    Changing a header behind a typed value needs `forget_parsed`.
    """

    __slots__ = ("_contacts", "_cseq", "_from", "_to", "_via", "body", "headers")

    headers: Headers
    body: bytes
    _cseq: CSeq | None
    _from: NameAddr | None
    _to: NameAddr | None
    _via: Via | None
    _contacts: list[NameAddr] | None

    def __init__(self, headers: Headers | None = None, body: bytes = b"") -> None:
        self.headers = Headers() if headers is None else headers
        self.body = body
        self._cseq = None
        self._from = None
        self._to = None
        self._via = None
        self._contacts = None

    @property
    def call_id(self) -> str:
        """Call-ID; compared byte for byte (RFC 3261 §8.1.1.4)."""
        return self.headers.require("Call-ID")

    @property
    def cseq(self) -> CSeq:
        """CSeq."""
        if self._cseq is None:
            self._cseq = CSeq.parse(self.headers.require("CSeq"))
        return self._cseq

    @property
    def from_(self) -> NameAddr:
        """From."""
        if self._from is None:
            self._from = NameAddr.parse(self.headers.require("From"))
        return self._from

    @property
    def to(self) -> NameAddr:
        """To."""
        if self._to is None:
            self._to = NameAddr.parse(self.headers.require("To"))
        return self._to

    @property
    def top_via(self) -> Via:
        """The first Via value; its text is as received."""
        if self._via is None:
            value = self.headers.require("Via")
            self._via = Via.parse(value if "," not in value else split_top_level(value, ",")[0])
        return self._via

    @property
    def contacts(self) -> list[NameAddr]:
        """Every Contact; empty for none and for "*" (see `has_star_contact`)."""
        if self._contacts is None:
            lines = self.headers.get_all("Contact")
            self._contacts = parse_addresses(lines) if lines and lines != ["*"] else []
        return self._contacts

    @property
    def contact(self) -> NameAddr | None:
        """The first Contact, or None."""
        contacts = self.contacts
        return contacts[0] if contacts else None

    @property
    def has_star_contact(self) -> bool:
        """Contact is "*": all bindings, in a REGISTER (RFC 3261 §10.2.2)."""
        return self.headers.get_all("Contact") == ["*"]

    @property
    def routes(self) -> list[NameAddr]:
        """The Route values in order (RFC 3261 §20.34)."""
        return parse_addresses(self.headers.get_all("Route"))

    @property
    def record_routes(self) -> list[NameAddr]:
        """The Record-Route values in order (RFC 3261 §20.30)."""
        return parse_addresses(self.headers.get_all("Record-Route"))

    @property
    def content_type(self) -> str:
        """Media type in lower case without parameters ("application/sdp"), or "" without a Content-Type."""
        value = self.headers.get("Content-Type")
        return "" if value is None else value.partition(";")[0].strip().lower()

    def forget_parsed(self) -> None:
        """Drop the typed values, so that they are parsed again from the headers as they are now."""
        self._cseq = self._from = self._to = self._via = self._contacts = None

    def _serialize(self, start_line: str) -> bytes:
        headers, body = self.headers, self.body
        length = str(len(body))
        if headers.get("Content-Length") != length:
            headers.set("Content-Length", length)
        head = "\r\n".join([start_line, *headers.lines(), "", ""]).encode("utf-8", "surrogateescape")
        return head + body if body else head


class Request(_Common):
    """A request. ``uri`` is the Request-URI's text as received, ``method`` is case-sensitive."""

    __slots__ = ("defect", "method", "uri")

    method: str
    uri: str
    defect: RemoteProtocolError | None
    """What the parser found wrong with a request that can still be answered; None for a sound one."""

    def __init__(self, method: str, uri: str, headers: Headers | None = None, body: bytes = b"") -> None:
        super().__init__(headers, body)
        self.method = method
        self.uri = uri
        self.defect = None

    @property
    def request_uri(self) -> Uri:
        """The Request-URI, parsed; raises `RemoteProtocolError` (400) when malformed."""
        return Uri.parse(self.uri)

    @property
    def max_forwards(self) -> int | None:
        """Max-Forwards (RFC 3261 §20.22), None without one; raises `RemoteProtocolError` outside 0-255."""
        value = self.headers.get("Max-Forwards")
        if value is None:
            return None
        if not value.isascii() or not value.isdigit() or len(value) > 8 or (hops := int(value)) > 255:
            raise RemoteProtocolError("malformed Max-Forwards")
        return hops

    def note_source(self, host: str, port: int) -> None:
        """Write the packet's source into the top Via: received and rport (RFC 3261 §18.2.1, RFC 3581 §4)."""
        via = self.top_via
        stamped = via.with_source(host, port)
        if stamped is not via:
            value = self.headers.get("Via") or ""
            self.headers.replace_first("Via", str(stamped) + value[len(str(via)) :])
            self._via = stamped

    def serialize(self) -> bytes:
        """Print the message; Content-Length is made to fit the body."""
        return self._serialize(f"{self.method} {self.uri} SIP/2.0")

    def __repr__(self) -> str:
        return f"Request({self.method!r}, call_id={self.headers.get('Call-ID')!r})"


class Response(_Common):
    """A response."""

    __slots__ = ("reason", "status")

    status: int
    reason: str

    def __init__(
        self, status: int, reason: str = "", headers: Headers | None = None, body: bytes = b""
    ) -> None:
        super().__init__(headers, body)
        self.status = status
        self.reason = reason

    @classmethod
    def to_request(
        cls,
        request: Request,
        status: int,
        reason: str = "",
        *,
        to_tag: str | None = None,
        record_route: bool = False,
    ) -> Response:
        """Make the response to a request (RFC 3261 §8.2.6.2): Via, From, To, Call-ID and CSeq lines verbatim.

        ``to_tag`` is added to a To that has no tag yet. ``record_route`` copies Record-Route too, as a
        response that makes a dialog must (§12.1.1). What the request lacks is left out, so a broken request
        is answered as well as it allows.
        """
        entries: list[Entry] = []
        for entry in request.headers.entries():
            name = entry[0]
            if name in _ECHOED:
                if name == "To" and to_tag is not None and not _has_tag(entry[1]):
                    suffix = ";tag=" + to_tag
                    entry = (name, entry[1] + suffix, entry[2].rstrip() + suffix)  # noqa: PLW2901
                entries.append(entry)
            elif (record_route and name == "Record-Route") or (status == 100 and name == "Timestamp"):
                entries.append(entry)
        headers = Headers.from_entries(entries)
        if request.defect is not None:
            headers.keep_first(("From", "To", "Call-ID", "CSeq"))
        return cls(status, reason or reason_phrase(status), headers)

    def serialize(self) -> bytes:
        """Print the message; Content-Length is made to fit the body."""
        return self._serialize(f"SIP/2.0 {self.status} {self.reason}")

    def __repr__(self) -> str:
        return f"Response({self.status}, call_id={self.headers.get('Call-ID')!r})"


Message = Request | Response


def _has_tag(to_value: str) -> bool:
    if "tag" not in to_value.lower():
        return False
    try:
        return NameAddr.parse(to_value).tag is not None
    except RemoteProtocolError:
        # A To that can't be parsed is echoed as it is.
        return True

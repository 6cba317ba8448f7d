"""Messages of the endpoint as bytes, made by formatting text: no header objects on the way out.

RFC 3261 §8.1.1 (requests), §8.2.6 (responses), §17.1.1.3 (ACK), §9.1 (CANCEL).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from proxy.errors import LocalProtocolError
from proxy.sip.config import EndpointConfig
from proxy.sip.flow import DEFAULT_PORTS, Flow, ListenPoint
from proxy.sip.message import Request, reason_phrase
from proxy.sip.reliable import OPTION_TAG
from proxy.sip.via import Via

__all__ = [
    "ExtraHeaders",
    "Fixed",
    "RequestLines",
    "ResponseLines",
    "echoed_lines",
    "header_lines",
    "is_secure",
    "response_flow",
]

ExtraHeaders = Iterable[tuple[str, str]]
"""Further headers of a message, in order: name and raw value, without line ends."""


def encode(head: str, body: bytes = b"") -> bytes:
    """Encode a head; octets that were no UTF-8 when they came in go out as they were."""
    return head.encode("utf-8", "surrogateescape") + body


def header_lines(headers: Iterable[tuple[str, str]]) -> str:
    """Print headers of the TU; refuses line ends, which would let a value smuggle in other headers."""
    text = ""
    for name, value in headers:
        if "\n" in value or "\r" in value:
            raise LocalProtocolError(f"line end within the value of {name}")
        text += f"{name}: {value}\r\n"
    return text


NO_BODY = "Content-Length: 0\r\n\r\n"
"""The end of a head without a body."""


def body_lines(body: bytes, content_type: str) -> str:
    """Print the headers that describe the body, and the empty line behind them."""
    if not body:
        return NO_BODY
    return f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"


class RequestLines(NamedTuple):
    """The lines of a request that its ACK for a refusal and its CANCEL repeat.

    A named tuple, since every request that goes out makes one.
    """

    uri: str
    via: str
    """The whole Via line."""
    routes: str
    """Route lines, or ""."""
    from_: str
    """From with its tag."""
    to: str
    call_id: str
    cseq: int
    local_tag: str

    def invite(self, max_forwards: int, extra: str, body: bytes, content_type: str) -> bytes:
        """Print the INVITE; ``extra`` are whole lines."""
        return self._format("INVITE", max_forwards, self.to, extra + body_lines(body, content_type), body)

    def ack(self, to: str) -> bytes:
        """Print the ACK for a refusal, with the To of that response (§17.1.1.3)."""
        return self._format("ACK", 70, to, NO_BODY)

    def cancel(self, extra: str) -> bytes:
        """Print the CANCEL (§9.1)."""
        return self._format("CANCEL", 70, self.to, extra + NO_BODY)

    def request(self, method: str, extra: str, body: bytes, content_type: str) -> bytes:
        """Print a request other than INVITE; ``extra`` are whole lines."""
        return self._format(method, 70, self.to, extra + body_lines(body, content_type), body)

    def _format(self, method: str, max_forwards: int, to: str, rest: str, body: bytes = b"") -> bytes:
        return encode(
            f"{method} {self.uri} SIP/2.0\r\n{self.via}{self.routes}Max-Forwards: {max_forwards}\r\n"
            f"From: {self.from_}\r\nTo: {to}\r\nCall-ID: {self.call_id}\r\n"
            f"CSeq: {self.cseq} {method}\r\n{rest}",
            body,
        )


class ResponseLines:
    """What a server transaction keeps of its request: the lines that every response repeats (§8.2.6.2), and
    what a dialog is made of (§12.1.1)."""

    __slots__ = (
        "branch",
        "call_id",
        "contact",
        "cseq",
        "from_",
        "from_tag",
        "head",
        "record_routes",
        "request_size",
        "secure",
        "source",
        "timestamp",
        "to",
        "to_tag",
        "via_port",
    )

    def __init__(self, request: Request, source: Flow, size: int) -> None:
        headers = request.headers
        via = request.top_via
        contact = request.contact
        self.call_id = request.call_id
        self.cseq = request.cseq.number
        self.from_ = headers.get("From") or ""
        self.from_tag = request.from_.tag or ""
        self.head = echoed_lines(request, source)
        """Via, From, Call-ID and CSeq lines, the source noted in the Via."""
        self.to = headers.get("To") or ""
        """To as received, later with our tag."""
        self.to_tag = request.to.tag or ""
        """Our tag: the request's if it had one, otherwise "" until it is chosen."""
        self.branch = via.branch or ""
        self.via_port = via.port
        self.contact = None if contact is None else contact.uri_text
        """The peer's Contact URI."""
        self.record_routes = tuple(headers.values("Record-Route")) if "Record-Route" in headers else ()
        self.secure = _asks_for_sips(request, self.contact, self.record_routes)
        """What it says of itself in its Contact has to be a sips URI (§12.1.1)."""
        self.timestamp = headers.get("Timestamp")
        self.source = source
        """The way the request came; responses may take another one (`response_flow`)."""
        self.request_size = size
        """Octets of the request."""

    def release(self) -> None:
        """Drop what nobody needs after the final response: transactions stay in memory for half a minute."""
        self.head = self.to = self.from_ = ""
        self.contact = self.timestamp = None
        self.record_routes = ()

    def record_route_lines(self) -> str:
        """Print the Record-Route lines that a response which makes a dialog copies (§12.1.1)."""
        return "".join([f"Record-Route: {value}\r\n" for value in self.record_routes])

    def choose_tag(self, tag: str) -> None:
        """Give the To its tag, the same in every response but 100 (§8.2.6.2)."""
        self.to_tag = tag
        self.to += ";tag=" + tag

    def response(
        self, status: int, reason: str, extra: str, body: bytes = b"", content_type: str = ""
    ) -> bytes:
        """Print a response; ``extra`` are whole lines."""
        return encode(
            f"SIP/2.0 {status} {reason or reason_phrase(status)}\r\n{self.head}To: {self.to}\r\n"
            f"{extra}{body_lines(body, content_type)}",
            body,
        )

    def trying(self) -> bytes:
        """Print the 100: no tag of ours, Timestamp echoed (§8.2.6.1)."""
        extra = "" if self.timestamp is None else f"Timestamp: {self.timestamp}\r\n"
        return self.response(100, "", extra)


def echoed_lines(request: Request, source: Flow) -> str:
    """Print what every response repeats of its request but the To (§8.2.6.2), the source noted in the Via."""
    headers, via, cseq = request.headers, request.top_via, request.cseq
    vias = headers.get_all("Via")
    lines = f"Via: {_stamped(via, source)}{vias[0][len(str(via)) :]}\r\n"
    for value in vias[1:]:
        lines += f"Via: {value}\r\n"
    return (
        f"{lines}From: {headers.get('From') or ''}\r\nCall-ID: {request.call_id}\r\n"
        f"CSeq: {cseq.number} {cseq.method}\r\n"
    )


_REPLACEABLE = frozenset({"allow", "contact", "server", "supported", "user-agent"})
"""Headers of ours that the TU may replace with its own."""


class _Said(NamedTuple):
    """What one listen point calls itself."""

    via: str
    via_tail: str
    contact: str
    secure_contact: str


class Fixed:
    """Pieces of messages that never change, formatted once."""

    __slots__ = (
        "_said",
        "_said_inside",
        "allow",
        "capabilities",
        "config",
        "server",
        "supported",
        "supported_again",
        "user_agent",
    )

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self.allow = f"Allow: {', '.join(config.allow)}\r\n"
        self.supported = f"Supported: {', '.join(config.supported)}\r\n" if config.supported else ""
        again = [tag for tag in config.supported if tag != OPTION_TAG]
        self.supported_again = f"Supported: {', '.join(again)}\r\n" if again else ""
        self.server = f"Server: {config.user_agent}\r\n" if config.user_agent else ""
        self.user_agent = f"User-Agent: {config.user_agent}\r\n" if config.user_agent else ""
        self._said = [_said(point, config.contact_user) for point in config.listen_points]
        self._said_inside: dict[tuple[int, str], _Said] = {}
        self.capabilities = (
            ("Allow", ", ".join(config.allow)),
            ("Accept", ", ".join(config.accept)),
            ("Accept-Encoding", "identity"),
            ("Accept-Language", "en"),
            ("Supported", ", ".join(config.supported)),
        )

    def for_invite(self, contact: str, headers: Iterable[tuple[str, str]]) -> str:
        """Print the headers of an INVITE beside those of its dialog (§13.2.1)."""
        return self.overridden(contact + self.allow + self.supported + self.user_agent, headers)

    def for_reinvite(self, contact: str, headers: Iterable[tuple[str, str]]) -> str:
        """Print the headers of a re-INVITE (§14.1).

        It asks for no reliable provisional response: the answer comes in the 2xx, and nobody rings.
        """
        return self.overridden(contact + self.allow + self.supported_again + self.user_agent, headers)

    @staticmethod
    def overridden(text: str, headers: Iterable[tuple[str, str]]) -> str:
        """Put the TU's headers behind our own lines, in place of those of the same name."""
        if not headers:
            return text
        theirs = header_lines(headers)
        names = {line.partition(":")[0].lower() for line in theirs.split("\r\n")[:-1]}
        if names.isdisjoint(_REPLACEABLE):
            return text + theirs
        ours = [line for line in text.split("\r\n") if line.partition(":")[0].lower() not in names]
        return "\r\n".join(ours) + theirs

    def via(self, flow: Flow, branch: str) -> str:
        """Print the Via line of a request of ours (RFC 3581 §3: always with rport)."""
        said = self._towards(flow)
        return f"{said.via}{branch}{said.via_tail}"

    def contact(self, flow: Flow, user: str = "", *, secure: bool = False) -> str:
        """Print our Contact line; ``secure``: the peer's URI was a sips URI (§8.1.1.8, §12.1.1)."""
        if not user or user == self.config.contact_user:
            said = self._towards(flow)
            return said.secure_contact if secure else said.contact
        return contact(self.config.point(flow), user, secure=secure)

    def _towards(self, flow: Flow) -> _Said:
        config = self.config
        if not config.inside.networks:
            return self._said[flow.listener]
        point = config.point(flow)
        if point is config.listen_points[flow.listener]:
            return self._said[flow.listener]
        # As many as the machine has addresses.
        key = (flow.listener, point.host)
        said = self._said_inside.get(key)
        if said is None:
            said = self._said_inside[key] = _said(point, config.contact_user)
        return said


def _said(point: ListenPoint, user: str) -> _Said:
    return _Said(
        f"Via: SIP/2.0/{point.transport} {point.sent_by};branch=",
        ";rport;alias\r\n" if point.alias else ";rport\r\n",
        contact(point, user),
        contact(point, user, secure=True),
    )


def contact(point: ListenPoint, user: str, *, secure: bool = False) -> str:
    """Print the Contact line of a listen point.

    A sips URI needs no ``transport=tls``, which RFC 3261 §26.2.2 deprecates; a socket without TLS has none.
    """
    if secure and point.transport == "TLS":
        return f"Contact: <sips:{user}@{point.sent_by}>\r\n"
    return f"Contact: <sip:{user}@{point.sent_by}{point.uri_parameters}>\r\n"


def is_secure(target: str, first_route: str) -> bool:
    """Say whether a request goes by sips: its first Route does, or without one its target (§8.1.1.8)."""
    if first_route:
        return first_route.partition("<")[2][:5].lower() == "sips:"
    return target[:5].lower() == "sips:"


def _asks_for_sips(request: Request, peer: str | None, record_routes: tuple[str, ...]) -> bool:
    """Say whether the Contact of the answer must be a sips URI (§12.1.1): by the Request-URI, the top Record-
    Route, or without one the peer's Contact."""
    if request.uri[:5].lower() == "sips:":
        return True
    return is_secure(peer or "", record_routes[0] if record_routes else "")


def _stamped(via: Via, source: Flow) -> str:
    """Print a Via with the packet's source noted in it (§18.2.1, RFC 3581 §4)."""
    text = str(via)
    params = via.params
    if params.get("rport", "") is None and "received" not in params and text.count(";rport") == 1:
        # What nearly every phone sends: one ";rport" without a value.
        return f"{text.replace(';rport', f';rport={source.remote_port}')};received={source.remote_host}"
    return str(via.with_source(source.remote_host, source.remote_port))


def response_flow(via: Via, source: Flow) -> Flow:
    """Return the way responses to a request with this top Via take (RFC 3261 §18.2.2, RFC 3581 §4).

    A reliable connection is used again. A datagram is answered to the address it came from, never to
    another one that the Via may name, so that a forged Via turns no traffic on a third party: that is what
    ``received`` stands for. ``maddr`` is ignored for the same reason.
    """
    if source.transport != "UDP" or "rport" in via.params:
        return source
    port = via.port or DEFAULT_PORTS["UDP"]
    return source if port == source.remote_port else source._replace(remote_port=port)

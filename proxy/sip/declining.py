"""503 for want of time: what it repeats of a request, and which requests got it (RFC 3261 §8.2.7, §21.5.4).

While there is overload most of what comes is declined, and what that costs is missing elsewhere: a request
that is written as nearly everybody writes it is answered without being parsed.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import NamedTuple

from proxy.errors import RemoteProtocolError
from proxy.sip.flow import DEFAULT_PORTS, Flow
from proxy.sip.message import Request
from proxy.sip.transactions import ServerKey, server_key
from proxy.sip.writer import NO_BODY, echoed_lines, encode, response_flow

__all__ = ["DECLINED", "Declinable", "DeclinedRequests", "declinable", "plainly_declinable"]

DECLINED = "declined."
"""Begins the To tag of what is declined, so that its ACK is known at a glance."""
MOST = 20_000
"""Declined requests after which those before them are forgotten: of seconds, at the pace of a flood."""
_OF_A_REQUEST = frozenset({"ACK", "CANCEL"})
"""What belongs to a request that came before, and isn't refused for want of time."""
_LONGEST = 4_096
"""Octets of a request that is looked at here."""
_START = re.compile(r"(?P<method>[A-Z]+) (?P<uri>[!-~]+) SIP/2\.0\r\n")
_REPEATED = re.compile(r"\r\n(Via|From|To|Call-ID|CSeq): (\S(?:[^\r\n]*\S)?)(?=\r\n|\Z)")
_ANYHOW = re.compile(r"\n(?:[ \t]|(?:via|from|to|call-id|cseq|[vfti])[ \t]*:)", re.IGNORECASE)
"""The same headers however they are written, and lines that go on with the one before."""
_CSEQ = re.compile(r"(?:0|[1-9][0-9]{0,8}) (?P<method>[A-Z]+)")
_VIA = re.compile(
    r"SIP/2\.0/UDP (?P<host>[A-Za-z0-9.-]+)(?::(?P<port>[1-9][0-9]{1,3}|[1-5][0-9]{4}))?"
    r"(?P<rport>;rport)?;branch=(?P<branch>z9hG4bK[A-Za-z0-9.!%*_+`'~-]+)(?(rport)|(?:;rport)?)"
)


class Declinable(NamedTuple):
    """A request outside dialogs, as far as a 503 has to know it."""

    uri: str
    key: ServerKey
    echoed: str
    """Header lines that every response repeats, all but the To."""
    to: str
    back: Flow
    """The way the response takes."""

    def response(self) -> bytes:
        """Print the 503, the same one whenever the request is repeated (§8.2.7). There is no Retry-After."""
        tag = f"{DECLINED}{hash(self.key) & 0xFFFF_FFFF_FFFF_FFFF:x}"
        return encode(f"SIP/2.0 503 Service Unavailable\r\n{self.echoed}To: {self.to};tag={tag}\r\n{NO_BODY}")


def declinable(request: Request, source: Flow) -> Declinable | None:
    """Return what a 503 needs of a request; None for one that is broken or belongs to another."""
    method = request.method
    if request.defect is not None or method in _OF_A_REQUEST:
        return None
    try:
        _ = request.headers.require("From")
        to = request.headers.require("To")
        within_dialog = "tag" in to.lower() and request.to.tag is not None
        if request.cseq.method != method or within_dialog:
            return None
        back = response_flow(request.top_via, source)
        return Declinable(
            request.uri, server_key(request, method, ""), echoed_lines(request, source), to, back
        )
    except RemoteProtocolError:
        return None


def plainly_declinable(data: bytes, source: Flow) -> Declinable | None:
    """Return the same of a datagram as nearly everybody writes it, without parsing it; None says nothing.

    It has each of these headers once but the Via, spelled as in the RFC, and the top Via has a branch of this
    RFC and at most an rport without a value beside it (RFC 3581 §3). What the 503 does not repeat may be
    broken: the 400 for that can wait until there is time.
    """
    end = data.find(b"\r\n\r\n", 0, _LONGEST)
    if end < 0 or source.transport != "UDP":
        return None
    head = data[:end].decode("utf-8", "surrogateescape")
    entries = _REPEATED.findall(head)
    given = dict(entries)
    vias = [value for name, value in entries if name == "Via"]
    if len(given) != 5 or len(entries) != 4 + len(vias) or len(_ANYHOW.findall(head)) != len(entries):
        return None
    start, cseq, via, to = (
        _START.match(head),
        _CSEQ.fullmatch(given["CSeq"]),
        _VIA.fullmatch(vias[0]),
        given["To"],
    )
    if (
        start is None
        or cseq is None
        or via is None
        or "tag" in to.lower()
        or start["method"] != cseq["method"]
    ):
        return None
    method, host, port = start["method"], via["host"].lower(), via["port"] or ""
    if method in _OF_A_REQUEST:
        return None
    back, top = source, vias[0]
    if ";rport" in top:
        top = top.replace(";rport", f";rport={source.remote_port}") + f";received={source.remote_host}"
    else:
        back = source._replace(remote_port=int(port or DEFAULT_PORTS["UDP"]))
        if host != source.remote_host:
            top += f";received={source.remote_host}"
    further = "".join([f"Via: {value}\r\n" for value in vias[1:]])
    echoed = (
        f"Via: {top}\r\n{further}From: {given['From']}\r\nCall-ID: {given['Call-ID']}\r\nCSeq: {cseq[0]}\r\n"
    )
    return Declinable(start["uri"], (via["branch"], host, port, method), echoed, to, back)


class DeclinedRequests:
    """Hashes of requests that were declined, each kept for ``life`` seconds at least, twice that at most.

    Their retransmissions wait or are under way. Taken, they would be calls that their callers know nothing
    of.
    """

    __slots__ = ("_before", "_life", "_now", "_until")

    def __init__(self, life: float) -> None:
        self._life = life
        self._now: set[int] = set()
        self._until = 0.0
        """When `_now` becomes `_before`, in seconds of the caller's clock."""
        self._before: set[int] = set()

    def add(self, key: Hashable, now: float) -> None:
        """Remember one."""
        self._forget(now)
        self._now.add(hash(key))

    def holds(self, key: Hashable, now: float) -> bool:
        """Say whether a request was declined before."""
        if not self._now and not self._before:
            return False
        self._forget(now)
        return hash(key) in self._now or hash(key) in self._before

    def _forget(self, now: float) -> None:
        if now < self._until and len(self._now) < MOST:
            return
        self._before = self._now if now < self._until + self._life else set()
        self._now = set()
        self._until = now + self._life

"""Reliable provisional responses: RFC 3262.

UAS: `ReliableResponses` holds those of one INVITE. One is out at a time and is sent again, over any transport
and after T1, doubling, until its PRACK; the next ones wait in line (§3)::

    (none out) --TU sends--> Unacknowledged --PRACK--> next in line, or (none out)
                                  +--64*T1 without PRACK--> Given up (the TU refuses the INVITE)
    any --final response--> Finished (nothing is sent again; a late PRACK of what was out still counts)

UAC: `acknowledgement` says which responses are taken, and what the RAck of their PRACK says (§4).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from proxy.errors import RemoteProtocolError
from proxy.sip.timers import Timed

if TYPE_CHECKING:
    from proxy.sip.dialog import Dialog
    from proxy.sip.invite_server import InviteServerTransaction
    from proxy.sip.message import Message, Request, Response
    from proxy.sip.transactions import TransactionLayer

__all__ = ["OPTION_TAG", "RAck", "ReliableResponses", "acknowledgement", "names_extension"]

OPTION_TAG = "100rel"
_HIGHEST = 2**32 - 1
_WAITING = 16
"""Responses in line behind one whose PRACK is awaited: a callee may ring on and on."""


class RAck(NamedTuple):
    """Which response a PRACK acknowledges (§7.2)."""

    rseq: int
    cseq: int
    method: str

    @classmethod
    def of(cls, prack: Request) -> RAck:
        """Read the RAck of a PRACK; raises `RemoteProtocolError` 400."""
        parts = (prack.headers.get("RAck") or "").split()
        if len(parts) == 3:
            rseq, cseq = _number(parts[0]), _number(parts[1])
            if rseq is not None and cseq is not None:
                return cls(rseq, cseq, parts[2])
        raise RemoteProtocolError("PRACK without a sound RAck", status_hint=400)


class _Provisional(NamedTuple):
    rseq: int
    status: int
    data: bytes
    described: bool
    """It carries a session description."""


class ReliableResponses(Timed):
    """The reliable provisional responses of one INVITE that we received."""

    __slots__ = (
        "_interval",
        "_last",
        "_layer",
        "_limit",
        "_on_timeout",
        "_out",
        "_transaction",
        "_waiting",
        "cseq",
    )

    def __init__(
        self,
        layer: TransactionLayer,
        transaction: InviteServerTransaction,
        first: int,
        on_timeout: Callable[[InviteServerTransaction], None],
    ) -> None:
        """``first`` is the first RSeq, between 1 and 2**31 - 1 (§3)."""
        super().__init__()
        self._layer = layer
        self._transaction: InviteServerTransaction | None = transaction
        self._on_timeout = on_timeout
        self._last = first - 1
        self._out: _Provisional | None = None
        self._waiting: deque[_Provisional] = deque()
        self._interval = self._limit = 0.0
        self.cseq = transaction.lines.cseq
        """CSeq number of the INVITE."""

    @property
    def next_rseq(self) -> int:
        """RSeq of the response that is sent next."""
        return self._last + 1

    @property
    def withholds_success(self) -> bool:
        """A description waits for its PRACK, so no 2xx may go (§3)."""
        return any(
            provisional.described for provisional in (self._out, *self._waiting) if provisional is not None
        )

    def send(self, status: int, data: bytes, now: float, *, described: bool) -> None:
        """Send a response that was given `next_rseq`, now or when those before it are acknowledged.

        When more wait than a caller can have use for, one that says nothing new is dropped.
        """
        if len(self._waiting) >= _WAITING and not described:
            return
        self._last += 1
        provisional = _Provisional(self._last, status, data, described)
        if self._out is None:
            self._begin(provisional, now)
        else:
            self._waiting.append(provisional)

    def acknowledge(self, rack: RAck, now: float) -> bool:
        """Take a PRACK; returns whether it matches the response that is out (§3)."""
        out = self._out
        if out is None or rack != (out.rseq, self.cseq, "INVITE"):
            return False
        self._out = None
        self._layer.timers.stop(self)
        if self._waiting:
            self._begin(self._waiting.popleft(), now)
        return True

    def finish(self) -> None:
        """A final response has gone: no new one, and none again; what is out may still be acknowledged."""
        self._layer.timers.stop(self)
        self._waiting.clear()
        self._transaction = None

    def fire(self, now: float) -> None:
        """Send the response that is out again, or give up."""
        out, transaction = self._out, self._transaction
        assert out is not None and transaction is not None  # noqa: S101, PT018  (the timer runs for these)
        if now >= self._limit:
            self._on_timeout(transaction)
            return
        self._layer.send(out.data, transaction.flow)
        self._interval *= 2
        self._layer.timers.start(self, min(now + self._interval, self._limit))

    def _begin(self, provisional: _Provisional, now: float) -> None:
        assert self._transaction is not None  # noqa: S101  (nothing begins after the final response)
        self._out = provisional
        t1 = self._layer.config.t1
        self._interval, self._limit = t1, now + 64 * t1
        self._layer.timers.start(self, now + t1)
        self._transaction.respond(provisional.status, provisional.data, now)


def names_extension(message: Message, header: str) -> bool:
    """Say whether Require or Supported names this extension, however broken the rest of the header is."""
    tags = ",".join(message.headers.get_all(header)).lower().split(",")
    return OPTION_TAG in map(str.strip, tags)


def acknowledgement(response: Response, dialog: Dialog) -> str | None:
    """Return the RAck that a provisional response of our INVITE asks for: "" where it is not reliable.

    None: it is a repeated one, or one before it is missing; then it is ignored (§4).
    """
    if not names_extension(response, "Require"):
        return ""
    rseq = _number(response.headers.get("RSeq") or "")
    if not rseq:
        # A response that can't be acknowledged is as good as one that need not be.
        return ""
    if dialog.rseq is not None and rseq != dialog.rseq + 1:
        return None
    dialog.rseq = rseq
    return f"{rseq} {response.cseq.number} INVITE"


def _number(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()) or len(text) > 10:
        return None
    number = int(text)
    return number if number <= _HIGHEST else None

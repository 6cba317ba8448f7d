"""Calls of every kind between a caller and a callee, each of which knows how it has to end.

Nothing of a call is kept when it is over but its Call-ID, which begins with the name of its kind, and its
delay: a generator that grows could not tell whether the gate does.
"""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from proxy.cdr.record import Disposition
from proxy.demo_agents import HOST
from proxy.dtmf.info import DTMF_RELAY
from proxy.net.driver import Driver, Listener
from proxy.net.resolver import Resolver
from proxy.sip.config import EndpointConfig
from proxy.sip.dialog import Dialog
from proxy.sip.endpoint import Endpoint, InviteSpec
from proxy.sip.events import (
    Cancelled,
    Event,
    RequestFailed,
    RequestReceived,
    RequestTimedOut,
    ResponseReceived,
)
from proxy.sip.flow import Flow, ListenPoint
from proxy.sip.invite_client import InviteClientTransaction
from reliability.traffic import Callee, Caller

__all__ = ["CODE", "UNFINISHED_KINDS", "WHOLE_KINDS", "Kind", "MixedCallee", "MixedCaller", "Outcomes"]

CODE, WRONG_CODE = "246802", "135791"
_LOCAL, _ABROAD = "4155550", "011442079460"
"""Beginnings of a number that is free, and of one that a code is asked for; the last three digits say what
the callee does."""
ANSWERS, TRIES, RINGS, SINGS, BABBLES = "200", "100", "180", "183", "299"
REFUSALS = {"404", "486", "603"}
RING = 0.05
KEY = 0.1
"""Seconds from one key to the next."""
ENTRY = 6.0
"""Seconds from one entry to the next: what is said about the last one is over."""

_REFUSED = frozenset(range(400, 700))
_CUT_OFF = frozenset({487})
_EITHER = frozenset({200, 487})
_ANSWERED = frozenset({200})

_TALKED = frozenset({Disposition.ANSWERED})
_BUSY = frozenset({Disposition.BUSY})
_REJECTED = frozenset({Disposition.REJECTED})
_SILENT = frozenset({Disposition.NO_ANSWER})
_LEFT_RINGING = frozenset({Disposition.ABANDONED_RINGING})
_LEFT_PROMPT = frozenset({Disposition.ABANDONED_AT_PROMPT})
_CROSSED = _LEFT_RINGING | _LEFT_PROMPT | _TALKED
_UNFIT = frozenset({Disposition.NOT_ACCEPTABLE})


@dataclass(frozen=True, slots=True)
class Kind:
    """What a caller does, and how the gate and the callee must answer it."""

    name: str
    number: str
    statuses: frozenset[int]
    """One of these is the final answer to the INVITE."""
    dispositions: frozenset[Disposition]
    """One of these is what its record says."""
    weight: int = 1
    hold: float = 0.0
    """Mean seconds of talk; the caller hangs up."""
    gives_up_on: int | None = None
    """The caller cancels when it hears this provisional response; 0: at once."""
    gives_up_within: float = 0.0
    """The caller cancels at a moment within so many seconds, unless it is answered."""
    entries: tuple[str, ...] = ()
    """What is typed once the gate has answered."""
    ended_by_gate: bool = False
    """The caller does not hang up."""
    acks: bool = True
    offer: bytes = b""
    """Instead of a sound one."""
    callers: range = range(3_000, 3_100)
    """Who guesses codes is locked sooner or later, and must be nobody whom other kinds need."""

    @property
    def has_delay(self) -> bool:
        """Its answer is the callee's, and comes as soon as the gate and the callee's ringing allow."""
        return self.statuses == _ANSWERED and not self.entries and self.acks


WHOLE_KINDS = (
    Kind("answered", _LOCAL + ANSWERS, _ANSWERED, _TALKED, weight=45, hold=2.0),
    Kind("help", "911", _ANSWERED, _TALKED, weight=4, hold=1.0),
    Kind("busy", _LOCAL + "486", frozenset({486}), _BUSY, weight=10),
    Kind("refused", _LOCAL + "603", frozenset({603}), _REJECTED, weight=6),
    Kind("cancelled", _LOCAL + RINGS, _CUT_OFF, _LEFT_RINGING, weight=12, gives_up_within=3.0),
    Kind("no-answer", _LOCAL + RINGS, _REFUSED, _SILENT, weight=6),
    Kind("good-code", _ABROAD + ANSWERS, _ANSWERED, _TALKED, weight=10, hold=2.0, entries=(CODE,)),
    Kind(
        "second-try",
        _ABROAD + ANSWERS,
        _ANSWERED,
        _TALKED,
        weight=2,
        hold=2.0,
        entries=(WRONG_CODE, CODE),
        callers=range(700_000, 800_000),
    ),
    Kind(
        "bad-code",
        _ABROAD + ANSWERS,
        frozenset({200, 403}),
        frozenset({Disposition.CODE_REFUSED}),
        weight=2,
        entries=(WRONG_CODE,) * 3,
        ended_by_gate=True,
        callers=range(4_000, 4_100),
    ),
    Kind(
        "left-the-prompt",
        _ABROAD + ANSWERS,
        _ANSWERED,
        _LEFT_PROMPT,
        weight=3,
        entries=("1",),
    ),
)
"""Those of a whole day, out of a hundred."""

_G723 = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 4\r\n"

UNFINISHED_KINDS = (
    Kind("cancelled-at-once", _LOCAL + ANSWERS, _EITHER, _CROSSED, gives_up_on=0),
    Kind("cancelled-trying", _LOCAL + TRIES, _CUT_OFF, _LEFT_RINGING, gives_up_on=100),
    Kind("cancelled-ringing", _LOCAL + RINGS, _CUT_OFF, _LEFT_RINGING, gives_up_on=180),
    Kind("cancelled-early-media", _LOCAL + SINGS, _CUT_OFF, _LEFT_RINGING, gives_up_on=183),
    Kind("cancelled-at-prompt", _ABROAD + ANSWERS, _CUT_OFF, _LEFT_PROMPT, gives_up_on=183),
    Kind("cancel-crosses-200", _LOCAL + ANSWERS, _EITHER, _CROSSED, gives_up_within=2 * RING),
    Kind("not-answered", _LOCAL + RINGS, _REFUSED, _SILENT),
    Kind("not-found", _LOCAL + "404", _REFUSED, _REJECTED),
    Kind("busy", _LOCAL + "486", _REFUSED, _BUSY),
    Kind("refused", _LOCAL + "603", _REFUSED, _REJECTED),
    Kind("answer-is-nonsense", _LOCAL + BABBLES, _REFUSED, _UNFIT),
    Kind("foreign-codec", _LOCAL + ANSWERS, _REFUSED, _UNFIT, offer=_G723),
    Kind(
        "broken-offer",
        _LOCAL + ANSWERS,
        _REFUSED,
        _UNFIT,
        offer=b"v=0\r\nnonsense\r\n",
    ),
    Kind("no-ack", _LOCAL + ANSWERS, _ANSWERED, frozenset({Disposition.FAILED}), acks=False),
    Kind("bye-at-once", _LOCAL + ANSWERS, _ANSWERED, _TALKED),
)
"""INVITEs that end in every state before somebody talks; the gate asks for codes in early media here."""


@dataclass
class Outcomes:
    """What became of all calls, whoever placed them."""

    call_ids: set[str] = field(default_factory=set)
    delays: array[float] = field(default_factory=lambda: array("f"))
    """Seconds from INVITE to the callee's answer, in order."""
    wrong: Counter[str] = field(default_factory=Counter)
    """Calls that have ended in another way than their kind does."""
    ended: Counter[str] = field(default_factory=Counter)
    """By kind."""
    registrations: int = 0
    connections: int = 0

    @property
    def calls(self) -> int:
        """How many were placed."""
        return len(self.call_ids)


@dataclass(eq=False, slots=True)
class _Placed:
    kind: Kind
    began: float
    invite: InviteClientTransaction | None = None
    dialog: Dialog | None = None
    status: int = 0
    over: bool = False


class MixedCaller(Caller):
    """A PBX that places calls of given kinds over one transport."""

    def __init__(self, gate_port: int, random: Random, outcomes: Outcomes, *, transport: str = "UDP") -> None:
        super().__init__(gate_port)
        self._gate = Flow(transport, HOST, gate_port, 0, 0)
        self._transport = transport
        self._random = random
        self.outcomes = outcomes
        self.up = 0
        """Calls that are not over."""

    async def start(self) -> None:
        """Open the socket."""
        self.driver = Driver(self._nothing, resolver=Resolver())
        ((_, self.port),) = await self.driver.listen([Listener(self._transport, HOST, 0)])
        points = (ListenPoint(self._transport, HOST, self.port),)
        self.endpoint = Endpoint(EndpointConfig(points, user_agent=self.name), self.ids)
        await self.driver.start(self.endpoint, self)

    def begin(self, kinds: Sequence[Kind]) -> None:
        """Place a call: one of each kind, then as often as their weights say."""
        number = self.outcomes.calls
        (kind,) = kinds[number : number + 1] or self._random.choices(kinds, [kind.weight for kind in kinds])
        call_id = f"{kind.name}.{self.ids.call_id()}"
        self.outcomes.call_ids.add(call_id)
        user = str(self._random.choice(kind.callers))
        here = f"{HOST}:{self.port}"
        spec = InviteSpec(
            uri=f"sip:{kind.number}@{HOST}:{self._gate.remote_port}",
            from_=f"<sip:{user}@{here}>",
            to=f"<sip:{kind.number}@{HOST}:{self._gate.remote_port}>",
            flow=self._gate,
            body=kind.offer or self.description(),
            contact_user=user,
            call_id=call_id,
        )
        call = _Placed(kind, time.monotonic())
        self.up += 1
        call.invite = self.endpoint.invite(spec, call, call.began)
        if kind.gives_up_on == 0:
            self._give_up(call)
        elif kind.gives_up_within:
            self.loop.call_later(self._random.uniform(0.0, kind.gives_up_within), self._give_up, call)
        self.driver.settle()

    def handle_sip(self, event: Event, now: float) -> None:
        """Take one event of the endpoint."""
        if isinstance(event, ResponseReceived):
            call = event.transaction.owner
            if isinstance(call, _Placed):
                if event.response.cseq.method == "INVITE":
                    self._answered(call, event, now)
                elif event.response.cseq.method == "BYE":
                    self._end(call)
        elif isinstance(event, RequestReceived):
            self.endpoint.respond(event.transaction, 200, now=now)
            if event.request.method == "BYE" and event.dialog is not None:
                self._end(event.dialog.owner)
        elif isinstance(event, RequestTimedOut | RequestFailed):
            call = event.transaction.owner
            if isinstance(call, _Placed):
                self.outcomes.wrong[f"{call.kind.name}: {type(event).__name__}"] += not call.over
                self._end(call)

    def _answered(self, call: _Placed, event: ResponseReceived, now: float) -> None:
        status, kind = event.response.status, call.kind
        if status < 200:
            if status == kind.gives_up_on:
                self._give_up(call)
            return
        if call.status:
            return
        call.status, call.invite = status, None
        if status not in kind.statuses:
            self.outcomes.wrong[f"{kind.name}: {status}"] += 1
        if status >= 300 or event.dialog is None:
            self._end(call)
            return
        if kind.has_delay:
            self.outcomes.delays.append(now - call.began)
        call.dialog = event.dialog
        call.dialog.owner = call
        if not kind.acks:
            return
        self.endpoint.ack(event.dialog, now=now)
        typing = self._type(call)
        if not kind.ended_by_gate:
            talk = self._random.expovariate(1 / kind.hold) if kind.hold else 0.0
            self.loop.call_later(typing + talk, self._hang_up, call)

    def _type(self, call: _Placed) -> float:
        """Type all entries; returns after how many seconds a talk can have begun."""
        due = 0.0
        for number, entry in enumerate(call.kind.entries):
            due = 0.3 + number * ENTRY
            for key in entry + "#" * (len(entry) > 1):
                self.loop.call_later(due, self._press, call, key)
                due += KEY
        return due + 4.0 if call.kind.hold and due else due

    def _press(self, call: _Placed, key: str) -> None:
        if call.dialog is not None and not call.over:
            body = f"Signal={key}\r\nDuration=100\r\n".encode()
            self.endpoint.request(
                call.dialog, "INFO", body=body, content_type=DTMF_RELAY, now=time.monotonic()
            )
            self.driver.settle()

    def _give_up(self, call: _Placed) -> None:
        if call.invite is not None and not call.status and not call.over:
            self.endpoint.cancel(call.invite, now=time.monotonic())
            self.driver.settle()

    def _hang_up(self, call: _Placed) -> None:
        if call.dialog is not None and not call.over:
            self.endpoint.request(call.dialog, "BYE", now=time.monotonic())
            self.driver.settle()

    def _end(self, call: object) -> None:
        if isinstance(call, _Placed) and not call.over:
            call.over = True
            call.invite = call.dialog = None
            self.up -= 1
            self.outcomes.ended[call.kind.name] += 1


class MixedCallee(Callee):
    """A carrier whose numbers do what their last three digits say."""

    def __init__(self) -> None:
        super().__init__(ring=RING)

    def handle_sip(self, event: Event, now: float) -> None:
        """Take one event of the endpoint."""
        if isinstance(event, Cancelled):
            self.endpoint.respond(event.transaction, 487, now=now)
        elif isinstance(event, RequestReceived):
            if event.request.method != "INVITE" or event.dialog is not None:
                self.endpoint.respond(event.transaction, 200, now=now)
                return
            wanted = (event.request.request_uri.user or "")[-3:]
            if wanted == SINGS:
                self.endpoint.respond(event.transaction, 183, body=self.description(), now=now)
            elif wanted != TRIES:
                self.endpoint.respond(event.transaction, 180, now=now)
            if wanted not in {SINGS, TRIES, RINGS}:
                self.loop.call_later(RING, self._finally, event, wanted)

    def _finally(self, event: RequestReceived, wanted: str) -> None:
        if event.transaction.answered:
            return
        body = b"v=0\r\nnonsense\r\n" if wanted == BABBLES else self.description()
        if wanted in REFUSALS:
            self.endpoint.respond(event.transaction, int(wanted), now=time.monotonic())
        else:
            self.endpoint.respond(event.transaction, 200, body=body, now=time.monotonic())
        self.driver.settle()

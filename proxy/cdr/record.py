"""The call detail record: one immutable value per call, whatever became of the call.

A record is a snapshot of what is known about one call. The same call is snapshotted several times (when A
is asked for a code, when B answers, at its end); all snapshots share one ``record_id``, the last wins.

Times: ``start_time`` is wall-clock time, UTC seconds since the epoch, taken once when the INVITE came.
Everything later is a distance from that moment in seconds, measured on the monotonic clock, so that a step of
the wall clock never bends a duration.
"""

from __future__ import annotations

import datetime
import enum
from dataclasses import dataclass, field

__all__ = [
    "CallRecord",
    "Continuation",
    "Direction",
    "Disposition",
    "HungUpBy",
    "LegMedia",
    "RecordPhase",
    "TrunkTry",
    "UsedCode",
]


class RecordPhase(enum.StrEnum):
    """When in the life of its call a snapshot was taken."""

    SETUP = "setup"
    """B has not answered yet; taken when the caller is answered to be asked for a code, and when a code with
    limited uses was accepted."""
    ANSWERED = "answered"
    """B has answered; the call lives. Without a later FINAL snapshot the call was interrupted."""
    FINAL = "final"
    """The call is over: the one record that the usage log shows."""


class Direction(enum.StrEnum):
    """Where a call came from and went to."""

    OUTBOUND = "outbound"
    """From a user or a PBX behind the gate to a trunk."""
    INBOUND = "inbound"
    """From a trunk to a user or a PBX behind the gate."""
    INTERNAL = "internal"
    """Between users."""


class Continuation(enum.StrEnum):
    """How a call became the next segment: the one whose record names the first one's."""

    FORWARD = "forward"
    """A phone that rang sent the caller elsewhere (3xx)."""
    TRANSFER = "transfer"
    """One of the two parties referred the other elsewhere (REFER)."""
    TAKEOVER = "takeover"
    """Somebody took the place of one of the two parties (INVITE with Replaces)."""


class Disposition(enum.StrEnum):
    """How a call ended: a closed set, one member for each thing that asks for its own action."""

    ANSWERED = "answered"
    """B answered, and a BYE of either side or of the gate itself ended the call (see ``hung_up_by``)."""
    NO_ANSWER = "no_answer"
    """B rang, or was unreachable (408, 480), and never answered."""
    BUSY = "busy"
    """B was busy (486, 600)."""
    REJECTED = "rejected"
    """B, or the network behind the trunk, refused the call for good (403, 404, 484, 603 and the like)."""
    TRUNK_FAILED = "trunk_failed"
    """No trunk could carry the call: 5xx, time-out, transport failure or no trunk configured."""
    BLOCKED = "blocked"
    """The policy does not let this caller dial this number."""
    CODE_REFUSED = "code_refused"
    """A code was required and none of the tries gave a valid one."""
    ABANDONED_AT_PROMPT = "abandoned_at_prompt"
    """The caller hung up before the B leg was placed, asked for a code or not yet."""
    ABANDONED_RINGING = "abandoned_ringing"
    """The caller hung up after the B leg was placed and before B answered."""
    CONTINUED = "continued"
    """Before B answered the call went on elsewhere: forwarded, or taken over; the record of the segment that
    follows tells what became of it."""
    NOT_ACCEPTABLE = "not_acceptable"
    """The caller's INVITE could not be served: no common codec (488), or no media that the gate takes."""
    OVERLOADED = "overloaded"
    """The gate itself refused: overload, drain, no media ports left, or records that can't be kept."""
    FAILED = "failed"
    """The call broke in a way that none of the others names (no ACK, media gone, an error in the gate)."""
    INTERRUPTED = "interrupted"
    """The gate died during the call; the end is that of the last heartbeat."""


class HungUpBy(enum.StrEnum):
    """Who ended the call."""

    A_LEG = "a_leg"
    B_LEG = "b_leg"
    GATE = "gate"


@dataclass(frozen=True, slots=True)
class UsedCode:
    """The account code that was accepted for a call. Digits stay out of ``repr``."""

    form: str = field(repr=False)
    """The form in which the administrator typed the code (``ACME-12/7``)."""
    dialled: str = field(repr=False)
    """The digits that the caller dialled; differs from ``key`` for a code of ``?`` only."""
    key: str = field(repr=False)
    """The digits (or ``?``) under which the code is stored: unique in the account."""
    description: str = ""


@dataclass(frozen=True, slots=True)
class TrunkTry:
    """One trunk that was tried, with the SIP status it ended with (0: no response at all)."""

    trunk: str
    sip_code: int = 0


@dataclass(frozen=True, slots=True)
class LegMedia:
    """RTP figures of one leg from the gate's seat (RFC 3550 §6.4.1); jitter in milliseconds."""

    packets_received: int = 0
    packets_sent: int = 0
    packets_lost: int = 0
    jitter_ms: float = 0.0
    packets_discarded: int = 0
    """From a source that the latch does not let in, not RTP at all, or not genuine SRTP or SRTCP."""


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call as the usage log shows it. Construct with keywords; everything unknown keeps its default."""

    record_id: str
    """Unique for ever and sortable by start: given in by the composition root."""
    start_time: float
    """When the INVITE came: UTC seconds since the epoch."""
    direction: Direction = Direction.OUTBOUND
    phase: RecordPhase = RecordPhase.FINAL

    a_call_id: str = ""
    b_call_id: str = ""

    code_entered_after: float | None = None
    """Seconds from start to the moment the code entry was decided, or None when no code was asked."""
    answered_after: float | None = None
    """Seconds from start to the 200 of B, or None when B never answered: talk time starts here."""
    ended_after: float = 0.0
    """Seconds from start to the end (or to the snapshot while the call lives)."""

    caller_number: str = ""
    caller_name: str = ""
    caller_e164: str = ""
    """The caller's number in E.164 with ``+``, or that of its user; "" when neither is a public number."""
    user: str = ""
    """The caller's user (extension), or "" when the caller matched none."""
    group: str = ""
    peer: str = ""
    """The peer or trunk that the call came in from, or "" for a registered phone."""
    source_address: str = ""
    """Where the INVITE came from: ``host:port`` of its socket."""
    destination_user: str = ""
    """The user that was called (inbound, internal), or ""."""
    location: str = ""
    """Name of the site that the call belongs to."""

    dialled_number: str = ""
    """As the caller dialled it."""
    normalised_number: str = ""
    """The one form of it that policy, record and trunk share (E.164 with ``+`` for outside numbers)."""
    call_class: str = ""
    treatment: str = ""
    decision: str = ""
    """What the policy decided after the code, if any (``allow``, ``block`` ...)."""
    reason: str = ""
    """Why, for people."""
    emergency: bool = False

    code: UsedCode | None = None
    """The accepted account code. Refused digits are never recorded."""
    wrong_tries: int = 0
    code_means: str = ""
    """How the code came: ``rfc4733``, ``info``, ``inband``, or "" when none was entered. ``reused``: it was
    entered in an earlier segment and unlocks this one too; ``carried``: this one needs none, and the code of
    the call stays with it (which is no use of the code)."""

    trunks: tuple[TrunkTry, ...] = ()
    """The trunks tried, in order."""
    disposition: Disposition = Disposition.FAILED
    sip_code: int = 0
    """Final SIP status of the B leg, or the gate's own when there was no B leg."""
    q850_cause: int = 0
    """Q.850 cause value (ITU-T Q.850 table 1), or 0."""
    hung_up_by: HungUpBy | None = None

    codec: str = ""
    a_media: LegMedia | None = None
    b_media: LegMedia | None = None

    first_record_id: str = ""
    """Record of the first segment of the same call, or "" when this is the first."""
    continuation: str = ""
    """How this segment came about (`Continuation`), or "" for the first."""

    @property
    def final(self) -> bool:
        """This is the last word about its call."""
        return self.phase is RecordPhase.FINAL

    @property
    def talk_time(self) -> float:
        """Seconds from B's answer to the end; 0.0 when B never answered."""
        return 0.0 if self.answered_after is None else max(0.0, self.ended_after - self.answered_after)

    @property
    def start(self) -> datetime.datetime:
        """Start as an aware UTC time."""
        return datetime.datetime.fromtimestamp(self.start_time, datetime.UTC)

    @property
    def end_time(self) -> float:
        """End in UTC seconds since the epoch, counted from the start on the monotonic clock."""
        return self.start_time + self.ended_after

    @property
    def answer_time(self) -> float | None:
        """B's answer in UTC seconds since the epoch, or None."""
        return None if self.answered_after is None else self.start_time + self.answered_after

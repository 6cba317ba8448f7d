"""What `call` asks of the world and what the world answers: commands out, answers in.

`call` does no I/O. Whatever it wants done outside SIP is one of the commands below, drained by the
composition root and carried out by `media` (the engine behind ``proxy/media/engine.py``) or by the journal
of `cdr`. What comes of it returns as one of the answers. A command never fails by raising: a refusal is an
answer too.

Legs are named by a number that `call` chooses (`LegId`), unique for the life of the process.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NewType

from proxy.cdr.record import CallRecord, LegMedia
from proxy.dtmf.digits import DigitMeans
from proxy.policy.locks import CallerLock

LegId = NewType("LegId", int)
"""Names one media leg (one RTP/RTCP port pair) for the life of the process."""

PlayId = NewType("PlayId", int)
"""Names one `PlayPrompts` command, so that a late `PromptsFinished` of an earlier one is told apart."""


class Latching(enum.Enum):
    """Whose packets a leg takes (DESIGN contract 2)."""

    STRICT = "strict"
    """Only packets from the IP address the peer signalled in SDP: from the signalled port, or from another
    one while that is silent (asymmetric RTP). Packets go to the signalled port."""
    LEARNING = "learning"
    """Locks on the source of a few consecutive packets of one SSRC; opened again by new remote SDP only.

    A source that neither signalling nor SDP named locks only when those have been silent for half a second.
    """


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """The one audio codec of a leg as it stands on the wire.

    ``name`` is the upper-case encoding name (PCMU, PCMA, G722, OPUS); ``clock_rate`` the RTP clock in Hz
    (8000 for G722, RFC 3551 §4.5.2; 48000 for OPUS, RFC 7587); ``ptime_ms`` what the peer wants to receive.
    """

    name: str
    payload_type: int
    clock_rate: int
    ptime_ms: int = 20


@dataclass(frozen=True, slots=True)
class SrtpKeys:
    """What a leg needs to speak SRTP with its peer (RFC 3711, keyed by RFC 4568). Never printed."""

    suite: str
    """Crypto suite of both directions, by its name in SDP."""
    local_key: bytes = field(repr=False)
    """Master key then salt that the gate encrypts with."""
    remote_key: bytes = field(repr=False)
    """Master key then salt that the peer encrypts with."""
    remote_mki: bytes = field(default=b"", repr=False)
    """Master key identifier in the peer's packets; empty when there is none (RFC 3711 §3.1)."""


@dataclass(frozen=True, slots=True)
class RemoteMedia:
    """Where and how one peer wants its media, taken from its SDP."""

    address: str
    rtp_port: int
    rtcp_port: int
    rtcp_mux: bool
    audio: AudioFormat
    event_payload_type: int | None
    """Payload type of telephone-event towards the peer, or None when it takes none (then tones are heard
    in-band)."""
    event_clock_rate: int
    peer_sends: bool
    """The peer's direction lets it send to the gate."""
    peer_receives: bool
    """The peer's direction lets the gate send to it."""
    latching: Latching
    signalled_from: str
    """IP address the peer's signalling came from: before the lock only digits from there count."""
    srtp: SrtpKeys | None = None
    """None: plain RTP and RTCP. Otherwise nothing goes to the peer or comes from it in the clear."""
    heard_payload_type: int | None = None
    """Payload type of the audio that the peer sends (RFC 3264 §6.1: the gate's own number); None: that of
    ``audio``."""
    heard_event_payload_type: int | None = None
    """Payload type of telephone-event from the peer; None: ``event_payload_type``."""
    fax: bool = False
    """UDPTL instead of RTP (T.38): whole datagrams pass between bridged legs that both carry fax, and nothing
    in them is read. Ports and directions are those of the fax stream, ``audio`` is what was spoken before."""


# Commands to the media engine ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenMediaLeg:
    """Allocate an RTP/RTCP port pair. Answered by `MediaLegOpened` or `MediaLegRefused`."""

    leg: LegId
    ipv6: bool
    emergency: bool
    """May use the ports that are kept free for emergency calls."""


@dataclass(frozen=True, slots=True)
class ConfigureMediaLeg:
    """Tell the leg what its peer signalled; again on every new remote SDP (opens a learning latch again)."""

    leg: LegId
    remote: RemoteMedia


@dataclass(frozen=True, slots=True)
class PlayPrompts:
    """Play prompts in order, instead of whatever plays on the leg now. Answered by `PromptsFinished`.

    ``prompts`` are names of `proxy.media.prompts` (``"enter_code"``, ``"ringback"`` ...). ``repeat``
    plays the list until `StopPrompts`. ``group`` is the user group whose own recordings win, or "".
    """

    leg: LegId
    play: PlayId
    prompts: tuple[str, ...]
    repeat: bool = False
    group: str = ""


@dataclass(frozen=True, slots=True)
class StopPrompts:
    """Stop what plays on the leg at once; no `PromptsFinished` follows."""

    leg: LegId


@dataclass(frozen=True, slots=True)
class ListenForDigits:
    """Report digits of this leg (`DigitHeard`) from now on, or no longer.

    A leg reports digits from its `ConfigureMediaLeg` on only while it listens. What is heard while listening
    is never relayed to the other leg, its repeated end packets after a later `BridgeMedia` included. Other
    audio of a bridged leg is relayed all the same, unless tones are listened for in it (``inband``).
    """

    leg: LegId
    listening: bool
    inband: bool = False
    """Detect tones in G.711 audio too (when the peer takes no telephone-event)."""


@dataclass(frozen=True, slots=True)
class BridgeMedia:
    """Relay media between two configured legs, both ways as their directions allow; stops their prompts."""

    first: LegId
    second: LegId


@dataclass(frozen=True, slots=True)
class UnbridgeMedia:
    """Stop relaying between this leg and its partner; both stay open."""

    leg: LegId


@dataclass(frozen=True, slots=True)
class SendDigit:
    """Send one digit to the leg's peer as RFC 4733 events, or as a tone in G.711 or G.722 audio when it takes
    none."""

    leg: LegId
    digit: str = field(repr=False)
    duration_ms: int = 160


@dataclass(frozen=True, slots=True)
class CloseMediaLeg:
    """Free the leg's ports. Answered by `MediaLegClosed` with its final statistics."""

    leg: LegId


MediaCommand = (
    OpenMediaLeg
    | ConfigureMediaLeg
    | PlayPrompts
    | StopPrompts
    | ListenForDigits
    | BridgeMedia
    | UnbridgeMedia
    | SendDigit
    | CloseMediaLeg
)

# Answers of the media engine --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MediaLegOpened:
    """The leg has its ports: ``address`` and ports are what the gate's SDP says."""

    leg: LegId
    address: str
    rtp_port: int
    rtcp_port: int
    own: str = ""
    """The address that the ports are bound to, which may be a wildcard, for SDP to peers inside
    (`proxy.sip.inside`); "": ``address`` is for everybody."""


@dataclass(frozen=True, slots=True)
class MediaLegRefused:
    """No ports for the leg; it does not exist. ``reason`` is for the log."""

    leg: LegId
    reason: str
    no_such_family: bool = False
    """The engine has no media address of the IP version that was asked for, now or later."""


@dataclass(frozen=True, slots=True)
class DigitHeard:
    """One whole digit (0-9 * # A-D) pressed by the leg's peer, reported at its first end packet or tone
    end."""

    leg: LegId
    digit: str = field(repr=False)
    means: DigitMeans
    duration_ms: int


@dataclass(frozen=True, slots=True)
class PromptsFinished:
    """The last frame of a `PlayPrompts` has been sent."""

    leg: LegId
    play: PlayId


@dataclass(frozen=True, slots=True)
class MediaLatched:
    """A learning leg has locked on this source."""

    leg: LegId
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class MediaTimedOut:
    """No packet from the leg's peer for the engine's inactivity time although its direction lets it send.

    Comes again after each further inactivity time, as long as the silence lasts.
    """

    leg: LegId


@dataclass(frozen=True, slots=True)
class MediaResumed:
    """A packet of the leg's peer ends the silence that `MediaTimedOut` told of."""

    leg: LegId


LegStatistics = LegMedia
"""What a media leg counted, as the record keeps it."""


@dataclass(frozen=True, slots=True)
class MediaLegClosed:
    """The leg and its ports are gone."""

    leg: LegId
    statistics: LegStatistics


MediaAnswer = (
    MediaLegOpened
    | MediaLegRefused
    | DigitHeard
    | PromptsFinished
    | MediaLatched
    | MediaTimedOut
    | MediaResumed
    | MediaLegClosed
)

# Records ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """Append this state of a call's record to the journal.

    With ``confirm`` the answer `RecordDurable` comes when it is on the disk (grouped fsync); the relay
    opens, or the 200 goes to the A leg, only then (DESIGN 1.8).
    """

    record: CallRecord
    confirm: bool = False


@dataclass(frozen=True, slots=True)
class RecordDurable:
    """The record that was sent with ``confirm`` is on the disk (or the disk failed and ``durable`` is
    False)."""

    record_id: str
    durable: bool = True


# Events -----------------------------------------------------------------------------------------------------


class CallEvent(enum.StrEnum):
    """What happens with a call that no record tells while it happens."""

    STARTED = "call.started"
    """It was let in."""
    CODE_REJECTED = "code.rejected"
    """Its caller has entered a code that is not valid."""
    EMERGENCY_DIALLED = "emergency.dialed"
    """It is an emergency call, and goes out now."""
    CALLER_LOCKED = "caller.locked"
    """Its caller has entered too many wrong codes, and may enter none for a while."""
    CODES_GUESSED = "codes.guessed"
    """It is the last of many in which many callers have entered wrong codes."""
    LIMIT_REACHED = "limit.reached"
    """It was refused because of a limit of its group."""


@dataclass(frozen=True, slots=True)
class TellOfCall:
    """Tell whoever wants to hear of calls. Nothing comes back, and no call waits for it."""

    event: CallEvent
    record: CallRecord
    """What is known of the call at this moment."""


# Policy -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LockCaller:
    """Keep this lock with the policy, where it survives this process and an administrator can lift it.

    Nothing comes back but, some time later, a policy that holds it.
    """

    lock: CallerLock


Command = MediaCommand | JournalRecord | TellOfCall | LockCaller
Answer = MediaAnswer | RecordDurable

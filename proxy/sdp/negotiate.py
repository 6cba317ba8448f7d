"""Which codec a leg speaks: the answerer's choice, and what the offerer makes of it (RFC 3264 §6, §7)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from proxy.errors import RemoteProtocolError
from proxy.sdp.audio import AudioDescription, read_audio
from proxy.sdp.crypto import DEFAULT_SUITES, CryptoAttribute, SrtpPolicy, accept_crypto
from proxy.sdp.values import EVENT_NAME, Codec, SessionDescription

__all__ = [
    "GATE_CODECS",
    "ChosenAudio",
    "NegotiatedAudio",
    "accept_answer",
    "choose_codec",
    "events_beside",
    "gate_codecs",
    "relayed_codecs",
    "renumbered",
]

DEFAULT_PTIME_MS = 20
_PTIMES_MS = frozenset({10, 20, 30, 40, 60})

_FORMATS = {
    "PCMU": Codec("PCMU", 0, 8000),
    "PCMA": Codec("PCMA", 8, 8000),
    "G722": Codec("G722", 9, 8000),
    "OPUS": Codec("OPUS", 96, 48000, 2),
}
"""What the gate can play prompts in, under the payload types it offers (for Opus see RFC 7587 §7)."""

_EVENTS = {
    8000: Codec(EVENT_NAME, 101, 8000, 1, "0-15"),
    48000: Codec(EVENT_NAME, 102, 48000, 1, "0-15"),
}

GATE_CODECS = ("PCMU", "PCMA", "G722", "OPUS")
"""Names of the codecs that the gate can play prompts in."""


@dataclass(frozen=True, slots=True)
class ChosenAudio:
    """What a leg speaks: exactly one codec, telephone-event beside it, the packet time towards the peer."""

    codec: Codec
    event: Codec | None
    """None when the peer takes no telephone-event at a fitting clock rate: then tones are heard in-band."""
    ptime_ms: int
    """What the gate sends to the peer: 10, 20, 30, 40 or 60 ms; 20 for Opus."""
    own: tuple[Codec, Codec | None] | None = None
    """Codec and telephone-event as the gate's offer named them; None when the peer offered."""

    @property
    def heard_codec(self) -> Codec:
        """The codec under the payload type that the peer sends: that of the gate's SDP (RFC 3264 §6.1).

        ``codec`` has the number of the peer's SDP, which is the one to send. They differ when the peer
        renumbered an offer of the gate.
        """
        return self.codec if self.own is None else self.own[0]

    @property
    def heard_event(self) -> Codec | None:
        """The telephone-event under the payload type that the peer sends; see `heard_codec`."""
        return self.event if self.own is None else self.own[1]


@dataclass(frozen=True, slots=True)
class NegotiatedAudio:
    """An accepted answer: where the peer is, and what both speak."""

    remote: AudioDescription
    chosen: ChosenAudio
    crypto: tuple[CryptoAttribute, CryptoAttribute] | None = None
    """The gate's and the peer's key for SRTP; None: plain RTP."""


def choose_codec(
    offered: AudioDescription,
    supported_by_gate: Collection[str],
    taken_by_trunk: Collection[str],
    order: Sequence[str] = (),
) -> ChosenAudio | None:
    """Choose the one codec of the answer; None when there is none in common (the caller answers 488).

    All names are upper case. ``order`` are the gate's preferences, best first; names it does not list come
    after them, in the offerer's order (with no ``order`` the offerer's preference decides, RFC 3264 §6.1).
    """
    best: Codec | None = None
    best_rank = len(order) + 1
    for codec in offered.codecs:
        name = codec.name
        if name not in supported_by_gate or name not in taken_by_trunk:
            continue
        known = _FORMATS.get(name)
        if known is not None and not known.same_format(codec):
            continue  # the right name at a wrong clock or channel count is another format
        rank = order.index(name) if name in order else len(order)
        if rank < best_rank:
            best, best_rank = codec, rank
    if best is None:
        return None
    return ChosenAudio(best, _event_beside(best, offered), _packet_time(best, offered))


def _event_beside(codec: Codec, peer: AudioDescription) -> Codec | None:
    """Return telephone-event at the codec's clock rate (RFC 4733 §2.4.1).

    Phones that speak Opus but know telephone-event at 8000 only are common, so that is taken beside it too.
    """
    event = peer.event(codec.clock_rate)
    return event if event is not None or codec.name != "OPUS" else peer.event(8000)


def _packet_time(codec: Codec, peer: AudioDescription) -> int:
    """Return the packet time in ms for packets to this peer: its wish where the gate can keep it."""
    if codec.name == "OPUS":
        return DEFAULT_PTIME_MS
    wanted = peer.ptime_ms or DEFAULT_PTIME_MS
    if peer.maxptime_ms is not None:
        wanted = min(wanted, peer.maxptime_ms)
    if wanted in _PTIMES_MS:
        return wanted
    return 10 if wanted < DEFAULT_PTIME_MS else DEFAULT_PTIME_MS


def gate_codecs(names: Sequence[str]) -> tuple[Codec, ...]:
    """Return the codecs to offer under the gate's payload types, then telephone-event per clock rate.

    For an offer of the gate's own (an INVITE without SDP). Names the gate does not know are left out.
    """
    codecs = [_FORMATS[name] for name in dict.fromkeys(names) if name in _FORMATS]
    return (*codecs, *_events_for(codecs))


def relayed_codecs(chosen: ChosenAudio, *, events: bool) -> tuple[Codec, ...]:
    """Return what to offer the B leg when the A leg speaks ``chosen``: that one codec, with its parameters.

    ``events`` adds telephone-event. Leave it out where the A leg's digits can only come in-band: a carrier
    that was promised events stops listening for tones.
    """
    source = chosen.codec
    known = _FORMATS.get(source.name)
    number = known.payload_type if known else min(source.payload_type, 96)
    codec = Codec(source.name, number, source.clock_rate, source.channels, source.fmtp)
    return (codec, *_events_for([codec])) if events else (codec,)


def renumbered(formats: Sequence[Codec], known: Sequence[Codec]) -> tuple[Codec, ...]:
    """Return formats for a later offer under the payload types that the session has for them already.

    A payload type keeps its meaning for the life of a session (RFC 3264 §8.3.2): ``known`` are all that it
    has, each under its number. A new format keeps its own number, or gets a free dynamic one (RFC 3551 §6).
    """
    taken = {codec.payload_type for codec in known}
    offered: list[Codec] = []
    for codec in formats:
        mine = next((entry for entry in known if entry.same_format(codec)), None)
        if mine is None:
            number = codec.payload_type
            if number in taken:
                number = next((free for free in range(127, 95, -1) if free not in taken), -1)
            if number < 0:
                continue  # every number means something else already
            mine = Codec(codec.name, number, codec.clock_rate, codec.channels, codec.fmtp)
            taken.add(number)
        if mine not in offered:
            offered.append(mine)
    return tuple(offered)


def events_beside(codecs: Sequence[Codec]) -> tuple[Codec, ...]:
    """Return telephone-event at the clock rates of these codecs (RFC 4733 §2.4.1)."""
    return tuple(_events_for(codecs))


def _events_for(codecs: Sequence[Codec]) -> list[Codec]:
    """Return telephone-event for these codecs' clock rates, 8000 as the second choice beside 48000."""
    rates = dict.fromkeys([codec.clock_rate for codec in codecs])
    if 48000 in rates:
        rates[8000] = None
    return [_EVENTS[rate] for rate in rates if rate in _EVENTS]


def accept_answer(
    offered: Sequence[Codec],
    answer: SessionDescription,
    *,
    audio_index: int = 0,
    crypto: Sequence[CryptoAttribute] = (),
    srtp: SrtpPolicy = SrtpPolicy.OFF,
) -> NegotiatedAudio:
    """Take the peer's answer to an offer of ``offered`` (telephone-event entries included).

    The first audio codec of the answer that was offered is spoken: the answerer's preference (RFC 3264 §6.1).
    Should the peer have renumbered it, the gate sends under the answer's number and hears the offer's.
    Sections beyond the offered ones are ignored: refusing a call for them would help nobody. ``crypto`` are
    the lines of the offer, made under the policy ``srtp``: a peer that takes none of them speaks plain RTP
    where that is optional.

    Raises `RemoteProtocolError` 488 when the stream is refused, speaks nothing that was offered or has keys
    that don't fit the offer's, and whatever `read_audio` raises.
    """
    suites = {line.suite for line in crypto} or DEFAULT_SUITES
    remote = read_audio(answer, srtp, suites)
    if remote.index != audio_index:
        raise RemoteProtocolError(
            "SDP answer refuses or moves the audio stream (RFC 3264 §6)", status_hint=488
        )
    keys = None
    if srtp is not SrtpPolicy.OFF and answer.media[audio_index].attributes("crypto"):
        # A peer that wrote a key will use it: one that the gate can't use must not pass for plain RTP.
        keys = accept_crypto(crypto, remote.crypto)
    for codec in remote.codecs:
        own = _same_in(offered, codec)
        if own is not None:
            event = _event_beside(codec, remote)
            own_event = None if event is None else _same_in(offered, event)
            if own_event is None:
                event = None
            chosen = ChosenAudio(codec, event, _packet_time(codec, remote), (own, own_event))
            return NegotiatedAudio(remote, chosen, keys)
    raise RemoteProtocolError("SDP answer names no codec of the offer (RFC 3264 §6.1)", status_hint=488)


def _same_in(offered: Sequence[Codec], answered: Codec) -> Codec | None:
    """Return the entry of the offer that an entry of the answer takes up, whatever its payload type."""
    return next((mine for mine in offered if answered.same_format(mine)), None)

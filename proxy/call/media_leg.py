"""One media leg as the call sees it: the life of its ports and the commands it gives the engine.

The engine answers later, and a call may end in between; this file alone knows when a port pair is held,
so that every one that was asked for is also given back (DESIGN contract 5).
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Protocol

from proxy.call.ports import (
    AudioFormat,
    BridgeMedia,
    CloseMediaLeg,
    Command,
    ConfigureMediaLeg,
    Latching,
    LegId,
    LegStatistics,
    ListenForDigits,
    MediaLegOpened,
    OpenMediaLeg,
    PlayId,
    PlayPrompts,
    RemoteMedia,
    SendDigit,
    SrtpKeys,
    StopPrompts,
    UnbridgeMedia,
)
from proxy.sdp import AudioDescription, ChosenAudio, FaxDescription, LocalEnd, is_ip_address
from proxy.sip.inside import Inside

__all__ = ["MediaLeg", "MediaState", "can_transcode"]

TRANSCODED = frozenset({"PCMU", "PCMA", "G722"})
"""Names of the codecs that the media engine turns into each other between two legs."""


def can_transcode(first: str, second: str) -> bool:
    """Say whether two legs that speak these codecs hear each other."""
    return first == second or (first in TRANSCODED and second in TRANSCODED)


_is_ip_address = lru_cache(maxsize=4096)(is_ip_address)
"""Peers say the same few addresses all day; the memory is bounded, so a hostile one gains nothing."""


class Outlet(Protocol):
    """Where commands are left."""

    emit: Callable[[Command], None]


class MediaState(enum.Enum):
    """Life of a port pair."""

    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class MediaLeg:
    """The ports of one leg and what is done with them."""

    __slots__ = (
        "_ends",
        "_inside",
        "_next_play",
        "_own",
        "_partner",
        "_playing",
        "_world",
        "awaited",
        "emergency",
        "end",
        "holds",
        "id",
        "ipv6",
        "listening",
        "silent",
        "state",
        "statistics",
    )

    def __init__(self, leg: LegId, world: Outlet, inside: Inside, *, ipv6: bool, emergency: bool) -> None:
        self.id = leg
        self.emergency = emergency
        """It was asked for with the right to the ports that are kept for emergency calls."""
        self.ipv6 = ipv6
        self._world = world
        self.state = MediaState.OPENING
        self.end: LocalEnd | None = None
        """Where the gate takes this leg's media, once it is open, as peers are told that are not inside."""
        self._inside = inside
        self._ends: dict[str, LocalEnd] = {}
        self._own = ""
        self.statistics: LegStatistics | None = None
        self.listening = False
        self.awaited = False
        """The peer's direction lets it send."""
        self.holds = False
        """The peer has put the other side on hold: it may send, as music, and wants to hear nothing."""
        self.silent = False
        """Nothing has come from the peer for the engine's inactivity time, although it may send."""
        self._partner: MediaLeg | None = None
        self._next_play = 0
        self._playing = 0
        world.emit(OpenMediaLeg(leg, ipv6, emergency))

    # Life ---------------------------------------------------------------------------------------------------

    def opened(self, answer: MediaLegOpened) -> None:
        """Take the ports; one that came after `close` is on its way out already."""
        if self.state is MediaState.OPENING:
            self.state = MediaState.OPEN
            self.end = LocalEnd(answer.address, answer.rtp_port, answer.rtcp_port)
            self._own = answer.own

    def end_towards(self, peer: str) -> LocalEnd:
        """Return where the gate takes the media of a peer that signals from this address: it is told the same
        as long as the ports are open."""
        assert self.end is not None  # noqa: S101  (the call's own order)
        end = self._ends.get(peer)
        if end is None:
            own = self._inside.own_address(peer, self._own)
            end = self._ends[peer] = replace(self.end, address=own) if own else self.end
        return end

    def close(self) -> None:
        """Give the ports back; the engine confirms with the final statistics."""
        if self.state is MediaState.OPENING or self.state is MediaState.OPEN:
            self.state = MediaState.CLOSING
            self._world.emit(CloseMediaLeg(self.id))

    def closed(self, statistics: LegStatistics | None) -> None:
        """The ports are gone, or never were."""
        self.state = MediaState.CLOSED
        self.statistics = statistics
        if self._partner is not None:
            self._partner._partner = None
            self._partner = None

    @property
    def gone(self) -> bool:
        """No ports are held."""
        return self.state is MediaState.CLOSED

    @property
    def quiet(self) -> bool:
        """Nothing comes from the peer: it has fallen silent, or is not expected to send.

        Most phones have no music: the silence of one that holds does not say that it is gone.
        """
        return (self.silent or not self.awaited) and not self.holds

    @property
    def bridged(self) -> bool:
        """Media is relayed between this leg and another."""
        return self._partner is not None

    # Use ----------------------------------------------------------------------------------------------------

    def configure(
        self,
        audio: AudioDescription,
        chosen: ChosenAudio,
        *,
        latching: Latching,
        signalled_from: str,
        srtp: SrtpKeys | None = None,
    ) -> None:
        """Tell the engine what the peer's SDP said, and the keys of both ways if there are any."""
        codec, event, heard_event = chosen.codec, chosen.event, chosen.heard_event
        # A name instead of an address can't be resolved here; the peer is where its signalling is, or
        # latches.
        address = audio.address if _is_ip_address(audio.address) else signalled_from
        direction = audio.direction
        self.awaited = direction.sends
        self.holds = direction.sends and not direction.receives
        self.silent = False  # the engine starts its idle time afresh too
        self._world.emit(
            ConfigureMediaLeg(
                self.id,
                RemoteMedia(
                    address,
                    audio.rtp_port,
                    audio.rtcp_port,
                    audio.rtcp_mux,
                    AudioFormat(codec.name, codec.payload_type, codec.clock_rate, chosen.ptime_ms),
                    None if event is None else event.payload_type,
                    codec.clock_rate if event is None else event.clock_rate,
                    direction.sends,
                    direction.receives,
                    latching,
                    signalled_from,
                    srtp=srtp,
                    heard_payload_type=chosen.heard_codec.payload_type,
                    heard_event_payload_type=None if heard_event is None else heard_event.payload_type,
                ),
            )
        )

    def configure_fax(
        self, fax: FaxDescription, chosen: ChosenAudio, *, latching: Latching, signalled_from: str
    ) -> None:
        """Tell the engine that the peer sends and takes fax now, and where."""
        codec = chosen.codec
        self.awaited = fax.direction.sends
        self.holds = False
        self.silent = False
        self._world.emit(
            ConfigureMediaLeg(
                self.id,
                RemoteMedia(
                    fax.address if _is_ip_address(fax.address) else signalled_from,
                    fax.port,
                    fax.port,
                    False,
                    AudioFormat(codec.name, codec.payload_type, codec.clock_rate, chosen.ptime_ms),
                    None,
                    codec.clock_rate,
                    fax.direction.sends,
                    fax.direction.receives,
                    latching,
                    signalled_from,
                    fax=True,
                ),
            )
        )

    def play(self, prompts: tuple[str, ...], *, repeat: bool = False, group: str = "") -> None:
        """Play prompts instead of what plays now."""
        self._next_play += 1
        self._playing = self._next_play
        self._world.emit(PlayPrompts(self.id, PlayId(self._next_play), prompts, repeat, group))

    def finished(self, play: PlayId) -> bool:
        """Tell whether this was the end of what plays now, and not of something that was replaced."""
        if play != self._playing:
            return False
        self._playing = 0
        return True

    def stop(self) -> None:
        """Stop what plays, if anything does."""
        if self._playing:
            self._playing = 0
            self._world.emit(StopPrompts(self.id))

    def listen(self, *, inband: bool) -> None:
        """Report digits from now on."""
        self.listening = True
        self._world.emit(ListenForDigits(self.id, True, inband))

    def listen_no_more(self) -> None:
        """Report no digits any longer."""
        if self.listening:
            self.listening = False
            self._world.emit(ListenForDigits(self.id, False))

    def bridge(self, other: MediaLeg) -> None:
        """Relay between this leg and another, unless that is done already."""
        if self._partner is None:
            self._partner, other._partner = other, self
            self._playing = 0
            self._world.emit(BridgeMedia(self.id, other.id))

    def unbridge(self) -> None:
        """Stop relaying, if that was done; both stay open."""
        if self._partner is not None:
            self._partner._partner = None
            self._partner = None
            self._world.emit(UnbridgeMedia(self.id))

    def send_digit(self, digit: str, duration_ms: int) -> None:
        """Send one digit to the peer: as events, or as a tone where it takes none."""
        self._world.emit(SendDigit(self.id, digit, duration_ms))

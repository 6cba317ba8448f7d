"""The embedded media engine: commands of `call` to the native core, its events back as answers.

The core has its own threads and sockets. Nothing here touches a packet: commands are plain calls that queue,
events are read in batches when the core's eventfd says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import assert_never

from proxy._native import MediaCore
from proxy.call.ports import (
    BridgeMedia,
    CloseMediaLeg,
    ConfigureMediaLeg,
    DigitHeard,
    Latching,
    LegId,
    LegStatistics,
    ListenForDigits,
    MediaAnswer,
    MediaCommand,
    MediaLatched,
    MediaLegClosed,
    MediaLegOpened,
    MediaLegRefused,
    MediaResumed,
    MediaTimedOut,
    OpenMediaLeg,
    PlayId,
    PlayPrompts,
    PromptsFinished,
    SendDigit,
    StopPrompts,
    UnbridgeMedia,
)
from proxy.dtmf.digits import DigitMeans
from proxy.errors import ConfigurationError
from proxy.media.engine import AnswerHandler

__all__ = ["EmbeddedConfig", "EmbeddedEngine"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EmbeddedConfig:
    """How the embedded engine is set up. Addresses are IP addresses; "" means none of that family."""

    address: str
    """Where RTP is received, IPv4."""
    address_ipv6: str = ""
    advertised_address: str = ""
    """What the gate's SDP says instead of ``address`` (behind a one-to-one NAT) to whoever is not inside; "":
    the same."""
    advertised_address_ipv6: str = ""
    port_range: tuple[int, int] = (10_000, 19_999)
    """First and last UDP port."""
    emergency_ports: int = 40
    """Ports of the range that only legs of emergency calls may use (two per leg)."""
    threads: int = 1
    inactivity_timeout: float = 60.0
    """Seconds without a packet before `MediaTimedOut`."""


class EmbeddedEngine:
    """The native core behind the door of `proxy.media.engine.MediaEngine`.

    ``on_failure`` is told, with the reason, when a media thread died: its calls have lost their media and no
    new ones can be opened on it. Raises `ConfigurationError` when the core can't be set up.
    """

    def __init__(
        self,
        config: EmbeddedConfig,
        on_answer: AnswerHandler,
        on_failure: Callable[[str], None] | None = None,
    ) -> None:
        self._config = config
        self._on_answer = on_answer
        self._on_failure = on_failure
        self._loop: asyncio.AbstractEventLoop | None = None
        low, high = config.port_range
        try:
            self._core = MediaCore(
                bind_ipv4=config.address or None,
                bind_ipv6=config.address_ipv6 or None,
                port_low=low,
                port_high=high,
                emergency_reserve=(config.emergency_ports + 1) // 2,
                threads=config.threads,
                inactivity_ms=max(1, round(config.inactivity_timeout * 1000)),
            )
        except (OSError, ValueError, OverflowError) as error:
            raise ConfigurationError(f"media: {error}") from error

    def start(self) -> None:
        """Begin to report to the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._core.fileno(), self._read_events)

    def stop(self) -> None:
        """Stop the core's threads and free all ports. No answer comes any more."""
        if self._loop is not None:
            self._loop.remove_reader(self._core.fileno())
            self._loop = None
        self._core.stop()

    @property
    def open_legs(self) -> int:
        """How many legs are open (contract 5: none when no call is up)."""
        return self._core.open_legs

    @property
    def port_pairs(self) -> tuple[int, int]:
        """Port pairs in use, and in all."""
        return self._core.port_pairs

    def register_prompt(self, key: str, codec: str, frames: Sequence[bytes]) -> None:
        """Keep a prompt under ``name`` or ``name@group`` in one codec."""
        name, _, group = key.partition("@")
        self._core.register_prompt(name, codec, list(frames), group)

    def submit(self, command: MediaCommand) -> None:
        """Carry out a command."""
        core = self._core
        match command:
            case OpenMediaLeg():
                self._open(command)
            case ConfigureMediaLeg():
                self._configure(command)
            case PlayPrompts(leg, play, prompts, repeat, group):
                unknown = core.play(leg, play, list(prompts), repeat, group)
                if unknown:
                    logger.warning("leg %d: no prompt %s in its codec", leg, ", ".join(unknown))
            case StopPrompts(leg):
                core.stop_prompts(leg)
            case ListenForDigits(leg, listening, inband):
                core.listen(leg, listening, inband)
            case BridgeMedia(first, second):
                core.bridge(first, second)
            case UnbridgeMedia(leg):
                core.unbridge(leg)
            case SendDigit(leg, digit, duration_ms):
                core.send_digit(leg, digit, max(0, duration_ms))
            case CloseMediaLeg(leg):
                core.close_leg(leg)
            case _:
                assert_never(command)

    def _open(self, command: OpenMediaLeg) -> None:
        leg, config = command.leg, self._config
        try:
            rtp_port, rtcp_port = self._core.open_leg(leg, command.ipv6, command.emergency)
        except OSError as error:
            served = config.address_ipv6 if command.ipv6 else config.address
            self._on_answer(MediaLegRefused(leg, str(error), no_such_family=not served))
            return
        if command.ipv6:
            own, advertised = config.address_ipv6, config.advertised_address_ipv6
        else:
            own, advertised = config.address, config.advertised_address
        self._on_answer(MediaLegOpened(leg, advertised or own, rtp_port, rtcp_port, own))

    def _configure(self, command: ConfigureMediaLeg) -> None:
        remote = command.remote
        srtp = remote.srtp
        self._core.configure_leg(
            command.leg,
            address=remote.address,
            rtp_port=remote.rtp_port,
            rtcp_port=remote.rtcp_port,
            rtcp_mux=remote.rtcp_mux,
            codec=remote.audio.name,
            payload_type=remote.audio.payload_type,
            clock_rate=remote.audio.clock_rate,
            ptime_ms=remote.audio.ptime_ms,
            event_payload_type=remote.event_payload_type,
            event_clock_rate=remote.event_clock_rate,
            peer_sends=remote.peer_sends,
            peer_receives=remote.peer_receives,
            learning=remote.latching is Latching.LEARNING,
            signalled_from=remote.signalled_from,
            srtp=(srtp.suite, srtp.local_key, srtp.remote_key, srtp.remote_mki) if srtp else None,
            heard_payload_type=remote.heard_payload_type,
            heard_event_payload_type=remote.heard_event_payload_type,
            fax=remote.fax,
        )

    def _read_events(self) -> None:
        for event in self._core.drain_events():
            answer: MediaAnswer
            match event:
                case ("digit", leg, digit, inband, duration_ms):
                    means = DigitMeans.INBAND if inband else DigitMeans.RFC4733
                    answer = DigitHeard(LegId(leg), digit, means, duration_ms)
                case ("finished", leg, play):
                    answer = PromptsFinished(LegId(leg), PlayId(play))
                case ("latched", leg, address, port):
                    answer = MediaLatched(LegId(leg), address, port)
                case ("timed_out", leg):
                    answer = MediaTimedOut(LegId(leg))
                case ("resumed", leg):
                    answer = MediaResumed(LegId(leg))
                case ("closed", leg, received, sent, lost, jitter_ms, discarded):
                    figures = LegStatistics(received, sent, lost, jitter_ms, discarded)
                    answer = MediaLegClosed(LegId(leg), figures)
                case ("failed", reason):
                    logger.critical("media: %s", reason)
                    if self._on_failure is not None:
                        self._on_failure(reason)
                    continue
                case _:
                    assert_never(event)
            self._on_answer(answer)

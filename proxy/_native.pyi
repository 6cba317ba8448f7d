"""Types of the native media core (``native/src/lib.rs``)."""

from typing import Literal, final

_NativeEvent = (
    tuple[Literal["digit"], int, str, bool, int]
    | tuple[Literal["finished"], int, int]
    | tuple[Literal["latched"], int, str, int]
    | tuple[Literal["timed_out", "resumed"], int]
    | tuple[Literal["closed"], int, int, int, int, float, int]
    | tuple[Literal["failed"], str]
)
"""What the core reports, by its first element:

- digit: leg, the digit, heard in-band, duration in ms
- finished: leg, play
- latched: leg, IP address and port of the source
- timed_out: leg; again after each further inactivity time of silence
- resumed: leg; a packet came after timed_out
- closed: leg, packets received, sent, lost, jitter in ms, packets discarded
- failed: why a media thread died
"""

@final
class MediaCore:
    """The media threads, their sockets, ports and prompts. Every method may be called from any thread."""

    def __new__(
        cls,
        *,
        bind_ipv4: str | None,
        bind_ipv6: str | None,
        port_low: int,
        port_high: int,
        emergency_reserve: int,
        threads: int,
        inactivity_ms: int,
    ) -> MediaCore:
        """Start the threads. ``emergency_reserve`` counts port pairs. Raises OSError or ValueError."""

    def fileno(self) -> int:
        """Return the eventfd that is readable when `drain_events` has something."""

    def register_prompt(self, name: str, codec: str, frames: list[bytes], group: str = "") -> None:
        """Keep a prompt in one codec; Opus frames are 20 ms each."""

    def open_leg(self, leg: int, ipv6: bool, emergency: bool) -> tuple[int, int]:
        """Return the leg's RTP and RTCP port. Raises OSError with the reason when there are none."""

    def configure_leg(
        self,
        leg: int,
        *,
        address: str,
        rtp_port: int,
        rtcp_port: int,
        rtcp_mux: bool,
        codec: str,
        payload_type: int,
        clock_rate: int,
        ptime_ms: int,
        event_payload_type: int | None,
        event_clock_rate: int,
        peer_sends: bool,
        peer_receives: bool,
        learning: bool,
        signalled_from: str,
        srtp: tuple[str, bytes, bytes, bytes] | None = None,
        heard_payload_type: int | None = None,
        heard_event_payload_type: int | None = None,
        fax: bool = False,
    ) -> None:
        """Tell a leg what its peer signalled. ``fax``: UDPTL, of which nothing is read, instead of RTP.

        ``heard_payload_type`` and ``heard_event_payload_type``: what the peer sends under; None: the same as
        what is sent to it.

        ``srtp``: the suite by its name in SDP, the gate's and the peer's master key (each key then salt), and
        the master key identifier in the peer's packets (b"": none). Raises ValueError when they don't fit.
        """

    def play(self, leg: int, play: int, names: list[str], repeat: bool, group: str) -> list[str]:
        """Play prompts; returns the names that are not known in the leg's codec."""

    def stop_prompts(self, leg: int) -> None: ...
    def listen(self, leg: int, listening: bool, inband: bool) -> None: ...
    def bridge(self, first: int, second: int) -> None: ...
    def unbridge(self, leg: int) -> None: ...
    def send_digit(self, leg: int, digit: str, duration_ms: int) -> bool:
        """Send one digit; False when it is none of 0-9 * # A-D."""

    def close_leg(self, leg: int) -> None: ...
    def drain_events(self) -> list[_NativeEvent]:
        """Take what happened since the last call."""

    @property
    def open_legs(self) -> int: ...
    @property
    def port_pairs(self) -> tuple[int, int]:
        """Port pairs in use, and in all."""

    def stop(self) -> None:
        """End the threads and close all legs; waits for them."""

def encode_prompt(pcm: bytes, sample_rate: int, codec: str, ptime_ms: int = 20) -> list[bytes]:
    """Encode little-endian int16 mono samples to frames of ``ptime_ms`` (10, 20, 30, 40 or 60; OPUS: 20).

    Resamples as the codec needs. The last frame is filled up with silence. Raises ValueError.
    """

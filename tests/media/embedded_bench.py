"""One embedded engine under test: commands in short, answers to wait for."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self, TypeVar

from proxy.call.ports import (
    AudioFormat,
    CloseMediaLeg,
    ConfigureMediaLeg,
    Latching,
    LegId,
    ListenForDigits,
    MediaAnswer,
    MediaLegClosed,
    MediaLegOpened,
    MediaLegRefused,
    OpenMediaLeg,
    RemoteMedia,
)
from proxy.media.embedded import EmbeddedConfig, EmbeddedEngine
from tests.support.ports import rtp_range
from tests.support.rtp import PATIENCE, RtpPeer

CONFIG = EmbeddedConfig("127.0.0.1", port_range=rtp_range(400), emergency_ports=4)
PCMU = AudioFormat("PCMU", 0, 8000)
SILENCE = b"\xff" * 160
"""20 ms of PCMU."""

Kind = TypeVar("Kind", bound=MediaAnswer)


def remote_of(
    peer: RtpPeer,
    *,
    audio: AudioFormat = PCMU,
    event_payload_type: int | None = 101,
    event_clock_rate: int = 8000,
    rtcp_mux: bool = False,
    peer_sends: bool = True,
    peer_receives: bool = True,
    latching: Latching = Latching.STRICT,
    signalled_from: str = "127.0.0.1",
) -> RemoteMedia:
    """What this peer's SDP says."""
    return RemoteMedia(
        address=peer.host,
        rtp_port=peer.port,
        rtcp_port=peer.port if rtcp_mux else peer.port + 1,
        rtcp_mux=rtcp_mux,
        audio=audio,
        event_payload_type=event_payload_type,
        event_clock_rate=event_clock_rate,
        peer_sends=peer_sends,
        peer_receives=peer_receives,
        latching=latching,
        signalled_from=signalled_from,
    )


class Bench:
    """An engine that runs, and its answers in the order in which they came."""

    def __init__(self, config: EmbeddedConfig) -> None:
        self.answers: list[MediaAnswer] = []
        self._arrived = asyncio.Event()
        self._next = 0
        self.engine = EmbeddedEngine(config, self._take)
        self.engine.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine.stop()

    def _take(self, answer: MediaAnswer) -> None:
        self.answers.append(answer)
        self._arrived.set()

    async def wait_for(self, kind: type[Kind]) -> Kind:
        """Take the first answer of this kind; answers of other kinds stay."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for answer in self.answers:
                    if isinstance(answer, kind):
                        self.answers.remove(answer)
                        return answer
                self._arrived.clear()
                await self._arrived.wait()

    def open_any(self, *, ipv6: bool = False, emergency: bool = False) -> MediaLegOpened | MediaLegRefused:
        """Open a leg and return the answer, which comes at once."""
        self._next += 1
        self.engine.submit(OpenMediaLeg(LegId(self._next), ipv6, emergency))
        answer = self.answers.pop()
        assert isinstance(answer, MediaLegOpened | MediaLegRefused)
        assert answer.leg == self._next
        return answer

    def open(self, *, ipv6: bool = False) -> MediaLegOpened:
        """Open a leg that must not be refused."""
        answer = self.open_any(ipv6=ipv6)
        assert isinstance(answer, MediaLegOpened)
        return answer

    def configure(self, opened: MediaLegOpened, peer: RtpPeer, remote: RemoteMedia | None = None) -> None:
        """Bring a leg and a peer together; the peer then sends to the leg."""
        peer.target = (peer.host, opened.rtp_port)
        self.engine.submit(ConfigureMediaLeg(opened.leg, remote or remote_of(peer)))

    def configured(
        self,
        peer: RtpPeer,
        *,
        listening: bool = False,
        audio: AudioFormat = PCMU,
        event_payload_type: int | None = 101,
        event_clock_rate: int = 8000,
        rtcp_mux: bool = False,
        peer_sends: bool = True,
        peer_receives: bool = True,
        latching: Latching = Latching.STRICT,
    ) -> LegId:
        """Open and configure a leg for this peer."""
        opened = self.open()
        remote = remote_of(
            peer,
            audio=audio,
            event_payload_type=event_payload_type,
            event_clock_rate=event_clock_rate,
            rtcp_mux=rtcp_mux,
            peer_sends=peer_sends,
            peer_receives=peer_receives,
            latching=latching,
        )
        self.configure(opened, peer, remote)
        if listening:
            self.engine.submit(ListenForDigits(opened.leg, listening=True))
        return opened.leg

    async def close(self, leg: LegId) -> MediaLegClosed:
        """Close a leg and wait until it is gone."""
        self.engine.submit(CloseMediaLeg(leg))
        closed = await self.wait_for(MediaLegClosed)
        assert closed.leg == leg
        return closed

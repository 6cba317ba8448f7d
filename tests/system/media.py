"""The media of a call under test: what arrives at the carrier's RTP port, and short recordings."""

from __future__ import annotations

import array
import math
import socket
import struct
import threading
import wave
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.pcap import EVENT_CODES
from tests.support.rtp import RtpPacket, TelephoneEvent, is_rtcp

EVENT_PAYLOAD_TYPE = 101


class RtpListener:
    """A carrier's RTP port: counts audio packets and reads telephone-events (RFC 4733)."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.audio_packets = 0
        self._events: dict[int, int] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 0))
        self._socket.settimeout(0.1)
        self.port = int(self._socket.getsockname()[1])
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    @property
    def digits(self) -> str:
        """What was pressed, each event once: they are told apart by RTP timestamp (§2.5.1.2)."""
        names = {code: digit for digit, code in EVENT_CODES.items()}
        return "".join(names[code] for code in self._events.values())

    def _listen(self) -> None:
        while not self._ended.is_set():
            try:
                data = self._socket.recv(2048)
            except TimeoutError:
                continue
            if is_rtcp(data):
                continue
            packet = RtpPacket.parse(data)
            if packet.payload_type == EVENT_PAYLOAD_TYPE:
                self._events[packet.timestamp] = TelephoneEvent.parse(packet.payload).code
            else:
                self.audio_packets += 1


def write_beep(path: Path, *, ms: int = 300, hertz: int = 400) -> None:
    """Write a short recording as it may be dropped into the prompts folder: 8 kHz, mono, 16 bit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = [round(6000 * math.sin(2 * math.pi * hertz * at / 8000)) for at in range(8 * ms)]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))


def read_wav(path: Path) -> tuple[int, array.array[int]]:
    """Return the sampling rate of a recording and the samples of its first channel."""
    with wave.open(str(path)) as file:
        assert file.getsampwidth() == 2
        samples = array.array("h", file.readframes(file.getnframes()))
        return file.getframerate(), samples[:: file.getnchannels()]


def tone_share(samples: array.array[int], rate: int, hertz: int) -> float:
    """Return how much of the power of these samples is this tone (Goertzel), 0 to 1."""
    turn = 2.0 * math.cos(2.0 * math.pi * hertz / rate)
    before, last = 0.0, 0.0
    for sample in samples:
        before, last = last, sample + turn * last - before
    tone = before * before + last * last - turn * before * last
    power = sum(sample * sample for sample in samples)
    return 2.0 * tone / (len(samples) * power) if power else 0.0

"""The media of a call under test: what arrives at the carrier's RTP port, and short recordings."""

from __future__ import annotations

import array
import math
import socket
import struct
import threading
import time
import wave
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.pcap import EVENT_CODES
from tests.support.rtp import RtpPacket, TelephoneEvent, is_rtcp

EVENT_PAYLOAD_TYPE = 101
PATIENCE = 60.0
"""Seconds for whatever has to come about: none of it needs as many, but a busy machine may."""
WINDOW = 0.25
"""Seconds of sound that are judged at once: a stall of the machine tears a hole into longer ones."""
HEARD_PACKETS = 10
"""At least so many packets of 20 ms have passed when a tone was heard; a phone may stretch a few."""
SILENT = 10
"""No frame of sound is as short: one of silence in Opus has three bytes."""
HEADER = 44
"""Bytes before the sound in a WAV file of 16-bit samples."""
CLEAR, GONE = 0.8, 0.2
"""Share of the power from which a tone is heard, and below which it is not."""


class RtpListener:
    """An RTP port that only hears: counts audio packets and reads telephone-events (RFC 4733)."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.packets: Counter[int] = Counter()
        """Of sound, by payload type."""
        self._events: dict[int, int] = {}
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
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
    def audio_packets(self) -> int:
        """How many packets of sound have come, of any kind."""
        return self.packets.total()

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
            elif len(packet.payload) > SILENT:
                self.packets[packet.payload_type] += 1


def write_beep(path: Path, *, ms: int = 300, hertz: int = 400) -> None:
    """Write a short recording as it may be dropped into the prompts folder: 8 kHz, mono, 16 bit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    second = [round(6000 * math.sin(2 * math.pi * hertz * at / 8000)) for at in range(8000)]
    samples = (second * (ms // 1000 + 1))[: 8 * ms]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))


def shorten_sounds(folder: Path) -> None:
    """Fill a prompts folder with short sounds of all that ends a call: what asks for a code keeps its own."""
    for name in (
        *("not_valid_try_again", "too_many_tries", "not_allowed", "connecting", "no_answer", "busy"),
        *("call_failed", "busy_tone", "reorder_tone"),
    ):
        write_beep(folder / f"{name}.wav")


@dataclass(frozen=True, slots=True)
class Recording:
    """What a phone hears, in the WAV file that it goes on writing."""

    find: Callable[[], Path | None]
    """Where the file is, once it is there."""
    headless_rate: int = 0
    """Samples per second, of one channel, while the file has room for a header and no header yet."""

    def length(self) -> int:
        """Return how many samples there are by now."""
        return len(self._read(0)[1])

    def wait_for_tone(self, hertz: int, *, after: int = 0) -> None:
        """Return when it was this tone, and nothing else, for a while after so many samples."""
        best, until = 0.0, time.monotonic() + PATIENCE
        while True:
            rate, samples = self._read(after)
            window = round(WINDOW * rate)
            step = max(1, window // 2)
            starts = range(0, len(samples) - window + 1, step) if rate else range(0)
            best = max((best, *(tone_share(samples[at : at + window], rate, hertz) for at in starts)))
            if best > CLEAR:
                return
            after += step * len(starts)
            assert time.monotonic() < until, f"{hertz} Hz: a share of {best:.2f} at most in what was heard"
            time.sleep(0.1)

    def wait_for_silence(self, hertz: int) -> None:
        """Return when the tone has stopped: who has put a call on hold records silence, or nothing."""
        before, since, until = -1, time.monotonic(), time.monotonic() + PATIENCE
        while True:
            rate, samples = self._read(0)
            last = samples[-round(WINDOW * rate) :] if rate else samples
            if last and tone_share(last, rate, hertz) < GONE:
                return
            if len(samples) != before:
                before, since = len(samples), time.monotonic()
            elif time.monotonic() > since + 1.0:
                return
            assert time.monotonic() < until, f"{hertz} Hz goes on"
            time.sleep(0.1)

    def _read(self, after: int) -> tuple[int, array.array[int]]:
        """Return the sampling rate and the samples of the first channel, from one on; none while it begins.

        The header has the right length only when the phone has ended: what is there is what counts.
        """
        path, samples = self.find(), array.array("h")
        data = path.read_bytes() if path is not None and path.exists() else b""
        if len(data) < HEADER:
            return 0, samples
        channels, rate = 1, self.headless_rate
        if data.startswith(b"RIFF"):
            assert data[36:40] == b"data", "a WAV file with more than one head"
            channels, rate = struct.unpack_from("<HI", data, 22)
        sound = data[HEADER:]
        samples.frombytes(sound[: len(sound) // (2 * channels) * 2 * channels])
        return rate, samples[::channels][after:]


def tone_share(samples: array.array[int], rate: int, hertz: int) -> float:
    """Return how much of the power of these samples is this tone (Goertzel), 0 to 1."""
    turn = 2.0 * math.cos(2.0 * math.pi * hertz / rate)
    before, last = 0.0, 0.0
    for sample in samples:
        before, last = last, sample + turn * last - before
    tone = before * before + last * last - turn * before * last
    power = sum(sample * sample for sample in samples)
    return 2.0 * tone / (len(samples) * power) if power else 0.0

"""Time from the first end packet of ``#`` to the B leg's INVITE, read off the wire.

A packet socket on loopback sees both; the stamps of the kernel are compared, so neither the program under
test nor the generator is asked what it believes.
"""

from __future__ import annotations

import socket
import statistics
import struct
import threading
from dataclasses import dataclass

from bench.beside import fill, work_beside
from bench.calls import GATED_NUMBER
from bench.gate import GateProcess, running_gate
from bench.sipp import run_load

ETH_P_IP = 0x0800
PACKET_OUTGOING = 4
SO_TIMESTAMPNS = 35
POUND_EVENT = 11


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds over ``calls`` calls at ``rate`` per second, while the portal was busy with something."""

    beside: str
    rate: float
    calls: int
    mean_ms: float
    p50_ms: float
    p99_ms: float
    max_ms: float


class _Sniffer(threading.Thread):
    """Collects the time stamps of first end packets of ``#`` and of INVITEs to the carrier."""

    def __init__(self, carrier_port: int) -> None:
        super().__init__(daemon=True)
        self._carrier_port = carrier_port
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
        self._socket.bind(("lo", ETH_P_IP))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 20)
        self._socket.settimeout(0.2)
        self._stopping = False
        self._ended: set[tuple[int, bytes]] = set()
        self._branches: set[bytes] = set()
        self.pounds: list[float] = []
        self.invites: list[float] = []

    def stop(self) -> None:
        """End the thread and close its socket."""
        self._stopping = True
        self.join()
        self._socket.close()

    def run(self) -> None:
        """Read until stopped."""
        while not self._stopping:
            try:
                packet, ancillary, _, address = self._socket.recvmsg(2048, 64)
            except TimeoutError:
                continue
            if address[2] == PACKET_OUTGOING or packet[9] != socket.IPPROTO_UDP:
                continue
            at = next(
                seconds + nanoseconds / 1e9
                for level, kind, data in ancillary
                if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS
                for seconds, nanoseconds in [struct.unpack("qq", data)]
            )
            self._look_at(packet[(packet[0] & 15) * 4 :], at)

    def _look_at(self, udp: bytes, at: float) -> None:
        source, destination = struct.unpack("!HH", udp[:4])
        payload = udp[8:]
        if destination == self._carrier_port and payload.startswith(b"INVITE "):
            branch = payload.split(b"branch=", 1)[1].split(b"\r", 1)[0]
            if branch not in self._branches:
                self._branches.add(branch)
                self.invites.append(at)
        elif len(payload) == 16 and payload[0] == 0x80 and payload[12] == POUND_EVENT and payload[13] & 0x80:
            key = (source, payload[4:12])
            if key not in self._ended:
                self._ended.add(key)
                self.pounds.append(at)


def run(*, quick: bool) -> list[Latency]:
    """Measure at 10 calls/s, with nothing else to do and beside what the portal does."""
    calls = 50 if quick else 300
    with running_gate(fill) as gate:
        found = [_measure(gate, calls, "nothing")]
        for what in ("import", "export"):
            with work_beside(what, gate.environment["TOLLGATE_STORE__URL"]):
                found.append(_measure(gate, calls, what))
    return found


def _measure(gate: GateProcess, calls: int, beside: str) -> Latency:
    rate = 10.0
    sniffer = _Sniffer(gate.carrier_port)
    sniffer.start()
    try:
        run_load(gate, "gated_caller", rate=rate, calls=calls, dialled=GATED_NUMBER)
    finally:
        sniffer.stop()
    delays: list[float] = []
    invites = iter(sniffer.invites)
    invite = next(invites, None)
    for pound in sniffer.pounds:
        while invite is not None and invite < pound:
            invite = next(invites, None)
        if invite is not None:
            delays.append(1000 * (invite - pound))
    delays.sort()
    return Latency(
        beside=beside,
        rate=rate,
        calls=len(delays),
        mean_ms=statistics.fmean(delays),
        p50_ms=statistics.median(delays),
        p99_ms=delays[min(len(delays) - 1, int(0.99 * len(delays)))],
        max_ms=delays[-1],
    )

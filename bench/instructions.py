"""What signalling of a gated call costs, counted instead of timed: Python calls per room, and instructions.

The gate's own driver runs both cores on a virtual clock between a caller and a carrier that are templates;
sockets, media engine and journal are left out. What went in is kept and put into a fresh gate once more; only
this second run is counted. Neither figure depends on what else the machine does: a regression of one per cent
shows on a machine that measures time badly.

Instructions come from valgrind's cachegrind: those of a process with the second run less those of one
without.
"""

from __future__ import annotations

import heapq
import logging
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from itertools import count
from pathlib import Path
from types import FrameType
from typing import TypeVar

import uvloop

from proxy.call.config import GateConfig, Peer, Side, Trunk
from proxy.call.core import CallCore
from proxy.call.ports import (
    Answer,
    CloseMediaLeg,
    Command,
    DigitHeard,
    JournalRecord,
    LegId,
    LegStatistics,
    ListenForDigits,
    MediaLegClosed,
    MediaLegOpened,
    OpenMediaLeg,
    RecordDurable,
)
from proxy.dtmf.digits import DigitMeans
from proxy.net.driver import Driver
from proxy.net.resolver import Resolver
from proxy.policy import AccountCode, CodeCollection, CodeTable, NumberPlan, Snapshot, User, UserGroup
from proxy.process import calm_garbage_collector
from proxy.sip.config import EndpointConfig
from proxy.sip.endpoint import Endpoint
from proxy.sip.flow import Flow, ListenPoint
from proxy.sip.ids import KeyedIds

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = f"{ROOT / 'proxy'}{os.sep}"
GATE = ("192.0.2.1", 5060)
CALLER = Flow("UDP", "192.0.2.10", 5060)
CARRIER = Flow("UDP", "192.0.2.90", 5060)
CODE = "1234"
RATE = 100
"""Calls per second of the virtual clock: some 300 are up at a time."""
KEYS_AT, KEY, TALK = 0.3, 0.16, 1.0
"""Seconds from the prompt to the first key, from key to key, and of talk."""

_SDP = (
    "v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 101\r\n"
    "a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n"
)
_ECHOED = re.compile(r"^(?:Via|From|To|Call-ID|CSeq): .*\r\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class RoomCost:
    """Counts per gated call of one room, or of all."""

    room: str
    python_calls: float
    """Python functions entered."""
    instructions: float = 0.0
    """Known for all rooms together only, and where there is valgrind."""


@dataclass(frozen=True, slots=True)
class Input:
    """What the gate is given at a time: a datagram, or an answer of engine or journal."""

    at: float
    datagram: tuple[bytes, Flow] | None = None
    answer: Answer | None = None


class Gate(Driver):
    """Both cores under their driver, with a media engine and a journal that answer at once.

    The loop that it is made in never runs: time and datagrams come from whoever holds the gate.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.sent: list[tuple[bytes, str]] = []
        """Datagrams, and the host each went to."""
        self.listening: list[LegId] = []
        super().__init__(self._carry_out, resolver=Resolver(), clock=lambda: self.now)
        group = UserGroup("callers", collection=CodeCollection.REQUIRED)
        policy = Snapshot(
            NumberPlan(),
            (group,),
            (User("204", group.name),),
            CodeTable.of([AccountCode(CODE, CODE, "bench")]),
        )
        sources = (ip_network(CALLER.remote_host),)
        config = GateConfig(
            peers=(Peer("generator", Side.PBX, networks=sources, flow=CALLER, default_group=group.name),),
            trunks=(Trunk("carrier", (CARRIER,), CARRIER.remote_host),),
        )
        self.endpoint = Endpoint(
            EndpointConfig((ListenPoint("UDP", *GATE),), invites_to_tu=True), KeyedIds(bytes(32))
        )
        records, start = count(), datetime(2026, 3, 2, 9, tzinfo=UTC)
        self.core = self.calls = CallCore(
            self.endpoint,
            config,
            policy,
            wall_clock=lambda: start + timedelta(seconds=self.now),
            record_ids=lambda: f"record-{next(records)}",
            loop_key=bytes(32),
        )

    def take(self, given: Input) -> None:
        """Run what is due before, then take an input."""
        self.run_timers(given.at)
        self.now = given.at
        if given.datagram is not None:
            self._received(*given.datagram)
        if given.answer is not None:
            self.answer(given.answer)

    def run_timers(self, until: float) -> None:
        """Run what is due until then."""
        while self._armed_at <= until:
            self.now = self._armed_at
            self._timer_fired()

    def _send(self, data: bytes, flow: Flow) -> None:
        self.sent.append((data, flow.remote_host))

    def _carry_out(self, command: Command) -> None:
        if isinstance(command, OpenMediaLeg):
            port = 10_000 + 2 * command.leg
            self.answer(MediaLegOpened(command.leg, GATE[0], port, port + 1))
        elif isinstance(command, CloseMediaLeg):
            self.answer(MediaLegClosed(command.leg, LegStatistics()))
        elif isinstance(command, JournalRecord) and command.confirm:
            self.answer(RecordDurable(command.record.record_id, durable=True))
        elif isinstance(command, ListenForDigits) and command.listening:
            self.listening.append(command.leg)


class World:
    """The caller and the carrier of so many gated calls, whose inputs to a gate it keeps."""

    def __init__(self, calls: int) -> None:
        self.inputs: list[Input] = []
        self._serial = count()
        self._due: list[tuple[float, int, Input]] = []
        gate = Gate()
        for number in range(calls):
            self._send(gate.now + number / RATE, _invite(number), CALLER)
        while self._due:
            given = heapq.heappop(self._due)[2]
            self.inputs.append(given)
            gate.take(given)
            self._respond(gate)

    def _at(self, at: float, given: Input) -> None:
        heapq.heappush(self._due, (at, next(self._serial), given))

    def _send(self, at: float, message: str, source: Flow) -> None:
        self._at(at, Input(at, datagram=(message.encode(), source)))

    def _respond(self, gate: Gate) -> None:
        for data, host in gate.sent:
            if host == CARRIER.remote_host:
                self._as_carrier(data.decode(), gate.now)
            else:
                self._as_caller(data.decode(), gate.now)
        for leg in gate.listening:
            for place, digit in enumerate(f"{CODE}#"):
                at = gate.now + KEYS_AT + KEY * place
                self._at(at, Input(at, answer=DigitHeard(leg, digit, DigitMeans.RFC4733, 100)))
        gate.sent.clear()
        gate.listening.clear()

    def _as_carrier(self, message: str, now: float) -> None:
        if message.startswith("INVITE"):
            echoed = "".join(_ECHOED.findall(message)).replace("\r\nCall-ID", ";tag=callee\r\nCall-ID")
            contact = f"Contact: <sip:{CARRIER.remote_host}:5060>\r\n"
            body = _SDP.format(CARRIER.remote_host)
            self._send(now, f"SIP/2.0 200 OK\r\n{echoed}{contact}{_with(body)}", CARRIER)
        elif message.startswith("BYE"):
            self._send(now, f"SIP/2.0 200 OK\r\n{''.join(_ECHOED.findall(message))}{_with('')}", CARRIER)

    def _as_caller(self, message: str, now: float) -> None:
        if not message.startswith("SIP/2.0 200") or "CSeq: 1 INVITE" not in message:
            return
        headers = dict(line.split(": ", 1) for line in message.partition("\r\n\r\n")[0].split("\r\n")[1:])
        number, to = int(headers["Call-ID"].partition("@")[0]), headers["To"]
        self._send(now, _within(number, "ACK", 1, to), CALLER)
        self._send(now + KEYS_AT + KEY * len(CODE) + TALK, _within(number, "BYE", 2, to), CALLER)


def _with(body: str) -> str:
    kind = "Content-Type: application/sdp\r\n" if body else ""
    return f"{kind}Content-Length: {len(body)}\r\n\r\n{body}"


def _invite(number: int) -> str:
    uri, body = f"sip:2025550123@{GATE[0]}:5060", _SDP.format(CALLER.remote_host)
    contact = f"Contact: <sip:204@{CALLER.remote_host}:5060>\r\n"
    return _request(number, "INVITE", uri=uri, to=f"<{uri}>", cseq=1, rest=f"{contact}{_with(body)}")


def _within(number: int, method: str, cseq: int, to: str) -> str:
    return _request(number, method, uri=f"sip:gate@{GATE[0]}:5060", to=to, cseq=cseq, rest=_with(""))


def _request(number: int, method: str, *, uri: str, to: str, cseq: int, rest: str) -> str:
    host = CALLER.remote_host
    return (
        f"{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {host}:5060;branch=z9hG4bK-{number}-{method}\r\n"
        f"From: <sip:204@{host}:5060>;tag={number}\r\nTo: {to}\r\nCall-ID: {number}@{host}\r\n"
        f"CSeq: {cseq} {method}\r\nMax-Forwards: 70\r\n{rest}"
    )


def keep_inputs(calls: int) -> list[Input]:
    """Run so many calls, and return what the gate was given."""
    return _within_a_loop(lambda: World(calls).inputs)


def replay(inputs: list[Input]) -> None:
    """Put the inputs into a fresh gate, and let time pass until nothing is left of the calls."""
    gate = Gate()
    for given in inputs:
        gate.take(given)
    gate.run_timers(gate.now + 3600)
    if gate.faults or not (gate.calls.idle and gate.endpoint.idle):
        raise RuntimeError("something is left of the calls, or went wrong in them")


_Result = TypeVar("_Result")


def _within_a_loop(work: Callable[[], _Result]) -> _Result:
    """Do what takes no time in a loop, which is there but never turns: a driver belongs to one."""

    async def run() -> _Result:
        return work()

    return uvloop.run(run())


def count_python_calls(calls: int) -> dict[str, float]:
    """Count the functions entered per call, by the room that they belong to."""
    inputs = keep_inputs(calls)
    entered: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            where: FrameType | None = frame
            # What dataclasses generate has no file of its own: it belongs to who calls it.
            while where is not None and where.f_code.co_filename.startswith("<"):
                where = where.f_back
            name = where.f_code.co_filename if where is not None else ""
            if name.startswith(PACKAGE):
                entered[name[len(PACKAGE) :].partition(os.sep)[0]] += 1

    def counted() -> None:
        before = logging.root.manager.disable
        logging.disable(logging.CRITICAL)  # a log that somebody set up costs calls of its own
        sys.setprofile(note)
        try:
            replay(inputs)
        finally:
            sys.setprofile(None)
            logging.disable(before)

    _within_a_loop(counted)
    return {room: entered[room] / calls for room in sorted(entered)}


def count_instructions(calls: int) -> float:
    """Count the instructions per call, or return 0 where valgrind is not installed."""
    try:
        with_run, without = (_instructions_of(calls, counted) for counted in (True, False))
    except FileNotFoundError:
        return 0.0
    return (with_run - without) / calls


def _instructions_of(calls: int, counted: bool) -> int:
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    ran = subprocess.run(
        [*command, sys.executable, "-m", "bench.instructions", str(calls), *(["counted"] if counted else [])],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "0"},
        check=True,
        capture_output=True,
        text=True,
    )
    found = re.search(r"I +refs: +([\d,]+)", ran.stderr)
    if found is None:
        raise RuntimeError(f"valgrind said no count: {ran.stderr[-500:]}")
    return int(found[1].replace(",", ""))


def run(*, quick: bool) -> list[RoomCost]:
    """Count both."""
    calls = 50 if quick else 200
    rooms = count_python_calls(calls)
    rows = [RoomCost(room, entered) for room, entered in rooms.items()]
    return [*rows, RoomCost("all", sum(rooms.values()), count_instructions(calls))]


def main() -> None:
    """Run the calls and, with ``counted``, put them into a second gate: what valgrind is to look at."""
    inputs = keep_inputs(int(sys.argv[1]))
    calm_garbage_collector()
    if "counted" in sys.argv:
        _within_a_loop(lambda: replay(inputs))


if __name__ == "__main__":
    main()

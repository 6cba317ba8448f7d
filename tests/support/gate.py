"""The gate on the fake network: endpoint and call core with a media engine and a journal that answer at once.

Nothing of SIP is mocked: phones, PBX and carrier are user agents on their own endpoints (`tests.support.ua`).
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from itertools import count
from types import TracebackType
from typing import Self

from proxy.call.config import CodeMode, GateConfig, Peer, Side, Trunk
from proxy.call.core import CallCore
from proxy.call.identity import Authenticator, peer_networks
from proxy.call.ports import (
    Answer,
    BridgeMedia,
    CloseMediaLeg,
    Command,
    ConfigureMediaLeg,
    DigitHeard,
    JournalRecord,
    LegId,
    LegStatistics,
    ListenForDigits,
    LockCaller,
    MediaLegClosed,
    MediaLegOpened,
    MediaLegRefused,
    OpenMediaLeg,
    PlayId,
    PlayPrompts,
    PromptsFinished,
    RecordDurable,
    StopPrompts,
    TellOfCall,
    UnbridgeMedia,
)
from proxy.call.registrations import Registrations
from proxy.cdr.record import CallRecord
from proxy.dtmf.digits import DigitMeans
from proxy.policy import (
    AccountCode,
    CallClass,
    CallerLock,
    ClassOfService,
    CodeCollection,
    CodeTable,
    NumberPlan,
    Snapshot,
    User,
    UserGroup,
    parse_patterns,
)
from proxy.sip.config import ALLOW, PHONE_METHODS, SUPPORTED, EndpointConfig
from proxy.sip.endpoint import Endpoint
from proxy.sip.flow import Flow, ListenPoint, Transmit
from proxy.sip.gruu import Gruus
from proxy.sip.reachability import Surroundings
from proxy.sip.registrar import Registrar
from proxy.sip.registration import RegistrarConfig
from tests.support.clock import VirtualClock
from tests.support.ids import CountingIds
from tests.support.network import FakeNetwork
from tests.support.ua import ANSWER, Step, Ua, UaCall

GATE = ("192.0.2.1", 5060)
PBX = ("192.0.2.10", 5060)
CARRIER = ("192.0.2.90", 5060)
CARRIER_2 = ("192.0.2.91", 5060)
STRANGER = ("203.0.113.66", 5060)

PROMPT_SECONDS = 2.0
NUMBER = "914155550123"
"""An outside number behind the outside-line prefix: +14155550123, national."""
E164 = "+14155550123"

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


class Leg:
    """What the engine knows of one leg."""

    def __init__(self, leg: LegId) -> None:
        self.id = leg
        self.listening = False
        self.playing: PlayPrompts | None = None
        self.bridged_with: LegId | None = None
        self.configured: list[ConfigureMediaLeg] = []
        self.heard: list[str] = []
        """Names of prompts played, in order."""
        self.digits_sent = ""


class MediaBench:
    """A media engine that does what it is told and remembers it. Answers are queued for the gate."""

    def __init__(self) -> None:
        self.legs: dict[LegId, Leg] = {}
        self.all: dict[LegId, Leg] = {}
        self.commands: list[Command] = []
        self.answers: deque[Answer] = deque()
        self.refuse: set[int] = set()
        """Which opening (1, 2 ...) gets no ports."""
        self.refuses: Callable[[], bool] = lambda: False
        """Whether an opening gets no ports this time."""
        self.ipv4_only = False
        """There is no IPv6 media address."""
        self.own = ""
        """What the ports are bound to, if that is not what is advertised."""
        self.latency: Callable[[], float] | None = None
        """How long an answer takes; None: it comes at once."""
        self.silent = False
        """The engine has stopped answering."""
        self.opened = 0
        self.emergencies = 0
        self._due: list[tuple[float, int, LegId, PlayId]] = []
        self._late: list[tuple[float, int, Answer]] = []
        self._serial = count()

    def _answer(self, answer: Answer, now: float) -> None:
        if self.latency is None:
            self.answers.append(answer)
        else:
            heapq.heappush(self._late, (now + self.latency(), next(self._serial), answer))

    def submit(self, command: Command, now: float) -> None:
        self.commands.append(command)
        if isinstance(command, OpenMediaLeg):
            self._open(command, now)
            return
        if isinstance(command, JournalRecord | TellOfCall | LockCaller):
            raise AssertionError("records, events and locks are not the engine's")
        if self.silent:
            return
        if isinstance(command, CloseMediaLeg) and command.leg not in self.legs:
            self.answers.append(MediaLegClosed(command.leg, LegStatistics()))  # it was refused
            return
        leg = self.legs[command.leg if not isinstance(command, BridgeMedia) else command.first]
        if isinstance(command, BridgeMedia | UnbridgeMedia | CloseMediaLeg):
            self._connect(command, leg, now)
        elif isinstance(command, ConfigureMediaLeg):
            leg.configured.append(command)
        elif isinstance(command, PlayPrompts):
            self._play(command, leg, now)
        elif isinstance(command, StopPrompts):
            leg.playing = None
        elif isinstance(command, ListenForDigits):
            leg.listening = command.listening
        else:
            leg.digits_sent += command.digit

    def _play(self, command: PlayPrompts, leg: Leg, now: float) -> None:
        assert leg.configured, "prompts before the peer's SDP"
        leg.playing = command
        leg.heard.extend(command.prompts)
        if not command.repeat:
            at = now + PROMPT_SECONDS * len(command.prompts)
            heapq.heappush(self._due, (at, next(self._serial), leg.id, command.play))

    def _connect(self, command: BridgeMedia | UnbridgeMedia | CloseMediaLeg, leg: Leg, now: float) -> None:
        if isinstance(command, CloseMediaLeg):
            del self.legs[leg.id]
            if leg.bridged_with in self.legs:
                self.legs[leg.bridged_with].bridged_with = None
            self._answer(MediaLegClosed(leg.id, LegStatistics(10, 11, 1, 2.5, 0)), now)
        elif isinstance(command, BridgeMedia):
            other = self.legs[command.second]
            assert leg.configured, "bridge before the first leg's SDP"
            assert other.configured, "bridge before the second leg's SDP"
            leg.bridged_with, other.bridged_with = other.id, leg.id
            leg.playing = other.playing = None
        else:
            if leg.bridged_with is not None:
                self.legs[leg.bridged_with].bridged_with = None
            leg.bridged_with = None

    def _open(self, command: OpenMediaLeg, now: float) -> None:
        self.opened += 1
        if command.emergency:
            self.emergencies += 1
        if self.silent:
            return
        no_such_family = command.ipv6 and self.ipv4_only
        if no_such_family or self.opened in self.refuse or self.refuses():
            self._answer(MediaLegRefused(command.leg, "no ports left", no_such_family), now)
            return
        leg = self.legs[command.leg] = self.all[command.leg] = Leg(command.leg)
        port = 10000 + 2 * leg.id
        address = "2001:db8::1" if command.ipv6 else "192.0.2.1"
        self._answer(MediaLegOpened(command.leg, address, port, port + 1, self.own), now)

    def next_timer(self) -> float | None:
        return min((queue[0][0] for queue in (self._due, self._late) if queue), default=None)

    def handle_timer(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            _, _, leg_id, play = heapq.heappop(self._due)
            leg = self.legs.get(leg_id)
            if leg is not None and leg.playing is not None and leg.playing.play == play:
                leg.playing = None
                self._answer(PromptsFinished(leg_id, play), now)
        while self._late and self._late[0][0] <= now:
            self.answers.append(heapq.heappop(self._late)[2])


class JournalBench:
    """A journal that writes at once, after a while, never, or not durably."""

    def __init__(self) -> None:
        self.records: list[CallRecord] = []
        self.durable = True
        self.delay = 0.0
        self.answers: deque[tuple[float, RecordDurable]] = deque()

    def append(self, command: JournalRecord, now: float) -> None:
        self.records.append(command.record)
        if command.confirm:
            self.answers.append((now + self.delay, RecordDurable(command.record.record_id, self.durable)))

    @property
    def final(self) -> list[CallRecord]:
        return [record for record in self.records if record.final]


class GateNode:
    """The gate as a node of the network: what the driver does, on the virtual clock."""

    def __init__(
        self,
        config: GateConfig,
        policy: Snapshot,
        clock: VirtualClock,
        *,
        authenticator: Authenticator | None = None,
        transport: str = "UDP",
    ) -> None:
        self.clock = clock
        self.media = MediaBench()
        self.journal = JournalBench()
        self.told: list[TellOfCall] = []
        self.locks: list[CallerLock] = []
        points = (ListenPoint(transport, *GATE),)
        allow = ALLOW if config.phones is None else (*ALLOW, *PHONE_METHODS)
        endpoint = EndpointConfig(points, allow=allow, supported=SUPPORTED, invites_to_tu=True)
        self.endpoint = Endpoint(endpoint, CountingIds("gate"))
        ids = count(1)
        self.core = CallCore(
            self.endpoint,
            config,
            policy,
            wall_clock=lambda: START + timedelta(seconds=clock.elapsed),
            record_ids=lambda: f"record-{next(ids):06d}",
            loop_key=b"loop key of the tests",
            authenticator=authenticator,
            registrations=self._registrations(config, points, authenticator),
        )

    def _registrations(
        self, config: GateConfig, points: tuple[ListenPoint, ...], authenticator: Authenticator | None
    ) -> Registrations | None:
        if config.phones is None or authenticator is None:
            return None
        return Registrations(
            self.endpoint,
            Registrar(
                RegistrarConfig(),
                Surroundings(points, frozenset({"gate.example.com", GATE[0]}), peer_networks(config)),
                Gruus(b"k" * 32),
            ),
            authenticator,
            wall_clock=lambda: START + timedelta(seconds=self.clock.elapsed),
        )

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        self.endpoint.receive(data, flow, now)

    def transmits(self) -> list[Transmit]:
        return self.endpoint.transmits()

    def next_timer(self) -> float | None:
        journal = self.journal.answers[0][0] if self.journal.answers else None
        times = (self.endpoint.next_timer(), self.core.next_timer(), self.media.next_timer(), journal)
        return min((at for at in times if at is not None), default=None)

    def handle_timer(self, now: float) -> None:
        self.endpoint.handle_timer(now)
        self.settle(now)
        self.core.handle_timer(now)
        self.media.handle_timer(now)
        self.settle(now)

    def settle(self, now: float) -> None:
        """Handle events, commands and answers until nothing is left."""
        busy = True
        while busy:
            busy = False
            for event in self.endpoint.events():
                busy = True
                self.core.handle_sip(event, now)
            for command in self.core.commands():
                busy = True
                if isinstance(command, JournalRecord):
                    self.journal.append(command, now)
                elif isinstance(command, TellOfCall):
                    self.told.append(command)
                elif isinstance(command, LockCaller):
                    self.locks.append(command.lock)
                else:
                    self.media.submit(command, now)
            while self.media.answers:
                busy = True
                self.core.handle_answer(self.media.answers.popleft(), now)
            while self.journal.answers and self.journal.answers[0][0] <= now:
                busy = True
                self.core.handle_answer(self.journal.answers.popleft()[1], now)


def default_policy(
    codes: Iterable[AccountCode] = (AccountCode("1234", "ACME-12/34", "ACME, general"), AccountCode("5678")),
    *,
    collection: CodeCollection = CodeCollection.REQUIRED,
    groups: Sequence[UserGroup] = (),
) -> Snapshot:
    """Group ``staff`` dials internal numbers freely and is asked for a code outside; premium is blocked."""
    outside = frozenset(CallClass) - {CallClass.PREMIUM}
    staff = UserGroup(
        "staff",
        permissions=ClassOfService(frozenset({CallClass.INTERNAL, CallClass.TOLL_FREE})),
        collection=collection,
        unlock=ClassOfService(outside),
    )
    plan = NumberPlan(
        country="US", area_codes=("212",), outside_prefix="9", extensions=parse_patterns(("2XX",))
    )
    users = (User("204", "staff", name="Desk 204", caller_number="+12125550204"),)
    return Snapshot(plan, groups or (staff,), users, CodeTable.of(codes))


def default_config(
    *,
    code_mode: CodeMode = CodeMode.ANSWER,
    trunks: Sequence[Trunk] | None = None,
    **changes: object,
) -> GateConfig:
    """A PBX and one carrier."""
    pbx = Peer(
        "pbx",
        Side.PBX,
        networks=(ip_network("192.0.2.10/32"),),
        flow=Flow("UDP", *PBX),
        default_group="staff",
        code_mode=code_mode,
    )
    carrier = Peer("carrier", Side.TRUNK, networks=(ip_network("192.0.2.90/31"),))
    if trunks is None:
        trunks = (Trunk("carrier", (Flow("UDP", *CARRIER),), "carrier.example.com"),)
    config = GateConfig(peers=(pbx, carrier), trunks=tuple(trunks))
    for name, value in changes.items():
        object.__setattr__(config, name, value)
    return config


class GateBench:
    """Everything together: ``with GateBench() as bench`` ends by asserting that nothing is left
    (contract 5)."""

    def __init__(
        self,
        *,
        config: GateConfig | None = None,
        policy: Snapshot | None = None,
        script: Sequence[Step] = ANSWER,
        authenticator: Authenticator | None = None,
        carrier_supports: tuple[str, ...] = (),
        seed: int = 1,
        loss: float = 0.0,
        duplication: float = 0.0,
        delay: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self.network = FakeNetwork(seed=seed, loss=loss, duplication=duplication, delay=delay)
        clock = self.network.clock
        self.gate = GateNode(
            config or default_config(), policy or default_policy(), clock, authenticator=authenticator
        )
        self.core = self.gate.core
        self.media = self.gate.media
        self.journal = self.gate.journal
        now = lambda: clock.now  # noqa: E731
        self.pbx = Ua(*PBX, now)
        self.carrier = Ua(*CARRIER, now, script=script, supported=carrier_supports)
        self.carrier_2 = Ua(*CARRIER_2, now, script=ANSWER)
        self.stranger = Ua(*STRANGER, now)
        self.vanished: set[Ua] = set()
        """UAs that a test made disappear: what they still hold is not the gate's affair."""
        self.uas: tuple[Ua, ...] = (self.pbx, self.carrier, self.carrier_2, self.stranger)
        self.network.attach(GATE, self.gate, self.gate.settle)
        for ua in self.uas:
            self.network.attach(ua.address, ua, ua.after)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.assert_nothing_left()

    # Driving ------------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        return self.network.clock.now

    def run(self, seconds: float = 0.0) -> None:
        """Let the gate act on what a test did to it directly, then let time pass."""
        self.gate.settle(self.now)
        self.network.run_for(seconds)

    def press(
        self, digits: str, *, call: int = 0, every: float = 0.2, means: DigitMeans = DigitMeans.RFC4733
    ) -> None:
        """Press keys on the phone of a call (its place among the calls of the core)."""
        for digit in digits:
            self.network.run_for(every)
            leg = self.a_leg(call)
            if leg.listening:
                self.core.handle_answer(DigitHeard(leg.id, digit, means, 100), self.now)
            self.run()

    def dial_with_code(self) -> UaCall:
        """Call an outside number from the PBX and type a code at the prompt."""
        call = self.pbx.call(NUMBER)
        self.run(0.5)
        self.press("1234#")
        return call

    def answer(self, answer: Answer) -> None:
        """Give the core an answer out of turn."""
        self.core.handle_answer(answer, self.now)
        self.run()

    # Looking ------------------------------------------------------------------------------------------------

    def a_leg(self, call: int = 0) -> Leg:
        """The engine's leg of a caller."""
        live = list(self.core.calls.values())[call]
        assert live.a.media is not None
        return self.media.legs[live.a.media.id]

    @property
    def heard(self) -> list[str]:
        """Prompts that the first caller heard, in order."""
        return self.media.all[LegId(1)].heard

    @property
    def record(self) -> CallRecord:
        """The one final record."""
        final = self.journal.final
        assert len(final) == 1, f"{len(final)} final records"
        return final[0]

    def assert_nothing_left(self) -> None:
        """Contract 5: after a call and its timers nothing is left anywhere."""
        self.gate.settle(self.now)
        self.network.settle()
        assert self.core.idle, (self.core.calls, self.core.media)
        assert self.core.next_timer() is None
        assert not self.media.legs
        assert self.gate.endpoint.idle
        for ua in self.uas:
            assert ua in self.vanished or ua.endpoint.idle, ua.address

"""The asyncio pump: sockets, the one timer and the media engine on one side, the sans-I/O cores on the other.

One invariant holds after every input, whatever it was: events go to the call core, its commands to the engine
and the journal, messages to the sockets, until nothing is left; then the one timer is armed for the earliest
deadline of both cores. Nothing here knows what a call is.

A fault in the handling of one event must cost one call and not the process: it is logged with its
traceback, and the call core is told to end what the event belonged to.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from proxy.call.ports import (
    Answer,
    BridgeMedia,
    Command,
    JournalRecord,
    LockCaller,
    MediaLegRefused,
    RecordDurable,
    TellOfCall,
)
from proxy.net.crowd import Crowd
from proxy.net.resolver import HostName, Resolver, is_literal
from proxy.net.tcp import TcpConnections, TcpLimits
from proxy.net.tls import TlsContexts
from proxy.net.udp import UdpSocket
from proxy.sip.endpoint import Endpoint
from proxy.sip.events import Event
from proxy.sip.flow import Flow
from proxy.sip.reachability import Surroundings

__all__ = ["CallControl", "Driver", "Listener"]

logger = logging.getLogger(__name__)

MAX_KNOWN_LITERALS = 50_000
HALF_TICK = 0.0005
"""Seconds added to a delay: uvloop rounds it to whole ms, and a timer must not come before its time."""
MAX_ROUNDS = 10_000
"""Rounds of one settling, and of events that cause events: far more than any input can cause; a core that
never comes to rest is a bug."""


class CallControl(Protocol):
    """What the driver asks of the call core (`proxy.call.core.CallCore`)."""

    def handle_sip(self, event: Event, now: float) -> None:
        """Take one event of the endpoint."""
        ...

    def handle_answer(self, answer: Answer, now: float) -> None:
        """Take one answer of the engine or the journal."""
        ...

    def handle_timer(self, now: float) -> None:
        """Run what is due."""
        ...

    def next_timer(self) -> float | None:
        """Return when `handle_timer` is to be called next."""
        ...

    def commands(self) -> list[Command]:
        """Take what is to be done outside."""
        ...

    def abandon(self, cause: Event | Answer, now: float) -> None:
        """End the call that ``cause`` belongs to: its handling raised. Must not raise for a call in any
        state.
        """
        ...


@dataclass(frozen=True, slots=True)
class Listener:
    """One socket to open: transport (UDP, TCP, TLS), IP address and port (0: any free one)."""

    transport: str
    host: str
    port: int


class Driver:
    """Runs one endpoint and one call core on one event loop.

    ``perform`` carries out a command; its answers come back through `answer` (from the loop's thread).
    """

    def __init__(
        self,
        perform: Callable[[Command], None],
        *,
        resolver: Resolver,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.endpoint: Endpoint
        """From `start` on."""
        self.core: CallControl
        """From `start` on."""
        self.tcp: TcpConnections | None = None
        self.udp: dict[int, UdpSocket] = {}
        self.faults = 0
        self._perform = perform
        self._resolver = resolver
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self.crowd = Crowd(
            self._received, self._overloaded, self._knows, time.monotonic, self._loop.call_soon
        )
        """What comes faster than it is taken, over whatever transport."""
        self._is_trusted: Callable[[str], bool] = lambda _host: False
        self._may_decline: Callable[[str], bool] = lambda _uri: False
        self._has_phone_at: Callable[[str], bool] = lambda _host: False
        self._answers: deque[Answer] = deque()
        self._failures: deque[Flow] = deque()
        self._literals: set[str] = set()
        self._lookups: set[asyncio.Task[None]] = set()
        self._settling = False
        self._rounds = 0
        self._timer: asyncio.TimerHandle | None = None
        self._armed_at = math.inf

    # Sockets ------------------------------------------------------------------------------------------------

    async def listen(
        self,
        listeners: list[Listener],
        *,
        is_trusted: Callable[[str], bool] = lambda _host: False,
        is_in_use: Callable[[Flow], bool] = lambda _flow: False,
        tcp_limits: TcpLimits = TcpLimits(),  # noqa: B008 - frozen
        tls: TlsContexts | None = None,
    ) -> list[tuple[str, int]]:
        """Open the sockets; returns what each is bound to. Nothing is taken from them before `start`.

        ``tls`` is needed when one of the listeners is for TLS.
        """
        self._is_trusted = is_trusted
        bound: list[tuple[str, int]] = []
        for index, listener in enumerate(listeners):
            address = (listener.host, listener.port)
            if listener.transport == "UDP":
                udp = UdpSocket(index, address, self.crowd, self._failed)
                self.udp[index] = udp
                bound.append(udp.address)
                continue
            if self.tcp is None:
                self.tcp = TcpConnections(
                    self._loop,
                    self.crowd,
                    self._failed,
                    is_trusted=is_trusted,
                    is_in_use=is_in_use,
                    limits=tcp_limits,
                    tls=tls,
                )
            bound.append(await self.tcp.listen(index, address, tls=listener.transport == "TLS"))
        return bound

    async def start(
        self,
        endpoint: Endpoint,
        core: CallControl,
        *,
        may_decline: Callable[[str], bool] = lambda _uri: False,
        has_phone_at: Callable[[str], bool] = lambda _host: False,
    ) -> None:
        """Begin to take messages, for these two cores.

        While there is overload a call to a Request-URI that ``may_decline`` names may be declined; hosts that
        ``has_phone_at`` names, and trusted ones, go before strangers.
        """
        self.endpoint, self.core = endpoint, core
        self._may_decline, self._has_phone_at = may_decline, has_phone_at
        for udp in self.udp.values():
            udp.start(self._loop)
        if self.tcp is not None:
            await self.tcp.start()
        self.settle()

    async def close(self) -> None:
        """Close every socket and forget the timer; what comes after is not heard."""
        self._settling = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in list(self._lookups):
            task.cancel()
        await asyncio.gather(*self._lookups, return_exceptions=True)
        for udp in self.udp.values():
            udp.close()
        if self.tcp is not None:
            await self.tcp.close()
        self.crowd.clear()

    # Inputs -------------------------------------------------------------------------------------------------

    def answer(self, answer: Answer) -> None:
        """Take an answer of the engine or the journal, from the event loop's own thread."""
        self._answers.append(answer)
        if not self._settling:
            self.settle()

    def settle(self) -> None:
        """Bring both cores to rest; also to be called after anything that was done to them from outside."""
        if self._settling:
            return
        self._settling = True
        now = self._clock()
        try:
            self._rounds = 0
            while self._round(now):
                self._rounds += 1
                if self._rounds > MAX_ROUNDS:
                    logger.critical("the cores do not come to rest")
                    break
        finally:
            self._settling = False
        self._arm(now)

    def _round(self, now: float) -> bool:
        """Carry everything over once, causes before their effects; returns whether that has left more."""
        endpoint, core = self.endpoint, self.core
        more = False
        while self._answers:
            answer = self._answers.popleft()
            try:
                core.handle_answer(answer, now)
            except Exception:  # noqa: BLE001 - one call's fault
                self._contain(answer, now)
        while self._rounds <= MAX_ROUNDS and (events := endpoint.events()):
            self._rounds += 1
            for event in events:
                try:
                    core.handle_sip(event, now)
                except Exception:  # noqa: BLE001 - one call's fault
                    self._contain(event, now)
        # Before the messages: who is told that he may speak finds the engine listening.
        for command in core.commands():
            try:
                self._perform(command)
            except Exception:  # noqa: BLE001 - one call's fault; those of the others are still to come
                more = True
                self._contain(_refusal(command), now, type(command).__name__)
        for data, flow in endpoint.withdrawals():
            if self.tcp is not None:
                self.tcp.withdraw(data, flow)
        for data, flow in endpoint.transmits():
            self._send(data, flow)
        while self._failures:
            more = True
            endpoint.transport_failed(self._failures.popleft(), now)
        return more or bool(self._answers) or self._rounds > MAX_ROUNDS

    def _contain(self, cause: Event | Answer | None, now: float, what: str = "") -> None:
        """End the call that the fault belongs to; None: no call depends on what has failed."""
        self.faults += 1
        # The name of the type only: an event holds a whole message, and an INFO's body holds digits.
        ended = "" if cause is None else "; its call is ended"
        logger.exception("handling of %s failed%s", what or type(cause).__name__, ended)
        if cause is None:
            return
        try:
            self.core.abandon(cause, now)
        except Exception:
            logger.exception("ending the call failed too")

    def _received(self, data: bytes, flow: Flow) -> None:
        self.endpoint.receive(data, flow, self._clock())
        self.settle()

    def _overloaded(self, data: bytes, flow: Flow) -> bool:
        """Decline a new request that there is no time for; take whatever else it is."""
        try:
            declined = self.endpoint.decline(data, flow, self._may_decline, self._clock())
        except Exception:
            self.faults += 1
            logger.exception("a request can't be declined")
            declined = False
        if not declined:
            self._received(data, flow)
            return False
        for answer, to in self.endpoint.transmits():
            self._send(answer, to)
        return True

    def _knows(self, host: str) -> bool:
        return self._is_trusted(host) or self._has_phone_at(host)

    def _failed(self, flow: Flow) -> None:
        self._failures.append(flow)
        self.settle()

    # Outputs ------------------------------------------------------------------------------------------------

    def _send(self, data: bytes, flow: Flow) -> None:
        host = flow.remote_host
        if host not in self._literals:
            if not is_literal(host):
                task = self._loop.create_task(self._send_by_name(data, flow), name=f"send to {host}")
                self._lookups.add(task)
                task.add_done_callback(self._lookups.discard)
                return
            if len(self._literals) >= MAX_KNOWN_LITERALS:
                self._literals.clear()
            self._literals.add(host)
        if flow.transport == "UDP":
            udp = self.udp.get(flow.listener)
            sent = udp is not None and udp.send(data, host, flow.remote_port)
        else:
            sent = self.tcp is not None and self.tcp.send(data, flow)
        if not sent:
            self._failures.append(flow)

    async def _send_by_name(self, data: bytes, flow: Flow) -> None:
        """Send to a name that a peer gave in Via, Contact or Route, without holding up the loop."""
        found = await self._resolver.resolve(HostName(flow.remote_host, flow.remote_port, flow.transport))
        gate = Surroundings(self.endpoint.config.listen_points)
        udp = self.udp.get(flow.listener)
        ipv6 = udp is not None and ":" in udp.address[0]
        for _, host, port, *_ in found.targets if found is not None else ():
            # A trunk is called by its settings only: a phone's name that leads there goes past the policy.
            allowed = gate.may_be_sent_to(host, port) and not self._is_trusted(host)
            if allowed and (flow.transport != "UDP" or (":" in host) == ipv6):
                if flow.transport == "TLS" and self.tcp is not None:
                    self.tcp.learn_name(host, port, flow.remote_host)
                self._send(data, flow._replace(remote_host=host, remote_port=port))
                self.settle()
                return
        self._failed(flow)

    def _arm(self, now: float) -> None:
        """Set the one timer. One that is armed earlier stays: it re-arms when it fires."""
        at = self.endpoint.next_timer()
        other = self.core.next_timer()
        if at is None or (other is not None and other < at):
            at = other
        if at is None or at >= self._armed_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed_at = at
        self._timer = self._loop.call_later(max(0.0, at - now) + HALF_TICK, self._timer_fired)

    def _timer_fired(self) -> None:
        now = self._clock()
        early = self._armed_at - now
        if early > 0.0:
            # The loop counts from a time that it read before the callbacks of this round ran.
            self._timer = self._loop.call_later(early + HALF_TICK, self._timer_fired)
            return
        self._timer = None
        self._armed_at = math.inf
        for handle_timer in (self.endpoint.handle_timer, self.core.handle_timer):
            try:
                handle_timer(now)
            except Exception:
                self.faults += 1
                logger.exception("a timer failed")
        self.settle()


def _refusal(command: Command) -> Answer | None:
    """Return the answer that says, to the call whose command this is, that it was not carried out; None where
    no call waits for it."""
    if isinstance(command, TellOfCall | LockCaller):
        return None
    if isinstance(command, JournalRecord):
        return RecordDurable(command.record.record_id, durable=False)
    leg = command.first if isinstance(command, BridgeMedia) else command.leg
    return MediaLegRefused(leg, "the engine failed")

"""A network of endpoints on a virtual clock: seeded loss, duplication and reordering, no sockets, no waiting.

>>> network = FakeNetwork(seed=7, loss=0.3, duplication=0.1, delay=(0.001, 0.050))
>>> network.attach(("192.0.2.1", 5060), gate)        # anything with the five methods of `Node`
>>> network.attach(("192.0.2.2", 5060), phone)
>>> network.run_until(60.0)                          # or network.settle(): until nothing is left to do
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from itertools import count
from typing import Protocol

from proxy.sip.flow import Flow, Transmit
from tests.support.clock import VirtualClock

Address = tuple[str, int]


class Node(Protocol):
    """What the network pumps: an `Endpoint`, or whatever wraps one and handles its events."""

    def receive(self, data: bytes, flow: Flow, now: float) -> None: ...
    def handle_timer(self, now: float) -> None: ...
    def transmits(self) -> list[Transmit]: ...
    def next_timer(self) -> float | None: ...


class FakeNetwork:
    """Carries what its nodes send, over UDP with its vices and over TCP without them.

    ``loss`` and ``duplication`` are probabilities per datagram, ``delay`` the bounds in seconds between which
    each packet's delay is drawn, so that packets overtake each other; a stream keeps its order. After each
    input of a node ``after(now)`` is called, if given, to handle the node's events; what the node then wants
    sent goes out at the same instant.
    """

    def __init__(
        self,
        *,
        seed: int = 1,
        loss: float = 0.0,
        duplication: float = 0.0,
        delay: tuple[float, float] = (0.0, 0.0),
        clock: VirtualClock | None = None,
    ) -> None:
        self.clock = clock or VirtualClock()
        self.loss = loss
        self.duplication = duplication
        self.delay = delay
        self.sent = 0
        self.lost = 0
        self.unroutable: list[Transmit] = []
        """What was sent to addresses where nobody is."""
        self.trace: Callable[[float, Address, Address, bytes], None] | None = None
        """Called with time, sender, receiver and data of everything that is sent, lost packets included."""
        self.drop: Callable[[Address, Address, bytes], bool] | None = None
        """Says of each datagram whether it is lost, on top of ``loss``."""
        self._random = random.Random(seed)
        self._nodes: dict[Address, tuple[Node, Callable[[float], None] | None, int]] = {}
        self._in_flight: list[tuple[float, int, Address, bytes, Flow]] = []
        self._serial = count()
        self._stream_free: dict[tuple[Address, Address], float] = {}

    def attach(
        self, address: Address, node: Node, after: Callable[[float], None] | None = None, listener: int = 0
    ) -> None:
        """Put a node on the network at an address; a node may be attached at several, one per listener."""
        self._nodes[address] = (node, after, listener)

    # Driving ------------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Send what the nodes want sent now, and deliver what arrives without delay."""
        self._collect()
        while self._in_flight and self._in_flight[0][0] <= self.clock.now:
            self._deliver()

    def next_due(self) -> float | None:
        """Return when something happens next, or None."""
        times = [at for node in self._distinct() if (at := node.next_timer()) is not None]
        if self._in_flight:
            times.append(self._in_flight[0][0])
        return min(times) if times else None

    def step(self) -> bool:
        """Move the clock to the next thing that happens and let it happen; False when nothing will."""
        self.pump()
        at = self.next_due()
        if at is None:
            return False
        self._run_at(at)
        return True

    def run_until(self, elapsed: float) -> None:
        """Run until that many seconds after the clock's start; what is due exactly then happens."""
        end = self.clock.start + elapsed
        self.pump()
        while (at := self.next_due()) is not None and at <= end + 1e-9:
            self._run_at(at)
        self.clock.advance_to(max(end, self.clock.now))

    def run_for(self, seconds: float) -> None:
        """Run for that many seconds from now."""
        self.run_until(self.clock.now - self.clock.start + seconds)

    def settle(self, limit: float = 600.0) -> None:
        """Run until nothing is left to do; fails after ``limit`` seconds of virtual time."""
        end = self.clock.now + limit
        while self.step():
            if self.clock.now > end:
                raise AssertionError(f"still busy after {limit} s of virtual time")

    # Inside -------------------------------------------------------------------------------------------------

    def _distinct(self) -> list[Node]:
        return list({id(node): node for node, _, _ in self._nodes.values()}.values())

    def _run_at(self, at: float) -> None:
        self.clock.advance_to(max(at, self.clock.now))
        now = self.clock.now
        handled: set[int] = set()
        for node, after, _ in list(self._nodes.values()):
            if id(node) in handled:
                continue
            handled.add(id(node))
            due = node.next_timer()
            if due is not None and due <= now:
                node.handle_timer(now)
                if after is not None:
                    after(now)
        self.pump()

    def _collect(self) -> None:
        for address, (node, _, _) in list(self._nodes.items()):
            self._collect_from(address, node)

    def _sender(self, node: Node, flow: Flow) -> Address | None:
        for address, (candidate, _, listener) in self._nodes.items():
            if candidate is node and listener == flow.listener:
                return address
        return None

    def _send(self, sender: Address, transmit: Transmit) -> None:
        data, flow = transmit
        receiver = (flow.remote_host, flow.remote_port)
        self.sent += 1
        if self.trace is not None:
            self.trace(self.clock.elapsed, sender, receiver, data)
        if receiver not in self._nodes:
            self.unroutable.append(transmit)
            return
        _, _, listener = self._nodes[receiver]
        arriving = Flow(flow.transport, sender[0], sender[1], listener, flow.connection)
        if flow.reliable:
            # A stream neither loses nor reorders.
            at = max(self.clock.now + self.delay[0], self._stream_free.get((sender, receiver), 0.0))
            self._stream_free[sender, receiver] = at
            self._enqueue(at, receiver, data, arriving)
            return
        if self._random.random() < self.loss or (self.drop is not None and self.drop(sender, receiver, data)):
            self.lost += 1
            return
        copies = 2 if self._random.random() < self.duplication else 1
        for _ in range(copies):
            self._enqueue(self.clock.now + self._random.uniform(*self.delay), receiver, data, arriving)

    def _enqueue(self, at: float, receiver: Address, data: bytes, flow: Flow) -> None:
        heapq.heappush(self._in_flight, (at, next(self._serial), receiver, data, flow))

    def _deliver(self) -> None:
        _, _, receiver, data, flow = heapq.heappop(self._in_flight)
        node, after, _ = self._nodes[receiver]
        now = self.clock.now
        node.receive(data, flow, now)
        if after is not None:
            after(now)
        self._collect_from(receiver, node)

    def _collect_from(self, address: Address, node: Node) -> None:
        for transmit in node.transmits():
            self._send(self._sender(node, transmit.flow) or address, transmit)

"""Prometheus metrics on a loopback port, read from counters that the rooms keep anyway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["LoopLag", "MetricsServer", "Sample"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One value at the moment of a scrape. Counters only ever grow; gauges go up and down."""

    name: str
    help: str
    value: float
    counter: bool = False
    labels: tuple[tuple[str, str], ...] = ()
    """Name and value of each; samples of one name have the same names here, and stand together."""


class LoopLag:
    """How late the event loop is: a timer that should fire every `INTERVAL` seconds, and how late it does."""

    INTERVAL = 0.1

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self.last = 0.0
        self.worst = 0.0
        """Since the last `take_worst`."""
        self._loop = loop
        self._clock = clock
        self._due = 0.0
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to measure."""
        self._due = self._clock() + self.INTERVAL
        self._handle = self._loop.call_later(self.INTERVAL, self._fired)

    def stop(self) -> None:
        """End measuring."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def take_worst(self) -> float:
        """Return the worst lag since the last call, in seconds."""
        worst, self.worst = self.worst, 0.0
        return worst

    def _fired(self) -> None:
        self.last = max(0.0, self._clock() - self._due)
        self.worst = max(self.worst, self.last)
        self.start()


class _SamplesCollector(Collector):
    def __init__(self, read: Callable[[], Iterable[Sample]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        for name, group in groupby(self._read(), key=attrgetter("name")):
            samples: list[Sample] = list(group)
            first = samples[0]
            kind = CounterMetricFamily if first.counter else GaugeMetricFamily
            family = kind(f"tollgate_{name}", first.help, labels=[label for label, _ in first.labels])
            for sample in samples:
                family.add_metric([value for _, value in sample.labels], sample.value)
            yield family


class MetricsServer:
    """Serves ``/metrics`` on 127.0.0.1 from its own thread; ``read`` is called there, once per scrape."""

    def __init__(self, port: int, read: Callable[[], Iterable[Sample]]) -> None:
        registry = CollectorRegistry()
        registry.register(_SamplesCollector(read))
        server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
        self._server: WSGIServer = server
        self._thread: Thread = thread

    @property
    def port(self) -> int:
        """The port that was bound."""
        return int(self._server.server_port)

    def close(self) -> None:
        """Give the port back."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=2.0)

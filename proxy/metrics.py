"""Prometheus metrics on a loopback port, read from counters that the rooms keep anyway."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, groupby
from math import ceil
from operator import attrgetter
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
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
    buckets: tuple[tuple[str, float], ...] = ()
    """Of a distribution, whose ``value`` is its sum: each bound, the last one +Inf, and how many have been no
    more than that."""


class LoopLag:
    """How late the event loop is: a timer that should fire every `INTERVAL` seconds, and how late it does.

    What a timer waits for, a message waits for too. May be read from any thread.
    """

    INTERVAL = 0.1
    KEPT = 600
    """Of so many measurements, a minute's, `worst` and `percentile` tell."""
    BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self.last = 0.0
        self.total = 0.0
        """The sum of all measurements."""
        self._recent = [0.0] * self.KEPT
        self._measured = 0
        self._counts = [0] * (len(self.BOUNDS) + 1)
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

    @property
    def worst(self) -> float:
        """The worst lag of the last minute, in seconds."""
        return max(self._recent)

    def percentile(self, percent: float) -> float:
        """Return the lag that so many percent of the last minute's measurements do not exceed, in seconds."""
        recent = sorted(self._recent[: self._measured])
        return recent[ceil(len(recent) * percent / 100) - 1] if recent else 0.0

    @property
    def buckets(self) -> tuple[tuple[str, float], ...]:
        """How often the loop was no later than each bound, since the start (`Sample.buckets`)."""
        bounds = [*map(str, self.BOUNDS), "+Inf"]
        return tuple(zip(bounds, accumulate(self._counts), strict=True))

    def _fired(self) -> None:
        lag = self.last = max(0.0, self._clock() - self._due)
        self.total += lag
        self._recent[self._measured % self.KEPT] = lag
        self._measured += 1
        self._counts[bisect_left(self.BOUNDS, lag)] += 1
        self.start()


class _SamplesCollector(Collector):
    def __init__(self, read: Callable[[], Iterable[Sample]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        for name, group in groupby(self._read(), key=attrgetter("name")):
            samples: list[Sample] = list(group)
            first = samples[0]
            if first.buckets:
                yield HistogramMetricFamily(
                    f"tollgate_{name}", first.help, buckets=first.buckets, sum_value=first.value
                )
                continue
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

"""One gate as a process: signals, what systemd is told, and the end."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Sequence

import uvloop

from proxy import log
from proxy.errors import TollgateError
from proxy.process import calm_garbage_collector, notify, prepare_limits, put_calls_first
from proxy.server import Gate, Load, cancelled
from proxy.settings import Settings
from proxy.side_process import keep_running

__all__ = ["serve"]

logger = logging.getLogger(__name__)

HELP_LIMIT = 1_800.0
"""Seconds that the end of the process waits for emergency calls when all others are ended."""


def serve(
    settings: Settings,
    *,
    load: Load | None = None,
    example_data: bool = False,
    portal_command: Sequence[str] = (),
) -> None:
    """Run the gate until SIGTERM or SIGINT; calls that are up may end first (``timers.drain``).

    ``load`` reads the settings again (SIGHUP, ``tollgate reload``); ``portal_command`` runs the portal beside
    it. Raises ConfigurationError when it can't start.
    """
    log.configure(settings.log.level, settings.log.format, threaded=True)
    prepare_limits(needed=4 * settings.limits.max_calls + 1_000)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, load, example_data, portal_command))


async def _serve(
    settings: Settings, load: Load | None, example_data: bool, portal_command: Sequence[str]
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_loop_error)
    gate = Gate(settings, load=load, example_data=example_data)
    # Before it listens to signals SIGHUP would end the process: whoever reloads too early loses nothing.
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    await gate.start()
    portal = asyncio.create_task(keep_running("portal", portal_command)) if portal_command else None
    try:
        orders = _take_orders(gate)
        calm_garbage_collector()
        put_calls_first()
        print(gate.ready_line, flush=True)
        notify(f"READY=1\nSTATUS={gate.ready_line}")
        await _until_told_to_end(gate, orders)
    finally:
        notify("STOPPING=1")
        await gate.stop()
        if portal is not None:
            await cancelled(portal)
    logger.info("ended")


class _Orders:
    """What signals have told the process."""

    def __init__(self) -> None:
        self.end = asyncio.Event()
        self.at_once = asyncio.Event()


def _take_orders(gate: Gate) -> _Orders:
    """Listen to signals from now on."""
    loop = asyncio.get_running_loop()
    orders = _Orders()
    reloads: set[asyncio.Task[None]] = set()

    def end() -> None:
        (orders.at_once if orders.end.is_set() else orders.end).set()

    def reload() -> None:
        task = loop.create_task(_reload(gate), name="reload")
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    loop.add_signal_handler(signal.SIGHUP, reload)
    return orders


async def _until_told_to_end(gate: Gate, orders: _Orders) -> None:
    """Return when the process is to end: after a drain, or at once when it is told twice."""
    if not await _first_of(orders.end, gate.failed):
        raise TollgateError(f"the gate ends: {gate.failure}")
    notify(f"STOPPING=1\nSTATUS=draining {len(gate.core.calls)} calls")
    drain = gate.drain(gate.settings.timers.drain, help_limit=HELP_LIMIT)
    draining = asyncio.create_task(drain, name="drain")
    draining.add_done_callback(lambda _task: orders.at_once.set())
    await _first_of(orders.at_once, gate.failed)
    await cancelled(draining)


async def _first_of(wanted: asyncio.Event, other: asyncio.Event) -> bool:
    """Wait for either; returns whether ``wanted`` is set."""
    waiting = [asyncio.create_task(event.wait(), name="event") for event in (wanted, other)]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    return wanted.is_set()


async def _reload(gate: Gate) -> None:
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
    try:
        await gate.reload()
    except TollgateError as error:
        for line in str(error).splitlines():
            logger.error("settings not taken, the old ones stay: %s", line)
    finally:
        notify("READY=1")


def _log_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    error = context.get("exception")
    logger.error(
        "event loop: %s",
        context.get("message"),
        exc_info=error if isinstance(error, BaseException) else None,
    )

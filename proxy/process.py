"""What the gate asks of its process: file limit, no core dumps, a calm garbage collector, a word to
systemd.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import resource
import socket
import sys

__all__ = [
    "calm_garbage_collector",
    "notify",
    "prepare_limits",
    "put_calls_first",
    "sweep",
    "watchdog_interval",
]

logger = logging.getLogger(__name__)

FEW_FILES = 8_192
"""Below this many file descriptors the media ports of a busy gate may not fit (four per call)."""
GC_THRESHOLDS = (4_000_000, 10, 10)
"""So many objects more than after the last collection: twice what the busiest half minute of calls keeps: 85
of each gated call while its transactions last.

A collection stops every call for as long as it looks at what lives, and finds nothing: a call that is over
leaves no ring of references. So it comes when no call is up (`sweep`), and otherwise only if something is
wrong.
"""
FEW_TRANSACTIONS = 500
"""With no more of them a collection is soon through."""
SWITCH_INTERVAL = 0.001
"""Seconds that a thread of records or policy may keep the interpreter from the event loop."""


_PR_SET_DUMPABLE = 4
"""prctl(2)."""


def prepare_limits(needed: int = 0) -> None:
    """Raise the limit of open files as far as allowed and forbid core dumps, which would hold calls' secrets.

    ``needed`` is how many files the configured calls may use; too low a limit is said in the log.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError) as error:
            logger.warning("the limit of open files stays at %d: %s", soft, error)
    if soft != resource.RLIM_INFINITY and soft < max(needed, FEW_FILES):
        logger.warning(
            "only %d files may be open, %d may be needed; raise LimitNOFILE", soft, needed or FEW_FILES
        )
    _, hard_core = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard_core))
    # The limit does not hold where the kernel pipes cores to a program (core(5)). This does, and keeps other
    # processes of the same user out of this one's memory, too.
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        logger.warning("core dumps can't be forbidden: %s", os.strerror(ctypes.get_errno()))


def calm_garbage_collector() -> None:
    """Take everything that start-up made out of the collector's sight, and let it come by itself hardly
    ever.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def put_calls_first() -> None:
    """Let no other thread of Python hold up the event loop for long."""
    sys.setswitchinterval(SWITCH_INTERVAL)


def sweep(transactions: int) -> None:
    """Collect garbage while no call is up that would hear the pause.

    What is left of calls that have just ended, so many ``transactions``, would make it a long one, which the
    next caller would hear: then it is put off.
    """
    if transactions > FEW_TRANSACTIONS:
        return
    found = gc.collect()
    if found:
        logger.debug("%d objects in rings of references freed", found)


def notify(state: str) -> bool:
    """Tell systemd ``state`` (sd_notify(3): ``READY=1``, ``STATUS=...``); False when nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.sendto(state.encode(), address)
    except OSError as error:
        logger.warning("systemd can't be told %s: %s", state.partition("\n")[0], error)
        return False
    return True


def watchdog_interval() -> float | None:
    """Return every how many seconds systemd wants to hear ``WATCHDOG=1`` (half its limit), or None."""
    limit = os.environ.get("WATCHDOG_USEC", "")
    process = os.environ.get("WATCHDOG_PID", "")
    if not limit.isdigit() or int(limit) == 0 or (process and process != str(os.getpid())):
        return None
    return int(limit) / 2_000_000

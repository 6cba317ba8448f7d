"""The composition root of the gate: builds every room from the settings, starts, drains, reloads, ends.

`proxy.persistence` opens what lies on disks; `proxy.serve` makes a process of a gate.

Order of the start: what can be wrong in the settings, the journal (calls that an earlier run left open are
closed), the store and its policy, prompts and media, sockets; only then the gate says that it is ready. The
end goes the other way round, so that a call's last record still finds the journal and the journal its store.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path

from proxy import composition, log
from proxy.call.authentication import DigestAuthenticator
from proxy.call.core import CallCore
from proxy.call.ports import (
    CallEvent,
    Command,
    JournalRecord,
    LockCaller,
    MediaAnswer,
    RecordDurable,
    TellOfCall,
)
from proxy.cdr.journal import Journal
from proxy.cdr.record import CallRecord, RecordPhase
from proxy.clock import LocalClock, record_id
from proxy.errors import ConfigurationError
from proxy.events import TrunkNews
from proxy.media.embedded import EmbeddedEngine
from proxy.metrics import LoopLag, MetricsServer
from proxy.net.addresses import addresses_of_machine, why_not_own
from proxy.net.control import ControlServer
from proxy.net.driver import Driver
from proxy.net.resolver import NameTable, PeerNames
from proxy.net.tls import TlsContexts
from proxy.net.trace import log_message
from proxy.operations import handlers, samples
from proxy.persistence import Persistence
from proxy.phone_register import PhoneRegister
from proxy.policy import Snapshot, is_for_help
from proxy.process import notify, sweep, watchdog_interval
from proxy.recordings import Recordings
from proxy.settings import Settings
from proxy.sip.digest_server import DigestServer, RecentNonceCounts
from proxy.sip.endpoint import Endpoint
from proxy.sip.flow import Flow
from proxy.sip.ids import KeyedIds
from proxy.store import Store, public_name
from proxy.store.call_events import ANSWERED, TRUNK_DOWN

__all__ = ["Gate", "Load", "cancelled"]

logger = logging.getLogger(__name__)

TICK = 0.5
"""Seconds between two looks at what has to be done now and then."""
RELEASE = 60.0
"""Seconds between two looks at what the journal need not hold any more, and at garbage."""
NAMES_PATIENCE = 1.0
"""A start waits so many seconds for DNS: better a trunk that comes later than a gate that listens later."""
PHONES_PATIENCE = 2.0
"""A start waits so many seconds for the phones of the last run."""
METRICS_AGAIN = 10.0
"""Seconds between two tries to open a metrics port that somebody else has."""
LAST_WORDS = 2.0
"""After the drain limit calls are ended; their BYEs and records get so many seconds."""

_FIXED_WHILE_RUNNING = ("sip", "media", "store", "journal", "prompts", "control", "metrics", "auth", "notify")
"""Sections that take effect at the next start only."""

Load = Callable[[], Settings]


class Gate:
    """One running gate. `start` and `stop` belong to one event loop; `settings` are those in force."""

    def __init__(self, settings: Settings, *, load: Load | None = None, example_data: bool = False) -> None:
        self.settings = settings
        self.core: CallCore
        self.driver: Driver
        self.engine: EmbeddedEngine
        self.bound: list[tuple[str, int]] = []
        self.failure = ""
        """What makes a fresh start of the process necessary, once `failed` is set."""
        self.failed = asyncio.Event()
        self._load = load
        self._example_data = example_data
        self._kept: Persistence
        self.tls: TlsContexts | None = None
        """None without a certificate."""
        self.phones: PhoneRegister | None = None
        """None where phones may not register."""
        self._names: NameTable
        self.lag: LoopLag
        self._stack = AsyncExitStack()
        self._loop: asyncio.AbstractEventLoop
        self._is_trusted: Callable[[str], bool] = lambda _host: False
        self._wanted: frozenset[str] = frozenset()
        """Events that somebody wants to be told."""
        self._trunk_news = TrunkNews()
        self._recordings: Recordings
        self._errands: dict[str, asyncio.Task[None]] = {}
        """What housekeeping has begun and waits for."""
        self._heartbeat_due = 0.0
        self._release_due = 0.0
        self._metrics: MetricsServer | None = None
        self._metrics_due = 0.0
        """0 until their port could not be opened."""

    # Start and end ------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Build and start everything. Raises ConfigurationError or OSError; then nothing is left running."""
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def stop(self) -> None:
        """End everything; calls that are still up are ended first, so that they have their records."""
        if hasattr(self, "core") and self.core.calls:
            await self.drain(0.0)
        await self._stack.aclose()

    async def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        composition.groups(self.settings)
        self._kept = Persistence(
            self.settings,
            on_policy=self._policy_changed,
            on_wanted=self._events_wanted,
            example_data=self._example_data,
        )
        self._stack.push_async_callback(self._kept.stop)
        await self._kept.start()
        _require_own_addresses(self.settings)
        await self._start_media()
        await self._start_signalling()
        await self._start_service()

    def _policy_changed(self, snapshot: Snapshot) -> None:
        if hasattr(self, "core") and self.core.policy is not snapshot:
            self.core.policy = snapshot
            logger.info("policy change %d is live", snapshot.version)

    def _events_wanted(self, wanted: frozenset[str]) -> None:
        self._wanted = wanted
        if hasattr(self, "core"):
            self.core.telling = not wanted.isdisjoint(CallEvent)

    async def _start_media(self) -> None:
        """Read and encode what callers hear, open the engine."""
        settings = self.settings
        folder = Path(settings.prompts.folder) if settings.prompts.folder else None
        country = settings.prompts.country or settings.number_plan.country
        self._recordings = Recordings(folder, country, composition.prompt_codecs(settings))
        sounds = await self._recordings.read(of_groups=False)
        self.engine = EmbeddedEngine(composition.media_config(settings), self._answered, self._media_failed)
        self._stack.callback(self.engine.stop)
        self._recordings.play(sounds, self.engine)
        self.engine.start()

    def _answered(self, answer: MediaAnswer) -> None:
        self.driver.answer(answer)

    def _media_failed(self, reason: str) -> None:
        """A media thread died: its calls are deaf and no new ones can be placed, so a fresh start is best."""
        self.failure = reason
        self.failed.set()

    async def _start_signalling(self) -> None:
        settings = self.settings
        resolver = composition.resolver(settings)
        self._names = NameTable(resolver, self._reconfigure)
        self._stack.push_async_callback(self._names.close)
        peer_names = PeerNames(resolver)
        self._stack.push_async_callback(peer_names.close)
        await self._names.watch(composition.host_names(settings), patience=NAMES_PATIENCE)
        tls = composition.tls_config(settings)
        self.tls = None if tls is None else TlsContexts(tls)
        self.driver = Driver(self._perform, resolver=resolver)
        self._stack.push_async_callback(self.driver.close)
        try:
            self.bound = await self.driver.listen(
                composition.listeners(settings),
                is_trusted=self._trusts,
                is_in_use=self._uses,
                tcp_limits=composition.tcp_limits(settings),
                tls=self.tls,
            )
        except OSError as error:
            # asyncio words some of these errors its own way, and says addresses in Python's.
            reason = os.strerror(error.errno) if error.errno else str(error)
            tried = ", ".join(map(str, settings.sip.listen))
            raise ConfigurationError(f"sip.listen: {reason} ({tried})") from error
        ids = KeyedIds(secrets.token_bytes(32))
        machine = addresses_of_machine()
        endpoint = Endpoint(
            composition.endpoint_config(settings, self.bound, peer_names.get, machine=machine), ids
        )
        key = settings.auth.secret.get_secret_value().encode() or secrets.token_bytes(32)
        # No nonce of an earlier run is good: how far it was used nobody remembers.
        digest = DigestServer(
            settings.auth.realm,
            secrets.token_bytes(32),
            RecentNonceCounts(),
            algorithms=settings.auth.algorithms,
        )
        config = composition.gate_config(settings, self.bound, self._names.get)
        self._is_trusted = composition.trusted_networks(config)
        clock = LocalClock()
        authenticator = DigestAuthenticator(digest, ids.tag, composition.ban_rules(settings))
        if settings.phones.enabled:
            self.phones = PhoneRegister(settings, config, endpoint, authenticator, wall_clock=clock, key=key)
            authenticator.bindings = self.phones.registrations.registrar.bindings
            self._stack.callback(self.phones.close)
        self.core = CallCore(
            endpoint,
            config,
            self._kept.policy,
            wall_clock=clock,
            record_ids=record_id,
            authenticator=authenticator,
            registrations=None if self.phones is None else self.phones.registrations,
            srtp_keys=secrets.token_bytes,
            loop_key=secrets.token_bytes(32),
        )
        self._events_wanted(self._wanted)
        self._watch_journal()
        self._name_destinations()
        await self._open_phones()
        await self.driver.start(
            endpoint, self.core, may_decline=self._may_decline, has_phone_at=self._has_phone_at
        )

    async def _open_phones(self) -> None:
        """Take over the phones of the last run; a store that keeps them back must not hold up the start."""
        if self.phones is not None:
            try:
                await asyncio.wait_for(self.phones.open(self.store, self.core.policy), PHONES_PATIENCE)
            except Exception:
                logger.exception("the phones of the last run can't be read yet")

    async def _start_service(self) -> None:
        control = ControlServer(self.settings.control_socket, handlers(self))
        try:
            await control.start()
        except ConfigurationError as error:
            if self.core.recording:
                raise
            # The disk is in trouble: the socket is not worth the emergency calls.
            logger.error("no control socket: %s", error)
        self._stack.push_async_callback(control.close)
        self.lag = LoopLag(self._loop, time.monotonic)
        self.lag.start()
        self._stack.callback(self.lag.stop)
        self._show_metrics(time.monotonic())
        housekeeping = self._loop.create_task(self._housekeeping(), name="housekeeping")
        self._stack.push_async_callback(self._leave_house)
        self._stack.push_async_callback(cancelled, housekeeping)
        if self._recordings.left:
            # Until then their callers hear what all others do.
            self._in_background("recordings of groups", self.take_up_recordings)

    def _show_metrics(self, now: float) -> None:
        """Open the port of the metrics. Where that can't be, calls are not to wait for it."""
        port = self.settings.metrics.port
        if not port or self._metrics is not None:
            return
        try:
            self._metrics = MetricsServer(port, lambda: samples(self))
        except OSError as error:
            if not self._metrics_due:
                logger.error(
                    "metrics.port: 127.0.0.1 port %d: %s; `ss -lntp` shows by whom: stop that, or set "
                    "another. Calls are served without metrics; it is tried again",
                    port,
                    error.strerror or error,
                )
            self._metrics_due = now + METRICS_AGAIN
            return
        self._stack.callback(self._metrics.close)
        if self._metrics_due:
            logger.warning("metrics are shown now on 127.0.0.1 port %d", port)

    def _may_decline(self, uri: str) -> bool:
        """Say whether a call may be declined for want of time: one for help never."""
        return not is_for_help(uri, self.core.policy)

    def _has_phone_at(self, host: str) -> bool:
        return self.phones is not None and self.phones.registrations.bound_from(host)

    def _trusts(self, host: str) -> bool:
        return self._is_trusted(host)

    def _uses(self, flow: Flow) -> bool:
        """Say whether a stranger's connection is a phone's or a call's: others give way when there are too
        many."""
        phones = self.phones
        return self.driver.endpoint.uses(flow.connection) or (
            phones is not None and phones.registrations.bound_over(flow.connection)
        )

    def _perform(self, command: Command) -> None:
        if isinstance(command, JournalRecord):
            self.journal.append(command.record, self._recorded if command.confirm else None)
            if ANSWERED in self._wanted and command.record.phase is RecordPhase.ANSWERED:
                self._tell(ANSWERED, command.record)
        elif isinstance(command, TellOfCall):
            self._tell(command.event, command.record)
        elif isinstance(command, LockCaller):
            self._kept.locks.append(command.lock)
            self._in_background("keep locks", self._kept.keep_locks)
        else:
            self.engine.submit(command)

    def _tell(self, event: str, record: CallRecord) -> None:
        """Tell those who want to know; trouble with that may not cost a call whose record is written."""
        try:
            if self._kept.events is not None:
                self._kept.events.tell(event, record)
        except Exception:
            logger.exception("%s is not told", event)

    def _recorded(self, record_id: str, durable: bool) -> None:
        if not durable:
            self._watch_journal()
        self.driver.answer(RecordDurable(record_id, durable))

    async def _housekeeping(self) -> None:
        watchdog = watchdog_interval()
        fed = 0.0
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            try:
                self._keep_house(now)
            except Exception:
                logger.exception("housekeeping failed; it is tried again")
            if watchdog is not None and now >= fed + watchdog - TICK:
                fed = now
                notify("WATCHDOG=1")

    def _keep_house(self, now: float) -> None:
        """Do what is due; what may wait for a store or a disk must not hold up the rest, nor the watchdog."""
        self.journal.expire_confirms()
        self._watch_journal()
        down = self._trunk_news.look(self.core.watch.status())
        if down and TRUNK_DOWN in self._wanted and self._kept.events is not None:
            self._kept.events.tell_trunks(down)
        if now >= self._heartbeat_due and self.core.calls:
            self._heartbeat_due = now + self.settings.timers.checkpoint_interval
            self.journal.heartbeat()
        if self._kept.locks:
            self._in_background("keep locks", self._kept.keep_locks)
        phones = self.phones
        if phones is not None:
            self._in_background("open phones", lambda: phones.open(self.store, self.core.policy))
            phones.write()
        if now >= self._metrics_due:
            self._show_metrics(now)
        if now >= self._release_due:
            self._release_due = now + RELEASE
            if not self.core.calls:
                sweep(self.driver.endpoint.transactions)
            self._in_background("release records", lambda: asyncio.to_thread(self._kept.release_records))

    def _in_background(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        """Begin this, unless it is still under way from the last time."""
        if name not in self._errands:
            self._errands[name] = self._loop.create_task(self._finish(name, work), name=name)

    async def _finish(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except Exception:
            logger.exception("housekeeping failed (%s); it is tried again", name)
        finally:
            del self._errands[name]

    async def _leave_house(self) -> None:
        for errand in list(self._errands.values()):
            await cancelled(errand)

    def _watch_journal(self) -> None:
        """Tell the call core whether calls that cost money may be taken."""
        takes_calls = self.journal.takes_calls
        if takes_calls is not self.core.recording:
            self.core.recording = takes_calls
            if takes_calls:
                logger.warning("records reach the disk again: calls are taken")
            else:
                logger.error("records can't be kept: only emergency calls are taken")

    # While it runs ------------------------------------------------------------------------------------------

    @property
    def ready_line(self) -> str:
        """One line: where the gate listens, its store and its trunks."""
        listening = " ".join(
            str(address._replace(port=port))
            for address, (_, port) in zip(self.settings.sip.listen, self.bound, strict=True)
        )
        trunks = ", ".join(
            f"{trunk.name} ({' '.join(map(str, trunk.addresses))})" for trunk in self.settings.trunks
        )
        trouble = f" ({self.store_trouble})" if self.store_trouble else ""
        store = public_name(self.settings.store.url)
        return f"tollgate ready: listening on {listening}; store {store}{trouble}; trunks {trunks or 'none'}"

    @property
    def journal(self) -> Journal:
        """Where records are made durable."""
        return self._kept.journal

    @property
    def store(self) -> Store | None:
        """None while it has not been reachable since the start: then only emergency calls pass."""
        return self._kept.store

    @property
    def store_trouble(self) -> str:
        """Why the policy can't be read at the moment, or ""."""
        return self._kept.trouble

    @property
    def records_delayed(self) -> bool:
        """Records wait in the journal, because the store does not take them."""
        return self._kept.records_delayed

    async def reload(self) -> list[str]:
        """Take the settings anew; returns the sections that wait for the next start.

        Raises ConfigurationError when anything is wrong with them: then nothing has changed.
        """
        if self._load is None:
            raise ConfigurationError("this gate was started without a file that could be read again")
        fresh = self._load()
        old = self.settings
        waiting = [name for name in _FIXED_WHILE_RUNNING if getattr(fresh, name) != getattr(old, name)]
        fresh = fresh.model_copy(update={name: getattr(old, name) for name in waiting})
        plan = composition.number_plan(fresh)
        groups = composition.groups(fresh)
        composition.gate_config(fresh, self.bound, self._names.get)
        async with self._recordings.turn:
            sounds = await self._recordings.read()
            if self.tls is not None:
                self.tls.reload()
            self._recordings.play(sounds, self.engine)
        await self._kept.make_groups(groups)
        await self._names.watch(composition.host_names(fresh))
        await self._kept.reconfigure(fresh, plan)
        self.settings = fresh
        self._reconfigure()
        log.configure(fresh.log.level, fresh.log.format, threaded=True)
        logger.info("settings read again%s", f"; after a restart: {', '.join(waiting)}" if waiting else "")
        return waiting

    async def take_up_recordings(self) -> int:
        """Play from now on the recordings that are there; returns how many sounds are others than before.

        Raises ConfigurationError when one of them is bad: then nothing has changed.
        """
        async with self._recordings.turn:
            sounds = await self._recordings.read()
            self._recordings.play(sounds, self.engine)
        logger.info("recordings read again: %d sounds are new", sounds.changed)
        return sounds.changed

    def _reconfigure(self) -> None:
        """Give the call core its configuration: after a reload, or when a name has another address."""
        if hasattr(self, "core"):
            config = composition.gate_config(self.settings, self.bound, self._names.get)
            self._is_trusted = composition.trusted_networks(config)
            self._name_destinations()
            self.core.reconfigure(config)
            if self.phones is not None:
                self.phones.reconfigure(self.settings, config)

    def _name_destinations(self) -> None:
        if self.driver.tcp is not None:
            self.driver.tcp.tls_names = composition.tls_names(self.settings, self._names.get)

    async def drain(self, limit: float, *, help_limit: float = 0.0) -> None:
        """Take no new calls but emergency calls, and return when none is left or ``limit`` seconds are
        over, for emergency calls ``help_limit`` more.
        """
        self.core.draining = True
        self.core.accounts.leave(time.monotonic())
        self.driver.settle()
        logger.info("draining: %d calls are up", len(self.core.calls))
        if await self._all_calls_end(limit):
            return
        calls = self.core.calls
        self.hang_up([call_id for call_id, call in calls.items() if help_limit and not call.route.emergency])
        emergencies = sum(call.route.emergency for call in calls.values())
        if help_limit and emergencies:
            logger.warning("the drain limit is over; %d emergency calls go on", emergencies)
            if await self._all_calls_end(help_limit):
                return
        logger.warning("%d calls are ended: the drain limit is over", len(self.core.calls))
        self.hang_up(list(self.core.calls))
        await self._all_calls_end(LAST_WORDS)

    async def _all_calls_end(self, limit: float) -> bool:
        deadline = time.monotonic() + limit
        while self.core.calls:
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(0.05)
        return True

    def hang_up(self, call_ids: Iterable[str], *, by_hand: bool = False) -> int:
        """End calls by their record ids; returns how many there were. See `CallCore.hang_up`."""
        now = time.monotonic()
        ended = sum(self.core.hang_up(call_id, now, by_hand=by_hand) for call_id in call_ids)
        self.driver.settle()
        return ended

    def trace(self, on: bool) -> None:
        """Write every SIP message to the log, secrets and digits hidden; or no longer."""
        self.driver.endpoint.trace = log_message if on else None
        level = logging.DEBUG if on else logging.NOTSET
        logging.getLogger(log_message.__module__).setLevel(level)


async def cancelled(task: asyncio.Task[None]) -> None:
    """End a task and wait for its end."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _require_own_addresses(settings: Settings) -> None:
    """Refuse media addresses that are not this machine's: no call could have a port."""
    for name in ("address", "address_ipv6"):
        host = getattr(settings.media, name)
        if host and (why := why_not_own(host)):
            raise ConfigurationError(f"media.{name}: {host}: {why}")

"""What a gate keeps on disks: the journal, the store behind it, and the policy that is read from the store.

Whatever is wrong with them, emergency calls pass (DESIGN 1.4): nothing here ends the gate, and what can't be
opened is tried again until it can. Belongs to one event loop; the slow work is done in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from functools import partial

from proxy import composition
from proxy.cdr.journal import Journal
from proxy.cdr.sinks import RecordPump, release_delivered
from proxy.errors import JournalUnavailable, TollgateError
from proxy.events import EventSink, EventWriter
from proxy.policy import CallerLock, NumberPlan, Snapshot, UserGroup
from proxy.settings import Settings
from proxy.store import SnapshotSource, Store, UsageSink, seed_example_data
from proxy.store.call_events import Site

__all__ = ["Persistence"]

logger = logging.getLogger(__name__)

STORE_PATIENCE = 2.0
"""A start waits so many seconds for the store; then the gate begins with emergency calls only."""
STORE_RETRY = 5.0
BETWEEN_BATCHES = 1.0
"""The usage log may be so many seconds behind the calls, while there are many."""
_MOST_LOCKS = 1_000


class Persistence:
    """Journal, store and policy of one gate.

    ``on_policy`` is called in the event loop with every policy that comes into force after `start`,
    ``on_wanted`` with the events that somebody wants to be told whenever those are others.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_policy: Callable[[Snapshot], None],
        on_wanted: Callable[[frozenset[str]], None],
        example_data: bool = False,
    ) -> None:
        self._settings = settings
        self._on_policy = on_policy
        self._on_wanted = on_wanted
        self._example_data = example_data
        self._loop = asyncio.get_running_loop()
        self.plan: NumberPlan = composition.number_plan(settings)
        """How numbers are read."""
        self.journal = Journal(settings.journal_folder, post=self._loop.call_soon_threadsafe)
        self.store: Store | None = None
        """None while it has not been reachable since the start: then only emergency calls pass."""
        self._source: SnapshotSource | None = None
        self._pumps: list[RecordPump] = []
        """The usage log's first."""
        self.events: EventWriter | None = None
        """None while the store is not open."""
        self.locks: list[CallerLock] = []
        """Locked callers that the store has not got yet."""
        self._opening_trouble = ""
        self._opening: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()

    async def start(self) -> None:
        """Open what can be opened, and keep trying the rest.

        Raises ConfigurationError when another process has the journal.
        """
        with contextlib.suppress(JournalUnavailable):
            self.journal.start()  # else it is tried again below, and what is wrong is said there
        tried = asyncio.Event()
        self._opening = self._loop.create_task(self._keep_opening(tried), name="open store")
        try:
            await asyncio.wait_for(tried.wait(), STORE_PATIENCE)
        except TimeoutError:
            logger.error("only emergency calls pass until the store has been opened")

    async def stop(self) -> None:
        """End what reads the store and what writes to it, the last records first."""
        self._ending.set()
        if self._opening is not None:
            # A try that is under way may end: what it opens is closed in order.
            await self._opening
        if self._source is not None:
            self._source.stop()
        if not self.journal.stop():
            logger.error("the journal has records that could not be written")
        if self.events is not None:
            self.events.stop()
        for pump in self._pumps:
            pump.stop()
        self.release_records()
        if self.store is not None:
            self.store.close()

    @property
    def policy(self) -> Snapshot:
        """The last good policy; before the first one it lets emergency calls through and nothing else."""
        return Snapshot(self.plan) if self._source is None else self._source.current

    @property
    def trouble(self) -> str:
        """Why the policy can't be read at the moment, or ""."""
        if self._source is None:
            return self._opening_trouble or "not open yet"
        return self._source.trouble

    @property
    def records_delayed(self) -> bool:
        """Records wait in the journal, because the store does not take them."""
        return not self._pumps or self._pumps[0].failing

    def release_records(self) -> None:
        """Delete what the journal holds and the store has. Blocks: for a thread, or the end."""
        if self._pumps:
            usage, *others = self._pumps
            # No trouble with events may fill the disk: the records are in the usage log.
            release_delivered(self.journal.tail, [usage], patient=others)

    async def keep_locks(self) -> None:
        """Put locked callers into the store, from where they come back with the policy."""
        store = self.store
        while self.locks and store is not None:
            locks, self.locks = self.locks, []
            try:
                await asyncio.to_thread(store.locks.add, locks)
            except TollgateError:
                # Whoever reads the policy says what is wrong with the store. It is tried again.
                self.locks = [*locks, *self.locks][-_MOST_LOCKS:]
                return

    async def make_groups(self, groups: list[UserGroup]) -> None:
        """Add groups of the settings that the store has not got. Raises StoreUnavailable.

        A store that is not open yet gets them when it is opened.
        """
        if self.store is not None and any(group.name not in self.policy.groups for group in groups):
            await asyncio.to_thread(_make_groups, self.store, groups)

    async def reconfigure(self, settings: Settings, plan: NumberPlan) -> None:
        """Take other settings; groups, users and codes stay until the store says otherwise."""
        self._settings = settings
        if plan == self.plan:
            return
        self.plan = plan
        if self._source is None or self.store is None:
            self._on_policy(Snapshot(plan))
            return
        await asyncio.to_thread(self._source.stop)
        present = self._source.current
        present = present.with_changes(version=present.version, plan=plan)
        self._source = await self._follow_policy(self.store, present)

    async def _keep_opening(self, tried: asyncio.Event) -> None:
        while not self._ending.is_set():
            try:
                if not self.journal.is_open:
                    await asyncio.to_thread(self.journal.start)
                await self._open_store()
            except Exception as error:  # noqa: BLE001 - no fault of a disk or database may end the gate
                trouble = _one_line(error)
                if trouble != self._opening_trouble:
                    logger.error("only emergency calls pass: %s", trouble)
                self._opening_trouble = trouble
            else:
                if self._opening_trouble:
                    logger.warning("the store is open")
                self._opening_trouble = ""
                return
            finally:
                tried.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), STORE_RETRY)

    async def _open_store(self) -> None:
        """Open the store, make the groups of the settings, and follow its policy. Raises TollgateError."""
        settings = self._settings
        store = await asyncio.to_thread(Store, settings.store.url, steady=True)
        try:
            if self._example_data:
                realm = settings.auth.realm
                made = await asyncio.to_thread(seed_example_data, store, self.plan, realm=realm)
                for user in made:
                    words = f"example user {user.extension} ({user.group}): password {user.password}"
                    print(words, flush=True)
            await asyncio.to_thread(_make_groups, store, composition.groups(settings))
        except BaseException:
            store.close()
            raise
        self.store = store
        site = Site(settings.notify.location, settings.notify.callback)
        tail, folder = self.journal.tail, settings.journal_folder
        self._pumps = [
            RecordPump("store", tail, UsageSink(store.usage), directory=folder, rest=BETWEEN_BATCHES),
            RecordPump(
                "events", tail, EventSink(store.webhooks, site), directory=folder, rest=BETWEEN_BATCHES
            ),
        ]
        for pump in self._pumps:
            pump.start()
        self.events = EventWriter(
            store.webhooks, site, on_wanted=lambda wanted: self._post(partial(self._on_wanted, wanted))
        )
        self.events.start()
        self._source = await self._follow_policy(store, Snapshot(self.plan))

    async def _follow_policy(self, store: Store, present: Snapshot) -> SnapshotSource:
        source = SnapshotSource(
            store.database,
            present,
            on_change=lambda snapshot: self._post(partial(self._on_policy, snapshot)),
        )
        self._on_policy(await asyncio.to_thread(source.start))
        return source

    def _post(self, what: Callable[[], None]) -> None:
        """Run ``what`` in the event loop, from another thread; nothing when the loop has ended meanwhile."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what)


def _make_groups(store: Store, groups: Iterable[UserGroup]) -> None:
    known = {group.name for group in store.groups.all()}
    for group in groups:
        if group.name not in known:
            store.groups.add(group)


def _one_line(error: Exception) -> str:
    if isinstance(error, TollgateError):
        return str(error).partition("\n")[0]
    return f"the store can't be opened ({type(error).__name__})"

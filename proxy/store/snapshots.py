"""From the store to the policy in memory: the first snapshot, and the next one within a second of a change.

One thread asks the store several times a second for its version (for SQLite first whether the file changed
at all) and reads only the rows that are newer. Whatever goes wrong, the last good snapshot stays (DESIGN
contract 3).
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, RowMapping, case, select
from sqlalchemy.exc import DBAPIError

from proxy.policy import AccountCode, CodeTable, NumberPlan, Snapshot
from proxy.store.changes import ChangeAction, ChangeKind, current_version, oldest_version
from proxy.store.database import Database, StoreUnavailable
from proxy.store.locks import load_locks
from proxy.store.models import account_codes, policy_changes
from proxy.store.people import load_groups, load_users
from proxy.store.rows import read_code

__all__ = ["SnapshotSource", "load_snapshot"]

_log = logging.getLogger(__name__)

POLL_INTERVAL = 0.2
_PIECE = 100
_PAUSE = 0.000_2
"""After so many codes: some hundred thousand take a third longer so, and nobody hears them."""

# The number of uses is policy only for codes that have a maximum; without it a plain code stays a plain
# string.
_CODE_COLUMNS = (
    *(column for column in account_codes.c if column.name not in {"uses", "change_id", "id", "version"}),
    case((account_codes.c.max_uses.is_(None), 0), else_=account_codes.c.uses).label("uses"),
)


def load_snapshot(database: Database, plan: NumberPlan) -> Snapshot:
    """The policy at one moment. Raises `StoreUnavailable`, also for a value that is none of its kind."""
    with _reading("the policy"):
        with database.read() as connection:
            version = current_version(connection)
            groups = load_groups(connection)
            users = load_users(connection)
            rows = connection.execution_options(yield_per=_PIECE).execute(select(*_CODE_COLUMNS)).mappings()
            codes = CodeTable.of(_in_pieces(rows))
            with _reading("a locked caller"):
                locks = load_locks(connection)
        return Snapshot(plan, groups, users, codes, locks=locks, version=version)


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Say what it is that holds a value of no such kind; the value may be secret."""
    try:
        yield
    except (TypeError, ValueError, ArithmeticError) as error:
        raise StoreUnavailable(f"store: {what} can't be read: {type(error).__name__}") from error


def _in_pieces(rows: Iterable[RowMapping]) -> Iterator[AccountCode]:
    """Read the codes of many rows without keeping the interpreter from the calls for longer than a moment."""
    with _reading("an account code"):
        for number, row in enumerate(rows, 1):
            yield read_code(row)
            if number % _PIECE == 0:
                time.sleep(_PAUSE)


class SnapshotSource:
    """Keeps a snapshot up to date. `current` may be read from any thread at any time."""

    def __init__(
        self,
        database: Database,
        present: Snapshot,
        *,
        on_change: Callable[[Snapshot], None],
        interval: float = POLL_INTERVAL,
    ) -> None:
        """``present`` counts until the store has been read, and gives the number plan: an empty one lets
        emergency calls through and nothing else. ``on_change`` is called in the source's thread.
        """
        self._database = database
        self._on_change = on_change
        self._interval = interval
        self._stopping = threading.Event()
        self._trouble = ""
        self._loaded = False
        self._file: tuple[int, int] | None = None
        self._data_version: int | None = None
        self._connection: Connection | None = None
        self.current = present
        """The last good snapshot."""
        self._thread = threading.Thread(target=self._work, name="snapshots", daemon=True)

    def start(self) -> Snapshot:
        """Load the first snapshot and keep it up to date from now on.

        A store that can't be read leaves the present snapshot and gives a trouble, so that emergency calls
        pass whatever is wrong with it.
        """
        self.poll()
        self._thread.start()
        return self.current

    @property
    def trouble(self) -> str:
        """Why the store can't be read at the moment, or ""."""
        return self._trouble

    def stop(self) -> None:
        """End the thread and give its connection back."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._disconnect()

    def poll(self) -> bool:
        """Look once; True when there is a new snapshot. Never raises."""
        try:
            changed = self._refresh()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the store, calls go on
            self._disconnect()
            line = str(error) if isinstance(error, StoreUnavailable) else type(error).__name__
            if line != self._trouble:
                _log.error("the policy can't be read, the last good one stays: %s", line)
                self._trouble = line
            return False
        if self._trouble:
            _log.warning("the policy can be read again")
            self._trouble = ""
        if changed:
            self._on_change(self.current)
        return changed

    def _work(self) -> None:
        while not self._stopping.wait(self._interval):
            self.poll()

    def _refresh(self) -> bool:
        data_version = self._look_at_file()
        if data_version is not None and data_version == self._data_version:
            return False
        with self._database.read() as connection:
            version, oldest = current_version(connection), oldest_version(connection)
        changed = True
        if not self._loaded or version < self.current.version or oldest > self.current.version + 1:
            # The first time; an older store was put in place of this one; changes were missed.
            self.current = load_snapshot(self._database, self.current.plan)
            self._loaded = True
        elif version > self.current.version:
            self.current = self._newer()
        else:
            changed = False
        # Only now: had the reading failed, the next look must read again.
        self._data_version = data_version
        return changed

    def _newer(self) -> Snapshot:
        old = self.current
        with self._database.read() as connection:
            version = current_version(connection)
            changes = connection.execute(
                select(policy_changes).where(policy_changes.c.id > old.version).order_by(policy_changes.c.id)
            ).mappings()
            people = locks_changed = codes_saved = False
            deleted: list[str] = []
            for change in changes:
                if change["kind"] == ChangeKind.LOCK:
                    locks_changed = True
                elif change["kind"] != ChangeKind.CODE:
                    people = True
                elif change["action"] == ChangeAction.DELETED:
                    deleted += (str(key) for key in json.loads(str(change["keys"])))
                else:
                    codes_saved = True
            codes = old.codes
            if codes_saved or deleted:
                # A code that was deleted and added again is in both: `apply` deletes first.
                newer = select(*_CODE_COLUMNS).where(account_codes.c.change_id > old.version)
                rows = connection.execution_options(yield_per=_PIECE).execute(newer).mappings()
                codes = codes.apply(_in_pieces(rows), deleted)
            locks = load_locks(connection) if locks_changed else None
            if not people:
                return old.with_changes(version=version, codes=codes, locks=locks)
            groups, users = load_groups(connection), load_users(connection)
            return old.with_changes(version=version, groups=groups, users=users, codes=codes, locks=locks)

    def _look_at_file(self) -> int | None:
        """A number that changes with each commit of another connection to the SQLite file; None elsewhere."""
        file = self._database.file
        if file is None:
            return None
        status = file.stat()
        identity = status.st_dev, status.st_ino
        if self._file is not None and self._file != identity:
            # Another file lies there now: neither the connections nor what was read are of any use.
            self._disconnect()
            self._database.engine.dispose()
            self._loaded = False
        self._file = identity
        if self._connection is None:
            # A connection of its own, because the number means something on one and the same only.
            self._connection = self._database.engine.connect()
            self._data_version = None
        driver = self._connection.connection.driver_connection
        if driver is None:
            raise StoreUnavailable(f"store {self._database.name}: the connection was lost")
        return int(driver.execute("PRAGMA data_version").fetchone()[0])

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except DBAPIError:
                _log.debug("a broken connection to the store could not be closed")

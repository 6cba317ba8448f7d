"""Registered contacts in the store: read once at the start, written behind the registrar by a thread.

The registrar's memory is what counts (RFC 3261 §10.3); the table only lets it survive a restart, and shows it
to the commands. A write that is lost with the process costs a phone its reachability until its next refresh.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, delete, insert, select

from proxy.errors import TollgateError
from proxy.sip.bindings import Bindings, StoredBinding
from proxy.store.database import Database
from proxy.store.models import bindings
from proxy.store.texts import clean_text

__all__ = ["BindingWriter", "BindingsRepository"]

_log = logging.getLogger(__name__)

_CHUNK = 500
WRITE_INTERVAL = 1.0
"""Seconds between two writes."""
RETRY_INTERVAL = 5.0


# Made once: each statement that is made is a ring of references, which no collector frees while calls are up.
_DELETE = delete(bindings).where(bindings.c.user.in_(bindparam("users", expanding=True)))


class BindingsRepository:
    """All registered contacts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self, *, now: float) -> list[StoredBinding]:
        """Every binding that has not ended, by user; ``now`` is in seconds since the epoch.

        Raises `StoreUnavailable`.
        """
        statement = select(bindings).where(bindings.c.expires_at > now)
        with self._database.read() as connection:
            rows = connection.execute(statement.order_by(bindings.c.user, bindings.c.id)).mappings().all()
        found = [_read(row) for row in rows]
        return [binding for binding in found if binding is not None]

    def replace(self, changed: Mapping[str, Iterable[StoredBinding]]) -> None:
        """Give each of these users the bindings that it has now. Raises `StoreUnavailable`."""
        users = list(changed)
        rows = [_row(binding) for found in changed.values() for binding in found]
        with self._database.write() as connection:
            for start in range(0, len(users), _CHUNK):
                connection.execute(_DELETE, {"users": users[start : start + _CHUNK]})
            if self._database.sqlite:
                _insert_sqlite(connection, rows)
            elif rows:
                connection.execute(insert(bindings), rows)

    def forget_ended(self, *, now: float) -> None:
        """Delete what has ended while nobody looked. Raises `StoreUnavailable`."""
        with self._database.write() as connection:
            connection.execute(delete(bindings).where(bindings.c.expires_at <= now))


class BindingWriter:
    """Writes changed bindings down in a thread of its own, a batch per `WRITE_INTERVAL`.

    Of changes that wait, the last of each user counts: a store that is away costs memory per user, not per
    registration.
    """

    def __init__(self, repository: BindingsRepository, *, interval: float = WRITE_INTERVAL) -> None:
        self._repository = repository
        self._interval = interval
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[Bindings, float]] = {}
        self._stopping = threading.Event()
        self._trouble = False
        self._thread = threading.Thread(target=self._work, name="bindings", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def submit(self, changed: Mapping[str, Bindings], *, epoch: float) -> None:
        """Take what has changed; ``epoch`` is the wall clock's time at zero of the monotonic clock."""
        with self._lock:
            for user, found in changed.items():
                self._waiting[user] = found, epoch

    def stop(self) -> None:
        """Write what waits, once more, and end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self.write()

    @property
    def waiting(self) -> int:
        """Users whose change is not written yet."""
        return len(self._waiting)

    def write(self) -> bool:
        """Write what waits; what can't be written goes on waiting. Never raises."""
        with self._lock:
            batch, self._waiting = self._waiting, {}
        if not batch:
            return True
        try:
            self._repository.replace(
                {
                    user: [StoredBinding.of(binding, epoch) for binding in found]
                    for user, (found, epoch) in batch.items()
                }
            )
        except TollgateError as error:
            if not self._trouble:
                _log.warning("registrations can't be written down, they wait: %s", error)
            self._trouble = True
            with self._lock:
                self._waiting = batch | self._waiting
            return False
        if self._trouble:
            _log.info("registrations can be written down again")
        self._trouble = False
        return True

    def _work(self) -> None:
        pause = self._interval
        while not self._stopping.wait(pause):
            pause = self._interval if self.write() else max(self._interval, RETRY_INTERVAL)


def _insert_sqlite(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert many rows per statement: SQLite's driver gives up the interpreter lock once per statement, and
    beside a busy event loop each time may cost a switch interval, with the file locked.
    """
    done = 0
    for count, statement in _INSERTS.items():
        while len(rows) - done >= count:
            cells = tuple(row[name] for row in rows[done : done + count] for name in _COLUMNS)
            connection.exec_driver_sql(statement, cells)
            done += count


_COLUMNS = ("user", "contact", "expires_at", "body")
_INSERTS = {
    count: 'INSERT INTO bindings ("user", contact, expires_at, body) VALUES '  # noqa: S608 - marks only
    + ", ".join(["(?, ?, ?, ?)"] * count)
    for count in (64, 8, 1)
}


def _row(binding: StoredBinding) -> dict[str, Any]:
    body: dict[str, object] = {
        "params": binding.params,
        "q": binding.q,
        "call_id": binding.call_id,
        "cseq": binding.cseq,
        "transport": binding.transport,
        "flow": binding.flow,
        "source": binding.source,
        "behind_nat": binding.behind_nat,
        "path": binding.path,
        "instance": binding.instance,
        "reg_id": binding.reg_id,
        "user_agent": binding.user_agent,
    }
    contact = clean_text(binding.contact)
    if contact != binding.contact:
        body["contact"] = binding.contact
    return {
        "user": binding.user,
        "contact": contact,
        "expires_at": binding.expires_at,
        # ASCII: whatever octets a phone sent, every database takes their escapes.
        "body": json.dumps(body, separators=(",", ":")),
    }


def _read(row: RowMapping) -> StoredBinding | None:
    """Return the binding of a row; None (with a warning) for one that an other hand has spoilt."""
    try:
        body = json.loads(str(row["body"]))
        contact = str(body["contact"] if "contact" in body else row["contact"])
        return StoredBinding(
            user=str(row["user"]),
            contact=contact,
            params=str(body["params"]),
            q=float(body["q"]),
            expires_at=float(row["expires_at"]),
            call_id=str(body["call_id"]),
            cseq=int(body["cseq"]),
            transport=str(body["transport"]),
            flow=_address(body["flow"]),
            source=_address(body["source"]),
            behind_nat=bool(body["behind_nat"]),
            path=tuple(map(str, body["path"])),
            instance=str(body["instance"]),
            reg_id=int(body["reg_id"]),
            user_agent=str(body["user_agent"]),
        )
    except (ValueError, KeyError, TypeError):
        _log.warning("a stored registration of %s can't be read and is passed over", row["user"])
        return None


def _address(value: list[object]) -> tuple[str, int]:
    host, port = value
    if not isinstance(host, str) or not isinstance(port, int):
        raise ValueError("no address")
    return host, port

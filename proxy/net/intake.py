"""What streams bring, cut into messages: in no turn of the event loop more than it can bear.

A connection is read 16 kB at a time (`proxy.net.connection`). What is short is taken as it comes. Where there
is more, or a crowd waits already, reading stops and the rest waits here, so that TCP holds the sender up;
each turn of the crowd takes some of it and delivers it as it does datagrams: who is known first, strangers
with the time that is left, each of their addresses a few messages in its turn, however many connections it
has. A stranger's next messages are cut when the ones before have been delivered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from proxy.net.connection import Connection
from proxy.net.crowd import Crowd, Deliver
from proxy.net.sparse_log import SparseLog
from proxy.sip.source import counted_as

__all__ = ["Intake"]

SLICE = 4_096
"""Octets cut at once: nearly every message whole, and some thirty of the shortest."""
AT_ONCE = 64
"""Messages that one turn of the event loop delivers as they come."""
OF_STRANGERS = 24
"""Messages after which a turn cuts no more of strangers."""
TURN = 0.004
"""Seconds that a turn may go on cutting."""
MOST_PONGS = 16
"""Answers to the keep-alives of one slice: whoever sends more at once doesn't count them."""


class _Queues:
    """Connections that wait, each key's in a queue; the keys take turns, and the connections of each do."""

    __slots__ = ("_by_key",)

    def __init__(self) -> None:
        self._by_key: dict[str, deque[Connection]] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def add(self, key: str, connection: Connection) -> None:
        """Put a connection behind the others of this key."""
        self._by_key.setdefault(key, deque()).append(connection)

    def serve(self, stays: Callable[[Connection], bool], enough: Callable[[], bool]) -> None:
        """Call ``stays`` with the next connection of each key until there is enough; False: it leaves."""
        for key in list(self._by_key):
            if enough():
                return
            queue = self._by_key.pop(key)
            connection = queue.popleft()
            if stays(connection):
                queue.append(connection)
            if queue:
                self._by_key[key] = queue


class Intake:
    """The framing of all connections.

    ``meet(connection, message)`` gets the first message of each, ``say(connection, data)`` sends octets.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        crowd: Crowd,
        log: SparseLog,
        *,
        meet: Callable[[Connection, bytes], None],
        say: Callable[[Connection, bytes], object],
    ) -> None:
        self.messages = 0
        self._loop = loop
        self._crowd = crowd
        self._log = log
        self._meet = meet
        self._say = say
        self._known = _Queues()
        self._strangers = _Queues()
        self._at_once = 0
        self._cut_of_strangers = 0
        self._until = 0.0
        crowd.gatherers.append(self._gather)

    @property
    def waiting(self) -> bool:
        """Whether any connection is kept from reading."""
        return bool(self._known or self._strangers)

    def take(self, connection: Connection, data: bytes) -> None:
        """Take plain octets of an open connection."""
        if connection.is_paused:
            connection.unread += data
        elif len(data) > SLICE or self._at_once >= AT_ONCE or not self._crowd.calm:
            connection.unread = data
            self._wait(connection)
        else:
            if not self._at_once:
                self._loop.call_soon(self._turn_over)
            self._at_once += 1 + self._cut(connection, data, self._crowd.deliver)
            if connection.ends:
                self.end(connection)

    def end(self, connection: Connection) -> bool:
        """Close a connection once all that came over it has been delivered; returns whether that is so."""
        connection.ends = True
        flow = connection.flow
        if connection.unread or (flow is not None and self._crowd.waits_for(flow.connection)):
            if not connection.is_paused:
                self._wait(connection)
            return False
        failure = connection.framer.failure
        if failure is not None and not connection.is_closing:
            self._log.warning("connection closed: %s", failure, peer=connection.peer)
            if failure.answer:
                self._say(connection, failure.answer)
        connection.close()
        return True

    def _turn_over(self) -> None:
        self._at_once = 0

    def _wait(self, connection: Connection) -> None:
        flow = connection.flow
        assert flow is not None  # noqa: S101  (made before)
        connection.pause(self._loop.time())
        if self._crowd.is_known(flow.remote_host):
            self._known.add(str(flow.connection), connection)
        else:
            self._strangers.add(counted_as(flow.remote_host)[-1], connection)
        self._crowd.hasten()

    def _gather(self) -> bool:
        """Add to the crowd what this turn can bear; returns whether anybody waits still."""
        self._cut_of_strangers = 0
        self._until = self._crowd.clock() + TURN
        self._known.serve(self._serve_known, self._is_late)
        self._strangers.serve(self._serve_stranger, self._has_enough_of_strangers)
        return self.waiting

    def _is_late(self) -> bool:
        return self._crowd.clock() >= self._until

    def _has_enough_of_strangers(self) -> bool:
        return self._cut_of_strangers >= OF_STRANGERS or self._is_late()

    def _serve_known(self, connection: Connection) -> bool:
        while self._has_unread(connection) and self._crowd.has_room():
            self._cut_slice(connection)
        return self._goes_on_waiting(connection)

    def _serve_stranger(self, connection: Connection) -> bool:
        flow = connection.flow
        assert flow is not None  # noqa: S101  (made before)
        if self._has_unread(connection) and not self._crowd.waits_for(flow.connection):
            self._cut_of_strangers += 1 + self._cut_slice(connection)
        return self._goes_on_waiting(connection)

    def _cut_slice(self, connection: Connection) -> int:
        data = connection.unread
        connection.unread = data[SLICE:]
        return self._cut(connection, data[:SLICE], self._crowd.add)

    def _has_unread(self, connection: Connection) -> bool:
        if connection.is_closing:
            connection.unread = b""
        return bool(connection.unread)

    def _goes_on_waiting(self, connection: Connection) -> bool:
        if self._has_unread(connection):
            return True
        if connection.ends:
            return not self.end(connection)
        connection.resume(self._loop.time())
        return False

    def _cut(self, connection: Connection, data: bytes, deliver: Deliver) -> int:
        """Deliver the messages that are whole with these octets; returns how many they were."""
        flow, framer = connection.flow, connection.framer
        assert flow is not None  # noqa: S101  (made before)
        messages = framer.feed(data)
        self.messages += len(messages)
        for message in messages:
            if not connection.alias_decided:
                self._meet(connection, message)
            deliver(message, flow)
        pongs = framer.take_pongs()
        if pongs:
            self._say(connection, b"\r\n" * min(pongs, MOST_PONGS))
        if framer.failure is not None:
            connection.unread = b""
            connection.ends = True
        elif framer.is_between_messages:
            connection.message_since = None
        elif messages or connection.message_since is None:
            # The unfinished one has come after them: a busy peer's reads may all end within a message.
            connection.message_since = self._loop.time()
        return len(messages)

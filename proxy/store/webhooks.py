"""The outbox of webhooks: an event is written once per endpoint that wants it, and tried until it is taken.

Whoever delivers takes what is due with a lease, and renews it: a delivery that is under way is offered to
nobody else, however long it takes, and one whose deliverer died is soon offered again. The id of an event
stays the same in every try, so that a receiver can tell a repetition. Times are UTC seconds since the epoch
and given in.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import ColumnElement, Connection, RowMapping, delete, false, insert, or_, select, update

from proxy.errors import ConfigurationError
from proxy.store.audit import SYSTEM, Actor, changed_only, write_audit
from proxy.store.call_events import NewEvent
from proxy.store.database import Database, StoreUnavailable
from proxy.store.models_webhooks import webhook_deliveries, webhook_endpoints
from proxy.store.versions import VersionConflict

__all__ = ["EVENTS", "ReceiverOff", "WebhookDelivery", "WebhookEndpoint", "WebhooksRepository"]

EVENTS = (
    "call.started",
    "call.answered",
    "call.ended",
    "code.rejected",
    "emergency.dialed",
    "trunk.down",
    "caller.locked",
    "codes.guessed",
    "limit.reached",
)
BACK_OFF = (5.0, 30.0, 120.0, 600.0, 3600.0, 4 * 3600.0, 12 * 3600.0)
"""Seconds until the next try; after the last one a delivery is given up."""
LEASE = 60.0
NEWS = 86_400.0
"""What is older when an endpoint is switched on again is told no more: nobody is to run for an emergency call
of last month."""
_EMERGENCY = "emergency.dialed"
_TOO_OLD = "too old when the receiver was switched on again"
_CHUNK = 500
_LOOKED_AT = 200
_URL = re.compile(r"https?://[^\s/?#@\\]+(?:[/?][^\s#]*)?")
_MAILTO = re.compile(r"mailto:[^\s@?,;:<>()\"\\]+@[^\s@?,;:<>()\"\\]+")


class ReceiverOff(ConfigurationError):  # noqa: N818 - it says what is the case
    """Nothing is sent to an endpoint that is switched off."""


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """Whom to tell. The secret signs what goes out and stays out of ``repr``."""

    url: str
    events: frozenset[str]
    secret: str = field(default="", repr=False)
    enabled: bool = True
    id: int = 0
    version: int = 0

    def __post_init__(self) -> None:
        fits = _URL.fullmatch(self.url) or _MAILTO.fullmatch(self.url)
        if len(self.url) > 500 or not self.url.isascii() or not fits:
            raise ConfigurationError(
                "webhook URL: write http:// or https://, a host and a path, no user name and no #; "
                "or mailto: and one address"
            )
        if not self.events or not self.events <= set(EVENTS):
            message = f"webhook events: name some of {', '.join(EVENTS)}"
            raise ConfigurationError(message)

    @property
    def mail_to(self) -> str:
        """The address that is told by e-mail; "" for a webhook."""
        return self.url.removeprefix("mailto:") if self.url.startswith("mailto:") else ""


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """One event for one endpoint."""

    id: int
    endpoint_id: int
    event_id: str
    event: str
    body: str = field(repr=False)
    created_at: float
    attempts: int
    next_try_at: float | None
    delivered_at: float | None
    last_status: int
    """HTTP status of the last try; 0 when there was no answer."""
    last_error: str


class WebhooksRepository:
    """Endpoints and deliveries."""

    def __init__(self, database: Database, actor: Actor = SYSTEM) -> None:
        self._database = database
        self._actor = actor

    def endpoints(self) -> list[WebhookEndpoint]:
        """All endpoints by age."""
        with self._database.read() as connection:
            rows = connection.execute(select(webhook_endpoints).order_by(webhook_endpoints.c.id))
            return [_read_endpoint(row) for row in rows.mappings()]

    def endpoint(self, endpoint_id: int) -> WebhookEndpoint | None:
        """The endpoint of this id, or None."""
        return next((found for found in self.endpoints() if found.id == endpoint_id), None)

    def add(self, endpoint: WebhookEndpoint, *, now: float) -> WebhookEndpoint:
        """Add an endpoint; without a secret one is made, which `WebhookEndpoint.secret` tells."""
        new = replace(endpoint, secret=endpoint.secret or _new_secret(), version=1)
        with self._database.write() as connection:
            result = connection.execute(insert(webhook_endpoints).values(**_row(new), created_at=now))
            key = result.inserted_primary_key
            if key is None:
                raise StoreUnavailable("store: the database gave a webhook no id")
            new = replace(new, id=int(key[0]))
            write_audit(connection, self._actor, "add", "webhook", str(new.id), after=_facts(new))
        return new

    def change(self, endpoint: WebhookEndpoint, *, version: int, now: float) -> WebhookEndpoint:
        """Change URL, events or whether it is enabled; the secret stays. Raises `VersionConflict`.

        One that is switched on again is told what is at most `NEWS` old; the rest is given up.
        """
        with self._database.write() as connection:
            old = _expect(connection, endpoint.id)
            if version != old.version:
                raise VersionConflict(f"webhook {old.id}", old)
            new = replace(endpoint, secret=old.secret, version=version + 1)
            before, after = changed_only(_facts(old), _facts(new))
            if not after:
                return old
            statement = update(webhook_endpoints).where(webhook_endpoints.c.id == old.id)
            connection.execute(statement.values(_row(new)))
            if new.enabled and not old.enabled and (count := _give_up(connection, old.id, now - NEWS)):
                after["given_up"] = count
            write_audit(connection, self._actor, "change", "webhook", str(old.id), before=before, after=after)
        return new

    def delete(self, endpoint_id: int) -> None:
        """Delete an endpoint and what is still to be told it."""
        with self._database.write() as connection:
            old = _expect(connection, endpoint_id)
            column = webhook_deliveries.c.endpoint_id
            connection.execute(delete(webhook_deliveries).where(column == endpoint_id))
            connection.execute(delete(webhook_endpoints).where(webhook_endpoints.c.id == endpoint_id))
            write_audit(connection, self._actor, "delete", "webhook", str(old.id), before=_facts(old))

    def wanted(self) -> frozenset[str]:
        """The events that somebody wants to be told."""
        return frozenset().union(*(found.events for found in self.endpoints() if found.enabled))

    def enqueue(self, events: Sequence[NewEvent], *, now: float) -> int:
        """Write events for every enabled endpoint that wants them, once per id; returns how many rows."""
        if not self.wanted() & {event.event for event in events}:
            return 0
        column = webhook_deliveries.c
        with self._database.write() as connection:
            rows = connection.execute(select(webhook_endpoints)).mappings().all()
            wanting = [found for found in map(_read_endpoint, rows) if found.enabled]
            known: set[tuple[int, str]] = set()
            for start in range(0, len(events), _CHUNK):
                ids = [event.id for event in events[start : start + _CHUNK]]
                seen = select(column.endpoint_id, column.event_id).where(column.event_id.in_(ids))
                known |= {(int(row[0]), str(row[1])) for row in connection.execute(seen)}
            fresh = {
                (found.id, event.id): event
                for event in events
                for found in wanting
                if event.event in found.events and (found.id, event.id) not in known
            }
            if fresh:
                connection.execute(
                    insert(webhook_deliveries),
                    [
                        {
                            "endpoint_id": endpoint_id,
                            "event_id": event_id,
                            "event": event.event,
                            "body": event.body,
                            "created_at": now,
                            "attempts": 0,
                            "next_try_at": now,
                            "last_status": 0,
                            "last_error": "",
                        }
                        for (endpoint_id, event_id), event in fresh.items()
                    ],
                )
        return len(fresh)

    def take_due(
        self,
        *,
        now: float,
        limit: int = 20,
        busy: Mapping[int, int] | None = None,
        most: int = 20,
        kept: int = 0,
    ) -> list[tuple[WebhookEndpoint, WebhookDelivery]]:
        """What is to be delivered now: emergencies first (where least is under way to the receiver foremost),
        then the longest due. Nobody else gets it for `LEASE` seconds, or longer with `renew`.

        ``busy`` says how many deliveries to an endpoint are under way: it gets no more than ``most`` at a
        time, so that a slow receiver does not keep the others waiting. ``kept`` of ``limit`` and of ``most``
        are for emergencies alone, so that slow receivers of all else do not keep these waiting either.
        """
        room = {endpoint_id: most - count for endpoint_id, count in (busy or {}).items()}
        column = webhook_deliveries.c

        def urgency(item: WebhookDelivery) -> tuple[bool, int]:
            emergency = item.event == _EMERGENCY
            return not emergency, -room.get(item.endpoint_id, most) if emergency else 0

        ordinary: ColumnElement[bool] = (
            column.endpoint_id.not_in([key for key, left in room.items() if left <= kept])
            if limit > kept
            else false()
        )
        due = (
            select(webhook_deliveries)
            .join(webhook_endpoints, webhook_endpoints.c.id == column.endpoint_id)
            .where(column.next_try_at <= now, webhook_endpoints.c.enabled)
            .where(column.endpoint_id.not_in([key for key, left in room.items() if left <= 0]))
            .where(or_(column.event == _EMERGENCY, ordinary))
            .order_by(column.event != _EMERGENCY, column.next_try_at, column.id)
            .limit(_LOOKED_AT)
        )
        with self._database.read() as connection:
            if not connection.execute(due.with_only_columns(column.id).limit(1)).first():
                return []
        with self._database.write() as connection:
            found: list[WebhookDelivery] = []
            rows = connection.execute(due.with_for_update(skip_locked=True)).mappings()
            for item in sorted(map(_read_delivery, rows), key=urgency):
                left = room.get(item.endpoint_id, most)
                spared = 0 if item.event == _EMERGENCY else kept
                if left > spared and len(found) < limit - spared:
                    room[item.endpoint_id] = left - 1
                    found.append(item)
            endpoints = {key: _expect(connection, key) for key in {item.endpoint_id for item in found}}
            leased = update(webhook_deliveries).where(column.id.in_([item.id for item in found]))
            connection.execute(leased.values(attempts=column.attempts + 1, next_try_at=now + LEASE))
        return [
            (
                endpoints[item.endpoint_id],
                replace(item, attempts=item.attempts + 1, next_try_at=now + LEASE),
            )
            for item in found
        ]

    def renew(self, under_way: Sequence[WebhookDelivery], *, now: float) -> list[WebhookDelivery]:
        """Keep deliveries from others for another `LEASE`; returns those whose lease still held."""
        column, renewed = webhook_deliveries.c, []
        with self._database.write() as connection:
            for item in under_way:
                # What has come to its end meanwhile, or to somebody else, has another time.
                own = update(webhook_deliveries).where(
                    column.id == item.id, column.next_try_at == item.next_try_at
                )
                if connection.execute(own.values(next_try_at=now + LEASE)).rowcount:
                    renewed.append(replace(item, next_try_at=now + LEASE))
        return renewed

    def delivered(self, delivery_id: int, status: int, *, now: float) -> None:
        """The receiver took it."""
        self._write(delivery_id, next_try_at=None, delivered_at=now, last_status=status, last_error="")

    def failed(self, delivery: WebhookDelivery, status: int, error: str, *, now: float) -> bool:
        """A try failed; False when it was the last one."""
        again = delivery.attempts <= len(BACK_OFF)
        next_try_at = now + BACK_OFF[delivery.attempts - 1] if again else None
        clean = "".join(letter for letter in error if letter.isprintable())[:255]
        self._write(delivery.id, next_try_at=next_try_at, last_status=status, last_error=clean)
        return again

    def replay(self, delivery_id: int, *, now: float) -> None:
        """Deliver again, under the same id of the event. Raises `ReceiverOff`, and `ConfigurationError` for a
        delivery that does not exist (any more).
        """
        column = webhook_endpoints.c
        whose = select(column.enabled).join(webhook_deliveries, webhook_deliveries.c.endpoint_id == column.id)
        with self._database.write() as connection:
            if connection.execute(whose.where(webhook_deliveries.c.id == delivery_id)).scalar() is False:
                raise ReceiverOff("the webhook is switched off")
            statement = update(webhook_deliveries).where(webhook_deliveries.c.id == delivery_id)
            again = statement.values(
                next_try_at=now, attempts=0, delivered_at=None, last_status=0, last_error=""
            )
            if not connection.execute(again).rowcount:
                raise ConfigurationError("the delivery does not exist (any more)")
            write_audit(connection, self._actor, "replay", "webhook", str(delivery_id))

    def deliveries(
        self, endpoint_id: int | None = None, *, before_id: int | None = None, limit: int = 100
    ) -> list[WebhookDelivery]:
        """The newest deliveries first; the next page lies before the last one's id."""
        column = webhook_deliveries.c
        statement = select(webhook_deliveries).order_by(column.id.desc()).limit(limit)
        if endpoint_id is not None:
            statement = statement.where(column.endpoint_id == endpoint_id)
        if before_id is not None:
            statement = statement.where(column.id < before_id)
        with self._database.read() as connection:
            return [_read_delivery(row) for row in connection.execute(statement).mappings()]

    def failing(self, endpoint_ids: Sequence[int]) -> dict[int, WebhookDelivery]:
        """Of endpoints whose last delivery that was tried has failed, this delivery. What was too old to be
        told was not tried.
        """
        column, found = webhook_deliveries.c, {}
        tried = or_(column.last_status != 0, column.last_error.not_in(["", _TOO_OLD]))
        newest = select(webhook_deliveries).where(tried).order_by(column.id.desc()).limit(1)
        with self._database.read() as connection:
            for endpoint_id in endpoint_ids:
                row = connection.execute(newest.where(column.endpoint_id == endpoint_id)).mappings().first()
                if row is not None and row["delivered_at"] is None:
                    found[endpoint_id] = _read_delivery(row)
        return found

    def forget(self, *, before: float) -> int:
        """Delete what is done and older; what is still to be told stays."""
        column = webhook_deliveries.c
        statement = delete(webhook_deliveries).where(column.next_try_at.is_(None), column.created_at < before)
        with self._database.write() as connection:
            return connection.execute(statement).rowcount

    def _write(self, delivery_id: int, **values: float | int | str | None) -> None:
        statement = update(webhook_deliveries).where(webhook_deliveries.c.id == delivery_id)
        with self._database.write() as connection:
            connection.execute(statement.values(**values))


def _new_secret() -> str:
    """A key in the form of Standard Webhooks, whose libraries take it as it is."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _expect(connection: Connection, endpoint_id: int) -> WebhookEndpoint:
    statement = select(webhook_endpoints).where(webhook_endpoints.c.id == endpoint_id)
    row = connection.execute(statement).mappings().first()
    if row is None:
        raise ConfigurationError("the webhook does not exist (any more)")
    return _read_endpoint(row)


def _give_up(connection: Connection, endpoint_id: int, before: float) -> int:
    """Give up what an endpoint was still to be told and is older; returns how many."""
    column = webhook_deliveries.c
    waiting = update(webhook_deliveries).where(column.endpoint_id == endpoint_id)
    old = waiting.where(column.next_try_at.is_not(None), column.created_at < before)
    return connection.execute(old.values(next_try_at=None, last_status=0, last_error=_TOO_OLD)).rowcount


def _row(endpoint: WebhookEndpoint) -> dict[str, object]:
    return {
        "url": endpoint.url,
        "secret": endpoint.secret,
        "events": json.dumps(sorted(endpoint.events)),
        "enabled": endpoint.enabled,
        "version": endpoint.version,
    }


def _facts(endpoint: WebhookEndpoint) -> dict[str, object]:
    return {"url": endpoint.url, "events": sorted(endpoint.events), "enabled": endpoint.enabled}


def _read_endpoint(row: RowMapping) -> WebhookEndpoint:
    try:
        return WebhookEndpoint(
            str(row["url"]),
            frozenset(str(event) for event in json.loads(str(row["events"]))),
            str(row["secret"]),
            bool(row["enabled"]),
            int(row["id"]),
            int(row["version"]),
        )
    except (ConfigurationError, ValueError, TypeError) as error:
        raise StoreUnavailable(f"store: a webhook can't be read: {type(error).__name__}") from error


def _read_delivery(row: RowMapping) -> WebhookDelivery:
    return WebhookDelivery(
        int(row["id"]),
        int(row["endpoint_id"]),
        str(row["event_id"]),
        str(row["event"]),
        str(row["body"]),
        float(row["created_at"]),
        int(row["attempts"]),
        None if row["next_try_at"] is None else float(row["next_try_at"]),
        None if row["delivered_at"] is None else float(row["delivered_at"]),
        int(row["last_status"]),
        str(row["last_error"]),
    )

"""What is open to whom: sessions of people in the portal, and tokens of programs.

Of both only a SHA-256 of the secret is kept. A plain hash is right here, unlike for passwords: the secrets
are 256 random bits, which nobody tries out.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field

from sqlalchemy import RowMapping, Update, delete, insert, or_, select, update

from proxy.errors import ConfigurationError
from proxy.store.accounts import PortalAccount, read_account
from proxy.store.audit import Actor, write_audit
from proxy.store.database import Database, StoreUnavailable
from proxy.store.models_portal import api_tokens, portal_accounts, portal_sessions

__all__ = ["ApiToken", "PortalSession", "SessionsRepository", "TokensRepository", "secret_hash"]

_TOUCH_EVERY = 60.0
"""Seconds between two writes of when something was last used: reading a page shall not write each time."""
_TOKEN_PREFIX = "tollgate_"  # noqa: S105 - found by scanners of leaked secrets
_SCOPE = re.compile(r"[a-z][a-z_.:]{0,31}")


@dataclass(frozen=True, slots=True)
class PortalSession:
    """A log-in that is still open."""

    session_hash: str = field(repr=False)
    account: PortalAccount
    csrf_secret: str = field(repr=False)
    source: str
    created_at: float
    last_seen_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class ApiToken:
    """What is known of a program's token."""

    id: int
    name: str
    scopes: frozenset[str]
    created_by: str
    created_at: float
    expires_at: float | None
    last_used_at: float | None


def secret_hash(secret: str) -> str:
    """What the store keeps of a session id or a token."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


class SessionsRepository:
    """All sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, account_id: int, *, source: str, now: float, lifetime: float) -> str:
        """Begin a session; returns its id for the cookie, which is stored nowhere."""
        session_id = secrets.token_urlsafe(32)
        row = {
            "session_hash": secret_hash(session_id),
            "account_id": account_id,
            "csrf_secret": secrets.token_hex(32),
            "source": source[:64],
            "created_at": now,
            "last_seen_at": now,
            "expires_at": now + lifetime,
        }
        with self._database.write() as connection:
            connection.execute(delete(portal_sessions).where(portal_sessions.c.expires_at <= now))
            connection.execute(insert(portal_sessions).values(row))
        return session_id

    def find(self, session_id: str, *, now: float, idle: float, used: bool = True) -> PortalSession | None:
        """The open session of a cookie, with its account as it is now; None when it ended, was not used for
        ``idle`` seconds, or its account is disabled. Not ``used``: looking does not count as using it.
        """
        column = portal_sessions.c
        wanted = secret_hash(session_id)
        statement = (
            select(portal_sessions, portal_accounts)
            .join(portal_accounts, portal_accounts.c.id == column.account_id)
            .where(
                column.session_hash == wanted,
                column.expires_at > now,
                column.last_seen_at > now - idle,
                portal_accounts.c.disabled.is_(False),
            )
            # Of the two columns of this name the account's is shown elsewhere.
            .with_only_columns(
                *(cell for cell in column if cell.name != "created_at"),
                column.created_at.label("opened_at"),
                *portal_accounts.c,
            )
        )
        with self._database.read() as connection:
            row = connection.execute(statement).mappings().first()
        if row is None:
            return None
        if used and now - float(row["last_seen_at"]) >= _TOUCH_EVERY:
            _touch(
                self._database,
                update(portal_sessions).where(column.session_hash == wanted).values(last_seen_at=now),
            )
        return PortalSession(
            wanted,
            read_account(row),
            str(row["csrf_secret"]),
            str(row["source"]),
            float(row["opened_at"]),
            float(row["last_seen_at"]),
            float(row["expires_at"]),
        )

    def close(self, session_id: str) -> None:
        """End a session: a log-out."""
        column = portal_sessions.c.session_hash
        with self._database.write() as connection:
            connection.execute(delete(portal_sessions).where(column == secret_hash(session_id)))


class TokensRepository:
    """All tokens of programs."""

    def __init__(self, database: Database, actor: Actor) -> None:
        self._database = database
        self._actor = actor

    def add(
        self, name: str, scopes: Collection[str], *, now: float, expires_at: float | None = None
    ) -> tuple[str, ApiToken]:
        """Make a token; returns its secret, which is stored nowhere, and what is known of it.

        Raises `ConfigurationError` for a name that is empty, too long or taken, and scopes that are none.
        """
        name = name.strip()
        if not 1 <= len(name) <= 64 or not name.isprintable():
            raise ConfigurationError("token name: write 1 to 64 printable characters")
        if not scopes or not all(_SCOPE.fullmatch(scope) for scope in scopes):
            raise ConfigurationError("token scopes: name at least one, in lower-case letters and :")
        if expires_at is not None and expires_at <= now:
            raise ConfigurationError("token expiry: it lies in the past")
        secret = _TOKEN_PREFIX + secrets.token_urlsafe(32)
        row = {
            "name": name,
            "token_hash": secret_hash(secret),
            "scopes": json.dumps(sorted(set(scopes))),
            "created_by": self._actor.who[:128],
            "created_at": now,
            "expires_at": expires_at,
        }
        with self._database.write() as connection:
            if connection.execute(select(api_tokens.c.id).where(api_tokens.c.name == name)).scalar():
                message = f"token {name!r} exists already"
                raise ConfigurationError(message)
            connection.execute(insert(api_tokens).values(row))
            stored = connection.execute(select(api_tokens).where(api_tokens.c.name == name)).mappings().one()
            token = _read_token(stored)
            facts = {"scopes": sorted(token.scopes), "expires_at": expires_at}
            write_audit(connection, self._actor, "add", "token", name, after=facts)
        return secret, token

    def find(self, secret: str, *, now: float) -> ApiToken | None:
        """The token of a secret, or None when there is none or it has expired."""
        column = api_tokens.c
        statement = select(api_tokens).where(
            column.token_hash == secret_hash(secret),
            or_(column.expires_at.is_(None), column.expires_at > now),
        )
        with self._database.read() as connection:
            row = connection.execute(statement).mappings().first()
        if row is None:
            return None
        token = _read_token(row)
        if token.last_used_at is None or now - token.last_used_at >= _TOUCH_EVERY:
            _touch(self._database, update(api_tokens).where(column.id == token.id).values(last_used_at=now))
        return token

    def all(self) -> list[ApiToken]:
        """All tokens by name, expired ones too."""
        with self._database.read() as connection:
            rows = connection.execute(select(api_tokens).order_by(api_tokens.c.name)).mappings()
            return [_read_token(row) for row in rows]

    def delete(self, token_id: int) -> None:
        """Revoke a token. Raises `ConfigurationError` when there is none of this id."""
        with self._database.write() as connection:
            row = connection.execute(select(api_tokens).where(api_tokens.c.id == token_id)).mappings().first()
            if row is None:
                raise ConfigurationError("the token does not exist (any more)")
            connection.execute(delete(api_tokens).where(api_tokens.c.id == token_id))
            before = {"scopes": sorted(_read_token(row).scopes)}
            write_audit(connection, self._actor, "delete", "token", str(row["name"]), before=before)


def _touch(database: Database, statement: Update) -> None:
    # A long import may hold the store: nobody's page fails or waits for the sake of this.
    with contextlib.suppress(StoreUnavailable), database.write(in_passing=True) as connection:
        connection.execute(statement)


def _read_token(row: RowMapping) -> ApiToken:
    try:
        scopes = frozenset(str(scope) for scope in json.loads(str(row["scopes"])))
    except (ValueError, TypeError) as error:
        raise StoreUnavailable("store: an API token can't be read") from error
    return ApiToken(
        int(row["id"]),
        str(row["name"]),
        scopes,
        str(row["created_by"]),
        float(row["created_at"]),
        None if row["expires_at"] is None else float(row["expires_at"]),
        None if row["last_used_at"] is None else float(row["last_used_at"]),
    )

"""The people who log in to the portal: their accounts, and how often a log-in has failed.

Passwords come here as hashes that the portal made. Times are UTC seconds since the epoch and given in.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from proxy.errors import ConfigurationError
from proxy.store.audit import Actor, changed_only, write_audit
from proxy.store.database import Database, StoreUnavailable
from proxy.store.models import users
from proxy.store.models_portal import login_failures, portal_accounts, portal_sessions
from proxy.store.schedules import end_schedules
from proxy.store.versions import VersionConflict

__all__ = [
    "AccountsRepository",
    "LockoutRules",
    "LoginGuard",
    "PortalAccount",
    "Role",
    "disable_accounts_of",
    "read_account",
    "sign_on_key",
]


class Role(enum.StrEnum):
    """What an account may do; the portal's permission table says what that means."""

    DECISION_MAKER = "decision_maker"
    PHONE_MANAGER = "phone_manager"
    BILLING_CONTACT = "billing_contact"
    USER = "user"


@dataclass(frozen=True, slots=True)
class PortalAccount:
    """One account. Its secrets stay out of ``repr``."""

    name: str
    role: Role
    password_hash: str = field(repr=False)
    extension: str = ""
    """Whose calls a `Role.USER` sees."""
    must_change: bool = False
    """The next log-in ends in setting another password."""
    totp_secret: str = field(default="", repr=False)
    """Base32 (RFC 6238), or "" without a second factor."""
    groups_write: bool = False
    """A Phone Manager may change groups."""
    see_codes: bool = False
    """A Billing Contact sees account codes unmasked."""
    disabled: bool = False
    sign_on: str = ""
    """Whose it is at a provider of single sign-on (`sign_on_key`); "" until somebody came from there."""
    id: int = 0
    version: int = 0
    created_at: float = 0.0
    password_changed_at: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= len(self.name) <= 64 or self.name != self.name.strip() or not self.name.isprintable():
            raise ConfigurationError("account name: write 1 to 64 printable characters, no space at the ends")
        if len(self.name.casefold()) > 64:
            raise ConfigurationError("account name: it is too long")
        if (self.role is Role.USER) is not bool(self.extension):
            raise ConfigurationError("account: role user, and no other, needs an extension")


class AccountsRepository:
    """All accounts. There is always a Decision Maker who can log in, once there was one."""

    def __init__(self, database: Database, actor: Actor) -> None:
        self._database = database
        self._actor = actor

    def all(self) -> list[PortalAccount]:
        """All accounts by name."""
        with self._database.read() as connection:
            rows = connection.execute(select(portal_accounts).order_by(portal_accounts.c.name_key))
            return [read_account(row) for row in rows.mappings()]

    def get(self, account_id: int) -> PortalAccount | None:
        """The account of this id, or None."""
        with self._database.read() as connection:
            return _get(connection, account_id)

    def by_name(self, name: str) -> PortalAccount | None:
        """The account of this name in any case, or None."""
        statement = select(portal_accounts).where(portal_accounts.c.name_key == _name_key(name))
        with self._database.read() as connection:
            row = connection.execute(statement).mappings().first()
        return None if row is None else read_account(row)

    def by_sign_on(self, key: str) -> PortalAccount | None:
        """The account of this person at a provider (`sign_on_key`), or None."""
        statement = select(portal_accounts).where(portal_accounts.c.sign_on == key)
        with self._database.read() as connection:
            row = connection.execute(statement).mappings().first()
        return None if row is None else read_account(row)

    def bind_sign_on(self, account_id: int, key: str) -> bool:
        """Give an account to a person at a provider, until it gets a password that is to be changed; False
        when it is another's, or this person has another.
        """
        column = portal_accounts.c
        others = select(column.id).where(column.sign_on == key, column.id != account_id)
        statement = update(portal_accounts).where(column.id == account_id, column.sign_on.in_(["", key]))
        with self._database.write() as connection:
            if connection.execute(others).first() is not None:
                return False
            return bool(connection.execute(statement.values(sign_on=key)).rowcount)

    def add(self, account: PortalAccount, *, now: float) -> PortalAccount:
        """Add an account. Raises `ConfigurationError` when the name is taken."""
        with self._database.write() as connection:
            return self._add(connection, account, now)

    def add_first(self, account: PortalAccount, *, now: float) -> PortalAccount | None:
        """Add the first account of all; None, and nothing done, when there is one already."""
        with self._database.write() as connection:
            if connection.execute(select(func.count()).select_from(portal_accounts)).scalar():
                return None
            return self._add(connection, account, now)

    def change(self, account: PortalAccount, *, version: int) -> PortalAccount:
        """Write name, role, extension, grants and whether it is disabled; secrets have their own methods.

        Raises `VersionConflict` when somebody else was first, `ConfigurationError` when there is no such
        account, the name is taken, nobody could administer the portal any more, or it is enabled for a user
        who does not exist. What may be less than before ends the account's sessions.
        """
        with self._database.write() as connection:
            old = _expect(connection, account.id)
            if old.version != version:
                raise VersionConflict(f"account {old.name}", old)
            _refuse_taken(connection, account)
            if _administers(old) and not _administers(account):
                _refuse_last(connection, old)
            if old.disabled and not account.disabled:
                _refuse_without_user(connection, account)
            new = replace(old, **{name: getattr(account, name) for name in _CHANGEABLE}, version=version + 1)
            before, after = changed_only(_facts(old), _facts(new))
            if not after:
                return old
            _write(connection, new)
            if new.disabled or {"role", "extension", "groups_write", "see_codes"} & set(after):
                _end_sessions(connection, account.id)
            self._tell(connection, "change", new, before, after)
        return new

    def set_password(
        self, account_id: int, password_hash: str, *, now: float, must_change: bool = False
    ) -> PortalAccount:
        """Set another password; all sessions end. Who has to change it begins anew: it is nobody's at a
        provider of single sign-on.
        """
        with self._database.write() as connection:
            old = _expect(connection, account_id)
            new = replace(
                old,
                password_hash=password_hash,
                password_changed_at=now,
                must_change=must_change,
                sign_on="" if must_change else old.sign_on,
                version=old.version + 1,
            )
            _write(connection, new)
            _end_sessions(connection, account_id)
            self._tell(connection, "password", new, None, {"must_change": must_change})
        return new

    def set_totp(self, account_id: int, secret: str) -> PortalAccount:
        """Set the second factor, or take it away with "". Sessions that were opened without it end."""
        with self._database.write() as connection:
            old = _expect(connection, account_id)
            new = replace(old, totp_secret=secret, version=old.version + 1)
            _write(connection, new)
            statement = update(portal_accounts).where(portal_accounts.c.id == account_id)
            connection.execute(statement.values(totp_step=0))
            if secret:
                _end_sessions(connection, account_id)
            self._tell(
                connection,
                "second_factor",
                new,
                {"second_factor": bool(old.totp_secret)},
                {"second_factor": bool(secret)},
            )
        return new

    def use_totp_step(self, account_id: int, step: int) -> bool:
        """Take a one-time password of this time step; False when it, or a later one, was taken before
        (RFC 6238 §5.2).
        """
        column = portal_accounts.c
        statement = update(portal_accounts).where(column.id == account_id, column.totp_step < step)
        with self._database.write() as connection:
            return bool(connection.execute(statement.values(totp_step=step)).rowcount)

    def delete(self, account_id: int) -> None:
        """Delete an account and its sessions, and end its reports by e-mail. Raises `ConfigurationError` for
        the last Decision Maker.
        """
        with self._database.write() as connection:
            old = _expect(connection, account_id)
            if _administers(old):
                _refuse_last(connection, old)
            _end_sessions(connection, account_id)
            connection.execute(delete(portal_accounts).where(portal_accounts.c.id == account_id))
            self._tell(connection, "delete", old, _facts(old), None)
            end_schedules(connection, self._actor, account_id=account_id)

    def _add(self, connection: Connection, account: PortalAccount, now: float) -> PortalAccount:
        _refuse_taken(connection, account)
        new = replace(account, version=1, created_at=now, password_changed_at=now)
        result = connection.execute(insert(portal_accounts).values({**_row(new), "totp_step": 0}))
        key = result.inserted_primary_key
        if key is None:
            raise StoreUnavailable("store: the database gave an account no id")
        new = replace(new, id=int(key[0]))
        self._tell(connection, "add", new, None, _facts(new))
        return new

    def _tell(
        self,
        connection: Connection,
        action: str,
        account: PortalAccount,
        before: Mapping[str, object] | None,
        after: Mapping[str, object] | None,
    ) -> None:
        write_audit(connection, self._actor, action, "account", account.name, before=before, after=after)


_CHANGEABLE = ("name", "role", "extension", "groups_write", "see_codes", "disabled")


def disable_accounts_of(connection: Connection, actor: Actor, extension: str) -> None:
    """Disable the accounts of a user who goes: they would see the calls of the next one of the extension."""
    column = portal_accounts.c
    theirs = select(portal_accounts).where(column.extension == extension, column.disabled.is_(False))
    for row in connection.execute(theirs.order_by(column.id)).mappings().all():
        old = read_account(row)
        _write(connection, replace(old, disabled=True, version=old.version + 1))
        _end_sessions(connection, old.id)
        facts = {"disabled": False, "extension": extension}, {"disabled": True, "extension": extension}
        write_audit(connection, actor, "change", "account", old.name, before=facts[0], after=facts[1])


def read_account(row: RowMapping) -> PortalAccount:
    """An account from its row."""
    try:
        return PortalAccount(
            name=str(row["name"]),
            role=Role(row["role"]),
            password_hash=str(row["password_hash"]),
            extension=str(row["extension"]),
            must_change=bool(row["must_change"]),
            totp_secret=str(row["totp_secret"]),
            groups_write=bool(row["groups_write"]),
            see_codes=bool(row["see_codes"]),
            disabled=bool(row["disabled"]),
            sign_on=str(row["sign_on"]),
            id=int(row["id"]),
            version=int(row["version"]),
            created_at=float(row["created_at"]),
            password_changed_at=float(row["password_changed_at"]),
        )
    except (ConfigurationError, ValueError) as error:
        raise StoreUnavailable(f"store: a portal account can't be read: {type(error).__name__}") from error


def sign_on_key(issuer: str, subject: str) -> str:
    """What stands for a person at a provider: both are as long as they like (Core 1.0 §2)."""
    return hashlib.sha256(json.dumps([issuer, subject]).encode()).hexdigest()


def _row(account: PortalAccount) -> dict[str, object]:
    return {
        "name": account.name,
        "name_key": _name_key(account.name),
        "role": account.role.value,
        "extension": account.extension,
        "password_hash": account.password_hash,
        "must_change": account.must_change,
        "totp_secret": account.totp_secret,
        "groups_write": account.groups_write,
        "see_codes": account.see_codes,
        "disabled": account.disabled,
        "sign_on": account.sign_on,
        "created_at": account.created_at,
        "password_changed_at": account.password_changed_at,
        "version": account.version,
    }


def _facts(account: PortalAccount) -> dict[str, object]:
    """What the audit log tells of an account: no secret."""
    return {name: getattr(account, name) for name in _CHANGEABLE}


def _name_key(name: str) -> str:
    return name.strip().casefold()


def _get(connection: Connection, account_id: int) -> PortalAccount | None:
    statement = select(portal_accounts).where(portal_accounts.c.id == account_id)
    row = connection.execute(statement).mappings().first()
    return None if row is None else read_account(row)


def _expect(connection: Connection, account_id: int) -> PortalAccount:
    account = _get(connection, account_id)
    if account is None:
        raise ConfigurationError("the account does not exist (any more)")
    return account


def _write(connection: Connection, account: PortalAccount) -> None:
    statement = update(portal_accounts).where(portal_accounts.c.id == account.id)
    connection.execute(statement.values(_row(account)))


def _end_sessions(connection: Connection, account_id: int) -> None:
    connection.execute(delete(portal_sessions).where(portal_sessions.c.account_id == account_id))


def _refuse_taken(connection: Connection, account: PortalAccount) -> None:
    column = portal_accounts.c
    statement = select(column.name).where(column.name_key == _name_key(account.name), column.id != account.id)
    if (taken := connection.execute(statement).scalar()) is not None:
        message = f"account {taken!r} exists already"
        raise ConfigurationError(message)


def _administers(account: PortalAccount) -> bool:
    return account.role is Role.DECISION_MAKER and not account.disabled


def _refuse_last(connection: Connection, account: PortalAccount) -> None:
    column = portal_accounts.c
    others = select(func.count()).where(
        column.role == Role.DECISION_MAKER.value, column.disabled.is_(False), column.id != account.id
    )
    if not connection.execute(others).scalar():
        message = f"account {account.name!r} is the last Decision Maker: nobody could administer the portal"
        raise ConfigurationError(message)


def _refuse_without_user(connection: Connection, account: PortalAccount) -> None:
    known = select(users.c.extension).where(users.c.extension == account.extension)
    if account.extension and connection.execute(known).first() is None:
        message = f"user {account.extension} does not exist"
        raise ConfigurationError(message)


@dataclass(frozen=True, slots=True)
class LockoutRules:
    """After how many failures a name is locked for a source, and for how long."""

    tries: int = 5
    first_lock: float = 60.0
    """Doubled with each further failure."""
    longest_lock: float = 3600.0
    forget_after: float = 24 * 3600.0
    """Failures older than this count no more."""
    most_rows: int = 10_000
    """A flood of invented names pushes the oldest out, and never fills the disk."""


class LoginGuard:
    """Counts failed log-ins by name and source, whether there is an account of the name or not."""

    def __init__(self, database: Database, rules: LockoutRules | None = None) -> None:
        self._database = database
        self._rules = rules or LockoutRules()

    def locked_for(self, name: str, source: str, *, now: float) -> float:
        """Seconds until a log-in may be tried again; 0.0 when it may now."""
        statement = select(login_failures.c.locked_until).where(login_failures.c.key == _key(name, source))
        with self._database.read() as connection:
            until = connection.execute(statement).scalar()
        return max(0.0, float(until) - now) if until is not None else 0.0

    def failed(self, name: str, source: str, *, now: float) -> float:
        """Count a failure; returns for how many seconds the name is locked for the source now."""
        rules, column, key = self._rules, login_failures.c, _key(name, source)
        with self._database.write() as connection:
            connection.execute(delete(login_failures).where(column.last_at < now - rules.forget_after))
            row = connection.execute(select(column.failures).where(column.key == key)).scalar()
            failures = int(row or 0) + 1
            over = failures - rules.tries
            lock = min(rules.longest_lock, rules.first_lock * 2.0 ** min(over, 20)) if over >= 0 else 0.0
            values = {"failures": failures, "last_at": now, "locked_until": now + lock}
            if row is None:
                self._make_room(connection)
                connection.execute(insert(login_failures).values(key=key, **values))
            else:
                connection.execute(update(login_failures).where(column.key == key).values(**values))
        return lock

    def succeeded(self, name: str, source: str) -> None:
        """Forget the failures of a name from a source."""
        with self._database.write() as connection:
            connection.execute(delete(login_failures).where(login_failures.c.key == _key(name, source)))

    def _make_room(self, connection: Connection) -> None:
        count = int(connection.execute(select(func.count()).select_from(login_failures)).scalar() or 0)
        if count < self._rules.most_rows:
            return
        oldest = select(login_failures.c.key).order_by(login_failures.c.last_at)
        oldest = oldest.limit(count - self._rules.most_rows + 1)
        connection.execute(delete(login_failures).where(login_failures.c.key.in_(oldest)))


def _key(name: str, source: str) -> str:
    text = f"{_name_key(name)}\0{source}"
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()

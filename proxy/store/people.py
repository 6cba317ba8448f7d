"""User groups and users in the store.

The first version of each is the id of the change that made it. Whoever is deleted and made anew under the
same name has one that none before had: each version more was a change more, and no change has an id again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    create_engine,
    delete,
    func,
    insert,
    inspect,
    make_url,
    select,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from proxy.errors import ConfigurationError
from proxy.policy import User, UserGroup
from proxy.store.accounts import disable_accounts_of
from proxy.store.audit import SYSTEM, Actor, changed_only, write_audit
from proxy.store.changes import ChangeAction, ChangeKind, log_change
from proxy.store.database import Database, StoreUnavailable
from proxy.store.models import account_codes, groups, users
from proxy.store.rows import group_facts, group_row, read_group, read_user, user_facts, user_row
from proxy.store.versions import VersionConflict, Versioned

__all__ = ["GroupsRepository", "UsersRepository", "known_names", "load_groups", "load_users"]

_CHUNK = 500
_END = 3


class GroupsRepository:
    """All user groups."""

    def __init__(self, database: Database, actor: Actor = SYSTEM) -> None:
        self._database = database
        self._actor = actor

    def get(self, name: str) -> UserGroup | None:
        """The group of this name, or None."""
        with self._database.read() as connection:
            statement = select(groups).where(groups.c.name == name)
            row = connection.execute(statement).mappings().first()
            return None if row is None else read_group(row)

    def versioned(self, name: str) -> Versioned[UserGroup] | None:
        """The group of this name with its version, or None."""
        with self._database.read() as connection:
            return _versioned_group(connection, name)

    def all(self) -> list[UserGroup]:
        """All groups by name."""
        with self._database.read() as connection:
            return load_groups(connection)

    def add(self, group: UserGroup) -> None:
        """Add a group. Raises `ConfigurationError` when the name is taken."""
        with self._database.write() as connection:
            if _has_group(connection, group.name):
                message = f"group {group.name!r} exists already"
                raise ConfigurationError(message)
            version = log_change(connection, ChangeKind.GROUP, ChangeAction.SAVED, [group.name])
            connection.execute(insert(groups).values({**group_row(group), "version": version}))
            write_audit(connection, self._actor, "add", "group", group.name, after=group_facts(group))

    def change(self, group: UserGroup, *, version: int | None = None) -> None:
        """Replace the rules of a group. Raises `ConfigurationError` when there is none of the name, and with
        a ``version`` `VersionConflict` when it is not the present one.
        """
        with self._database.write() as connection:
            present, before = _group_version(connection, group.name)
            if version is not None and version != present:
                raise VersionConflict(f"group {group.name!r}", _versioned_group(connection, group.name))
            before, after = changed_only(before, group_facts(group))
            if not after:
                return
            row = {**group_row(group), "version": present + 1}
            connection.execute(update(groups).where(groups.c.name == group.name).values(row))
            log_change(connection, ChangeKind.GROUP, ChangeAction.SAVED, [group.name])
            write_audit(connection, self._actor, "change", "group", group.name, before=before, after=after)

    def delete(self, name: str, default_groups: Mapping[str, object] = {}) -> None:
        """Delete a group. Raises `ConfigurationError` when it is unknown, or users or codes belong to it, or
        callers of a peer: ``default_groups`` are those of callers that match no user, by peer.
        """
        with self._database.write() as connection:
            _, before = _group_version(connection, name)
            if peers := ", ".join(sorted(peer for peer, group in default_groups.items() if group == name)):
                message = f"group {name!r} can't be deleted: it is the default_group of {peers}"
                raise ConfigurationError(message)
            counts = (
                (_count(connection, users.c.group_name, name), "user(s)"),
                (_count(connection, account_codes.c.owner_group, name), "account code(s)"),
            )
            held = " and ".join(f"{number} {what}" for number, what in counts if number)
            if held:
                message = f"group {name!r} can't be deleted: {held} belong to it"
                raise ConfigurationError(message)
            connection.execute(delete(groups).where(groups.c.name == name))
            log_change(connection, ChangeKind.GROUP, ChangeAction.DELETED, [name])
            write_audit(connection, self._actor, "delete", "group", name, before=before)


class UsersRepository:
    """All users."""

    def __init__(self, database: Database, actor: Actor = SYSTEM) -> None:
        self._database = database
        self._actor = actor

    def get(self, extension: str) -> User | None:
        """The user of this extension, or None."""
        with self._database.read() as connection:
            statement = select(users).where(users.c.extension == extension)
            row = connection.execute(statement).mappings().first()
            return None if row is None else read_user(row)

    def versioned(self, extension: str) -> Versioned[User] | None:
        """The user of this extension with its version, or None."""
        with self._database.read() as connection:
            return _versioned_user(connection, extension)

    def all(self, *, group: str = "") -> list[User]:
        """All users, or those of one group, by extension."""
        with self._database.read() as connection:
            return [user for user in load_users(connection) if not group or user.group == group]

    def ending_alike(self, user: User) -> list[User]:
        """Those whose extension or caller number ends as one of a user's does: no others can have the same.

        To read all of some thousand numbers takes a third of a second; to look at their ends does not.
        """
        wanted = _ends(user.extension, user.caller_number)
        column = users.c
        with self._database.read() as connection:
            numbers = connection.execute(select(column.extension, column.caller_number))
            alike = [str(row[0]) for row in numbers if wanted & _ends(str(row[0]), str(row[1]))]
            found: list[User] = []
            for start in range(0, len(alike), _CHUNK):
                chosen = select(users).where(column.extension.in_(alike[start : start + _CHUNK]))
                rows = connection.execute(chosen.order_by(column.extension)).mappings()
                found += [read_user(row) for row in rows]
        return found

    def add(self, user: User) -> None:
        """Add a user. Raises `ConfigurationError` when extension or digest name is taken, or the group
        unknown.
        """
        with self._database.write() as connection:
            self._check(connection, user)
            if _count(connection, users.c.extension, user.extension):
                message = f"user {user.extension} exists already"
                raise ConfigurationError(message)
            version = log_change(connection, ChangeKind.USER, ChangeAction.SAVED, [user.extension])
            connection.execute(insert(users).values({**user_row(user), "version": version}))
            write_audit(connection, self._actor, "add", "user", user.extension, after=user_facts(user))

    def change(self, user: User, *, version: int | None = None) -> None:
        """Replace a user. Raises `ConfigurationError` when the extension or the group is unknown, and with a
        ``version`` `VersionConflict` when it is not the present one.
        """
        with self._database.write() as connection:
            present, old = _user_version(connection, user.extension)
            if version is not None and version != present:
                raise VersionConflict(f"user {user.extension}", _versioned_user(connection, user.extension))
            self._check(connection, user)
            if user == old:
                return
            row = {**user_row(user), "version": present + 1}
            connection.execute(update(users).where(users.c.extension == user.extension).values(row))
            log_change(connection, ChangeKind.USER, ChangeAction.SAVED, [user.extension])
            before, after = changed_only({} if old is None else user_facts(old), user_facts(user))
            if old is not None and user.credentials != old.credentials:
                # Which hashes there are is told, and that they are others; never what they are.
                after["password"] = "changed"  # noqa: S105
            write_audit(connection, self._actor, "change", "user", user.extension, before=before, after=after)

    def delete_many(self, extensions: Sequence[str]) -> None:
        """Delete users: all, or none (`ConfigurationError`) when one is unknown or owns account codes.

        Their portal accounts are disabled.
        """
        with self._database.write() as connection:
            facts: dict[str, dict[str, object]] = {}
            for extension in extensions:
                _, old = _user_version(connection, extension)
                facts[extension] = {} if old is None else user_facts(old)
                if held := _count(connection, account_codes.c.owner_user, extension):
                    message = f"user {extension} can't be deleted: {held} account code(s) belong to it"
                    raise ConfigurationError(message)
                connection.execute(delete(users).where(users.c.extension == extension))
            log_change(connection, ChangeKind.USER, ChangeAction.DELETED, list(extensions))
            for extension, before in facts.items():
                write_audit(connection, self._actor, "delete", "user", extension, before=before)
                disable_accounts_of(connection, self._actor, extension)

    @staticmethod
    def _check(connection: Connection, user: User) -> None:
        if not _has_group(connection, user.group):
            raise _unknown_group(user.group)
        statement = select(users.c.extension).where(
            users.c.digest_name == user.digest_name, users.c.extension != user.extension
        )
        if (other := connection.execute(statement).scalar()) is not None:
            message = f"digest name {user.digest_name!r} is that of user {other}"
            raise ConfigurationError(message)


def _ends(*numbers: str) -> set[str]:
    """The last digits of numbers in any dress, without the host or parameters of a URI."""
    plain = (number.partition("@")[0].partition(";")[0] for number in numbers)
    return {"".join(char for char in number if char.isdigit())[-_END:] for number in plain} - {""}


def known_names(url: str) -> tuple[frozenset[str], frozenset[str]] | None:
    """The groups' names and the users' extensions in a store, which is neither made nor migrated; None if it
    can't be read.
    """
    nobody = frozenset[str](), frozenset[str]()
    try:
        file = make_url(url).database if url.startswith("sqlite:") else None
        if file is not None and not Path(file).exists():
            return nobody
        engine = create_engine(url)
        try:
            with engine.connect() as connection:
                if not inspect(connection).has_table(groups.name):
                    return nobody
                names, extensions = (
                    frozenset(connection.execute(select(column)).scalars())
                    for column in (groups.c.name, users.c.extension)
                )
                return names, extensions
        finally:
            engine.dispose()
    except (SQLAlchemyError, ImportError, OSError, ValueError):
        return None


def load_groups(connection: Connection) -> list[UserGroup]:
    """All groups by name."""
    rows = connection.execute(select(groups).order_by(groups.c.name)).mappings()
    return [read_group(row) for row in rows]


def load_users(connection: Connection) -> list[User]:
    """All users by extension."""
    rows = connection.execute(select(users).order_by(users.c.extension)).mappings()
    return [read_user(row) for row in rows]


def _versioned_group(connection: Connection, name: str) -> Versioned[UserGroup] | None:
    row = connection.execute(select(groups).where(groups.c.name == name)).mappings().first()
    return None if row is None else Versioned(read_group(row), int(row["version"]))


def _group_version(connection: Connection, name: str) -> tuple[int, dict[str, object]]:
    """The version and the facts of a group that is there. One that can't be read has none: it can still be
    replaced or deleted, or nobody could repair it.
    """
    row = connection.execute(select(groups).where(groups.c.name == name)).mappings().first()
    if row is None:
        raise _unknown_group(name)
    try:
        return int(row["version"]), group_facts(read_group(row))
    except StoreUnavailable:
        return int(row["version"]), {}


def _versioned_user(connection: Connection, extension: str) -> Versioned[User] | None:
    row = connection.execute(select(users).where(users.c.extension == extension)).mappings().first()
    return None if row is None else Versioned(read_user(row), int(row["version"]))


def _user_version(connection: Connection, extension: str) -> tuple[int, User | None]:
    """The version of a user that is there, and the user unless it can't be read (see `_group_version`)."""
    row = connection.execute(select(users).where(users.c.extension == extension)).mappings().first()
    if row is None:
        raise _unknown_user(extension)
    try:
        return int(row["version"]), read_user(row)
    except StoreUnavailable:
        return int(row["version"]), None


def _has_group(connection: Connection, name: str) -> bool:
    return _count(connection, groups.c.name, name) > 0


def _count(connection: Connection, column: Column[str], value: str) -> int:
    statement = select(func.count()).where(column == value)
    return int(connection.execute(statement).scalar() or 0)


def _unknown_group(name: str) -> ConfigurationError:
    return ConfigurationError(f"group {name!r} does not exist")


def _unknown_user(extension: str) -> ConfigurationError:
    return ConfigurationError(f"user {extension} does not exist")

"""User groups and users in the store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Column, Connection, create_engine, delete, func, insert, make_url, select, update
from sqlalchemy.exc import SQLAlchemyError

from proxy.errors import ConfigurationError
from proxy.policy import User, UserGroup
from proxy.store.changes import ChangeAction, ChangeKind, log_change
from proxy.store.database import Database
from proxy.store.models import account_codes, groups, users
from proxy.store.rows import group_row, read_group, read_user, user_row

__all__ = ["GroupsRepository", "UsersRepository", "known_group_names", "load_groups", "load_users"]


class GroupsRepository:
    """All user groups."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str) -> UserGroup | None:
        """The group of this name, or None."""
        with self._database.read() as connection:
            statement = select(groups).where(groups.c.name == name)
            row = connection.execute(statement).mappings().first()
            return None if row is None else read_group(row)

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
            connection.execute(insert(groups).values(group_row(group)))
            log_change(connection, ChangeKind.GROUP, ChangeAction.SAVED, [group.name])

    def change(self, group: UserGroup) -> None:
        """Replace the rules of a group. Raises `ConfigurationError` when there is none of the name."""
        with self._database.write() as connection:
            row = group_row(group)
            statement = update(groups).where(groups.c.name == group.name).values(row)
            if not connection.execute(statement).rowcount:
                raise _unknown_group(group.name)
            log_change(connection, ChangeKind.GROUP, ChangeAction.SAVED, [group.name])

    def delete(self, name: str) -> None:
        """Delete a group. Raises `ConfigurationError` when it is unknown, or users or codes belong to it."""
        with self._database.write() as connection:
            if not _has_group(connection, name):
                raise _unknown_group(name)
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


class UsersRepository:
    """All users."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, extension: str) -> User | None:
        """The user of this extension, or None."""
        with self._database.read() as connection:
            statement = select(users).where(users.c.extension == extension)
            row = connection.execute(statement).mappings().first()
            return None if row is None else read_user(row)

    def all(self, *, group: str = "") -> list[User]:
        """All users, or those of one group, by extension."""
        with self._database.read() as connection:
            return [user for user in load_users(connection) if not group or user.group == group]

    def add(self, user: User) -> None:
        """Add a user. Raises `ConfigurationError` when extension or digest name is taken, or the group
        unknown.
        """
        with self._database.write() as connection:
            self._check(connection, user)
            if _count(connection, users.c.extension, user.extension):
                message = f"user {user.extension} exists already"
                raise ConfigurationError(message)
            connection.execute(insert(users).values(user_row(user)))
            log_change(connection, ChangeKind.USER, ChangeAction.SAVED, [user.extension])

    def change(self, user: User) -> None:
        """Replace a user. Raises `ConfigurationError` when the extension or the group is unknown."""
        with self._database.write() as connection:
            self._check(connection, user)
            statement = update(users).where(users.c.extension == user.extension).values(user_row(user))
            if not connection.execute(statement).rowcount:
                raise _unknown_user(user.extension)
            log_change(connection, ChangeKind.USER, ChangeAction.SAVED, [user.extension])

    def delete_many(self, extensions: Sequence[str]) -> None:
        """Delete users: all, or none (`ConfigurationError`) when one is unknown or owns account codes."""
        with self._database.write() as connection:
            for extension in extensions:
                if held := _count(connection, account_codes.c.owner_user, extension):
                    message = f"user {extension} can't be deleted: {held} account code(s) belong to it"
                    raise ConfigurationError(message)
                statement = delete(users).where(users.c.extension == extension)
                if not connection.execute(statement).rowcount:
                    raise _unknown_user(extension)
            log_change(connection, ChangeKind.USER, ChangeAction.DELETED, list(extensions))

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


def known_group_names(url: str) -> frozenset[str]:
    """The names of the groups in a store, which is neither made nor migrated; none if it can't be read."""
    file = make_url(url).database if url.startswith("sqlite:") else None
    if file is not None and not Path(file).exists():
        return frozenset()
    try:
        engine = create_engine(url)
        try:
            with engine.connect() as connection:
                return frozenset(connection.execute(select(groups.c.name)).scalars())
        finally:
            engine.dispose()
    except (SQLAlchemyError, ImportError, ValueError):
        return frozenset()


def load_groups(connection: Connection) -> list[UserGroup]:
    """All groups by name."""
    rows = connection.execute(select(groups).order_by(groups.c.name)).mappings()
    return [read_group(row) for row in rows]


def load_users(connection: Connection) -> list[User]:
    """All users by extension."""
    rows = connection.execute(select(users).order_by(users.c.extension)).mappings()
    return [read_user(row) for row in rows]


def _has_group(connection: Connection, name: str) -> bool:
    return _count(connection, groups.c.name, name) > 0


def _count(connection: Connection, column: Column[str], value: str) -> int:
    statement = select(func.count()).where(column == value)
    return int(connection.execute(statement).scalar() or 0)


def _unknown_group(name: str) -> ConfigurationError:
    return ConfigurationError(f"group {name!r} does not exist")


def _unknown_user(extension: str) -> ConfigurationError:
    return ConfigurationError(f"user {extension} does not exist")

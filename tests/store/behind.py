"""What lies in a store, seen and changed by somebody who does not ask Tollgate."""

from __future__ import annotations

from sqlalchemy import create_engine, inspect
from sqlalchemy.pool import NullPool

__all__ = ["all_that_lies_in", "tamper"]


def all_that_lies_in(url: str) -> str:
    """Return every cell of every table."""
    with create_engine(url, poolclass=NullPool).connect() as connection:
        names = inspect(connection).get_table_names()
        rows = [row for name in names for row in connection.exec_driver_sql(f"SELECT * FROM {name}")]
    assert rows
    return "\n".join(" ".join(map(str, row)) for row in rows)


def tamper(url: str, *statements: str) -> None:
    """Do what somebody can who has the file and a shell of SQLite, or the rights of the server's own user."""
    with create_engine(url, poolclass=NullPool).begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("DROP TRIGGER audit_log_no_update")
            connection.exec_driver_sql("DROP TRIGGER audit_log_no_delete")
        else:
            connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        for statement in statements:
            connection.exec_driver_sql(statement)
